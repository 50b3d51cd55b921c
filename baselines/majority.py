"""The commonest answer of the training examples, whatever is asked: what every other strategy must beat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from breakeven.baselines import _classical
from breakeven.harness.contracts import Brief, Example, Input, Prediction, Services, VariesWith
from breakeven.harness.previews import Preview


def majority() -> Majority:
    """Takes no settings. Not applicable to tasks without choices."""
    return Majority()


@dataclass(frozen=True)
class Majority:
    varies_with: frozenset[VariesWith] = frozenset({"train_size"})

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> MajorityPredictor:
        """Of equally common answers, the first of the choices."""
        counts = Counter(_classical.labels(brief, train))
        order = {choice: place for place, choice in enumerate(brief.choices or ())}
        commonest = min(counts, key=lambda label: (-counts[label], order.get(label, len(order)), label))
        return MajorityPredictor(commonest, counts[commonest] / len(train))

    def preview(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        sample: int,
    ) -> Preview:
        """See `previews.Previewed`: it asks nobody."""
        _classical.labels(brief, train)
        return Preview(lambda inputs: ())

    def load(self, folder: Path, brief: Brief, services: Services) -> MajorityPredictor:
        return MajorityPredictor(**json.loads((folder / "majority.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class MajorityPredictor:
    """`share` is how much of the training set has that answer."""

    answer: str
    share: float

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        for asked in inputs:
            yield Prediction(asked.id, self.answer, seconds=0.0, finish_reason="stop")

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        row = {"answer": self.answer, "share": self.share}
        (folder / "majority.json").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")

    @property
    def notes(self) -> dict[str, object]:
        return {"answer": self.answer, "share_of_training": round(self.share, 4), "remarks": []}
