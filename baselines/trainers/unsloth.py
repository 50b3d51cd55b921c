"""Unsloth, in a process and an environment of its own: `weights: {trainer: unsloth}`. It needs a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from breakeven.baselines.trainers import _systems
from breakeven.baselines.trainers._environments import Environment, Recipe
from breakeven.baselines.trainers._outside import Kind, OutsideTrainer
from breakeven.baselines.trainers._signatures import parameters
from breakeven.baselines.trainers._systems.unsloth import arguments
from breakeven.harness.errors import UserError
from breakeven.harness.training import Trainer

#: Where the calls of the generated script are defined, in the installed packages.
CALLS = {
    "from_pretrained": [("unsloth.models.loader", "FastLanguageModel.from_pretrained")],
    "get_peft_model": [("unsloth.models.llama", "FastLlamaModel.get_peft_model")],
    "SFTConfig": [
        ("trl.trainer.sft_config", "SFTConfig"),
        ("transformers.training_args", "TrainingArguments"),
    ],
}


def unsloth(**settings: Any) -> Trainer:
    """The trainer over Unsloth. Raises UserError for an unknown setting, or one it cannot honour.

    Settings and their defaults: `breakeven.baselines.trainers._settings.Settings`, without those in
    `_outside.REFUSED`, and `_outside.Own`; `extra` holds arguments of its calls, by call.
    """
    return OutsideTrainer(KIND, settings)


def check(job: _systems.Job, site: Path) -> None:
    """Hold the generated script's arguments against the signatures of the packages in `site`.

    Unsloth cannot be imported without a GPU, so its source is read.

    Raises:
        UserError: a call has no such parameter.
    """
    for call, given in arguments(job).items():
        known = frozenset[str]().union(*(parameters(site, module, name) for module, name in CALLS[call]))
        for name in given:
            if name not in known:
                raise UserError(f"the installed Unsloth knows no {call}({name}=...)", field="extra")


def _check(job: _systems.Job, environment: Environment) -> None:
    check(job, environment.site_packages)


KIND = Kind(
    "unsloth",
    Recipe("unsloth", "unsloth", python="3.11", gigabytes=8.0),
    refused={
        "packing": "packing would drop the loss mask",
        "use_dora": "it has no such setting",
    },
    gpu_only=True,
    check=_check,
)
