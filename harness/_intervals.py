"""Bounds and p values, as scipy and statsmodels define them: what `breakeven.harness.stats` chooses from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from breakeven.harness import _distributions
from breakeven.harness._distributions import normal_quantile, normal_tail, t_tail
from breakeven.harness._variance import Floats

Bounds: TypeAlias = "tuple[float, float] | None"
Flips: TypeAlias = "npt.NDArray[np.bool_]"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval: how it was made, and what the reader must know about it."""

    low: float
    high: float
    method: str
    note: str = ""


def bonett_price(won: float, lost: float, n: float, span: float, level: float, notes: list[str]) -> Interval:
    """Interval for p(won) - p(lost), on scores of range `span` (Bonett and Price 2012)."""
    up, down, total = (won + 1) / (n + 2), (lost + 1) / (n + 2), n + 2
    centre = up - down
    half = z_quantile(level) * max(0.0, (up + down - centre**2) / total) ** 0.5
    return clipped(span * (centre - half), span * (centre + half), (-span, span), "Bonett-Price", notes)


def sign_flip_p(sums: Floats, draws: int = 9999) -> float:
    """Two-sided p of a mean difference under random signs of whole groups (Fisher 1935).

    All signs up to 13 groups, else `draws` random ones, counted as Phipson and Smyth (2010) do; beyond 2,000
    groups the normal limit of their sum. It is scipy's `permutation_test` of one sample, to the last draw and
    the last digit, without the array of permuted pairs that it makes of every sign.
    """
    sums = sums[sums != 0]
    groups = len(sums)
    if groups == 0:
        return 1.0
    if groups > 2000:
        return 2 * normal_tail(abs(float(sums.sum())) / float(sums @ sums) ** 0.5)
    every = 2**groups <= draws
    observed = float(sums.sum())
    near = 100 * np.finfo(float).eps * abs(observed)  # closer than this is rounding, not a difference
    lower = higher = extra = 0 if every else 1
    for flipped in _all_signs(groups) if every else _random_signs(groups, draws):
        # (groups, draws), added up group after group as scipy does: what ties there must tie here
        total = np.where(flipped, -sums[:, None], sums[:, None]).sum(axis=0)
        lower += int((total <= observed + near).sum())
        higher += int((total >= observed - near).sum())
    return min(1.0, 2 * min(lower, higher) / ((2**groups if every else draws) + extra))


def _all_signs(groups: int) -> Iterator[Flips]:
    """Every combination of signs, (groups, 2**groups)."""
    yield (np.arange(2**groups) >> np.arange(groups)[:, None]) & 1 == 1


def _random_signs(groups: int, draws: int) -> Iterator[Flips]:
    """Random signs in batches, (groups, draws of the batch).

    A pair is permuted by one bit of the generator: the lowest of each half of its 64, the lower half first;
    a pair is swapped where the bit is 0.
    """
    bits, left = np.random.default_rng(0).bit_generator, np.empty(0, dtype=np.uint32)
    batch = min(max(1, 1_000_000 // groups), draws)
    for start in range(0, draws, batch):
        wanted = batch * groups - len(left)
        drawn = np.asarray(bits.random_raw((wanted + 1) // 2), dtype="<u8").view("<u4")
        halves = np.concatenate([left, drawn])
        left = halves[batch * groups :]
        swapped = (halves[: batch * groups] & 1 == 0).reshape(batch, groups)[: draws - start]
        yield np.ascontiguousarray(swapped.T)


#: Resamples of a BCa interval, and the most bytes of their positions that are kept for the next strategy.
RESAMPLES, KEPT = 4999, 128_000_000


def bca(y: Floats, level: float) -> tuple[float, float] | None:
    """The bias-corrected accelerated bootstrap of a mean (Efron and Tibshirani 1993, 14.3 and 15.4).

    None where it is not defined: scores so alike that resamples have no spread to correct. It is scipy's
    `bootstrap` on the same resamples; means that leave one out come from the sum, so that 50,000 scores need
    no array of 50,000 squared.
    """
    from scipy.special import ndtr, ndtri

    mean, left_out = y.mean(), (y.sum() - y) / (len(y) - 1)
    drawn = np.concatenate([y[picked].mean(axis=-1) for picked in _resamples(len(y))])
    with np.errstate(all="ignore"):  # degenerate scores: told by the NaN
        bias = ndtri((np.count_nonzero(drawn < mean) + np.count_nonzero(drawn <= mean)) / (2 * len(drawn)))
        apart = (len(y) - 1) * (left_out.mean() - left_out)
        acceleration = (apart**3).sum() / len(y) ** 3 / (6 * ((apart**2).sum() / len(y) ** 2) ** 1.5)
        shifted = bias + ndtri((1 - level) / 2) * np.array([1.0, -1.0])
        at = ndtr(bias + shifted / (1 - acceleration * shifted))
    if not np.isfinite(at).all():
        return None
    low, high = (float(x) for x in np.quantile(drawn, at))
    return (low, high) if low < high else None


def _resamples(n: int) -> Iterator[npt.NDArray[np.integer]]:
    """`RESAMPLES` times `n` positions with replacement, in batches; the same whenever asked."""
    if RESAMPLES * n * np.min_scalar_type(n).itemsize <= KEPT:
        yield from _kept_resamples(n)
        return
    rng, rows = np.random.default_rng(0), max(1, 1_000_000 // n)
    for start in range(0, RESAMPLES, rows):
        yield rng.integers(n, size=(min(rows, RESAMPLES - start), n))


@lru_cache(maxsize=1)
def _kept_resamples(n: int) -> tuple[npt.NDArray[np.integer], ...]:
    rng, rows, small = np.random.default_rng(0), max(1, 1_000_000 // n), np.min_scalar_type(n)
    return tuple(
        rng.integers(n, size=(min(rows, RESAMPLES - start), n)).astype(small)
        for start in range(0, RESAMPLES, rows)
    )


def t_p(t: float, df: float) -> float:
    return 2.0 * t_tail(abs(t), df)


def wilson_bounds(share: float, n: float, critical: float) -> tuple[float, float]:
    """The score interval (Wilson 1927) at a critical value; statsmodels' `proportion_confint`, to the digit.

    That takes a level: the normal one of the critical value, of which 37 is the last that has one.
    """
    share = min(max(share, 0.0), 1.0)
    critical = -normal_quantile(normal_tail(min(critical, 37.0)))
    observed, squared = share * n / n, critical**2
    centre = (observed + squared / (2 * n)) / (1 + squared / n)
    reach = critical * math.sqrt(observed * (1 - observed) / n + squared / (4 * n**2)) / (1 + squared / n)
    low, high = centre - reach, centre + reach
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def clipped(low: float, high: float, bounds: Bounds, method: str, notes: list[str]) -> Interval:
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(low, high, method, "; ".join(notes))


def z_quantile(level: float) -> float:
    return normal_quantile((1 + level) / 2)


def t_quantile(level: float, df: float) -> float:
    return float(_distributions.t_quantile((1 + level) / 2, df))
