"""The nouns of looking ahead: what a strategy or a training would consume, before anything runs.

Protocols and frozen dataclasses on top of `contracts` and `training`; `estimate`, `probe` and the gate of
`breakeven run` read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from breakeven.harness.contracts import Brief, Example, Input, Json, Request, Services
from breakeven.harness.training import TrainingPair, Tunable


@dataclass(frozen=True, slots=True)
class Steps:
    """What decides how long training takes: `padded` are the tokens computed in all passes, padding included
    and shared beginnings once; `squared` the pairs of them in attention. `seconds` is their wall time where
    they were run.
    """

    count: int
    padded: int
    squared: int
    seconds: float = 0.0

    def __add__(self, other: Steps) -> Steps:
        return Steps(
            self.count + other.count,
            self.padded + other.padded,
            self.squared + other.squared,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """A few real optimizer steps, one entry each, to know a training's speed; their adapter lies in the
    folder that was given.

    `validating` is one pass without gradients (None where there is nothing to validate on). `setup_seconds`
    came around the steps: wrapping the model, saving the adapter. `resting_bytes` were held before, and
    `peak_bytes` with the activations of a pass of `pass_tokens` padded tokens.
    """

    steps: tuple[Steps, ...]
    validating: Steps | None
    setup_seconds: float
    trainable_parameters: int
    resting_bytes: int | None
    peak_bytes: int | None
    pass_tokens: int


@dataclass(frozen=True, slots=True)
class TrainingOutlook:
    """What a training would consume, counted as the trainer counts, before it is done.

    Attributes:
        key: address of everything that decides the adapter; equal keys share one training.
        training_tokens: over all epochs, without padding; `exact` unless the trainer could not say.
        answer_lengths: tokens of each training answer without its end token: what a tuned model will write.
            None of plain text, which is no answer.
        work: its optimizer steps, and `validating` the passes over validation examples; None where unknown.
        pass_tokens: padded tokens of the largest pass.
        flops: operations of the training, recomputation left out; None where unknown.
        held_bytes: -> bytes held on top of the base weights in the largest pass, from the architecture alone;
            None where the trainer cannot say, and then those of `sample` count.
        sample: (folder, seconds) -> a few real steps, about so many seconds of them.
        billed: somebody else trains, for `money`, None where that has no price; `unpriced` names what is not
            counted. What comes out is then asked at the price of `served_as`; where it must be deployed,
            an hour costs that of `hosting`, and it serves after `hosting_patience` seconds at most.
    """

    key: str
    training_tokens: int
    answer_lengths: tuple[int, ...]
    exact: bool = True
    work: Steps | None = None
    validating: Steps | None = None
    pass_tokens: int = 0
    trainable_parameters: int | None = None
    flops: float | None = None
    held_bytes: Callable[[], int | None] | None = None
    sample: Callable[[Path, float], TrainingSample] | None = None
    billed: bool = False
    money: float | None = 0.0
    unpriced: tuple[str, ...] = ()
    served_as: str = ""
    hosting: str = ""
    hosting_patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Preview:
    """What a strategy would do, found out without asking or training a model.

    `requests` gives what `predict` would send for some inputs. `scale` (at least 1) is how much larger `fit`
    is than what was looked at, training left out.

    Where settings are searched for, `training` is that of the first candidate, `trials` those of the others,
    and `judged_on` the validation examples that each of them answers.
    """

    requests: Callable[[Sequence[Input]], Sequence[Request]]
    training: TrainingOutlook | None = None
    scale: float = 1.0
    trials: tuple[TrainingOutlook, ...] = ()
    judged_on: int = 0


@runtime_checkable
class Previewed(Protocol):
    """A strategy that can be estimated; one that is not has unknown tokens and seconds."""

    def preview(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        sample: int,
    ) -> Preview:
        """Through the code that fits and serves. Looks at `sample` examples and documents at most, and
        counts as if all were like them. Raises NotApplicable as `fit` does.
        """
        ...


@runtime_checkable
class PreviewedTrainer(Protocol):
    """A trainer that can be estimated."""

    def outlook(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        seed: int,
        settings: Mapping[str, Json],
    ) -> TrainingOutlook:
        """The plan of `train` with the same arguments; its `key` is left to the caller."""
        ...
