"""From an input to the prompt that is asked: passages and demonstrations chosen, rendered, made to fit.

What is fitted here (the pool, the index) is all that prompting and retrieval learn from training examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from breakeven.baselines import _prompt
from breakeven.baselines._demonstrations import Candidate, Pool, draw
from breakeven.baselines._guard import Guard
from breakeven.baselines._prompt import Demonstration, Fitted, Passage
from breakeven.baselines._retrieval import (
    PassageIndex,
    embedder_of,
    example_index,
    reference,
    resolved,
)
from breakeven.baselines._settings import DemonstrationSettings, LeverSettings
from breakeven.baselines._vectors import VectorIndex
from breakeven.harness.contracts import Brief, EngineSession, Example, Input, Message, Request, Services
from breakeven.harness.errors import NotApplicable
from breakeven.harness.ledger import Phase


@dataclass(frozen=True)
class Composer:
    """Renders inputs for one task and one setting of demonstrations and context.

    `pool_folder` is the artifact with the vectors of the pool, if it has some.
    """

    brief: Brief
    settings: LeverSettings
    passages: PassageIndex | None = None
    pool: Pool | None = None
    pool_folder: Path | None = None
    guard: Guard = field(default_factory=Guard)

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
        index, candidates = None, []
        if (context := settings.context) is not None:
            index = PassageIndex.build(brief.documents, context.chunk_tokens, context.chunk_overlap, services)
        if (wanted := settings.demonstrations) is not None:
            candidates = _candidates(wanted, train, services.seed)
        passages = index.passages if index else ()
        guard = Guard.of((*train, *validation), candidates, passages)
        composer = cls(brief, settings, passages=index, guard=guard)
        return composer._with_pool(candidates, services) if candidates else composer

    def _with_pool(self, examples: Sequence[Example], services: Services) -> Composer:
        wanted, context = self.settings.demonstrations, self.settings.context
        assert wanted is not None
        texts = [_prompt.query_text(self.brief, e.input) for e in examples]
        folder = example_index(texts, services) if wanted.select == "similar" else None
        index = VectorIndex.read(folder / "vectors.faiss") if folder else None
        shown: list[tuple[Passage, ...]] = [()] * len(examples)
        if self.passages is not None and context is not None and wanted.with_context:
            vectors = index.vectors() if index else embedder_of(services).encode(texts, phase="index")
            inputs = [e.without_references() for e in examples]
            shown = self.passages.nearest(inputs, vectors, context.k, self.guard)
        candidates = tuple(
            Candidate(Demonstration(e.id, e.input, _prompt.answer(e), passages), e.group)
            for e, passages in zip(examples, shown, strict=True)
        )
        return replace(self, pool=Pool(candidates, index), pool_folder=folder)

    def compose(
        self, inputs: Sequence[Input], engine: EngineSession, services: Services, phase: Phase
    ) -> list[Fitted]:
        """The prompt of each input, in their order; embedding what is asked is booked under `phase`."""
        found: list[tuple[Passage, ...]] = [()] * len(inputs)
        shown: list[tuple[Demonstration, ...]] = [()] * len(inputs)
        vectors = None
        if self.searches and inputs:
            texts = [_prompt.query_text(self.brief, i.fields) for i in inputs]
            vectors = embedder_of(services).encode(texts, phase=phase)
        if self.passages is not None and self.settings.context is not None and vectors is not None:
            found = self.passages.nearest(inputs, vectors, self.settings.context.k, self.guard)
        if self.pool is not None and self.settings.demonstrations is not None:
            shown = self.pool.choose(inputs, vectors, self.settings.demonstrations.k, self.guard)
        context = engine.describe().context
        room = None if context is None else context - self.brief.max_tokens
        result = []
        for number, asked in enumerate(inputs):
            result.append(self._fitted(asked, shown[number], found[number], engine, room))
            services.progress(number + 1, len(inputs), "rendering")
        return result

    @property
    def searches(self) -> bool:
        """Whether what is asked is embedded."""
        return self.passages is not None or (self.pool is not None and self.pool.index is not None)

    def _fitted(
        self,
        asked: Input,
        demonstrations: Sequence[Demonstration],
        passages: Sequence[Passage],
        engine: EngineSession,
        room: int | None,
    ) -> Fitted:
        def build(shown: Sequence[Demonstration], context: Sequence[Passage]) -> tuple[Message, ...]:
            return _prompt.messages(
                self.brief,
                asked.fields,
                passages=context,
                demonstrations=shown[::-1],  # the most wanted stands nearest to the question
                list_choices=self.settings.choices_are_listed,
            )

        def count(messages: tuple[Message, ...]) -> int:
            return engine.count_tokens(Request(asked.id, messages, max_tokens=self.brief.max_tokens))

        return _prompt.fit(build, demonstrations, passages, count, room)

    # --- on disk -----------------------------------------------------------------------------

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what is needed to compose the same prompts again; returns what refers to artifacts."""
        self.guard.write(folder / "guard.json")
        if self.pool is not None:
            self.pool.write(folder / "demonstrations.jsonl")
        return {
            "passages": reference(self.passages.folder if self.passages else None, folder),
            "pool_vectors": reference(self.pool_folder, folder),
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
        )


def _candidates(wanted: DemonstrationSettings, train: Sequence[Example], seed: int) -> list[Example]:
    if not train:
        raise NotApplicable("no training examples to show as demonstrations")
    examples = draw(train, wanted.select, seed)
    if wanted.select == "similar":
        return examples
    return examples[: 2 * wanted.k + 16]  # beyond k only for examples that must not see the first ones
