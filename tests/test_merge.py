"""`breakeven merge`: what two machines made becomes one run, or one sentence on why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_fixture import write_run

from breakeven.harness import _folders, merging, results
from breakeven.harness import suite as suites
from breakeven.harness.errors import UserError

TASKS = ("support_intents", "handbook_qa")
GPU = {"cpu": "Xeon", "physical_cores": 8, "gpus": [{"name": "NVIDIA L4", "memory_bytes": 24_000_000_000}]}


def run(folder: Path, *strategies: str, **more: Any) -> Path:
    return write_run(folder, tasks=TASKS, strategies=strategies, failing=False, **more)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON or YAML file."""
    read, write = (yaml.safe_load, yaml.safe_dump) if path.suffix == ".yaml" else (json.loads, json.dumps)
    value = read(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(write(value), encoding="utf-8")


def on_gpu(folder: Path) -> Path:
    edit(folder / "run.json", lambda info: info.update(hardware=GPU))
    return folder


def state(folder: Path, cell: str, **status: Any) -> None:
    edit(folder / "cells" / cell / "status.json", lambda s: s.update(status))


def answer_otherwise(folder: Path, cell: str, examples: int) -> None:
    path = folder / "cells" / cell / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:examples]:
        row["output"] = "something else"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return run(tmp_path / "a", "zero-shot", "few-shot-similar")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return on_gpu(run(tmp_path / "b", "zero-shot", "lora", "rag"))


def row(folder: Path, task: str, strategy: str) -> results.Row:
    return next(r for r in results.load(folder).tables[task] if r.strategy == strategy)


# --- what is joined --------------------------------------------------------------------------


def test_cells_of_both_are_there_with_the_numbers_they_had(a: Path, b: Path, tmp_path: Path) -> None:
    merging.merge([a, b], tmp_path / "m")
    found = results.load(tmp_path / "m")
    assert [r.strategy for r in found.tables["handbook_qa"]] == [
        "zero-shot",
        "few-shot-similar",
        "lora",
        "rag",
    ]
    for source, strategy in ((a, "few-shot-similar"), (b, "rag"), (b, "lora")):
        before, after = (row(f, "handbook_qa", strategy) for f in (source, tmp_path / "m"))
        assert (before.quality, before.latency) == (after.quality, after.latency)


def test_a_cell_done_in_one_is_taken_wherever_the_other_got(a: Path, b: Path, tmp_path: Path) -> None:
    state(a, "handbook_qa--zero-shot", state="failed", reason="no memory")
    made = merging.merge([a, b], tmp_path / "m")
    assert made.cells["handbook_qa--zero-shot"] == "b"
    assert row(tmp_path / "m", "handbook_qa", "zero-shot").state == "done"


def test_equal_outputs_of_a_shared_cell_are_taken_from_the_first(a: Path, b: Path, tmp_path: Path) -> None:
    assert merging.merge([a, b], tmp_path / "m").cells["handbook_qa--zero-shot"] == "a"
    assert merging.merge([b, a], tmp_path / "n").cells["handbook_qa--zero-shot"] == "b"


def test_seeds_of_two_machines_become_one_row(tmp_path: Path) -> None:
    a = run(tmp_path / "a", "lora", seeds=(0,), reference="lora")
    b = run(tmp_path / "b", "lora", seeds=(1, 2), reference="lora")
    merging.merge([a, b], tmp_path / "m")
    found = results.load(tmp_path / "m")
    (one,) = found.tables["handbook_qa"]
    assert [c.seed for c in one.cells] == [0, 1, 2]
    assert found.suite["seeds"] == [0, 1, 2]
    assert not any("seeds" in note for note in one.notes)


def test_two_models_that_were_each_the_only_one_keep_apart(tmp_path: Path) -> None:
    """Their cells have the same name in both runs."""
    a, b = (run(tmp_path / name, "zero-shot") for name in "ab")
    edit(b / "suite.yaml", lambda s: s.update(models={"large": {"model": "large"}}))
    edit(b / "run.json", lambda i: i.update(models={"large": {**i["models"]["default"], "digest": "9"}}))
    for task in TASKS:
        edit(b / f"cells/{task}--zero-shot/cell.json", lambda c: c.update(model="large"))
    merging.merge([a, b], tmp_path / "m")
    labels = [r.label for r in results.load(tmp_path / "m").tables["handbook_qa"]]
    assert labels == ["zero-shot (default)", "zero-shot (large)"]


