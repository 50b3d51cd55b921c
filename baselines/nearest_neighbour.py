"""The answer of the training example that is nearest by sentence embedding."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from breakeven.baselines import _classical
from breakeven.baselines._retrieval import example_index, language_remarks, reference, resolved
from breakeven.baselines._vectors import VectorIndex
from breakeven.harness.contracts import Brief, Example, Input, Prediction, Services, VariesWith
from breakeven.harness.errors import UserError
from breakeven.harness.previews import Preview


def nearest_neighbour(k: int = 1) -> NearestNeighbour:
    """Args: k: how many neighbours vote; of equally many votes, the nearest neighbour's answer wins."""
    if k < 1:
        raise UserError(f"k is {k}", field="k", hint="it must be at least 1")
    return NearestNeighbour(k)


@dataclass(frozen=True)
class NearestNeighbour:
    k: int
    varies_with: frozenset[VariesWith] = frozenset({"train_size"})

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> NeighbourPredictor:
        """Raises NotApplicable without choices or training examples."""
        answers = _classical.labels(brief, train)
        folder = example_index(_classical.texts(brief, train), services)
        ids = [example.id for example in train]
        return NeighbourPredictor(self.k, brief, services, ids, answers, folder)

    def preview(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        sample: int,
    ) -> Preview:
        """See `previews.Previewed`."""
        return _classical.preview(brief, train, services, sample)

    def load(self, folder: Path, brief: Brief, services: Services) -> NeighbourPredictor:
        stored = json.loads((folder / "neighbours.json").read_text(encoding="utf-8"))
        index = resolved(stored["index"], folder)
        assert index is not None
        predictor = NeighbourPredictor(self.k, brief, services, stored["ids"], stored["answers"], index)
        _ = predictor.index  # read here: it is no part of the first answer's time
        return predictor


@dataclass(frozen=True)
class NeighbourPredictor:
    """`ids` and `answers` of the training examples, in the order of the vectors in the artifact `folder`."""

    k: int
    brief: Brief
    services: Services
    ids: list[str]
    answers: list[str]
    folder: Path
    asked: list[str] = field(default_factory=list)

    @cached_property
    def index(self) -> VectorIndex:
        return VectorIndex.read(self.folder / "vectors.faiss")

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        self.asked.extend(_classical.texts(self.brief, inputs))
        start = time.perf_counter()
        found = self.index.nearest(_classical.embedded(self.brief, inputs, self.services), self.k)
        seconds = (time.perf_counter() - start) / max(len(inputs), 1)
        for asked, rows in zip(inputs, found, strict=True):
            votes = Counter(self.answers[row] for row in rows)  # keeps the order in which answers appear
            meta = {"neighbours": [self.ids[row] for row in rows]}
            yield Prediction(
                asked.id, votes.most_common(1)[0][0], seconds=seconds, finish_reason="stop", meta=meta
            )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        row = {"index": reference(self.folder, folder), "ids": self.ids, "answers": self.answers}
        (folder / "neighbours.json").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")

    @property
    def notes(self) -> dict[str, object]:
        return {
            "k": self.k,
            "examples": len(self.ids),
            "remarks": language_remarks(self.brief, self.services, {"inputs": self.asked}),
        }
