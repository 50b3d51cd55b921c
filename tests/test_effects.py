"""Side effects of tuning in a finished run: what counts as forgotten, and what is too old to be shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_fixture import give_adapters, write_run

from breakeven.harness import cases, effects
from breakeven.harness.checklist import Item, checklist
from breakeven.harness.effects import SideEffect
from breakeven.harness.results import load

TASK = "support_intents"
OTHERS = ("recipe_ingredients", "handbook_qa")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("zero-shot", "rag", "lora", "rag+lora")
    return write_run(
        tmp_path / "r", tasks=(TASK, *OTHERS), strategies=names, failing=False, transfer=True, seeds=(0, 1)
    )


def found(folder: Path, task: str = TASK) -> dict[tuple[str, str], SideEffect]:
    return {(x.row.label, x.on): x for x in effects.of_task(load(folder), task).found}


def extensibility(folder: Path, task: str = TASK) -> Item:
    results = load(folder)
    case = cases.of_task(results, task)
    assert case is not None
    return next(i for i in checklist(results, task, case) if i.name == "extensibility")


def rewrite(file: Path, change: Callable[[Any], Any]) -> None:
    file.write_text(json.dumps(change(json.loads(file.read_text(encoding="utf-8")))), encoding="utf-8")


# --- what is said ----------------------------------------------------------------------------


def test_a_loss_beyond_the_interval_was_forgotten(folder: Path) -> None:
    x = found(folder)["lora", effects.GENERAL]
    assert (x.before, x.after, x.word) == (0.5, 0.0, "forgot")
    assert x.difference is not None
    assert x.difference.interval.high < 0


def test_a_rise_beyond_the_interval_was_gained(folder: Path) -> None:
    assert found(folder)["lora", "recipe_ingredients"].word == "gained"


def test_an_interval_that_holds_zero_shows_no_change(folder: Path) -> None:
    assert found(folder)["lora", "handbook_qa"].word == "no change shown"


def test_where_lower_is_better_a_rise_was_forgotten(folder: Path) -> None:
    rewrite(folder / effects.FILE, lambda rows: [{**r, "higher_is_better": False} for r in rows])
    assert found(folder)["lora", "recipe_ingredients"].word == "forgot"


def test_examples_of_one_document_make_a_change_less_certain(folder: Path) -> None:
    alone = found(folder)["lora", effects.GENERAL].difference
    groups = [f"d{i // 4}" for i in range(24)]
    rewrite(folder / effects.FILE, lambda rows: [{**r, "groups": groups} for r in rows])
    grouped = found(folder)["lora", effects.GENERAL].difference
    assert alone is not None
    assert grouped is not None
    assert "24 items in 6 groups" in grouped.interval.note
    assert "groups" not in alone.interval.note


def test_several_adapters_of_a_strategy_are_averaged(folder: Path) -> None:
    def second(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        first = next(r for r in rows if (r["own"], r["strategy"], r["on"]) == (TASK, "lora", effects.GENERAL))
        other = {**first, "seed": 1, "adapter": first["adapter"].replace("s0", "s1")}
        return [*rows, {**other, "after": first["before"]}]

    assert "excludes seed variance" in interval_note(found(folder)["lora", effects.GENERAL])
    rewrite(folder / effects.FILE, second)
    x = found(folder)["lora", effects.GENERAL]
    assert (x.adapters, x.before, x.after) == (2, 0.5, 0.25)
    assert "excludes seed variance" not in interval_note(x)


def interval_note(x: SideEffect) -> str:
    assert x.difference is not None
    return x.difference.interval.note


# --- what is out of date ---------------------------------------------------------------------


def test_an_adapter_that_was_trained_again_is_not_shown_with_old_scores(folder: Path) -> None:
    def retrained(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**r, "artifact": "adapter-new"} if r.get("artifact") else r for r in rows]

    for file in folder.glob(f"cells/{TASK}--lora--*/ledger.json"):
        rewrite(file, retrained)
    known = effects.of_task(load(folder), TASK)
    assert (known.found, known.unasked, known.stale) == ((), ("lora",), True)
    item = extensibility(folder)
    assert not item.found
    assert "transfer.json is of other adapters or other data than this run has now" in item.said
    assert effects.of_task(load(folder), "handbook_qa").found  # its adapters are as they were


def test_scores_on_a_task_whose_data_changed_are_not_shown(folder: Path) -> None:
    rewrite(folder / "tasks/recipe_ingredients/task.json", lambda d: {**d, "hash": "corrected"})
    known = effects.of_task(load(folder), TASK)
    assert [x.on for x in known.found] == ["handbook_qa", effects.GENERAL]
    assert known.stale


def test_a_file_of_another_version_is_out_of_date_and_no_error(folder: Path) -> None:
    def older(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in r.items() if k not in ("adapter", "train_size")} for r in rows]

    rewrite(folder / effects.FILE, older)
    assert effects.of_task(load(folder), TASK).stale
    assert not extensibility(folder).found


def test_a_strategy_of_another_size_is_not_taken_for_this_one(folder: Path) -> None:
    rewrite(folder / effects.FILE, lambda rows: [{**r, "train_size": 20} for r in rows])
    assert effects.of_task(load(folder), TASK).found == ()


# --- the checklist ---------------------------------------------------------------------------


def test_the_checklist_says_what_was_forgotten_and_gained(folder: Path) -> None:
    item = extensibility(folder)
    assert item.found
    assert item.said.startswith("forgot: lora on general questions −0.500 accuracy (−")
    assert "; gained: lora on recipe_ingredients +0.500 set_f1 (+" in item.said
    assert "; no change shown: lora on handbook_qa 0.000 token_f1 (" in item.said


def test_without_measurements_the_checklist_says_how_to_make_them(folder: Path) -> None:
    (folder / effects.FILE).unlink()
    item = extensibility(folder)
    assert not item.found
    assert item.said.startswith("not measured: ")
    assert f"`breakeven transfer {folder.parent.name}/r`" in item.said


def test_a_strategy_added_later_is_said_not_to_be_asked(folder: Path) -> None:
    rewrite(folder / effects.FILE, lambda rows: [r for r in rows if r["strategy"] == "rag+lora"])
    assert effects.of_task(load(folder), "handbook_qa").unasked == ("lora",)
    assert "; not asked: lora, `breakeven transfer" in extensibility(folder, "handbook_qa").said


def test_without_an_adapter_there_is_nothing_to_ask(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "a", tasks=[TASK], strategies=("zero-shot", "rag"), failing=False)
    assert extensibility(plain).said == "not measured: no strategy of the suite tunes a model"
    elsewhere = write_run(tmp_path / "b", tasks=[TASK], strategies=("zero-shot", "lora"), failing=False)
    assert extensibility(elsewhere).said == "not measured: the run keeps no adapter that could be asked"
    give_adapters(elsewhere)
    assert "breakeven transfer" in extensibility(elsewhere).said
