"""The nouns of tuning: training pairs, trainers, and what a training is elsewhere.

Protocols and frozen dataclasses on top of `contracts`; nothing here does work. A strategy renders pairs, a
trainer makes an adapter of them, and neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from breakeven.harness.contracts import Brief, Example, Input, Json, Message, ModelCard, Request, Services


@dataclass(frozen=True, slots=True)
class Otherwise:
    """In what a training prompt differs from the serving prompt of the same input, on purpose.

    `what` says it for the reader, after "training prompts show"; `rest` is the prompt without it: the text of
    each of its messages stands within the message that serving sends in its place.
    """

    what: str
    rest: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A rendered training example: the very messages that serving sends, and the answer wanted.

    Without messages it is plain text: `answer` is all of it, no chat template stands around it, and all of it
    is learned. `otherwise` is set where the prompt is not that of serving on purpose; it decides no weights.
    """

    id: str
    messages: tuple[Message, ...]
    answer: str
    otherwise: Otherwise | None = None

    @property
    def is_text(self) -> bool:
        return not self.messages

    def tokens(self, count: Callable[[Request], int]) -> int:
        """Of prompt and answer together, without an end token; `count` is an engine's."""
        return count(Request(self.id, self.messages)) + count(Request(self.id, text=self.answer))


@dataclass(frozen=True, slots=True)
class Tunable:
    """What a trainer gets from an engine whose `capabilities.train` is set.

    `model` is the shared base model (a torch module, eval mode, no gradients): a trainer wraps it with an
    adapter and MUST unwrap it afterwards. `encode(messages, answer)` returns (prompt ids, answer ids), the
    answer ids ending in the end token that generation stops at, tokenised exactly as serving does. Of plain
    text (no messages) the prompt is its first token alone, which nothing stands before to predict it: the
    beginning-of-text token where the tokenizer puts one. `chat_template` is one that was set in place of the
    model's own, for systems that render by themselves.
    """

    model: Any
    encode: Callable[[Sequence[Message], str], tuple[list[int], list[int]]]
    pad_id: int
    end_id: int
    context: int
    device: str
    card: ModelCard
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What training did; the adapter lies in the folder the trainer was given.

    `losses` is (optimizer step, mean loss per answer token); `validation_losses` the same at epoch ends.
    `seconds` are those of the optimizer steps that made the adapter: not of steps repeated after a crash
    (`lost_seconds`), nor of validation (`validation_seconds`, over `validation_tokens`).
    """

    steps: int
    epochs: float
    examples: int
    truncated: int
    dropped: int
    training_tokens: int
    answer_tokens: int
    seconds: float
    trainable_parameters: int
    peak_bytes: int | None
    losses: tuple[tuple[int, float], ...]
    validation_losses: tuple[tuple[int, float], ...]
    settings: Mapping[str, Json]
    lost_seconds: float = 0.0
    validation_seconds: float = 0.0
    validation_tokens: int = 0


class Trainer(Protocol):
    """Training pairs in, a PEFT adapter folder out. Registered under `breakeven.trainers`.

    `train` must be resumable: called again with the same arguments after a crash it continues from its
    last checkpoint under `scratch` and ends with the same adapter as an unbroken run.

    A trainer that cannot train on plain text (pairs without messages) has `refuses_text`: why, as a sentence
    without its full stop.
    """

    def train(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        scratch: Path,
        seed: int,
        settings: Mapping[str, Json],
        progress: Callable[[float, float, str], None],
    ) -> TrainingResult: ...


# --- training elsewhere ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """Where a training goes: which system, on what, over which base model ("": by the name we know it by).

    `extra` are keys of the system's own configuration, laid over ours.
    """

    system: str
    device: Literal["cpu", "cuda"] = "cuda"
    model: str = ""
    micro_batch: int | None = None
    load_in_4bit: bool = False
    packing: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Export:
    """A training as files (relative path -> text), the record by which its result comes back, and what to
    know of it, as sentences."""

    files: Mapping[str, str]
    record: Mapping[str, Json]
    remarks: tuple[str, ...]


@runtime_checkable
class Exportable(Protocol):
    """A strategy that tunes weights, and whose training can be looked at, or done elsewhere.

    It may have `check_trainable(brief, services)`, which raises NotApplicable where `fit` would because its
    trainer cannot tune that model, so that nobody looks at a training that never is.
    """

    def training_pairs(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> tuple[Sequence[TrainingPair], Sequence[TrainingPair]]:
        """The training and validation pairs that `fit` would hand to its trainer. Trains nothing.

        Raises NotApplicable where it tunes no weights.
        """
        ...

    def requests(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        inputs: Sequence[Input],
    ) -> Sequence[Request]:
        """What it would ask about these inputs once it is fitted. Trains and asks nothing."""
        ...

    def export(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        target: ExportTarget,
    ) -> Export:
        """The same pairs as the files of another system. Raises UserError for what it cannot do."""
        ...


@dataclass(frozen=True, slots=True)
class Usability:
    """Whether a trainer can work on this machine.

    Attributes:
        usable: whether it can, now or after what it does by itself (making its environment).
        what: the system and version it would use, and where it would run.
        why_not: what is missing, as a sentence without its full stop; "" where it is usable.
        remedy: what would help, a command where there is one.
        note: what to know before choosing it.
    """

    usable: bool
    what: str
    why_not: str = ""
    remedy: str = ""
    note: str = ""


Factory = TypeVar("Factory", bound=Callable[..., Any])


@runtime_checkable
class Checked(Protocol):
    """A trainer that can tell whether it is usable here. Looks; installs and starts nothing.

    A trainer that cannot be made without settings says so by its factory: see `checked`.
    """

    def usable(self) -> Usability: ...


def checked(
    usable: Callable[[], Usability], abandon: Callable[[Any, Path], str] | None = None
) -> Callable[[Factory], Factory]:
    """Marks the factory of a trainer with what tells whether it is usable, whatever its settings.

    Args:
        abandon: of a hosted trainer, (endpoint, folder of the artifact) -> what became of a job that nobody
            wants any more, as a sentence: it is cancelled, and what was sent for it is taken back. The
            folder's `job.json` names the trainer (`trainer`), the server (`server`) and the model asked
            (`asks`). Raises a BreakevenError where that fails.
    """

    def mark(factory: Factory) -> Factory:
        vars(factory)["usable"] = usable
        if abandon is not None:
            vars(factory)["abandon"] = abandon
        return factory

    return mark
