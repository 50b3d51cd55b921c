"""TRL: one YAML file for `trl sft`. Rows of prompt and completion, so that only the completion is learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from breakeven.baselines.trainers._systems._job import Job, as_yaml, overlaid
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

TITLE = "TRL"
VERSION = "1.16.0"
INSTALL = f"pip install 'trl[peft]=={VERSION}'"
CONFIG = "trl.yaml"
TEMPLATE = "chat_template.jinja"


def rows(pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
    """The prompt's messages, and the answer as the completion's only one."""
    return [
        {
            "prompt": [dict(message) for message in pair.messages],
            "completion": [{"role": "assistant", "content": pair.answer}],
        }
        for pair in pairs
    ]


def files(job: Job) -> dict[str, str]:
    """`trl.yaml`: the keys of TRL's SFTConfig, ModelConfig and ScriptArguments; a chat template beside it.

    Raises:
        UserError: when the rows do not lie in one folder as .jsonl files.
    """
    s = job.settings
    train = PurePosixPath(job.train)
    valid = PurePosixPath(job.validation) if job.validation is not None else None
    if train.suffix != ".jsonl" or (valid is not None and valid.parent != train.parent):
        raise UserError("`trl sft` wants its rows as .jsonl files in one folder", field="train")
    config: dict[str, Any] = {
        "model_name_or_path": job.model,
        "dtype": "bfloat16" if job.on_gpu else "float32",
        "dataset_name": str(train.parent),
        "dataset_train_split": train.stem,
        **arguments(job),
        "output_dir": job.output,
        "use_peft": True,
        "lora_r": s.rank,
        "lora_alpha": job.alpha,
        "lora_dropout": s.dropout,
        "lora_target_modules": job.targets,
        "use_rslora": s.use_rslora,
        "use_dora": s.use_dora,
        "load_in_4bit": job.load_in_4bit,
    }
    if job.chat_template is not None:
        config["chat_template_path"] = TEMPLATE
    if valid is not None:
        config["dataset_test_split"] = valid.stem
    head = f"TRL {VERSION}: {' '.join(command(job))}"
    made = {CONFIG: as_yaml(overlaid(config, job.extra), head)}
    return made if job.chat_template is None else {**made, TEMPLATE: job.chat_template}


def arguments(job: Job) -> dict[str, Any]:
    """Arguments of `trl.SFTConfig` for the job, all but its folder."""
    s = job.settings
    given: dict[str, Any] = {
        "completion_only_loss": True,
        "max_length": job.max_length,
        "packing": job.packing,
        "per_device_train_batch_size": job.rows_at_once,
        "gradient_accumulation_steps": job.accumulation,
        "num_train_epochs": float(s.epochs),
        "learning_rate": job.lr,
        "lr_scheduler_type": job.schedule,
        "warmup_steps": job.warmup_steps,
        "optim": "adamw_torch",
        "weight_decay": s.weight_decay,
        "max_grad_norm": s.max_grad_norm,
        "seed": job.seed,
        "bf16": job.on_gpu,
        "use_cpu": not job.on_gpu,
        "gradient_checkpointing": s.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "eval_strategy": "epoch" if job.validation is not None else "no",
    }
    if job.validation is not None:
        given["per_device_eval_batch_size"] = job.rows_at_once
    return given


def command(job: Job) -> tuple[str, ...]:
    return ("trl", "sft", "--config", CONFIG)


def adapter(job: Job) -> str:
    return job.output


def remarks(job: Job) -> tuple[str, ...]:
    return ("TRL cuts the end of examples that are too long, so their answers; ours cuts the prompt.",)
