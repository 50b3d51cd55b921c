"""How well passages were found, and what the answers made of it, from stored predictions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_fixture import write_run
from sklearn.metrics import ndcg_score

from breakeven.harness import cases
from breakeven.harness.contracts import Document, Example
from breakeven.harness.families import is_ceiling
from breakeven.harness.pairs import lever_pairs
from breakeven.harness.plan import says_which_document, untold
from breakeven.harness.results import Results, Row, load
from breakeven.harness.retrieved import (
    DEPTH,
    MEASURES,
    Stage,
    bounds_of,
    difference,
    rank_of,
    retrieval_of,
    stages_of,
)
from breakeven.harness.taskfile import make_task
from breakeven.reports import _retrieval
from breakeven.reports._rows import best
from breakeven.reports.html import html
from breakeven.reports.md import md

RANKS = st.lists(st.none() | st.integers(1, DEPTH), min_size=2, max_size=30).map(tuple)


# --- measures --------------------------------------------------------------------------------


def test_a_rank_is_the_place_of_the_first_passage_of_the_document() -> None:
    assert [rank_of("b", x) for x in (["a", "b", "b"], ["b"], ["a"], [])] == [2, 1, None, None]


def test_what_stands_beyond_the_depth_is_not_found() -> None:
    assert rank_of("b", ["a"] * DEPTH + ["b"]) is None


def test_measures_of_known_ranks() -> None:
    stage = Stage("dense", (1, 2, 4, None))
    means = {m: sum(stage.scores(m)) / 4 for m in MEASURES}
    assert means["recall@1"] == 0.25
    assert means["recall@3"] == 0.5
    assert means["recall@10"] == 0.75
    assert means["MRR@10"] == (1 + 1 / 2 + 1 / 4) / 4
    assert means["nDCG@10"] == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5)) / 4)


@given(RANKS)
def test_ndcg_is_that_of_scikit_learn(ranks: tuple[int | None, ...]) -> None:
    right = np.array([[float(r == place) for place in range(1, DEPTH + 2)] for r in ranks])
    right[[r is None for r in ranks], DEPTH] = 1.0  # it stands beyond the depth
    order = np.tile(np.arange(DEPTH + 1, 0, -1.0), (len(ranks), 1))
    ours = Stage("x", ranks).scores("nDCG@10")
    assert sum(ours) / len(ours) == pytest.approx(ndcg_score(right, order, k=DEPTH))


@given(RANKS)
def test_recall_grows_with_the_number_of_passages(ranks: tuple[int | None, ...]) -> None:
    found = [Stage("x", ranks).measured(m) for m in MEASURES if m.startswith("recall")]
    assert [x.value for x in found] == sorted(x.value for x in found)
    assert all(x.interval.low <= x.value <= x.interval.high for x in found)


def test_questions_about_one_document_count_as_dependent() -> None:
    stage = Stage("x", (1, 1, 1, None, None, None) * 5)
    groups = [f"d{i // 3}" for i in range(30)]
    alone, together = stage.measured("recall@1"), stage.measured("recall@1", groups)
    assert together.value == alone.value
    assert together.interval.high - together.interval.low > alone.interval.high - alone.interval.low


def test_a_stage_is_compared_on_the_same_questions() -> None:
    d = difference(Stage("a", (1, 1, 2, None)), Stage("b", (1, 2, 2, 1)), "recall@1")
    assert (d.value, d.won, d.lost) == (0.0, 1, 1)


def test_an_unknown_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of recall@1"):
        Stage("a", (1,)).scores("MAP@10")


def test_stages_keep_their_order_and_a_stage_that_is_missing_found_nothing() -> None:
    found = stages_of([{"dense": ["a"], "fused": ["b"]}, {"dense": ["b"]}], ["a", "b"])
    assert found == (Stage("dense", (1, 1)), Stage("fused", (None, None)))


# --- which document answers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "says"),
    [(["a", "b"], True), (["a", None], True), (["a", "author"], False), ([None, None], False)],
)
def test_a_task_says_which_document_answers_where_its_groups_are_documents(
    groups: Sequence[str | None], says: bool
) -> None:
    examples = [Example(f"e{i}", {"text": f"question {i}"}, ("yes",), g) for i, g in enumerate(groups)]
    task = make_task(
        "t", data={"test": [{"text": "x", "answer": "y", "id": "e"}]}, instructions="Answer.",
        input_template="{{ text }}", columns={"input": "text", "reference": "answer", "id": "id"},
        documents=[Document("a", "one"), Document("b", "two")], metrics=["exact_match"],
        sizes={"train": 0, "validation": 0},
    )  # fmt: skip
    task = dataclasses.replace(task, test=tuple(examples))
    assert says_which_document(task) is says
    assert untold(task) == sum(group not in ("a", "b") for group in groups)


# --- of a run --------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run on questions whose page is known; every fourth prediction shows it, half of them
    at the first place; every fifth had a passage left out.
    """
    names = ("zero-shot", "rag", "lora")
    folder = write_run(tmp_path / "run", tasks=("handbook_qa",), strategies=names, failing=False)
    task = folder / "tasks" / "handbook_qa"
    rows = [json.loads(line) for line in (task / "test.jsonl").read_text().splitlines()]
    pages = [row["meta"]["page"] for row in rows]
    _write(task / "test.jsonl", [{**r, "group": p} for r, p in zip(rows, pages, strict=True)])
    head = json.loads((task / "task.json").read_text())
    (task / "task.json").write_text(json.dumps({**head, "group_is_document": True}))
    cell = next((folder / "cells").glob("handbook_qa--rag*"))
    predictions = [json.loads(line) for line in (cell / "predictions.jsonl").read_text().splitlines()]
    for i, (p, page) in enumerate(zip(predictions, pages, strict=True)):
        place = {0: 0, 4: 1}.get(i % 8)
        retrieved = ["elsewhere", "elsewhere", "elsewhere"]
        if place is not None:
            retrieved[place] = page
        p["meta"] = {"passages": retrieved[:2], "retrieved": {"dense": retrieved}}
        if i % 5 == 0:
            p["meta"]["left_out"] = 1
    _write(cell / "predictions.jsonl", predictions)
    return folder


