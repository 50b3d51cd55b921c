"""A finished suite that is run again shows what it showed, and loads nothing to find that out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_fixture import write_run
from tiny_suite import tiny_model, write_suite

from breakeven.harness.cli import _shown

HEAVY = {"torch", "transformers", "datasets", "pandas", "scipy", "statsmodels", "sklearn", "faiss"}


@pytest.fixture
def run(tmp_path: Path, breakeven: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of two strategies, one of them with a language model; cached files apart."""
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model = tiny_model(tmp_path / "model")
    write_suite(tmp_path, model, strategies={"zero-shot": {}, "majority": {}})
    said = breakeven("run", "tiny.yaml", "--name", "r")
    assert said.code == 0, said.err
    return tmp_path / "runs" / "r"


def shown(said: Any) -> str:
    """What was printed from the tables on."""
    return str(said.out[said.out.index("weather:") :])


def test_running_again_prints_the_same_and_writes_no_report(run: Path, breakeven: Callable[..., Any]) -> None:
    first = breakeven("run", "--resume", run)
    report, record = (run / "report.html").stat(), (run / "run.json").read_bytes()
    again = breakeven("run", "--resume", run)
    assert shown(again) == shown(first)
    assert "zero-shot" in shown(again)
    assert "report: " in shown(again)
    assert (run / "report.html").stat() == report
    assert (run / "run.json").read_bytes() == record  # it was finished when it was


def test_running_again_imports_nothing_that_computes(run: Path) -> None:
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules}))))\n"
        f"sys.argv = ['breakeven', 'run', '--resume', {str(run)!r}]\n"
        "from breakeven.harness.cli import main\nmain()\n"
    )
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for _ in range(2):  # another console than that of the first run: its tables are made once
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
    assert "zero-shot" in done.stdout
    assert HEAVY & set(json.loads(done.stdout.splitlines()[-1])) == set()


def test_another_score_is_shown_and_reported(run: Path, breakeven: Callable[..., Any]) -> None:
    before = shown(breakeven("run", "--resume", run))
    file = run / "cells" / "weather--majority" / "predictions.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row["score"]["accuracy"] = 1.0
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (file.parent / "scores.json").write_text(json.dumps({"accuracy": 1.0}))
    after = shown(breakeven("run", "--resume", run))
    assert after != before
    assert "1.000" in after
    assert "1.000" in (run / "report.html").read_text()


def test_a_report_that_is_gone_or_was_made_otherwise_is_written_again(
    run: Path, breakeven: Callable[..., Any]
) -> None:
    breakeven("run", "--resume", run)
    plain = (run / "report.html").read_text()
    breakeven("report", run, "--set", "requests_per_month=7e6")
    assert (run / "report.html").read_text() != plain
    breakeven("run", "--resume", run)
    assert (run / "report.html").read_text() == plain
    (run / "report.html").unlink()
    breakeven("run", "--resume", run)
    assert (run / "report.html").read_text() == plain


def test_a_task_that_changed_runs_again(run: Path, breakeven: Callable[..., Any]) -> None:
    breakeven("run", "--resume", run)
    rows = run.parent.parent / "rows.jsonl"
    rows.write_text(rows.read_text().replace(" it was ", " it was said to be "))
    said = breakeven("run", "--resume", run)
    assert "task weather is not what it was" in said.out
    assert "said to be" in (run / "tasks/weather/test.jsonl").read_text()


def test_other_weights_run_again(run: Path, breakeven: Callable[..., Any]) -> None:
    breakeven("run", "--resume", run)
    tiny_model(run.parent.parent / "model")
    weights = run.parent.parent / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    said = breakeven("run", "--resume", run)
    assert "weather--zero-shot: its task or settings changed; running it again" in said.out
    assert "weather--majority: its task" not in said.out


def test_a_file_that_cannot_be_read_hides_nothing_and_remembers_nothing(
    run: Path, breakeven: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shown(breakeven("run", "--resume", run))
    (run / _shown.FILE).unlink()
    monkeypatch.setattr(_shown, "files", lambda folder: [folder / "not there"])
    assert shown(breakeven("run", "--resume", run)) == first
    assert not (run / _shown.FILE).exists()


def key(folder: Path, **console: Any) -> str | None:
    return _shown.made_from(folder, Console(file=sys.stdout, **{"width": 100, **console}))


def test_what_is_shown_depends_on_the_program_the_day_and_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", tasks=["support_intents"], examples=6)
    first = key(run)
    assert key(run) == first
    others = [key(run, width=80), key(run, force_terminal=True)]
    with monkeypatch.context() as changed:
        changed.setattr(_shown, "_day", lambda: "2031-01-01")
        others.append(key(run))
    with monkeypatch.context() as changed:
        changed.setattr(_shown, "_version", lambda package: "99" if package == "numpy" else "1")
        others.append(key(run))
    with monkeypatch.context() as changed:
        sources = _shown._sources()
        (tmp_path / "html.py").write_text("another source")
        changed.setattr(_shown, "_sources", lambda: [*sources, tmp_path / "html.py"])
        others.append(key(run))
    assert len({first, *others}) == 6


@pytest.mark.parametrize("name", ["scratch", "artifacts", "predictor", "journal", "report.csv"])
def test_a_task_may_be_called_like_what_is_left_out(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run", tasks=["support_intents"], examples=6)
    (run / "tasks/support_intents").rename(run / "tasks" / name)
    first = key(run)
    (run / "tasks" / name / "test.jsonl").write_text("")
    assert key(run) != first


def test_what_was_made_for_readers_and_what_is_addressed_by_its_content_is_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tasks=["support_intents"], examples=6)
    first, cell = key(run), next((run / "cells").iterdir())
    for place in (
        run / "report.html", run / "report.csv", run / ".lock", run / _shown.FILE,
        run / "artifacts/adapter-1/adapter_model.safetensors", run / "before/1/run.json",
        cell / "journal.jsonl", cell / "predictor/levers.json", cell / "scratch/x",
    ):  # fmt: skip
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("anything")
    assert key(run) == first


def test_the_sources_of_reports_and_of_the_decision_are_looked_at() -> None:
    names = {"/".join(file.parts[-2:]) for file in _shown._sources()}
    assert {"reports/html.py", "templates/report.html", "templates/report.css"} <= names
    assert {"harness/decision.py", "harness/prices.yaml", "cli/tables.py"} <= names


def test_every_file_that_a_report_reads_is_looked_at(tmp_path: Path) -> None:
    """The files that are opened are counted by the interpreter itself."""
    run = write_run(tmp_path / "run", transfer=True)
    code = (
        "import atexit, os, sys\n"
        f"run, opened = {str(run)!r}, set()\n"
        "def heard(event, given):\n"
        "    if event == 'open' and isinstance(given[0], (str, os.PathLike)):\n"
        "        if str(given[0]).startswith(run):\n"
        "            opened.add(str(given[0]))\n"
        "sys.addaudithook(heard)\n"
        "atexit.register(lambda: print('\\n'.join(sorted(opened))))\n"
        f"sys.argv = ['breakeven', 'report', run, '-o', {str(tmp_path / 'report.html')!r}]\n"
        "from breakeven.harness.cli import main\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    opened = {line for line in done.stdout.splitlines() if line.startswith(str(run))}
    assert str(run / "transfer.json") in opened
    assert any(name.endswith("predictions.jsonl") for name in opened)
    assert opened <= {str(file) for file in _shown.files(run)}
