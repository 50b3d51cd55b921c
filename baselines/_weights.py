"""The third lever: training pairs in, an adapter artifact out, everything it consumed in the ledger.

How weights are tuned is left to a trainer (`breakeven.trainers`); this finds it, calls it once for all cells
that ask for the same adapter, and books.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from breakeven.baselines import _hosted
from breakeven.baselines._imported import ImportedTraining
from breakeven.baselines._settings import WeightSettings
from breakeven.baselines._tuning import adapter_spec
from breakeven.baselines.trainers.imported import Imported
from breakeven.harness.contracts import EngineSession, Json, ModelCard, Request, Services
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.hosted import HostedModel, HostedTrainer, HostedTraining
from breakeven.harness.ledger import Ledger
from breakeven.harness.previews import PreviewedTrainer, TrainingOutlook
from breakeven.harness.registry import find, source_hash
from breakeven.harness.store import digest, write_text
from breakeven.harness.training import Trainer, TrainingPair, TrainingResult


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter folder and what training it did."""

    folder: Path
    training: TrainingResult | ImportedTraining | HostedTraining

    @property
    def is_applied(self) -> bool:
        """Whether the folder's weights are laid over the model; a hosted model that was imported has none."""
        return not getattr(self.training, "hosted_model", "")

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        row = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        if "imported_from" in row:
            return cls(folder, ImportedTraining.from_json(row))
        for curve in ("losses", "validation_losses"):
            row[curve] = tuple((int(step), float(loss)) for step, loss in row[curve])
        if HostedModel.is_in(folder):
            return cls(folder, HostedTraining(**{**row, "remarks": tuple(row["remarks"])}))
        return cls(folder, TrainingResult(**row))


def require_trainable(engine: EngineSession, settings: WeightSettings) -> None:
    """Raises NotApplicable when the engine's model cannot be tuned by this trainer."""
    trainer, _ = make_trainer(settings)
    if isinstance(trainer, Imported) and trainer.model:
        return
    if isinstance(trainer, HostedTrainer):
        _hosted.endpoint_of(engine, settings.trainer)
    elif not (engine.capabilities.train and engine.capabilities.adapters):
        card = engine.describe()
        raise NotApplicable(f"no trainer: {card.name} behind the {card.engine} engine cannot be tuned")


def make_trainer(
    settings: WeightSettings,
) -> tuple[Trainer | Imported | HostedTrainer, Mapping[str, Json]]:
    """The trainer and its settings, defaults filled in where the trainer says them (`trainer.settings`).

    Raises:
        UserError: when there is no such trainer, or it does not know a setting.
    """
    make: Callable[..., Trainer | Imported | HostedTrainer] = find("trainers", settings.trainer)
    try:
        trainer = make(**settings.settings)
    except UserError as error:
        field = f"weights.{error.field}" if error.field else "weights"
        raise UserError(error.what, field=field, hint=error.hint) from error
    known: Any = getattr(trainer, "settings", settings.settings)
    return trainer, asdict(known) if is_dataclass(known) and not isinstance(known, type) else dict(known)


def tune(
    settings: WeightSettings,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    engine: EngineSession,
    services: Services,
) -> Adapter:
    """The adapter for these pairs: trained now, or found where another cell has trained it.

    Raises:
        UserError: when there is nothing to train on, or a hosted job failed.
        Pending: while a hosted job runs.
    """
    if not pairs:
        raise UserError("there are no training examples to tune the weights on", field="train")
    trainer, filled = make_trainer(settings)
    if isinstance(trainer, HostedTrainer):
        return Adapter.read(_hosted.tune(trainer, settings.trainer, pairs, validation, engine, services))
    card = engine.describe()
    if isinstance(trainer, Imported):
        return _fetched(trainer, filled, settings, pairs, validation, engine, services)

    def build(folder: Path, ledger: Ledger) -> None:
        scratch = folder / "checkpoints"
        if not (folder / "training.json").exists():  # else a crash came after training had ended
            scratch.mkdir(exist_ok=True)
            raw: Any = engine.raw
            tunable = raw.tunable()
            result = trainer.train(
                tunable, pairs, validation, folder, scratch, services.seed, filled, services.progress
            )
            write_text(folder / "training.json", json.dumps(asdict(result), indent=1))
        shutil.rmtree(scratch, ignore_errors=True)
        trained = Adapter.read(folder).training
        assert isinstance(trained, TrainingResult)
        _book(trained, card, ledger)

    spec = _spec(settings, filled, pairs, validation, card, services.seed)
    return Adapter.read(services.artifacts.get("adapter", spec, build))


