"""How many items an experiment needs, and what it can see with those it has.

Plans differences between two strategies scored on the same items; `breakeven.harness.stats` judges them.
"""

from __future__ import annotations

import math


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


def discordant_power(difference: float, discordant: float, n: int, alpha: float = 0.05) -> float:
    """Power of the two-sided paired test on 0/1 scores of `n` items (Connor 1987, unpooled variance).

    `discordant` is the share of items on which the two strategies disagree; the variance of an item's
    difference is then discordant - difference^2.
    """
    from scipy import stats

    z = float(stats.norm.ppf(1 - alpha / 2))
    shift = abs(difference) * math.sqrt(n / discordant_variance(difference, discordant))
    return float(stats.norm.cdf(shift - z) + stats.norm.cdf(-shift - z))


def discordant_variance(difference: float, discordant: float) -> float:
    """Variance of an item's difference between two 0/1 scores; goes into `sample_size` as `variance`."""
    if not abs(difference) < discordant <= 1:
        raise ValueError(f"a difference of {difference} needs more than {discordant} discordant pairs")
    return discordant - difference**2


def _noise(variance: float, resampling: tuple[float, float], samples: tuple[int, int]) -> float:
    return variance + resampling[0] / samples[0] + resampling[1] / samples[1]


def _z_sum(alpha: float, power: float) -> float:
    from scipy import stats

    return float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
