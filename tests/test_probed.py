"""A finished run priced with the seconds of a probe: what changes, what stays the run's, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_fixture import write_run
from test_probe import TRUE, probe_of

from breakeven.harness import cases, ownership, results
from breakeven.harness._probes import Batch, Speeds
from breakeven.harness.errors import UserError
from breakeven.harness.pricing import Pricing, priced_seconds
from breakeven.harness.results import CellResult, Results, Row

TASK = "support_intents"
SLOWER = Speeds(*(2 * s for s in (TRUE.batch, TRUE.token, TRUE.pair, TRUE.step, TRUE.row, TRUE.cached)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(
        tmp_path / "r", tasks=[TASK], strategies=["majority", "zero-shot", "lora"], failing=False
    )


def saved(run: Path, name: str = "p.json", **changes: Any) -> Path:
    """The file of a probe of the run's model, on an L4."""
    file = run.parent / name
    probe_of(results.load(run), **changes).save(file)
    return file


def priced(run: Path, *probes: Path, changes: tuple[str, ...] = ()) -> Results:
    return results.load(run, changes=changes, probes=probes)


def row(found: Results, label: str) -> Row:
    return next(r for r in found.tables[TASK] if r.label == label)


def cell(found: Results, label: str) -> CellResult:
    return row(found, label).cells[0]


def economics(run: Path, **changes: Any) -> None:
    suite = yaml.safe_load((run / "suite.yaml").read_text())
    suite["economics"].update(changes)
    (run / "suite.yaml").write_text(yaml.safe_dump(suite))


def book(run: Path, name: str, entry: dict[str, Any]) -> None:
    """Add tokens that were embedded, or seconds, to a cell's ledger."""
    file = next((run / "cells").glob(f"{TASK}--{name}*")) / "ledger.json"
    ledger = json.loads(file.read_text())
    file.write_text(json.dumps([*ledger, {"source": "counted", **entry}]))


def amount(value: float) -> dict[str, Any]:
    return {"value": value, "status": "measured"}


# --- what changes ----------------------------------------------------------------------------


def test_a_request_costs_its_seconds_on_the_probes_machine_at_the_concurrency_of_the_run(run: Path) -> None:
    found = priced(run, saved(run))
    read, written = (round(n) for n in cell(found, "zero-shot").mean_usage)
    seconds = TRUE.seconds(Batch((read,) * 8, (written + 1,) * 8)) / 8
    hour = Pricing(found).machine
    assert hour is not None
    assert hour.name == "l4"
    cost = row(found, "zero-shot").cost_per_1000
    assert cost.value == pytest.approx(1000 * seconds / 3600 * hour.price / 0.5)


def test_without_a_concurrent_pass_it_is_one_request_at_a_time(run: Path) -> None:
    file = run / f"cells/{TASK}--zero-shot/timing.json"
    timing = json.loads(file.read_text())
    del timing["concurrent"]
    file.write_text(json.dumps(timing))
    found = priced(run, saved(run))
    read, written = (round(n) for n in cell(found, "zero-shot").mean_usage)
    alone = TRUE.seconds(Batch((read,), (written + 1,)))
    assert Pricing(found).busy_seconds(cell(found, "zero-shot")).value == pytest.approx(alone)


def test_half_the_speed_is_twice_the_money(run: Path) -> None:
    fast, slow = priced(run, saved(run)), priced(run, saved(run, "slow.json", speeds=SLOWER, training=250.0))
    for label in ("zero-shot", "lora"):
        a, b = row(fast, label), row(slow, label)
        assert a.cost_per_1000.value is not None
        assert b.cost_per_1000.value == pytest.approx(2 * a.cost_per_1000.value)
    once = [row(found, "lora").one_off.value for found in (fast, slow)]
    assert once[1] == pytest.approx(2 * once[0])  # type: ignore[operator]


def test_training_costs_its_tokens_at_the_probes_speed(run: Path) -> None:
    found = priced(run, saved(run))
    hour = Pricing(found).machine
    trained = cell(found, "lora").ledger.total("training_tokens", "train").value
    assert hour is not None
    assert trained is not None
    assert row(found, "lora").one_off.value == pytest.approx(trained / 500 / 3600 * hour.price)


def test_what_was_projected_is_measured_then(run: Path) -> None:
    assert row(priced(run), "lora").cost_per_1000.status == "estimated"
    found = row(priced(run, saved(run)), "lora")
    assert (found.cost_per_1000.status, found.one_off.status) == ("measured", "measured")


