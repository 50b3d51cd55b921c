"""Resamples of an aggregate that are all alike: bounded by the number of examples, as equal scores are.

Six right answers of six have macro-F1 1 in every resample; that shows no more than their accuracy of 1 does.
What `stats.mean_interval` and `stats.paired_difference` say of scores that do not vary is said here of draws
that do not; `draws` spreads them by the same number of examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breakeven.harness._intervals import (
    Bounds,
    Interval,
    bonett_price,
    sign_flip_p,
    t_quantile,
    wilson_bounds,
    z_quantile,
)
from breakeven.harness._variance import Groups, Scores, cluster_positions, satterthwaite, seed_variance

NOTE = "every resample gives the same value, so its variance is bounded, not estimated"


def alike(values: Scores) -> bool:
    """Whether draws have no spread beyond rounding."""
    x = np.asarray(values, dtype=float)
    return bool(np.ptp(x) <= 1e-12 * max(1.0, float(np.abs(x).max())))


def drawn(items: int, groups: Groups, inflation: float = 1.0) -> float:
    """How many independent things a resample draws: items or groups, fewer where scored out of fold."""
    return len(cluster_positions(groups, items)) / inflation


def interval(
    value: float,
    n: float,
    bounds: Bounds,
    *,
    seeds: Sequence[float] = (),
    notes: str = "",
    level: float = 0.95,
) -> Interval | None:
    """Wilson's on the range, as of `n` equal scores; None where the range is open, which bounds nothing.

    Args:
        seeds: the aggregate of each seed; where they differ, the interval is no narrower than their t.
    """
    if bounds is None:
        return None
    lowest, span = bounds[0], bounds[1] - bounds[0]
    low, high = (lowest + span * x for x in wilson_bounds((value - lowest) / span, n, z_quantile(level)))
    if len(seeds) > 1:
        apart, df = satterthwaite(
            [(seed_variance(np.asarray(seeds, dtype=float)[:, None]), len(seeds) - 1.0)]
        )
        half = t_quantile(level, df) * apart**0.5 if apart > 0 else 0.0
        low, high = max(bounds[0], min(low, value - half)), min(bounds[1], max(high, value + half))
    return Interval(low, high, "Wilson on the range", "; ".join(x for x in (notes, NOTE) if x))


def difference(
    value: float, n: float, bounds: Bounds, *, notes: str = "", level: float = 0.95
) -> Interval | None:
    """Bonett and Price's on the range, as of `n` equal differences; None where the range is open."""
    if bounds is None:
        return None
    span = bounds[1] - bounds[0]
    up, down = n * max(value / span, 0.0), n * max(-value / span, 0.0)
    return bonett_price(up, down, n, span, level, [x for x in (notes, NOTE) if x])


def p_value(value: float, n: float) -> tuple[float, str]:
    """Two-sided p of `n` equal differences, and the test's name."""
    sums = np.full(max(int(n), 1), value if abs(value) > 1e-12 else 0.0)
    return sign_flip_p(sums), "sign-flip permutation"
