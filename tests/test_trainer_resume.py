"""A training that was killed, and called again, is the training that was not."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_tiny as tiny

from breakeven.baselines.trainers._checkpoint import CHECKPOINT, LOG
from breakeven.harness.errors import DiskError
from breakeven.harness.training import TrainingResult

SETTINGS: dict[str, Any] = {"dropout": 0.1, "checkpoint_steps": 3}


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


def killed_after(step: int) -> Any:
    calls = []

    def progress(done: float, total: float, what: str) -> None:
        calls.append(what)
        if len(calls) == step:
            raise Killed

    return progress


def train_through(folder: Path, *kills: int, **settings: Any) -> TrainingResult:
    """Train, killed after so many steps of each attempt, until one comes through."""
    for step in kills:
        with pytest.raises(Killed):
            tiny.train(folder, progress=killed_after(step), **{**SETTINGS, **settings})
    return tiny.train(folder, **{**SETTINGS, **settings})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, tiny.train(folder, **SETTINGS)


@pytest.mark.parametrize("kills", [(1,), (3,), (5,), (11,), (12,), (4, 4, 2), (1, 1, 7)])
def test_a_broken_training_ends_with_the_same_adapter(
    tmp_path: Path, unbroken: tuple[Path, TrainingResult], kills: tuple[int, ...]
) -> None:
    train_through(tmp_path, *kills)
    assert tiny.adapter(tmp_path) == tiny.adapter(unbroken[0])


def test_a_broken_training_in_bfloat16_ends_with_the_same_adapter(tmp_path: Path) -> None:
    for name, kills in (("broken", (5, 4)), ("unbroken", ())):
        train_through(tmp_path / name, *kills, base=tiny.model(torch.bfloat16))
    assert tiny.adapter(tmp_path / "broken") == tiny.adapter(tmp_path / "unbroken")


def test_a_broken_training_reports_the_same_work(
    tmp_path: Path, unbroken: tuple[Path, TrainingResult]
) -> None:
    broken, whole = train_through(tmp_path, 5, 4), unbroken[1]
    for name in ("steps", "epochs", "examples", "training_tokens", "answer_tokens", "losses", "settings"):
        assert getattr(broken, name) == getattr(whole, name)


def test_validation_losses_survive_a_kill(tmp_path: Path) -> None:
    held_out = tiny.pairs(30)[24:]
    whole = train_through(tmp_path / "whole", validation=held_out)
    broken = train_through(tmp_path / "broken", 9, validation=held_out)
    assert broken.validation_losses == whole.validation_losses


def test_seconds_are_those_of_the_steps_that_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tick = 0.0

    def clock() -> float:  # every step takes one second: it asks for the time before and after
        nonlocal tick
        tick += 1.0
        return tick

    monkeypatch.setattr("breakeven.baselines.trainers._lora.time.perf_counter", clock)
    result = train_through(tmp_path, 5, 1)  # checkpoints at 3, 6, ...: loses step 4 and 5, then step 4 again
    assert result.seconds == 12
    assert result.lost_seconds == 3


def test_an_unbroken_training_lost_nothing(unbroken: tuple[Path, TrainingResult]) -> None:
    assert unbroken[1].lost_seconds == 0


def test_a_finished_training_called_again_trains_no_step(tmp_path: Path) -> None:
    settings = {"dropout": 0.1, "checkpoint_steps": 1000}
    first = tiny.train(tmp_path, **settings)
    steps: list[str] = []
    again = tiny.train(tmp_path, progress=lambda done, total, what: steps.append(what), **settings)
    assert steps == []
    assert again == first


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"lr": 5e-3}, {"data": tiny.pairs(20)}], ids=["seed", "settings", "data"]
)
def test_a_checkpoint_of_another_training_is_not_continued(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(Killed):
        tiny.train(tmp_path / "used", progress=killed_after(5), **SETTINGS)
    tiny.train(tmp_path / "used", **{**SETTINGS, **change})
    tiny.train(tmp_path / "fresh", **{**SETTINGS, **change})
    assert tiny.adapter(tmp_path / "used") == tiny.adapter(tmp_path / "fresh")


def test_a_damaged_checkpoint_is_not_continued(tmp_path: Path, unbroken: tuple[Path, TrainingResult]) -> None:
    with pytest.raises(Killed):
        tiny.train(tmp_path, progress=killed_after(5), **SETTINGS)
    (tmp_path / "scratch" / CHECKPOINT).write_bytes(b"not a checkpoint")
    tiny.train(tmp_path, **SETTINGS)
    assert tiny.adapter(tmp_path) == tiny.adapter(unbroken[0])


def test_a_torn_last_line_of_the_log_does_no_harm(
    tmp_path: Path, unbroken: tuple[Path, TrainingResult]
) -> None:
    with pytest.raises(Killed):
        tiny.train(tmp_path, progress=killed_after(5), **SETTINGS)
    with (tmp_path / "scratch" / LOG).open("a") as log:
        log.write('{"step": 6, "lo')
    tiny.train(tmp_path, **SETTINGS)
    assert tiny.adapter(tmp_path) == tiny.adapter(unbroken[0])


def test_checkpoints_are_also_written_by_time(tmp_path: Path) -> None:
    settings = {"checkpoint_steps": 1000, "checkpoint_seconds": 1e-9}
    with pytest.raises(Killed):
        tiny.train(tmp_path, progress=killed_after(5), **settings)
    tiny.train(tmp_path, **settings)
    starts = [json.loads(line) for line in (tmp_path / "scratch" / LOG).read_text().splitlines()]
    assert [row["start"] for row in starts if "start" in row] == [0, 5]


def test_a_process_killed_with_sigkill_is_continued_to_the_same_adapter(tmp_path: Path) -> None:
    program = [sys.executable, str(Path(tiny.__file__))]
    with subprocess.Popen([*program, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "step 7/" in line:
                process.kill()
                break
    assert process.returncode != 0
    for name in ("killed", "whole"):
        subprocess.run([*program, str(tmp_path / name)], check=True, stdout=subprocess.DEVNULL)
    assert tiny.adapter(tmp_path / "killed") == tiny.adapter(tmp_path / "whole")


def test_a_full_disk_is_told_in_a_sentence_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: tuple[Path, TrainingResult]
) -> None:
    write, calls = Path.open, []

    def full(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if CHECKPOINT in self.name and "w" in mode:
            calls.append(self)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, mode, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(DiskError, match="no space left"):
            tiny.train(tmp_path, **SETTINGS)
    tiny.train(tmp_path, **SETTINGS)
    starts = [json.loads(line) for line in (tmp_path / "scratch" / LOG).read_text().splitlines()]
    assert [row["start"] for row in starts if "start" in row] == [0, 3]
    assert tiny.adapter(tmp_path) == tiny.adapter(unbroken[0])