def test_what_the_probe_only_estimates_stays_estimated(run: Path) -> None:
    found = row(priced(run, saved(run, writing={1: 30.0})), "zero-shot")
    assert found.cost_per_1000.status == "estimated"


def test_an_adapter_that_the_probe_did_not_try_is_an_estimate(run: Path) -> None:
    found = priced(run, saved(run, training=None, training_speeds=None))
    assert row(found, "zero-shot").cost_per_1000.status == "measured"
    assert row(found, "lora").cost_per_1000.status == "estimated"


def test_a_probe_without_a_name_prices_the_machine_of_the_economics(run: Path) -> None:
    found = priced(run, saved(run, machine=""))
    hour = Pricing(found).machine
    assert hour is not None
    assert hour.name == "cpu-2"
    assert row(found, "zero-shot").cost_per_1000.status == "measured"


def test_the_price_of_the_hour_may_be_given_too(run: Path) -> None:
    found = priced(run, saved(run), changes=("gpu_hour=3.6",))
    seconds = Pricing(found).busy_seconds(cell(found, "zero-shot")).value
    assert seconds is not None
    assert row(found, "zero-shot").cost_per_1000.value == pytest.approx(seconds / 0.5)


def test_the_verdict_is_made_of_the_new_costs(run: Path) -> None:
    made = [cases.of_task(priced(run, *probes), TASK) for probes in ((), (saved(run),))]
    before, after = (c.candidates[1].ownership.request.machine for c in made if c is not None)
    assert after == pytest.approx(1e-3 * (row(priced(run, saved(run)), "zero-shot").cost_per_1000.value or 0))
    assert before != pytest.approx(after)


# --- what stays the run's --------------------------------------------------------------------


def test_latencies_stay_those_of_the_run_also_for_a_ceiling(run: Path) -> None:
    economics(run, latency_ceiling=0.001)
    found = priced(run, saved(run))
    assert row(found, "zero-shot").latency == row(priced(run), "zero-shot").latency
    case = cases.of_task(found, TASK)
    assert case is not None
    assert "latency" in case.dropped[1]


def test_a_strategy_that_the_probe_does_not_know_is_projected_to_its_machine(run: Path) -> None:
    economics(run, projected=False)  # the run was made on cpu-2 itself, which is not priced now
    found = priced(run, saved(run))
    own = priced_seconds(cell(found, "majority")).value
    assert Pricing(found).busy_seconds(cell(found, "majority")).value == own
    cost = row(found, "majority").cost_per_1000
    assert (cost.status, cost.note) == ("estimated", "projected to l4")


def test_a_strategy_with_a_machine_of_its_own_keeps_it_and_its_seconds(run: Path) -> None:
    economics(run, machines={"zero-shot": "cpu-4"}, projected=False)
    found = priced(run, saved(run))
    assert row(found, "zero-shot").cost_per_1000 == row(priced(run), "zero-shot").cost_per_1000
    assert row(found, "lora").cost_per_1000 != row(priced(run), "lora").cost_per_1000


def test_a_strategy_whose_own_machine_is_the_probes_is_measured_there(run: Path) -> None:
    economics(run, machines={"zero-shot": "l4"})
    assert row(priced(run, saved(run)), "zero-shot").cost_per_1000.status == "measured"


def test_one_off_work_that_the_probe_cannot_know_is_kept_and_makes_the_sum_an_estimate(run: Path) -> None:
    solver = {"phase": "train", "quantity": "seconds", "amount": amount(36.0)}
    book(run, "lora", solver)
    found = priced(run, saved(run))
    spent = Pricing(found).one_off_seconds(cell(found, "lora"))
    assert spent.seconds.value == pytest.approx(14320 / 500 + 36.0)
    assert row(found, "lora").one_off.status == "estimated"


def test_embedding_is_replaced_where_the_probe_knows_the_embedding_model(run: Path) -> None:
    for quantity, value in (("seconds", 50.0), ("embedded_tokens", 4000.0)):
        entry = {"phase": "index", "quantity": quantity, "amount": amount(value), "model": "letters"}
        book(run, "zero-shot", entry)
    known, unknown = (
        Pricing(priced(run, saved(run, f"{i}.json", embedder=e)))
        for i, e in enumerate(("letters", "another"))
    )
    at = cell(priced(run), "zero-shot")
    assert known.one_off_seconds(at).seconds.value == pytest.approx(2.0)
    assert unknown.one_off_seconds(at).seconds.value == 50.0


