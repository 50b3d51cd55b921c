"""The reports for build servers and data frames: JUnit XML and Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as xml

import pandas as pd
import pytest
import yaml
from run_fixture import write_run

from breakeven.harness import registry
from breakeven.harness.results import Results, load
from breakeven.reports.csv import csv
from breakeven.reports.junit import junit
from breakeven.reports.parquet import parquet


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_run(tmp_path_factory.mktemp("run")))


def cases(results: Results) -> dict[tuple[str, str], xml.Element]:
    root = xml.fromstring(junit(results))
    return {(s.attrib["name"], c.attrib["name"]): c for s in root for c in s}


def with_floor(folder: Path, floor: float) -> Results:
    path = folder / "suite.yaml"
    suite = yaml.safe_load(path.read_text())
    suite["economics"]["quality_floor"] = floor
    path.write_text(yaml.safe_dump(suite))
    return load(folder)


def test_both_reports_are_found_by_name() -> None:
    assert {"junit", "parquet"} <= set(registry.providers("reporters"))


# --- JUnit -----------------------------------------------------------------------------------


def test_each_line_of_the_tables_is_a_test_case(results: Results) -> None:
    assert list(cases(results)) == [(task, r.label) for task, rows in results.tables.items() for r in rows]


def test_a_strategy_with_a_failed_cell_fails_with_its_reason(results: Results) -> None:
    (failure,) = cases(results)["recipe_ingredients", "lora"].findall("failure")
    assert failure.attrib["type"] == "cell"
    assert "failed: the adapter did not fit: 9.1 GB needed" in failure.attrib["message"]


def test_one_failed_seed_of_several_fails_too(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "r", tasks=["support_intents"], strategies=["lora"], seeds=(0, 1), failing=False
    )
    (folder / "cells/support_intents--lora--s1/status.json").write_text(
        '{"state": "stopped", "reason": "limit"}'
    )
    (failure,) = cases(load(folder))["support_intents", "lora"].findall("failure")
    assert failure.attrib["message"] == "support_intents--lora--s1 stopped: limit"


def test_what_does_not_apply_is_skipped(results: Results) -> None:
    case = cases(results)["support_intents", "rag"]
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "not-applicable: the task has no documents"
    assert case.find("failure") is None


def test_without_a_floor_no_quality_fails(results: Results) -> None:
    assert not [
        c for c in cases(results).values() for f in c.findall("failure") if f.attrib["type"] == "quality"
    ]


def test_quality_below_the_floor_fails_and_at_the_floor_does_not(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", tasks=["support_intents"], failing=False)
    qualities = {r.label: r.quality for r in load(folder).tables["support_intents"] if r.quality is not None}
    floor = sorted(qualities.values())[2]
    found = cases(with_floor(folder, floor))
    failing = {name for (_, name), case in found.items() if case.find("failure[@type='quality']") is not None}
    assert failing == {name for name, quality in qualities.items() if quality < floor}
    assert 0 < len(failing) < len(qualities)


def test_of_a_metric_where_less_is_better_the_floor_is_a_ceiling(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", tasks=["support_intents"], strategies=["majority", "zero-shot"])
    path = folder / "tasks/support_intents/task.json"
    path.write_text(path.read_text().replace('"higher_is_better": true', '"higher_is_better": false'))
    qualities = {r.label: r.quality for r in load(folder).tables["support_intents"]}
    worst = max(qualities, key=lambda k: qualities[k] or 0)
    found = cases(with_floor(folder, min(q for q in qualities.values() if q is not None)))
    failing = [name for (_, name), case in found.items() if case.find("failure") is not None]
    assert failing == [worst]


def test_the_totals_are_those_of_the_cases(results: Results) -> None:
    root, found = xml.fromstring(junit(results)), cases(results)
    for attribute, kind in (("failures", "failure"), ("skipped", "skipped")):
        wanted = sum(c.find(kind) is not None for c in found.values())
        assert wanted > 0
        assert int(root.attrib[attribute]) == wanted == sum(int(s.attrib[attribute]) for s in root)
    assert int(root.attrib["tests"]) == len(found)


def test_a_case_carries_its_numbers_unrounded(results: Results) -> None:
    row = next(r for r in results.tables["handbook_qa"] if r.label == "rag")
    properties = {
        p.attrib["name"]: p.attrib["value"] for p in cases(results)["handbook_qa", "rag"].iter("property")
    }
    assert float(properties["quality"]) == row.quality
    assert float(properties["cost_per_1000_requests"]) == row.cost_per_1000.value
    assert properties["metric"] == "token_f1"


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", hostile=True)
    info = json.loads((folder / "run.json").read_text())
    info["name"] = "<x> & \x00\x1b \ud800 \uffff ]]>"
    (folder / "run.json").write_text(json.dumps(info))
    text = junit(load(folder))
    root = xml.fromstring(text.encode("utf-8"))
    assert root.attrib["name"].startswith("<x> & ")
    assert "<script" not in text


def test_the_command_writes_it_where_a_build_server_looks(tmp_path: Path, breakeven: Callable) -> None:
    folder = write_run(tmp_path / "r", tasks=["support_intents"], strategies=["zero-shot"])
    assert breakeven("report", folder, "--format", "junit", "-o", tmp_path / "junit.xml").code == 0
    assert xml.parse(tmp_path / "junit.xml").getroot().tag == "testsuites"


# --- Parquet ---------------------------------------------------------------------------------


def test_parquet_has_the_lines_and_columns_of_the_csv(results: Results) -> None:
    table, other = pd.read_parquet(io.BytesIO(parquet(results))), pd.read_csv(io.StringIO(csv(results)))
    assert list(table.columns) == list(other.columns)
    for column in ("task", "strategy", "state"):
        assert table[column].tolist() == other[column].tolist()
    pd.testing.assert_series_equal(table["quality"], other["quality"])


def test_parquet_keeps_types_and_what_is_unknown(results: Results) -> None:
    table = pd.read_parquet(io.BytesIO(parquet(results))).set_index(["task", "strategy"])
    failed = table.loc[("recipe_ingredients", "lora")]
    assert failed[["quality", "won", "cost_per_1000_requests"]].isna().all()
    assert table["won"].dtype == "Int64"
    assert table["is_best"].dropna().map(type).eq(bool).all()


def test_columns_have_the_same_types_when_nothing_in_them_is_known(tmp_path: Path, results: Results) -> None:
    """Else files of two runs could not be read together."""
    folder = write_run(tmp_path / "r", tasks=["support_intents"], strategies=["rag"], reference="rag")
    types = [
        pd.read_parquet(io.BytesIO(parquet(r))).dtypes.astype(str).to_dict() for r in (results, load(folder))
    ]
    assert types[0] == types[1]


def test_parquet_of_hostile_data_can_be_read(tmp_path: Path) -> None:
    run = load(write_run(tmp_path / "r", hostile=True))
    table = pd.read_parquet(io.BytesIO(parquet(run)))
    assert len(table) == sum(len(rows) for rows in run.tables.values())


def test_the_command_writes_parquet_into_the_run(tmp_path: Path, breakeven: Callable) -> None:
    folder = write_run(tmp_path / "r", tasks=["support_intents"], strategies=["zero-shot"])
    assert breakeven("report", folder, "--format", "parquet").code == 0
    assert pd.read_parquet(folder / "report.parquet")["strategy"].tolist() == ["zero-shot"]
