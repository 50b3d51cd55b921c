"""`breakeven score`: stored outputs are judged again, nothing is run, and nothing is lost on the way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from breakeven.harness import _folders, plan, progress, rescoring, results, stats
from breakeven.harness import run as runs
from breakeven.harness import suite as suites
from breakeven.harness.errors import UserError

SKIES = ("wet", "dry", "grey")
PLACES = ("On Monday", "In Leeds", "By the sea", "Up on the moor", "In May", "As ever", "At noon", "Outside")
ROWS = [{"nr": f"{s}{n}", "text": f"{p} it was {s}", "sky": s} for s in SKIES for n, p in enumerate(PLACES)]
TASK = """name: weather
instructions: Say what the weather was.
input_template: "{{ text }}"
data: rows.jsonl
columns: {input: text, reference: sky, id: nr}
choices: from data
metrics: [accuracy, macro_f1]
sizes: {train: 6, validation: 3, test: 12}
"""
MINE = '''
"""A strategy, a task and a metric of one's own."""

from breakeven.harness.contracts import Prediction, Usage
from breakeven.harness.taskfile import make_task


class LastWord:
    varies_with = frozenset()

    def fit(self, brief, train, validation, services):
        return self

    def load(self, folder, brief, services):
        return self

    def save(self, folder):
        (folder / "weights.txt").write_text("w")

    def predict(self, inputs):
        for x in inputs:
            yield Prediction(x.id, str(x.fields["text"]).split()[-1], Usage(3, 1), 0.01, "stop", {"k": 1})


def half(example, output):
    return 0.5


def python_task():
    rows = [{"nr": str(n), "text": f"it was {s}", "sky": s} for n, s in enumerate(["wet", "dry"] * 4)]
    return make_task("spoken", instructions="Say it.", data={"test": rows}, metrics=["accuracy"],
                     columns={"input": "text", "reference": "sky", "id": "nr"}, choices=["wet", "dry"],
                     sizes={"train": 0, "validation": 0})