def test_a_task_that_only_one_run_has_comes_along(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", tasks=["support_intents"], strategies=["zero-shot"])
    b = write_run(tmp_path / "b", tasks=["handbook_qa"], strategies=["zero-shot", "rag"], failing=False)
    merging.merge([a, b], tmp_path / "m")
    found = results.load(tmp_path / "m")
    assert list(found.tasks) == ["support_intents", "handbook_qa"]
    assert len(found.tasks["handbook_qa"].documents) > 0


def test_artifacts_and_documents_come_along(a: Path, b: Path, tmp_path: Path) -> None:
    (b / "artifacts/index-1").mkdir(parents=True)
    (b / "artifacts/index-1/vectors").write_text("v")
    (b / "artifacts/adapter-2.partial").mkdir()
    (b / "artifacts/adapter-2.partial/half").write_text("h")
    (a / "tasks/handbook_qa/documents.jsonl").write_text('{"id": "only-a", "title": "", "text": "t"}\n')
    merging.merge([a, b], tmp_path / "m")
    assert (tmp_path / "m/artifacts/index-1/vectors").read_text() == "v"
    assert not (tmp_path / "m/artifacts/adapter-2.partial").exists()
    assert {"only-a", "page-0"} <= set(results.load(tmp_path / "m").tasks["handbook_qa"].documents)


def test_three_runs_can_be_joined_and_a_joined_one_again(a: Path, b: Path, tmp_path: Path) -> None:
    c = run(tmp_path / "c", "majority", reference="majority")
    merging.merge([a, b, c], tmp_path / "m")
    merging.merge([a, b], tmp_path / "n")
    merging.merge([tmp_path / "n", c], tmp_path / "nc")
    cells = [
        {i: (c.state, c.aggregates) for i, c in results.load(tmp_path / x).cells.items()} for x in ("m", "nc")
    ]
    assert cells[0] == cells[1]
    assert json.loads((tmp_path / "nc/cells/handbook_qa--rag/cell.json").read_text())["origin"] == "b"


# --- what is written down --------------------------------------------------------------------


def test_the_run_says_where_it_and_each_cell_come_from(a: Path, b: Path, tmp_path: Path) -> None:
    merging.merge([a, b], tmp_path / "m")
    info = json.loads((tmp_path / "m/run.json").read_text())
    assert [(o["name"], o["command"]) for o in info["merged"]["origins"]] == [
        ("a", "breakeven run fixture"),
        ("b", "breakeven run fixture"),
    ]
    assert info["merged"]["origins"][1]["hardware"] == GPU
    assert info["hardware"]["cpu"] == {"a": "AMD EPYC", "b": "Xeon"}
    assert json.loads((tmp_path / "m/cells/handbook_qa--rag/cell.json").read_text())["origin"] == "b"


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    a, b = (run(tmp_path / m / "quickstart-1", s) for m, s in (("here", "zero-shot"), ("there", "lora")))
    made = merging.merge([a, b], tmp_path / "m")
    assert set(made.cells.values()) == {"quickstart-1", "quickstart-1 (2)"}


def test_rows_say_on_which_machine_they_were_measured_if_there_are_two(
    a: Path, b: Path, tmp_path: Path
) -> None:
    made = merging.merge([a, b], tmp_path / "m")
    assert "measured on NVIDIA L4 (b)" in row(tmp_path / "m", "handbook_qa", "rag").notes
    assert "measured on AMD EPYC, 2 cores (a)" in row(tmp_path / "m", "handbook_qa", "zero-shot").notes
    assert any("different machines" in note for note in made.notes)


def test_rows_of_one_machine_carry_no_remark(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b", "rag")
    made = merging.merge([a, b], tmp_path / "m")
    assert row(tmp_path / "m", "handbook_qa", "rag").notes == ()
    assert made.notes == ()


def test_costs_measured_on_another_machine_become_estimates(a: Path, b: Path, tmp_path: Path) -> None:
    for folder in (a, b):
        edit(folder / "suite.yaml", lambda s: s["economics"].update(projected=False))
    assert row(a, "handbook_qa", "zero-shot").cost_per_1000.status == "measured"
    merging.merge([a, b], tmp_path / "m")
    assert row(tmp_path / "m", "handbook_qa", "rag").cost_per_1000.status == "estimated"


def test_of_other_economics_the_first_count_and_it_is_said(a: Path, b: Path, tmp_path: Path) -> None:
    edit(b / "suite.yaml", lambda s: s["economics"].update(requests_per_month=7))
    made = merging.merge([a, b], tmp_path / "m")
    assert "economics differs in b; that of a is kept" in made.notes
    assert results.load(tmp_path / "m").suite["economics"]["requests_per_month"] == 50000


def test_other_packages_and_another_arithmetic_are_said(a: Path, b: Path, tmp_path: Path) -> None:
    def other(info: dict[str, Any]) -> None:
        info["versions"]["torch"] = "2.12.0"
        info["models"]["default"]["dtype"] = "float16"

    edit(b / "run.json", other)
    made = merging.merge([a, b], tmp_path / "m")
    assert "dtype of the model 'default': bfloat16 in a, float16 in b" in made.notes
    assert results.load(tmp_path / "m").info["versions"]["torch"] == "2.13.0 in a; 2.12.0 in b"


def test_the_joined_suite_is_a_suite(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", "zero-shot"), run(tmp_path / "b", "zero-shot", "majority")
    merging.merge([a, b], tmp_path / "m")
    assert list(suites.load(tmp_path / "m/suite.yaml").strategies) == ["zero-shot", "majority"]


def test_the_runs_stay_as_they_were(a: Path, b: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for f in (a, b) for p in f.rglob("*") if p.is_file()}
    merging.merge([a, b], tmp_path / "m")
    after = {p: p.read_bytes() for f in (a, b) for p in f.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before


# --- what does not fit together --------------------------------------------------------------


def test_other_outputs_of_a_shared_cell_are_refused_by_name(a: Path, b: Path, tmp_path: Path) -> None:
    answer_otherwise(b, "handbook_qa--zero-shot", 3)
    with pytest.raises(UserError, match="'handbook_qa--zero-shot' has other outputs in b than in a: 3 of 48"):
        merging.merge([a, b], tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("preferred", ["a", "b"])
def test_the_preferred_runs_outputs_are_taken(a: Path, b: Path, tmp_path: Path, preferred: str) -> None:
    answer_otherwise(b, "handbook_qa--zero-shot", 3)
    made = merging.merge([a, b], tmp_path / "m", prefer=str(tmp_path / preferred))
    assert made.cells["handbook_qa--zero-shot"] == preferred
    assert any(f"those of {preferred} are taken" in note for note in made.notes)
    cell = results.load(tmp_path / "m").cells["handbook_qa--zero-shot"]
    assert (cell.predictions[0].output == "something else") == (preferred == "b")


def spoil_task(folder: Path) -> None:
    edit(folder / "tasks/handbook_qa/task.json", lambda t: t.update(hash="another"))


def spoil_metric(folder: Path) -> None:
    def change(task: dict[str, Any]) -> None:
        task["metrics"].reverse()
        task["hash"] = "another"

    edit(folder / "tasks/handbook_qa/task.json", change)


def spoil_strategy(folder: Path) -> None:
    edit(folder / "suite.yaml", lambda s: s["strategies"]["zero-shot"].update(context={"k": 1}))


def spoil_model(folder: Path) -> None:
    edit(folder / "run.json", lambda i: i["models"]["default"].update(digest="other weights"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_task, "the task 'handbook_qa' is not the same in a and in b: other examples"),
        (spoil_metric, "the task 'handbook_qa' is not the same in a and in b: other metrics"),
        (spoil_strategy, "the strategy 'zero-shot' has another context in b than in a"),
        (spoil_model, "the model 'default' is not the same in a and in b"),
    ],
)
def test_what_is_not_the_same_is_refused(
    a: Path, b: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(b)
    with pytest.raises(UserError, match=words):
        merging.merge([a, b], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_strategys_own_file_may_lie_elsewhere_on_the_other_machine(tmp_path: Path) -> None:
    a, b = (run(tmp_path / name, "zero-shot") for name in "ab")
    for folder, home in ((a, "/home/me"), (b, "/srv/you")):
        edit(
            folder / "suite.yaml",
            lambda s, h=home: s["strategies"]["zero-shot"].update(strategy=f"{h}/x.py:X"),
        )
    assert merging.merge([a, b], tmp_path / "m").notes == ()


def test_a_models_folder_may_lie_elsewhere_on_the_other_machine(tmp_path: Path) -> None:
    a, b = (run(tmp_path / name, "zero-shot") for name in "ab")
    for folder, home in ((a, "/home/me"), (b, "/srv/you")):
        edit(folder / "suite.yaml", lambda s, h=home: s["models"]["default"].update(model=f"{h}/models/tiny"))
        edit(folder / "run.json", lambda i: i.update(models={}))
    assert merging.merge([a, b], tmp_path / "m").notes == ()


def test_the_same_run_twice_is_refused(a: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="each once"):
        merging.merge([a, tmp_path / "." / "a"], tmp_path / "m")


def test_a_folder_that_is_there_is_not_written_into(a: Path, b: Path, breakeven: Callable) -> None:
    said = breakeven("merge", a, b, "--out", a)
    assert (said.code, "is there already" in said.err) == (2, True)


def test_half_a_run_is_never_there(a: Path, b: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = _folders.copy, 0

    def fails(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(_folders, "copy", fails)
    with pytest.raises(UserError, match="no space left"):
        merging.merge([a, b], tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_what_a_killed_merge_left_is_no_obstacle(a: Path, b: Path, tmp_path: Path) -> None:
    (tmp_path / ".m.partial/cells").mkdir(parents=True)
    (tmp_path / ".m.partial/cells/old").write_text("old")
    merging.merge([a, b], tmp_path / "m")
    assert not (tmp_path / "m/cells/old").exists()


def test_a_merged_run_is_not_resumed(a: Path, b: Path, tmp_path: Path, breakeven: Callable) -> None:
    merging.merge([a, b], tmp_path / "m")
    said = breakeven("run", "--resume", tmp_path / "m")
    assert (said.code, "put together from others" in said.err) == (2, True)


def test_the_command_shows_the_table_and_where_the_report_is(
    a: Path, b: Path, tmp_path: Path, breakeven: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = breakeven("merge", "a", "b", "--out", "m")
    assert said.code == 0, said.err
    for words in ("few-shot-similar", "rag", "4 cells from a", "report: m/report.html", "different machines"):
        assert words in said.out
    assert Path("m/report.html").exists()
