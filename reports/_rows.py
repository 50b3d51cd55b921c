"""What a row of the result table is: which levers it pulls, how it is drawn, what it can be paired with.

A family (no language model, prompting, retrieval, tuned, tuned with retrieval) gives a row its shape and
colour everywhere. Pairs are chosen by their settings, never by their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from breakeven.harness.results import DONE, MetricInfo, Results, Row, TaskResult
from breakeven.harness.stats import Difference, paired_difference

Lever = Literal["demonstrations", "context", "weights"]
LEVERS: tuple[Lever, ...] = ("demonstrations", "context", "weights")
LEVER_WORDS: dict[Lever, str] = {
    "demonstrations": "Demonstrations",
    "context": "Retrieval",
    "weights": "Fine-tuning",
}

Family = Literal["no-model", "prompting", "retrieval", "tuned", "tuned-retrieval"]
FAMILY_WORDS: dict[Family, str] = {
    "no-model": "no language model",
    "prompting": "prompting",
    "retrieval": "retrieval",
    "tuned": "fine-tuned",
    "tuned-retrieval": "fine-tuned and retrieval",
}


@dataclass(frozen=True, slots=True)
class LeverPair:
    """Two strategies that differ in one lever only: `difference` is with it minus without it."""

    lever: Lever
    with_it: Row
    without: Row
    difference: Difference


def settings(row: Row) -> Mapping[str, Any]:
    return row.cells[0].settings if row.cells else {}


def pulls(row: Row, lever: Lever) -> bool:
    if lever == "weights" and any(c.training is not None for c in row.cells):
        return True
    return bool(settings(row).get(lever))


def family(row: Row) -> Family:
    tuned, retrieval = pulls(row, "weights"), pulls(row, "context")
    if tuned:
        return "tuned-retrieval" if retrieval else "tuned"
    if row.model is None:
        return "no-model"
    return "retrieval" if retrieval else "prompting"


def done(results: Results, task: str) -> list[Row]:
    """The rows that have a result, in the table's order."""
    return [r for r in results.tables[task] if r.quality is not None]


def not_done(results: Results, task: str) -> list[Row]:
    return [r for r in results.tables[task] if r.quality is None]


def reference_of(rows: Sequence[Row]) -> Row | None:
    """The row that the others are compared with: the first of the reference strategy that has a result."""
    return next((r for r in rows if r.is_reference and r.quality is not None), None)


def better(a: float, b: float, metric: MetricInfo) -> bool:
    return a > b if metric.higher_is_better else a < b


def gain(difference: float, metric: MetricInfo) -> float:
    """The difference with its sign such that more is better."""
    return difference if metric.higher_is_better else -difference


def best(rows: Sequence[Row], metric: MetricInfo) -> Row | None:
    """The row of the best quality; of equal ones the cheapest, then the first."""

    def key(item: tuple[int, Row]) -> tuple[float, float, int]:
        position, row = item
        assert row.quality is not None
        cost = row.cost_per_1000.value
        return -gain(row.quality, metric), float("inf") if cost is None else cost, position

    return min(enumerate(rows), key=key)[1] if rows else None


Standing = Literal["better", "worse", "undecided", "reference", "none"]


def standing(row: Row, metric: MetricInfo) -> Standing:
    """How the row stands to the reference: beyond the interval of the difference, or within."""
    if row.is_reference and row.difference is None:
        return "reference"
    between = row.difference_interval
    if between is None:
        return "none"
    return direction(between.low, between.high, metric)


def direction(low: float, high: float, metric: MetricInfo) -> Literal["better", "worse", "undecided"]:
    if low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == metric.higher_is_better else "worse"


def lever_pairs(results: Results, name: str) -> list[LeverPair]:
    """All pairs of finished rows that differ in exactly one lever being there or not."""
    task, rows = results.tasks[name], [r for r in done(results, name) if r.model is not None]
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
    rest = {k: v for k, v in settings(row).items() if k not in (lever, "strategy", "description") and v}
    return row.model, row.train_size, rest


def compare(task: TaskResult, a: Row, b: Row) -> Difference | None:
    """`a` minus `b` by example, or None where the primary metric is no mean over examples."""
    metric = task.primary
    left, right = (_scores(row, metric.name) for row in (a, b))
    if not metric.additive or not left or not right or len(left[0]) != len(right[0]):
        return None
    groups = [e.group for e in task.test]
    try:
        return paired_difference(
            left,
            right,
            groups if any(g is not None for g in groups) else None,
            bounds=metric.range,
            varies_with_seed=(_by_seed(a), _by_seed(b)),
        )
    except ValueError:  # open range and no variance: nothing can be said
        return None


def _scores(row: Row, metric: str) -> list[list[float]]:
    return [c.scores(metric) for c in row.cells if c.state == DONE and c.predictions]


def _by_seed(row: Row) -> bool:
    return any(c.seed is not None for c in row.cells)
