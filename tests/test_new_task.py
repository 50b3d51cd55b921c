"""`breakeven new-task`: what it writes works as it is and with rows of one's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from breakeven.harness.registry import load_from_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable) -> Path:
    monkeypatch.chdir(tmp_path)
    said = breakeven("new-task", "desk")
    assert said.code == 0, said
    return tmp_path


def test_it_writes_a_task_with_ten_examples(folder: Path) -> None:
    task = load_from_file(f"{folder / 'desk.py'}:desk")()
    assert len((*task.train, *task.validation, *task.test)) == 10
    assert task.name == "desk"


def test_its_own_test_passes(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_desk.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_its_suite_runs(folder: Path, breakeven: Callable) -> None:
    said = breakeven("run", "desk.suite.yaml", "--only", "majority")
    assert said.code == 0, said


def test_it_runs_with_rows_of_ones_own(folder: Path, breakeven: Callable) -> None:
    rows = "".join(
        f"question {i * 7919} on {i * 104729},{'membership' if i % 3 else 'opening hours'}\n"
        for i in range(60)
    )
    (folder / "mine.csv").write_text("text,desk\n" + rows)
    task = folder / "desk.py"
    task.write_text(task.read_text().replace("data=ROWS", 'data="mine.csv"'))
    said = breakeven("run", "desk.suite.yaml", "--only", "majority")
    assert said.code == 0, said
    assert "24 test examples" in said.out


def test_it_does_not_overwrite(folder: Path, breakeven: Callable) -> None:
    (folder / "desk.py").write_text("mine")
    said = breakeven("new-task", "desk")
    assert said.code == 2
    assert (folder / "desk.py").read_text() == "mine"


@pytest.mark.parametrize(("name", "near"), [("my-task", "my_task"), ("class", "my_class"), ("2nd", "my_2nd")])
def test_a_name_that_is_no_identifier_gets_one_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable, name: str, near: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = breakeven("new-task", name)
    assert said.code == 2
    assert near in said.err
    assert list(tmp_path.iterdir()) == []
