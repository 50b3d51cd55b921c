"""The ledger: what was consumed, by phase and quantity. It counts; it does not price.

An amount is `measured`, `estimated` or `unknown`, and unknown is not zero: a sum over an unknown
amount is unknown. Pricing is `breakeven.harness.prices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Phase = Literal["label", "index", "search", "train", "serve", "evaluate", "host"]
PHASES: tuple[Phase, ...] = ("label", "index", "search", "train", "serve", "evaluate", "host")

Quantity = Literal[
    "input_tokens",  # read by a language model, as a provider would bill them
    "output_tokens",  # written by a language model
    "training_tokens",  # seen in training, over all epochs (a provider's `trained_tokens`)
    "embedded_tokens",  # read by an embedding model
    "seconds",  # wall seconds of the work itself, loading excluded
    "flops",
    "joules",
    "bytes",  # peak memory, or size on disk: the source says which
    "money",  # in the currency of the price book; only amounts billed as money (hosted jobs)
]
Status = Literal["measured", "estimated", "unknown"]

#: Quantities whose amounts are combined by their maximum, not their sum.
PEAKS: frozenset[str] = frozenset({"bytes"})


@dataclass(frozen=True, slots=True)
class Amount:
    """How much, and how well it is known. `value` is None exactly when `status` is unknown."""

    value: float | None
    status: Status = "measured"

    def __post_init__(self) -> None:
        if (self.value is None) != (self.status == "unknown"):
            raise ValueError(f"amount {self.value!r} cannot be {self.status!r}")

    def __add__(self, other: Amount) -> Amount:
        return self._combine(other, lambda a, b: a + b)

    def peak(self, other: Amount) -> Amount:
        """The larger of the two; unknown if either is."""
        return self._combine(other, max)

    def _combine(self, other: Amount, how: Any) -> Amount:
        if self.value is None or other.value is None:
            return UNKNOWN
        estimated = "estimated" in (self.status, other.status)
        return Amount(how(self.value, other.value), "estimated" if estimated else "measured")


UNKNOWN = Amount(None, "unknown")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger.

    `source` says how the amount came about ("counted", "usage of the response", "2N per token + attention");
    `model` whose tokens they are; `artifact` the shared artifact it was booked for, if any, so that
    what the run itself cost counts it once; `hardware` where seconds and joules were spent.
    """

    phase: Phase
    quantity: Quantity
    amount: Amount
    source: str
    model: str | None = None
    artifact: str | None = None
    hardware: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if v is not None}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Entry:
        return cls(**{**row, "amount": Amount(**row["amount"])})


@dataclass(slots=True)
class Ledger:
    """An append-only list of entries with sums over them."""

    entries: list[Entry] = field(default_factory=list)

    def book(
        self,
        phase: Phase,
        quantity: Quantity,
        value: float | None,
        *,
        source: str,
        status: Status | None = None,
        model: str | None = None,
        artifact: str | None = None,
        hardware: str | None = None,
    ) -> None:
        """Add one amount; `value=None` books an unknown amount."""
        known: Status = "unknown" if value is None else (status or "measured")
        self.entries.append(Entry(phase, quantity, Amount(value, known), source, model, artifact, hardware))

    def extend(self, entries: Iterable[Entry]) -> None:
        self.entries.extend(entries)

    def select(
        self,
        phase: Phase | Iterable[Phase] | None = None,
        quantity: Quantity | None = None,
        model: str | None = None,
    ) -> Iterator[Entry]:
        phases = {phase} if isinstance(phase, str) else set(phase) if phase is not None else None
        for e in self.entries:
            if (
                (phases is None or e.phase in phases)
                and (quantity is None or e.quantity == quantity)
                and (model is None or e.model == model)
            ):
                yield e

    def total(
        self,
        quantity: Quantity,
        phase: Phase | Iterable[Phase] | None = None,
        model: str | None = None,
    ) -> Amount:
        """Sum (or peak, for memory) of a quantity; 0 measured if nothing was booked."""
        result: Amount | None = None
        for e in self.select(phase, quantity, model):
            if result is None:
                result = e.amount
            else:
                result = result.peak(e.amount) if quantity in PEAKS else result + e.amount
        return result if result is not None else Amount(0.0)

    def compacted(self) -> Ledger:
        """The same sums in fewer lines: entries that differ in nothing but their amount are combined."""
        combined: dict[tuple[Any, ...], Entry] = {}
        for e in self.entries:
            key = (e.phase, e.quantity, e.source, e.model, e.artifact, e.hardware, e.amount.status)
            if key in combined:
                old = combined[key].amount
                amount = old.peak(e.amount) if e.quantity in PEAKS else old + e.amount
                combined[key] = replace(combined[key], amount=amount)
            else:
                combined[key] = e
        return Ledger(list(combined.values()))

    def to_json(self) -> list[dict[str, Any]]:
        return [e.to_json() for e in self.entries]

    @classmethod
    def from_json(cls, rows: Iterable[dict[str, Any]]) -> Ledger:
        return cls([Entry.from_json(r) for r in rows])
