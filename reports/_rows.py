"""Rows of the result table: which have a result, which is best, how each stands to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from breakeven.harness.families import is_ceiling
from breakeven.harness.pairs import direction
from breakeven.harness.results import MetricInfo, Results, Row


def done(results: Results, task: str) -> list[Row]:
    """The rows that have a result, in the table's order."""
    return [r for r in results.tables[task] if r.quality is not None]


def not_done(results: Results, task: str) -> list[Row]:
    return [r for r in results.tables[task] if r.quality is None]


def reference_of(rows: Sequence[Row]) -> Row | None:
    """The row that the others are compared with: the first of the reference strategy that has a result."""
    return next((r for r in rows if r.is_reference and r.quality is not None), None)


def gain(difference: float, metric: MetricInfo) -> float:
    """The difference with its sign such that more is better."""
    return difference if metric.higher_is_better else -difference


def best(rows: Sequence[Row], metric: MetricInfo) -> Row | None:
    """The row of the best quality that could be served; of equal ones the cheapest, then the first."""

    def key(item: tuple[int, Row]) -> tuple[float, float, int]:
        position, row = item
        assert row.quality is not None
        cost = row.cost_per_1000.value
        return -gain(row.quality, metric), float("inf") if cost is None else cost, position

    servable = [row for row in rows if not is_ceiling(row)]
    return min(enumerate(servable), key=key)[1] if servable else None


Standing = Literal["better", "worse", "undecided", "reference", "none"]


def standing(row: Row, metric: MetricInfo) -> Standing:
    """How the row stands to the reference: beyond the interval of the difference, or within."""
    if row.is_reference and row.difference is None:
        return "reference"
    between = row.difference_interval
    if between is None:
        return "none"
    return direction(between.low, between.high, metric)
