"""The decision: which strategy, by which rule, how sure, and what would overturn it.

Works on a `Case`: numbers only, so that the page of a report can count the same again when its reader turns
a knob (reports/templates/decision.js is this module's twin; a browser test holds them together).

The rule:
1. Strategies that miss the quality floor or the latency ceiling, whose data would go to an excluded host, or
   whose cost is unknown are dropped.
2. With a value per correct answer: the highest expected net benefit (value x correct answers - cost, over the
   horizon). Without: the cheapest of those that are, in at least 95 % of draws, no worse than the reference
   by more than the margin. The reference is the incumbent; without one, the best strategy of each draw.
3. Decided when the choice is best or within the margin in at least 95 % of draws; never one alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from breakeven.harness.draws import Draws
from breakeven.harness.economics import Economics
from breakeven.harness.families import Family
from breakeven.harness.ownership import Bill, Knobs, Money, Ownership

Floats = npt.NDArray[np.float64]

SURE = 0.95
Mode = Literal["value", "cost"]
Kind = Literal["choose", "stay", "undecided", "nothing"]
Side = Literal["above", "below"]
Knob = Literal["requests", "value", "machine", "tokens"]
Why = Literal["floor", "latency", "host", "cost"]


@dataclass(frozen=True)
class Candidate:
    """What the rule needs to know of a strategy beside its draws."""

    label: str
    family: Family
    host: str
    p95: float | None
    ownership: Ownership


@dataclass(frozen=True)
class Case:
    """A task to decide on. `incumbent` is the position of what is in service today, if anything is."""

    task: str
    candidates: tuple[Candidate, ...]
    draws: Draws
    economics: Economics
    knobs: Knobs
    higher_is_better: bool = True
    incumbent: int | None = None

    @cached_property
    def gains(self) -> Floats:
        """(strategies, draws) score, signed so that more is better."""
        return self.draws.score if self.higher_is_better else -self.draws.score

    @cached_property
    def gain_means(self) -> Floats:
        return self.draws.score_mean if self.higher_is_better else -self.draws.score_mean

    @cached_property
    def dropped(self) -> Mapping[int, tuple[Why, ...]]:
        """Part 1 of the rule: positions that are out, and why."""
        found = {i: tuple(self._misses(i)) for i in range(len(self.candidates))}
        return {i: why for i, why in found.items() if why}

    def _misses(self, i: int) -> list[Why]:
        e, candidate = self.economics, self.candidates[i]
        why: list[Why] = []
        if e.quality_floor is not None and self.gain_means[i] < self._floor:
            why.append("floor")
        if e.latency_ceiling is not None and (candidate.p95 is None or candidate.p95 > e.latency_ceiling):
            why.append("latency")
        if candidate.host in e.exclude_hosts:
            why.append("host")
        if not candidate.ownership.known:
            why.append("cost")
        return why

    @property
    def _floor(self) -> float:
        floor = self.economics.quality_floor or 0.0
        return floor if self.higher_is_better else -floor

    @cached_property
    def standing(self) -> tuple[int, ...]:
        """Positions that are left after part 1."""
        return tuple(i for i in range(len(self.candidates)) if i not in self.dropped)

    @cached_property
    def above_floor(self) -> npt.NDArray[np.bool_]:
        """(strategies, draws) whether a draw reaches the floor."""
        if self.economics.quality_floor is None:
            return np.ones(self.gains.shape, dtype=bool)
        made: npt.NDArray[np.bool_] = self.gains >= self._floor
        return made

    @cached_property
    def bars(self) -> Floats:
        """(draws,) what "no worse than the reference" is measured against: its score less the margin."""
        if self.incumbent is not None:
            reference = self.gains[self.incumbent]
        else:
            reference = self.gains[list(self.standing)].max(axis=0)
        made: Floats = reference - self.economics.margin
        return made

    @cached_property
    def not_worse(self) -> Floats:
        """(strategies,) share of draws in which each is not worse than the reference by over the margin."""
        made: Floats = (self.gains >= self.bars).mean(axis=1)
        return made

    @property
    def alone(self) -> bool:
        """Whether there is one candidate only, so that nothing was compared."""
        return len(self.candidates) == 1

    @property
    def mode(self) -> Mode:
        return mode(self.knobs)

    # --- money ---------------------------------------------------------------------------

    def cost(self, i: int, knobs: Knobs) -> float:
        """Total cost of ownership over the horizon."""
        return float(self.candidates[i].ownership.total(self.economics, knobs))

    def cost_draws(self, i: int, knobs: Knobs) -> Floats:
        """(draws,) the same with the spread of tokens and seconds between requests."""
        own = self.candidates[i].ownership
        request = Bill(
            own.request.fixed,
            own.request.machine * self.draws.seconds[i],
            own.request.tokens * self.draws.tokens[i],
        )
        total: Money = own.total(
            self.economics, knobs, request=request, seconds=own.seconds * self.draws.seconds[i]
        )
        made: Floats = np.broadcast_to(np.asarray(total, dtype=np.float64), self.draws.seconds[i].shape)
        return made

    def asked(self, knobs: Knobs) -> Money:
        """Requests over the horizon."""
        total: Money = 0.0
        for month in range(knobs.months):
            total = total + self.economics.requests(month, knobs.requests)
        return total

    def benefit(self, i: int, knobs: Knobs) -> float:
        """Net benefit at the means: value x correct answers - cost."""
        worth = float(self.draws.worth_mean[i])
        return float(_value(knobs) * worth * self.asked(knobs)) - self.cost(i, knobs)

    def benefit_draws(self, i: int, knobs: Knobs) -> Floats:
        right = self.draws.worth[i]
        made: Floats = _value(knobs) * right * self.asked(knobs) - self.cost_draws(i, knobs)
        return made


def _value(knobs: Knobs) -> Money:
    return 0.0 if knobs.value is None else knobs.value


def mode(knobs: Knobs) -> Mode:
    return "cost" if knobs.value is None else "value"


@dataclass(frozen=True)
class Threshold:
    """Where a knob overturns the choice: beyond `at`, `to` takes its place.

    `low` and `high` are the 95 % interval over the draws, None where it is open on that side; `never` is the
    share in which the two do not change places, within a factor of 1,000.
    """

    knob: Knob
    side: Side
    at: float
    to: int
    low: float | None
    high: float | None
    never: float


@dataclass(frozen=True)
class Verdict:
    """What the rule says of a case, at its knobs.

    `choice` is the position of the strategy to take, or to lean to where it is undecided; `confidence` the
    share of draws in which that is right. `best`, `regret` (money; only with a value) and `mean` (net
    benefit, or cost) are per strategy; dropped ones have 0, None and None. `optimism` is how much better than
    it is the choice looks for having been picked by these examples. `worth_of_testing` is what perfect
    knowledge of quality and cost would be worth over the horizon (EVPI), None without a value.
    """

    kind: Kind
    mode: Mode
    choice: int | None
    confidence: float
    rival: int | None
    best: tuple[float, ...]
    regret: tuple[float | None, ...]
    mean: tuple[float | None, ...]
    optimism: float
    worth_of_testing: float | None

    @property
    def decided(self) -> bool:
        return self.kind in ("choose", "stay")


def decide(case: Case, knobs: Knobs | None = None) -> Verdict:
    """The verdict of a case. `knobs` in place of its own: for another volume, price or value."""
    at = case.knobs if knobs is None else knobs
    n, standing = len(case.candidates), case.standing
    nothing: tuple[None, ...] = (None,) * n
    if not standing:
        return Verdict("nothing", mode(at), None, 0.0, None, (0.0,) * n, nothing, nothing, 0.0, None)
    choice = choose(case, at)
    picked, right, money = _in_draws(case, at, choice)
    confidence = float(right.mean())
    counts = np.bincount(picked, minlength=n) / len(picked)
    drawn = case.gains[picked, np.arange(len(picked))]
    optimism = float((drawn - case.gain_means[picked]).mean())
    kind: Kind = "undecided"
    if confidence >= SURE and not case.alone:
        kind = "stay" if choice == case.incumbent else "choose"
    others = [i for i in standing if i != choice]
    rival = max(others, key=lambda i: counts[i]) if others else None
    means: list[float | None] = [None] * n
    regret: list[float | None] = [None] * n
    worth = None
    for k, i in enumerate(standing):
        means[i] = case.benefit(i, at) if money is not None else case.cost(i, at)
        if money is not None:
            regret[i] = float((money.max(axis=0) - money[k]).mean())
    if money is not None:
        worth = worth_of_testing(money)
    return Verdict(
        kind,
        mode(at),
        choice,
        confidence,
        rival,
        tuple(float(c) for c in counts),
        tuple(regret),
        tuple(means),
        optimism,
        worth,
    )


def worth_of_testing(benefits: Floats) -> float:
    """The most that further evaluation can be worth: the expected value of perfect information (EVPI).

    Args:
        benefits: (strategies, draws) net benefit; what comes out is in the same money.

    Mean of the best in each draw less the best mean (Raiffa and Schlaifer 1961; Claxton 1999).
    """
    return float(benefits.max(axis=0).mean() - benefits.mean(axis=1).max())


def choose(case: Case, knobs: Knobs) -> int:
    """Part 2 of the rule at the point estimates; the first of equals."""
    standing = case.standing
    if mode(knobs) == "value":
        return max(standing, key=lambda i: case.benefit(i, knobs))
    fit = [i for i in standing if case.not_worse[i] >= SURE]
    if not fit:  # nothing is shown to be good enough: lean to the best
        return max(standing, key=lambda i: float(case.gain_means[i]))
    return min(fit, key=lambda i: case.cost(i, knobs))


def _in_draws(
    case: Case, knobs: Knobs, choice: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_], Floats | None]:
    """(the rule's pick in each draw, whether the choice is right in it, net benefits of those standing)."""
    standing = np.array(case.standing)
    if mode(knobs) == "value":
        money = np.array([case.benefit_draws(i, knobs) for i in standing])
        slack = case.economics.margin * _value(knobs) * case.asked(knobs)
        mine = money[int(np.flatnonzero(standing == choice)[0])]
        right = (mine >= money.max(axis=0) - slack) & case.above_floor[choice]
        return standing[money.argmax(axis=0)], right, money
    costs = np.array([case.cost_draws(i, knobs) for i in standing])
    fit = case.gains[standing] >= case.bars
    unfit = np.where(fit, costs, np.inf)
    best_score = case.gains[standing].argmax(axis=0)
    picked = standing[np.where(fit.any(axis=0), unfit.argmin(axis=0), best_score)]
    right = (case.gains[choice] >= case.bars) & case.above_floor[choice]
    return picked, right, None


# --- what would overturn it ------------------------------------------------------------------

#: Steps of a tenth of a decade that are searched on either side of a knob's value: a factor of 1,000.
REACH = 30
HALVINGS = 60
KNOBS: tuple[Knob, ...] = ("requests", "value", "machine", "tokens")
SIDES: tuple[tuple[Side, int], ...] = (("above", 1), ("below", -1))


def turned(knobs: Knobs, knob: Knob, value: Money) -> Knobs:
    if knob == "requests":
        return replace(knobs, requests=value)
    if knob == "value":
        return replace(knobs, value=value)
    if knob == "machine":
        return replace(knobs, machine=value)
    return replace(knobs, tokens=value)


def setting(knobs: Knobs, knob: Knob) -> float | None:
    found = getattr(knobs, knob)
    return None if found is None else float(found)


def thresholds(case: Case, choice: int, knobs: Knobs | None = None) -> list[Threshold]:
    """The nearest value of each knob, on either side, at which the rule's choice becomes another."""
    at = case.knobs if knobs is None else knobs
    found = []
    for knob in KNOBS:
        start = setting(at, knob)
        if not start:
            continue
        for side, sign in SIDES:
            crossing = _crossing(lambda x, k=knob: choose(case, turned(at, k, x)), start, sign, choice)  # type: ignore[misc]
            if crossing is not None:
                where, to = crossing
                spread = crossing_draws(case, at, knob, side, choice, to, where)
                found.append(Threshold(knob, side, where, to, *spread))
    return found


def _crossing(
    chosen: Callable[[float], int], start: float, sign: int, choice: int
) -> tuple[float, int] | None:
    """The first value beside `start` where another is chosen, and which; None within the reach."""
    near = start
    for step in range(1, REACH + 1):
        far = start * 10.0 ** (sign * step / 10)
        if chosen(far) != choice:
            for _ in range(HALVINGS):
                middle = math.sqrt(near * far)
                if chosen(middle) != choice:
                    far = middle
                else:
                    near = middle
            return far, chosen(far)
        near = far
    return None


def crossing_draws(
    case: Case, knobs: Knobs, knob: Knob, side: Side, choice: int, to: int, near: float
) -> tuple[float | None, float | None, float]:
    """95 % interval of where `to` begins to lead, draw by draw, and the share without such a place.

    A draw in which it leads everywhere, or nowhere, counts as a place at the end of the line, so that the
    interval is open (None) on a side that more than 2.5 % of draws reach: an interval over the others alone
    would hide them, and could miss the estimate itself (O'Brien et al. 1994, on ratios whose denominator may
    be nothing). In the cost mode the two are compared on cost alone.
    """

    low = np.full(case.gains.shape[1], near / 1000)
    high = np.full(case.gains.shape[1], near * 1000)
    first = _lead(case, turned(knobs, knob, low), choice, to) > 0
    last = _lead(case, turned(knobs, knob, high), choice, to) > 0
    crosses = last & ~first if side == "above" else first & ~last
    for _ in range(HALVINGS if crosses.any() else 0):
        middle = np.sqrt(low * high)
        same = (_lead(case, turned(knobs, knob, middle), choice, to) > 0) == first
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    ends = np.where(last, 0.0, np.inf) if side == "above" else np.where(first, np.inf, 0.0)
    places = np.where(crosses, high, ends)
    bottom = float(np.quantile(places, 0.025, method="lower"))
    top = float(np.quantile(places, 0.975, method="higher"))
    open_below, open_above = bottom in (0.0, math.inf), top in (0.0, math.inf)
    never = float(1 - crosses.mean())
    return None if open_below else bottom, None if open_above else top, never


def _lead(case: Case, knobs: Knobs, choice: int, to: int) -> Floats:
    """(draws,) how much money `to` is ahead of the choice; the knobs may hold a value for each draw."""
    if mode(knobs) == "value":
        return case.benefit_draws(to, knobs) - case.benefit_draws(choice, knobs)
    return case.cost_draws(choice, knobs) - case.cost_draws(to, knobs)


#: Worths of a correct answer that are searched where nobody gave one: 1e-6 to 1e4, ten a decade.
WORTHS = tuple(10.0 ** (k / 10 - 6) for k in range(101))


def worth_that_overturns(case: Case, choice: int, knobs: Knobs | None = None) -> Threshold | None:
    """Without a value per correct answer: the value above which another, more often correct one is chosen.

    Below it need not stand the choice itself, which may be chosen at no value: the interval is of where the
    other overtakes the one that does.
    """
    at = case.knobs if knobs is None else knobs
    right = case.draws.worth_mean

    def overturned(value: float) -> bool:
        picked = choose(case, replace(at, value=value))
        return picked != choice and bool(right[picked] > right[choice])

    near = WORTHS[0]
    for far in WORTHS:
        if overturned(far):
            for _ in range(HALVINGS):
                middle = math.sqrt(near * far)
                near, far = (near, middle) if overturned(middle) else (middle, far)
            to = choose(case, replace(at, value=far))
            valued, below = replace(at, value=far), choose(case, replace(at, value=near))
            before = choice if below == to else below
            low, high, never = crossing_draws(case, valued, "value", "above", before, to, far)
            return Threshold("value", "above", far, to, low, high, never)
        near = far
    return None


def best_by_worth(case: Case, worths: Sequence[float], knobs: Knobs | None = None) -> Floats:
    """(worths, strategies) probability of being best at each value of a correct answer.

    The cost-effectiveness acceptability curve of health economics (van Hout et al. 1994).
    """
    at = case.knobs if knobs is None else knobs
    made = np.zeros((len(worths), len(case.candidates)))
    standing = np.array(case.standing, dtype=np.intp)
    for k, value in enumerate(worths):
        if len(standing):
            valued = replace(at, value=value)
            money = np.array([case.benefit_draws(i, valued) for i in standing])
            made[k, standing] = np.bincount(money.argmax(axis=0), minlength=len(standing)) / money.shape[1]
    return made
