"""From stored scores to rows: intervals, differences and tests against the reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from run_fixture import write_run

from breakeven.harness import alike, cases, stats
from breakeven.harness.decision import decide
from breakeven.harness.results import Row, load

TASK = "support_intents"


def rows(folder: Path) -> dict[str, Row]:
    return {row.strategy: row for row in load(folder).tables[TASK]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", tasks=(TASK,), failing=False)


def made_of_draws(folder: Path, seeds: Sequence[int], spread: float) -> Path:
    """A run whose primary metric is no mean: two strategies with 1,000 draws each, 0.04 apart."""
    names = ("zero-shot", "few-shot-similar")
    write_run(folder, tasks=(TASK,), strategies=names, seeds=seeds, failing=False)
    task = json.loads((folder / "tasks" / TASK / "task.json").read_text())
    task["metrics"][0] |= {"name": "accuracy", "additive": False}
    (folder / "tasks" / TASK / "task.json").write_text(json.dumps(task))
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.05, 1000)
    for cell in sorted((folder / "cells").iterdir()):
        at = int(cell.name.endswith("s1"))
        value = 0.5 if "zero-shot" in cell.name else 0.54 + spread * (at - 0.5) * (len(seeds) > 1)
        draws = value + common + rng.normal(0, 0.01, 1000)
        (cell / "draws.json").write_text(json.dumps(draws.tolist()))
        (cell / "scores.json").write_text(json.dumps({"accuracy": value}))
    return folder


def test_every_row_but_the_reference_is_tested_against_it(run: Path) -> None:
    found = rows(run)
    reference = found.pop("zero-shot")
    tested = [row for row in found.values() if row.quality is not None]
    assert (reference.p, reference.p_adjusted, reference.test) == (None, None, "")
    assert len(tested) > 2
    assert {row.test for row in tested} == {"exact McNemar"}
    assert all(row.p == stats.mcnemar(row.won, row.lost).p_exact for row in tested)


def test_an_undecided_difference_says_how_many_examples_would_show_it(run: Path) -> None:
    for row in rows(run).values():
        between = row.difference_interval
        if between is None:
            continue
        undecided = between.low <= 0 <= between.high
        assert bool(row.needed) == undecided
        assert row.difference is not None
        assert row.detectable is not None
        assert not undecided or abs(row.difference) < row.detectable


def test_what_is_in_service_today_is_the_reference(run: Path) -> None:
    found = {r.strategy: r for r in load(run, None, ["incumbent=few-shot-similar"]).tables[TASK]}
    assert [r.strategy for r in found.values() if r.is_reference] == ["few-shot-similar"]
    assert found["few-shot-similar"].p is None
    assert found["zero-shot"].difference is not None


def test_of_several_training_sizes_the_largest_of_the_reference_is_compared_with(tmp_path: Path) -> None:
    grown = write_run(tmp_path / "r", tasks=(TASK,), train_sizes=(20, 80), failing=False)
    found = load(grown, None, ["incumbent=few-shot-similar"]).tables[TASK]
    assert [r.label for r in found if r.is_reference] == ["few-shot-similar n=80"]
    small = next(r for r in found if r.label == "few-shot-similar n=20")
    assert small.difference is not None


def test_p_is_adjusted_for_all_comparisons_of_the_task(run: Path) -> None:
    ps = sorted((row.p, row.p_adjusted) for row in rows(run).values() if row.p is not None)
    smallest, largest = ps[0], ps[-1]
    assert smallest[1] == pytest.approx(min(1.0, len(ps) * smallest[0]))
    assert all(p <= adjusted for p, adjusted in ps)
    assert largest[1] == max(adjusted for _, adjusted in ps)


def test_a_strategy_that_was_not_scored_is_not_tested(run: Path) -> None:
    missing = [row for row in rows(run).values() if row.quality is None]
    assert missing
    assert all(row.p is None and row.p_adjusted is None for row in missing)


def test_a_metric_that_is_no_mean_is_tested_by_its_paired_draws(tmp_path: Path) -> None:
    row = rows(made_of_draws(tmp_path / "run", seeds=(0,), spread=0.0))["few-shot-similar"]
    assert row.test == "bootstrap"
    assert row.p == row.p_adjusted
    assert row.p is not None
    assert 2 / 1001 <= row.p < 0.02  # apart by four times 0.01, though either alone varies by 0.05


def test_seeds_that_disagree_count_in_a_metric_that_is_no_mean(tmp_path: Path) -> None:
    same = rows(made_of_draws(tmp_path / "same", seeds=(0, 1), spread=0.0))["few-shot-similar"]
    apart = rows(made_of_draws(tmp_path / "apart", seeds=(0, 1), spread=0.2))["few-shot-similar"]
    assert same.interval is not None
    assert apart.interval is not None
    assert apart.interval.high - apart.interval.low > 2 * (same.interval.high - same.interval.low)
    assert (same.test, apart.test) == ("bootstrap", "t")
    assert same.p is not None
    assert apart.p is not None
    assert same.p < 0.05 < apart.p
    assert "seed" not in apart.interval.note


def test_one_seed_of_a_metric_that_is_no_mean_says_what_it_leaves_out(tmp_path: Path) -> None:
    found = rows(made_of_draws(tmp_path / "run", seeds=(0,), spread=0.0))
    drawn, fixed = found["few-shot-similar"], found["zero-shot"]
    assert drawn.interval is not None
    assert fixed.interval is not None
    assert (drawn.interval.note, fixed.interval.note) == ("excludes seed variance", "")


# --- resamples that are all alike ------------------------------------------------------------


def all_right(folder: Path, **values: float) -> Path:
    """A run on six examples whose metric is no mean and the same in every resample of a strategy."""
    write_run(folder, tasks=(TASK,), strategies=tuple(values), examples=6, failing=False)
    task = json.loads((folder / "tasks" / TASK / "task.json").read_text())
    task["metrics"][0] |= {"name": "accuracy", "additive": False}
    (folder / "tasks" / TASK / "task.json").write_text(json.dumps(task))
    for cell in (folder / "cells").iterdir():
        value = next(v for name, v in values.items() if f"--{name}--" in f"{cell.name}--")
        (cell / "draws.json").write_text(json.dumps([value] * 1000))
        (cell / "scores.json").write_text(json.dumps({"accuracy": value}))
    return folder


def test_equal_resamples_are_as_unsure_as_equal_scores(tmp_path: Path) -> None:
    run = all_right(tmp_path / "run", **{"zero-shot": 0.0, "few-shot-similar": 1.0})
    right = rows(run)["few-shot-similar"]
    same = stats.mean_interval(np.ones((1, 6)))
    assert right.interval is not None
    assert (right.interval.low, right.interval.high) == pytest.approx((same.low, same.high))
    assert "bounded, not estimated" in right.interval.note
    paired = stats.paired_difference(np.ones((1, 6)), np.zeros((1, 6)))
    assert right.difference_interval is not None
    assert right.difference_interval.low == pytest.approx(paired.interval.low)
    assert right.p == pytest.approx(paired.p)  # six of six by chance: 2 / 2**6, not 2 / 1001


def test_a_decision_on_equal_resamples_is_no_surer_than_their_number_allows(tmp_path: Path) -> None:
    results = load(all_right(tmp_path / "run", **{"zero-shot": 1.0, "few-shot-similar": 1.0}))
    case = cases.of_task(results, TASK)
    assert case is not None
    low = np.quantile(case.draws.score, 0.025, axis=1)
    assert (low > 0.5).all()
    assert (low < 0.8).all()
    assert not decide(case).decided


def test_equal_resamples_of_an_open_metric_say_that_the_width_is_unknown() -> None:
    assert alike.interval(1.0, 6, None) is None
    assert "width is unknown" in stats.draws_interval([3.0] * 1000).note


def test_seeds_that_differ_are_not_hidden_by_equal_resamples() -> None:
    found = alike.interval(0.9, 100, (0.0, 1.0), seeds=[0.8, 1.0])
    assert found is not None
    assert found.low < 0.3