def _fetched(
    trainer: Imported,
    filled: Mapping[str, Json],
    settings: WeightSettings,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    engine: EngineSession,
    services: Services,
) -> Adapter:
    """What was tuned elsewhere, as the artifact that a training here would have made."""
    card = engine.describe()

    def build(folder: Path, ledger: Ledger) -> None:
        raw: Any = engine.raw
        tunable = None if trainer.model else raw.tunable()
        training = trainer.fetch(tunable, card, pairs, folder, services.seed)
        write_text(folder / "training.json", json.dumps(asdict(training), indent=1))
        training.book(card, ledger)

    spec = _spec(settings, filled, pairs, validation, card, services.seed)
    return Adapter.read(services.artifacts.get("adapter", spec, build))


def foresee(
    settings: WeightSettings,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    engine: EngineSession,
    services: Services,
) -> TrainingOutlook:
    """What `tune` would consume with the same arguments, without training.

    A trainer that cannot say is taken to read every pair once an epoch (one, unless its settings say how
    many), at a speed nobody knows.
    """
    if not pairs:
        raise UserError("there are no training examples to tune the weights on", field="train")
    trainer, filled = make_trainer(settings)
    if isinstance(trainer, HostedTrainer):
        return _hosted.foresee(trainer, settings.trainer, pairs, validation, engine, services)
    key = digest(_spec(settings, filled, pairs, validation, engine.describe(), services.seed))
    if isinstance(trainer, Imported):
        answers = tuple(engine.count_tokens(Request(p.id, text=p.answer)) for p in pairs if not p.is_text)
        return TrainingOutlook(key, 0, answers)  # it was done elsewhere
    if isinstance(trainer, PreviewedTrainer):
        raw: Any = engine.raw
        return replace(trainer.outlook(raw.tunable(), pairs, validation, services.seed, filled), key=key)
    epochs = filled.get("epochs", 1)
    answers = tuple(engine.count_tokens(Request(p.id, text=p.answer)) for p in pairs if not p.is_text)
    texts = sum(engine.count_tokens(Request(p.id, text=p.answer)) for p in pairs if p.is_text)
    prompts = sum(engine.count_tokens(Request(p.id, p.messages)) for p in pairs if not p.is_text)
    times = epochs if isinstance(epochs, int | float) else 1
    return TrainingOutlook(key, round((prompts + texts + sum(answers)) * times), answers, exact=False)


def _spec(
    settings: WeightSettings,
    filled: Mapping[str, Json],
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    card: ModelCard,
    seed: int,
) -> dict[str, Json]:
    spec = adapter_spec(settings.trainer, filled, seed, card, pairs, validation)
    return {**spec, "source": source_hash(settings.trainer)}


def _book(result: TrainingResult, card: ModelCard, ledger: Ledger) -> None:
    from breakeven.harness.flops import lora_training_flops
    from breakeven.harness.hardware import name

    tokens, here = result.training_tokens, name()
    sequences = result.examples * result.epochs
    flops = lora_training_flops(card, tokens, sequences, result.trainable_parameters)
    book = partial(ledger.book, "train", model=card.name)
    book("training_tokens", tokens, source="counted, over all epochs")
    book("seconds", result.seconds, source="wall time of training", hardware=here)
    book("flops", flops, source="4N + 12LTd + 6N_lora per token, sequences of mean length T",
         status="estimated" if flops is not None else None)  # fmt: skip
    book("bytes", result.peak_bytes, source="peak memory while training", hardware=here)
