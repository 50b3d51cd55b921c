"""What the built-in metrics are made of: a judgement of one output, and an aggregate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from breakeven.harness.contracts import Example, Json, Prediction, Score, Services
from breakeven.harness.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Judge = Callable[[str, Sequence[Json]], Score]


class Aggregate(Protocol):
    """One number from everything: the metric's own, for those that are not a mean of their scores."""

    def __call__(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float: ...


#: (examples,) how often each example counts -> the aggregate.
OfWeights: TypeAlias = "Callable[[npt.NDArray[np.float64]], float]"


class Weighted(Protocol):
    """The aggregate as a function of how often each example counts: resampling reads no text twice."""

    def __call__(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> OfWeights: ...


def mean(examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]) -> float:
    """The mean of the scores; ValueError when there are none."""
    if not scores:
        raise ValueError("no scores to aggregate")
    return math.fsum(s.value for s in scores) / len(scores)


@dataclass(eq=False)
class Judged:
    """A metric made of two functions.

    `judge(output, references)` scores one output; a UserError it raises is completed with the example's id.
    `whole` aggregates; the mean, unless given, which makes the metric additive. `weighted` is the same for
    resampling and must agree with it. `binary`: a score is 0 or 1.
    """

    name: str
    judge: Judge
    range: tuple[float, float] | None = (0.0, 1.0)
    higher_is_better: bool = True
    whole: Aggregate = mean
    weighted: Weighted | None = None
    binary: bool = False
    additive: bool = field(init=False)

    def __post_init__(self) -> None:
        self.additive = self.whole is mean

    def score(self, example: Example, prediction: Prediction, services: Services | None) -> Score:
        if not example.references:
            raise UserError(
                f"example '{example.id}' has no reference", hint=f"{self.name} needs at least one"
            )
        try:
            return self.judge(prediction.output, example.references)
        except UserError as error:
            raise UserError(
                f"example '{example.id}': {error.what}", field=error.field or self.name, hint=error.hint
            ) from error

    def aggregate(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float:
        return self.whole(examples, predictions, scores)


def best(compare: Callable[[str, Json], Score]) -> Judge:
    """Judges an output by the reference that it fits best."""

    def judge(output: str, references: Sequence[Json]) -> Score:
        return max((compare(output, reference) for reference in references), key=lambda s: s.value)

    return judge


def right_or_wrong(right: bool, **why: Json) -> Score:
    """1, or 0 with what the reader should know."""
    return Score(1.0) if right else Score(0.0, why)


def f1(given: Counter[str], wanted: Counter[str]) -> float:
    """F1 of two multisets; 1 when both are empty."""
    if not given and not wanted:
        return 1.0
    return 2 * (given & wanted).total() / (given.total() + wanted.total())
