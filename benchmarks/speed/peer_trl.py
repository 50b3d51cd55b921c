"""TRL's SFTTrainer on the same rows: as it comes, and with the settings that make it quicker on a CPU."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from _worker import installed, serve
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds of the optimizer steps, without setting up."""

    seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._began


def training(
    model: str,
    rows: Sequence[Mapping[str, str]],
    rank: int,
    batch_size: int,
    lr: float,
    dtype: str,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """One epoch over chat rows; `settings` go to SFTConfig, `dtype` is that of the base weights."""
    torch.manual_seed(0)
    data = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": r["prompt"]}],
                "completion": [{"role": "assistant", "content": r["answer"]}],
            }
            for r in rows
        ]
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=lr,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            **settings,
        )
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)),
            processing_class=AutoTokenizer.from_pretrained(model),
            args=config,
            train_dataset=data,
            peft_config=LoraConfig(
                r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[clock],
        )
        tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
        trainer.train()
    losses = [float(x["loss"]) for x in trainer.state.log_history if "loss" in x]
    return {"seconds": clock.seconds, "tokens": tokens, "losses": losses}


def about() -> dict[str, Any]:
    return {"versions": installed(["trl", "torch", "transformers", "peft"])}


if __name__ == "__main__":
    serve({"training": training, "about": about})
