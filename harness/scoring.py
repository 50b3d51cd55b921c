"""Judges a cell's predictions: every metric on every example, aggregates, and draws of one that is no mean.

Used when a run has just predicted and when stored outputs are scored again, so that both say the same of the
same outputs. What is written where is the caller's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from breakeven.harness.contracts import Prediction, Score, Task


@dataclass(frozen=True, slots=True)
class Scored:
    """Judgements of one cell in the order of the task's test examples.

    `draws` are the primary aggregate over resamples; None where it is the mean of its scores.
    """

    scores: Mapping[str, Sequence[Score]]
    aggregates: Mapping[str, float]
    draws: Sequence[float] | None

    def row(self, position: int) -> dict[str, Any]:
        """The keys `score` and `detail` of an example's line in `predictions.jsonl`."""
        found = {metric: scores[position] for metric, scores in self.scores.items()}
        return {
            "score": {metric: score.value for metric, score in found.items()},
            "detail": {metric: dict(score.detail) for metric, score in found.items() if score.detail},
        }


def scored(task: Task, predictions: Sequence[Prediction]) -> Scored:
    """Every metric of `task` on `predictions`, one for each test example and in its order."""
    scores = {
        m.name: [m.score(e, p, None) for e, p in zip(task.test, predictions, strict=True)]
        for m in task.metrics
    }
    return Scored(
        scores,
        {m.name: m.aggregate(task.test, predictions, scores[m.name]) for m in task.metrics},
        None if task.primary.additive else resampled(task, predictions, scores[task.primary.name]),
    )


def resampled(task: Task, predictions: Sequence[Prediction], scores: Sequence[Score]) -> list[float]:
    """The primary aggregate over `stats.DRAWS` resamples of the test examples, for one that is no mean.

    The resamples are the same for every cell of a task, so that differences of draws are paired.
    """
    import numpy as np

    from breakeven.harness.stats import resamples

    groups = [e.group for e in task.test]
    draws = resamples(len(task.test), groups if any(g is not None for g in groups) else None)
    weighted = getattr(task.primary, "weighted", None)
    if weighted is not None:
        value = weighted(task.test, predictions)
        return [value(np.bincount(at, minlength=len(task.test)).astype(float)) for at in draws]
    values = []
    for indices in draws:
        chosen = indices.tolist()
        values.append(
            task.primary.aggregate(
                [task.test[i] for i in chosen], [predictions[i] for i in chosen], [scores[i] for i in chosen]
            )
        )
    return values


def judgement(task: Task) -> dict[str, Any]:
    """How a task judges, as `task.json` keeps it: its metrics, and the score that counts as correct."""
    return {
        "metrics": [
            {
                "name": m.name,
                "range": m.range,
                "higher_is_better": m.higher_is_better,
                "additive": m.additive,
            }
            for m in task.metrics
        ],
        "correct_at": task.correct_at,
    }
