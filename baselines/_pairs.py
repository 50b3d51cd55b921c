"""What tuning learns from: training examples as serving will ask them, documents as they are, or both.

Beside the pairs stands an account of them, for the report. Choosing passages is left to `_composer`, training
to `_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from breakeven.baselines import _prompt, _raft
from breakeven.baselines._composer import Composer
from breakeven.baselines._documents import document_pairs
from breakeven.baselines._prompt import Fitted
from breakeven.baselines._settings import WeightSettings
from breakeven.harness.contracts import Brief, EngineSession, Example, Json, Request, Services
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.training import Otherwise, TrainingPair


def check_material(trainer: Any, settings: WeightSettings) -> None:
    """Raises UserError where a trainer cannot take what it would be given."""
    why = getattr(trainer, "refuses_text", "")
    if settings.data != "examples" and why:
        raise UserError(
            f"the trainer '{settings.trainer}' cannot train on documents: {why}",
            field="weights.data",
            hint="use the trainer 'peft' or 'trl', or data: examples",
        )


def require_material(settings: WeightSettings, brief: Brief, train: Sequence[Example]) -> None:
    """Raises NotApplicable where a task does not have what the settings train on."""
    if settings.data != "examples" and not brief.documents:
        raise NotApplicable("no documents: this task has none to train on")
    if settings.raft is not None:
        _raft.require_told(brief, train)


@dataclass(frozen=True)
class Material:
    """Examples and documents as training pairs; `account` says what they show."""

    pairs: list[TrainingPair]
    account: Mapping[str, Json]

    @classmethod
    def of(
        cls,
        settings: WeightSettings,
        composer: Composer,
        train: Sequence[Example],
        engine: EngineSession,
        services: Services,
    ) -> Material:
        """The pairs that a trainer gets; it shuffles them itself.

        Raises NotApplicable without documents where they are trained on.
        """
        pairs: list[TrainingPair] = []
        account: dict[str, Json] = {}
        if settings.data != "documents" and train:
            pairs, account = _of_examples(settings, composer, train, engine, services)
        if settings.data != "examples":
            longest = _longest(settings, engine)
            texts = document_pairs(composer.brief.documents, settings.document_tokens, longest, engine)
            account["documents"] = {
                "documents": len(composer.brief.documents),
                "passages": len(texts),
                "tokens": sum(engine.count_tokens(Request(t.id, text=t.answer)) for t in texts),
                "examples": len(pairs),
            }
            pairs = [*pairs, *texts]
        return cls(pairs, account)


def validation_pairs(
    settings: WeightSettings,
    composer: Composer,
    validation: Sequence[Example],
    engine: EngineSession,
    services: Services,
) -> list[TrainingPair]:
    """Validation examples as serving asks them, whatever training shows.

    Weights that read nothing but documents are held against the bare question: what they know by heart. So
    strategies that ask the same weights in different ways share one training.
    """
    if not validation:
        return []
    composer = composer.bare if settings.data == "documents" else composer
    prompts = composer.compose([e.without_references() for e in validation], engine, services, "train")
    return [_pair(e, prompt) for e, prompt in zip(validation, prompts, strict=True)]


def remarks(account: Mapping[str, Any]) -> list[str]:
    """What a reader of the report should know of the material, as sentences without full stop."""
    said = []
    if too_long := account.get("too_long"):
        said.append(f"{too_long} training prompts are longer than the context of the model")
    if drawn := account.get("raft"):
        said.append(
            f"RAFT: {drawn['with_gold']:,} training prompts show a passage of the document that answers, "
            f"{drawn['without_gold']:,} do not; {drawn['distractors'] or 0:g} distractors on average"
        )
        if untold := drawn["as_retrieved"]:
            said.append(
                f"{untold:,} training examples do not say which document answers (their group is no "
                "document's id): they were trained with what is retrieved"
            )
    if read := account.get("documents"):
        beside = f"beside {read['examples']:,} examples" if read["examples"] else "and on no example"
        said.append(
            f"trained on {read['documents']:,} documents as plain text, in {read['passages']:,} passages of "
            f"{read['tokens']:,} tokens together, {beside}"
        )
    return said


def _of_examples(
    settings: WeightSettings,
    composer: Composer,
    train: Sequence[Example],
    engine: EngineSession,
    services: Services,
) -> tuple[list[TrainingPair], dict[str, Json]]:
    inputs = [e.without_references() for e in train]
    prompts = composer.compose(inputs, engine, services, "train", settings.raft)
    account: dict[str, Json] = {
        "demonstrations": mean([len(p.demonstrations) for p in prompts]),
        "passages": mean([len(p.passages) for p in prompts]),
        "too_long": sum(not p.fits for p in prompts),
    }
    if settings.raft is None or composer.retriever is None:
        return [_pair(e, prompt) for e, prompt in zip(train, prompts, strict=True)], account
    told = [e.group in composer.retriever.documents for e in train]
    shown = [
        [p.document == e.group for p in prompt.passages]
        for e, prompt, is_told in zip(train, prompts, told, strict=True)
        if is_told
    ]
    account["raft"] = {
        "with_gold": sum(any(of_gold) for of_gold in shown),
        "without_gold": sum(not any(of_gold) for of_gold in shown),
        "distractors": mean([of_gold.count(False) for of_gold in shown]),
        "as_retrieved": told.count(False),
    }
    rows = zip(train, prompts, told, strict=True)
    return [_pair(e, prompt, drawn=is_told) for e, prompt, is_told in rows], account


def _pair(example: Example, prompt: Fitted, *, drawn: bool = False) -> TrainingPair:
    otherwise = None
    if drawn:
        rest = _prompt.without_passages(prompt.messages, prompt.passages)
        otherwise = Otherwise("passages that RAFT draws, where serving shows those it retrieves", rest)
    return TrainingPair(example.id, prompt.messages, _prompt.answer(example), otherwise)


def _longest(settings: WeightSettings, engine: EngineSession) -> int | None:
    """Tokens of an example at most."""
    length = settings.settings.get("max_length")
    known = [n for n in (engine.describe().context, length) if isinstance(n, int)]
    return min(known, default=None)


def mean(numbers: Sequence[int]) -> float | None:
    return round(sum(numbers) / len(numbers), 3) if numbers else None
