"""The nouns of Breakeven: tasks, strategies, engines, and what passes between them.

Protocols and frozen dataclasses only; nothing here imports a heavy library or does work.
A task knows data and judgement, a strategy how to answer, an engine how to run a language model;
none knows the others. What Breakeven ships is written against this module, as what users add. The nouns of
tuning are in `training`, those of looking ahead in `previews`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from breakeven.harness.ledger import Ledger, Phase

Json = str | int | float | bool | None | list[Any] | dict[str, Any]
Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": "..."}


# --- tasks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Input:
    """An example without its references: all that a predictor ever sees.

    `fields` feed the task's input template. `group` (what makes examples dependent) is there for training and
    validation examples only: of a test example it could name the document that answers.
    """

    id: str
    fields: Mapping[str, Json]
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled row. `references` are the acceptable answers; a list answer is ONE reference."""

    id: str
    input: Mapping[str, Json]
    references: tuple[Json, ...]
    group: str | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)

    def without_references(self) -> Input:
        return Input(self.id, self.input, self.group)


@dataclass(frozen=True, slots=True)
class Document:
    """A text that retrieval may offer. `meta` holds title, source path, page."""

    id: str
    text: str
    title: str = ""
    meta: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Brief:
    """A task without its splits: what a strategy is told.

    `instructions` is plain text; `input_template` is a sandboxed Jinja template over an input's
    fields; `choices` the closed set of answers, if there is one; `max_tokens` the room an answer
    needs; `language` an ISO 639-1 code; `primary` the name of the deciding metric, of which more is better
    or (`higher_is_better` false) less.
    """

    name: str
    instructions: str
    input_template: str
    primary: str
    choices: tuple[str, ...] | None = None
    documents: tuple[Document, ...] = ()
    max_tokens: int = 64
    language: str = "en"
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Task:
    """Data and judgement, nothing else. A task never knows which strategy runs.

    `metrics` are resolved metrics, the first one (`primary`) decides; `correct_at` is the score
    that counts as correct when the primary metric is graded. `cut` records how missing splits
    were made, what was left out and where the rows came from (`cut["from"]`).
    """

    name: str
    instructions: str
    input_template: str
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    metrics: tuple[Metric, ...]
    choices: tuple[str, ...] | None = None
    documents: tuple[Document, ...] = ()
    max_tokens: int = 64
    language: str = "en"
    correct_at: float = 1.0
    description: str = ""
    licence: str = ""
    cut: Mapping[str, Json] = field(default_factory=dict)

    @property
    def primary(self) -> Metric:
        return self.metrics[0]

    @property
    def brief(self) -> Brief:
        return Brief(
            name=self.name,
            instructions=self.instructions,
            input_template=self.input_template,
            primary=self.primary.name,
            choices=self.choices,
            documents=self.documents,
            max_tokens=self.max_tokens,
            language=self.language,
            higher_is_better=self.primary.higher_is_better,
        )

    def limited(self, **sizes: int | None) -> Task:
        """The task with at most `train=`, `validation=`, `test=` examples of each split (see `take`)."""
        cut: dict[str, Any] = {
            name: take(getattr(self, name), n) for name, n in sizes.items() if n is not None
        }
        return replace(self, **cut)


def take(examples: Sequence[Example], n: int) -> tuple[Example, ...]:
    """The same `n` examples every time, whatever their order: those whose hashed ids are smallest.

    A smaller `n` gives a subset of a larger one, so that learning curves grow one training set.
    """
    if n >= len(examples):
        return tuple(examples)
    ranked = sorted(examples, key=lambda e: hashlib.sha256(e.id.encode()).digest())
    chosen = {e.id for e in ranked[:n]}
    return tuple(e for e in examples if e.id in chosen)


# --- metrics ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Score:
    """One metric on one example. `detail` is for the reader (what was parsed, why it is wrong)."""

    value: float
    detail: Mapping[str, Json] = field(default_factory=dict)


