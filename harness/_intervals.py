"""Bounds and p values, by scipy and statsmodels: what `breakeven.harness.stats` chooses from.

Their modules take a second to import, so each function does it for itself.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from breakeven.harness._variance import Floats

Bounds: TypeAlias = "tuple[float, float] | None"


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
    """Two-sided p of a mean difference under random signs of whole groups (Fisher 1935), by scipy.

    All signs up to 13 groups, else `draws` random ones, counted as Phipson and Smyth (2010) do; beyond 2,000
    groups the normal limit of their sum.
    """
    from scipy import stats

    sums = sums[sums != 0]
    if len(sums) == 0:
        return 1.0
    if len(sums) > 2000:
        return float(2 * stats.norm.sf(abs(sums.sum()) / float(sums @ sums) ** 0.5))
    found = stats.permutation_test(
        (sums,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=draws,
        batch=max(1, 1_000_000 // len(sums)),
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def bca(y: Floats, level: float) -> tuple[float, float] | None:
    """None where it is not defined: scores so alike that resamples have no spread to correct."""
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # degenerate scores: told by the NaN
        found = stats.bootstrap(
            (y,),
            np.mean,
            method="BCa",
            vectorized=True,
            n_resamples=4999,
            batch=max(1, 1_000_000 // len(y)),
            axis=-1,
            confidence_level=level,
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if np.isfinite([low, high]).all() and low < high else None


def t_p(t: float, df: float) -> float:
    from scipy import stats

    return 2.0 * float(stats.t.sf(abs(t), df))


def wilson_bounds(share: float, n: float, critical: float) -> tuple[float, float]:
    """statsmodels takes a level: the normal one of this critical value (37 is the last that has one)."""
    from scipy import stats
    from statsmodels.stats.proportion import proportion_confint

    share = min(max(share, 0.0), 1.0)
    alpha = 2 * float(stats.norm.sf(min(critical, 37.0)))
    low, high = proportion_confint(share * n, n, alpha=alpha, method="wilson")
    return (0.0 if share == 0 else float(low)), (1.0 if share == 1 else float(high))


def clipped(low: float, high: float, bounds: Bounds, method: str, notes: list[str]) -> Interval:
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Interval(low, high, method, "; ".join(notes))


def z_quantile(level: float) -> float:
    from scipy import stats

    return float(stats.norm.ppf((1 + level) / 2))


def t_quantile(level: float, df: float) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, df))
