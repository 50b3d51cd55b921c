"""Learning curves: quality over the number of labelled examples, where it overtakes, what more would bring.

Scores go in as training size -> (seeds, items), the same items at every size and for both strategies.
Intervals come from joint draws: items (whole groups of them) are resampled together for all sizes and both
strategies, the noise of seeds is drawn for each size on its own. Which cells make a curve is for the caller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from breakeven.harness import stats
from breakeven.harness._variance import Floats, Groups, Scores, matrix, seed_variance

DRAWS = 1000
#: Exponents of the power law. Above 2 a curve is flat after the first sizes, whatever the exponent.
EXPONENTS = np.arange(1, 201) / 100
#: Sizes a power law is fitted to: it has three parameters.
FIT_FROM = 3


@dataclass(frozen=True, slots=True)
class Point:
    """The mean score at a training size, over seeds and items."""

    size: int
    mean: float
    interval: stats.Interval | None  # None where the scores have no variance and no range


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the difference a - b changes sign; `upward` when a is better beyond it."""

    size: float
    upward: bool


@dataclass(frozen=True, slots=True)
class Overtaking:
    """From how many labelled examples on a is better than b, up to the largest size measured.

    Attributes:
        sizes: (smallest, largest) size at which both are known.
        crossings: all of them on the mean curves, ascending; none and several are both possible.
        at: the last crossing if a is better beyond it; the smallest size if a is better everywhere; None if
            a is not better at the largest.
        low, high: interval of `at`; None where it is open, as the draws reach the smallest size, or are not
            ahead at the largest.
        always, never, lost_again: shares of draws in which a is better at all sizes, at none, and better
            somewhere but not at the largest. What is left overtakes and stays ahead.
        several: share of draws with more than one crossing.
    """

    sizes: tuple[int, int]
    crossings: tuple[Crossing, ...]
    at: float | None
    low: float | None
    high: float | None
    always: float
    never: float
    lost_again: float
    several: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gain:
    """What `more` labelled examples bring beyond `size`, by the power law a - b n^-c fitted to the curve.

    `expected` is the median over the draws, as are the parameters of the curve; better is positive, whatever
    the direction of the metric. `extrapolated`: size + more lies beyond the largest size measured.
    """

    size: int
    more: int
    expected: float
    interval: stats.Interval
    extrapolated: bool
    asymptote: float
    exponent: float


def points(
    curve: Mapping[int, Scores],
    groups: Groups = None,
    level: float = 0.95,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    *,
    varies_with_seed: bool = True,
) -> tuple[Point, ...]:
    """The curve with the interval of each size by itself; arguments as in `stats.mean_interval`."""
    found = []
    for size in sorted(curve):
        interval: stats.Interval | None
        try:
            interval = stats.mean_interval(
                curve[size], groups, level, bounds, varies_with_seed=varies_with_seed
            )
        except ValueError:  # no variance on an open range
            interval = None
        found.append(Point(size, float(matrix(curve[size]).mean()), interval))
    return tuple(found)


