"""The distributions that intervals and tests need, from `scipy.special`.

`scipy.stats` has all of them, and statsmodels what is made of them, but with the rest of theirs they take a
second to import: as long as a report of a small run takes otherwise. Values are theirs.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"


def normal_cdf(z: Any) -> Any:
    from scipy.special import ndtr

    return ndtr(z)


def normal_quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def normal_tail(z: float) -> float:
    """P(Z > z)."""
    from scipy.special import ndtr

    return float(ndtr(-z))


def t_quantile(share: Any, df: float) -> Any:
    """Student's t; the normal distribution where `df` is infinite."""
    from scipy.special import ndtri, stdtrit

    return ndtri(share) if math.isinf(df) else stdtrit(df, share)


def t_tail(t: float, df: float) -> float:
    """P(T > t)."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(-t) if math.isinf(df) else stdtr(df, -t))


def beta_quantile(share: Floats, a: float, b: float) -> Floats:
    from scipy.special import betaincinv

    made: Floats = betaincinv(a, b, share)
    return made


def chi2_tail(x: float) -> float:
    """P(X > x) with one degree of freedom."""
    from scipy.special import chdtrc

    return float(chdtrc(1, x))


def binomial_cdf(most: int, n: int, share: float) -> float:
    """P(at most `most` of `n`)."""
    return float(_up_to(np.array([most]), n, share)[0])


def binomial_quantile(level: float, n: int, share: float) -> int:
    """The smallest count that at most so many of `n` are with probability `level` or more."""
    # a sum of probabilities that is the level but for rounding has reached it
    return int(np.searchsorted(_up_to(np.arange(n + 1), n, share), level * (1 - 1e-12)))


def _up_to(counts: npt.NDArray[np.intp], n: int, share: float) -> Floats:
    """P(at most so many of `n`) for each count, by the incomplete beta function."""
    from scipy.special import betainc

    made: Floats = np.where(counts < n, betainc(np.maximum(n - counts, 1), counts + 1, 1 - share), 1.0)
    return made
