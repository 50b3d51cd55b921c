"""From what is asked to the passages shown: retrieved, fused, reranked, made diverse, as the settings say.

What each of these stages put first is kept, so that its worth can be measured where a task says which
document answers. That takes ten passages: where fewer `candidates` go on to the next stage, the others follow
them in the order of the stage before, and are only measured, never shown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from breakeven.baselines._guard import Guard
from breakeven.baselines._prompt import Passage
from breakeven.baselines._reranker import Reranker
from breakeven.baselines._retrieval import PassageIndex
from breakeven.baselines._settings import ContextSettings
from breakeven.harness.contracts import Input, Services
from breakeven.harness.ledger import Phase

if TYPE_CHECKING:
    import numpy as np

#: Constant of reciprocal rank fusion, as Cormack, Clarke and Buettcher (2009) set it.
RRF = 60
#: Passages of each stage whose documents are kept.
KEPT = 10

Ranked = list[tuple[int, float]]  # (row, how good), best first
#: Passages of the document that answers, or of all others, where an input says which one it is.
Sees = Literal["all", "answering", "others"]


@dataclass(frozen=True, slots=True)
class Found:
    """The passages for one question, best first, and by stage the documents of the first `KEPT` passages.

    `places` say where each stands among those shown; without them they stand as they are ranked.
    """

    passages: tuple[Passage, ...] = ()
    stages: Mapping[str, tuple[str, ...]] | None = None
    places: tuple[int, ...] = ()

    def arranged(self, fitting: Sequence[Passage]) -> tuple[Passage, ...]:
        """The first of the passages, as many as fit, in the order in which they are shown."""
        if not self.places:
            return tuple(fitting)
        return tuple(fitting[i] for i in sorted(range(len(fitting)), key=self.places.__getitem__))


@dataclass(frozen=True)
class Retriever:
    """One setting of `context` over one index; `sees` limits it to a part of the documents."""

    index: PassageIndex
    settings: ContextSettings
    guard: Guard
    reranker: Reranker | None = None
    sees: Sees = "all"

    def find(
        self,
        asked: Sequence[Input],
        texts: Sequence[str],
        vectors: np.ndarray | None,
        services: Services,
        phase: Phase,
    ) -> list[Found]:
        """The passages of each input.

        Args:
            texts: what is looked up, in the order of the inputs; `vectors` (inputs, dimension) theirs, needed
                unless the settings search by words alone.
        """
        wanted = self.settings
        depth = wanted.candidates if wanted.stages > 1 else max(wanted.k, KEPT)
        deep = max(depth, KEPT)
        stages: dict[str, list[Ranked]] = {}
        if wanted.retriever != "lexical":
            stages["oracle" if wanted.retriever == "oracle" else "dense"] = self._dense(asked, vectors, deep)
        if wanted.needs_words:
            stages["lexical"] = self._lexical(asked, texts, deep, services, phase)
        ranked = list(stages.values())[-1]
        if wanted.retriever == "hybrid":
            pairs = zip(stages["dense"], stages["lexical"], strict=True)
            ranked = stages["fused"] = [
                _followed(fused([some[:depth] for some in pair])[:depth], fused(pair)) for pair in pairs
            ]
        if self.reranker is not None:
            found = self._reranked(texts, [rows[:depth] for rows in ranked], services, phase)
            ranked = stages["reranked"] = list(map(_followed, found, ranked))
        if wanted.mmr is not None:
            found = self._diverse(vectors, [rows[:depth] for rows in ranked], wanted.mmr)
            ranked = stages["diverse"] = list(map(_followed, found, ranked))
        shown = min(wanted.k, depth)
        return [
            Found(
                tuple(self.index.passages[row] for row, _ in ranked[i][:shown]),
                {name: self._documents(rows[i]) for name, rows in stages.items()},
            )
            for i in range(len(asked))
        ]

    def _allowed(self, asked: Input, row: int) -> bool:
        passage = self.index.passages[row]
        sees = "answering" if self.settings.retriever == "oracle" else self.sees
        if sees != "all" and asked.group in self.documents:
            answers = passage.document == asked.group
            if answers != (sees == "answering"):
                return False
        return self.guard.passage_allowed(asked, passage)

    @cached_property
    def documents(self) -> frozenset[str]:
        """Ids of the documents that have passages."""
        return frozenset(p.document for p in self.index.passages)

    def _documents(self, ranked: Ranked) -> tuple[str, ...]:
        return tuple(self.index.passages[row].document for row, _ in ranked[:KEPT])

    # --- stages ------------------------------------------------------------------------------

    def _dense(self, asked: Sequence[Input], vectors: np.ndarray | None, depth: int) -> list[Ranked]:
        assert self.index.vectors is not None
        assert vectors is not None
        found = self.index.vectors.nearest(vectors, depth, lambda n, row: self._allowed(asked[n], row))
        return [_by_rank(rows) for rows in found]

    def _lexical(
        self, asked: Sequence[Input], texts: Sequence[str], depth: int, services: Services, phase: Phase
    ) -> list[Ranked]:
        from breakeven.harness import hardware

        assert self.index.lexical is not None
        start = time.perf_counter()
        found = self.index.lexical.nearest(texts, depth, lambda n, row: self._allowed(asked[n], row))
        took = time.perf_counter() - start
        services.ledger.book(phase, "seconds", took, source="measured: BM25", hardware=hardware.name())
        return [_by_rank(rows) for rows in found]

    def _reranked(
        self, texts: Sequence[str], ranked: Sequence[Ranked], services: Services, phase: Phase
    ) -> list[Ranked]:
        assert self.reranker is not None
        found = []
        for number, (text, rows) in enumerate(zip(texts, ranked, strict=True)):
            read = [f"{p.title}\n{p.text}".strip() for p in (self.index.passages[row] for row, _ in rows)]
            scores = self.reranker.scores(text, read, services.ledger, phase)
            best = sorted(range(len(rows)), key=lambda i: (-round(scores[i], 6), i))
            found.append([(rows[i][0], scores[i]) for i in best])
            services.progress(number + 1, len(texts), "reranking")
        return found

    def _diverse(self, vectors: np.ndarray | None, ranked: Sequence[Ranked], weight: float) -> list[Ranked]:
        assert self.index.vectors is not None
        found = []
        for number, rows in enumerate(ranked):
            own = self.index.vectors.some([row for row, _ in rows])
            scores = [score for _, score in rows]
            if self.settings.retriever == "dense" and self.reranker is None and vectors is not None:
                scores = [float(s) for s in own @ vectors[number]]
            order = diverse(scores, own, weight, max(self.settings.k, KEPT))
            found.append([(rows[i][0], scores[i]) for i in order])
        return found


def _by_rank(rows: Sequence[int]) -> Ranked:
    return [(row, 1 / (RRF + rank)) for rank, row in enumerate(rows, 1)]


def _followed(first: Ranked, others: Ranked) -> Ranked:
    """`first`, and behind it what it leaves out of `others`."""
    known = {row for row, _ in first}
    return [*first, *(item for item in others if item[0] not in known)]


def fused(rankings: Sequence[Ranked]) -> Ranked:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): a row's good is the sum, over the rankings
    it is in, of 1 / (60 + its rank). Of equally good rows the one that an earlier ranking has first.
    """
    good: dict[int, float] = {}
    for ranking in rankings:
        for rank, (row, _) in enumerate(ranking, 1):
            good[row] = good.get(row, 0.0) + 1 / (RRF + rank)
    return sorted(good.items(), key=lambda item: -item[1])


def diverse(scores: Sequence[float], vectors: np.ndarray, weight: float, number: int) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998): positions, one after the other, of the
    largest weight x score - (1 - weight) x (cosine with the most alike of those already chosen).

    Args:
        scores: relevance, of any range; taken to 0..1 among these candidates.
        vectors: (candidates, dimension) of length 1.
    """
    import numpy as np

    if not len(scores):
        return []
    relevance = np.asarray(scores, dtype=np.float64)
    span = relevance.max() - relevance.min()
    relevance = (relevance - relevance.min()) / span if span > 0 else np.ones_like(relevance)
    alike = np.zeros(len(relevance))
    left = list(range(len(relevance)))
    chosen: list[int] = []
    while left and len(chosen) < number:
        worth = [round(float(weight * relevance[i] - (1 - weight) * alike[i]), 9) for i in left]
        chosen.append(left.pop(max(range(len(left)), key=lambda p: (worth[p], -p))))
        likeness = vectors @ vectors[chosen[-1]]
        alike = likeness if len(chosen) == 1 else np.maximum(alike, likeness)
    return chosen