def draws(
    curve: Mapping[int, Scores],
    groups: Groups = None,
    *,
    count: int = DRAWS,
    seed: int = 0,
    stream: int = 0,
    inflation: float = 1.0,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Sizes, ascending, and means (draws, sizes) for items and seeds not seen.

    Items are resampled by `stats.resamples`: the same in every curve of the same items, groups, count and
    seed, so that curves may be subtracted draw by draw. The noise of the seeds is the variance between
    them, taken together over all sizes that have two or more, with Student's t for the few there are;
    `stream` keeps it apart from that of another curve. `inflation` is of the items' variance, where they were
    scored out of fold (`crossfit.variance_inflation`).
    """
    sizes = np.array(sorted(curve))
    if not len(sizes) or sizes[0] < 0:
        raise ValueError("a curve needs training sizes, none below 0")
    scores = [matrix(curve[int(size)]) for size in sizes]
    items = {y.shape[1] for y in scores}
    if len(items) > 1:
        raise ValueError(f"a curve needs the same items at every size, not {sorted(items)}")
    by_item = np.array([y.mean(axis=0) for y in scores])  # (sizes, items)
    n = by_item.shape[1]
    made = np.empty((count, len(sizes)))
    for row, at in enumerate(stats.resamples(n, groups, draws=count, seed=seed)):
        made[row] = by_item @ np.bincount(at, minlength=n) / len(at)
    if inflation != 1.0:
        centre = by_item.mean(axis=1)
        made = centre + inflation**0.5 * (made - centre)
    several = [y for y in scores if len(y) > 1]
    if several:
        df = sum(len(y) - 1 for y in several)
        spread = sum(seed_variance(y) * len(y) * (len(y) - 1) for y in several) / df  # between two seeds
        error = np.array([(spread / len(y)) ** 0.5 for y in scores])
        rng = np.random.default_rng([seed, 1 + stream])
        made += rng.standard_t(df, size=made.shape) * error
    return sizes, made


def overtaking(
    a: Mapping[int, Scores],
    b: Mapping[int, Scores],
    groups: Groups = None,
    level: float = 0.95,
    *,
    higher_is_better: bool = True,
    varies_with_seed: tuple[bool, bool] = (True, True),
    count: int = DRAWS,
    seed: int = 0,
    inflation: float = 1.0,
) -> Overtaking:
    """At how many labelled examples `a` overtakes `b`.

    Args:
        a: training size -> scores.
        b: the same for the other strategy; one that needs no training has one size (any), and its scores
            hold at all sizes of `a`.
        varies_with_seed: of a and of b, as in `stats.mean_interval`.
        inflation: of the items' variance, as in `draws`; 1 where they were not scored out of fold.

    Between sizes the means are linear in the logarithm of the size; beyond the sizes of either nothing is
    said. Equal means are not better. The interval is that of `at` over the draws, in which "not at the
    largest size" counts as beyond it, so that a bound may be open.

    Raises:
        ValueError: no size in common, items that differ, or a size below 1 in a curve of several.
    """
    items = {matrix(y).shape[1] for curve in (a, b) for y in curve.values()}
    if len(items) > 1:
        raise ValueError(f"both curves need the same items, not {sorted(items)}")
    sign = 1.0 if higher_is_better else -1.0
    size_a, drawn_a = draws(a, groups, count=count, seed=seed, stream=0, inflation=inflation)
    size_b, drawn_b = draws(b, groups, count=count, seed=seed, stream=1, inflation=inflation)
    knots = _knots(size_a, size_b)
    drawn = sign * (_at(knots, size_a, drawn_a) - _at(knots, size_b, drawn_b))
    mean_a, mean_b = (np.array([[matrix(curve[s]).mean() for s in sorted(curve)]]) for curve in (a, b))
    observed = sign * (_at(knots, size_a, mean_a) - _at(knots, size_b, mean_b))
    starts = _ahead_from(knots, drawn)
    low, high = np.quantile(starts, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    at, ahead = float(_ahead_from(knots, observed)[0]), drawn > 0
    return Overtaking(
        sizes=(int(knots[0]), int(knots[-1])),
        crossings=_crossings(knots, observed[0]),
        at=None if math.isinf(at) else at,
        low=None if low <= knots[0] else float(min(low, knots[-1])),
        high=None if math.isinf(high) else float(high),
        always=float(ahead.all(axis=1).mean()),
        never=float((~ahead).all(axis=1).mean()),
        lost_again=float((ahead.any(axis=1) & ~ahead[:, -1]).mean()),
        several=float(((ahead[:, 1:] != ahead[:, :-1]).sum(axis=1) > 1).mean()),
        note="; ".join(filter(None, (_without_seeds((a, b), varies_with_seed), _out_of_fold(inflation)))),
    )


def gain(
    curve: Mapping[int, Scores],
    more: int = 200,
    groups: Groups = None,
    level: float = 0.95,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    *,
    size: int | None = None,
    higher_is_better: bool = True,
    varies_with_seed: bool = True,
    count: int = DRAWS,
    seed: int = 0,
    inflation: float = 1.0,
) -> Gain | None:
    """Whether labelling `more` examples is worth it, beyond `size` (the largest measured, unless given).

    The power law (Hestness et al. 2017, arXiv 1712.00409) is fitted by least squares to each draw of the
    curve, with 0 <= b, 0 < c <= 2 and the asymptote inside the bounds: so more examples never harm in it,
    and its interval tells the noise of items and seeds, not whether the law holds. None for fewer than three
    sizes.
    """
    sizes, made = draws(curve, groups, count=count, seed=seed, inflation=inflation)
    size = int(sizes[-1]) if size is None else size
    if more < 1 or size < 1 or sizes[0] < 1:
        raise ValueError(f"{more} examples more than {size}, on a curve from {sizes[0]}: none may be below 1")
    if len(sizes) < FIT_FROM:
        return None
    sign = 1.0 if higher_is_better else -1.0
    best = math.inf if bounds is None else sign * bounds[1 if higher_is_better else 0]
    asymptote, height, exponent = _power_laws(sizes, sign * made, best)
    scale = float(sizes[-1])
    gains = height * ((size / scale) ** -exponent - ((size + more) / scale) ** -exponent)
    low, middle, high = np.quantile(gains, [(1 - level) / 2, 0.5, (1 + level) / 2])
    beyond = size + more > sizes[-1]
    unseen = _without_seeds((curve,), (varies_with_seed,))
    notes = [
        unseen,
        _out_of_fold(inflation),
        "beyond the sizes measured" if beyond else "",
        "takes the power law for granted",
    ]
    return Gain(
        size=size,
        more=more,
        expected=float(middle),
        interval=stats.Interval(
            float(low), float(high), "power law per draw", "; ".join(filter(None, notes))
        ),
        extrapolated=bool(beyond),
        asymptote=float(sign * np.median(asymptote)),
        exponent=float(np.median(exponent)),
    )


# --- parts -----------------------------------------------------------------------------------


def _knots(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sizes of either curve that lie within both; `b` of one size is known everywhere."""
    both = a if len(b) == 1 else np.union1d(a, b)
    low, high = (a[0], a[-1]) if len(b) == 1 else (max(a[0], b[0]), min(a[-1], b[-1]))
    knots: npt.NDArray[np.int64] = both[(low <= both) & (both <= high)]
    if not len(knots):
        raise ValueError(f"no size in common: {a[0]} to {a[-1]} and {b[0]} to {b[-1]}")
    if knots[0] < 1:
        raise ValueError("no logarithm of a training size below 1")
    return knots


def _at(knots: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], means: Floats) -> Floats:
    """(draws, knots): `means` (draws, sizes), linear in log size between them; of one size as they are."""
    if len(sizes) == 1:
        return np.repeat(means, len(knots), axis=1)
    x, at = np.log(sizes), np.log(knots)
    left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    share = (at - x[left]) / (x[left + 1] - x[left])
    between: Floats = means[:, left] * (1 - share) + means[:, left + 1] * share
    return between


