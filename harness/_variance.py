"""The variance of a mean over items and seeds: what `breakeven.harness.stats` builds its intervals from."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"
Scores: TypeAlias = "npt.ArrayLike"
Groups: TypeAlias = "Sequence[Hashable | None] | npt.NDArray[np.generic] | None"


Positions: TypeAlias = "npt.NDArray[np.intp]"


class Alone(Sequence[Positions]):
    """The positions of groups where every one of `items` is its own: sums over groups need no loop."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __len__(self) -> int:
        return self.items

    def __iter__(self) -> Iterator[Positions]:
        return iter(np.arange(self.items)[:, None])

    @overload
    def __getitem__(self, at: int) -> Positions: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Positions]: ...

    def __getitem__(self, at: int | slice) -> Positions | Sequence[Positions]:
        found = np.arange(self.items)[at]
        return list(found[:, None]) if isinstance(at, slice) else np.array([found])


Clusters: TypeAlias = Sequence[Positions]


def matrix(scores: Scores) -> Floats:
    y = np.atleast_2d(np.asarray(scores, dtype=float))
    if y.ndim != 2 or y.size == 0:
        raise ValueError(f"scores must be (seeds, items), at least one of each, not {y.shape}")
    if not np.isfinite(y).all():
        raise ValueError("scores must be finite: a missing prediction is no score")
    return y


def cluster_positions(groups: Groups, items: int) -> Clusters:
    """The positions of each group's items; every item alone when there are no groups."""
    if groups is None:
        return Alone(items)
    if len(groups) != items:
        raise ValueError(f"{len(groups)} groups for {items} items")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(("alone", i) if group is None else ("group", group), []).append(i)
    return [np.array(m) for m in members.values()]


def cluster_sums(y: Floats, clusters: Clusters) -> Floats:
    """(groups,) the sum of `y` (items,) over each group."""
    if isinstance(clusters, Alone):
        return y.copy()
    return np.array([y[c].sum() for c in clusters])


def clustered_variance(y: Floats, clusters: Clusters, small_sample: bool) -> float:
    squares = cluster_sums(y - y.mean(), clusters) ** 2
    total = float(np.add.accumulate(squares)[-1]) / len(y) ** 2
    if total < 1e-24 * max(1.0, float(np.abs(y).max()) ** 2):  # rounding, not variance
        return 0.0
    return total * len(clusters) / (len(clusters) - 1) if small_sample else total


def seed_variance(y: Floats) -> float:
    means = y.mean(axis=1)
    return float(means.var(ddof=1)) / len(means) if np.ptp(means) > 1e-12 else 0.0


def variance_of_mean(y: Floats, clusters: Clusters) -> tuple[float, float]:
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
