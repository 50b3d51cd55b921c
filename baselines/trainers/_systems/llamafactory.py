"""LLaMA-Factory: one YAML file, a list of data sets. `mask_history` keeps demonstrations out of the loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from breakeven.baselines.trainers._systems._job import (
    Job,
    alternating,
    as_yaml,
    conversation,
    overlaid,
    refuse_chat_template,
)
from breakeven.harness.training import TrainingPair

TITLE = "LLaMA-Factory"
VERSION = "0.9.5"
INSTALL = f"pip install 'llamafactory=={VERSION}'"
CONFIG = "llamafactory.yaml"


def rows(pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
    """Chat messages, an optional system message first, then user and assistant in turn."""
    for pair in pairs:
        alternating(pair, TITLE)
    return [{"messages": conversation(pair)} for pair in pairs]


def files(job: Job) -> dict[str, str]:
    """`llamafactory.yaml`, and the `dataset_info.json` that it looks its data up in."""
    refuse_chat_template(job, TITLE)
    s = job.settings
    config: dict[str, Any] = {
        "model_name_or_path": job.model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": s.rank,
        "lora_alpha": job.alpha,
        "lora_dropout": s.dropout,
        "lora_target": "all" if isinstance(job.targets, str) else ",".join(job.targets),
        "use_rslora": s.use_rslora,
        "use_dora": s.use_dora,
        "dataset_dir": ".",
        "dataset": "train",
        "mask_history": True,
        "cutoff_len": job.max_length,
        "packing": job.packing,
        "output_dir": job.output,
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
        "disable_gradient_checkpointing": not s.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
    }
    if not job.on_gpu:
        config["use_cpu"] = True
    if job.load_in_4bit:
        config |= {"quantization_bit": 4, "quantization_method": "bnb"}
    known = {"train": _entry(job.train)}
    if job.validation is not None:
        known["validation"] = _entry(job.validation)
        config |= {
            "eval_dataset": "validation",
            "eval_strategy": "epoch",
            "per_device_eval_batch_size": job.rows_at_once,
        }
    head = (
        f"LLaMA-Factory {VERSION}: {' '.join(command(job))}\n"
        "Without `template` it reads the chat template off the tokenizer, if it can; see README.md."
    )
    return {
        CONFIG: as_yaml(overlaid(config, job.extra), head),
        "dataset_info.json": json.dumps(known, indent=2) + "\n",
    }


def _entry(path: str) -> dict[str, Any]:
    """A data set's entry; `file_name` is relative to `dataset_dir`, or absolute."""
    return {
        "file_name": str(PurePosixPath(path)),
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }


def command(job: Job) -> tuple[str, ...]:
    return ("llamafactory-cli", "train", CONFIG)


def adapter(job: Job) -> str:
    return job.output


def remarks(job: Job) -> tuple[str, ...]:
    said = ["LLaMA-Factory cuts examples that are too long at both ends; ours cuts the prompt's beginning."]
    if "template" not in job.extra:
        said.append(
            "No `template` is set: LLaMA-Factory then derives one from the tokenizer's chat template and may "
            "put in other line breaks. Compare the example it prints with that of `breakeven preflight`, or "
            "export again with --key template=NAME."
        )
    return tuple(said)
