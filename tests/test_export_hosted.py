"""Exports to a provider's protocol: the job's own settings, and a script that starts no job twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from fine_tuning_server import KEY, FineTuningServer, Lost
from hosted_world import suite

pytest.importorskip("openai")

Start = Callable[..., FineTuningServer]
Call = Callable[..., Said]
JOBS = "/v1/fine_tuning/jobs"


def exported(server: FineTuningServer, folder: Path, breakeven: Call, **weights: Any) -> Path:
    path = suite(server, folder, limits={"allow_unpriced": True}, **weights)
    said = breakeven("export", path, "--strategy", "tuned", "--to", "openai", "--out", "out")
    assert said.code == 0, said.err
    return folder / "out"


def script(folder: Path, server: FineTuningServer) -> subprocess.CompletedProcess[str]:
    """The script as the other machine runs it, but for its patience."""
    file = folder / "fine_tune.py"
    file.write_text(file.read_text().replace("time.sleep(30)", "time.sleep(0.05)"))
    env = {**os.environ, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
    return subprocess.run(
        [sys.executable, file.name], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )


def test_a_job_has_the_settings_of_the_strategy_that_would_run_it(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And needs no key: nothing is sent."""
    monkeypatch.delenv("TEST_KEY")
    weights = {"epochs": "auto", "suffix": "mine", "learning_rate_multiplier": 0.5}
    folder = exported(tuning(), hosted, breakeven, weights=weights)
    job = json.loads((folder / "job.json").read_text())
    assert job["suffix"] == "mine"
    assert job["method"]["supervised"]["hyperparameters"] == {
        "n_epochs": "auto",
        "batch_size": "auto",
        "learning_rate_multiplier": 0.5,
    }
    record = json.loads((folder / "breakeven-export.json").read_text())
    assert (record["epochs"], record["steps"], record["training_tokens"]) == (None, None, None)
    assert "the provider chooses the epochs" in (folder / "README.md").read_text()


def test_the_script_waits_for_its_job_and_names_the_model(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    folder = exported(server, hosted, breakeven)
    said = script(folder, server)
    assert said.returncode == 0, said.stderr
    (job,) = server.jobs.values()
    assert f"model: {job.row['fine_tuned_model']}" in said.stdout
    assert script(folder, server).returncode == 0
    assert len(server.jobs) == 1


def test_a_job_whose_creation_was_not_answered_is_found_and_not_started_twice(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning(lose=[Lost("POST", JOBS)])
    folder = exported(server, hosted, breakeven)
    first = script(folder, server)
    assert first.returncode != 0
    assert "run this again" in first.stderr
    said = script(folder, server)
    assert said.returncode == 0, said.stderr
    assert "model: ft:" in said.stdout
    assert len(server.jobs) == 1