def _zero(knots: npt.NDArray[np.int64], row: Floats, i: int) -> float:
    """Where the difference is 0 between knots i and i + 1."""
    x = np.log(knots[i : i + 2])
    return float(np.exp(x[0] + (x[1] - x[0]) * row[i] / (row[i] - row[i + 1])))


def _crossings(knots: npt.NDArray[np.int64], row: Floats) -> tuple[Crossing, ...]:
    ahead = row > 0
    changes = np.flatnonzero(ahead[1:] != ahead[:-1])
    return tuple(Crossing(_zero(knots, row, int(i)), bool(ahead[i + 1])) for i in changes)


def _ahead_from(knots: npt.NDArray[np.int64], rows: Floats) -> Floats:
    """(draws,): from which size on each draw is ahead to the end; inf where it is not ahead there."""
    behind = rows <= 0
    found = np.full(len(rows), float(knots[0]))
    found[behind[:, -1]] = np.inf
    last = behind.shape[1] - 1 - np.argmax(behind[:, ::-1], axis=1)
    for row in np.flatnonzero(behind.any(axis=1) & ~behind[:, -1]):
        found[row] = _zero(knots, rows[row], int(last[row]))
    return found


def _without_seeds(curves: Sequence[Mapping[int, Scores]], varies: Sequence[bool]) -> str:
    lone = (all(len(matrix(y)) == 1 for y in curve.values()) for curve in curves)
    unseen = any(one and by_seed for one, by_seed in zip(lone, varies, strict=True))
    return stats.WITHOUT_SEEDS if unseen else ""


def _out_of_fold(inflation: float) -> str:
    return stats.OUT_OF_FOLD if inflation != 1.0 else ""


def _power_laws(sizes: npt.NDArray[np.int64], y: Floats, best: float) -> tuple[Floats, Floats, Floats]:
    """Asymptote (at most `best`), height (at least 0) and exponent of each row of `y`, (draws, sizes).

    In sizes over the largest. With the exponent given the law is linear, and its least squares within the
    bounds have a closed form: so every exponent of `EXPONENTS` is tried for all rows at once.
    """
    least = np.full(len(y), np.inf)
    found = [np.empty(len(y)) for _ in range(3)]
    middle = y.mean(axis=1)
    for c in EXPONENTS:
        x = (sizes / sizes[-1]) ** -c
        b = np.maximum(-(y - middle[:, None]) @ (x - x.mean()) / np.square(x - x.mean()).sum(), 0.0)
        a = middle + b * x.mean()
        over = a > best
        a = np.where(over, best, a)
        b = np.where(over, np.maximum((a[:, None] - y) @ x / np.square(x).sum(), 0.0), b)
        error = np.square(y - a[:, None] + b[:, None] * x).sum(axis=1)
        better = error < least
        least = np.where(better, error, least)
        found = [
            np.where(better, new, old) for new, old in zip((a, b, np.full(len(y), c)), found, strict=True)
        ]
    return found[0], found[1], found[2]
