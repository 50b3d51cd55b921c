"""A process that is seeded from outside: what it draws follows from the seed, whatever it seeds itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from breakeven.baselines.trainers import _seeded

DRAWS = "import torch, random; print(torch.rand(3).tolist(), random.random())"


def drawn(folder: Path, seed: int, code: str = DRAWS, behind: Path | None = None) -> str:
    """What the code prints; `behind` is a folder that Python looks into after ours."""
    env = {**os.environ, **_seeded.environment(folder, seed)}
    if behind is not None:
        env["PYTHONPATH"] += os.pathsep + str(behind)
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout


def test_equal_seeds_draw_alike_and_others_do_not(tmp_path: Path) -> None:
    first = drawn(tmp_path / "a", 3)
    assert drawn(tmp_path / "b", 3) == first
    assert drawn(tmp_path / "c", 4) != first


def test_a_look_whether_there_is_torch_loses_no_seed(tmp_path: Path) -> None:
    looked = f"import importlib.util; importlib.util.find_spec('torch'); {DRAWS}"
    assert drawn(tmp_path / "a", 3, looked) == drawn(tmp_path / "b", 3, DRAWS)


def test_what_else_is_started_with_python_is_started(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "sitecustomize.py").write_text("import builtins; builtins.started = True")
    said = drawn(tmp_path / "seeded", 3, f"print(started); {DRAWS}", own)
    assert said == "True\n" + drawn(tmp_path / "b", 3)


def test_its_children_are_seeded_too(tmp_path: Path) -> None:
    child = f"import subprocess, sys; subprocess.check_call([sys.executable, '-c', {DRAWS!r}])"
    assert drawn(tmp_path, 3, child).strip() == drawn(tmp_path, 3).strip()


@pytest.mark.parametrize(
    ("code", "says"),
    [("import sys; print('torch' in sys.modules)", "False"), ("import json; print(json.dumps(1))", "1")],
)
def test_a_process_that_needs_no_torch_is_left_alone(tmp_path: Path, code: str, says: str) -> None:
    assert drawn(tmp_path, 3, code).strip() == says
