"""Pairs of strategies on the same examples: how any two differ, and those that one lever sets apart.

Pairs of levers are chosen by their settings, never by their scores. What a difference means for a decision
is `decision`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from breakeven.harness.families import LEVERS, Lever, is_ceiling, pulls, settings
from breakeven.harness.results import DONE, CellResult, MetricInfo, Results, Row, TaskResult
from breakeven.harness.stats import Difference, holm, paired_difference
from breakeven.harness.summary import folds_of_both

LEVER_WORDS: dict[Lever, str] = {
    "demonstrations": "Demonstrations",
    "context": "Retrieval",
    "weights": "Fine-tuning",
}
Direction = Literal["better", "worse", "undecided"]
#: The adjusted p up to which a test shows a difference.
SURE = 0.05


@dataclass(frozen=True, slots=True)
class LeverPair:
    """Two strategies that differ in one lever only: `difference` is with it minus without it."""

    lever: Lever
    with_it: Row
    without: Row
    difference: Difference

    def effect(self, metric: MetricInfo) -> Direction:
        """What the lever did, by the interval of the paired difference."""
        return direction(self.difference.interval.low, self.difference.interval.high, metric)


def lever_pairs(results: Results, name: str) -> list[LeverPair]:
    """All pairs of finished rows that differ in exactly one lever being there or not."""
    task = results.tasks[name]
    done = (r for r in results.tables[name] if r.quality is not None and r.model is not None)
    rows = [r for r in done if not is_ceiling(r)]
    found = []
    for lever in LEVERS:
        for with_it in (r for r in rows if pulls(r, lever)):
            for without in rows:
                if not pulls(without, lever) and _without(without, lever) == _without(with_it, lever):
                    difference = compare(task, with_it, without)
                    if difference is not None:
                        found.append(LeverPair(lever, with_it, without, difference))
    return found


def _without(row: Row, lever: Lever) -> tuple[Any, ...]:
    return row.train_size, *without(row, lever)


def without(row: Row, lever: Lever) -> tuple[Any, ...]:
    """What a strategy is but for one lever, whatever its training size: its model and other settings."""
    rest = {k: v for k, v in settings(row).items() if k not in (lever, "strategy", "description") and v}
    return row.model, rest


def shown(task: TaskResult, pairs: Sequence[LeverPair]) -> list[bool]:
    """For each pair whether a test, adjusted for their number (Holm), shows the difference too.

    An interval leaves out zero a little sooner than an exact test of few examples does, and each of many
    stands by itself: alone it carries no firm word.
    """
    if all(pair.effect(task.primary) == "undecided" for pair in pairs):
        return [False] * len(pairs)
    tested = [compare(task, pair.with_it, pair.without, tested=True) for pair in pairs]
    ps = [1.0 if d is None or d.p is None else d.p for d in tested]
    return [p <= SURE for p in holm(ps)]


def compare(task: TaskResult, a: Row, b: Row, *, tested: bool = False) -> Difference | None:
    """`a` minus `b` by example, or None where the primary metric is no mean over examples."""
    metric = task.primary
    left, right = (_scores(row, metric.name) for row in (a, b))
    if not metric.additive or not left or not right or len(left[0]) != len(right[0]):
        return None
    try:
        return paired_difference(
            left,
            right,
            task.groups,
            bounds=metric.range,
            varies_with_seed=(_by_seed(a), _by_seed(b)),
            folds=folds_of_both(_done(a), _done(b)),
            tested=tested,
        )
    except ValueError:  # open range and no variance: nothing can be said
        return None


def direction(low: float, high: float, metric: MetricInfo) -> Direction:
    """What an interval of a difference says; `undecided` where it holds zero."""
    if low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == metric.higher_is_better else "worse"


def _scores(row: Row, metric: str) -> Sequence[Sequence[float]]:
    return [c.scores(metric) for c in _done(row)]


def _done(row: Row) -> list[CellResult]:
    return [c for c in row.cells if c.state == DONE and c.predictions]


def _by_seed(row: Row) -> bool:
    return any(c.seed is not None for c in row.cells)
