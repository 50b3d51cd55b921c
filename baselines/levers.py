"""Prompting, retrieval and fine-tuning as three levers on one prompt, freely combined.

`demonstrations` shows answered training examples, `context` shows passages of the task's documents,
`weights` tunes an adapter on the very prompts that serving renders, on the documents, or on both. None of
them is zero-shot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from breakeven.baselines import _pairs, _search
from breakeven.baselines._composer import Composer, index_of
from breakeven.baselines._notes import FitReport
from breakeven.baselines._pairs import Material
from breakeven.baselines._predictor import LeversPredictor
from breakeven.baselines._retrieval import resolved, unread_remarks
from breakeven.baselines._settings import LeverSettings
from breakeven.baselines._weights import Adapter, make_trainer, require_trainable, tune
from breakeven.baselines.trainers.imported import Imported
from breakeven.harness.contracts import (
    Brief,
    EngineSession,
    Example,
    Input,
    Prediction,
    Request,
    Services,
    VariesWith,
    take,
)
from breakeven.harness.errors import NotApplicable
from breakeven.harness.previews import Preview, TrainingOutlook
from breakeven.harness.store import digest
from breakeven.harness.training import Export, ExportTarget, TrainingPair
from breakeven.harness.trials import NOTE, Search
from breakeven.harness.yamlfile import validated


def levers(**settings: Any) -> Levers:
    """A strategy from its settings; see `_settings.LeverSettings` for the keys.

    Raises:
        UserError: on an unknown key or a value out of range, naming the key; the trainer's keys too.
    """
    checked = validated(LeverSettings, settings)
    if checked.weights is not None:
        trainer, _ = make_trainer(checked.weights)
        _pairs.check_material(trainer, checked.weights)
        _search.candidates(checked.weights)
    return Levers(checked)


@dataclass(frozen=True)
class Levers:
    """A setting of the three levers, not yet fitted."""

    settings: LeverSettings

    @property
    def ceiling(self) -> bool:
        """Whether it is told which document answers."""
        return self.settings.context is not None and self.settings.context.retriever == "oracle"

    @property
    def trials(self) -> int:
        """Settings that are tried on validation examples."""
        return len(_search.candidates(self.settings.weights)) if self.settings.weights is not None else 1

    @property
    def varies_with(self) -> frozenset[VariesWith]:
        """Shown or trained examples depend on the training size; drawn or trained ones on the seed too, as
        weights do that are trained on documents alone.
        """
        shown, weights = self.settings.demonstrations, self.settings.weights
        varies: set[VariesWith] = {"model"}
        if shown is not None or (weights is not None and weights.data != "documents"):
            varies.add("train_size")
        drawn = shown is not None and shown.select in ("random", "balanced")
        if drawn or weights is not None:
            varies.add("seed")
        return frozenset(varies)

    @property
    def digest(self) -> str | None:
        """Hash of weights that were tuned elsewhere, which the settings only point to; None without them."""
        if self.settings.weights is None:
            return None
        trainer, filled = make_trainer(self.settings.weights)
        return digest(dict(filled)) if isinstance(trainer, Imported) else None

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> LeversPredictor:
        engine = self._engine(brief, services)
        if (weights := self.settings.weights) is not None:
            require_trainable(engine, weights)
            _pairs.require_material(weights, brief, train)
        composer = Composer.fit(brief, self.settings, train, validation, services)
        adapter, report = None, FitReport()
        if weights is not None:
            material = Material.of(weights, composer, train, engine, services)
            report.training = material.account
            checks = _pairs.validation_pairs(weights, composer, validation, engine, services)
            if weights.search is None:
                adapter = tune(weights, material.pairs, checks, engine, services)
            else:
                adapter, report.search = _search.search(
                    weights,
                    material.pairs,
                    checks,
                    validation,
                    brief,
                    engine,
                    services,
                    self._answering(composer, engine, services),
                )
        return LeversPredictor(composer, services, engine, adapter, report)

    def check_trainable(self, brief: Brief, services: Services) -> None:
        """See `training.Exportable`."""
        engine = self._engine(brief, services)
        if self.settings.weights is not None:
            require_trainable(engine, self.settings.weights)

    def _answering(self, composer: Composer, engine: EngineSession, services: Services) -> _search.Answer:
        """Asks examples with an adapter, as the fitted strategy will ask them."""

        def answer(adapter: Adapter, examples: Sequence[Example]) -> Iterator[Prediction]:
            predictor = LeversPredictor(composer, services, engine, adapter, FitReport())
            return predictor.predict(
                [Input(e.id, e.input, e.group if self.ceiling else None) for e in examples]
            )

        return answer

    def training_pairs(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> tuple[list[TrainingPair], list[TrainingPair]]:
        """See `training.Exportable`."""
        if (weights := self.settings.weights) is None:
            raise NotApplicable("no weights are tuned: there is nothing to train on")
        engine = self._engine(brief, services)
        _pairs.require_material(weights, brief, train)
        composer = Composer.fit(brief, self.settings, train, validation, services)
        material = Material.of(weights, composer, train, engine, services)
        return material.pairs, _pairs.validation_pairs(weights, composer, validation, engine, services)

    def requests(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        inputs: Sequence[Input],
    ) -> list[Request]:
        """See `training.Exportable`."""
        engine = self._engine(brief, services)
        composer = Composer.fit(brief, self.settings, train, validation, services)
        return LeversPredictor(composer, services, engine, None, FitReport()).requests(inputs)[0]

    def export(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        target: ExportTarget,
    ) -> Export:
        """See `training.Exportable`."""
        from breakeven.baselines._export import export

        pairs, checks = self.training_pairs(brief, train, validation, services)
        assert self.settings.weights is not None
        engine = self._engine(brief, services)
        return export(self.settings.weights, pairs, checks, engine, services.seed, target)

    def load(self, folder: Path, brief: Brief, services: Services) -> LeversPredictor:
        engine = self._engine(brief, services)
        stored = json.loads((folder / "levers.json").read_text(encoding="utf-8"))
        composer = Composer.load(folder, brief, self.settings, stored)
        adapter = resolved(stored["adapter"], folder)
        report = FitReport(training=stored["training"])
        report.search = Search.from_json(stored[NOTE]) if stored.get(NOTE) else None
        return LeversPredictor(composer, services, engine, Adapter.read(adapter) if adapter else None, report)

    def preview(
        self,
        brief: Brief,
        train: Sequence[Example],
        validation: Sequence[Example],
        services: Services,
        sample: int,
    ) -> Preview:
        """See `previews.Previewed`. Renders and counts; only the embedding model is asked."""
        engine = self._engine(brief, services)
        if (weights := self.settings.weights) is not None:
            require_trainable(engine, weights)
            _pairs.require_material(weights, brief, train)
        shown = self.settings.demonstrations
        searched = shown is not None and shown.select == "similar"
        some, checks = take(train, sample), take(validation, sample)
        looked_at = replace(brief, documents=brief.documents[:sample])
        composer = Composer.fit(looked_at, self.settings, some if searched else train, checks, services)
        outlook: TrainingOutlook | None = None
        trials: tuple[TrainingOutlook, ...] = ()
        judged_on = 0
        if weights is not None:
            pairs = Material.of(weights, composer, some, engine, services).pairs
            texts = [pair for pair in pairs if pair.is_text]
            whole = round(len(texts) * len(brief.documents) / max(len(looked_at.documents), 1))
            asked = _pairs.validation_pairs(weights, composer, checks, engine, services)
            outlook, trials, judged_on = _search.foresee(
                weights,
                [*_repeated(pairs[: len(pairs) - len(texts)], len(train)), *_repeated(texts, whole)],
                _repeated(asked, len(validation)),
                len(validation),
                engine,
                services,
            )
        predictor = LeversPredictor(composer, services, engine, None, FitReport())
        rows, pages = (len(train), len(some)), (len(brief.documents), len(looked_at.documents))
        parts = [rows] if searched or outlook is not None else []
        read = weights is not None and weights.data != "examples"
        parts += [pages] if self.settings.context is not None or read else []
        scale = sum(whole for whole, _ in parts) / max(sum(part for _, part in parts), 1) if parts else 1.0
        scale = max(scale, 1.0)
        return Preview(lambda asked: list(predictor.requests(asked)[0]), outlook, scale, trials, judged_on)

    def retrieve(
        self, brief: Brief, inputs: Sequence[Input], services: Services
    ) -> list[Mapping[str, tuple[str, ...]]]:
        """See `contracts.Retrieving`."""
        if self.settings.context is None:
            raise NotApplicable("no context: it shows no passages")
        if self.ceiling:
            raise NotApplicable("a ceiling: it is told which document answers")
        composer = Composer.fit(brief, LeverSettings(context=self.settings.context), (), (), services)
        return [found.stages or {} for found in composer.found(inputs, services, "serve")]

    def retrieval_remarks(self, brief: Brief, services: Services) -> list[str]:
        """What a reader of `retrieve`'s numbers should know of the index; it is not built again."""
        if self.settings.context is None:
            return []
        return unread_remarks(index_of(brief, self.settings.context, services))

    def _engine(self, brief: Brief, services: Services) -> EngineSession:
        if services.engine is None:
            raise NotApplicable("no language model: this strategy needs one")
        if self.settings.answer == "choices" and not brief.choices:
            raise NotApplicable("no choices: answers cannot be scored where any answer is possible")
        return services.engine


def _repeated(pairs: Sequence[TrainingPair], size: int) -> list[TrainingPair]:
    """As many pairs as there are examples, by taking the rendered ones again and again."""
    return [pairs[i % len(pairs)] for i in range(size)] if pairs else []
