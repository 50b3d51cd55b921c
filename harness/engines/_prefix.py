"""What all prompts of a batch begin with is read once: its keys and values are kept, and copied for each row.

Instructions, fixed demonstrations and the opening of a chat template are the same for all examples of a cell.
Nothing that is billed or timed changes: tokens are counted as if read, and timing passes switch this off.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from breakeven.harness.engines._cache import growing_cache

Forward = Callable[..., Any]

#: Prefixes are cut to a multiple of so many tokens, so that batches whose examples happen to begin with the
#: same words still share the prefix of all the others.
STEP = 32
#: Prefixes that are kept, the least recently used one dropped first.
KEPT = 4


def length(prompts: Sequence[list[int]]) -> int:
    """Tokens of the prefix that a batch shares: a function of its prompts alone; 0 where it does not pay.

    At least one token of each prompt is left to be read.
    """
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what these share, all in between share
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(same, min(map(len, prompts)) - 1) // STEP * STEP


class Prefixes:
    """Keys and values of prefixes, for one set of weights (base model and adapter)."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, ...], list[tuple[Any, Any]]] = OrderedDict()

    def cache(
        self, prefix: list[int], lengths: Sequence[int], forward: Forward, config: Any, device: str
    ) -> Any:
        """A key-value cache as wide as the prefix, with room to grow.

        Of each row it holds so many first tokens of the prefix, flush right.
        """
        key = tuple(prefix)
        if key not in self._kept:
            self._kept[key] = _read(prefix, forward, config, device)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        made = growing_cache(config)
        spread = _spread(len(prefix), lengths)
        for layer, (keys, values) in zip(made.layers, self._kept[key], strict=True):
            layer.update(spread(keys), spread(values))
        return made


def _spread(width: int, lengths: Sequence[int]) -> Callable[[Any], Any]:
    """Takes (1, heads, width, size) to (rows, heads, width, size), each row shifted to the right."""
    import torch

    if all(length == width for length in lengths):
        return lambda kept: kept.expand(len(lengths), -1, -1, -1)
    columns = torch.arange(width) - (width - torch.tensor(lengths))[:, None]
    columns = columns.clamp(min=0)  # left of a row's own stands anything: nobody sees it
    return lambda kept: kept[0][:, columns.to(kept.device)].transpose(0, 1)


def _read(prefix: list[int], forward: Forward, config: Any, device: str) -> list[tuple[Any, Any]]:
    """(keys, values) of each layer, both (1, heads, tokens, width)."""
    import torch

    cache = growing_cache(config)
    forward(
        input_ids=torch.tensor([prefix], device=device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return [(layer.keys, layer.values) for layer in cache.layers]
