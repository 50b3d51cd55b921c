"""Ways to retrieve through a whole run, on a random model: what is stored, shown and decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_suite import TASK, letters, tiny_model, write_suite

from breakeven.harness import cases
from breakeven.harness import run as runs
from breakeven.harness import suite as suites
from breakeven.harness.progress import PlainDisplay
from breakeven.harness.results import Results, load
from breakeven.harness.retrieved import bounds_of, retrieval_of
from breakeven.reports.md import md

PAGES = {"a": "It was wet on the moor.", "b": "It was dry by the sea.", "c": "It was grey at noon."}
STRATEGIES = {
    "zero-shot": {},
    "dense": {"strategy": "levers", "context": {"k": 1}},
    "hybrid": {"strategy": "levers", "context": {"k": 1, "retriever": "hybrid", "mmr": 0.8}},
    "oracle": {"strategy": "levers", "context": {"k": 1, "retriever": "oracle"}},
    "crowded": {"strategy": "levers", "context": {"k": 3, "chunk_tokens": 2000}},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return ran(tmp_path_factory.mktemp("retrieval"), STRATEGIES)


def ran(folder: Path, strategies: dict[str, Any], reference: str = "dense", told: bool = True) -> Results:
    """A run of these strategies; not `told`, two of the questions do not say which page answers."""
    file = write_suite(folder, tiny_model(folder / "model"), strategies=strategies, reference=reference)
    task = TASK.replace("reference: sky}", "reference: sky, group: page}")
    task = task.replace("data: rows.jsonl", "data: {test: rows.jsonl}")
    task = task.replace("train: 10, validation: 3, test: 6", "train: 0, validation: 0")
    (folder / "weather.yaml").write_text(task)
    sky = {"a": "wet", "b": "dry", "c": "grey"}
    rows = [
        {"text": f"{where} {page}", "sky": sky[page], "page": page}
        for page in PAGES
        for where in ("On Monday", "In Leeds", "In May", "As ever", "Up there")
    ]
    if not told:
        rows[3]["page"], rows[8]["page"] = None, "nowhere"
    texts = {**PAGES, "a": PAGES["a"] + " Rain." * 400}  # more than the model's context
    pages = [{"id": page, "title": "", "text": text} for page, text in texts.items()]
    for name, made in (("rows", rows), ("pages", pages)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in made))
    with pytest.MonkeyPatch.context() as patched:
        letters(patched)
        runs.start(suites.load(file), folder / "run", options(), PlainDisplay(_silent()))
    return load(folder / "run")


def test_the_ceiling_does_not_apply_where_a_question_does_not_say_which_document_answers(
    tmp_path: Path,
) -> None:
    (found,) = ran(tmp_path, {"oracle": STRATEGIES["oracle"]}, "oracle", told=False).cells.values()
    assert found.state == "not-applicable"
    assert "2 of 15 test examples do not say which document answers" in found.reason


def options() -> Any:
    return runs.Options()


def _silent() -> Any:
    import io

    from rich.console import Console

    return Console(file=io.StringIO())


def cell(results: Results, strategy: str) -> Any:
    (found,) = [c for c in results.cells.values() if c.strategy == strategy]
    assert found.state == "done", found.reason
    return found


def test_only_the_ceiling_is_told_which_document_answers(results: Results) -> None:
    groups = [e.group for e in results.tasks["weather"].test]
    assert [p.meta["passages"] for p in cell(results, "oracle").predictions] == [[g] for g in groups]
    assert [p.meta["passages"] for p in cell(results, "dense").predictions] != [[g] for g in groups]


def test_every_stage_is_stored_with_the_predictions(results: Results) -> None:
    stages = [list(p.meta["retrieved"]) for p in cell(results, "hybrid").predictions]
    assert stages == [["dense", "lexical", "fused", "diverse"]] * len(stages)


def test_the_run_knows_floor_and_ceiling_and_decides_without_the_ceiling(results: Results) -> None:
    rows = results.tables["weather"]
    dense = next(r for r in rows if r.strategy == "dense")
    bounds = bounds_of(dense, rows)
    assert bounds.floor is not None
    assert bounds.ceiling is not None
    assert (bounds.floor.strategy, bounds.ceiling.strategy) == ("zero-shot", "oracle")
    assert "oracle" not in {r.strategy for r in cases.contenders(rows)}


def test_prompts_without_room_for_all_passages_are_counted(results: Results) -> None:
    task = results.tasks["weather"]
    found = {
        r.strategy: retrieval_of(r, task)
        for r in results.tables["weather"]
        if r.strategy in ("dense", "crowded")
    }
    assert found["crowded"].overflowed == found["crowded"].answers == len(task.test)


def test_the_report_shows_the_four_cells_and_every_stage(results: Results) -> None:
    text = md(results)
    assert "| shown, right | shown, wrong | not shown, right | not shown, wrong | floor |" in text
    assert "| hybrid | diverse |" in text
    assert "a ceiling: it is told which document answers" in text
