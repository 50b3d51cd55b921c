"""What is said of a decision: every kind of verdict in plain words, what carries and what overturns it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_fixture import write_run

from breakeven.harness import cases, evidence, volumes, wording
from breakeven.harness.breakdown import amounts, changes, lines
from breakeven.harness.decision import Case, choose, decide
from breakeven.harness.evidence import Evidence, Name, text
from breakeven.harness.flips import break_even, flips, runner_up, times_the_examples, worth_that_undercuts
from breakeven.harness.pairs import lever_pairs
from breakeven.harness.results import Results, load
from breakeven.harness.wording import Told
from breakeven.reports._view import view

TASK = "support_intents"
DEDICATED = ("serving=dedicated", "peak_per_second=20", "retrain_every_months=4")


def run(folder: Path, shares: dict[str, float], *changes: str, **options: Any) -> Results:
    """A run in which the strategies are right on these shares of the examples."""
    quality = {name: {TASK: share} for name, share in shares.items()}
    settings = {"examples": 100, "failing": False} | options
    write_run(folder, tasks=[TASK], strategies=tuple(shares), quality=quality, **settings)
    return load(folder, changes=changes)


def told(folder: Path, shares: dict[str, float], *changes: str, **options: Any) -> Told:
    return wording.of_task(run(folder, shares, *changes, **options), TASK)


def known(results: Results) -> tuple[Case, Evidence]:
    case = cases.of_task(results, TASK)
    assert case is not None
    return case, evidence.of_task(results, TASK, case)


def lead(found: Told) -> str:
    return text(found.lead)


def all_of(found: Told) -> str:
    return "\n".join(found.lines())


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


CLOSE = {"zero-shot": 0.5, "few-shot-similar": 0.54, "lora": 0.52}
TUNED_WINS = {"zero-shot": 0.1, "few-shot-similar": 0.4, "lora": 0.95}
TUNED_LOSES = {"zero-shot": 0.1, "few-shot-similar": 0.9, "lora": 0.3}
CLASSIFIER = {"logistic-regression": 0.95, "zero-shot": 0.2, "lora": 0.6}


# --- the answer ------------------------------------------------------------------------------


def test_yes_says_at_which_volume(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.1")
    assert lead(found).startswith("YES, at 50,000 requests a month. Take lora, with accuracy 0.")
    assert " in year 1" in lead(found)


def test_no_at_this_volume_when_more_requests_would_make_it_yes(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.1", "requests_per_month=300")
    assert lead(found).startswith("NO, not at 300 requests a month. Take few-shot-similar")
    assert any(text(s).startswith("To lora above ") for s in found.flips)


def test_plain_no_when_no_volume_makes_it_yes(tmp_path: Path) -> None:
    assert lead(told(tmp_path, TUNED_LOSES, "value_per_correct=0.1")).startswith("NO. Take few-shot-similar")


def test_no_language_model_needed_is_said_in_these_words(tmp_path: Path) -> None:
    assert lead(told(tmp_path, CLASSIFIER)).startswith(
        "NO. No language model is needed: take logistic-regression, with accuracy 0."
    )


def test_undecided_says_where_it_leans_and_who_is_ahead(tmp_path: Path) -> None:
    found = told(tmp_path, CLOSE, "value_per_correct=0.1", examples=40)
    assert lead(found).startswith("UNDECIDED, leaning to ")
    assert " Ahead is " in lead(found)
    assert "95 % would decide" in text(found.basis)


@pytest.mark.parametrize("changes", [(), ("value_per_correct=0.1",)])
@pytest.mark.parametrize("name", ["zero-shot", "lora", "logistic-regression"])
def test_one_strategy_alone_is_compared_with_nothing_and_decides_nothing(
    tmp_path: Path, name: str, changes: tuple[str, ...]
) -> None:
    found = told(tmp_path, {name: 0.9}, *changes)
    assert lead(found).startswith(
        f"UNDECIDED. Only one strategy has a result, so nothing was compared: {name}, with accuracy 0."
    )
    assert text(found.basis) == "There is nothing to decide until a second strategy has a result."
    assert (found.flips, found.testing) == ((), ())
    assert found.verdict is not None
    assert not found.verdict.decided
    assert "100 %" not in all_of(found)
    assert found.overview[-1] == "–"


def test_people_that_are_most_of_year_one_are_said_with_it(tmp_path: Path) -> None:
    found = lead(told(tmp_path / "a", CLASSIFIER))
    assert re.search(
        r"for \$[\d,]+ in year 1 \((nearly all of it|of which \$[\d,]+) people's hours, assumed\)\.$", found
    )
    machines = lead(told(tmp_path / "b", TUNED_WINS, "requests_per_month=1e8", "value_per_correct=0.1"))
    assert "people's hours" not in machines
    paid = lead(told(tmp_path / "c", CLASSIFIER, "people.hourly_rate=0"))
    assert "people's hours" not in paid


def test_people_that_are_most_of_what_a_move_costs_are_said_with_it(tmp_path: Path) -> None:
    found = lead(told(tmp_path, TUNED_WINS, "value_per_correct=0.1", "incumbent=zero-shot"))
    assert found.endswith(" more in year 1 (mostly people's hours, assumed).")


def test_stay_as_you_are_is_a_verdict(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_LOSES, "value_per_correct=0.1", "incumbent=few-shot-similar")
    assert lead(found).startswith("NO. Stay as you are: few-shot-similar, with accuracy")


def test_moving_says_from_where_and_what_it_costs_more(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_LOSES, "value_per_correct=0.1", "incumbent=zero-shot")
    assert lead(found).startswith("NO. Move from today's zero-shot to few-shot-similar: +0.")
    assert " more in year 1" in lead(found)


def test_what_is_in_service_may_be_given_by_its_numbers(tmp_path: Path) -> None:
    stated = "incumbent={name: today, quality: 0.3, cost_per_1000: 0.001}"
    found = told(tmp_path, TUNED_LOSES, "value_per_correct=0.1", stated)
    assert "Move from today's today to few-shot-similar" in lead(found)
    assert "what today costs" not in lead(found)


def test_nothing_reaches_the_floor(tmp_path: Path) -> None:
    found = told(tmp_path, CLOSE, "quality_floor=0.9")
    assert lead(found).startswith("NO. Nothing reaches your floor of 0.900 accuracy: the best, ")
    assert found.verdict is not None
    assert found.verdict.choice is None


def test_several_reasons_that_leave_nothing_are_counted(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "quality_floor=0.5", "latency_ceiling=0.1")
    assert "Nothing is left to choose: of 3 strategies 2 miss your floor and 3 miss your latency" in lead(
        found
    )


def test_without_tuning_in_the_suite_the_question_is_another(tmp_path: Path) -> None:
    found = told(tmp_path, {"zero-shot": 0.1, "few-shot-similar": 0.9})
    assert found.question == "What should answer support_intents?"
    assert lead(found).startswith("Take few-shot-similar")
    assert "  " not in all_of(found)


def test_a_run_without_any_result_says_so(tmp_path: Path) -> None:
    run(tmp_path, {"zero-shot": 0.5})
    change(tmp_path / "cells" / f"{TASK}--zero-shot" / "status.json", state="stopped", reason="interrupted")
    found = wording.of_task(load(tmp_path), TASK)
    assert lead(found) == "No strategy has a result."
    assert "zero-shot has no result, not ranked: interrupted." in all_of(found)


def test_where_lower_is_better_the_lowest_score_is_taken(tmp_path: Path) -> None:
    run(tmp_path, {"zero-shot": 0.9, "few-shot-similar": 0.1})
    metric = {"name": "accuracy", "range": [0, 1], "higher_is_better": False, "additive": True}
    change(tmp_path / "tasks" / TASK / "task.json", metrics=[metric], correct_at=0.5)
    assert "Take few-shot-similar" in lead(wording.of_task(load(tmp_path), TASK))


# --- condition, and what carries it ----------------------------------------------------------


def test_with_a_value_the_basis_names_it_and_the_share_of_draws(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.1")
    assert text(found.basis).startswith(
        "By net benefit, with $0.10 for a correct answer, at 50,000 requests a month over 12 months: best, "
        "or within 0.020 accuracy of the best, in "
    )


def test_without_a_value_cost_decides_and_the_setting_is_named(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS)
    assert "value_per_correct" in text(found.basis)
    assert "the cheapest that is no worse than the best by more than 0.020 accuracy" in text(found.basis)


def test_the_paired_difference_comes_with_examples_won_and_lost(tmp_path: Path) -> None:
    results = run(tmp_path, TUNED_LOSES, "value_per_correct=0.1")
    found = wording.of_task(results, TASK)
    rows = {r.label: r for r in results.tables[TASK]}
    scores = [rows[name].cells[0].scores("accuracy") for name in ("lora", "few-shot-similar")]
    won = sum(a > b for a, b in zip(*scores, strict=True))
    lost = sum(a < b for a, b in zip(*scores, strict=True))
    (said,) = [s for s in found.why if text(s).startswith("lora minus few-shot-similar: ")]
    assert text(said).endswith(f", {won} won, {lost} lost.")
    assert [str(p) for p in said if isinstance(p, Name)] == ["lora", "few-shot-similar"]


def test_what_costs_more_is_said_line_by_line_with_what_is_assumed(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_LOSES, "value_per_correct=0.1")
    (said,) = [text(s) for s in found.why if text(s).startswith("lora costs ")]
    assert "setting up +$480 (assumed)" in said


def test_a_rate_that_was_given_is_not_called_assumed(tmp_path: Path) -> None:
    given = ("people.hourly_rate=50", "people.build_hours=10")
    found = told(tmp_path, TUNED_LOSES, "value_per_correct=0.1", *given)
    (said,) = [text(s) for s in found.why if text(s).startswith("lora costs ")]
    assert "setting up +$500," in said or "setting up +$500." in said


def test_fine_tuning_that_hurts_is_said_in_words(tmp_path: Path) -> None:
    found = told(tmp_path, {"zero-shot": 0.9, "lora": 0.1})
    assert any(text(s).startswith("Fine-tuning hurts: lora minus zero-shot: −0.") for s in found.why)


def test_training_on_the_documents_that_hurts_is_said_in_words(tmp_path: Path) -> None:
    results = run(tmp_path, {"zero-shot": 0.9, "lora": 0.1})
    for row in results.tables[TASK]:
        if row.strategy == "lora":
            row.cells[0].settings["weights"]["data"] = "documents"  # type: ignore[index]
    found = wording.of_task(results, TASK)
    said = [text(s) for s in found.why]
    assert any(s.startswith("Training on the documents hurts: lora minus zero-shot: −0.") for s in said)
    assert not any(s.startswith("Fine-tuning hurts") for s in said)


def test_retrieval_that_hurts_is_said_in_words(tmp_path: Path) -> None:
    found = told(tmp_path, {"zero-shot": 0.9, "rag": 0.1})
    assert any(text(s).startswith("Retrieval hurts: rag minus zero-shot: −0.") for s in found.why)


def test_fine_tuning_that_helps_is_not_said_to_hurt(tmp_path: Path) -> None:
    assert "hurts" not in all_of(told(tmp_path, TUNED_WINS))


def test_a_choice_that_does_not_pay_for_itself_is_said_to_lose_money(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.000001")
    assert text(found.why[0]).startswith("Nothing pays for itself: the net benefit of ")


# --- what would overturn it ------------------------------------------------------------------


def test_without_a_value_the_worth_that_overturns_it_is_named(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS)
    assert any(
        text(s).startswith("To few-shot-similar if a correct answer is worth less than $0.0")
        for s in found.flips
    )


def test_below_the_worth_that_undercuts_another_is_chosen_and_above_it_is_not(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, TUNED_WINS))
    choice = decide(case).choice
    assert choice is not None
    edge = worth_that_undercuts(case, choice, case.knobs)
    assert edge is not None
    assert choose(case, replace(case.knobs, value=edge.at * 0.999)) == edge.to
    assert choose(case, replace(case.knobs, value=edge.at * 1.001)) == choice


def test_a_break_even_volume_is_marked_while_it_is_not_shown_to_be_no_worse(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.1")
    assert any("on cost alone: it is not shown to be no worse." in text(s) for s in found.flips)


def test_the_interval_of_a_break_even_holds_its_volume(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, TUNED_WINS, "value_per_correct=0.1"))
    labels = [c.label for c in case.candidates]
    found = break_even(case, labels.index("lora"), labels.index("few-shot-similar"), case.knobs)
    assert found.low is not None
    assert found.high is not None
    assert found.volumes.first is not None
    assert found.low < found.volumes.first < found.high


def test_when_nothing_overturns_it_that_is_said(tmp_path: Path) -> None:
    found = told(tmp_path, {"majority": 0.05, "logistic-regression": 0.95})
    overturned = [text(s) for s in found.flips]
    assert all("majority" in s or s.startswith("Neither volume nor prices") for s in overturned)


def test_the_price_of_an_hour_is_said_in_money(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_LOSES, "value_per_correct=0.01")
    said = [text(s) for s in found.flips if " if an hour of cpu-2 costs " in text(s)]
    assert said
    assert all("than $" in s for s in said)


def test_volumes_are_said_as_intervals() -> None:
    found = volumes.Volumes(((0.0, 1234.0), (56_789.0, float("inf"))))
    assert wording.volumes_said(found) == "below 1,230 and above 56,800 requests a month"


# --- what testing is worth -------------------------------------------------------------------


def test_with_a_value_more_testing_has_a_price_and_a_worth(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.1")
    said = text(found.testing[0])
    assert said.startswith("More testing is worth at most $")
    assert "labelling 100 more test examples costs about $50.00 (assumed)" in said


def test_testing_that_is_worth_less_than_it_costs_should_stop(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "value_per_correct=0.1")
    assert text(found.testing[0]).endswith(": stop measuring.")


def test_undecided_says_about_how_many_more_examples_would_settle_it(tmp_path: Path) -> None:
    shares = {"zero-shot": 0.3, "few-shot-similar": 0.62, "lora": 0.52}
    found = told(tmp_path, shares, "value_per_correct=0.1", examples=40)
    assert found.answer == "UNDECIDED"
    assert any("more test examples would settle it" in text(s) for s in found.testing)


def test_four_times_the_examples_halve_the_spread_that_has_to_be_overcome(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, CLOSE, "value_per_correct=0.1", examples=40))
    choice = decide(case).choice
    assert choice is not None
    once = times_the_examples(case, choice, case.knobs)
    assert once is not None
    centre = case.draws.worth.mean(axis=1, keepdims=True)
    narrower = replace(case.draws, worth=centre + (case.draws.worth - centre) / 2)
    twice = times_the_examples(replace(case, draws=narrower), choice, case.knobs)
    assert twice is not None
    assert twice < once


# --- who is not ranked -----------------------------------------------------------------------


def test_what_misses_the_floor_is_left_out_with_its_number(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, "quality_floor=0.3")
    assert any("misses your floor of 0.300" in text(s) for s in found.left_out)


def test_what_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS, failing=True)
    assert [text(s)[:24] for s in found.left_out] == ["lora failed, not ranked:"]


def test_a_reference_that_was_left_out_of_the_run_is_said_to_be_missing(tmp_path: Path) -> None:
    missing = "Nothing is compared with zero-shot: the reference has no result in this run."
    assert missing in all_of(told(tmp_path / "a", {"few-shot-similar": 0.4, "lora": 0.6}))
    assert missing not in all_of(told(tmp_path / "b", TUNED_WINS))


def test_a_strategy_that_does_not_apply_is_no_failure(tmp_path: Path) -> None:
    write_run(tmp_path, tasks=["handbook_qa"], strategies=("majority", "zero-shot", "rag"), failing=False)
    assert wording.of_task(load(tmp_path), "handbook_qa").left_out == ()


def test_the_overview_says_by_how_much_the_runner_up_is_beaten_with_an_interval(tmp_path: Path) -> None:
    found = told(tmp_path, TUNED_WINS)
    assert re.fullmatch(r"[+−]0\.\d{3} \([+−]0\.\d{3} to [+−]0\.\d{3}\)", found.overview[3])


def test_the_runner_up_is_who_would_most_often_be_chosen(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, CLOSE, "value_per_correct=0.1", examples=40))
    verdict = decide(case)
    other = runner_up(case, verdict)
    assert other is not None
    assert verdict.best[other] == max(b for i, b in enumerate(verdict.best) if i != verdict.choice)


# --- where the money goes --------------------------------------------------------------------


@pytest.mark.parametrize("settings", [(), DEDICATED, (*DEDICATED, "growth_per_month=0.1")])
def test_the_lines_of_a_cost_add_up_to_it(tmp_path: Path, settings: tuple[str, ...]) -> None:
    case, _ = known(run(tmp_path, TUNED_WINS, *settings))
    knobs = replace(case.knobs, machine=3.0, requests=2e6)
    for i, candidate in enumerate(case.candidates):
        parts = amounts(candidate.ownership, case.economics, knobs)
        assert sum(p or 0.0 for p in parts) == pytest.approx(case.cost(i, knobs), rel=1e-12)


def test_dedicated_machines_are_a_line_of_their_own(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, TUNED_WINS, *DEDICATED))
    assert lines(case.candidates[0].ownership)[-1].what == "dedicated machines"


def test_the_differences_of_two_costs_add_up_to_the_difference(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, TUNED_WINS))
    a, b = case.candidates[2].ownership, case.candidates[0].ownership
    found = changes(a, b, case.economics, case.knobs)
    assert sum(c.money for c in found) == pytest.approx(
        case.cost(2, case.knobs) - case.cost(0, case.knobs), rel=0.05
    )
    assert [abs(c.money) for c in found] == sorted((abs(c.money) for c in found), reverse=True)


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


def right_on(folder: Path, **counts: int) -> Results:
    """A run on 40 examples of which each strategy is right on the first so many."""
    run(folder, dict.fromkeys((name.replace("_", "-") for name in counts), 0.5), examples=40)
    for cell in (folder / "cells").iterdir():
        count = next(n for name, n in counts.items() if f"--{name.replace('_', '-')}" in cell.name)
        rows = [json.loads(x) for x in (cell / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
        for i, row in enumerate(rows):
            row["score"]["accuracy"] = float(i < count)
        lines = [json.dumps(row) for row in rows]
        (cell / "predictions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        change(cell / "scores.json", accuracy=count / 40)
    return load(folder)


def test_what_the_interval_shows_and_the_test_does_not_is_said_without_a_firm_word(tmp_path: Path) -> None:
    few = right_on(tmp_path / "a", zero_shot=0, lora=5)  # five won, none lost: exact p 0.06
    assert [pair.effect(few.tasks[TASK].primary) for pair in lever_pairs(few, TASK)] == ["better"]
    assert [x.effect for x in view(few, TASK).levers] == ["seems to help"]
    turned = right_on(tmp_path / "b", zero_shot=5, lora=0)
    assert "Fine-tuning seems to hurt: lora minus zero-shot" in all_of(wording.of_task(turned, TASK))
    clear = right_on(tmp_path / "c", zero_shot=0, lora=20)
    assert [x.effect for x in view(clear, TASK).levers] == ["helps"]
    assert "Intervals are each for itself, not adjusted" in view(clear, TASK).tests


def test_a_pair_said_the_other_way_round_has_its_signs_and_counts_swapped(tmp_path: Path) -> None:
    _, found = known(run(tmp_path, CLOSE))
    forth, back = found.gaps[0][1], found.gaps[1][0]
    assert forth.translate(str.maketrans("+−", "−+")) == back
    won = found.pairs[0][1].rsplit(", ", 2)[1].split()[0]
    lost = found.pairs[1][0].rsplit(", ", 1)[1].split()[0]
    assert won == lost


def test_flips_name_the_nearest_first(tmp_path: Path) -> None:
    case, _ = known(run(tmp_path, TUNED_WINS, "value_per_correct=0.01"))
    found = flips(case, decide(case)).thresholds
    at = {"requests": case.knobs.requests, "value": case.knobs.value, "machine": 1.0, "tokens": 1.0}
    far = [abs(np.log(x.at / at[x.knob])) for x in found]
    assert far == sorted(far)
