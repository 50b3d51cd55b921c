"""How sure we are: intervals for a mean score, and differences between two strategies.

Arrays in, small frozen dataclasses out; nothing here knows tasks or runs. Scores are (seeds, items), or
(items,) for one seed. Planning (sample size, power) is in `breakeven.harness.power`, several training
sizes in `breakeven.harness.curves`. Where scipy or statsmodels have a formula, the values are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from breakeven.harness._distributions import binomial_cdf, binomial_quantile, chi2_tail
from breakeven.harness._intervals import (
    Bounds,
    bca,
    bonett_price,
    clipped,
    sign_flip_p,
    t_p,
    t_quantile,
    wilson_bounds,
    z_quantile,
)
from breakeven.harness._intervals import Interval as Interval
from breakeven.harness._variance import (
    Floats,
    Groups,
    Scores,
    cluster_positions,
    cluster_sums,
    clustered_variance,
    matrix,
    satterthwaite,
    seed_variance,
    variance_of_mean,
)
from breakeven.harness.crossfit import Folds, variance_parts

WITHOUT_SEEDS = "excludes seed variance"
OUT_OF_FOLD = "scored out of fold; widened for shared training rows"
#: Graded scores from which BCa is taken: with fewer, simulations show t to cover as well or better.
BCA_FROM = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better `a` is than `b` on the same items.

    `won`, `lost` and `tied` count items by the mean over seeds; `p` is two-sided, `test` says by which test
    ("exact McNemar", "sign-flip permutation", "t"). Where no test was asked for they are None and "".
    """

    value: float
    interval: Interval
    won: int
    lost: int
    tied: int
    p: float | None
    test: str


@dataclass(frozen=True, slots=True)
class McNemar:
    """`statistic` is chi-square with one degree of freedom, without correction; `p_exact` is two-sided."""

    statistic: float
    p_chi2: float
    p_exact: float


@dataclass(frozen=True, slots=True)
class Percentile:
    """A sample percentile and its distribution-free 95 % bounds.

    A bound is None where `n` values cannot give one (the 95th percentile of 8 values has no upper bound);
    `note` says how many would.
    """

    value: float
    n: int
    low: float | None
    high: float | None
    note: str = ""


# --- one mean --------------------------------------------------------------------------------


def wilson(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share (Wilson 1927), by statsmodels.

    `successes` and `n` need not be whole: an effective sample size may be given. Raises ValueError unless
    0 <= successes <= n and n > 0.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"{successes} successes of {n}")
    low, high = wilson_bounds(successes / n, n, z_quantile(level))
    return Interval(low, high, "Wilson")


def mean_interval(
    scores: Scores,
    groups: Groups = None,
    level: float = 0.95,
    bounds: Bounds = (0.0, 1.0),
    *,
    varies_with_seed: bool = True,
    folds: Folds | None = None,
) -> Interval:
    """The interval of a mean score over items (and seeds), for items and seeds not seen.

    Args:
        scores: (seeds, items), or (items,) for one seed.
        groups: one label an item (document, author); items of one group count as dependent. None in the
            sequence is a group of its own.
        bounds: (lowest, highest) possible score; None where it is open.
        varies_with_seed: False for a strategy without chance; one row is then all there is to know.
        folds: where the items were scored out of fold; their fits share training rows, which widens the
            interval as `crossfit` says.

    The variance of the mean is that of the item means, clustered by group, plus that of the seed means.
    Noise that is neither item nor seed is in both, so the sum errs on the wide side; its degrees of freedom
    are Satterthwaite's (1946). From it comes
    - for 0/1 scores, Wilson's form with the effective sample size mean (1 - mean) / variance and the t
      quantile (after Korn and Graubard 1998), which stays inside the bounds and does not shrink to nothing
      near them; plainly Wilson for one seed and no groups;
    - for graded scores of one seed without groups the bias-corrected accelerated bootstrap (BCa, Efron 1987),
      which follows their skewness; from 20 items on, as resamples of fewer are too alike;
    - for other graded scores a t interval, clipped to the bounds.
    Scores that are all equal say nothing about their variance: then the widest that is possible at this mean,
    mean (1 - mean) on the range, is taken for every item (every group, if grouped), again in Wilson's form.
    """
    y = matrix(scores)
    clusters = cluster_positions(groups, y.shape[1])
    notes = [WITHOUT_SEEDS] if len(y) == 1 and varies_with_seed else []
    notes += _group_note(y.shape[1], clusters)
    mean = float(y.mean())
    variance, df = variance_of_mean(y, clusters) if folds is None else _out_of_fold(y, folds, groups)
    known = len(clusters) > 1 and variance > 0
    plain = len(y) == 1 and len(clusters) == y.shape[1] and folds is None
    notes += [OUT_OF_FOLD] if folds is not None else []
    if bounds is None:
        if not known:
            raise ValueError("the scores have no variance (or there is one item or group); give bounds")
        return _graded(y, mean, t_quantile(level, df) * variance**0.5, level, bounds, notes, plain)

    lowest, span = bounds[0], bounds[1] - bounds[0]
    if y.min() < lowest - 1e-9 or y.max() > bounds[1] + 1e-9:
        raise ValueError(f"scores from {y.min():g} to {y.max():g} are outside the bounds {bounds}")
    share = (mean - lowest) / span
    binary = bool(np.isin(y, bounds).all())
    if binary and plain:
        method, (low, high) = "Wilson", wilson_bounds(share, y.size, z_quantile(level))
    elif not known:
        notes.append("scores are all equal, so their variance is bounded, not estimated")
        n = len(clusters) / (folds.factor if folds is not None else 1.0)
        method, (low, high) = "Wilson on the range", wilson_bounds(share, n, z_quantile(level))
    elif binary:
        effective = min(share * (1 - share) * span**2 / variance, y.size)
        method, (low, high) = (
            "Wilson, effective sample size",
            wilson_bounds(share, effective, t_quantile(level, df)),
        )
    else:
        return _graded(y, mean, t_quantile(level, df) * variance**0.5, level, bounds, notes, plain)
    return Interval(lowest + span * low, lowest + span * high, method, "; ".join(notes))


