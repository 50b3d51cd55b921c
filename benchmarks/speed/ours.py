"""Our side of the comparisons: the local engine and the in-process trainer, as a run uses them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _worker import installed, serve

from breakeven.baselines.trainers.peft import peft
from breakeven.harness.contracts import Completion, Request
from breakeven.harness.engines.local import LocalEngine, local
from breakeven.harness.training import TrainingPair

Item = Mapping[str, Any]
ENGINES: dict[str, LocalEngine] = {}


def engine(model: str) -> LocalEngine:
    if model not in ENGINES:
        ENGINES[model] = local(model)
        ENGINES[model].warm_up()
    return ENGINES[model]


def answered(model: str, requests: Sequence[Request]) -> tuple[dict[str, Completion], float]:
    """Completions by id, and the seconds from prompts as text to all of them; nothing is kept from before."""
    asked = engine(model)
    asked._base._prefixes.clear()
    start = time.perf_counter()
    found = {c.id: c for batch in asked.plan(requests) for c in asked.complete(batch)}
    return found, time.perf_counter() - start


def choices(model: str, items: Sequence[Item]) -> dict[str, Any]:
    """Scores as lm-evaluation-harness defines them: without the end token, which a run's own scores hold."""
    tokens = engine(model)._base._tokens
    with_end = tokens.answer
    tokens.answer = lambda text: with_end(text)[:-1]  # type: ignore[method-assign]
    try:
        return _choices(model, items)
    finally:
        tokens.answer = with_end  # type: ignore[method-assign]


def _choices(model: str, items: Sequence[Item]) -> dict[str, Any]:
    requests = [Request(str(i), text=x["prompt"], choices=tuple(x["choices"])) for i, x in enumerate(items)]
    found, seconds = answered(model, requests)
    picked = [found[str(i)].text for i in range(len(items))]
    return {"seconds": seconds, "picked": [x["choices"].index(p) for x, p in zip(items, picked, strict=True)]}


def generation(model: str, items: Sequence[Item], tokens: int) -> dict[str, Any]:
    requests = [
        Request(str(i), text=x["prompt"], max_tokens=tokens, stop=("\n",)) for i, x in enumerate(items)
    ]
    found, seconds = answered(model, requests)
    return {"seconds": seconds, "texts": [found[str(i)].text for i in range(len(items))]}


def training(model: str, rows: Sequence[Item], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Train an adapter on chat rows (`prompt`, `answer`); seconds are those of the optimizer steps."""
    tunable = engine(model).tunable()
    pairs = [
        TrainingPair(str(i), ({"role": "user", "content": r["prompt"]},), r["answer"])
        for i, r in enumerate(rows)
    ]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        made = peft(**settings).train(
            tunable, pairs, (), Path(folder) / "adapter", scratch, 0, {}, lambda *_: None
        )
    return {
        "seconds": made.seconds,
        "tokens": made.training_tokens,
        "losses": [loss for _, loss in made.losses],
        "arithmetic": made.settings["arithmetic"],
    }


def about(model: str) -> dict[str, Any]:
    card = engine(model).describe()
    return {
        "dtype": card.dtype,
        "parameters": card.parameters,
        "versions": installed(["torch", "transformers", "peft"]),
    }


if __name__ == "__main__":
    serve({"choices": choices, "generation": generation, "training": training, "about": about})