# --- what is said ----------------------------------------------------------------------------


def test_the_lines_of_ownership_name_the_probe_instead_of_the_ledgers_seconds(run: Path) -> None:
    found = priced(run, saved(run))
    own = ownership.of_row(row(found, "lora"), Pricing(found))
    sources = {line.what: line.source for line in own.lines}
    assert re.match(r"28\.6 s by a probe of l4 \(2026-01-01\) x 0\.8", sources["training"])
    assert "s by a probe of l4 (2026-01-01) x" in sources["machine time"]
    plain = ownership.of_row(row(priced(run), "lora"), Pricing(priced(run)))
    assert any(line.source.startswith("ledger: 81.0 s x") for line in plain.lines)


def test_every_report_says_which_probe_and_that_latencies_are_the_runs(
    run: Path, breakeven: Callable[..., Any]
) -> None:
    file, said = saved(run), {}
    for format in ("html", "md", "json"):
        out = run.parent / f"out.{format}"
        assert breakeven("report", run, "--probe", file, "--format", format, "-o", out).code == 0
        said[format] = out.read_text(encoding="utf-8")
    for format in ("html", "md"):
        assert "probe of l4 (2026-01-01)" in said[format]
        assert "latencies and training times are those measured by the run on its own machine" in said[format]
    for fact in ("l4 (NVIDIA L4)", "torch 2", "smollm2-135m-instruct", "1 Jan 2026"):
        assert fact in said["html"].split('id="probes"')[1]
    (probe,) = json.loads(said["json"])["probes"]
    assert (probe["machine"], probe["created"][:10], probe["versions"]) == (
        "l4",
        "2026-01-01",
        {"torch": "2"},
    )
    assert json.loads(said["json"])["prices"]["used"]["machine_hours"]["l4"]["date"]


def test_a_ceiling_beside_a_probe_is_said_to_hold_for_the_runs_machine(
    run: Path, breakeven: Callable[..., Any]
) -> None:
    economics(run, latency_ceiling=0.5)
    said = breakeven("report", run, "--probe", saved(run), "--format", "html", "-o", "-").out
    assert "your latency ceiling is held against those latencies" in said
    assert re.search(r"its p95 on the run(&#39;|')s own machine is", said)


def test_without_a_probe_a_report_speaks_of_none(run: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("report", run, "--format", "html", "-o", "-", "--no-examples").out
    assert "a probe" not in said
    assert 'id="probes"' not in said


# --- what is refused -------------------------------------------------------------------------


def refused(run: Path, *probes: Path) -> str:
    with pytest.raises(UserError) as caught:
        priced(run, *probes)
    assert caught.value.field == "--probe"
    return str(caught.value)


def test_a_model_that_the_run_does_not_have_is_refused(run: Path, breakeven: Callable[..., Any]) -> None:
    file = saved(run, model="llama", digest="another")
    said = breakeven("report", run, "--probe", file)
    assert said.code == 2
    assert "--probe" in said.err
    assert "llama" in said.err
    assert "smollm2-135m-instruct" in said.err


def two_models(run: Path) -> None:
    """Let the run have a second model."""
    info = json.loads((run / "run.json").read_text())
    info["models"]["large"] = {**info["models"]["default"], "name": "large", "digest": "second"}
    (run / "run.json").write_text(json.dumps(info))


def test_probes_of_two_models_are_taken_together(run: Path) -> None:
    two_models(run)
    both = saved(run), saved(run, "q.json", model="large", digest="second")
    assert row(priced(run, *both), "lora").cost_per_1000 == row(priced(run, both[0]), "lora").cost_per_1000


@pytest.mark.parametrize("other", ["cpu-2", ""])
def test_probes_of_two_machines_are_refused(run: Path, other: str) -> None:
    two_models(run)
    said = refused(run, saved(run), saved(run, "q.json", digest="second", machine=other))
    assert f"different machines: l4 and {other or 'NVIDIA L4'}" in said


def test_two_probes_of_one_model_are_refused(run: Path) -> None:
    assert "same model" in refused(run, saved(run), saved(run, "q.json"))


def test_a_machine_without_a_price_is_refused(run: Path) -> None:
    assert "no price of 'cpu-3000'" in refused(run, saved(run, machine="cpu-3000"))


def test_a_file_that_is_no_probe_is_refused(run: Path) -> None:
    assert "no such file" in refused(run, run / "nothing.json")
