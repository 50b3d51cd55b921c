"""Unsloth: a script over its Python API, since it has no configuration file. GPU only.

The script masks prompts itself: Unsloth's own `train_on_responses_only` would learn demonstrations too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from breakeven.baselines.trainers._systems._job import Job, overlaid, refuse, refuse_chat_template
from breakeven.baselines.trainers._systems.trl import rows as rows_of_trl
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

TITLE = "Unsloth"
VERSION = "2026.10.7"
INSTALL = f"pip install 'unsloth=={VERSION}'"
SCRIPT = "train_unsloth.py"

#: What Unsloth's documentation tunes: all linear layers of the usual architectures.
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows(pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
    """The prompt's messages, and the answer as the completion's only one."""
    return rows_of_trl(pairs)


def files(job: Job) -> dict[str, str]:
    """`train_unsloth.py`, which needs nothing but Unsloth.

    Raises:
        UserError: on a CPU, and for DoRA.
    """
    refuse_chat_template(job, TITLE)
    refuse(job, ("use_dora",), TITLE)
    if not job.on_gpu:
        raise UserError("Unsloth needs a GPU: it refuses to be imported without one", field="device")
    return {SCRIPT: _script(job)}


def arguments(job: Job) -> dict[str, dict[str, Any]]:
    """Keyword arguments by call: `from_pretrained`, `get_peft_model`, `SFTConfig`; `extra` lies over them."""
    s = job.settings
    made: dict[str, Any] = {
        "from_pretrained": {
            "model_name": job.model,
            "max_seq_length": job.max_length,
            "load_in_4bit": job.load_in_4bit,
        },
        "get_peft_model": {
            "r": s.rank,
            "lora_alpha": job.alpha,
            "lora_dropout": s.dropout,
            "target_modules": LINEAR if isinstance(job.targets, str) else job.targets,
            "use_gradient_checkpointing": "unsloth" if s.gradient_checkpointing else False,
            "use_rslora": s.use_rslora,
            "random_state": job.seed,
        },
        "SFTConfig": {
            "output_dir": job.output,
            "max_length": job.max_length,
            "packing": False,
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
            "bf16": True,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "eval_strategy": "epoch" if job.validation is not None else "no",
            "remove_unused_columns": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        },
    }
    return overlaid(made, job.extra)


def _script(job: Job) -> str:
    made = arguments(job)
    return _TEMPLATE.format(
        version=VERSION,
        train=job.train,
        validation=job.validation,
        output=job.output,
        max_length=job.max_length,
        from_pretrained=_call(made["from_pretrained"], 4),
        get_peft_model=_call(made["get_peft_model"], 4),
        SFTConfig=_call(made["SFTConfig"], 8),
    )


def _call(arguments: dict[str, Any], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{name}={value!r}," for name, value in arguments.items())


_TEMPLATE = '''\
"""Trains one LoRA adapter with Unsloth {version} on a GPU: python train_unsloth.py"""

import json

from unsloth import FastLanguageModel  # must come before trl

from datasets import Dataset
from transformers import DataCollatorForSeq2Seq
from trl import SFTConfig, SFTTrainer

TRAIN, VALIDATION, OUTPUT, MAX_LENGTH = {train!r}, {validation!r}, {output!r}, {max_length!r}

model, tokenizer = FastLanguageModel.from_pretrained(
{from_pretrained}
)
model = FastLanguageModel.get_peft_model(
    model,
{get_peft_model}
)


def ids(messages, **options):
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def masked(row):
    """Token ids; -100 wherever a token is shown and not learned. The answer's end token is learned."""
    prompt = ids(row["prompt"], add_generation_prompt=True)
    whole = ids(row["prompt"] + row["completion"])
    if whole[: len(prompt)] != prompt:
        raise SystemExit("the chat template renders the prompt otherwise once the answer stands behind it")
    answer = whole[len(prompt) :]
    if tokenizer.eos_token_id in answer:
        answer = answer[: answer.index(tokenizer.eos_token_id) + 1]
    prompt = prompt[-max(MAX_LENGTH - len(answer), 1) :]
    return {{
        "input_ids": prompt + answer,
        "attention_mask": [1] * (len(prompt) + len(answer)),
        "labels": [-100] * len(prompt) + answer,
    }}


def rows(path):
    with open(path, encoding="utf-8") as file:
        return Dataset.from_list([masked(json.loads(line)) for line in file if line.strip()])


trainer = SFTTrainer(
    model=model,
    processing_class=tokenizer,
    train_dataset=rows(TRAIN),
    eval_dataset=rows(VALIDATION) if VALIDATION else None,
    data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    args=SFTConfig(
{SFTConfig}
    ),
)
done = trainer.train()
model.save_pretrained(OUTPUT)
tokenizer.save_pretrained(OUTPUT)
with open(f"{{OUTPUT}}/train_results.json", "w", encoding="utf-8") as file:
    json.dump(done.metrics, file, indent=1)
'''


def command(job: Job) -> tuple[str, ...]:
    return ("python", SCRIPT)


def adapter(job: Job) -> str:
    return job.output


def remarks(job: Job) -> tuple[str, ...]:
    packing = ("Packing is left off: it would drop the mask.",) if job.packing else ()
    return ("Unsloth needs a GPU.", *packing)
