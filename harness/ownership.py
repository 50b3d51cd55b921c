"""Total cost of ownership: what one strategy costs up front, each month and each request, line by line.

Every line says what it rests on: an amount in the ledger times a price, or hours of people times a rate.
Sums keep apart what scales with the price of machines and what with the price of tokens, so that another
price needs no new sum. What costs decide is `decision`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from breakeven.harness import costs
from breakeven.harness.economics import HOURS_A_MONTH, MONTHS_A_YEAR, Economics, Incumbent
from breakeven.harness.families import (
    family,
    is_recorded,
    is_tuned,
    labelled_examples,
    pulls,
    reads_documents,
)
from breakeven.harness.ledger import Phase
from breakeven.harness.pricing import Pricing, mean_cost
from breakeven.harness.results import DONE, CellResult, Row

#: A number, or one for each draw.
Money: TypeAlias = "float | npt.NDArray[np.float64]"

When = Literal["up front", "each month", "each retraining", "each request"]
Part = Literal["fixed", "machine", "tokens"]
Known = Literal["measured", "estimated", "assumed", "given", "unknown"]

_PHASES: tuple[tuple[Phase, str], ...] = (
    ("label", "labels made by a model"),
    ("index", "the index of the documents"),
    ("search", "the search for settings"),
    ("train", "training"),
)
SECONDS_A_MONTH = HOURS_A_MONTH * 3600


@dataclass(frozen=True, slots=True)
class Line:
    """One amount of a strategy's cost. `value` None is unknown; `part` says which price it scales with."""

    what: str
    when: When
    part: Part
    value: float | None
    known: Known
    source: str


