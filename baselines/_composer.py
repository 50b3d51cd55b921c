"""From an input to the prompt that is asked: passages and demonstrations chosen, rendered, made to fit.

What is fitted here (the pool, the index) is all that prompting and retrieval learn from training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.baselines import _prompt, _raft
from breakeven.baselines._demonstrations import Candidate, Pool, draw
from breakeven.baselines._guard import Guard
from breakeven.baselines._prompt import Demonstration, Fitted, Passage
from breakeven.baselines._ranking import Found, Retriever
from breakeven.baselines._reranker import Reranker
from breakeven.baselines._retrieval import (
    PassageIndex,
    embedder_of,
    example_index,
    reference,
    resolved,
)
from breakeven.baselines._settings import (
    ContextSettings,
    DemonstrationSettings,
    LeverSettings,
    RaftSettings,
)
from breakeven.baselines._vectors import VectorIndex
from breakeven.harness.contracts import Brief, EngineSession, Example, Input, Message, Request, Services
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Phase

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Composer:
    """Renders inputs for one task and one setting of demonstrations and context.

    `pool_folder` is the artifact with the vectors of the pool, if it has some. `untold` training and
    validation examples do not say to an oracle which document answers.
    """

    brief: Brief
    settings: LeverSettings
    passages: PassageIndex | None = None
    pool: Pool | None = None
    pool_folder: Path | None = None
    guard: Guard = field(default_factory=Guard)
    reranker: Reranker | None = None
    untold: int = 0

    @classmethod
    def fit(
        cls,
        brief: Brief,
        settings: LeverSettings,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
    ) -> Composer:
        """Raises NotApplicable without documents to retrieve from or examples to show."""
        index, candidates, reranker, untold = None, [], None, 0
        if (context := settings.context) is not None:
            untold = _untold(context, brief, (*train, *validation))
            reranker = _reranker(context)
            index = index_of(brief, context, services)
        if (wanted := settings.demonstrations) is not None:
            candidates = _candidates(wanted, train, services.seed)
        passages = index.passages if index else ()
        guard = Guard.of((*train, *validation), candidates, passages)
        composer = cls(brief, settings, passages=index, guard=guard, reranker=reranker, untold=untold)
        return composer._with_pool(candidates, services) if candidates else composer

    def _with_pool(self, examples: Sequence[Example], services: Services) -> Composer:
        wanted, context = self.settings.demonstrations, self.settings.context
        assert wanted is not None
        texts = [_prompt.query_text(self.brief, e.input) for e in examples]
        folder = example_index(texts, services) if wanted.select == "similar" else None
        index = VectorIndex.read(folder / "vectors.faiss") if folder else None
        shown: list[tuple[Passage, ...]] = [()] * len(examples)
        if (retriever := self.retriever) is not None and context is not None and wanted.with_context:
            vectors = index.vectors() if index else None
            if vectors is None and context.needs_vectors:
                vectors = embedder_of(services).encode(texts, phase="index")
            inputs = [e.without_references() for e in examples]
            shown = [f.passages for f in retriever.find(inputs, texts, vectors, services, "index")]
        candidates = tuple(
            Candidate(Demonstration(e.id, e.input, _prompt.answer(e), passages), e.group)
            for e, passages in zip(examples, shown, strict=True)
        )
        return replace(self, pool=Pool(candidates, index), pool_folder=folder)

    @property
    def bare(self) -> Composer:
        """The same without anything shown beside the question."""
        nothing = self.settings.model_copy(update={"demonstrations": None, "context": None})
        return replace(self, settings=nothing, passages=None, pool=None, reranker=None)

    def compose(
        self,
        inputs: Sequence[Input],
        engine: EngineSession,
        services: Services,
        phase: Phase,
        raft: RaftSettings | None = None,
    ) -> list[Fitted]:
        """The prompt of each input, in their order; embedding what is asked is booked under `phase`.

        With `raft` the passages are drawn as it says, not simply retrieved.
        """
        shown: list[tuple[Demonstration, ...]] = [()] * len(inputs)
        texts, vectors = self._looked_up(inputs, services, phase)
        if raft is not None and self.retriever is not None and inputs:
            found = _raft.drawn(raft, self.retriever, inputs, texts, vectors, services, phase)
        else:
            found = self._retrieved(inputs, texts, vectors, services, phase)
        if self.pool is not None and self.settings.demonstrations is not None:
            shown = self.pool.choose(inputs, vectors, self.settings.demonstrations.k, self.guard)
        context = engine.describe().context
        room = None if context is None else context - self.brief.max_tokens
        result = []
        for number, asked in enumerate(inputs):
            result.append(self._fitted(asked, shown[number], found[number], engine, room))
            services.progress(number + 1, len(inputs), "rendering")
        return result

    def found(self, inputs: Sequence[Input], services: Services, phase: Phase) -> list[Found]:
        """The passages for each input, whether or not a prompt has room for them."""
        return self._retrieved(inputs, *self._looked_up(inputs, services, phase), services, phase)

    def _looked_up(
        self, inputs: Sequence[Input], services: Services, phase: Phase
    ) -> tuple[list[str], np.ndarray | None]:
        """What is searched for, as text and (inputs, dimension), where anything is embedded."""
        texts = [_prompt.query_text(self.brief, i.fields) for i in inputs]
        if not self.searches or not inputs:
            return texts, None
        return texts, embedder_of(services).encode(texts, phase=phase)

    def _retrieved(
        self,
        inputs: Sequence[Input],
        texts: Sequence[str],
        vectors: np.ndarray | None,
        services: Services,
        phase: Phase,
    ) -> list[Found]:
        if self.retriever is None or not inputs:
            return [Found()] * len(inputs)
        return self.retriever.find(inputs, texts, vectors, services, phase)

    @property
    def searches(self) -> bool:
        """Whether what is asked is embedded."""
        context = self.settings.context
        by_vectors = context is not None and context.needs_vectors
        return by_vectors or (self.pool is not None and self.pool.index is not None)

    @cached_property
    def retriever(self) -> Retriever | None:
        """What finds passages; None where none are shown."""
        if self.passages is None or self.settings.context is None:
            return None
        return Retriever(self.passages, self.settings.context, self.guard, self.reranker)

    def _fitted(
        self,
        asked: Input,
        demonstrations: Sequence[Demonstration],
        found: Found,
        engine: EngineSession,
        room: int | None,
    ) -> Fitted:
        def build(shown: Sequence[Demonstration], context: Sequence[Passage]) -> tuple[Message, ...]:
            return _prompt.messages(
                self.brief,
                asked.fields,
                passages=found.arranged(context),
                demonstrations=shown[::-1],  # the most wanted stands nearest to the question
                list_choices=self.settings.choices_are_listed,
            )

        def count(messages: tuple[Message, ...]) -> int:
            return engine.count_tokens(Request(asked.id, messages, max_tokens=self.brief.max_tokens))

        fitted = _prompt.fit(build, demonstrations, found.passages, count, room)
        return replace(
            fitted,
            passages=found.arranged(fitted.passages),
            found=len(found.passages),
            stages=found.stages or {},
        )

    # --- on disk -----------------------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what is needed to compose the same prompts again; returns what refers to artifacts."""
        self.guard.write(folder / "guard.json")
        if self.pool is not None:
            self.pool.write(folder / "demonstrations.jsonl")
        return {
            "passages": reference(self.passages.folder if self.passages else None, folder),
            "pool_vectors": reference(self.pool_folder, folder),
            "reranker": self.reranker.digest if self.reranker else None,
            "untold": self.untold,
        }

    @classmethod
    def load(
        cls, folder: Path, brief: Brief, settings: LeverSettings, references: Mapping[str, Any]
    ) -> Composer:
        passages = resolved(references["passages"], folder)
        vectors = resolved(references["pool_vectors"], folder)
        pool = None
        if settings.demonstrations is not None:
            index = VectorIndex.read(vectors / "vectors.faiss") if vectors else None
            pool = Pool.read(folder / "demonstrations.jsonl", index)
        return cls(
            brief,
            settings,
            PassageIndex.read(passages) if passages else None,
            pool,
            vectors,
            Guard.read(folder / "guard.json"),
            _reranker(settings.context, references.get("reranker")),
            references.get("untold", 0),
        )


