"""The variance of a mean over items and seeds: what `breakeven.harness.stats` builds its intervals from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"
Scores: TypeAlias = "npt.ArrayLike"
Groups: TypeAlias = "Sequence[Hashable | None] | npt.NDArray[np.generic] | None"


def matrix(scores: Scores) -> Floats:
    y = np.atleast_2d(np.asarray(scores, dtype=float))
    if y.ndim != 2 or y.size == 0:
        raise ValueError(f"scores must be (seeds, items), at least one of each, not {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError("scores must be finite: a missing prediction is no score")
    return y


def cluster_positions(groups: Groups, items: int) -> list[npt.NDArray[np.intp]]:
    """The positions of each group's items; every item alone when there are no groups."""
    if groups is None:
        return [np.array([i]) for i in range(items)]
    if len(groups) != items:
        raise ValueError(f"{len(groups)} groups for {items} items")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(("alone", i) if group is None else ("group", group), []).append(i)
    return [np.array(m) for m in members.values()]


def clustered_variance(y: Floats, clusters: list[npt.NDArray[np.intp]], small_sample: bool) -> float:
    centred = y - y.mean()
    total = float(sum(centred[c].sum() ** 2 for c in clusters)) / len(y) ** 2
    if total < 1e-24 * max(1.0, float(np.abs(y).max()) ** 2):  # rounding, not variance
        return 0.0
    return total * len(clusters) / (len(clusters) - 1) if small_sample else total


def seed_variance(y: Floats) -> float:
    means = y.mean(axis=1)
    return float(means.var(ddof=1)) / len(means) if np.ptp(means) > 1e-12 else 0.0


def variance_of_mean(y: Floats, clusters: list[npt.NDArray[np.intp]]) -> tuple[float, float]:
    """Variance of the grand mean and its degrees of freedom; (0, inf) where nothing can be estimated."""
    if len(clusters) < 2:
        return 0.0, float("inf")
    items = clustered_variance(y.mean(axis=0), clusters, small_sample=True)
    parts = [(items, len(clusters) - 1.0)]
    if len(y) > 1:
        parts.append((seed_variance(y), len(y) - 1.0))
    return satterthwaite(parts)


def satterthwaite(parts: list[tuple[float, float]]) -> tuple[float, float]:
    """Sum of independent variances with the degrees of freedom of Satterthwaite (1946)."""
    total = sum(v for v, _ in parts)
    if total <= 0:
        return 0.0, parts[0][1]
    spread = sum(v**2 / df for v, df in parts)
    return total, total**2 / spread if spread > 0 else float("inf")
