"""The checklist of fine-tuning, and what labels tell: measured where it was, said to be missing elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run

from breakeven.harness import cases, labels
from breakeven.harness.checklist import Item, checklist
from breakeven.harness.results import CellResult, Results, Row, StoredPrediction, load

TASK = "support_intents"


def listed(results: Results, task: str = TASK) -> dict[str, Item]:
    case = cases.of_task(results, task)
    assert case is not None
    return {item.name: item for item in checklist(results, task, case)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_run(tmp_path_factory.mktemp("run"), failing=False))


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("untuned")
    return load(write_run(folder, tasks=[TASK], strategies=("majority", "zero-shot"), failing=False))


# --- the list --------------------------------------------------------------------------------


def test_every_point_of_the_lesson_is_there(results: Results) -> None:
    assert list(listed(results)) == [
        "what it is for",
        "tried without tuning",
        "tunability",
        "effort",
        "compute",
        "data: amount",
        "data: contradictions",
        "data: label errors",
        "quality",
        "token cost",
        "extensibility",
        "model",
        "data set",
        "training environment",
        "hosting environment",
    ]


def test_tunability_names_licence_size_and_memory(results: Results) -> None:
    said = listed(results)["tunability"].said
    assert "licence Apache-2.0, 135 M parameters" in said
    assert "trained here in 2.1 GB of memory at most" in said


def test_effort_says_which_hours_are_assumed(results: Results) -> None:
    assert "setting up $480 up front (assumed)" in listed(results)["effort"].said


def test_the_benefit_is_the_difference_to_the_best_without_tuning(results: Results) -> None:
    item = listed(results, "handbook_qa")["quality"]
    rows = {r.label: r for r in results.tables["handbook_qa"]}
    gap = (rows["rag+lora"].quality or 0.0) - (rows["rag"].quality or 0.0)
    assert item.said.startswith(f"rag+lora minus rag: {gap:+.3f} token_f1 (")


def test_tokens_no_longer_needed_are_counted(results: Results) -> None:
    rows = {r.label: r for r in results.tables[TASK]}
    fewer = (rows["few-shot-similar"].input_tokens or 0.0) - (rows["lora"].input_tokens or 0.0)
    assert f"{fewer:,.0f} fewer" in listed(results)["token cost"].said


def test_what_was_not_measured_is_said_plainly(results: Results) -> None:
    item = listed(results)["extensibility"]
    assert not item.found
    assert item.said.startswith("not measured: ")


def test_without_tuning_its_points_are_not_measured(untuned: Results) -> None:
    found = listed(untuned)
    for name in ("tunability", "effort", "compute", "quality", "token cost", "model", "training environment"):
        assert not found[name].found, name


def test_a_use_case_that_nobody_stated_is_missing(untuned: Results) -> None:
    assert listed(untuned)["what it is for"].said == "not stated: economics.use_case"


def test_the_hosting_environment_has_its_price(results: Results) -> None:
    assert listed(results)["hosting environment"].said.startswith("cpu-2, $0.10 an hour")


def test_equal_inputs_with_different_references_are_contradictions(tmp_path: Path) -> None:
    run = write_run(tmp_path, tasks=[TASK], strategies=("zero-shot",), examples=20)
    file = run / "tasks" / TASK / "test.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows[1]["input"] = rows[0]["input"]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    said = listed(load(run))["data: contradictions"].said
    assert said.startswith("2 test examples with the input of another and a different reference")


# --- labels ----------------------------------------------------------------------------------


def answering(row: Row, outputs: list[str], right: list[bool]) -> Row:
    """The row with other answers to the test examples."""

    def other(p: StoredPrediction, output: str, good: bool) -> StoredPrediction:
        return replace(p, output=output, score={**p.score, "accuracy": float(good)})

    def cell(c: CellResult) -> CellResult:
        made = [other(p, o, g) for p, o, g in zip(c.predictions, outputs, right, strict=True)]
        return replace(c, predictions=tuple(made))

    return replace(row, cells=tuple(cell(c) for c in row.cells))


def three(folder: Path, **options: Any) -> tuple[Results, list[Row]]:
    names = ("majority", "zero-shot", "few-shot-similar")
    found = load(write_run(folder, tasks=[TASK], strategies=names, examples=4, failing=False, **options))
    return found, list(found.tables[TASK])


def test_an_example_is_contradicted_when_no_strategy_agrees_with_the_reference(tmp_path: Path) -> None:
    results, rows = three(tmp_path)
    task = results.tasks[TASK]
    made = [
        answering(rows[0], ["a", "x", "y", "b"], [True, False, False, False]),
        answering(rows[1], ["a", "x", "z", "c"], [True, False, False, False]),
        answering(rows[2], ["b", "X ", "u", "d"], [False, False, False, True]),
    ]
    found = labels.contradicted(made, task)
    assert found.all == (1, 2)
    assert found.agreed == (1,)  # where most give one and the same other answer


def test_with_one_strategy_nothing_counts_as_contradicted(tmp_path: Path) -> None:
    results, rows = three(tmp_path)
    wrong = answering(rows[0], ["x"] * 4, [False] * 4)
    assert labels.contradicted([wrong], results.tasks[TASK]).all == ()


def test_labels_are_listed_from_the_worst_with_their_numbers(results: Results) -> None:
    task = results.tasks[TASK]
    row = results.tables[TASK][0]
    found = labels.by_label(row, task)
    assert sum(x.examples for x in found) == len(task.test)
    assert [x.right for x in found] == sorted(x.right for x in found)


def test_the_worst_label_needs_enough_examples(tmp_path: Path) -> None:
    results, rows = three(tmp_path)
    assert labels.worst(rows[0], results.tasks[TASK]) is None


def test_free_text_has_no_labels(results: Results) -> None:
    assert labels.by_label(results.tables["handbook_qa"][0], results.tasks["handbook_qa"]) == ()
