"""The three levers, fitted: composes prompts and asks the language model, with its adapter if it has one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.baselines import _notes
from breakeven.baselines._composer import Composer
from breakeven.baselines._imported import ImportedTraining
from breakeven.baselines._notes import FitReport
from breakeven.baselines._prompt import Fitted, query_text
from breakeven.baselines._retrieval import reference
from breakeven.baselines._weights import Adapter
from breakeven.harness.contracts import (
    Completion,
    EngineSession,
    Input,
    Json,
    ModelCard,
    Prediction,
    Request,
    Services,
)
from breakeven.harness.deployments import serving
from breakeven.harness.errors import UserError
from breakeven.harness.hosted import HostedModel, HostedTraining
from breakeven.harness.ledger import Phase
from breakeven.harness.training import TrainingResult
from breakeven.harness.trials import NOTE


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
        self.report.asked += [query_text(self.composer.brief, i.fields) for i in inputs]
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
        return _notes.of(self.composer, self.report, self.adapter, self._scored, self.services)
