"""A random Llama of two layers, quick to train, whose padding token is its end token; a task it can learn.

Run as a program it trains into a folder, one line per step, so that a test can kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from breakeven.baselines.trainers.peft import peft
from breakeven.harness.contracts import Message, ModelCard
from breakeven.harness.training import Trainer, TrainingPair, TrainingResult, Tunable

END = 2
VOCABULARY = 64
CARD = ModelCard(name="tiny", engine="test", parameters=30_000, context=128, digest="tiny-1")


def model(dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.4,  # else the frozen output projection can prefer no token
        pad_token_id=END,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config).to(dtype).eval().requires_grad_(False)


def ids(text: str) -> list[int]:
    return [3 + ord(letter) % (VOCABULARY - 3) for letter in text]


def encode(messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    return ids("".join(message["content"] for message in messages) + ">"), [*ids(answer), END]


def tunable(base: Any = None, **changes: Any) -> Tunable:
    given = {"encode": encode, "pad_id": END, "end_id": END, "context": 128, "device": "cpu", "card": CARD}
    return Tunable(model=base if base is not None else model(), **{**given, **changes})


def pairs(n: int = 24) -> list[TrainingPair]:
    """Prompts of many lengths; the answer is "yes" or "no" by their first letter."""
    made = []
    for i in range(n):
        text = "ab"[i % 2] * (1 + i * 7 % 20) + "xyz"[i % 3]
        made.append(TrainingPair(f"p{i}", ({"role": "user", "content": text},), "no" if i % 2 else "yes"))
    return made


def train(
    folder: Path,
    *,
    base: Any = None,
    data: Sequence[TrainingPair] | None = None,
    validation: Sequence[TrainingPair] = (),
    seed: int = 0,
    progress: Callable[[float, float, str], None] = lambda done, total, what: None,
    given: Tunable | None = None,
    trainer: Callable[..., Trainer] = peft,
    **settings: Any,
) -> TrainingResult:
    """Train into `folder`, with checkpoints in `folder`/scratch."""
    folder.mkdir(parents=True, exist_ok=True)
    given = given or tunable(base)
    data = pairs() if data is None else data
    made = trainer(**{"rank": 4, "lr": 3e-2, "epochs": 4, **settings})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # products this small are slower with two
    try:
        return made.train(given, data, validation, folder, folder / "scratch", seed, {}, progress)
    finally:
        torch.set_num_threads(threads)


def greedy(model: Any, prompt: str, limit: int = 8) -> list[int]:
    """The tokens that a model writes to a prompt, its end token included."""
    written = ids(prompt + ">")
    start = len(written)
    with torch.no_grad():
        while len(written) < start + limit and (len(written) == start or written[-1] != END):
            written.append(int(model(torch.tensor([written])).logits[0, -1].argmax()))
    return written[start:]


def adapter(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


if __name__ == "__main__":
    train(
        Path(sys.argv[1]), dropout=0.1, checkpoint_steps=3,
        progress=lambda done, total, what: print(what, flush=True),
    )  # fmt: skip