@runtime_checkable
class Metric(Protocol):
    """Judges one prediction, and aggregates the judgements.

    Attributes:
        name: as the suite and the report show it.
        range: (worst possible, best possible) of a score, or None where it is open.
        higher_is_better: the direction.
        additive: True when `aggregate` is the mean of the scores, so that per-example statistics hold.
    """

    name: str
    range: tuple[float, float] | None
    higher_is_better: bool
    additive: bool

    def score(self, example: Example, prediction: Prediction, services: Services | None) -> Score: ...

    def aggregate(
        self, examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float: ...


# --- engines ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Logical tokens: what a deployment would be billed for. No padding, no savings of our own."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0  # as a provider reported them; a price matter, never a saving of ours
    estimated: bool = False  # the provider reported nothing: counted by a rule of thumb, not measured

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a language model: `messages` or `text`, not both.

    With `choices` the engine returns the log-probability of each choice instead of text.
    """

    id: str
    messages: tuple[Message, ...] = ()
    text: str | None = None
    max_tokens: int = 64
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    choices: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to the request of the same id.

    `finish_reason` is "stop", "length", "choices" or a provider's own word. `seconds` is the wall
    time of the request, or its equal share of a batch's (then never used for latency); None where nobody
    waited for it alone (a provider's batch mode).
    """

    id: str
    text: str
    finish_reason: str
    usage: Usage
    seconds: float | None
    choice_logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do; a strategy that needs more is "not applicable" or says so."""

    logprobs: bool = False  # scores choices
    adapters: bool = False  # applies a PEFT adapter folder
    train: bool = False  # hands out a tunable model
    batch_dependent: bool = False  # an answer may depend on its batch (bf16): replay whole batches


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of the model behind an engine. None means unknown, never zero.

    `parameters` are all weights, `active_parameters` those multiplied per token (tied embedding counted
    once as the output head); `layers` and `attention_width` (heads x head size) feed the FLOPs formula;
    `data_goes_to` is "this machine" or a host name; `digest` a hash of the weights, or of what is asked of a
    provider; `price_as` the name the price book knows its tokens by ("" where seconds are priced instead);
    `hosting` the name of the hour of its deployment, where it must be deployed to be asked.
    """

    name: str
    engine: str
    parameters: int | None = None
    active_parameters: int | None = None
    layers: int | None = None
    attention_width: int | None = None
    context: int | None = None
    licence: str = "unknown"
    dtype: str = "unknown"
    device: str = "unknown"
    data_goes_to: str = "this machine"
    digest: str = ""
    price_as: str = ""
    hosting: str = ""


@runtime_checkable
class Engine(Protocol):
    """A language model that bills.

    The harness never calls `complete` with more than one of the groups that `plan` returned, records the
    plan before it starts, and replays it on resume; so strategies see one `complete(requests)` over
    everything (`Services.engine`), and an engine only ever deals with one batch.
    """

    capabilities: Capabilities

    def describe(self) -> ModelCard: ...

    def plan(self, requests: Sequence[Request], concurrency: int | None = None) -> list[list[Request]]:
        """Group requests into batches that `complete` takes whole. `concurrency` caps a batch's size."""
        ...

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one batch, each as it finishes. Raises OutOfMemory when it does not fit."""
        ...

    def count_tokens(self, request: Request) -> int:
        """Input tokens of a request, chat template included (an estimate where the tokenizer is unknown)."""
        ...

    def adapt(self, adapter: Path | None) -> Engine:
        """The same engine with a PEFT adapter applied (None: the base model). Weights are shared."""
        ...


# --- strategies ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a strategy answered to the input of the same id.

    `usage` and `seconds` are summed over the engine calls for this example. `meta` is for the report:
    retrieved passage ids, demonstrations used, choice scores. `prompt` is kept only on request.
    """

    id: str
    output: str
    usage: Usage = Usage()
    seconds: float | None = None
    finish_reason: str = ""
    meta: Mapping[str, Json] = field(default_factory=dict)
    prompt: tuple[Message, ...] | None = None


class EngineSession(Protocol):
    """An engine as a strategy sees it: journalled, resumable, billed to the current cell and phase."""

    @property
    def capabilities(self) -> Capabilities: ...

    def describe(self) -> ModelCard: ...

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]: ...

    def count_tokens(self, request: Request) -> int: ...

    def adapt(self, adapter: Path | None) -> EngineSession: ...

    @property
    def raw(self) -> Engine:
        """The engine itself, for trainers: `raw.tunable()` where `capabilities.train`."""
        ...


