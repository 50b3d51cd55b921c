"""Killed at any moment and resumed, a run ends with the predictions and the bill of an unbroken one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_suite import write_suite

#: The real model on a few short rows: a run takes seconds, and most of them are not spent starting.
CHANGES: dict[str, Any] = {
    "tasks": {"weather": {"task": "weather.yaml", "limits": {"train": 8, "validation": 2, "test": 4}}},
    "models": {"default": {"model": "smollm2-135m-instruct", "batch_tokens": 300}},
    "strategies": {
        "few-shot": {"demonstrations": {"k": 2, "select": "similar"}},
        "rag": {"context": {"k": 1}},
        "lora": {"weights": {"rank": 4, "epochs": 1, "batch_size": 2, "lr": 0.001, "checkpoint_steps": 1}},
    },
    "timing": {"examples": 1, "concurrency": 1},
}
MOMENTS = 10


@dataclass
class Driver:
    """Talks to tests/kill_driver.py."""

    process: subprocess.Popen[str]
    folder: Path

    def run(self, *arguments: str, kill_after: float | None = None) -> tuple[int, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"args": arguments, "kill_after": kill_after}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["code"], answer["seconds"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("kill")
    write_suite(folder, Path("smollm2-135m-instruct"), **CHANGES)
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kill_driver.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    ) as process:
        yield Driver(process, folder)
        process.kill()


@pytest.fixture(scope="module")
def unbroken(driver: Driver) -> tuple[float, dict[str, Any]]:
    """Seconds and outcome of a run that nothing interrupts, after one that has warmed what is cached."""
    for name in ("warm", "unbroken"):
        code, seconds = driver.run("run", "tiny.yaml", "--name", name)
        assert code == 0, log(driver)
    return seconds, outcome(driver.folder / "runs" / name)


@pytest.mark.model
def test_a_run_killed_at_ten_random_moments_ends_like_an_unbroken_one(
    driver: Driver, unbroken: tuple[float, dict[str, Any]]
) -> None:
    whole, expected = unbroken
    moments = random.Random(20261120)
    killed_in: list[str] = []
    for number in range(MOMENTS):
        name = f"broken-{number}"
        # One moment in each tenth of the run, so that all stages, training too, are met.
        moment = whole * (number + moments.random()) / MOMENTS
        code, seconds = driver.run("run", "tiny.yaml", "--name", name, kill_after=moment)
        folder = driver.folder / "runs" / name
        killed_in.append(stage(folder) if code == -9 else "not killed")
        if code != -9:  # the machine is quicker than it was: aim at the run as it is now
            whole = min(whole, seconds)
        if not (folder / "run.json").exists():  # killed before there was a run: start it again
            again = ("run", "tiny.yaml", "--name", name)
        else:
            again = ("run", "--resume", f"runs/{name}")
        code, _ = driver.run(*again)
        assert code == 0, f"after a kill at {moment:.1f} s ({killed_in[-1]}): {log(driver)}"
        assert outcome(folder) == expected, f"killed at {moment:.1f} s, {killed_in[-1]}"
    assert killed_in.count("not killed") <= 3, killed_in
    assert "training" in killed_in, killed_in


@pytest.mark.model
def test_a_run_killed_again_and_again_gets_there(
    driver: Driver, unbroken: tuple[float, dict[str, Any]]
) -> None:
    whole, expected = unbroken
    arguments: tuple[str, ...] = ("run", "tiny.yaml", "--name", "worn")
    for share in (0.5, 0.6, 0.7):
        driver.run(*arguments, kill_after=whole * share)
        arguments = ("run", "--resume", "runs/worn")
    code, _ = driver.run(*arguments)
    assert code == 0, log(driver)
    assert outcome(driver.folder / "runs" / "worn") == expected


def outcome(run: Path) -> dict[str, Any]:
    """Predictions, scores and counted quantities of every cell: what must not depend on being killed."""
    found: dict[str, Any] = {}
    for cell in sorted((run / "cells").iterdir()):
        rows = [json.loads(line) for line in (cell / "predictions.jsonl").read_text().splitlines()]
        counted = [
            (e["phase"], e["quantity"], e.get("artifact"), e["amount"]["value"])
            for e in json.loads((cell / "ledger.json").read_text())
            if e["quantity"]
            in ("input_tokens", "output_tokens", "training_tokens", "embedded_tokens", "flops")
        ]
        found[cell.name] = {
            "state": json.loads((cell / "status.json").read_text())["state"],
            "predictions": [{k: r[k] for k in ("id", "output", "score", "usage", "meta")} for r in rows],
            "counted": sorted(counted, key=str),
        }
    return found


def stage(run: Path) -> str:
    """What the killed process was doing, from what it left."""
    if not (run / "run.json").exists():
        return "starting"
    if any((run / "artifacts").glob("adapter-*.partial")):
        return "training"
    statuses = {p.parent: json.loads(p.read_text()) for p in (run / "cells").glob("*/status.json")}
    running = [cell for cell, status in statuses.items() if status["state"] == "running"]
    if not running:
        return "between cells"
    return f"{running[0].name}: {'answering' if (running[0] / 'predictor').exists() else 'fitting'}"


def log(driver: Driver) -> str:
    path = driver.folder / "log.txt"
    return path.read_text()[-3000:] if path.exists() else "nothing was printed"
