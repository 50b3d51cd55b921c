"""Joint draws of what a task's strategies would score and cost on other examples and other seeds.

One draw holds all strategies at once, so that whatever is decided in it is decided on the same examples:
resampled items (whole groups) for all, and for each strategy the spread of its own seeds. The margins agree
with the intervals of `stats.mean_interval`. What a draw decides is `decision`'s business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from breakeven.harness import alike
from breakeven.harness._distributions import beta_quantile, normal_cdf, t_quantile
from breakeven.harness._variance import (
    Clusters,
    cluster_positions,
    clustered_variance,
    matrix,
    satterthwaite,
    seed_variance,
)
from breakeven.harness.crossfit import Folds, variance_parts
from breakeven.harness.economics import ErrorCosts
from breakeven.harness.errors import UserError
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import DONE, CellResult, Row, TaskResult, TestExample
from breakeven.harness.summary import folds_of

Floats = npt.NDArray[np.float64]

DRAWS = 1000
#: Steps that a strategy's draws are rounded to between their smallest and largest value, so that a report
#: can carry them in two bytes each and count with exactly the same numbers.
STEPS = 65535
#: Numbers held at once while drawing: 32 MB of them.
BLOCK = 4_000_000


@dataclass(frozen=True)
class Draws:
    """Draws of a task, strategies in the order of `labels`; all arrays (strategies, draws).

    `score` is the primary metric, `worth` the expected number of correct answers a request (weighted by what
    an error on each example costs, mean weight 1), `tokens` and `seconds` factors on the strategy's mean cost
    of tokens and mean busy seconds. `score_mean` and `worth_mean` (strategies,) are the point estimates.
    """

    labels: tuple[str, ...]
    score: Floats
    worth: Floats
    tokens: Floats
    seconds: Floats
    score_mean: Floats
    worth_mean: Floats


def of_task(
    task: TaskResult,
    rows: Sequence[Row],
    pricing: Pricing,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Draws:
    """Draws of the rows that have a result; the same for the same run."""
    metric = task.primary
    done = [[c for c in row.cells if c.state == DONE] for row in rows]
    scores = [np.array([c.scores(metric.name) for c in cells], dtype=np.float64) for cells in done]
    weight = example_weights(task, pricing.economics.error_costs)
    items = resampled(len(task.test), task.groups, draws=draws, seed=seed)
    found = of_scores(
        [row.label for row in rows],
        scores,
        items,
        bounds=metric.range,
        worth=[correct(task, y) * weight for y in scores],
        worth_bounds=(0.0, float(weight.max())),
        seeded=[any(c.seed is not None for c in cells) for cells in done],
        folds=[folds_of(cells) for cells in done],
        seed=seed,
    )
    score, mean = found.score, found.score_mean
    if not metric.additive:
        mean = np.array([np.mean([c.aggregates[metric.name] for c in cells]) for cells in done])
        made = (_whole(task, c, float(mean[i]), i, draws, seed) for i, c in enumerate(done))
        score = np.array([rounded(x) for x in made])
    tokens = [rounded(_tokens(cells, pricing, items)) for cells in done]
    seconds = [rounded(x) for x in _seconds([_timed(cells) for cells in done], draws, seed)]
    return replace(found, score=score, score_mean=mean, tokens=np.array(tokens), seconds=np.array(seconds))


def of_scores(
    labels: Sequence[str],
    scores: Sequence[Floats],
    items: Items,
    *,
    folds: Sequence[Folds | None] | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    worth: Sequence[Floats] | None = None,
    worth_bounds: tuple[float, float] = (0.0, 1.0),
    seeded: Sequence[bool] | None = None,
    seed: int = 0,
) -> Draws:
    """Draws of strategies whose every request costs its mean.

    Args:
        scores: per strategy (seeds, items), items in the same order.
        items: how the items were drawn, see `resampled`.
        folds: per strategy, where it was scored out of fold.
        bounds: (lowest, highest) possible score; None where it is open.
        worth: correct answers, weighted; the scores themselves unless given.
        seeded: per strategy, whether it varies with the seed; all do unless told.
    """
    right = list(scores) if worth is None else list(worth)
    score, worths = [], []
    for i, (y, good) in enumerate(zip(scores, right, strict=True)):
        noise = _noise(seed, i, len(items))
        varies = seeded is None or seeded[i]
        cut = folds[i] if folds is not None else None
        score.append(rounded(spread(y, items, noise, bounds, varies, cut)))
        worths.append(rounded(spread(good, items, noise, worth_bounds if worth else bounds, varies, cut)))
    ones = np.ones((len(score), len(items)))
    return Draws(
        tuple(labels),
        np.array(score),
        np.array(worths),
        ones,
        ones,
        np.array([float(np.mean(y)) for y in scores]),
        np.array([float(np.mean(good)) for good in right]),
    )


def _noise(seed: int, position: int, draws: int) -> Floats:
    """(draws,) standard normal: a strategy's own."""
    return np.random.default_rng([seed, position + 1]).standard_normal(draws)


