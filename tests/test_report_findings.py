"""What a report says came out: honest about what is undecided, what lost, and what was not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run

from breakeven.harness.results import Results, load
from breakeven.reports._findings import Answer, answer
from breakeven.reports._rows import lever_pairs

TASK = "support_intents"


def answered(folder: Path, shares: dict[str, float], **options: Any) -> Answer:
    """The answer of a run in which the strategies are right on these shares of the examples."""
    quality = {name: {TASK: share} for name, share in shares.items()}
    settings = {"examples": 100, "failing": False} | options
    write_run(folder, tasks=[TASK], strategies=tuple(shares), quality=quality, **settings)
    return answer_of(load(folder))


def answer_of(results: Results) -> Answer:
    return answer(results, TASK, lever_pairs(results, TASK))


def facts(found: Answer, kind: str) -> list[str]:
    return [fact.text for fact in found.facts if fact.kind == kind]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


# --- the answer ------------------------------------------------------------------------------


def test_the_answer_names_the_best_strategy_and_how_far_it_is_from_the_reference(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.1, "few-shot-similar": 0.8})
    assert found.lead.kind == "best"
    assert found.lead.text.startswith("few-shot-similar scored best: 0.")
    assert "clearly above the reference zero-shot: +0." in found.lead.text


def test_a_difference_whose_interval_includes_zero_is_undecided(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.5, "few-shot-similar": 0.54}, examples=40)
    assert found.lead.kind == "undecided"
    assert found.lead.text.startswith("Undecided. few-shot-similar scored best")
    assert "may be chance" in found.lead.text


def test_when_nothing_beats_the_reference_the_answer_says_so(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.9, "few-shot-similar": 0.1})
    assert found.lead.text.startswith("No strategy scored better than the reference zero-shot")
    assert found.lead.text.endswith("all others are clearly worse.")


def test_a_reference_that_leads_within_the_interval_is_undecided(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.54, "few-shot-similar": 0.5}, examples=40)
    assert found.lead.kind == "undecided"
    assert found.lead.text.endswith("undecided against few-shot-similar.")


def test_without_a_result_of_the_reference_the_answer_says_what_is_missing(tmp_path: Path) -> None:
    answered(tmp_path, {"zero-shot": 0.5, "few-shot-similar": 0.8, "lora": 0.6})
    change(tmp_path / "cells" / f"{TASK}--zero-shot" / "status.json", state="failed", reason="no memory")
    found = answer_of(load(tmp_path))
    assert found.lead.text.endswith(
        "What it is compared with is missing: the reference zero-shot has no result."
    )


def test_a_single_result_is_compared_with_nothing(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.5})
    assert found.lead.text.startswith("Only zero-shot has a result: 0.")


def test_a_run_without_any_result_has_no_answer(tmp_path: Path) -> None:
    answered(tmp_path, {"zero-shot": 0.5})
    change(tmp_path / "cells" / f"{TASK}--zero-shot" / "status.json", state="stopped", reason="interrupted")
    found = answer_of(load(tmp_path))
    assert (found.lead.kind, found.lead.text) == ("nothing", "No strategy has a result.")


def test_where_lower_is_better_the_lowest_score_is_best(tmp_path: Path) -> None:
    answered(tmp_path, {"zero-shot": 0.9, "few-shot-similar": 0.1})
    metric = {"name": "error", "range": [0, 1], "higher_is_better": False, "additive": True}
    change(tmp_path / "tasks" / TASK / "task.json", metrics=[metric | {"name": "accuracy"}])
    found = answer_of(load(tmp_path))
    assert found.lead.text.startswith("few-shot-similar scored best")
    assert "clearly better than the reference zero-shot: −0." in found.lead.text


# --- the facts beside it ---------------------------------------------------------------------


def test_a_strategy_without_a_language_model_that_keeps_up_is_pointed_out_with_its_cost(
    tmp_path: Path,
) -> None:
    found = answered(tmp_path, {"nearest-neighbour": 0.9, "zero-shot": 0.1, "few-shot-similar": 0.6})
    (said,) = facts(found, "no-model")
    assert said.startswith("No language model needed on these examples: without one, nearest-neighbour")
    assert "at 1/75 of its cost per request" in said


def test_a_strategy_without_a_language_model_that_comes_close_is_pointed_out(tmp_path: Path) -> None:
    found = answered(tmp_path, {"nearest-neighbour": 0.76, "zero-shot": 0.1, "few-shot-similar": 0.8})
    (said,) = facts(found, "no-model")
    assert "without a language model, lies within the interval of the best with one" in said


def test_a_strategy_without_a_language_model_that_is_far_behind_is_not_recommended(tmp_path: Path) -> None:
    assert not facts(answered(tmp_path, {"nearest-neighbour": 0.1, "zero-shot": 0.9}), "no-model")


def test_fine_tuning_that_does_not_win_is_said_in_words(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.1, "few-shot-similar": 0.9, "lora": 0.4})
    (said,) = facts(found, "fine-tuning")
    assert said.startswith("Fine-tuning did not win: its best, lora")
    assert "is behind few-shot-similar" in said


def test_fine_tuning_that_hurts_is_said_in_words(tmp_path: Path) -> None:
    said = facts(answered(tmp_path, {"zero-shot": 0.9, "lora": 0.1}), "fine-tuning")
    assert any(s.startswith("Fine-tuning hurt: lora is clearly worse than zero-shot: −0.") for s in said)


def test_fine_tuning_that_wins_is_not_called_a_loser(tmp_path: Path) -> None:
    assert not facts(answered(tmp_path, {"zero-shot": 0.1, "lora": 0.9}), "fine-tuning")


def test_retrieval_that_hurts_is_said_in_words(tmp_path: Path) -> None:
    said = facts(answered(tmp_path, {"zero-shot": 0.9, "rag": 0.1}), "retrieval")
    assert any(s.startswith("Retrieval hurt: rag is clearly worse than zero-shot") for s in said)


def test_strategies_whose_intervals_overlap_with_the_best_are_named(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.1, "few-shot-similar": 0.75, "lora": 0.8})
    (said,) = facts(found, "close")
    assert said == "lora is not clearly ahead of all: its interval overlaps with that of few-shot-similar."


def test_a_failed_strategy_is_named_as_not_compared(tmp_path: Path) -> None:
    found = answered(tmp_path, {"zero-shot": 0.5, "few-shot-similar": 0.6, "lora": 0.5}, failing=True)
    assert facts(found, "failed") == ["lora has no result and is not compared."]


def test_a_strategy_that_does_not_apply_is_no_failure(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], strategies=("majority", "zero-shot", "rag"), failing=False)
    results = load(tmp_path)
    found = answer(results, "handbook_qa", lever_pairs(results, "handbook_qa"))
    assert not facts(found, "failed")


# --- pairs of strategies ---------------------------------------------------------------------


def test_a_lever_is_judged_between_strategies_that_differ_in_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], failing=False)
    pairs = lever_pairs(load(tmp_path), "handbook_qa")
    assert {(p.lever, p.with_it.label, p.without.label) for p in pairs} == {
        ("demonstrations", "few-shot-similar", "zero-shot"),
        ("context", "rag", "zero-shot"),
        ("context", "rag+lora", "lora"),
        ("weights", "lora", "zero-shot"),
        ("weights", "rag+lora", "rag"),
    }


@pytest.mark.parametrize("lever", ["weights", "context"])
def test_a_pair_counts_the_examples_won_and_lost(tmp_path: Path, lever: str) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], failing=False)
    pair = next(p for p in lever_pairs(load(tmp_path), "handbook_qa") if p.lever == lever)
    scores = [row.cells[0].scores("token_f1") for row in (pair.with_it, pair.without)]
    assert pair.difference.won == sum(a > b for a, b in zip(*scores, strict=True))
    assert pair.difference.lost == sum(a < b for a, b in zip(*scores, strict=True))
