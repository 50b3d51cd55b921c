"""How well passages were retrieved, stage by stage, and whether the answers were right with and without.

Only where a task says which document answers: where the group of every test example is a document's id. The
rank of a question is the place of the first passage of that document among those that a stage put first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from breakeven.harness.families import is_ceiling, pulls, settings
from breakeven.harness.labels import is_right
from breakeven.harness.pairs import without
from breakeven.harness.results import DONE, CellResult, Row, StoredPrediction, TaskResult
from breakeven.harness.stats import Difference, Interval, mean_interval, paired_difference

#: Passages of a stage that are looked at.
DEPTH = 10
RECALL_AT = (1, 3, 5, 10)
MEASURES = (*(f"recall@{k}" for k in RECALL_AT), f"MRR@{DEPTH}", f"nDCG@{DEPTH}")

Rank = int | None  # from 1; None where the document is not among the first `DEPTH`


@dataclass(frozen=True, slots=True)
class Measured:
    """A mean over questions with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage of retrieval put first. `ranks` in the order of the questions."""

    name: str
    ranks: tuple[Rank, ...]

    def scores(self, measure: str) -> list[float]:
        """Of each question, from 0 to 1.

        recall@k is 1 where the document is among the first k passages; MRR takes 1 / rank; nDCG, with one
        right document, 1 / log2(1 + rank) (Jarvelin and Kekalainen 2002).
        """
        name, _, depth = measure.partition("@")
        places = [rank if rank is not None and rank <= int(depth) else None for rank in self.ranks]
        if name == "recall":
            return [float(rank is not None) for rank in places]
        if name == "MRR":
            return [0.0 if rank is None else 1 / rank for rank in places]
        if name == "nDCG":
            return [0.0 if rank is None else 1 / math.log2(1 + rank) for rank in places]
        raise ValueError(f"'{measure}' is none of {', '.join(MEASURES)}")

    def measured(self, measure: str, groups: Sequence[str | None] | None = None) -> Measured:
        """The mean; questions of one group (the same document) count as dependent."""
        scores = self.scores(measure)
        interval = mean_interval(scores, groups, varies_with_seed=False)
        return Measured(sum(scores) / len(scores), interval)


def difference(
    stage: Stage, other: Stage, measure: str, groups: Sequence[str | None] | None = None
) -> Difference:
    """`stage` minus `other` on the same questions."""
    a, b = stage.scores(measure), other.scores(measure)
    return paired_difference(a, b, groups, varies_with_seed=(False, False))


def rank_of(document: str, retrieved: Sequence[str]) -> Rank:
    """The place, from 1, of the first passage of `document` among the documents of the passages retrieved."""
    return next((place for place, found in enumerate(retrieved[:DEPTH], 1) if found == document), None)


def stages_of(
    retrieved: Sequence[Mapping[str, Sequence[str]]], documents: Sequence[str]
) -> tuple[Stage, ...]:
    """The stages of one strategy, in their order.

    Args:
        retrieved: of each question, by stage, the documents of the passages it put first.
        documents: of each question the one that answers it.
    """
    names = dict.fromkeys(name for found in retrieved for name in found)
    pairs = list(zip(retrieved, documents, strict=True))
    return tuple(Stage(n, tuple(rank_of(d, found.get(n, ())) for found, d in pairs)) for n in names)


# --- of a finished run -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FourCells:
    """Answers (of all seeds) by whether the right document was shown and whether the answer is right."""

    shown_right: int
    shown_wrong: int  # the passage was there: the language model's fault
    missed_right: int  # known without it, or guessed
    missed_wrong: int  # retrieval's fault, first of all

    @property
    def answers(self) -> int:
        return self.shown_right + self.shown_wrong + self.missed_right + self.missed_wrong


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What a strategy retrieved. `overflowed` answers had passages left out because the context is too short.

    `stages` and `cells` are empty and None where the task does not say which document answers.
    """

    stages: tuple[Stage, ...]
    cells: FourCells | None
    overflowed: int
    answers: int


def retrieval_of(row: Row, task: TaskResult) -> Retrieval:
    """Of a strategy with a result; retrieval does not vary with the seed, so stages are the first one's."""
    done = [c for c in row.cells if c.state == DONE and c.predictions]
    overflowed = sum(bool(p.meta.get("left_out")) for c in done for p in c.predictions)
    answers = sum(len(c.predictions) for c in done)
    groups = [e.group for e in task.test]
    if not done or not task.group_is_document or None in groups:
        return Retrieval((), None, overflowed, answers)
    documents = [str(g) for g in groups]
    retrieved = [_stages(p) for p in done[0].predictions]
    known = any(retrieved) and len(retrieved) == len(documents)
    return Retrieval(
        stages_of(retrieved, documents) if known else (),
        _four_cells(done, documents, task),
        overflowed,
        answers,
    )


def _stages(prediction: StoredPrediction) -> Mapping[str, Sequence[str]]:
    stages = prediction.meta.get("retrieved")
    return {str(k): [str(d) for d in v] for k, v in stages.items()} if isinstance(stages, dict) else {}


def _four_cells(cells: Sequence[CellResult], documents: Sequence[str], task: TaskResult) -> FourCells | None:
    counts: Counter[tuple[bool, bool]] = Counter()
    for cell in cells:
        if len(cell.predictions) != len(documents):
            return None
        for p, document in zip(cell.predictions, documents, strict=True):
            shown = p.meta.get("passages")
            there = isinstance(shown, list) and document in shown
            counts[there, is_right(p.score[task.primary.name], task)] += 1
    return FourCells(counts[True, True], counts[True, False], counts[False, True], counts[False, False])


@dataclass(frozen=True, slots=True)
class Bounds:
    """The same strategy without passages, and with passages of the document that answers; None: not run."""

    floor: Row | None
    ceiling: Row | None


def bounds_of(row: Row, rows: Sequence[Row]) -> Bounds:
    """Found among the rows by their settings: the same model, size and other levers."""
    own = row.train_size, *without(row, "context")
    others = [r for r in rows if r.quality is not None and (r.train_size, *without(r, "context")) == own]
    k = settings(row).get("context", {}).get("k")
    ceilings = [r for r in others if is_ceiling(r)]
    same_k = [r for r in ceilings if settings(r)["context"].get("k") == k]
    floor = next((r for r in others if not pulls(r, "context")), None)
    return Bounds(floor, next(iter(same_k or ceilings), None))
