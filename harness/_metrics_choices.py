"""Metrics for tasks with a closed set of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from breakeven.harness._answers import answer_text, match_choice
from breakeven.harness._metric_parts import Judge, Judged, OfWeights, right_or_wrong
from breakeven.harness.contracts import Example, Json, Metric, Prediction, Score
from breakeven.harness.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt


def accuracy(*, choices: tuple[str, ...] | None = None) -> Metric:
    """1 if the choice that the output names (`match_choice`) is a reference."""
    return Judged("accuracy", _correct(_needed("accuracy", choices)), binary=True)


def macro_f1(*, choices: tuple[str, ...] | None = None) -> Metric:
    """F1 of each choice, averaged over the choices that occur, by scikit-learn.

    An example's score is whether it is right. Choices count that are a reference or were answered; an
    output that names no choice is a miss of its reference and nobody's false alarm.
    """
    known = _needed("macro_f1", choices)

    def weighted(examples: Sequence[Example], predictions: Sequence[Prediction]) -> OfWeights:
        import numpy as np
        from sklearn.metrics import f1_score

        codes = {choice: code for code, choice in enumerate(known)}
        pairs = np.empty((len(examples), 2), dtype=np.int64)  # wanted, given; -1 for no choice
        for row, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
            labels = _labels(example.references, known)
            answered = match_choice(prediction.output, known)
            pairs[row] = (
                codes[answered if answered in labels else labels[0]],
                -1 if answered is None else codes[answered],
            )
        kinds, kind_of = np.unique(pairs, axis=0, return_inverse=True)

        def value(weights: npt.NDArray[np.float64]) -> float:
            counts = np.bincount(kind_of, weights=weights, minlength=len(kinds))
            wanted, given = kinds[counts > 0].T
            occurring = np.setdiff1d(np.union1d(wanted, given), [-1])
            return float(
                f1_score(
                    wanted,
                    given,
                    labels=occurring,
                    average="macro",
                    sample_weight=counts[counts > 0],
                    zero_division=0.0,
                )
            )

        return value

    def whole(
        examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float:
        import numpy as np

        return weighted(examples, predictions)(np.ones(len(examples)))

    return Judged("macro_f1", _correct(known), whole=whole, weighted=weighted, binary=True)


def _correct(choices: tuple[str, ...]) -> Judge:
    def judge(output: str, references: Sequence[Json]) -> Score:
        labels = _labels(references, choices)
        answered = match_choice(output, choices)
        if answered is None:
            return right_or_wrong(False, why="no choice matched")
        return right_or_wrong(answered in labels, matched=answered)

    return judge


def _labels(references: Sequence[Json], choices: tuple[str, ...]) -> list[str]:
    """The choices that the references are. Raises UserError for one that is none of them."""
    labels = []
    for reference in references:
        label = match_choice(answer_text(reference), choices)
        if label is None:
            raise UserError(f"the reference '{answer_text(reference)}' is none of the task's choices")
        labels.append(label)
    return labels


def _needed(name: str, choices: tuple[str, ...] | None) -> tuple[str, ...]:
    if not choices:
        raise UserError(
            f"metric '{name}' needs a task with choices",
            hint="list them, or use exact_match or normalised_match",
        )
    return choices