def _write(path: Path, rows: Sequence[Any]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def row(results: Results, name: str) -> Row:
    return next(r for r in results.tables["handbook_qa"] if r.strategy == name)


def test_stages_are_read_off_the_predictions(run: Path) -> None:
    results = load(run)
    (stage,) = retrieval_of(row(results, "rag"), results.tasks["handbook_qa"]).stages
    assert stage.name == "dense"
    assert stage.ranks[:8] == (1, None, None, None, 2, None, None, None)


def test_the_four_cells_hold_every_answer_once(run: Path) -> None:
    results = load(run)
    task, rag = results.tasks["handbook_qa"], row(results, "rag")
    cells = retrieval_of(rag, task).cells
    assert cells is not None
    scores = [p.score[task.primary.name] for p in rag.cells[0].predictions]
    shown = [i % 4 == 0 for i in range(len(scores))]
    assert cells.answers == len(scores)
    assert cells.shown_right == sum(s and v >= 1 for s, v in zip(shown, scores, strict=True))
    assert cells.shown_right + cells.shown_wrong == sum(shown)
    assert cells.missed_right == sum(not s and v >= 1 for s, v in zip(shown, scores, strict=True))


def test_answers_that_had_passages_left_out_are_counted(run: Path) -> None:
    results = load(run)
    found = retrieval_of(row(results, "rag"), results.tasks["handbook_qa"])
    assert (found.overflowed, found.answers) == (10, 48)


def test_where_nobody_says_which_document_answers_there_are_no_cells(run: Path) -> None:
    results = load(run)
    task = dataclasses.replace(results.tasks["handbook_qa"], group_is_document=False)
    found = retrieval_of(row(results, "rag"), task)
    assert (found.stages, found.cells, found.overflowed) == ((), None, 10)


def test_runs_of_before_are_read_by_what_they_show(run: Path) -> None:
    file = run / "tasks" / "handbook_qa" / "task.json"
    head = json.loads(file.read_text())
    del head["group_is_document"]
    file.write_text(json.dumps(head))
    assert load(run).tasks["handbook_qa"].group_is_document


def told(rag: Row) -> Row:
    """The same strategy as a ceiling, better than everything."""
    cell = rag.cells[0]
    settings = {**cell.settings, "context": {**cell.settings["context"], "retriever": "oracle"}}  # type: ignore[dict-item]
    return dataclasses.replace(
        rag,
        label="oracle",
        strategy="oracle",
        quality=1.0,
        cells=(dataclasses.replace(cell, settings=settings, strategy="oracle"),),
    )


def test_a_strategy_stands_between_its_floor_and_its_ceiling(run: Path) -> None:
    rows = load(run).tables["handbook_qa"]
    oracle = told(next(r for r in rows if r.strategy == "rag"))
    bounds = bounds_of(next(r for r in rows if r.strategy == "rag"), [*rows, oracle])
    assert (bounds.floor and bounds.floor.strategy, bounds.ceiling) == ("zero-shot", oracle)


def test_a_ceiling_is_named_by_no_verdict_and_is_nobodys_best(run: Path) -> None:
    results = load(run)
    rows = results.tables["handbook_qa"]
    oracle = told(next(r for r in rows if r.strategy == "rag"))
    assert is_ceiling(oracle)
    assert oracle not in cases.contenders((*rows, oracle))
    winner = best([*rows, oracle], results.tasks["handbook_qa"].primary)
    assert winner is not None
    assert winner.strategy != "oracle"
    assert all(p.with_it.strategy != "oracle" for p in lever_pairs(results, "handbook_qa"))


def test_reports_show_the_cells_the_stages_and_what_did_not_fit(run: Path) -> None:
    results = load(run)
    found = _retrieval.view(results.tables["handbook_qa"], results.tasks["handbook_qa"])
    assert found is not None
    assert [x.stage for x in found.stages] == ["dense"]
    (stage,) = retrieval_of(row(results, "rag"), results.tasks["handbook_qa"]).stages
    recall = f"{stage.measured('recall@1').value:.3f}"
    page, text = html(results), md(results)
    for said in (recall, found.cells[0].counts[0][0], "10 of 48"):
        assert said in page
    assert f"| rag | dense | {recall} (" in text
    assert "10 of 48 answers had passages left out" in text