def correct(task: TaskResult, scores: Floats) -> Floats:
    """1 where a score counts as correct, 0 elsewhere."""
    good = scores >= task.correct_at if task.primary.higher_is_better else scores <= task.correct_at
    made: Floats = good.astype(np.float64)
    return made


def example_weights(task: TaskResult, error_costs: ErrorCosts | None) -> Floats:
    """(items,) what an error on each example costs, over the mean; all 1 where nobody said."""
    if error_costs is None:
        return np.ones(len(task.test))
    found = _error_costs(task, error_costs)
    if found.mean() <= 0:
        raise UserError(
            f"no test example of '{task.name}' has an error cost above 0",
            field="economics.error_costs",
            hint=f"`costs` should name values of '{error_costs.by}'",
        )
    weights: Floats = found / found.mean()
    return weights


def mean_error_cost(task: TaskResult, error_costs: ErrorCosts) -> float:
    """Worth of one more correct answer where errors cost differently: their mean over the test set."""
    return float(_error_costs(task, error_costs).mean())


def _error_costs(task: TaskResult, given: ErrorCosts) -> Floats:
    return np.array([given.costs.get(_value(e, given.by), given.default) for e in task.test])


def _value(example: TestExample, by: str) -> str:
    if by == "label":
        return str(example.references[0]) if example.references else ""
    meta: Mapping[str, Any] = {**example.input, **example.meta}
    return str(meta.get(by, ""))


def rounded(values: Floats) -> Floats:
    """`values` on `STEPS` equal steps between their smallest and largest."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.full_like(values, low)
    made: Floats = low + np.round((values - low) / (high - low) * STEPS) / STEPS * (high - low)
    return made


# --- resampling ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Items:
    """`counts`: how often each item is in each draw, (draws, items) of a small unsigned integer."""

    counts: npt.NDArray[Any]
    clusters: Clusters

    def __len__(self) -> int:
        return len(self.counts)

    def means(self, values: Floats) -> Floats:
        """(draws,) the mean of `values` (items,) over each draw's items."""
        if self.counts.size <= BLOCK:
            made: Floats = self._weights @ values
            return made
        return np.concatenate([_weights(part) @ values for part in _blocks(self.counts)])

    @cached_property
    def _weights(self) -> Floats:
        return _weights(self.counts)

    def groups(self) -> list[str]:
        """The cluster of each item."""
        label = {int(i): str(k) for k, positions in enumerate(self.clusters) for i in positions}
        return [label[i] for i in range(self.counts.shape[1])]


def _weights(counts: npt.NDArray[Any]) -> Floats:
    made: Floats = counts / counts.sum(axis=1, keepdims=True)
    return made


