"""Weights that were tuned elsewhere, as a trainer that trains nothing: it fetches, checks and books.

`weights: {trainer: imported, adapter: DIR}` for a PEFT adapter; `{trainer: imported, model: ID}` for a model
that a provider holds, where the suite's own model must be that one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.baselines._imported import RECORD, ImportedTraining, check_same, read_record
from breakeven.harness import store
from breakeven.harness.contracts import Json, ModelCard
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.training import TrainingPair, Tunable, Usability, checked

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Imported:
    """A trainer whose training is done. `folder` holds the record, and the adapter unless it is hosted."""

    folder: Path
    model: str

    @property
    def settings(self) -> dict[str, Json]:
        """All that decides what comes out: the weights and the record, by content."""
        record = read_record(self.folder)
        weights = self.folder / WEIGHTS
        return {
            "model": self.model,
            "weights": _sha256(weights) if not self.model else "",
            "record": _sha256(self.folder / RECORD),
            "seed": (record.get("export") or {}).get("seed"),
        }

    def fetch(
        self,
        tunable: Tunable | None,
        card: ModelCard,
        pairs: Sequence[TrainingPair],
        folder: Path,
        seed: int,
    ) -> ImportedTraining:
        """Copy the adapter into `folder`, or leave it empty for a hosted model.

        Raises:
            NotApplicable: another seed, or another hosted model than the one that was tuned.
            UserError: other rows, other weights below; an adapter that is none or does not fit the model.
        """
        record = read_record(self.folder)
        remarks = check_same(record, pairs, seed)
        parameters = None
        if self.model:
            if self.model != card.name:
                raise NotApplicable(f"imported: {self.model} is not {card.name}")
        elif tunable is not None:
            remarks += check_base(record, self.folder, tunable.card)
            parameters = check_fits(self.folder, tunable)
            store.write_bytes(folder / WEIGHTS, (self.folder / WEIGHTS).read_bytes())
            store.write_bytes(folder / CONFIG, (self.folder / CONFIG).read_bytes())
        export, cost = record.get("export") or {}, record.get("cost") or {}
        return ImportedTraining(
            imported_from=str(export.get("system") or "unknown"),
            hosted_model=self.model,
            steps=export.get("steps"),
            epochs=export.get("epochs"),
            examples=(export.get("rows") or {}).get("train"),
            training_tokens=export.get("training_tokens"),
            seconds=cost.get("seconds"),
            money=cost.get("money"),
            currency=str(cost.get("currency") or ""),
            hardware=str(cost.get("hardware") or ""),
            trainable_parameters=parameters,
            settings=export.get("settings") or {},
            remarks=("trained elsewhere; cost as stated by the user", *remarks),
        )


def usable() -> Usability:
    """See `breakeven.harness.training.Checked`."""
    return Usability(
        True,
        "trains nothing: reads an adapter's folder (`adapter`), or asks a tuned model (`model`, `record`)",
        note="breakeven import-adapter writes these settings; its cost is what you state",
    )


@checked(usable)
def imported(adapter: str = "", model: str = "", record: str = "") -> Imported:
    """The trainer. Raises UserError unless it is told of one adapter folder, or one model and its record.

    Args:
        adapter: folder with a PEFT adapter and its import record.
        model: id of a tuned model at a provider.
        record: folder with that model's import record.
    """
    if bool(adapter) == bool(model):
        raise UserError("give either an adapter's folder, or a model's id", field="adapter")
    folder = Path(adapter or record)
    if not folder.is_dir():
        field = "adapter" if adapter else "record"
        raise UserError(f"there is no folder '{folder}'", field=field)
    read_record(folder)
    if adapter:
        _config(folder)
    return Imported(folder, model)


def _config(folder: Path) -> Mapping[str, Any]:
    """The adapter's configuration. Raises UserError for a folder that holds no LoRA adapter."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"no adapter: {CONFIG} is missing or broken", file=folder, field="adapter") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"no LoRA adapter: {CONFIG} says otherwise", file=folder, field="adapter")
    if not (folder / WEIGHTS).is_file():
        hint = "only safetensors are read" if (folder / "adapter_model.bin").is_file() else None
        raise UserError(f"no adapter: {WEIGHTS} is missing", file=folder, field="adapter", hint=hint)
    return config


def check_adapter(folder: Path) -> int:
    """Parameters of the adapter in a folder.

    Raises:
        UserError: there is none, half of one, or one with nothing in it: training has not touched it, or
            it diverged.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    _config(folder)
    count, moved = 0, False
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_tensor(name)
                count += tensor.numel()
                if not bool(torch.isfinite(tensor.float()).all()):
                    raise UserError(f"holds numbers that are none, in {name}", file=folder / WEIGHTS)
                moved = moved or ("lora_B" in name and bool(tensor.any()))
    except SafetensorError as error:
        raise UserError(f"cannot be read: {error}", file=folder / WEIGHTS) from error
    if not moved:
        raise UserError("is as it was before training: it changes nothing", file=folder / WEIGHTS)
    return count


def check_base(record: Mapping[str, Any], folder: Path, card: ModelCard) -> tuple[str, ...]:
    """Remarks, if an adapter may stand on this model: one of the same shape need not be the same weights.

    Raises UserError where the export was made from other weights (or another chat template) than the run's.
    """
    made_for = (record.get("export") or {}).get("model") or {}
    digest, name = str(made_for.get("digest") or ""), str(made_for.get("name") or "")
    if digest and card.digest:
        if digest == card.digest:
            return ()
        if not record.get("unchecked"):
            raise UserError(
                f"the adapter was made for other weights, or another chat template: exported from {name}, "
                f"used on {card.name}",
                file=folder,
                field="adapter",
                hint="run it on the model it was exported from, or import it with --unchecked",
            )
        return (f"made for other weights, or another chat template, than those of {card.name}: {name}",)
    base = str(_config(folder).get("base_model_name_or_path") or "").rstrip("/").rpartition("/")[2]
    below, here = base.casefold(), card.name.rstrip("/").rpartition("/")[2].casefold()
    if below in here or here in below:  # short names and folders of the same model
        return ()
    return (f"its configuration names another model below it ({base}) than {card.name}",)


def check_fits(folder: Path, tunable: Tunable) -> int:
    """Parameters of the adapter, if its layers are those of the model. Raises UserError otherwise."""
    from safetensors import safe_open

    count = check_adapter(folder)
    layers = {
        name: module for name, module in tunable.model.named_modules() if hasattr(module, "in_features")
    }
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 (no mapping)
            name, part, _ = key.removeprefix("base_model.model.").partition(".lora_")
            if not part:
                continue
            shape = file.get_slice(key).get_shape()
            layer = layers.get(name)
            wanted = None
            if layer is not None:
                wanted = layer.in_features if ".lora_A" in key else layer.out_features
            if wanted is None or wanted not in shape:
                raise UserError(
                    f"the adapter was made for another model: {tunable.card.name} has no layer for {key}",
                    file=folder,
                    field="adapter",
                )
    return count


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