'''
SUITE = {
    "suite": "s",
    "tasks": {"weather": {"task": "weather.yaml"}, "spoken": {"task": "mine.py:python_task"}},
    "strategies": {"last-word": {"strategy": "mine.py:LastWord"}, "majority": {"tasks": ["weather"]}},
    "reference": "majority",
}
CELL = "cells/weather--last-word"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a task, its data and a finished run of it."""
    folder = tmp_path_factory.mktemp("made")
    write_rows(folder / "rows.jsonl", ROWS)
    (folder / "weather.yaml").write_text(TASK)
    (folder / "mine.py").write_text(MINE)
    (folder / "s.yaml").write_text(json.dumps(SUITE))
    with progress.display(Console(quiet=True)) as display:
        runs.start(suites.load(folder / "s.yaml"), folder / "r", runs.Options(), display)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may spoil."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    frozen = tmp_path / "r/suite.yaml"
    frozen.write_text(frozen.read_text().replace(str(made), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "tasks/weather/test.jsonl").read_text().splitlines()]


def outputs(run: Path, cell: str = CELL) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / cell / "predictions.jsonl").read_text().splitlines()]


def corrected(folder: Path, wrong: int = 3) -> list[str]:
    """`fixed.jsonl`, in which the first test examples have another label; their ids."""
    ids = [row["id"] for row in asked(folder / "r")[:wrong]]
    rows = [{**r, "sky": next(s for s in SKIES if s != r["sky"])} if r["nr"] in ids else r for r in ROWS]
    write_rows(folder / "fixed.jsonl", rows)
    return ids


DATA = ("--set", "tasks.weather.args.data=fixed.jsonl")


def files_of(run: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(run)): p.read_bytes()
        for p in sorted(run.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def runs_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != "__pycache__")


# --- references ------------------------------------------------------------------------------


def test_corrected_references_change_the_scores_of_the_same_outputs(
    folder: Path, breakeven: Callable
) -> None:
    ids = corrected(folder)
    said = breakeven("score", "r", *DATA)
    assert said.code == 0, said.err
    before, after = outputs(folder / "r"), outputs(folder / "r-rescored")
    assert [{**r, "score": 0, "detail": 0} for r in before] == [{**r, "score": 0, "detail": 0} for r in after]
    assert [r["id"] for r in after if r["score"]["accuracy"] == 0] == ids
    scores = json.loads((folder / "r-rescored" / CELL / "scores.json").read_text())
    assert scores["accuracy"] == pytest.approx(9 / 12)


def test_scores_are_those_of_a_run_on_the_corrected_data(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    write_rows(folder / "test.jsonl", [{"nr": r["id"], **r["input"], "sky": s} for r in asked(folder / "r")
                                       for s in r["references"]])  # fmt: skip
    breakeven("score", "r", *DATA)
    with progress.display(Console(quiet=True)) as display:
        task = TASK.replace("data: rows.jsonl", f"data: {folder}/right.jsonl").replace("train: 6", "train: 0")
        write_rows(folder / "right.jsonl", [
            {"nr": r["id"], **r["input"], "sky": r["references"][0]} for r in asked(folder / "r-rescored")
        ])  # fmt: skip
        (folder / "weather.yaml").write_text(task.replace("validation: 3", "validation: 0"))
        suite = suites.load(folder / "s.yaml", ["strategies.majority=", "reference=last-word"])
        suite = suite.model_copy(update={"strategies": {"last-word": suite.strategies["last-word"]}})
        runs.start(suite, folder / "fresh", runs.Options(), display)
    wanted = {r["id"]: (r["score"], r["detail"]) for r in outputs(folder / "fresh")}
    assert {r["id"]: (r["score"], r["detail"]) for r in outputs(folder / "r-rescored")} == wanted


def test_the_run_it_came_from_stays_as_it_was(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    before = files_of(folder / "r")
    assert breakeven("score", "r", *DATA).code == 0
    assert files_of(folder / "r") == before


def test_an_example_that_a_corrected_label_moves_to_another_split_is_found(
    folder: Path, breakeven: Callable
) -> None:
    corrected(folder, wrong=4)
    entry = suites.load(folder / "r/suite.yaml", ["tasks.weather.args.data=fixed.jsonl"]).tasks["weather"]
    cut_anew = {e.id for e in plan.load_task("weather", entry).test}
    assert cut_anew != {r["id"] for r in asked(folder / "r")}  # else this test shows nothing
    said = breakeven("score", "r", *DATA)
    assert said.code == 0, said.err
    assert [r["id"] for r in asked(folder / "r-rescored")] == [r["id"] for r in asked(folder / "r")]
    assert "were never answered" in said.out


def test_the_table_shows_each_strategy_before_and_after(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    said = breakeven("score", "r", *DATA)
    line = next(line for line in said.out.splitlines() if line.startswith("last-word"))
    assert line.split() == ["last-word", "1.000", "0.750", "0.468-0.911", "-0.250"]
    assert "3 examples have other references" in said.out


def test_references_edited_where_the_task_has_them_need_no_option(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    shutil.move(folder / "fixed.jsonl", folder / "rows.jsonl")
    assert breakeven("score", "r").code == 0
    assert [r["score"]["accuracy"] for r in outputs(folder / "r-rescored")].count(0) == 3


def test_an_input_that_was_changed_is_refused(folder: Path, breakeven: Callable) -> None:
    ids = [row["id"] for row in asked(folder / "r")]
    write_rows(
        folder / "fixed.jsonl", [{**r, "text": r["text"] + "!"} if r["nr"] == ids[0] else r for r in ROWS]
    )
    said = breakeven("score", "r", *DATA)
    assert said.code == 2
    assert f"the input of 1 examples is not what the stored outputs answer: '{ids[0]}'" in said.err
    assert not (folder / "r-rescored").exists()


def test_missing_examples_are_named_and_refused(folder: Path, breakeven: Callable) -> None:
    gone = [row["id"] for row in asked(folder / "r")[:2]]
    write_rows(folder / "fixed.jsonl", [r for r in ROWS if r["nr"] not in gone])
    said = breakeven("score", "r", *DATA)
    assert said.code == 2
    assert f"'{gone[0]}', '{gone[1]}'" in said.err
    assert "--keep-missing" in said.err


def test_missing_examples_keep_their_references_if_asked(folder: Path, breakeven: Callable) -> None:
    ids = corrected(folder)
    rows = [json.loads(line) for line in (folder / "fixed.jsonl").read_text().splitlines()]
    write_rows(folder / "fixed.jsonl", [r for r in rows if r["nr"] != ids[0]])
    said = breakeven("score", "r", *DATA, "--keep-missing")
    assert said.code == 0, said.err
    assert [r["id"] for r in outputs(folder / "r-rescored") if r["score"]["accuracy"] == 0] == ids[1:]


def test_other_training_data_than_the_outputs_rest_on_is_remarked(folder: Path, breakeven: Callable) -> None:
    ids = {row["id"] for row in asked(folder / "r")}
    rows = [{**r, "text": "So " + r["text"]} if r["nr"] not in ids else r for r in ROWS]
    write_rows(folder / "fixed.jsonl", rows)
    assert "the outputs rest on what it had" in breakeven("score", "r", *DATA).out


def test_corrected_references_alone_bring_no_remark(folder: Path, breakeven: Callable) -> None:
    """Given by split, so that nothing else moves."""
    ids = {row["id"] for row in asked(folder / "r")}
    parts = {"test": [r for r in ROWS if r["nr"] in ids], "train": [r for r in ROWS if r["nr"] not in ids]}
    for split, rows in parts.items():
        write_rows(folder / f"{split}.jsonl", rows)
    task = TASK.replace(
        "data: rows.jsonl", "data: {train: train.jsonl, validation: train2.jsonl, test: test.jsonl}"
    )
    write_rows(folder / "train2.jsonl", [{**r, "nr": "v" + r["nr"]} for r in parts["train"][:3]])
    (folder / "weather.yaml").write_text(task)
    with progress.display(Console(quiet=True)) as display:
        runs.start(suites.load(folder / "s.yaml"), folder / "split", runs.Options(), display)
    write_rows(folder / "fixed.jsonl", [{**r, "sky": "wet"} for r in parts["test"]])
    said = breakeven("score", "split", "--set", "tasks.weather.args.data.test=fixed.jsonl")
    assert said.code == 0, said.err
    assert "note:" not in said.out


# --- metrics ---------------------------------------------------------------------------------


def test_another_metric_decides_and_the_old_ones_follow(folder: Path, breakeven: Callable) -> None:
    said = breakeven("score", "r", "--metric", "weather=exact_match")
    assert said.code == 0, said.err
    found = results.load(folder / "r-rescored")
    assert [m.name for m in found.tasks["weather"].metrics] == ["exact_match", "accuracy", "macro_f1"]
    assert set(outputs(folder / "r-rescored")[0]["score"]) == {"exact_match", "accuracy", "macro_f1"}
    assert "accuracy, now exact_match" in said.out


def test_a_metric_that_is_no_mean_gets_its_draws_and_a_mean_loses_them(
    folder: Path, breakeven: Callable
) -> None:
    assert breakeven("score", "r", "--metric", "weather=macro_f1", "--in-place").code == 0
    assert len(results.load(folder / "r").cells["weather--last-word"].draws) == stats.DRAWS
    assert breakeven("score", "r", "--metric", "weather=accuracy", "--in-place").code == 0
    assert results.load(folder / "r").cells["weather--last-word"].draws == ()


def test_the_frozen_suite_repeats_the_run_with_the_new_metric(folder: Path, breakeven: Callable) -> None:
    """Also one from a file that was named relative to another folder."""
    assert breakeven("score", "r", "--metric", "weather={metric: 'mine.py:half', name: even}").code == 0
    entry = suites.load(folder / "r-rescored/suite.yaml").tasks["weather"]
    assert str(folder / "mine.py") in json.dumps(entry.args)
    assert [m.name for m in plan.load_task("weather", entry).metrics] == ["even", "accuracy", "macro_f1"]


def test_a_task_in_python_can_be_scored_by_another_metric(folder: Path, breakeven: Callable) -> None:
    said = breakeven("score", "r", "--metric", "spoken=exact_match")
    assert said.code == 0, said.err
    assert results.load(folder / "r-rescored").tasks["spoken"].primary.name == "exact_match"
    assert "suite.yaml cannot say" in said.out


# --- what is kept ----------------------------------------------------------------------------


def test_the_run_says_when_why_and_from_what_it_was_scored_again(folder: Path, breakeven: Callable) -> None:
    ids = corrected(folder)
    breakeven("score", "r", *DATA, "--why", "labels checked by two people")
    before, after = (json.loads((folder / r / "run.json").read_text()) for r in ("r", "r-rescored"))
    assert (before.get("rescored"), after["name"]) == (None, "r-rescored")
    (record,) = after["rescored"]
    (task,) = record["tasks"]
    assert (record["why"], record["run"]) == ("labels checked by two people", "r")
    assert task["before"] == json.loads((folder / "r/tasks/weather/task.json").read_text())["hash"]
    assert task["after"] == json.loads((folder / "r-rescored/tasks/weather/task.json").read_text())["hash"]
    assert task["corrected"] == ids


def test_in_place_keeps_what_it_replaces(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    before = files_of(folder / "r")
    assert breakeven("score", "r", *DATA, "--in-place").code == 0
    now = files_of(folder / "r")
    changed = {name for name in before if now[name] != before[name]}
    assert f"{CELL}/predictions.jsonl" in changed
    for name in changed:
        assert now[f"before/1/{name}"] == before[name]


def test_a_report_of_the_old_scores_does_not_stay(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    for format in ("html", "csv"):
        assert breakeven("report", "r", "--format", format).code == 0
    before = (folder / "r/report.html").read_bytes()
    assert breakeven("score", "r", *DATA, "--in-place").code == 0
    assert (folder / "r/report.html").read_bytes() != before
    assert (folder / "r/before/1/report.html").read_bytes() == before
    assert not (folder / "r/report.csv").exists()


class Killed(BaseException):
    """As `kill -9` would be: nothing after it runs that a dead process could not have run."""


@pytest.mark.parametrize("step", range(1, 14, 2))
def test_killed_at_any_step_in_place_is_completed_by_the_same_command(
    folder: Path, breakeven: Callable, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    corrected(folder)
    change = [DATA[1]]
    rescoring.rescore(folder / "r", change, out=folder / "wanted")
    steps, real = [], Path.replace

    def killed(self: Path, target: Path) -> Path:
        if _folders.STAGED in self.parts and self.suffix != ".tmp":
            steps.append(target)
            if len(steps) == step:
                raise Killed
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        try:
            rescoring.rescore(folder / "r", change, in_place=True)
        except Killed:
            said = breakeven("report", "r", "--format", "csv", "-o", "-")
            assert (said.code, "breakeven score r --in-place" in said.err) == (2, True)
        else:
            assert step > len(steps)
    said = breakeven("score", "r", *DATA, "--in-place")
    assert said.code == 0, said.err
    assert ("is completed" in said.out) == (len(steps) == step)
    for name in (
        f"{CELL}/predictions.jsonl",
        f"{CELL}/scores.json",
        "tasks/weather/task.json",
        "tasks/weather/test.jsonl",
    ):
        assert (folder / "r" / name).read_bytes() == (folder / "wanted" / name).read_bytes()
    assert len(json.loads((folder / "r/run.json").read_text())["rescored"]) == 1


def test_a_failure_on_the_way_leaves_no_new_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrected(folder)

    def full(*_: Any) -> list[str]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rescoring, "_write", full)
    with pytest.raises(UserError, match="no space left"):
        rescoring.rescore(folder / "r", [DATA[1]])
    assert runs_in(folder) == ["r"]


def test_when_nothing_differs_nothing_is_written(folder: Path, breakeven: Callable) -> None:
    said = breakeven("score", "r")
    assert (said.code, "nothing was written" in said.out) == (0, True)
    assert not (folder / "r-rescored").exists()


def test_a_rescored_run_is_not_resumed(folder: Path, breakeven: Callable) -> None:
    """Its cells would count as stale, and their outputs be thrown away."""
    corrected(folder)
    breakeven("score", "r", *DATA)
    before = files_of(folder / "r-rescored")
    said = breakeven("run", "--resume", "r-rescored")
    assert (said.code, "scored again" in said.err) == (2, True)
    assert files_of(folder / "r-rescored") == before


def test_a_run_that_is_not_finished_is_not_scored_in_place(folder: Path, breakeven: Callable) -> None:
    corrected(folder)
    (folder / "r" / CELL / "status.json").write_text('{"state": "stopped", "reason": "interrupted"}')
    said = breakeven("score", "r", *DATA, "--in-place")
    assert (said.code, "not finished" in said.err) == (2, True)
    assert breakeven("score", "r", *DATA).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "economics.utilisation=1"), "changes no task"),
        (("--set", "tasks.whether.args.data=x"), "no task 'whether'"),
        (("--metric", "exact_match"), "TASK=METRIC"),
        (("--metric", "weather=exact_macht"), "did you mean exact_match"),
        (("--metric", "weather=exact_match", "--out", "r"), "is there already"),
        (("--metric", "weather=exact_match", "--out", "x", "--in-place"), "--in-place"),
        (("--set", "tasks.weather.args.data=nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_a_mistake_is_one_sentence(
    folder: Path, breakeven: Callable, arguments: tuple[str, ...], words: str
) -> None:
    said = breakeven("score", "r", *arguments)
    assert said.code == 2
    assert words in said.err
    assert runs_in(folder) == ["r"]
