"""What a strategy costs, line by line, from a stored run; and the same run at other prices."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from run_fixture import write_run

from breakeven.harness import cases, results
from breakeven.harness.decision import Case, decide
from breakeven.harness.errors import UserError
from breakeven.harness.ownership import Ownership


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "r", failing=False)


def owned(run: Path, strategy: str, *changes: str, task: str = "support_intents") -> Ownership:
    found = decided(run, *changes, task=task)
    return next(c.ownership for c in found.candidates if c.label == strategy)


def decided(run: Path, *changes: str, task: str = "support_intents") -> Case:
    case = cases.of_task(results.load(run, changes=changes), task)
    assert case is not None
    return case


def line(own: Ownership, what: str) -> object:
    return next(x for x in own.lines if x.what == what)


def test_every_line_says_what_it_rests_on_and_the_lines_add_up(run: Path) -> None:
    own = owned(run, "lora", "retrain_every_months=6")

    for when, bill in (
        ("up front", own.up_front),
        ("each month", own.monthly),
        ("each retraining", own.retraining),
        ("each request", own.request),
    ):
        lines = [x for x in own.lines if x.when == when]
        assert lines, when
        assert all(x.source for x in lines)
        assert sum(x.value or 0 for x in lines) == pytest.approx(bill.at(1, 1))


def test_machine_time_is_the_ledgers_seconds_times_the_price_of_an_hour(run: Path) -> None:
    training = line(owned(run, "lora"), "training")

    assert training.value == pytest.approx(81 / 3600 * 0.09296 * 1.1133)  # type: ignore[attr-defined]
    assert "81.0 s" in training.source  # type: ignore[attr-defined]
    assert "cpu-2, 2026-10-28" in training.source  # type: ignore[attr-defined]


def test_peoples_hours_are_marked_as_assumed_until_they_are_given(run: Path) -> None:
    before = line(owned(run, "lora"), "labelling 160 examples")
    after = line(
        owned(run, "lora", "people.label_minutes=3", "people.hourly_rate=90"), "labelling 160 examples"
    )

    assert (before.known, before.value) == ("assumed", 160 * 0.5 / 60 * 60)  # type: ignore[attr-defined]
    assert (after.known, after.value) == ("given", 160 * 3 / 60 * 90)  # type: ignore[attr-defined]


def test_only_strategies_that_need_labelled_examples_pay_for_them(run: Path) -> None:
    labelled = {
        c.label: [x.what for x in c.ownership.lines if x.what.startswith("labelling")]
        for c in decided(run).candidates
    }

    assert labelled["zero-shot"] == []
    assert labelled["lora"] == labelled["logistic-regression"] == ["labelling 160 examples"]


def test_only_retrieval_pays_for_keeping_documents_current(run: Path) -> None:
    paying = [
        c.label
        for c in decided(run, task="handbook_qa").candidates
        if any(x.what == "keeping the documents current" for x in c.ownership.lines)
    ]

    assert paying
    assert all("rag" in label for label in paying)


def test_an_hour_of_the_machine_scales_its_lines_and_nothing_else(run: Path) -> None:
    listed, dearer = owned(run, "lora"), owned(run, "lora", "machine_hour=1.8")

    assert dearer.request.machine == pytest.approx(listed.request.machine * 1.8 / (0.09296 * 1.1133))
    assert dearer.up_front.fixed == listed.up_front.fixed
    assert "given with --set" not in line(listed, "training").source  # type: ignore[attr-defined]


def test_dedicated_machines_are_paid_by_the_month_and_not_by_the_request(run: Path) -> None:
    own = owned(run, "lora", "serving=dedicated", "adapters_per_machine=4")

    assert own.request.machine == 0
    assert own.replica == pytest.approx(0.09296 * 1.1133 * 730 / 4)
    assert owned(run, "zero-shot", "serving=dedicated").replica == pytest.approx(0.09296 * 1.1133 * 730)


def test_a_hosted_deployment_is_paid_by_the_month(run: Path) -> None:
    own = owned(run, "lora", "deployments={lora: azure/standard}")

    assert line(own, "the hosted deployment").value == pytest.approx(1.70 * 730)  # type: ignore[attr-defined]


def test_the_incumbent_has_paid_its_start_long_ago(run: Path) -> None:
    found = decided(run, "incumbent=few-shot-similar")

    own = found.candidates[found.incumbent or 0]
    assert own.label == "few-shot-similar"
    assert own.ownership.up_front.at(1, 1) == 0
    assert own.ownership.monthly.at(1, 1) > 0


def test_an_incumbent_may_be_stated_by_its_quality_and_cost(run: Path) -> None:
    found = decided(
        run, "incumbent={name: agency, quality: 0.97, cost_per_1000: 900}", "value_per_correct=0.001"
    )

    assert found.incumbent == len(found.candidates) - 1
    assert found.candidates[-1].label == "agency"
    assert set(found.draws.score[-1]) == {0.97}
    assert decide(found).kind == "choose"


def test_a_stated_incumbent_without_a_cost_is_not_free(run: Path) -> None:
    found = decided(run, "incumbent={quality: 0.97}")

    assert found.dropped[len(found.candidates) - 1] == ("cost",)


@pytest.mark.parametrize(
    ("incumbent", "words"),
    [
        ("few-shots", "no strategy of this run"),
        ("{quality: 0.9, predictions: a.csv}", "either predictions"),
        ("{name: x}", "either predictions"),
    ],
)
def test_an_incumbent_that_is_not_there_is_said(run: Path, incumbent: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        decided(run, f"incumbent={incumbent}")


def test_errors_may_cost_differently_by_label(run: Path) -> None:
    task = results.load(run).tasks["support_intents"]
    dear = str(task.test[0].references[0])
    found = decided(run, f"error_costs={{costs: {{{dear}: 10}}}}")

    share = sum(e.references[0] == dear for e in task.test) / len(task.test)
    assert found.knobs.value == pytest.approx(10 * share)
    assert not (found.draws.worth_mean == found.draws.score_mean).all()


def test_error_costs_of_labels_that_do_not_occur_are_refused(run: Path) -> None:
    with pytest.raises(UserError, match="error cost above 0"):
        decided(run, "error_costs={costs: {nowhere: 10}}")


def test_of_several_training_sizes_the_largest_stands_for_the_strategy(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", tasks=("support_intents",), failing=False)
    small = run / "cells" / "support_intents--lora--n20--s0"
    (run / "cells" / "support_intents--lora--s0").rename(small)
    cell = json.loads((small / "cell.json").read_text())
    (small / "cell.json").write_text(json.dumps({**cell, "id": small.name, "train_size": 20}))
    whole = write_run(tmp_path / "whole", tasks=("support_intents",), failing=False)
    (whole / "cells" / "support_intents--lora--s0").rename(run / "cells" / "support_intents--lora--s0")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "cells": [*info["cells"], small.name]}))

    labels = [c.label for c in decided(run).candidates]

    assert "lora n=160" in labels
    assert "lora n=20" not in labels


def test_re_pricing_changes_the_table_and_runs_nothing(run: Path) -> None:
    listed, dearer = results.load(run), results.load(run, changes=["gpu_hour=10.35"])

    before = {r.label: r.cost_per_1000.value for r in listed.tables["support_intents"]}
    after = {r.label: r.cost_per_1000.value for r in dearer.tables["support_intents"]}

    assert after["lora"] == pytest.approx((before["lora"] or 0) * 10.35 / (0.09296 * 1.1133))


def test_a_frozen_suite_of_older_runs_is_read(run: Path) -> None:
    suite = yaml.safe_load((run / "suite.yaml").read_text())

    assert suite["economics"]["requests_per_month"] == 50000
    assert results.load(run).economics.horizon_months == 12
