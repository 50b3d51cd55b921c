"""A key-value cache with room to grow: transformers' own copies everything for each new token."""

from __future__ import annotations

from functools import cache
from typing import Any

STEP = 64  # tokens of room added whenever a layer is full


def growing_cache(config: Any) -> Any:
    """A DynamicCache for a model's configuration whose plain layers write new tokens in place.

    Layers of other kinds (sliding windows, recurrent states) stay as transformers makes them.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    made = DynamicCache(config=config)
    made.layers = [_layer()() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made


@cache
def _layer() -> type:
    """The layer class; made on first use, because its base class takes seconds to import."""
    from transformers.cache_utils import DynamicLayer

    class GrowingLayer(DynamicLayer):  # type: ignore[misc]
        """Keys and values as views of larger tensors. Whatever replaces the views makes it start afresh."""

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self._room: tuple[Any, Any] | None = None

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            past = self.get_seq_length()
            length = past + key_states.shape[-2]
            if not self._fits(length):
                self._grow(past, length, key_states, value_states)
            assert self._room is not None
            keys, values = self._room
            keys[..., past:length, :] = key_states
            values[..., past:length, :] = value_states
            self.keys, self.values = keys[..., :length, :], values[..., :length, :]
            return self.keys, self.values

        def _fits(self, length: int) -> bool:
            if self._room is None or length > self._room[0].shape[-2]:
                return False
            return bool(self.keys.data_ptr() == self._room[0].data_ptr())

        def _grow(self, past: int, length: int, key_states: Any, value_states: Any) -> None:
            grown = []
            for old, new in ((self.keys, key_states), (self.values, value_states)):
                batch, heads, _, width = new.shape
                larger = new.new_empty((batch, heads, length + STEP, width))
                if past:
                    larger[..., :past, :] = old
                grown.append(larger)
            self._room = (grown[0], grown[1])

    return GrowingLayer
