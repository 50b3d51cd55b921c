"""Prompting, retrieval and fine-tuning as three levers on one prompt, freely combined.

`demonstrations` shows answered training examples, `context` shows passages of the task's documents,
`weights` tunes an adapter on the very prompts that serving renders, on the documents, or on both. None of
them is zero-shot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from breakeven.baselines import _pairs, _search
from breakeven.baselines._composer import Composer
from breakeven.baselines._imported import ImportedTraining
from breakeven.baselines._pairs import Material, mean
from breakeven.baselines._prompt import Fitted
from breakeven.baselines._retrieval import language_remarks, reference, resolved
from breakeven.baselines._settings import LeverSettings
from breakeven.baselines._vectors import IndexFacts
from breakeven.baselines._weights import Adapter, make_trainer, require_trainable, tune
from breakeven.baselines.trainers.imported import Imported
from breakeven.harness.contracts import (
    Brief,
    Completion,
    EngineSession,
    Example,
    Input,
    Json,
    ModelCard,
    Prediction,
    Request,
    Services,
    VariesWith,
    take,
)
from breakeven.harness.deployments import serving
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.hosted import HostedModel, HostedTraining
from breakeven.harness.ledger import Phase
from breakeven.harness.previews import Preview, TrainingOutlook
from breakeven.harness.store import digest
from breakeven.harness.training import Export, ExportTarget, TrainingPair, TrainingResult
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

    def _engine(self, brief: Brief, services: Services) -> EngineSession:
        if services.engine is None:
            raise NotApplicable("no language model: this strategy needs one")
        if self.settings.answer == "choices" and not brief.choices:
            raise NotApplicable("no choices: answers cannot be scored where any answer is possible")
        return services.engine


@dataclass
class FitReport:
    """What was asked for and what found room, by input and (mean) in training; how settings were chosen."""

    training: Mapping[str, Json] = field(default_factory=dict)
    search: Search | None = None
    served: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> demonstrations, passages


@dataclass(frozen=True)
class LeversPredictor:
    """See the module. `training` is what tuning did; `notes` what a reader of the report should know."""

    composer: Composer
    services: Services
    base: EngineSession
    adapter: Adapter | None
    report: FitReport

    @property
    def training(self) -> TrainingResult | ImportedTraining | HostedTraining | None:
        return self.adapter.training if self.adapter else None

    @property
    def lost_in_search(self) -> float:
        """Seconds that trainings of a search lost to a crash, that of `training` left out."""
        found = self.report.search
        return sum(t.lost_seconds for t in found.trials if t is not found.winner) if found else 0.0

    @property
    def phase(self) -> Phase:
        """What answering is booked under: as the session says."""
        phase: Phase = getattr(self.base, "phase", "serve")
        return phase

    @property
    def served_by(self) -> ModelCard | None:
        """The card of a model that tuning made at a provider, where it has its own name and price."""
        if self.adapter is None or not HostedModel.is_in(self.adapter.folder):
            return None
        return self.base.adapt(self.adapter.folder).describe()

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        """One prediction per input, as the engine finishes them.

        Raises:
            UserError: when an input alone, without anything shown beside it, is too long for the model.
        """
        applied = self.adapter is not None and self.adapter.is_applied
        engine = self.base.adapt(self.adapter.folder) if self.adapter and applied else self.base
        requests, by_id = self.requests(inputs)
        with serving(engine, self.services.ledger, self._owner):
            for completion in engine.complete(requests):
                yield self._prediction(completion, by_id[completion.id])

    def requests(self, inputs: Sequence[Input]) -> tuple[list[Request], dict[str, Fitted]]:
        """What is asked about the inputs, and the prompt of each by its id. Raises as `predict` does."""
        prompts = self.composer.compose(inputs, self.base, self.services, self.phase)
        by_id = {i.id: prompt for i, prompt in zip(inputs, prompts, strict=True)}
        for id, prompt in by_id.items():
            self._refuse_too_long(id, prompt, self.base)
            self.report.served[id] = (len(prompt.demonstrations), len(prompt.passages))
        return [self._request(id, prompt) for id, prompt in by_id.items()], by_id

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stored = self.composer.save(folder)
        stored["adapter"] = reference(self.adapter.folder if self.adapter else None, folder)
        stored["training"] = dict(self.report.training)
        if self.report.search is not None:
            stored[NOTE] = self.report.search.to_json()
        (folder / "levers.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @property
    def _owner(self) -> str:
        """Who a deployment is billed to; each trial of a search has one of its own."""
        owner = f"{self.services.scratch.parent.name}/{self.phase}"
        return f"{owner}/{self.adapter.folder.name}" if self.phase == "search" and self.adapter else owner

    @property
    def _scored(self) -> bool:
        return self.composer.settings.answer == "choices" and self.base.capabilities.logprobs

    def _request(self, id: str, prompt: Fitted) -> Request:
        brief = self.composer.brief
        return Request(
            id,
            prompt.messages,
            max_tokens=brief.max_tokens,
            seed=self.services.seed,
            choices=brief.choices if self._scored else None,
        )

    def _refuse_too_long(self, id: str, prompt: Fitted, engine: EngineSession) -> None:
        if prompt.fits:
            return
        card, room = engine.describe(), self.composer.brief.max_tokens
        raise UserError(
            f"example '{id}' takes {prompt.tokens} tokens by itself and its answer may take {room}, "
            f"but the context of {card.name} is {card.context}",
            field="input_template",
            hint="shorten the input, lower max_tokens, or use a model with a longer context",
        )

    def _prediction(self, completion: Completion, prompt: Fitted) -> Prediction:
        meta: dict[str, Json] = {}
        if self.composer.passages is not None:
            meta["passages"] = [p.document for p in prompt.passages]
            meta["chunks"] = [p.id for p in prompt.passages]
            meta["spans"] = [[p.start, p.end] for p in prompt.passages]
            meta["retrieved"] = {stage: list(documents) for stage, documents in prompt.stages.items()}
            if (lost := prompt.found - len(prompt.passages)) > 0:
                meta["left_out"] = lost
        if self.composer.pool is not None:
            meta["demonstrations"] = [d.id for d in prompt.demonstrations]
            meta["k_used"] = len(prompt.demonstrations)
        output = completion.text
        if self._scored:
            scores = self._choice_scores(completion)
            output = max(scores, key=scores.__getitem__)
            meta["choice_scores"] = {choice: round(score, 4) for choice, score in scores.items()}
        return Prediction(
            completion.id,
            output,
            completion.usage,
            completion.seconds,
            completion.finish_reason,
            meta,
            prompt.messages if self.services.keep_prompts else None,
        )

    def _choice_scores(self, completion: Completion) -> dict[str, float]:
        """Summed log-probability of each choice, end token included, or that per byte."""
        choices = self.composer.brief.choices or ()
        logprobs = completion.choice_logprobs or ()
        if len(logprobs) != len(choices):
            raise ValueError(f"{len(choices)} choices were asked and {len(logprobs)} scored")
        per_byte = self.composer.settings.length_normalise
        return {
            choice: logprob / max(len(choice.encode()), 1) if per_byte else logprob
            for choice, logprob in zip(choices, logprobs, strict=True)
        }

    @property
    def notes(self) -> dict[str, Any]:
        """For fit.json, to be read after predicting: what was used, and `remarks` as sentences."""
        settings, served = self.composer.settings, self.report.served.values()
        notes: dict[str, Any] = {}
        remarks: list[str] = []
        if (shown := settings.demonstrations) is not None and self.composer.pool is not None:
            fitted = [demonstrations for demonstrations, _ in served]
            notes["demonstrations"] = {"asked": shown.k, "select": shown.select, **_summary(fitted)}
            notes["k_used"] = mean(fitted)
            remarks += _shortfall(shown.k, len(self.composer.pool.candidates), fitted, "demonstrations")
            if (searched := self.composer.pool.index) is not None:
                notes["demonstrations"]["index"] = asdict(searched.facts)
                remarks += _approximate(searched.facts, "similar examples")
        if (context := settings.context) is not None and self.composer.passages is not None:
            fitted = [passages for _, passages in served]
            passages = self.composer.passages.passages
            notes["context"] = {
                "asked": context.k,
                "chunk_tokens": context.chunk_tokens,
                "chunk_overlap": context.chunk_overlap,
                "chunks": len(passages),
                "documents": len({p.document for p in passages}),
                "retriever": context.retriever,
                **({"rerank": context.rerank} if context.rerank is not None else {}),
                **({"mmr": context.mmr} if context.mmr is not None else {}),
                **_summary(fitted),
            }
            if (searched := self.composer.passages.vectors) is not None:
                notes["context"]["index"] = asdict(searched.facts)
                remarks += _approximate(searched.facts, "passages")
            built = self.composer.passages.built
            notes["context"]["built"] = built
            if built and built["embedded_now"] < built["embedded_tokens"]:
                remarks.append(
                    f"{built['embedded_now']:,} of the index's {built['embedded_tokens']:,} tokens were new "
                    "and embedded now; the one-off cost is that of the whole index"
                )
            if context.retriever == "oracle":
                remarks.append("a ceiling: it is told which document answers, and cannot be served")
            remarks += _shortfall(context.k, len(passages), fitted, "passages")
        if self.report.training:
            notes["training_prompts"] = dict(self.report.training)
            remarks += _pairs.remarks(self.report.training)
        if settings.answer == "choices":
            notes["answer"] = "scored over the choices" if self._scored else "generated"
            if not self._scored:
                remarks.append("generated: the engine gives no log-probabilities to score choices by")
        if self.report.search is not None:
            notes[NOTE] = self.report.search.to_json()
        if self.adapter is not None:
            remarks += getattr(self.adapter.training, "remarks", ())
        if self.composer.searches:
            remarks += language_remarks(self.composer.brief, self.services)
        return {**notes, "remarks": remarks}


def _repeated(pairs: Sequence[TrainingPair], size: int) -> list[TrainingPair]:
    """As many pairs as there are examples, by taking the rendered ones again and again."""
    return [pairs[i % len(pairs)] for i in range(size)] if pairs else []


def _summary(fitted: Sequence[int]) -> dict[str, Any]:
    return {"fitted": mean(fitted), "fitted_min": min(fitted, default=None)}


def _approximate(facts: IndexFacts, what: str) -> list[str]:
    """What approximate search misses, as it was measured when the index was built."""
    if facts.exact:
        return []
    return [
        f"{what} are searched approximately ({facts.probes:,} of {facts.lists:,} cells): of the ten nearest "
        f"{facts.recall:.1%} are found, measured with {facts.queries} questions made from the index"
    ]


def _shortfall(asked: int, available: int, fitted: Sequence[int], what: str) -> list[str]:
    """["8 demonstrations asked, 5.2 fitted"] where not all found room, or that there are fewer to show."""
    shown = mean(fitted)
    if shown is not None and shown < min(asked, available):
        return [f"{asked} {what} asked, {shown:.1f} fitted"]
    return [f"{asked} {what} asked, there are {available}"] if available < asked else []
