"""The reports for other programs and for pasting: CSV, JSON, Markdown."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from run_fixture import write_run
from run_fixture_data import HOSTILE

from breakeven.harness import registry, wording
from breakeven.harness.results import Results, load
from breakeven.reports.csv import csv
from breakeven.reports.json import json as as_json
from breakeven.reports.md import md


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_run(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_run(tmp_path_factory.mktemp("hostile"), hostile=True))


def test_all_four_reports_are_found_by_name() -> None:
    assert {"html", "md", "csv", "json"} <= set(registry.providers("reporters"))


# --- CSV -------------------------------------------------------------------------------------


def test_csv_has_a_line_for_each_line_of_the_tables(results: Results) -> None:
    table = pd.read_csv(io.StringIO(csv(results)))
    assert list(zip(table["task"], table["strategy"], strict=True)) == [
        (task, row.label) for task, rows in results.tables.items() for row in rows
    ]


def test_csv_numbers_are_unrounded(results: Results) -> None:
    table = pd.read_csv(io.StringIO(csv(results))).set_index(["task", "strategy"])
    row = next(r for r in results.tables["handbook_qa"] if r.strategy == "rag")
    assert row.quality == pytest.approx(table.loc[("handbook_qa", "rag"), "quality"], abs=1e-15)


def test_csv_keeps_a_failed_strategy_with_its_reason_and_without_numbers(results: Results) -> None:
    table = pd.read_csv(io.StringIO(csv(results))).set_index(["task", "strategy"])
    failed = table.loc[("recipe_ingredients", "lora")]
    assert (failed["state"], math.isnan(failed["quality"])) == ("failed", True)
    assert "did not fit" in str(failed["reason"])


def test_csv_of_hostile_data_is_still_one_record_a_line_of_the_table(hostile: Results) -> None:
    table = pd.read_csv(io.StringIO(csv(hostile)))
    assert len(table) == sum(len(rows) for rows in hostile.tables.values())


# --- JSON ------------------------------------------------------------------------------------


def test_json_rows_are_those_of_the_csv(results: Results) -> None:
    rows = json.loads(as_json(results))["tasks"]["handbook_qa"]["rows"]
    columns = csv(results).splitlines()[0].split(",")
    assert [list(row) for row in rows] == [columns] * len(rows)


def test_json_says_what_came_out_in_words(results: Results) -> None:
    task = json.loads(as_json(results))["tasks"]["handbook_qa"]
    verdict = task["verdict"]
    assert verdict["question"] == "Should we fine-tune handbook_qa?"
    assert verdict["text"].startswith(verdict["answer"])
    assert f"{verdict['choice']}, with token_f1 0." in verdict["text"]


def test_json_has_the_numbers_of_the_decision(results: Results) -> None:
    verdict = json.loads(as_json(results))["tasks"]["handbook_qa"]["verdict"]
    assert set(verdict["best"]) == set(verdict["strategies"])
    assert sum(verdict["best"].values()) == pytest.approx(1.0)
    lines = verdict["strategies"]["rag"]["lines"]
    assert {"what", "when", "scales_with", "value", "known", "source"} == set(lines[0])


def test_json_is_as_sure_of_one_strategy_alone_as_the_page_is(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["support_intents"], strategies=("lora",), failing=False)
    verdict = json.loads(as_json(load(tmp_path)))["tasks"]["support_intents"]["verdict"]
    assert verdict["confidence"] is None
    assert verdict["choice"] == "lora"


def test_json_has_every_output_word_for_word(hostile: Results) -> None:
    task = json.loads(as_json(hostile))["tasks"]["support_intents"]
    assert task["examples"][2]["input"]["text"] == HOSTILE[2]


def test_json_books_unknown_amounts_as_null(results: Results) -> None:
    cells = json.loads(as_json(results))["tasks"]["handbook_qa"]["cells"]
    joules = next(c["ledger"]["serve"]["joules"] for c in cells if c["strategy"] == "zero-shot")
    assert joules == {"value": None, "status": "unknown"}


def test_json_without_examples_has_no_text_of_the_test_data(results: Results) -> None:
    assert "hearing loop" not in as_json(results, examples=False)


def test_json_of_broken_text_can_be_written_as_utf8(hostile: Results) -> None:
    as_json(hostile).encode("utf-8")


# --- Markdown --------------------------------------------------------------------------------


def test_markdown_has_a_table_of_equal_width_for_each_task(results: Results) -> None:
    tables = [block for block in md(results).split("\n\n") if block.startswith("|")]
    assert len(tables) == len(results.tasks)
    assert {line.count("|") for table in tables for line in table.splitlines()} == {12}


def test_markdown_shows_quality_with_its_interval(results: Results) -> None:
    row = next(r for r in results.tables["handbook_qa"] if r.strategy == "rag")
    assert row.interval is not None
    assert f"| rag | {row.quality:.3f} | {row.interval.low:.3f}–{row.interval.high:.3f} |" in md(results)


def test_markdown_begins_each_task_with_the_verdict(results: Results) -> None:
    for name in results.tasks:
        told = wording.of_task(results, name)
        assert f"**{told.question} {told.answer}" in md(results)


def test_markdown_says_what_would_overturn_it(results: Results) -> None:
    assert md(results).count("- *Flips:* ") >= len(results.tasks)


def test_markdown_says_what_failed_and_why(results: Results) -> None:
    assert "- lora: failed: the adapter did not fit: 9.1 GB needed" in md(results)


def test_markdown_of_hostile_text_holds_no_markup(hostile: Results) -> None:
    assert "\\<script\\>window.hacked" in md(hostile)
    assert "<script" not in md(hostile).replace("\\<script", "")