#: Resamples of a bootstrap that is stored with a run: enough for p down to 0.002, before any adjustment.
DRAWS = 1000


def resamples(
    items: int, groups: Groups = None, *, draws: int = DRAWS, seed: int = 0
) -> Iterator[npt.NDArray[np.intp]]:
    """Positions drawn with replacement, whole groups at a time; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(draws):
            yield rng.integers(items, size=items)
        return
    clusters = cluster_positions(groups, items)
    for _ in range(draws):
        yield np.concatenate([clusters[j] for j in rng.integers(len(clusters), size=len(clusters))])


def draws_interval(
    values: Scores,
    level: float = 0.95,
    *,
    seeds: Sequence[Scores] = (),
    varies_with_seed: bool = True,
    inflation: float = 1.0,
) -> Interval:
    """The percentile bootstrap (Efron 1979) from draws of an aggregate that is no mean, or of a difference.

    Args:
        values: (draws,); the mean over seeds of each draw.
        seeds: the aggregate of each seed, (seeds,); for a difference those of either side. With two or more
            on a side their variance is added: the bounds move away from the median as standard error and
            Satterthwaite's t against the normal quantile do.
        varies_with_seed: False where chance has no part, so that one seed leaves nothing out.
        inflation: of the variance, where the items were scored out of fold (`crossfit.variance_inflation`).
    """
    x = np.asarray(values, dtype=float)
    if inflation != 1.0:
        x = x.mean() + np.sqrt(inflation) * (x - x.mean())
    low, middle, high = np.quantile(x, [(1 - level) / 2, 0.5, (1 + level) / 2])
    error, df, complete = _with_seeds(x, seeds)
    notes = [] if complete or not varies_with_seed else [WITHOUT_SEEDS]
    if low == high:
        notes.append("every resample gives the same value, so the width is unknown")
    elif error > x.std(ddof=1):
        wider = error / x.std(ddof=1) * t_quantile(level, df) / z_quantile(level)
        low, high = middle - wider * (middle - low), middle + wider * (high - middle)
    return Interval(float(low), float(high), "bootstrap", "; ".join(notes))


def draws_p(values: Scores, *, seeds: Sequence[Scores] = ()) -> tuple[float, str]:
    """Two-sided p of a difference that is no mean, from its draws, and the test's name.

    Twice the smaller share of draws on either side of 0, counted with one draw more (Davison and Hinkley
    1997, section 4.2); where `seeds` (as in `draws_interval`) add variance, Satterthwaite's t.
    """
    x = np.asarray(values, dtype=float)
    error, df, _ = _with_seeds(x, seeds)
    if error > x.std(ddof=1):
        return t_p(float(x.mean()) / error, df), "t"
    fewer = min(int((x <= 0).sum()), int((x >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(x) + 1)), "bootstrap"


def _with_seeds(values: Floats, seeds: Sequence[Scores]) -> tuple[float, float, bool]:
    """Standard error of draws and seeds, its degrees of freedom, and whether every side has seeds."""
    sides = [np.asarray(side, dtype=float)[:, None] for side in seeds]
    several = [side for side in sides if len(side) > 1]
    parts = [(float(values.var(ddof=1)), float("inf"))]
    variance, df = satterthwaite(parts + [(seed_variance(side), len(side) - 1.0) for side in several])
    return variance**0.5, df, bool(sides) and len(several) == len(sides)


def bootstrap_interval(
    statistic: Callable[[npt.NDArray[np.intp]], float],
    items: int,
    groups: Groups = None,
    level: float = 0.95,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """`draws_interval` over `resamples`; `statistic(indices)` aggregates the items at these positions."""
    return draws_interval(
        [statistic(indices) for indices in resamples(items, groups, draws=draws, seed=seed)], level
    )


# --- two strategies --------------------------------------------------------------------------


def paired_difference(
    a: Scores,
    b: Scores,
    groups: Groups = None,
    level: float = 0.95,
    bounds: Bounds = (0.0, 1.0),
    *,
    varies_with_seed: tuple[bool, bool] = (True, True),
    folds: Folds | None = None,
    tested: bool = True,
) -> Difference:
    """`a` minus `b` on the same items in the same order; the numbers of seeds may differ.

    Args:
        a, b: (seeds, items) or (items,).
        groups, level: as in `mean_interval`.
        bounds: of a score, not of the difference.
        varies_with_seed: of a and of b, as in `mean_interval`.
        folds: as in `mean_interval`, if either side was scored out of fold.
        tested: False where only the interval is wanted; a test by permutation takes most of the time.

    - 0/1 scores, one seed, no groups: the interval of Bonett and Price (2012), Wald's with one more item won
      and one more lost, and McNemar's exact test.
    - Otherwise the clustered variance of the item differences (Miller 2024, eq. 7) plus the seed variance
      of each side (seeds of two strategies have nothing in common), Satterthwaite's t. For p: the same t with
      two seeds or more on a side, else sign flips of whole groups.
    Near-equal 0/1 scores never look surer than Bonett and Price's interval at no disagreement, and
    graded differences that are all equal get that interval on the range.
    """
    left, right = matrix(a), matrix(b)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"{left.shape[1]} items against {right.shape[1]}")
    items = left.shape[1]
    clusters = cluster_positions(groups, items)
    d = left.mean(axis=0) - right.mean(axis=0)
    d[np.abs(d) < 1e-12] = 0.0
    value, won, lost = float(d.mean()), int((d > 0).sum()), int((d < 0).sum())
    counts = won, lost, items - won - lost
    binary = bounds is not None and bool(np.isin(left, bounds).all() and np.isin(right, bounds).all())
    span = bounds[1] - bounds[0] if bounds is not None else None
    notes = _group_note(items, clusters)
    if any(len(side) == 1 and varies for side, varies in zip((left, right), varies_with_seed, strict=True)):
        notes.insert(0, WITHOUT_SEEDS)
    single = len(left) == len(right) == 1

    notes += [OUT_OF_FOLD] if folds is not None else []
    if single and binary and span is not None and len(clusters) == items and folds is None:
        interval = bonett_price(won, lost, items, span, level, notes)
        if not tested:
            return Difference(value, interval, *counts, None, "")
        return Difference(value, interval, *counts, mcnemar(won, lost).p_exact, "exact McNemar")

    parts = [variance_of_mean(d[None, :], clusters)]
    if folds is not None:
        parts = variance_parts(d, folds, groups)
    parts += [(seed_variance(y), len(y) - 1.0) for y in (left, right) if len(y) > 1]
    variance, df = satterthwaite(parts)
    known = len(clusters) > 1 and variance > 0
    if known:
        error = variance**0.5
        if binary and span is not None:
            error = max(error, span * 2**0.5 / (len(clusters) + 2))
        half = t_quantile(level, df) * error
        limits = (-span, span) if span is not None else None
        interval = clipped(value - half, value + half, limits, "t", notes)
    elif span is not None:
        notes.append("all differences are equal, so their variance is bounded, not estimated")
        n, share = len(clusters) / (folds.factor if folds is not None else 1.0), value / span
        interval = bonett_price(n * max(share, 0.0), n * max(-share, 0.0), n, span, level, notes)
    else:
        raise ValueError("the differences have no variance (or there is one item or group); give bounds")
    if not tested:
        return Difference(value, interval, *counts, None, "")
    if known and (not single or folds is not None):
        return Difference(value, interval, *counts, t_p(value / error, df), "t")
    p = sign_flip_p(cluster_sums(d, clusters))
    return Difference(value, interval, *counts, p, "sign-flip permutation")


def mcnemar(won: int, lost: int) -> McNemar:
    """McNemar's test on the discordant pairs (McNemar 1947)."""
    if won + lost == 0:
        return McNemar(0.0, 1.0, 1.0)
    chi2 = (won - lost) ** 2 / (won + lost)
    exact = min(1.0, 2 * binomial_cdf(min(won, lost), won + lost, 0.5))
    return McNemar(chi2, chi2_tail(chi2), exact)


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979), in the order given.

    As statsmodels' `multipletests`, which collects the garbage of the whole process at every call: a third of
    a second beside 100,000 predictions.
    """
    p = np.asarray(ps, dtype=float)
    order = np.argsort(p)
    raised = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    adjusted = np.empty_like(p)
    adjusted[order] = raised
    return [float(x) for x in adjusted]


def clustered_se(scores: Scores, groups: Groups = None, *, small_sample: bool = False) -> float:
    """Standard error of the mean of `scores` (items,) when items of a group are dependent.

    Miller 2024 (arXiv 2411.00640) eq. 4, as the sum over groups of squared sums of deviations over n^2;
    without groups the naive standard error. `small_sample`: the variance times G / (G - 1) for G groups.
    """
    y = np.asarray(scores, dtype=float).ravel()
    clusters = cluster_positions(groups, len(y))
    return float(clustered_variance(y, clusters, small_sample) ** 0.5)


# --- latency ---------------------------------------------------------------------------------


def percentile(values: Scores, q: float, level: float = 0.95) -> Percentile:
    """The q-th percentile (0 < q < 100), linear between order statistics (Hyndman and Fan 1996, type 7).

    Bounds are order statistics that the binomial puts below and above the true percentile with
    probability (1 + level) / 2 each (David and Nagaraja 2003, section 7.1), whatever the distribution.
    """
    x = np.sort(np.asarray(values, dtype=float).ravel())
    if not 0 < q < 100:
        raise ValueError(f"percentile {q} is not between 0 and 100")
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("a percentile needs finite values, at least one")
    n, share, tail = len(x), q / 100, (1 - level) / 2
    below = binomial_quantile(tail, n, share)  # P(fewer than `below` values lie under it) <= tail
    low = float(x[below - 1]) if below >= 1 else None
    above = binomial_quantile(1 - tail, n, share) + 1
    high = float(x[above - 1]) if above <= n else None
    notes = []
    for bound, side, base in ((low, "lower", 1 - share), (high, "upper", share)):
        if bound is None:
            needed = int(np.ceil(np.log(tail) / np.log(base)))
            notes.append(f"{n} values give no {side} bound ({needed} would)")
    return Percentile(float(np.quantile(x, share)), n, low, high, "; ".join(notes))


# --- parts --------------------------------------------------------------------------------------


def _graded(
    y: Floats, mean: float, half: float, level: float, bounds: Bounds, notes: list[str], plain: bool
) -> Interval:
    """BCa where the scores are `plain` (one seed, no groups) and many enough, else t with this half width."""
    if plain and y.size >= BCA_FROM:
        found = bca(y[0], level)
        if found is not None:
            return Interval(*found, "BCa bootstrap", "; ".join(notes))
        notes = [*notes, "BCa cannot be computed on these scores"]
    return clipped(mean - half, mean + half, bounds, "t", notes)


def _out_of_fold(y: Floats, folds: Folds, groups: Groups) -> tuple[float, float]:
    """`variance_of_mean` for scores out of fold."""
    parts = variance_parts(y, folds, groups)
    return satterthwaite(parts + ([(seed_variance(y), len(y) - 1.0)] if len(y) > 1 else []))


def _group_note(items: int, clusters: Sequence[object]) -> list[str]:
    return [f"{items} items in {len(clusters)} groups"] if len(clusters) < items else []
