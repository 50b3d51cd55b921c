"""What would overturn a choice: knobs, the worth of a correct answer, break-even volumes, more examples.

The nearest first. The single thresholds are `decision`'s, volumes `volumes`'; reports/templates/decision.js
counts the same on the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from breakeven.harness import volumes
from breakeven.harness.decision import (
    HALVINGS,
    SURE,
    WORTHS,
    Case,
    Side,
    Threshold,
    Verdict,
    choose,
    crossing_draws,
    mode,
    setting,
    thresholds,
    worth_that_overturns,
)
from breakeven.harness.families import is_tuned
from breakeven.harness.ownership import Knobs
from breakeven.harness.volumes import Volumes

#: Thresholds that are told of a choice.
MOST = 5
#: One-sided 95 %: how many standard deviations a lead must be from nothing.
ONE_SIDED = 1.645


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where `other` is cheaper than the choice, whatever their quality.

    `low` and `high` are the 95 % interval of the only crossing, open where None, `never` the share of draws
    without it;
    `proven` tells whether the other is shown to be no worse than the reference.
    """

    other: int
    volumes: Volumes
    low: float | None
    high: float | None
    never: float
    proven: bool


@dataclass(frozen=True)
class Flips:
    """`thresholds`: the nearest first. `volumes`: those of the volume, which condition an answer."""

    thresholds: tuple[Threshold, ...]
    break_evens: tuple[BreakEven, ...]
    volumes: tuple[Threshold, ...]


def flips(case: Case, verdict: Verdict, knobs: Knobs | None = None) -> Flips:
    """What would overturn a verdict that has a choice."""
    at = case.knobs if knobs is None else knobs
    choice = verdict.choice
    assert choice is not None
    found = thresholds(case, choice, at)
    near = sorted(found, key=lambda x: _distance(x, at))
    if mode(at) == "cost":
        worths = worth_that_overturns(case, choice, at), worth_that_undercuts(case, choice, at)
        near = [*(w for w in worths if w is not None), *near]
    crossed = {x.to for x in found if x.knob == "requests"} if mode(at) == "cost" else set()
    others = [i for i in (opposite(case, verdict), case.incumbent) if i is not None and i != choice]
    return Flips(
        tuple(near[:MOST]),
        tuple(
            break_even(case, i, choice, at)
            for i in dict.fromkeys(others)
            if i in case.standing and i not in crossed
        ),
        tuple(x for x in found if x.knob == "requests"),
    )


def _distance(x: Threshold, at: Knobs) -> int:
    """How far a knob is from a threshold, on a log scale; equal where only rounding differs."""
    return math.floor(abs(math.log(x.at / (setting(at, x.knob) or x.at))) * 1e9 + 0.5)


def worth_that_undercuts(case: Case, choice: int, knobs: Knobs) -> Threshold | None:
    """Without a value per correct answer: the value below which a cheaper strategy would be chosen.

    None where the choice holds from the lowest value that is searched, or is chosen at none.
    """
    chosen = [choose(case, replace(knobs, value=worth)) == choice for worth in WORTHS]
    first = chosen.index(True) if True in chosen else 0
    if first == 0:
        return None
    low, high = WORTHS[first - 1], WORTHS[first]
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if choose(case, replace(knobs, value=middle)) == choice:
            high = middle
        else:
            low = middle
    to = choose(case, replace(knobs, value=low))
    spread = crossing_draws(case, replace(knobs, value=low), "value", "below", choice, to, low)
    return Threshold("value", "below", low, to, *spread)


def break_even(case: Case, other: int, choice: int, knobs: Knobs) -> BreakEven:
    """Where `other` is cheaper than the choice, and how sure the crossing is."""
    a, b = case.candidates[choice].ownership, case.candidates[other].ownership
    found = volumes.cheaper(b, a, case.economics, knobs)
    low: float | None = None
    high: float | None = None
    never = 0.0
    if found.first is not None and sum(0 < x < math.inf for v in found.intervals for x in v) == 1:
        by_cost = replace(knobs, value=None)
        side: Side = "below" if found.intervals[0][0] == 0 else "above"
        low, high, never = crossing_draws(case, by_cost, "requests", side, choice, other, found.first)
    return BreakEven(other, found, low, high, never, bool(case.not_worse[other] >= SURE))


# --- with whom a choice is compared ----------------------------------------------------------


def _rank(case: Case, verdict: Verdict, i: int) -> float:
    """Net benefit, or without a value quality: the higher the better."""
    mean = verdict.mean[i]
    return float(case.gain_means[i]) if verdict.mode == "cost" or mean is None else mean


def opposite(case: Case, verdict: Verdict) -> int | None:
    """The best of the other kind: tuned where the choice is not, not tuned where it is."""
    choice = verdict.choice
    assert choice is not None
    tuned = is_tuned(case.candidates[choice].family)
    other = [i for i in case.standing if is_tuned(case.candidates[i].family) != tuned]
    return max(other, key=lambda i: _rank(case, verdict, i)) if other else None


def runner_up(case: Case, verdict: Verdict) -> int | None:
    """Who would most often be the choice instead; where nobody ever would, the next best."""
    if verdict.rival is not None and verdict.best[verdict.rival] > 0:
        return verdict.rival
    others = [i for i in case.standing if i != verdict.choice]
    return max(others, key=lambda i: _rank(case, verdict, i)) if others else None


def opponents(case: Case, verdict: Verdict) -> Sequence[int]:
    """With whom the choice is compared, the most telling first; while undecided the runner-up."""
    next_best = runner_up(case, verdict)
    found = [opposite(case, verdict), case.incumbent]
    found = [next_best, *found] if verdict.kind == "undecided" else [*found, next_best]
    return [i for i in dict.fromkeys(found) if i is not None and i != verdict.choice]


# --- more examples ---------------------------------------------------------------------------


def lead(case: Case, choice: int, knobs: Knobs) -> npt.NDArray[np.float64]:
    """(draws,) how far the choice is beyond what the rule asks; beyond the floor, where that is open."""
    gains = case.gains[choice]
    if case.above_floor[choice].mean() < SURE:
        floor = case.economics.quality_floor or 0.0
        made: npt.NDArray[np.float64] = gains - (floor if case.higher_is_better else -floor)
    elif knobs.value is None:
        made = gains - case.bars
    else:
        slack = case.economics.margin * knobs.value * case.asked(knobs)
        rest = [case.benefit_draws(i, knobs) for i in case.standing if i != choice]
        made = case.benefit_draws(choice, knobs) - np.max(rest, axis=0) + slack
    return made


def times_the_examples(case: Case, choice: int, knobs: Knobs) -> float | None:
    """How many times the test examples would settle it, should the lead stay as it is; None: more would not.

    The spread of the draws is taken to shrink with the root of the number of examples.
    """
    found = lead(case, choice, knobs)
    mean = float(found.mean())
    if mean <= 0:
        return None
    spread = float(np.sqrt(((found - mean) ** 2).mean()))
    return (ONE_SIDED * spread / mean) ** 2
