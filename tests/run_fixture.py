"""Writes a run folder in the documented format, so that reports can be tested without a model.

It is a fixture of the file format: outputs are drawn from small lists with a fixed seed and scored by
comparing them with the reference. Nothing here stands for what a language model would have said.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from run_fixture_data import (
    ANSWERS,
    HOSTILE,
    INGREDIENTS,
    INTENTS,
    MESSAGES,
    QUESTIONS,
    RECIPES,
    STRATEGIES,
    Plan,
)

TASKS = ("support_intents", "handbook_qa", "recipe_ingredients")
MODEL = "default"
TRAIN = 160
DATA = "9f1c0a3b5d7e2468"  # hash of every task


def write_run(
    folder: Path,
    *,
    tasks: Sequence[str] = TASKS,
    strategies: Sequence[str] = tuple(STRATEGIES),
    examples: int = 48,
    seeds: Sequence[int] = (0,),
    hostile: bool = False,
    failing: bool = True,
    quality: Mapping[str, Mapping[str, float]] | None = None,
    extra_output: int = 0,
    reference: str = "zero-shot",
    train_sizes: Sequence[int] = (TRAIN,),
    economics: Mapping[str, Any] | None = None,
    transfer: bool = False,
) -> Path:
    """Write the run folder and return it.

    Args:
        quality: share of right answers, strategy -> task -> share, over the defaults above.
        extra_output: so many characters are added to every output of the first strategy.
        train_sizes: of strategies that train, need no model or show examples; what they get right falls
            with the logarithm of the size, to a third at 10 rows.
        economics: over the suite's own.
        transfer: with adapters, and `transfer.json` as if they had been asked: `lora` forgets half of the
            general questions and gains on `recipe_ingredients`; the others stay as they were.
        failing: let `lora` fail on the last task, so that a failure is there to be shown.
    """
    rng = random.Random(7)
    folder.mkdir(parents=True, exist_ok=True)
    data = {task: _examples(task, examples, hostile, rng) for task in tasks}
    planned: list[str] = []
    for task in tasks:
        _write_task(folder / "tasks" / task, task, data[task], hostile)
        hardness = [rng.random() for _ in data[task]]
        for name in strategies:
            plan = STRATEGIES[name]
            right = {**(plan.quality or {}), **((quality or {}).get(name) or {})}.get(task)
            drawn = seeds if "demonstrations" in plan.settings or plan.training else (None,)
            grows = not plan.tokens[0] or drawn is seeds
            for size, seed in product(train_sizes if grows else (max(train_sizes),), drawn):
                sized = f"--n{size}" if grows and len(train_sizes) > 1 else ""
                cell = f"{task}--{name}{sized}" + ("" if seed is None else f"--s{seed}")
                planned.append(cell)
                target = folder / "cells" / cell
                _write_cell(target, cell, task, name, plan, seed, size)
                if right is None:
                    lacks = "documents" if plan.passages else "closed set of choices"
                    _state(target, "not-applicable", f"the task has no {lacks}")
                elif failing and name == "lora" and task == tasks[-1]:
                    reason = "the adapter did not fit: 9.1 GB needed, 7.8 GB free; try batch_size 4"
                    _state(target, "failed", HOSTILE[0] if hostile else reason)
                else:
                    padding = "long " * (extra_output // 5) if name == strategies[0] else ""
                    share = right * _learned(size, max(train_sizes)) if grows else right
                    _write_results(target, task, plan, seed, data[task], hardness, share, hostile, padding)
    more = {"train_sizes": list(train_sizes)} if len(train_sizes) > 1 else {}
    _write_head(folder, tasks, strategies, seeds, planned, reference, hostile, more, economics or {})
    if transfer:
        give_adapters(folder)
        write_transfer(folder, tasks)
    return folder


def _learned(size: int, most: int) -> float:
    """What a strategy gets right with so many rows, as a share of what it does with the most."""
    return 1.0 if size == most else 1 - (2 / 3) * math.log(most / size) / math.log(most / 10)


def _examples(task: str, n: int, hostile: bool, rng: random.Random) -> list[dict[str, Any]]:
    rows = []
    for i in range(n):
        nasty = HOSTILE[i] if hostile and i < len(HOSTILE) else ""
        row: dict[str, Any] = {"id": f"{task[:2]}-{i:05d}", "group": None, "meta": {}}
        if task == "support_intents":
            text = f"{MESSAGES[i % len(MESSAGES)]} ({rng.randint(100, 999)})"
            row |= {"input": {"text": nasty or text}, "references": [INTENTS[i * 7 % len(INTENTS)]]}
        elif task == "handbook_qa":
            k = rng.randrange(len(QUESTIONS))
            row |= {"input": {"question": nasty or QUESTIONS[k]}, "references": [ANSWERS[k]]}
            row["meta"] = {"page": f"page-{k}"}
        else:
            wanted = rng.sample(INGREDIENTS, 4)
            lines = [f"{rng.randint(1, 400)} g {w}" for w in wanted]
            row |= {"input": {"title": nasty or rng.choice(RECIPES), "lines": lines}, "references": [wanted]}
        rows.append(row)
    return rows


def _write_task(folder: Path, task: str, rows: list[dict[str, Any]], hostile: bool) -> None:
    metric = {"support_intents": "accuracy", "handbook_qa": "token_f1", "recipe_ingredients": "set_f1"}[task]
    metrics = [{"name": metric, "range": [0, 1], "higher_is_better": True, "additive": True}]
    if metric != "accuracy":
        metrics.append({"name": "exact_match", "range": [0, 1], "higher_is_better": True, "additive": True})
    documents = 62 if task == "handbook_qa" else 0
    _json(
        folder / "task.json",
        {
            "name": task,
            "description": f"Fixture of {task}.",
            "instructions": "Answer as briefly as you can.",
            "input_template": "{{ text }}",
            "language": "en",
            "licence": "CC0-1.0",
            "choices": list(INTENTS) if task == "support_intents" else None,
            "metrics": metrics,
            "correct_at": 1.0 if metric == "accuracy" else 0.8,
            "sizes": {"train": TRAIN, "validation": 24, "test": len(rows)},
            "documents": documents,
            "cut": {},
            "duplicates": {"exact": 0, "near": 2},
            "hash": DATA,
        },
    )
    _lines(folder / "test.jsonl", rows)
    if documents:
        pages = [
            {"id": f"page-{k}", "title": f"Page {k}", "text": f"{q} In short: {a}. " * 6}
            for k, (q, a) in enumerate(zip(QUESTIONS, ANSWERS, strict=True))
        ]
        if hostile:
            pages[0] |= {"title": HOSTILE[0], "text": HOSTILE[3]}
        _lines(folder / "documents.jsonl", pages)


def _write_cell(
    folder: Path, cell: str, task: str, name: str, plan: Plan, seed: int | None, size: int
) -> None:
    _json(
        folder / "cell.json",
        {
            "id": cell,
            "task": task,
            "strategy": name,
            "model": MODEL if plan.tokens[0] else None,
            "train_size": size,
            "seed": seed,
            "settings": dict(plan.settings),
            "hash": "0123456789abcdef",
        },
    )


def _state(folder: Path, state: str, reason: str = "") -> None:
    times = {"started": "2026-11-20T09:00:00+00:00", "finished": "2026-11-20T09:01:30+00:00"}
    lost = {"seconds": 3.5} if state == "failed" else {}
    _json(folder / "status.json", {"state": state, "reason": reason, **times, "attempts": 1, "lost": lost})


def _write_results(
    folder: Path,
    task: str,
    plan: Plan,
    seed: int | None,
    rows: list[dict[str, Any]],
    hardness: list[float],
    quality: float,
    hostile: bool,
    padding: str,
) -> None:
    rng = random.Random(f"{folder.name}")
    metric = {"support_intents": "accuracy", "handbook_qa": "token_f1"}.get(task, "set_f1")
    predictions = []
    for i, (row, hard) in enumerate(zip(rows, hardness, strict=True)):
        reference = row["references"][0]
        right = 0.6 * hard + 0.4 * rng.random() < 0.15 + quality * 0.7
        output, score = _answer(task, reference, right, rng)
        if hostile and i < len(HOSTILE) and not right:
            output = HOSTILE[i]
        first = next(k for k, a in enumerate(ANSWERS) if a == reference) if task == "handbook_qa" else 0
        passages = [f"page-{(first + j) % len(QUESTIONS)}" for j in range(plan.passages)]
        predictions.append(
            {
                "id": row["id"],
                "output": output + padding,
                "score": score,
                "detail": {} if right else {metric: {"read_as": output[:40].lower()}},
                "usage": {
                    "input_tokens": plan.tokens[0] + rng.randint(0, 30) if plan.tokens[0] else 0,
                    "output_tokens": plan.tokens[1],
                    "cached_input_tokens": 0,
                },
                "seconds": plan.seconds,
                "finish_reason": "length" if plan.tokens[0] and rng.random() < 0.05 else "stop",
                "meta": {"passages": passages} if plan.passages and task == "handbook_qa" else {},
            }
        )
    _lines(folder / "predictions.jsonl", predictions)
    metrics = predictions[0]["score"]
    _json(folder / "scores.json", {m: sum(p["score"][m] for p in predictions) / len(rows) for m in metrics})
    _json(folder / "ledger.json", _ledger(plan, predictions))
    seconds = [plan.seconds * (0.9 + 0.05 * k) for k in range(8)]
    batch: dict[str, Any] = {"n": 8, "seconds": seconds, "p50": seconds[4], "p95": seconds[7]}
    concurrent: dict[str, Any] = {"concurrency": 8, "n": 8, "seconds_per_request": plan.seconds / 3}
    if plan.tokens[0]:
        batch["equal"], concurrent["equal"] = 7, 6
    _json(folder / "timing.json", {"batch_of_one": batch, "concurrent": concurrent})
    if plan.training:
        _json(folder / "training.json", _training(rng))
    demonstrations = plan.settings.get("demonstrations")
    remarks = ["6 of 8 demonstrations fit into the context"] if demonstrations else []
    _json(folder / "fit.json", {"remarks": remarks})
    _state(folder, "done")


def _answer(task: str, reference: Any, right: bool, rng: random.Random) -> tuple[str, dict[str, float]]:
    if task == "support_intents":
        output = reference if right else rng.choice([c for c in INTENTS if c != reference])
        return output, {"accuracy": float(right)}
    if task == "handbook_qa":
        output = reference if right else f"I think it is {rng.choice(ANSWERS)}, but please check"
        return output, {
            "token_f1": 1.0 if right else round(rng.choice([0.0, 0.2, 0.4]), 3),
            "exact_match": float(right),
        }
    kept = reference if right else reference[: rng.randint(0, 3)]
    return ", ".join(kept), {"set_f1": round(2 * len(kept) / (4 + len(kept)), 4), "exact_match": float(right)}


def _ledger(plan: Plan, predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def entry(
        phase: str, quantity: str, value: float | None, source: str, status: str = ""
    ) -> dict[str, Any]:
        amount = {"value": value, "status": status or ("unknown" if value is None else "measured")}
        row = {"phase": phase, "quantity": quantity, "amount": amount, "source": source, "hardware": "cpu-2"}
        return row | ({"model": MODEL} if plan.tokens[0] else {})

    n = len(predictions)
    rows = [entry("serve", "seconds", plan.seconds * n, "wall clock")]
    if plan.tokens[0]:
        for side in ("input_tokens", "output_tokens"):
            rows.append(entry("serve", side, sum(p["usage"][side] for p in predictions), "counted"))
        flops = 2 * 134.5e6 * sum(plan.tokens) * n
        rows.append(entry("serve", "flops", flops, "2N per token + attention", "estimated"))
        rows.append(entry("serve", "joules", None, "no meter on this machine"))
    if plan.training:
        rows.append(entry("train", "seconds", 81.0, "wall clock"))
        rows.append(entry("train", "training_tokens", 14320, "counted"))
        rows.append(entry("train", "flops", 7.9e12, "4N + 12LTd + 6N_lora", "estimated"))
        rows.append(entry("train", "bytes", 2.1e9, "peak resident memory"))
    if plan.passages:
        rows.append(entry("index", "seconds", 4.2, "wall clock") | {"artifact": "index-1a2b3c4d"})
    return rows


def _training(rng: random.Random) -> dict[str, Any]:
    losses = [[step, round(0.25 + 2.4 * 0.9**step + rng.random() * 0.15, 4)] for step in range(1, 61)]
    return {
        "steps": 60,
        "epochs": 3.0,
        "examples": 160,
        "truncated": 2,
        "dropped": 0,
        "training_tokens": 14320,
        "answer_tokens": 1210,
        "seconds": 81.0 + rng.random(),
        "trainable_parameters": 4884480,
        "peak_bytes": 2100000000,
        "losses": losses,
        "validation_losses": [[20, 0.71], [40, 0.52], [60, 0.49]],
        "settings": {"rank": 16, "alpha": 32, "lr": 0.001, "epochs": 3, "batch_size": 8},
        "stop_rate": 0.979,
    }


def _write_head(
    folder: Path,
    tasks: Sequence[str],
    strategies: Sequence[str],
    seeds: Sequence[int],
    planned: list[str],
    reference: str,
    hostile: bool,
    more: Mapping[str, Any],
    economics: Mapping[str, Any],
) -> None:
    suite = {
        "suite": "fixture",
        "description": HOSTILE[3] if hostile else "a run folder written by a test",
        "tasks": {t: {} for t in tasks},
        "models": {MODEL: {"model": "smollm2-135m-instruct"}},
        "strategies": {s: dict(STRATEGIES[s].settings) for s in strategies},
        "seeds": list(seeds),
        "reference": reference,
        "economics": {"requests_per_month": 50000, "currency": "USD", "hardware": "cpu-2", **economics},
        **more,
    }
    text = yaml.safe_dump(suite, allow_unicode=False, sort_keys=False)
    (folder / "suite.yaml").write_text(text, encoding="utf-8")
    card = {
        "name": "smollm2-135m-instruct",
        "engine": "local",
        "parameters": 134515008,
        "active_parameters": 134515008,
        "context": 8192,
        "licence": "Apache-2.0",
        "dtype": "bfloat16",
        "device": "cpu",
        "data_goes_to": "this machine",
        "digest": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }
    prices = {
        "exchange": {
            "EUR": {
                "price": 1.1133,
                "currency": "USD",
                "date": "2026-10-28",
                "source": "https://example.org/fx",
            }
        },
        "machine_hours": {
            "cpu-2": {
                "price": 0.09296,
                "currency": "EUR",
                "date": "2026-10-28",
                "source": "https://example.org/prices",
                "checked": False,
                "note": "2 vCPU, 8 GB",
            }
        },
    }
    _json(
        folder / "run.json",
        {
            "name": folder.name,
            "suite": "fixture",
            "created": "2026-11-20T09:00:00+00:00",
            "finished": "2026-11-20T09:05:12+00:00",
            "command": "breakeven run fixture",
            "versions": {
                "breakeven": "0.1.0",
                "python": "3.11.7",
                "torch": "2.13.0",
                "transformers": "5.23.0",
            },
            "hardware": {"cpu": "AMD EPYC", "physical_cores": 2, "memory_bytes": 16_700_000_000, "gpus": []},
            "models": {MODEL: card},
            "reference": reference,
            "currency": "USD",
            "price_book": prices,
            "tasks": list(tasks),
            "cells": planned,
        },
    )


def give_adapters(folder: Path) -> None:
    """Name an adapter in the ledger of every cell that was trained, and lay its folder down."""
    for file in sorted(folder.glob("cells/*/training.json")):
        name = f"adapter-{file.parent.name}"
        ledger = file.with_name("ledger.json")
        rows: list[dict[str, Any]] = json.loads(ledger.read_text(encoding="utf-8"))
        _json(ledger, [{**r, "artifact": name} if r["phase"] == "train" else r for r in rows])
        weights = folder / "artifacts" / name / "adapter_model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"weights")


def write_transfer(folder: Path, tasks: Sequence[str]) -> None:
    """`transfer.json` of the first seed of every adapter, on 24 examples of each other task."""
    found = []
    for file in sorted(folder.glob("cells/*/training.json")):
        cell = json.loads(file.with_name("cell.json").read_text(encoding="utf-8"))
        if cell["seed"] not in (0, None):
            continue
        for on in [*(t for t in tasks if t != cell["task"]), "general questions"]:
            before = [float(i % 4 < 2) for i in range(24)]
            drop = cell["strategy"] == "lora" and on == "general questions"
            rise = cell["strategy"] == "lora" and on == "recipe_ingredients"
            after = [0.0 if drop else 1.0 if rise else score for score in before]
            metric = {"handbook_qa": "token_f1", "recipe_ingredients": "set_f1"}.get(on, "accuracy")
            found.append(
                {
                    **{"own": cell["task"], "strategy": cell["strategy"], "model": cell["model"]},
                    **{"train_size": cell["train_size"], "seed": cell["seed"]},
                    **{"adapter": f"adapter-{cell['id']}", "on": on, "data": DATA, "metric": metric},
                    **{"higher_is_better": True, "range": [0, 1], "groups": [None] * 24},
                    **{"before": before, "after": after},
                }
            )
    _json(folder / "transfer.json", found)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _lines(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
