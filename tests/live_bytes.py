"""Bytes of tensors that are alive at once while something runs, counted at every operation."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """`peak`: the most bytes that storages made inside held together, each counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            x.untyped_storage()._cdata for x in tree_iter((args, kwargs or {})) if isinstance(x, torch.Tensor)
        }
        made = func(*args, **(kwargs or {}))
        for x in tree_iter(made):
            if isinstance(x, torch.Tensor):
                self._add(x.untyped_storage(), given)
        return made

    def _add(self, storage: Any, given: set[int]) -> None:
        key = storage._cdata
        if key in self._alive or key in given:
            return
        self._alive[key] = storage.nbytes()
        self.held += storage.nbytes()
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.held -= self._alive.pop(key)
