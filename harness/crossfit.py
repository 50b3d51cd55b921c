"""How sure a mean over out-of-fold scores is: the folds' fits share most of their training rows.

The target is the mean performance over training sets and examples such as these. The variance of the items
alone does not reach it, for two reasons:

- Fits differ (another training set, another order, a training that went wrong), and the rows of a fold share
  what their fit is like. That shows between the folds and is estimated from them.
- Fits of different folds are alike, since their training sets overlap. That shows nowhere in one run: no
  unbiased estimator exists (Bengio and Grandvalet 2004, "No unbiased estimator of the variance of K-fold
  cross-validation"). Nadeau and Bengio (2003, "Inference for the generalization error") take the correlation
  of two folds' means to be n_test / (n_test + n_train), which multiplies the variance of a mean of K of them
  by 1 + K n_test / n_train: by 2.25 with five folds, an interval half as wide again. Bouckaert and Frank
  (2004, "Evaluating the replicability of significance tests for comparing learning algorithms") use it so.

The factor errs on the wide side for fits that hardly depend on which rows they saw: the variance of the items
would do for them (Bayle, Bayle, Janson and Mackey 2020, "Cross-validation confidence intervals for test
error"). It is still too small where a handful of rows decides and all folds share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from breakeven.harness._variance import (
    Clusters,
    Floats,
    Groups,
    Scores,
    cluster_positions,
    clustered_variance,
    matrix,
)


@dataclass(frozen=True)
class Folds:
    """Which fold each item is in, and how many labelled rows lie outside of each fold."""

    of: Sequence[int]
    outside: Mapping[int, int]

    @property
    def factor(self) -> float:
        """1 + K n_test / n_train (Nadeau and Bengio 2003), with the mean ratio where folds differ in size."""
        fold, counts = np.unique(np.asarray(self.of), return_counts=True)
        ratios = [n / self.outside[int(f)] for f, n in zip(fold, counts, strict=True)]
        return 1.0 + float(sum(ratios))

    def positions(self) -> Clusters:
        """The positions of each fold's items."""
        return cluster_positions(list(self.of), len(self.of))


def variance_parts(scores: Scores, folds: Folds, groups: Groups = None) -> list[tuple[float, float]]:
    """The variance of a mean over out-of-fold scores, as independent parts with their degrees of freedom.

    Args:
        scores: (seeds, items) or (items,): of one strategy, or paired differences of two.
        groups: as in `stats.mean_interval`; a group lies in one fold.

    The first part is the clustered variance of the items times `Folds.factor`; the second, where it is above
    0, what the folds' means vary beyond what their items explain (one-way analysis of variance, by the method
    of moments), as it enters the mean. They take the place of the items' part in
    `_variance.variance_of_mean`, to be added by `_variance.satterthwaite`; that of the seeds stays as it is.
    """
    y = matrix(scores)
    mean = y.mean(axis=0)
    clusters = cluster_positions(groups, len(mean))
    if len(clusters) < 2:
        return [(0.0, float("inf"))]
    items = clustered_variance(mean, clusters, small_sample=True)
    parts = [(folds.factor * items, len(clusters) - 1.0)]
    between = _between(mean, folds, groups)
    if between > 0:
        parts.append((between, len(folds.positions()) - 1.0))
    return parts


def _between(mean: Floats, folds: Folds, groups: Groups) -> float:
    """Variance that the folds' fits add to the mean over all items; 0 where folds are too small to tell."""
    means, within, shares = [], [], []
    for positions in folds.positions():
        own = None if groups is None else [groups[i] for i in positions]
        clusters = cluster_positions(own, len(positions))
        if len(clusters) < 2:
            return 0.0
        means.append(mean[positions].mean())
        within.append(clustered_variance(mean[positions], clusters, small_sample=True))
        shares.append(len(positions) / len(mean))
    if len(means) < 2:
        return 0.0
    excess = float(np.var(means, ddof=1)) - float(np.mean(within))
    return max(excess, 0.0) * float(np.square(shares).sum())


def variance_inflation(scores: Scores, folds: Folds, groups: Groups = None) -> float:
    """By how much the variance of the mean exceeds that of the items alone; at least `Folds.factor`.

    For what has no variance formula: draws of a bootstrap over the items are spread about their centre by the
    square root of this; where all scores are equal, it divides the number of items.
    """
    y = matrix(scores)
    clusters = cluster_positions(groups, y.shape[1])
    items = clustered_variance(y.mean(axis=0), clusters, small_sample=len(clusters) > 1)
    if items <= 0:
        return folds.factor
    return sum(variance for variance, _ in variance_parts(y, folds, groups)) / items