def index_of(brief: Brief, context: ContextSettings, services: Services) -> PassageIndex:
    """Raises NotApplicable as `PassageIndex.build` does."""
    return PassageIndex.build(
        brief.documents,
        context.chunk_tokens,
        context.chunk_overlap,
        services,
        by_vectors=context.needs_vectors,
        by_words=context.needs_words,
    )


def _reranker(context: ContextSettings | None, fitted_with: str | None = None) -> Reranker | None:
    """Raises UserError where its weights cannot be loaded, or are not those of the fitted strategy."""
    if context is None or context.rerank is None:
        return None
    found = Reranker(context.rerank)
    found.load()
    if fitted_with is not None and fitted_with != found.digest:
        raise UserError(
            f"the weights of '{context.rerank}' have changed since this strategy was fitted",
            field="context.rerank",
            hint="run it again in a new run folder, or put the old weights back",
        )
    return found


def _untold(context: ContextSettings, brief: Brief, examples: Sequence[Example]) -> int:
    """How many examples do not tell an oracle which document answers, by the group that they have. Raises
    NotApplicable where none does.
    """
    known = {d.id for d in brief.documents}
    if context.retriever != "oracle" or not known:
        return 0
    untold = sum(e.group not in known for e in examples)
    if examples and untold == len(examples):  # without any the harness knows
        raise NotApplicable("the examples do not say which document answers: no group is a document's id")
    return untold


def _candidates(wanted: DemonstrationSettings, train: Sequence[Example], seed: int) -> list[Example]:
    if not train:
        raise NotApplicable("no training examples to show as demonstrations")
    examples = draw(train, wanted.select, seed)
    if wanted.select == "similar":
        return examples
    return examples[: 2 * wanted.k + 16]  # beyond k only for examples that must not see the first ones
