"""What was retrieved for the test examples, how well at each stage, and what the answers made of it.

How well is known only where the task says which document answers; what was shown is always known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from breakeven.harness import formats as f
from breakeven.harness.families import is_ceiling, pulls
from breakeven.harness.results import MetricInfo, Row, TaskResult
from breakeven.harness.retrieved import MEASURES, FourCells, Measured, Retrieval, bounds_of, retrieval_of

#: What an answer can be, by whether its document was shown and whether it is right; (head, whose doing).
CELL_HEADS = (
    ("shown, right", "retrieval worked"),
    ("shown, wrong", "the model's fault"),
    ("not shown, right", "known or guessed"),
    ("not shown, wrong", "retrieval's fault first"),
)


@dataclass(frozen=True, slots=True)
class ShownView:
    """What a strategy showed, and how often the context was too short for all of it."""

    label: str
    per_example: str
    distinct: str
    frequent: tuple[tuple[str, str], ...]
    overflowed: str


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage: (value, interval) of each of `MEASURES`."""

    label: str
    stage: str
    numbers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CellsView:
    """The four cells of a strategy, in the order of `CELL_HEADS`, between its floor and its ceiling."""

    label: str
    counts: tuple[tuple[str, str], ...]
    floor: str
    quality: str
    ceiling: str


@dataclass(frozen=True, slots=True)
class RetrievalView:
    """The section; `stages` and `cells` are empty where no task says which document answers."""

    shown: tuple[ShownView, ...]
    stages: tuple[StageView, ...]
    cells: tuple[CellsView, ...]
    measures: tuple[str, ...] = MEASURES
    heads: tuple[tuple[str, str], ...] = CELL_HEADS


def view(rows: Sequence[Row], task: TaskResult) -> RetrievalView | None:
    """None where no strategy retrieves."""
    found = [(row, retrieval_of(row, task)) for row in rows if pulls(row, "context")]
    if not found:
        return None
    groups = [e.group for e in task.test]
    stages = [
        StageView(
            f.clean(row.label),
            stage.name,
            tuple(_number(stage.measured(m, groups)) for m in MEASURES),
        )
        for row, retrieval in found
        for stage in retrieval.stages
        if not is_ceiling(row)
    ]
    return RetrievalView(
        tuple(_shown(row, retrieval, task) for row, retrieval in found),
        tuple(stages),
        tuple(_cells(row, r.cells, rows, task) for row, r in found if r.cells is not None),
    )


def _number(measured: Measured) -> tuple[str, str]:
    low, high = measured.interval.low, measured.interval.high
    return f"{measured.value:.3f}", f"{low:.3f} to {high:.3f}"


def _shown(row: Row, retrieval: Retrieval, task: TaskResult) -> ShownView:
    often: Counter[str] = Counter()
    counts = []
    for cell in row.cells:
        for p in cell.predictions:
            passages = p.meta.get("passages")
            documents = [str(d) for d in passages] if isinstance(passages, list) else []
            counts.append(len(documents))
            often.update(set(documents))
    total = max(len(counts), 1)
    return ShownView(
        f.clean(row.label),
        f.count(sum(counts) / total),
        f"{len(often):,} of {task.document_count:,}",
        tuple((_title(task, d), f"{f.share(n / total)} of examples") for d, n in often.most_common(3)),
        f"{retrieval.overflowed:,} of {retrieval.answers:,}" if retrieval.overflowed else f.DASH,
    )


def _title(task: TaskResult, document: str) -> str:
    return f.clean(str(task.documents.get(document, {}).get("title") or document))[:80]


def _cells(row: Row, cells: FourCells, rows: Sequence[Row], task: TaskResult) -> CellsView:
    bounds, metric = bounds_of(row, rows), task.primary
    counts = (cells.shown_right, cells.shown_wrong, cells.missed_right, cells.missed_wrong)
    return CellsView(
        f.clean(row.label),
        tuple((f"{n:,}", f.share(n / max(cells.answers, 1))) for n in counts),
        _quality(bounds.floor, metric),
        _quality(row, metric),
        f.DASH if is_ceiling(row) else _quality(bounds.ceiling, metric),
    )


def _quality(row: Row | None, metric: MetricInfo) -> str:
    return f.DASH if row is None else f.quality(row.quality, metric)
