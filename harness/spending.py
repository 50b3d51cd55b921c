"""The run's purse: no request is sent unless its worst case still fits under the limit.

Shared by all engines of a run, from any thread. Before a request is sent its worst-case price is reserved;
afterwards the reservation is settled with what was really spent. With a state file the purse survives a
crash, and what was reserved then counts as spent: nobody knows whether the provider billed it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

from breakeven.harness import store
from breakeven.harness.errors import SpendingLimitReached

_ROUNDING = 1e-12


class SpendGuard:
    """See the module.

    Args:
        limit: most that may be spent, in `currency`; None counts without a limit.
        file: where the state is kept between processes, if anywhere.
    """

    def __init__(self, limit: float | None, *, currency: str = "USD", file: Path | None = None) -> None:
        self.limit, self.currency = limit, currency
        self._file, self._changed = file, threading.Condition()
        self._spent, self._reserved = 0.0, dict[int, float]()
        self._numbers = 0
        if file is not None and file.exists():
            state = json.loads(file.read_text(encoding="utf-8"))
            self._spent = float(state["spent"]) + float(state["reserved"])

    @property
    def spent(self) -> float:
        """What was spent so far, worst cases where nobody knows."""
        with self._changed:
            return self._spent

    @property
    def reserved(self) -> float:
        """Worst case of the requests under way."""
        with self._changed:
            return sum(self._reserved.values())

    def reserve(self, amount: float, cancelled: Callable[[], bool] = lambda: False) -> int:
        """Set `amount` aside; returns what `settle` wants to hear.

        Waits for requests under way when their settling might make room.

        Raises:
            SpendingLimitReached: there is no room, and none to be hoped for.
        """
        with self._changed:
            while not self._fits(amount):
                hopeless = self.limit is not None and self._spent + amount > self.limit + _ROUNDING
                if hopeless or not self._reserved or cancelled():
                    raise SpendingLimitReached(self._sentence(amount))
                self._changed.wait(timeout=0.2)
            self._numbers += 1
            self._reserved[self._numbers] = amount
            self._save()
            return self._numbers

    def settle(self, reservation: int, spent: float) -> None:
        """The request is over and cost `spent`; once only."""
        with self._changed:
            del self._reserved[reservation]
            self._spent += spent
            self._save()
            self._changed.notify_all()

    def _fits(self, amount: float) -> bool:
        total = self._spent + sum(self._reserved.values()) + amount
        return self.limit is None or total <= self.limit + _ROUNDING

    def _sentence(self, amount: float) -> str:
        return (
            f"the spending limit of {self.limit:g} {self.currency} is reached: {self._spent:.6g} spent, "
            f"the next request could cost up to {amount:.3g}; nothing of it was sent"
        )

    def _save(self) -> None:
        if self._file is not None:
            reserved = sum(self._reserved.values())
            state = {"spent": self._spent, "reserved": reserved, "currency": self.currency}
            store.write_text(self._file, json.dumps(state) + "\n")
