"""Commands that train elsewhere: their output, their end, and what they are not told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from breakeven.baselines.trainers import _child

ENV = {"PATH": os.environ["PATH"]}
#: Starts a child of its own that ignores a polite end, writes both process ids and sleeps.
STUBBORN = "import os, signal, subprocess, sys, time\n" + (
    "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'])\n"
    "time.sleep(0.3)\n"
    "print(os.getpid(), child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def run(folder: Path, script: str, **more: object) -> _child.Done:
    command = [sys.executable, "-c", script]
    return _child.run(command, cwd=folder, env=ENV, log=folder / "log", **more)  # type: ignore[arg-type]


def gone(*pids: int) -> bool:
    end = time.monotonic() + 15
    while time.monotonic() < end:
        running = [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != "zombie"]
        if not running:
            return True
        time.sleep(0.1)
    return False


def test_output_and_errors_are_told_line_by_line_and_kept(tmp_path: Path) -> None:
    seen: list[str] = []
    script = "import sys; print('one'); print('two', file=sys.stderr); print('a\\rb\\x1b[31m', end='')"
    done = run(tmp_path, script, on_line=seen.append)
    assert done.code == 0
    assert sorted(seen[:1] + seen[1:]) == ["a", "b", "one", "two"] or {"one", "two"} <= set(seen)
    assert {"one", "two"} <= set((tmp_path / "log").read_text().split())


def test_the_last_lines_are_those_that_say_something(tmp_path: Path) -> None:
    done = run(
        tmp_path, "print('first'); print('-----'); print(); print('ValueError: no'); raise SystemExit(3)"
    )
    assert done.code == 3
    assert done.last_lines(most=1) == "ValueError: no"
    assert done.last_lines() == "first | ValueError: no"


@pytest.mark.parametrize(("script", "code"), [("import os; os.kill(os.getpid(), 9)", 137), ("1/0", 1)])
def test_the_exit_status_is_that_of_the_command(tmp_path: Path, script: str, code: int) -> None:
    assert run(tmp_path, script).code == code


def test_a_command_that_is_not_there_is_told_like_a_shell_does(tmp_path: Path) -> None:
    done = _child.run(["no-such-trainer"], cwd=tmp_path, env=ENV, log=tmp_path / "log")
    assert done.code == 127
    assert "no-such-trainer" in done.last_lines()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_when_we_break_off_the_command_and_its_children_are_ended(
    tmp_path: Path, error: type[BaseException]
) -> None:
    pids: list[int] = []

    def stop(line: str) -> None:
        pids.extend(map(int, line.split()))
        raise error

    with pytest.raises(error):
        run(tmp_path, STUBBORN, on_line=stop)
    assert len(pids) == 2
    assert gone(*pids)


def test_when_we_are_killed_the_command_and_its_children_end_too(tmp_path: Path) -> None:
    """`kill -9` leaves us no time to end anything: the closing pipe does."""
    ours = (
        "import sys; from pathlib import Path; from breakeven.baselines.trainers import _child\n"
        f"_child.run([sys.executable, '-c', {STUBBORN!r}], cwd=Path({str(tmp_path)!r}), "
        f"env={ENV!r}, log=Path({str(tmp_path / 'log')!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", ours])
    log = tmp_path / "log"
    wait_for(lambda: log.exists() and len(log.read_text().split()) == 2)
    pids = [int(pid) for pid in log.read_text().split()]
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert gone(*pids)


def wait_for(there: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_secrets_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "CUDA_API_TOKEN")
    for name in (*secrets, "PYTHONPATH", "SOME_SETTING"):
        monkeypatch.setenv(name, "sesame")
    told = _child.environment(tmp_path / "bin", tmp_path / "home")
    assert "sesame" not in told.values()


def test_the_home_of_a_training_is_empty_and_its_own(tmp_path: Path) -> None:
    """Tokens lie in the user's home: Hugging Face's, .netrc."""
    told = _child.environment(tmp_path / "bin", tmp_path / "home")
    assert told["HOME"] == str(tmp_path / "home")
    assert told["HF_HOME"].startswith(str(tmp_path))
    assert list((tmp_path / "home").iterdir()) == []


def test_a_training_is_offline_and_tells_nobody(tmp_path: Path) -> None:
    told = _child.environment(tmp_path / "bin", tmp_path / "home")
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "DO_NOT_TRACK", "AXOLOTL_DO_NOT_TRACK"):
        assert told[name] == "1"
    assert told["WANDB_MODE"] == "disabled"


def test_the_programs_of_the_environment_come_first(tmp_path: Path) -> None:
    told = _child.environment(tmp_path / "bin", tmp_path / "home")
    assert told["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")
