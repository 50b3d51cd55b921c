"""Break-even volumes: at how many requests a month one strategy becomes cheaper than another, and back.

Costs that meet are compared over the same horizon: TCO_a(V) = TCO_b(V), V requests in the first month.
Dedicated machines make steps, so the answer is a set of intervals: "never", "always" and several crossings
are all possible. On cost alone; what the difference in quality is worth is `decision`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from breakeven.harness.economics import Economics
from breakeven.harness.ownership import Bill, Knobs, Ownership

#: Volumes that are looked at: 1 to 10,000,000,000 requests a month, 200 a decade.
LOWEST, DECADES, PER_DECADE = 1.0, 10, 200
GRID = tuple(LOWEST * 10.0 ** (k / PER_DECADE) for k in range(DECADES * PER_DECADE + 1))
HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Volumes:
    """The volumes on which b is cheaper than a: half-open intervals within `GRID`'s range.

    `inf` as an upper end means that b stays cheaper as far as was looked, 0 as a lower end that it is from
    the first request.
    """

    intervals: tuple[tuple[float, float], ...]

    @property
    def never(self) -> bool:
        return not self.intervals

    @property
    def always(self) -> bool:
        return self.intervals == ((0.0, math.inf),)

    @property
    def first(self) -> float | None:
        """The first volume at which the cheaper one changes; None if it never does."""
        ends = [x for interval in self.intervals for x in interval if 0 < x < math.inf]
        return min(ends) if ends else None

    def __str__(self) -> str:
        if self.never:
            return "never"
        if self.always:
            return "always"
        return ", ".join(
            f"above {low:,.0f}" if high == math.inf else f"below {high:,.0f}" if low == 0
            else f"{low:,.0f} to {high:,.0f}"
            for low, high in self.intervals
        )  # fmt: skip


def cheaper(b: Ownership, a: Ownership, economics: Economics, knobs: Knobs) -> Volumes:
    """Where b is cheaper than a, at the knobs' prices and horizon."""

    def saved(volume: float) -> float:
        at = replace(knobs, requests=volume)
        return float(a.total(economics, at)) - float(b.total(economics, at))

    volumes = np.array(GRID)
    at = replace(knobs, requests=volumes)
    return intervals(saved, np.asarray(a.total(economics, at)) - np.asarray(b.total(economics, at)))


def intervals(saved: Callable[[float], float], on_grid: npt.ArrayLike) -> Volumes:
    """Where `saved` is above 0; its values `on_grid` show between which points its sign changes."""
    positive = [bool(v > 0) for v in np.broadcast_to(np.asarray(on_grid), (len(GRID),))]
    found: list[tuple[float, float]] = []
    start: float | None = 0.0 if positive[0] else None
    for k in range(1, len(GRID)):
        if positive[k] == positive[k - 1]:
            continue
        edge = _edge(saved, GRID[k - 1], GRID[k], positive[k - 1])
        if start is None:
            start = edge
        else:
            found.append((start, edge))
            start = None
    if start is not None:
        found.append((start, math.inf))
    return Volumes(tuple(found))


def _edge(saved: Callable[[float], float], low: float, high: float, at_low: bool) -> float:
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if (saved(middle) > 0) == at_low:
            low = middle
        else:
            high = middle
    return high


@dataclass(frozen=True, slots=True)
class BreakEven:
    """A break-even volume with its uncertainty.

    `low` and `high`: 95 % interval of the first crossing over the draws that have one; `never` and `always`
    the shares of draws in which b is cheaper nowhere, or everywhere.
    """

    volumes: Volumes
    low: float | None
    high: float | None
    never: float
    always: float


def break_even(
    b: Ownership,
    a: Ownership,
    economics: Economics,
    knobs: Knobs,
    factors_b: tuple[Sequence[float], Sequence[float]],
    factors_a: tuple[Sequence[float], Sequence[float]],
) -> BreakEven:
    """`cheaper`, and the same in every draw of what a request consumes.

    Args:
        factors_b, factors_a: draws of (tokens, seconds), as factors on the mean consumption of a request.
    """
    firsts, never, always = [], 0, 0
    draws = list(zip(*factors_b, *factors_a, strict=True))
    for tokens_b, seconds_b, tokens_a, seconds_a in draws:
        found = cheaper(_drawn(b, tokens_b, seconds_b), _drawn(a, tokens_a, seconds_a), economics, knobs)
        never += found.never
        always += found.always
        if found.first is not None:
            firsts.append(found.first)
    low, high = (float(x) for x in np.quantile(firsts, [0.025, 0.975])) if firsts else (None, None)
    n = max(len(draws), 1)
    return BreakEven(cheaper(b, a, economics, knobs), low, high, never / n, always / n)


def _drawn(own: Ownership, tokens: float, seconds: float) -> Ownership:
    request = Bill(own.request.fixed, own.request.machine * seconds, own.request.tokens * tokens)
    return replace(own, request=request, seconds=own.seconds * seconds)
