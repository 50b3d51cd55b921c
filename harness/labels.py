"""What the labels of a test set tell: on which of them a strategy errs most, which may be wrong themselves.

Works on stored scores. With several seeds an example counts as right when most of them are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from breakeven.harness.results import DONE, CellResult, Row, TaskResult

#: Scores are means of ratios: what misses the edge by less than this has reached it.
EDGE = 1e-9
#: A share of fewer examples says too little to name a label the worst.
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Label:
    """How a strategy does on the test examples of one label."""

    label: str
    examples: int
    right: float


@dataclass(frozen=True, slots=True)
class Contradicted:
    """Positions of test examples on which no strategy agrees with the reference.

    `agreed`: those on which at least two strategies, and most of all, give one and the same other answer.
    """

    all: tuple[int, ...]
    agreed: tuple[int, ...]


def is_right(value: float, task: TaskResult) -> bool:
    """Whether a score of the primary metric counts as correct."""
    if task.primary.higher_is_better:
        return value >= task.correct_at - EDGE
    return value <= task.correct_at + EDGE


def right(row: Row, task: TaskResult) -> npt.NDArray[np.bool_]:
    """(items,) whether most seeds of the row are right."""
    shares = [
        [is_right(v, task) for v in c.scores(task.primary.name)]
        for c in row.cells
        if c.state == DONE and c.predictions
    ]
    made: npt.NDArray[np.bool_] = 2 * np.array(shares).sum(axis=0) > len(shares)
    return made


def by_label(row: Row, task: TaskResult) -> tuple[Label, ...]:
    """Share of right answers for each label of a task with a closed set of them, the worst first.

    The mean over seeds; of equal shares the label with more examples goes first.
    """
    if task.choices is None:
        return ()
    cells = [c for c in row.cells if c.state == DONE and c.predictions]
    scores = np.array([[is_right(v, task) for v in c.scores(task.primary.name)] for c in cells]).mean(axis=0)
    at: dict[str, list[int]] = {}
    for i, example in enumerate(task.test):
        if example.references:
            at.setdefault(str(example.references[0]), []).append(i)
    found = [Label(label, len(items), float(scores[items].mean())) for label, items in at.items()]
    return tuple(sorted(found, key=lambda x: (x.right, -x.examples)))


def worst(row: Row, task: TaskResult) -> Label | None:
    """The label with the lowest share of right answers among those with at least `FEWEST` examples."""
    return next((x for x in by_label(row, task) if x.examples >= FEWEST), None)


def contradicted(rows: Sequence[Row], task: TaskResult) -> Contradicted:
    """Candidates for errors in the references: what all strategies answer otherwise."""
    rows = [r for r in rows if any(c.state == DONE and c.predictions for c in r.cells)]
    if len(rows) < 2:
        return Contradicted((), ())
    wrong = ~np.array([right(r, task) for r in rows]).any(axis=0)
    positions = tuple(int(i) for i in np.flatnonzero(wrong))
    outputs = [[p.output.strip().lower() for p in _first(r).predictions] for r in rows]
    agreed = []
    for i in positions:
        answer, often = Counter(o[i] for o in outputs).most_common(1)[0]
        if answer and often >= 2 and 2 * often > len(outputs):
            agreed.append(i)
    return Contradicted(positions, tuple(agreed))


def _first(row: Row) -> CellResult:
    return next(c for c in row.cells if c.state == DONE and c.predictions)