class Embedder(Protocol):
    """Text to unit vectors; books its tokens and seconds under the phase given."""

    name: str
    language: str

    def encode(self, texts: Sequence[str], *, phase: Phase) -> np.ndarray:
        """(len(texts), dimension) float32, rows of length 1."""
        ...


@runtime_checkable
class TunableEmbedder(Embedder, Protocol):
    """An embedder whose weights can be fine-tuned. The model that others share is never changed."""

    @property
    def digest(self) -> str:
        """Hash of what its vectors depend on: the weights, and how they are used."""
        ...

    def tunable(self) -> Any:
        """The model as a sentence-transformers module of the caller's own (eval mode), to be changed."""
        ...

    def adapt(self, folder: Path) -> Embedder:
        """The same embedder with the weights of a `tunable()` that was saved there, billed as this one."""
        ...


ArtifactBuild = Callable[[Path, "Ledger"], None]


class Artifacts(Protocol):
    """Content-addressed folders shared between the cells of a run (indices, adapters)."""

    def get(self, kind: str, spec: Mapping[str, Json], build: ArtifactBuild) -> Path:
        """The folder for `spec`, built once; what building it cost is billed to every cell that asks.

        `build(folder, ledger)` writes into `folder`, which survives a crash, so a build may leave checkpoints
        there and continue. The folder is the artifact only once `build` has returned.
        """
        ...


@dataclass(frozen=True)
class Services:
    """What the harness lends to a strategy while it fits and predicts.

    `score` judges predictions on validation examples with the primary metric (mean); `progress(done,
    total, what)` feeds the display and must be called at least every few seconds of work.
    """

    seed: int
    ledger: Ledger
    scratch: Path
    artifacts: Artifacts
    engine: EngineSession | None = None
    embedder: Callable[[], Embedder] | None = None
    score: Callable[[Sequence[Prediction]], float] | None = None
    progress: Callable[[float, float, str], None] = lambda done, total, what: None
    pending_state: Mapping[str, Any] | None = None
    keep_prompts: bool = False


@runtime_checkable
class Predictor(Protocol):
    """A fitted strategy."""

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        """One prediction per input, keyed by id, in any order."""
        ...

    def save(self, folder: Path) -> None: ...


VariesWith = Literal["seed", "train_size", "model"]


@runtime_checkable
class Strategy(Protocol):
    """A way to answer a task. Built from JSON settings: `factory(**settings) -> Strategy`.

    Attributes:
        varies_with: what its result depends on, so that no cell is run twice. A strategy without
            "model" gets no engine; one without "train_size" and "seed" no rows to fit on, where every row
            is scored out of fold.

    A strategy may have `ceiling`: true where it must be told which document answers (the group of an
    input) to show how far better retrieval could bring it. No verdict names such a strategy.

    A strategy that chooses among settings by validation examples has `trials`, how many it tries (1 unless
    said), and its predictor's notes hold a `trials.Search` as JSON under "search".
    """

    varies_with: frozenset[VariesWith]

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> Predictor:
        """Raises NotApplicable with a reason, or Pending for work that goes on elsewhere.

        After Pending, `fit` is called again from its start with the state it left: requests it sends again
        are answered from the journal, and only what this last call books is billed.
        """
        ...

    def load(self, folder: Path, brief: Brief, services: Services) -> Predictor:
        """The predictor that `save` wrote; must answer exactly as the one that was saved."""
        ...


@runtime_checkable
class Retrieving(Protocol):
    """A strategy that looks passages up, and can do that alone: without a language model, or fitting.

    May have `retrieval_remarks(brief, services) -> list of sentences`, asked after `retrieve`: what a reader
    of the numbers should know.
    """

    def retrieve(
        self, brief: Brief, inputs: Sequence[Input], services: Services
    ) -> Sequence[Mapping[str, Sequence[str]]]:
        """For each input, by stage of retrieval in their order, the documents of the first ten passages, best
        first. Books what it consumes; raises NotApplicable as `fit` does.
        """
        ...
