"""Multinomial logistic regression over sentence embeddings."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from breakeven.baselines import _classical
from breakeven.baselines._retrieval import example_index, language_remarks
from breakeven.baselines._vectors import VectorIndex
from breakeven.harness import hardware
from breakeven.harness.contracts import Brief, Example, Input, Prediction, Services, VariesWith
from breakeven.harness.errors import UserError
from breakeven.harness.previews import Preview

if TYPE_CHECKING:
    import numpy as np

#: Inverse strength of the L2 penalty on unit vectors. Fixed, so that this strategy gets one trial as all
#: others do; chosen on held-out training rows of Banking77.
DEFAULT_C = 100.0


def logistic_regression(C: float = DEFAULT_C, max_iter: int = 1000) -> LogisticRegression:
    """A linear classifier over the vectors of the inputs.

    Args:
        C: inverse of the regularisation strength (scikit-learn's `C`).
        max_iter: iterations of the solver (L-BFGS) at most.
    """
    if C <= 0:
        raise UserError(f"C is {C}", field="C", hint="it must be above 0")
    if max_iter < 1:
        raise UserError(f"max_iter is {max_iter}", field="max_iter", hint="it must be at least 1")
    return LogisticRegression(C, max_iter)


@dataclass(frozen=True)
class LogisticRegression:
    C: float
    max_iter: int
    varies_with: frozenset[VariesWith] = frozenset({"train_size"})

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> LinearPredictor:
        """Raises NotApplicable without choices or training examples."""
        answers = _classical.labels(brief, train)
        folder = example_index(_classical.texts(brief, train), services)
        vectors = VectorIndex.read(folder / "vectors.faiss").vectors()
        start = time.perf_counter()
        weights, classes, converged = self.solve(vectors, answers)
        seconds = time.perf_counter() - start
        services.ledger.book("train", "seconds", seconds, source="wall time of the solver",
                             hardware=hardware.name())  # fmt: skip
        return LinearPredictor(brief, services, weights, classes, converged)

    def solve(self, vectors: np.ndarray, answers: list[str]) -> tuple[np.ndarray, list[str], bool]:
        """((classes, dimension + 1) weights, the bias last; the classes; whether the solver got there)."""
        import numpy as np
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Solver

        classes = sorted(set(answers))
        if len(classes) == 1:
            return np.zeros((1, vectors.shape[1] + 1)), classes, True
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model = Solver(C=self.C, max_iter=self.max_iter).fit(vectors, answers)
        weights = np.hstack([model.coef_, model.intercept_[:, None]]).astype(np.float64)
        if len(classes) == 2:  # scikit-learn keeps the second class only
            weights = np.vstack([-weights, weights])
        converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        return weights, [str(c) for c in model.classes_], converged

    def preview(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        sample: int,
    ) -> Preview:
        """See `previews.Previewed`; the solver's seconds are left out."""
        return _classical.preview(brief, train, services, sample)

    def load(self, folder: Path, brief: Brief, services: Services) -> LinearPredictor:
        import numpy as np

        stored = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
        weights = np.load(folder / "weights.npy", allow_pickle=False)
        return LinearPredictor(brief, services, weights, stored["classes"], stored["converged"])


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """`weights` is (classes, dimension + 1), the bias last."""

    brief: Brief
    services: Services
    weights: np.ndarray
    classes: list[str]
    converged: bool
    asked: list[str] = field(default_factory=list)

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        self.asked.extend(_classical.texts(self.brief, inputs))
        start = time.perf_counter()
        vectors = _classical.embedded(self.brief, inputs, self.services)
        scores = vectors @ self.weights[:, :-1].T + self.weights[:, -1]
        seconds = (time.perf_counter() - start) / max(len(inputs), 1)
        for asked, best in zip(inputs, scores.argmax(axis=1), strict=True):
            yield Prediction(asked.id, self.classes[int(best)], seconds=seconds, finish_reason="stop")

    def save(self, folder: Path) -> None:
        import numpy as np

        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "weights.npy", self.weights)
        row = {"classes": self.classes, "converged": self.converged}
        (folder / "classes.json").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")

    @property
    def notes(self) -> dict[str, object]:
        remarks = [] if self.converged else ["the solver stopped before it converged: raise max_iter"]
        remarks += language_remarks(self.brief, self.services, {"inputs": self.asked})
        return {"classes": len(self.classes), "remarks": remarks}
