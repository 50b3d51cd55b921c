"""A decision as the page carries and draws it: packed without loss, figures that show what the tables say."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_fixture import write_run
from run_fixture_data import HOSTILE

from breakeven.harness import cases, evidence
from breakeven.harness.decision import WORTHS, Case, best_by_worth, decide
from breakeven.harness.draws import rounded
from breakeven.harness.evidence import Evidence
from breakeven.harness.results import MetricInfo, Results, load
from breakeven.reports import _case, _figures, _plots, _verdict
from breakeven.reports._plots import Dot

TASK = "support_intents"
ACCURACY = MetricInfo("accuracy", (0.0, 1.0), True, True)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    run = write_run(tmp_path_factory.mktemp("run"), tasks=[TASK], failing=False, examples=60)
    return load(run, changes=["value_per_correct=0.01"])


@pytest.fixture(scope="module")
def made(results: Results) -> tuple[Case, Evidence]:
    case = cases.of_task(results, TASK)
    assert case is not None
    return case, evidence.of_task(results, TASK, case)


# --- packed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [0.0, 0.5, 0.97, 1.0, 30.0, 1e-6])
@pytest.mark.parametrize("spread", [1e-7, 1e-3, 0.2])
def test_draws_come_out_of_the_page_as_the_same_doubles(centre: float, spread: float) -> None:
    values = rounded(centre + spread * np.random.default_rng(1).standard_normal(1000))
    assert np.array_equal(_case.unpacked(_case._draws(values), 1000), values)


def test_draws_that_are_all_equal_carry_no_codes(made: tuple[Case, Evidence]) -> None:
    found = _case.packed(*made)
    assert found["draws"]["tokens"][0] == [1.0, 0.0, ""]


def test_correct_answers_that_are_the_score_are_not_carried_twice(made: tuple[Case, Evidence]) -> None:
    assert set(_case.packed(*made)["draws"]["worth"]) == {"score"}


def test_a_packed_case_is_json_without_infinity(made: tuple[Case, Evidence]) -> None:
    json.dumps(_case.packed(*made), allow_nan=False)


def test_a_hostile_label_cannot_close_the_data_block(made: tuple[Case, Evidence]) -> None:
    case, known = made
    labels = (HOSTILE[3], *known.labels[1:])
    block = str(_case.embedded(case, replace(known, labels=labels), 0))
    assert block.count("<") == 2
    assert json.loads(block[block.index(">") + 1 : block.rindex("<")])["candidates"][0]["label"] == HOSTILE[3]


# --- drawn -----------------------------------------------------------------------------------


def texts(drawing: str) -> list[str]:
    return [e.text or "" for e in ElementTree.fromstring(drawing).iter("text")]


def dots(*points: tuple[float | None, float]) -> list[Dot]:
    return [Dot(f"s{i}", "prompting", x, q, q - 0.05, q + 0.05) for i, (x, q) in enumerate(points)]


def test_the_frontier_joins_what_nothing_beats_in_both() -> None:
    found = _plots.pareto(dots((3.0, 0.6), (1.0, 0.5), (2.0, 0.4), (4.0, 0.9), (None, 1.0)), ACCURACY)
    assert found == [1, 0, 3]


def test_where_lower_is_better_the_frontier_goes_down() -> None:
    lower = replace(ACCURACY, higher_is_better=False)
    assert _plots.pareto(dots((1.0, 0.5), (2.0, 0.4), (3.0, 0.45)), lower) == [0, 1]


def test_every_strategy_that_stands_has_a_line_with_its_name(made: tuple[Case, Evidence]) -> None:
    case, known = made
    choice = decide(case).choice
    assert choice is not None
    lines = _figures.volume_lines(case, known.labels, choice, [], case.knobs)
    wide, narrow = _figures.cost_against_volume(lines, case, "USD", case.knobs)
    assert {known.labels[i] for i in case.standing} <= set(texts(wide))
    assert {str(i + 1) for i in case.standing} <= set(texts(narrow))


def test_lines_are_what_the_strategies_cost(made: tuple[Case, Evidence]) -> None:
    case, known = made
    for line in _figures.volume_lines(case, known.labels, 0, [], case.knobs):
        volume, cost = line.points[17]
        assert cost == case.cost(line.number - 1, replace(case.knobs, requests=volume))


def test_break_even_volumes_are_marked_where_lines_cross(made: tuple[Case, Evidence]) -> None:
    case, _known = made
    choice = decide(case).choice
    assert choice is not None
    found = _verdict.meets(case, choice, case.knobs)
    assert found
    for i, volume in found:
        at = replace(case.knobs, requests=volume)
        assert case.cost(i, at) == pytest.approx(case.cost(choice, at), rel=1e-9)


def test_labels_of_the_cost_axis_lie_within_the_picture(made: tuple[Case, Evidence]) -> None:
    case, known = made
    at = replace(case.knobs, requests=2e7)  # costs up to ten million
    lines = _figures.volume_lines(case, known.labels, 0, [], at)
    for drawing in _figures.cost_against_volume(lines, case, "USD", at):
        labels = [e for e in ElementTree.fromstring(drawing).iter("text") if e.get("text-anchor") == "end"]
        assert any("0,000" in (e.text or "") for e in labels)
        for e in labels:
            if len(e.text or "") <= len("$1,000,000"):
                assert float(e.get("x") or 0) >= 0.58 * 11.5 * len(e.text or "")


def test_names_at_the_ends_of_lines_do_not_overlap(made: tuple[Case, Evidence]) -> None:
    case, known = made
    lines = _figures.volume_lines(case, known.labels, 0, [], case.knobs)
    wide, _ = _figures.cost_against_volume(lines, case, "USD", case.knobs)
    names = {known.labels[i] for i in case.standing}
    heights = sorted(
        float(e.get("y") or 0) for e in ElementTree.fromstring(wide).iter("text") if e.text in names
    )
    assert all(b - a >= 13.9 for a, b in itertools.pairwise(heights))


def test_the_window_of_worths_holds_everything_that_happens(made: tuple[Case, Evidence]) -> None:
    case, _ = made
    shares = best_by_worth(case, WORTHS)
    first, last = _figures.worth_window(shares.tolist(), None)
    assert np.abs(shares[:first] - shares[0]).max(initial=0.0) < _figures.SEEN
    assert np.abs(shares[last:] - shares[-1]).max(initial=0.0) < _figures.SEEN


def test_the_worth_that_was_given_is_within_the_window(made: tuple[Case, Evidence]) -> None:
    case, _ = made
    first, last = _figures.worth_window(best_by_worth(case, WORTHS).tolist(), 500.0)
    assert WORTHS[first] <= 500.0 <= WORTHS[last]


# --- tables ----------------------------------------------------------------------------------


def test_the_small_table_marks_one_choice(results: Results) -> None:
    view = _verdict.view(results, TASK)
    assert view is not None
    chosen = [c.label for c in view.candidates if c.chosen]
    assert view.told.verdict is not None
    assert chosen == [view.known.labels[view.told.verdict.choice or 0]]


def test_shares_in_the_table_are_those_of_the_figure(results: Results) -> None:
    view = _verdict.view(results, TASK)
    assert view is not None
    assert all(len(cells) == len(view.share_heads) for _, cells in view.shares)
    at_first = [float(cells[0].removesuffix(" %")) for _, cells in view.shares]
    assert sum(at_first) == pytest.approx(100, abs=0.5)


def test_payback_is_the_month_from_which_it_has_cost_less(tmp_path: Path) -> None:
    run = write_run(tmp_path, tasks=[TASK], strategies=("zero-shot", "lora"), failing=False)
    changes = ["incumbent=zero-shot", "requests_per_month=1e8"]
    view = _verdict.view(load(run, changes=changes), TASK)
    assert view is not None
    own, today = (view.case.candidates[i].ownership for i in (1, 0))
    month = int(view.candidates[1].costs[4].removeprefix("month "))
    at, economics = view.case.knobs, view.case.economics
    assert own.total(economics, at, month) <= today.total(economics, at, month)
    assert own.total(economics, at, month - 1) > today.total(economics, at, month - 1)
