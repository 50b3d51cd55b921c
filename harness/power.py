"""How many items an experiment needs, and what it can see with those it has.

Plans differences between two strategies scored on the same items; `breakeven.harness.stats` judges them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from breakeven.harness._distributions import normal_quantile, normal_tail
from breakeven.harness._variance import (
    Floats,
    Groups,
    Scores,
    cluster_positions,
    clustered_variance,
    matrix,
    seed_variance,
)

#: omega^2 of a graded score in [0, 1], where nothing was measured yet: the value that Miller 2024 plans with.
ASSUMED_VARIANCE = 1 / 9
#: Shares of examples on which two strategies may disagree, where nothing was measured yet.
ASSUMED_DISCORDANT = (0.1, 0.2, 0.3)


@dataclass(frozen=True, slots=True)
class Needed:
    """How many items would show a difference: `total`, of which `more` are not there yet.

    Both are None where no number of items would do; `reason` says why.
    """

    difference: float
    more: int | None
    total: int | None
    reason: str = ""

    def __str__(self) -> str:
        """ "about 540 more examples", to two digits: more than two would be pretended."""
        if self.more is None:
            return self.reason
        if self.more == 0:
            return "no more examples"
        digits = max(0, len(str(self.more)) - 2)
        return f"about {round(self.more, -digits):,} more examples"


def sample_size(
    difference: float,
    variance: float,
    *,
    resampling: tuple[float, float] = (0.0, 0.0),
    samples: tuple[int, int] = (1, 1),
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Items needed to see `difference` between two means: Miller 2024 (arXiv 2411.00640) eq. 9.

    Args:
        difference: the smallest difference worth seeing, as a share (0.03 is three points).
        variance: omega^2, of the difference of the two strategies' expected scores on an item.
        resampling: sigma_A^2 and sigma_B^2, mean variance of a score on one item when asked again.
        samples: K_A and K_B, how often each item is asked.
    """
    if difference == 0:
        raise ValueError("no number of items shows a difference of 0")
    return math.ceil(_z_sum(alpha, power) ** 2 * _noise(variance, resampling, samples) / difference**2 - 1e-9)


def minimum_detectable_effect(
    n: int,
    variance: float,
    *,
    resampling: tuple[float, float] = (0.0, 0.0),
    samples: tuple[int, int] = (1, 1),
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest difference that `n` items show: Miller 2024 eq. 10. Arguments as in `sample_size`."""
    if n < 1:
        raise ValueError(f"{n} items")
    return float(_z_sum(alpha, power) * math.sqrt(_noise(variance, resampling, samples) / n))


def examples_needed(
    a: Scores,
    b: Scores,
    groups: Groups = None,
    difference: float | None = None,
    *,
    span: float | None = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Needed:
    """Items needed to see `difference` between two strategies that were compared on some.

    Args:
        a, b: (seeds, items) or (items,), the same items in the same order.
        groups: as in `stats.paired_difference`; further items are thought to come in groups of the same size.
        difference: to be seen, in units of the score; the observed one unless given.
        span: range of a score, None where it is open. With it, no disagreement is not taken for no variance:
            the bound of Bonett and Price (2012) is, one item won and one lost more.

    The variance that shrinks with items is that of their differences, clustered (Miller 2024, eq. 7 and 9).
    The variance of the seeds does not: where it alone hides the difference, more seeds are needed, not items.
    """
    d, variance, seeds = _variances(a, b, groups, span)
    items = len(d)
    wanted = abs(float(d.mean()) if difference is None else difference)
    if wanted < 1e-12:
        return Needed(0.0, None, None, "no difference was seen, so no number of examples would confirm one")
    if variance == 0:
        return Needed(wanted, None, None, "all differences are equal, so their variance is unknown")
    left_over = (wanted / _z_sum(alpha, power)) ** 2 - seeds
    if left_over <= 0:
        return Needed(wanted, None, None, "seeds vary too much for more examples to help: more seeds would")
    total = math.ceil(variance * items / left_over - 1e-9)
    return Needed(wanted, max(0, total - items), max(total, items))


def detectable_here(
    a: Scores,
    b: Scores,
    groups: Groups = None,
    *,
    span: float | None = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float | None:
    """The smallest difference that the items on which two strategies were compared would show.

    Arguments as in `examples_needed`, its inverse: items, clustered, and seeds as they vary here. None where
    that is unknown. What was seen has no part in it; a difference below it may well have been missed.
    """
    _, variance, seeds = _variances(a, b, groups, span)
    return _z_sum(alpha, power) * math.sqrt(variance + seeds) if variance > 0 else None


def _variances(a: Scores, b: Scores, groups: Groups, span: float | None) -> tuple[Floats, float, float]:
    """((items,) differences, variance of their mean from the items, and from the seeds)."""
    left, right = matrix(a), matrix(b)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"{left.shape[1]} items against {right.shape[1]}")
    clusters = cluster_positions(groups, left.shape[1])
    d = left.mean(axis=0) - right.mean(axis=0)
    variance = clustered_variance(d, clusters, small_sample=True) if len(clusters) > 1 else 0.0
    if span is not None:
        variance = max(variance, 2 * (span / (len(clusters) + 2)) ** 2)
    return d, variance, sum(seed_variance(y) for y in (left, right) if len(y) > 1)


def detectable_discordant(
    n: int, discordant: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest difference of two 0/1 scores that `n` items show, when they disagree on such a share.

    `discordant_variance` in `minimum_detectable_effect`, solved for the difference: z sqrt(discordant / (n +
    z^2)). None where even disagreement that all goes one way would not be seen.
    """
    if n < 1:
        raise ValueError(f"{n} items")
    z = _z_sum(alpha, power)
    found = z * math.sqrt(discordant / (n + z**2))
    return found if found < discordant else None


def discordant_power(difference: float, discordant: float, n: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired test on 0/1 scores of `n` items (Connor 1987, unpooled variance).

    `discordant` is the share of items on which the two strategies disagree; the variance of an item's
    difference is then discordant - difference^2.
    """
    z = normal_quantile(1 - alpha / 2)
    shift = abs(difference) * math.sqrt(n / discordant_variance(difference, discordant))
    return normal_tail(z - shift) + normal_tail(shift + z)


def discordant_variance(difference: float, discordant: float) -> float:
    """Variance of an item's difference between two 0/1 scores; goes into `sample_size` as `variance`."""
    if not abs(difference) < discordant <= 1:
        raise ValueError(f"a difference of {difference} needs more than {discordant} discordant pairs")
    return discordant - difference**2


def _noise(variance: float, resampling: tuple[float, float], samples: tuple[int, int]) -> float:
    return variance + resampling[0] / samples[0] + resampling[1] / samples[1]


def _z_sum(alpha: float, power: float) -> float:
    return normal_quantile(1 - alpha / 2) + normal_quantile(power)
