"""SetFit: the embedding model fine-tuned on pairs of training examples, then logistic regression over it.

Tunstall et al. 2022 (arXiv 2209.11055). No language model. How pairs are drawn and what is trained stands in
`_contrastive`; the classifier is that of `logistic_regression`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from breakeven.baselines import _classical
from breakeven.baselines._contrastive import Recipe
from breakeven.baselines._retrieval import embedder_of, reference, resolved
from breakeven.baselines._tuning import weight_makers
from breakeven.baselines.logistic_regression import LinearPredictor, LogisticRegression
from breakeven.harness import hardware
from breakeven.harness.contracts import (
    Brief,
    Embedder,
    Example,
    Input,
    Json,
    Prediction,
    Services,
    TunableEmbedder,
    VariesWith,
)
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.previews import Preview
from breakeven.harness.store import digest, write_text

#: Iterations of the classifier's solver (L-BFGS) at most.
MAX_ITER = 1000


def setfit(
    epochs: float = 4,
    batch_size: int = 16,
    per_class: int = 4,
    lr: float = 1e-4,
    max_tokens_total: int | None = 200_000,
    C: float = 10.0,
) -> SetFit:
    """A fine-tuned encoder and a linear classifier over its vectors.

    The defaults are no result of a search; docs/tasks-and-suites.md has what they came to.

    Args:
        epochs: passes over the training examples; a fraction is allowed.
        batch_size: examples per optimizer step; all pairs among them count.
        per_class: examples of one class drawn together: each meets so many others of its class less one.
        lr: peak learning rate.
        max_tokens_total: training tokens at most, over all epochs; null: no cap. Shortens the epochs.
        C: inverse of the regularisation strength of the classifier (scikit-learn's `C`).
    """
    for name, value in (("batch_size", batch_size), ("per_class", per_class)):
        _must(name, value, isinstance(value, int) and value >= 2, "a whole number from 2")
    for name, number in (("epochs", epochs), ("lr", lr), ("C", C)):
        _must(name, number, isinstance(number, int | float) and 0 < number < float("inf"), "above 0")
    capped = max_tokens_total is None or (isinstance(max_tokens_total, int) and max_tokens_total >= 1)
    _must("max_tokens_total", max_tokens_total, capped, "a whole number from 1, or null")
    return SetFit(Recipe(epochs, batch_size, per_class, lr, max_tokens_total), C)


def _must(name: str, value: object, fine: bool, wanted: str) -> None:
    if not fine or isinstance(value, bool):
        raise UserError(f"{name} is {value!r}", field=name, hint=f"it must be {wanted}")


@dataclass(frozen=True)
class SetFit:
    recipe: Recipe
    C: float
    varies_with: frozenset[VariesWith] = frozenset({"seed", "train_size"})

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> SetFitPredictor:
        """Raises NotApplicable without choices, training examples, or an embedding model that can be tuned.

        A training that was broken off begins anew: it takes minutes.
        """
        labels, texts = _classical.labels(brief, train), _classical.texts(brief, train)
        encoder = self._encoder(texts, labels, services)
        tuned = _with(services, encoder)
        vectors = embedder_of(tuned).encode(texts, phase="index")
        start = time.perf_counter()
        weights, classes, converged = LogisticRegression(self.C, MAX_ITER).solve(vectors, labels)
        services.ledger.book("train", "seconds", time.perf_counter() - start,
                             source="wall time of the solver", hardware=hardware.name())  # fmt: skip
        linear = LinearPredictor(brief, tuned, weights, classes, converged)
        return SetFitPredictor(linear, encoder, self.recipe.epochs)

    def preview(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        sample: int,
    ) -> Preview:
        """See `previews.Previewed`; the solver's seconds are left out."""
        from breakeven.baselines._contrastive import Plan, outlook

        labels, texts = _classical.labels(brief, train), _classical.texts(brief, train)
        embedder = _tunable(services)
        shown = _classical.preview(brief, train, services, sample)
        plan = Plan.of(embedder.tunable(), texts, labels, self.recipe, services.seed)
        key = digest(self._spec(texts, labels, embedder, services.seed))
        return replace(shown, training=outlook(key, embedder, plan, self.recipe))

    def _encoder(self, texts: Sequence[str], labels: Sequence[str], services: Services) -> Path:
        """The artifact with the fine-tuned model (`encoder`) and what training did (`training.json`)."""
        embedder = _tunable(services)

        def build(folder: Path, ledger: Ledger) -> None:
            from breakeven.baselines._contrastive import Plan, fine_tune
            from breakeven.harness._quiet import quiet

            model = embedder.tunable()
            plan = Plan.of(model, texts, labels, self.recipe, services.seed)
            done = fine_tune(model, plan, self.recipe, services.progress)
            with quiet():
                model.save(str(folder / "encoder"), create_model_card=False, safe_serialization=True)
            _book(done, embedder, ledger)
            row = {**done, "loss": "squared error of a pair", "settings": asdict(self.recipe)}
            write_text(folder / "training.json", json.dumps(row, indent=1))

        return services.artifacts.get("encoder", self._spec(texts, labels, embedder, services.seed), build)

    def _spec(
        self, texts: Sequence[str], labels: Sequence[str], embedder: TunableEmbedder, seed: int
    ) -> dict[str, Json]:
        return {
            "of": "setfit",
            "settings": asdict(self.recipe),
            "seed": seed,
            "embedder": f"{embedder.name} {embedder.digest}",
            "examples": digest([list(texts), list(labels)]),
            "versions": {**weight_makers(), "sentence-transformers": version("sentence-transformers")},
        }

    def load(self, folder: Path, brief: Brief, services: Services) -> SetFitPredictor:
        stored = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        encoder = resolved(stored["encoder"], folder)
        assert encoder is not None
        linear = LogisticRegression(self.C, MAX_ITER).load(folder, brief, _with(services, encoder))
        return SetFitPredictor(linear, encoder, self.recipe.epochs)


@dataclass(frozen=True, eq=False)
class SetFitPredictor:
    """The classifier, whose services embed with the model in the artifact `encoder`."""

    linear: LinearPredictor
    encoder: Path
    epochs: float

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        for given in self.linear.predict(inputs):
            yield replace(given, finish_reason="choices")

    def save(self, folder: Path) -> None:
        self.linear.save(folder)
        row = {"encoder": reference(self.encoder, folder)}
        (folder / "encoder.json").write_text(json.dumps(row), encoding="utf-8")

    @property
    def training(self) -> Mapping[str, Any]:
        """What fine-tuning the encoder did, under the names of `training.TrainingResult`."""
        found: dict[str, Any] = json.loads((self.encoder / "training.json").read_text(encoding="utf-8"))
        return found

    @property
    def notes(self) -> dict[str, object]:
        notes, done = self.linear.notes, self.training
        remarks = list(notes["remarks"])  # type: ignore[call-overload]
        if done["epochs"] < 0.95 * self.epochs:
            remarks.append(
                f"the encoder was trained for {done['epochs']:.1f} of {self.epochs:g} epochs: "
                f"max_tokens_total is {done['settings']['max_tokens_total']:,}"
            )
        return {**notes, "epochs": done["epochs"], "remarks": remarks}


def _tunable(services: Services) -> TunableEmbedder:
    embedder = embedder_of(services)
    if not isinstance(embedder, TunableEmbedder):
        raise NotApplicable(f"no training: the embedding model {embedder.name} cannot be fine-tuned here")
    return embedder


def _with(services: Services, encoder: Path) -> Services:
    """The same services, embedding with the fine-tuned model."""
    tuned: Embedder = _tunable(services).adapt(encoder / "encoder")
    return replace(services, embedder=lambda: tuned)


def _book(done: Mapping[str, Any], embedder: Embedder, ledger: Ledger) -> None:
    here = hardware.name()
    book = partial(ledger.book, "train", model=embedder.name)
    book("training_tokens", done["training_tokens"], source="counted: each text once a batch, all epochs")
    book("seconds", done["seconds"], source="wall time of training", hardware=here)
    book("flops", done["flops"], source="6N + 12LTd per token, without tables", status="estimated")
    book("bytes", done["peak_bytes"], source="peak memory while training", hardware=here)