def _blocks(counts: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Draws in groups of at most `BLOCK` numbers."""
    rows = max(1, BLOCK // counts.shape[1])
    for start in range(0, len(counts), rows):
        yield counts[start : start + rows]


def resampled(
    items: int, groups: Sequence[str | None] | None = None, *, draws: int = DRAWS, seed: int = 0
) -> Items:
    """Items drawn with replacement, whole groups at a time: the draws of `stats.resamples`, counted."""
    clusters = cluster_positions(groups, items)
    cluster_of = np.empty(items, dtype=np.intp)
    for j, positions in enumerate(clusters):
        cluster_of[positions] = j
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, items), dtype=np.min_scalar_type(len(clusters)))
    for d in range(draws):
        picked = rng.integers(len(clusters), size=len(clusters))
        counts[d] = np.bincount(picked, minlength=len(clusters))[cluster_of]
    return Items(counts, clusters)


def spread(
    scores: Floats,
    items: Items,
    noise: Floats,
    bounds: tuple[float, float] | None,
    seeded: bool,
    folds: Folds | None = None,
) -> Floats:
    """(draws,) of a mean score: resampled items, and the seeds' own variance.

    Deviations are scaled to the standard error that `stats.mean_interval` uses, their quantiles to its t;
    with scores that are all equal, draws are from the Beta posterior at Jeffreys' prior (Brown, Cai and
    DasGupta 2001), which is as wide as the number of items (groups) allows. Out of fold, the variance is that
    of `crossfit`: what fits of different folds share widens it, what they differ by is noise of its own.
    """
    y = matrix(scores)
    mean, clusters = float(y.mean()), items.clusters
    n = len(clusters)
    item_variance = clustered_variance(y.mean(axis=0), clusters, small_sample=True) if n > 1 else 0.0
    own = seed_variance(y) if seeded and len(y) > 1 else 0.0
    if item_variance + own <= 0:
        return _jeffreys(mean, n / (folds.factor if folds is not None else 1.0), bounds, noise)
    parts = [(item_variance, n - 1.0)]
    if folds is not None:
        parts = variance_parts(y, folds, items.groups())
    total, df = satterthwaite(parts + ([(own, len(y) - 1.0)] if len(y) > 1 else []))
    own += sum(variance for variance, _ in parts[1:])  # between folds
    deviation = items.means(y.mean(axis=0)) - mean
    if n > 1:
        deviation = deviation * np.sqrt(n / (n - 1))
    standard = (deviation + np.sqrt(own) * noise) / np.sqrt(item_variance + own)
    made: Floats = mean + np.sqrt(total) * _t_quantiles(standard, df)
    return np.clip(made, *bounds) if bounds is not None else made


def _t_quantiles(z: Floats, df: float) -> Floats:
    """Standard normal deviates as deviates of t: the same ranks, its wider tails."""
    if df > 200:
        return z
    made: Floats = t_quantile(normal_cdf(np.clip(z, -8, 8)), df)
    return made


def _jeffreys(mean: float, n: float, bounds: tuple[float, float] | None, noise: Floats) -> Floats:
    if bounds is None:
        return np.full_like(noise, mean)
    low, span = bounds[0], bounds[1] - bounds[0]
    share = (mean - low) / span
    posterior = beta_quantile(normal_cdf(noise), n * share + 0.5, n * (1 - share) + 0.5)
    made: Floats = low + span * posterior
    return made


def _whole(
    task: TaskResult, cells: Sequence[CellResult], mean: float, position: int, draws: int, seed: int
) -> Floats:
    """Draws of a metric that is no mean over examples: made when the cell was scored, mean over seeds.

    Draws that are all alike, or missing, say nothing of the spread: they are drawn as equal scores are.
    """
    found = np.full(draws, mean)
    if all(c.draws for c in cells):
        found = np.resize(np.array([c.draws for c in cells], dtype=np.float64).mean(axis=0), draws)
    if not alike.alike(found):
        return found
    folds = folds_of(cells)
    n = alike.drawn(len(task.test), task.groups, folds.factor if folds is not None else 1.0)
    return _jeffreys(mean, n, task.primary.range, _noise(seed, position, draws))


def _tokens(cells: Sequence[CellResult], pricing: Pricing, items: Items) -> Floats:
    """Factor on the mean cost of a request's tokens."""
    found = [pricing.tokens_by_example(c) for c in cells]
    known = [m for m in found if m is not None]
    if not known or len(known) < len(found):
        return np.ones(len(items))
    money = np.mean(known, axis=0)
    mean = float(money.mean())
    return items.means(money) / mean if mean > 0 else np.ones(len(items))


def _timed(cells: Sequence[CellResult]) -> list[float]:
    """Seconds of the requests that were timed one at a time."""
    return [s for c in cells for s in ((c.timing or {}).get("batch_of_one") or {}).get("seconds", [])]


def _seconds(timed: Sequence[Sequence[float]], draws: int, seed: int) -> list[Floats]:
    """For each strategy (draws,) the factor on its mean busy seconds: its timed requests, resampled.

    As many requests are drawn alike, whoever's they are, so their positions are drawn once.
    """
    made = [np.ones(draws) for _ in timed]
    alike: dict[int, list[int]] = defaultdict(list)
    for i, seconds in enumerate(timed):
        if len(seconds) >= 2 and np.mean(seconds) > 0:
            alike[len(seconds)].append(i)
    for n, members in alike.items():
        rng, rows = np.random.default_rng(seed), max(1, BLOCK // n)
        for start in range(0, draws, rows):
            picked = rng.integers(n, size=(min(rows, draws - start), n))
            for i in members:
                drawn = np.asarray(timed[i])[picked].mean(axis=1)
                made[i][start : start + rows] = drawn / np.mean(timed[i])
    return made