@dataclass(frozen=True, slots=True)
class Bill:
    """Money by what it scales with: nothing (people's hours), a machine's hour, a provider's tokens."""

    fixed: Money = 0.0
    machine: Money = 0.0
    tokens: Money = 0.0

    def at(self, machine: Money, tokens: Money) -> Money:
        """The sum when machines and tokens cost so many times what they do."""
        return self.fixed + self.machine * machine + self.tokens * tokens


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a reader may turn; an array holds a value for each draw.

    `requests` of the first month; `value` the worth of one more correct answer, None where nobody said;
    `machine` and `tokens` are factors on the listed prices.
    """

    requests: Money
    months: int
    value: Money | None
    machine: Money = 1.0
    tokens: Money = 1.0


@dataclass(frozen=True)
class Ownership:
    """What a strategy costs.

    `request` is the bill of one request, `replica` the price of a dedicated machine for a month (0 where
    machines are shared), which is kept busy by `seconds` for each request. `missing` names what has no price:
    the whole is then unknown.
    """

    label: str
    lines: tuple[Line, ...]
    up_front: Bill
    monthly: Bill
    retraining: Bill
    request: Bill
    replica: float = 0.0
    seconds: float = 0.0
    missing: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        return not self.missing

    def total(
        self,
        economics: Economics,
        knobs: Knobs,
        months: int | None = None,
        *,
        request: Bill | None = None,
        seconds: Money | None = None,
    ) -> Money:
        """Money over so many months (the knobs' horizon unless said).

        Args:
            request, seconds: in place of the strategy's own, one for each draw.

        Up front + retrainings + months + requests; with dedicated machines, as many each month as that
        month's busiest second keeps busy at the wanted utilisation.
        """
        horizon = knobs.months if months is None else months
        one = self.request if request is None else request
        busy = self.seconds if seconds is None else seconds
        once = self.up_front.at(knobs.machine, knobs.tokens)
        again = economics.retrainings(horizon) * self.retraining.at(knobs.machine, knobs.tokens)
        monthly = horizon * self.monthly.at(knobs.machine, knobs.tokens)
        asked: Money = 0.0
        hosts: Money = 0.0
        for month in range(horizon):
            requests = economics.requests(month, knobs.requests)
            asked = asked + requests
            if self.replica > 0:
                hosts = hosts + replicas(economics, knobs.requests, requests, busy)
        served = asked * one.at(knobs.machine, knobs.tokens)
        return once + again + monthly + served + hosts * self.replica * knobs.machine

    def cash_now(self, knobs: Knobs) -> float:
        return float(self.up_front.at(knobs.machine, knobs.tokens))

    def month(self, economics: Economics, knobs: Knobs, month: int = 0) -> float:
        """What a month costs, retraining left out."""
        requests = economics.requests(month, knobs.requests)
        hosts = replicas(economics, knobs.requests, requests, self.seconds) if self.replica > 0 else 0.0
        return float(
            self.monthly.at(knobs.machine, knobs.tokens)
            + requests * self.request.at(knobs.machine, knobs.tokens)
            + hosts * self.replica * knobs.machine
        )

    def year_one(self, economics: Economics, knobs: Knobs) -> float:
        return float(self.total(economics, knobs, MONTHS_A_YEAR))

    def payback_month(self, other: Ownership, economics: Economics, knobs: Knobs) -> int | None:
        """The first month after which this has cost no more than `other`; None: never within the horizon.

        On cost alone: the worth of better answers is not counted.
        """
        for months in range(1, knobs.months + 1):
            if self.total(economics, knobs, months) <= other.total(economics, knobs, months):
                return months
        return None


def replicas(economics: Economics, first: Money, requests: Money, seconds: Money) -> Money:
    """Machines that a month of so many requests needs: those its busiest second keeps busy, at least one.

    Args:
        first: requests of the first month, to which a given peak belongs.
        seconds: that a request keeps a machine busy.
    """
    if economics.peak_per_second is not None:
        peak = economics.peak_per_second * (requests / first)
    else:
        peak = economics.peak_factor * requests / SECONDS_A_MONTH
    needed = np.ceil(peak * np.asarray(seconds) / economics.utilisation - 1e-9)
    made: Money = np.maximum(needed, 1.0)
    return made


# --- from measured rows ----------------------------------------------------------------------


def of_row(row: Row, pricing: Pricing, *, in_service: bool = False) -> Ownership:
    """The cost of a row of the result table.

    Args:
        in_service: it is the incumbent, so everything up front was paid long ago.
    """
    cells = [c for c in row.cells if c.state == DONE]
    lines = [*_served(row, cells, pricing), *_monthly(row, cells, pricing), *_retraining(row, cells, pricing)]
    if not in_service:
        lines = [*_up_front(row, cells, pricing), *lines]
    machine = pricing.machine_of(row.strategy)
    dedicated = pricing.economics.serving == "dedicated" and pricing.hosted(cells[0]) is None
    busy = [pricing.busy_seconds(c).value for c in cells]
    found = _summed(row.label, lines)
    if not dedicated or machine is None or any(s is None for s in busy):
        return found
    shared_by = pricing.economics.adapters_per_machine if is_tuned(family(row)) else 1
    return replace(
        found,
        replica=machine.price * HOURS_A_MONTH / shared_by,
        seconds=float(np.mean([s for s in busy if s is not None])),
    )


def of_incumbent(stated: Incumbent) -> Ownership:
    """The cost of an incumbent that is only described: its requests, and nothing else."""
    if stated.cost_per_1000 is None:
        line = Line("answering", "each request", "fixed", None, "unknown", "not stated")
    else:
        each = stated.cost_per_1000 / 1000
        line = Line("answering", "each request", "fixed", each, "given", "as stated in the suite")
    return _summed(stated.name, [line])


def _up_front(row: Row, cells: Sequence[CellResult], pricing: Pricing) -> Iterator[Line]:
    economics = pricing.economics
    for phase, what in _PHASES:
        for part, priced in (("machine", pricing.one_off_machine), ("tokens", pricing.one_off_billed)):
            cost = mean_cost([priced(c, (phase,)) for c in cells])
            if cost.of or cost.value:
                yield _line(what, "up front", part, cost, _traced(cells, phase, part, pricing, row))  # type: ignore[arg-type]
    rows = labelled_examples(row)
    if rows:
        yield _hours(economics, f"labelling {rows:,} examples", "up front",
                     rows * economics.people.label_minutes / 60,
                     f"{rows:,} x {economics.people.label_minutes:g} min", "label_minutes")  # fmt: skip
    if row.model is not None:
        yield _hours(economics, "writing the prompt", "up front", economics.people.prompt_hours,
                     "", "prompt_hours")  # fmt: skip
    built = [w for lever, w in (("context", "retrieval"), ("weights", "tuning")) if pulls(row, lever)]  # type: ignore[arg-type]
    built += ["the classifier"] if family(row) == "no-model" else []
    for what in built:
        yield _hours(economics, f"setting up {what}", "up front", economics.people.build_hours,
                     "", "build_hours")  # fmt: skip
    if pricing.hosted(cells[0]) is None and not is_recorded(row):
        yield _hours(economics, "putting it into service", "up front", economics.people.deploy_hours,
                     "", "deploy_hours")  # fmt: skip


def _monthly(row: Row, cells: Sequence[CellResult], pricing: Pricing) -> Iterator[Line]:
    economics = pricing.economics
    yield _hours(economics, "checking that it still works", "each month",
                 economics.people.reevaluate_hours_a_month, "", "reevaluate_hours_a_month")  # fmt: skip
    if pulls(row, "context") or reads_documents(row):
        yield _hours(economics, "keeping the documents current", "each month",
                     economics.people.documents_hours_a_month, "", "documents_hours_a_month")  # fmt: skip
    name = pricing.deployment_name(row.strategy, cells)
    if name is not None:
        deployment = pricing.deployment_of(name)
        cost = costs.hosting_cost(deployment)
        source = f"{HOURS_A_MONTH:g} h x {deployment or f'an hour of {name}, which has no price'}"
        yield _line("the hosted deployment", "each month", "machine", cost, source)


def _retraining(row: Row, cells: Sequence[CellResult], pricing: Pricing) -> Iterator[Line]:
    economics = pricing.economics
    if economics.retrain_every_months is None or not (pulls(row, "weights") or family(row) == "no-model"):
        return
    for part, priced in (("machine", pricing.one_off_machine), ("tokens", pricing.one_off_billed)):
        cost = mean_cost([priced(c, ("train",)) for c in cells])
        if cost.of or cost.value:
            source = _traced(cells, "train", part, pricing, row)
            yield _line("training again", "each retraining", part, cost, source)  # type: ignore[arg-type]
    yield _hours(economics, "people at a retraining", "each retraining", economics.people.retrain_hours,
                 "", "retrain_hours")  # fmt: skip


def _served(row: Row, cells: Sequence[CellResult], pricing: Pricing) -> Iterator[Line]:
    tokens = mean_cost([pricing.tokens(c) for c in cells])
    if tokens.of or tokens.value:
        name = pricing.hosted(cells[0])
        source = f"{row.input_tokens:,.0f} tokens in, {row.output_tokens:,.1f} out, at the prices of {name}"
        yield _line("tokens", "each request", "tokens", tokens, source)
    fees = mean_cost([pricing.fees(c) for c in cells])
    if fees.of or fees.value:
        yield _line("fees", "each request", "fixed", fees, "as booked in the ledger")
    spent = [pricing.busy(c) for c in cells]
    busy = [s.seconds for s in spent]
    if pricing.economics.serving == "dedicated" and pricing.hosted(cells[0]) is None:
        if any(b.value is None for b in busy) or pricing.machine_of(row.strategy) is None:
            unknown = costs.unpriced("machine time, which was not measured")
            yield _line("machine time", "each request", "machine", unknown, "not measured")
        return
    machine = mean_cost([pricing.machine_time(c) for c in cells])
    if machine.of or machine.value:
        seconds = [b.value for b in busy if b.value is not None]
        hour = pricing.machine_of(row.strategy)
        used = pricing.economics.utilisation
        source = "not measured"
        if seconds:
            source = f"{np.mean(seconds):.4g} s{pricing.measured_by(spent)} x {hour} / {used:.0%} used"
        yield _line("machine time", "each request", "machine", machine, source)


def _traced(cells: Sequence[CellResult], phase: Phase, part: str, pricing: Pricing, row: Row) -> str:
    """The ledger's amount and the price that made a one-off line."""
    if part == "machine":
        spent = [pricing.one_off_seconds(c, (phase,)) for c in cells]
        known = [s.seconds.value for s in spent if s.seconds.value is not None]
        if not known:
            return "ledger"
        told, by = f"{np.mean(known):,.1f} s", pricing.measured_by(spent)
        return f"{'' if by else 'ledger: '}{told}{by} x {pricing.machine_of(row.strategy)}"
    return f"ledger: what {pricing.hosted(cells[0]) or 'the provider'} bills"


def _hours(economics: Economics, what: str, when: When, hours: float, how: str, setting: str) -> Line:
    people = economics.people
    assumed = economics.assumed(f"people.{setting}") or economics.assumed("people.hourly_rate")
    source = f"{how or f'{hours:g} h'} x {people.hourly_rate:g} {economics.currency} an hour"
    value = hours * people.hourly_rate
    return Line(what, when, "fixed", value, "assumed" if assumed else "given", source)


def _line(what: str, when: When, part: Part, cost: costs.Cost, source: str) -> Line:
    noted = "; ".join(n for n in (source, cost.note) if n)
    return Line(what, when, part, cost.value, cost.status, noted)


def _summed(label: str, lines: Sequence[Line]) -> Ownership:
    def bill(when: When) -> Bill:
        sums = {"fixed": 0.0, "machine": 0.0, "tokens": 0.0}
        for line in lines:
            if line.when == when:
                sums[line.part] += line.value or 0.0
        return Bill(**sums)

    missing = tuple(dict.fromkeys(f"{x.what} ({x.source})" for x in lines if x.value is None))
    return Ownership(
        label,
        tuple(lines),
        bill("up front"),
        bill("each month"),
        bill("each retraining"),
        bill("each request"),
        missing=missing,
    )
