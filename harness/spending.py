"""The run's purse: no request is sent unless its worst case still fits under the limit.

Shared by all engines of a run, from any thread. Before a request is sent its worst-case price is reserved;
afterwards the reservation is settled with what was really spent. What takes hours (a training, a batch, a
deployment) is a charge under a name: saying it again replaces what it stood at, so that whoever is killed
and says it once more pays nothing twice and is given nothing back twice. With a state file the purse
survives a crash, and what was reserved then counts against the limit: nobody knows whether the provider
billed it. What was billed and what is only set aside can be told apart (`standing`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from breakeven.harness import store
from breakeven.harness.errors import SpendingLimitReached, UserError

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Standing:
    """What a purse says, for people.

    Attributes:
        spent: what was billed.
        open: what is likely to be billed for each charge that is not settled: an estimate where there was
            one, else all that was set aside.
        unsure: worst case of requests whose answers were lost with a process.
    """

    spent: float = 0.0
    open: Mapping[str, float] = field(default_factory=dict)
    unsure: float = 0.0


class SpendGuard:
    """See the module.

    Args:
        limit: most that may be spent, in `currency`; None counts without a limit.
        file: where the state is kept between processes, if anywhere.

    Raises UserError when the file holds money of another currency.
    """

    def __init__(self, limit: float | None, *, currency: str = "USD", file: Path | None = None) -> None:
        self.limit, self.currency = limit, currency
        self._file, self._changed = file, threading.Condition()
        self._spent, self._reserved = 0.0, dict[int, float]()
        self._charges: dict[str, float] = {}
        self._open: dict[str, float] = {}  # of those that are not settled: what is likely to be billed
        self._unsure = 0.0
        self._numbers = 0
        if file is not None and file.exists():
            state = json.loads(file.read_text(encoding="utf-8"))
            if state.get("currency", currency) != currency:
                raise UserError(
                    f"this run has spent {state['currency']}, and its suite now counts in {currency}",
                    file=file,
                    field="economics.currency",
                    hint="leave the currency of a run as it began; a report can be made in another one",
                )
            self._charges = {str(k): float(v) for k, v in state.get("charges", {}).items()}
            self._open = {str(k): float(v) for k, v in state.get("open", {}).items()}
            before = float(state.get("unsure", 0.0))
            self._spent = float(state["spent"]) - sum(self._charges.values()) - before
            self._unsure = before + float(state["reserved"])

    @property
    def spent(self) -> float:
        """What was spent so far, worst cases where nobody knows."""
        with self._changed:
            return self._total()

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
            self._make_room(amount, cancelled)
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

    def charge(
        self,
        name: str,
        amount: float,
        cancelled: Callable[[], bool] = lambda: False,
        likely: float | None = None,
    ) -> None:
        """Let `name` stand at `amount` or what it stood at, whichever is more, before it is spent.

        Waits and raises as `reserve` does. `likely` is what will be billed by an estimate.
        """
        with self._changed:
            before = self._charges.get(name, 0.0)
            if amount > before:
                self._make_room(amount - before, cancelled)
                self._charges[name] = amount
                self._open[name] = amount if likely is None else min(likely, amount)
                self._save()

    def bill(self, name: str, amount: float) -> None:
        """`name` has cost `amount`, whatever was set aside for it; never refused."""
        with self._changed:
            if self._charges.get(name) != amount or name in self._open:
                self._charges[name] = amount
                self._open.pop(name, None)
                self._save()
                self._changed.notify_all()

    def charged(self, name: str) -> float:
        """What `name` stands at; 0 where it was never said."""
        with self._changed:
            return self._charges.get(name, 0.0)

    def standing(self) -> Standing:
        """What was billed, and what is only set aside."""
        with self._changed:
            settled = sum(amount for name, amount in self._charges.items() if name not in self._open)
            return Standing(self._spent + settled, dict(self._open), self._unsure)

    def _make_room(self, amount: float, cancelled: Callable[[], bool]) -> None:
        while not self._fits(amount):
            hopeless = self.limit is not None and self._total() + amount > self.limit + _ROUNDING
            if hopeless or not self._reserved or cancelled():
                raise SpendingLimitReached(self._sentence(amount))
            self._changed.wait(timeout=0.2)

    def _total(self) -> float:
        return self._spent + self._unsure + sum(self._charges.values())

    def _fits(self, amount: float) -> bool:
        total = self._total() + sum(self._reserved.values()) + amount
        return self.limit is None or total <= self.limit + _ROUNDING

    def _sentence(self, amount: float) -> str:
        return (
            f"the spending limit of {self.limit:g} {self.currency} is reached: {self._said()}, "
            f"what comes next could cost up to {amount:.3g}; nothing of it was sent"
        )

    def _said(self) -> str:
        billed = self.standing().spent
        aside = self._total() - billed
        return f"{billed:.6g} spent" + (f" and {aside:.6g} set aside" if aside > _ROUNDING else "")

    def _save(self) -> None:
        if self._file is not None:
            state = {
                "spent": self._total(),
                "reserved": sum(self._reserved.values()),
                "charges": self._charges,
                "open": self._open,
                "unsure": self._unsure,
                "currency": self.currency,
            }
            store.write_text(self._file, json.dumps(state) + "\n")


def standing(file: Path) -> Standing:
    """What the purse in this file says; nothing where there is none."""
    if not file.exists():
        return Standing()
    currency = json.loads(file.read_text(encoding="utf-8")).get("currency", "USD")
    return SpendGuard(None, currency=currency, file=file).standing()
