"""Axolotl: one YAML file. Only the answer is learned, also where demonstrations stand before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from breakeven.baselines.trainers._systems._job import Job, as_yaml, conversation, overlaid
from breakeven.harness.training import TrainingPair

TITLE = "Axolotl"
VERSION = "0.19.0"
INSTALL = f"pip install 'axolotl=={VERSION}'"
CONFIG = "axolotl.yaml"


def rows(pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
    """Chat messages; `train: false` on each assistant turn that is only shown."""
    return [{"messages": [_marked(m) for m in conversation(pair)[:-1]] + _answer(pair)} for pair in pairs]


def _marked(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "train": False}


def _answer(pair: TrainingPair) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": pair.answer, "train": True}]


def files(job: Job) -> dict[str, str]:
    """`axolotl.yaml`; every key is one of `axolotl config-schema`."""
    s = job.settings
    config: dict[str, Any] = {
        "base_model": job.model,
        "datasets": [_dataset(job.train)],
        **_template(job),
        "dataset_prepared_path": "prepared",
        "output_dir": job.output,
        "adapter": "qlora" if job.load_in_4bit else "lora",
        "load_in_4bit": job.load_in_4bit,
        "lora_r": s.rank,
        "lora_alpha": job.alpha,
        "lora_dropout": s.dropout,
        **_targets(job),
        "peft_use_rslora": s.use_rslora,
        "peft_use_dora": s.use_dora,
        "sequence_len": job.max_length,
        "sample_packing": job.packing,
        "eval_sample_packing": False,
        "micro_batch_size": job.rows_at_once,
        "gradient_accumulation_steps": job.accumulation,
        "num_epochs": s.epochs,
        "learning_rate": job.lr,
        "lr_scheduler": job.schedule,
        "warmup_steps": job.warmup_steps,
        "optimizer": "adamw_torch",
        "weight_decay": s.weight_decay,
        "max_grad_norm": s.max_grad_norm,
        "seed": job.seed,
        "bf16": job.on_gpu,
        "gradient_checkpointing": s.gradient_checkpointing,
        "attn_implementation": "sdpa",
        "logging_steps": 1,
        "save_strategy": "no",
    }
    if job.validation is None:
        config["val_set_size"] = 0.0
    else:
        config |= {
            "test_datasets": [{**_dataset(job.validation), "split": "train"}],
            "eval_strategy": "epoch",
        }
    if not job.on_gpu:
        config |= _WITHOUT_GPU
    head = f"Axolotl {VERSION}: {' '.join(command(job))}"
    return {CONFIG: as_yaml(overlaid(config, job.extra), head)}


#: Triton kernels switch themselves on and then ask for a GPU.
_WITHOUT_GPU = {"lora_mlp_kernel": False, "lora_qkv_kernel": False, "lora_o_kernel": False}


def _template(job: Job) -> dict[str, Any]:
    if job.chat_template is None:
        return {"chat_template": "tokenizer_default"}
    return {"chat_template": "jinja", "chat_template_jinja": job.chat_template}


def _targets(job: Job) -> dict[str, Any]:
    if isinstance(job.targets, str):
        return {"lora_target_linear": True}
    return {"lora_target_modules": job.targets}


def _dataset(path: str) -> dict[str, Any]:
    return {
        "path": path,
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "message_field_training": "train",
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }


def command(job: Job) -> tuple[str, ...]:
    return ("axolotl", "train", CONFIG, "--launcher", "python")


def adapter(job: Job) -> str:
    return job.output


def remarks(job: Job) -> tuple[str, ...]:
    return (
        "Axolotl cuts or drops examples that are too long; ours cuts the beginning of the prompt.",
        "Axolotl makes the adapter before it sets its seed: trained elsewhere, it is another one each time.",
    )
