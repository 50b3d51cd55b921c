"""A suite on a random model of two layers, with the tasks, the strategies and the embedding of a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from strategy_fakes import LetterEmbedder

from breakeven.harness import pool
from breakeven.harness.ledger import Ledger

ROWS = [
    {"text": f"{where} it was {sky}", "sky": sky}
    for sky in ("wet", "dry", "grey")
    for where in ("On Monday", "In Leeds", "By the sea", "Up on the moor", "In May", "As ever", "At noon")
]
TASK = """name: weather
instructions: Say what the weather was.
input_template: "{{ text }}"
data: rows.jsonl
columns: {input: text, reference: sky}
choices: from data
documents: pages.jsonl
metrics: [accuracy]
max_tokens: 6
sizes: {train: 10, validation: 3, test: 6}
"""
STRATEGIES: dict[str, Any] = {
    "zero-shot": {},
    "few-shot": {"demonstrations": {"k": 2}},
    "few-shot-similar": {"demonstrations": {"k": 2}},
    "scored": {"strategy": "levers", "answer": "choices"},
    "rag": {"context": {"k": 1}},
    "lora": {"weights": {"epochs": 2, "rank": 4}},
    "rag+lora": {"weights": {"epochs": 1, "rank": 4, "max_tokens_total": 1000}},
    "nearest-neighbour": {},
    "majority": {},
}


def tiny_model(folder: Path) -> Path:
    """A random Llama that reads 2,048 characters."""
    from test_local_engine import TEMPLATE, write_model
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=98, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=96, eos_token_id=97,
    )  # fmt: skip
    return write_model(folder, config, TEMPLATE)


def write_suite(folder: Path, model: Path, **changes: Any) -> Path:
    """The suite's file; `changes` replace its keys."""
    pages = [{"id": str(n), "title": "", "text": f"The weather page {n} speaks of rain."} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "pages.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    (folder / "weather.yaml").write_text(TASK)
    suite = {
        "suite": "tiny",
        "tasks": {"weather": {"task": "weather.yaml"}},
        "models": {"default": {"model": str(model), "dtype": "float32", "device": "cpu", "threads": 1}},
        "strategies": STRATEGIES,
        "timing": {"examples": 2, "concurrency": 2},
    }
    (folder / "tiny.yaml").write_text(json.dumps({**suite, **changes}))
    return folder / "tiny.yaml"


def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors from words, for runs and estimates alike."""

    def embedder(self: pool.Engines, ledger: Ledger, fresh: bool = False) -> LetterEmbedder:
        return LetterEmbedder(ledger, [])

    monkeypatch.setattr(pool.Engines, "embedder", embedder)
    monkeypatch.setattr(pool.Engines, "embedder_digest", lambda self: "letters")
