"""AutoTrain Advanced: one YAML file and a data folder. It has no mask: it learns prompts too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from breakeven.baselines.trainers._systems import prepare_model
from breakeven.baselines.trainers._systems._job import (
    Job,
    as_yaml,
    conversation,
    overlaid,
    refuse,
    refuse_chat_template,
    whole_epochs,
)
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

TITLE = "AutoTrain Advanced"
VERSION = "0.8.36"
INSTALL = f"pip install 'autotrain-advanced=={VERSION}'"
CONFIG = "autotrain.yaml"
#: The model as AutoTrain's transformers reads it, made by `PREPARE` on the machine that trains.
PREPARED, PREPARE = "model", "prepare_model.py"


def rows(pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
    """Chat messages."""
    return [{"messages": conversation(pair)} for pair in pairs]


def files(job: Job) -> dict[str, str]:
    """`autotrain.yaml`. The project's name is the output folder, relative to where it runs.

    Raises:
        UserError: a fraction of an epoch, DoRA or rsLoRA, an `output` other than letters, digits and
            hyphens, rows that are not FOLDER/NAME.jsonl.
    """
    s = job.settings
    refuse_chat_template(job, TITLE)
    refuse(job, ("use_dora", "use_rslora"), TITLE)
    if not job.output.replace("-", "").isalnum():
        raise UserError(
            f"'{job.output}' cannot be an AutoTrain project", field="output", hint="letters, digits and -"
        )
    train = PurePosixPath(job.train)
    valid = PurePosixPath(job.validation) if job.validation is not None else None
    if train.suffix != ".jsonl" or (valid is not None and valid.parent != train.parent):
        raise UserError("AutoTrain wants its rows as .jsonl files in one folder", field="train")
    config: dict[str, Any] = {
        "task": "llm-sft",
        "base_model": job.model,
        "project_name": job.output,
        "log": "none",
        "backend": "local",
        "data": {
            "path": str(train.parent),
            "train_split": train.stem,
            "valid_split": valid.stem if valid is not None else None,
            "chat_template": "tokenizer",
            "column_mapping": {"text_column": "messages"},
        },
        "params": {
            "block_size": job.max_length,
            "model_max_length": job.max_length,
            "epochs": whole_epochs(job, TITLE),
            "batch_size": job.rows_at_once,
            "gradient_accumulation": job.accumulation,
            "lr": job.lr,
            "scheduler": job.schedule,
            "warmup_ratio": s.warmup,
            "optimizer": "adamw_torch",
            "weight_decay": s.weight_decay,
            "max_grad_norm": s.max_grad_norm,
            "seed": job.seed,
            "peft": True,
            "quantization": "int4" if job.load_in_4bit else None,
            "target_modules": job.targets if isinstance(job.targets, str) else ",".join(job.targets),
            "lora_r": s.rank,
            "lora_alpha": job.alpha,
            "lora_dropout": s.dropout,
            "padding": "right",
            "mixed_precision": "bf16" if job.on_gpu else None,
            "disable_gradient_checkpointing": not s.gradient_checkpointing,
            "logging_steps": 1,
            "merge_adapter": False,
        },
        "hub": {"username": None, "token": None, "push_to_hub": False},
    }
    head = f"AutoTrain Advanced {VERSION}: {' '.join(command(job))}\nIt may end with code 0 having failed."
    return {CONFIG: as_yaml(overlaid(config, job.extra), head)}


def command(job: Job) -> tuple[str, ...]:
    return ("autotrain", "--config", CONFIG)


def adapter(job: Job) -> str:
    return job.output


def taken_along(model: str) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """See `_systems.Prepared`: the correction that the trainer here makes by itself."""
    script = Path(prepare_model.__file__).read_text(encoding="utf-8")
    return PREPARED, ("python", PREPARE, model, PREPARED), {PREPARE: script}


def remarks(job: Job) -> tuple[str, ...]:
    return (
        "AutoTrain has no loss mask: the model learns to write the prompts as well as the answers.",
        "AutoTrain Advanced has had no change since January 2025.",
        "AutoTrain does not use its `seed`: trained elsewhere, the adapter is another one each time.",
        "It ends with code 0 even when training failed: look for adapter_model.safetensors.",
    )
