"""`breakeven compare`: what changed between two runs, whether it is chance, why, and when a build fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from run_fixture import write_run

from breakeven.harness import results, stats
from breakeven.harness.comparing import Change, Comparison, Limits, RowComparison, compare

STRATEGIES = ("majority", "zero-shot", "few-shot-similar", "lora")


def run(folder: Path, **more: Any) -> Path:
    made = {"tasks": ["support_intents", "handbook_qa"], "strategies": STRATEGIES, "failing": False, **more}
    return write_run(folder, **made)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON or YAML file."""
    read, write = (yaml.safe_load, yaml.safe_dump) if path.suffix == ".yaml" else (json.loads, json.dumps)
    value = read(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(write(value), encoding="utf-8")


def edit_rows(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    rows = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return run(tmp_path / "a")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    """The same, but for `few-shot-similar`, which is wrong more often."""
    return run(tmp_path / "b", quality={"few-shot-similar": {"support_intents": 0.6}})


def compared(a: Path, b: Path, limits: Limits | None = None) -> Comparison:
    return compare(results.load(a), results.load(b), limits)


def row(found: Comparison, strategy: str, task: str = "support_intents") -> RowComparison:
    return next(r for t in found.tasks if t.name == task for r in t.rows if r.label == strategy)


def fall(a: Path, b: Path) -> float:
    """By how much `few-shot-similar` is worse in `b`, from the tables."""
    return qualities(a, b)[0] - qualities(a, b)[1]


def qualities(*folders: Path) -> list[float]:
    tables = [results.load(f).tables["support_intents"] for f in folders]
    return [
        r.quality for rows in tables for r in rows if r.label == "few-shot-similar" and r.quality is not None
    ]


# --- quality ---------------------------------------------------------------------------------


def test_a_run_compared_with_itself_shows_no_change(a: Path) -> None:
    found = compared(a, a, Limits(0.0, 0.0))
    rows = [r for t in found.tasks for r in t.rows if r.quality.before is not None]
    assert len(rows) == 7
    assert all(r.unchanged and r.cost.relative == 0 and not r.why for r in rows)
    assert (found.crossed, found.why) == ([], ())


def test_a_change_in_quality_is_the_paired_difference(a: Path, b: Path) -> None:
    found = row(compared(a, b), "few-shot-similar")
    scores = [
        results.load(f).cells["support_intents--few-shot-similar--s0"].scores("accuracy") for f in (b, a)
    ]
    wanted = stats.paired_difference(*scores)
    assert found.quality.difference == pytest.approx(wanted.value)
    assert found.interval == wanted.interval
    assert (found.won, found.lost) == (wanted.won, wanted.lost)
    assert found.shared == 48


def test_examples_are_paired_by_id_not_by_place(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    for name in ("tasks/support_intents/test", "cells/support_intents--lora--s0/predictions"):
        edit_rows(b / f"{name}.jsonl", lambda rows: rows[::-1])
    assert row(compared(a, b), "lora").unchanged


def test_only_examples_of_both_runs_count(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    for file in (
        b / "tasks/support_intents/test.jsonl",
        *b.glob("cells/support_intents--*/predictions.jsonl"),
    ):
        edit_rows(file, lambda rows: rows[8:])
    found = row(compared(a, b), "lora")
    assert (found.shared, found.quality.difference) == (40, 0.0)
    table = next(r for r in results.load(a).tables["support_intents"] if r.label == "lora")
    assert found.quality.before != table.quality


def test_an_example_whose_input_changed_is_not_the_same_example(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    path = b / "tasks/support_intents/test.jsonl"
    edit_rows(path, lambda rows: [{**rows[0], "input": {"text": "another"}}, *rows[1:]])
    edit(b / "tasks/support_intents/task.json", lambda t: t.update(hash="another"))
    found = compared(a, b)
    assert row(found, "lora").shared == 47
    assert "1 test examples have another input" in found.tasks[0].why


def test_seeds_are_taken_together(tmp_path: Path) -> None:
    a, b = (run(tmp_path / n, seeds=s) for n, s in (("a", (0, 1)), ("b", (0, 1, 2))))
    found = row(compared(a, b), "lora")
    wanted = [np.mean([c.aggregates["accuracy"] for c in results.load(f).cells_of("support_intents")
                       if c.strategy == "lora"]) for f in (a, b)]  # fmt: skip
    assert (found.quality.before, found.quality.after) == pytest.approx(tuple(wanted))
    assert "seeds: 0, 1, now 0, 1, 2" in found.why
    assert found.outputs == 2 * 48


def as_macro(folder: Path, draws: list[float] | None) -> None:
    """Let the first task's metric be no mean over examples."""
    edit(folder / "tasks/support_intents/task.json", lambda t: t["metrics"][0].update(additive=False))
    if draws is not None:
        (folder / "cells/support_intents--lora--s0/draws.json").write_text(json.dumps(draws))


def test_a_metric_that_is_no_mean_is_compared_by_its_draws(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    ours, theirs = np.linspace(0.4, 0.6, 200), np.linspace(0.5, 0.8, 200)
    as_macro(a, ours.tolist())
    as_macro(b, theirs.tolist())
    found = row(compared(a, b), "lora")
    assert found.interval == stats.draws_interval(theirs - ours)


def test_a_metric_that_is_no_mean_is_not_taken_of_a_part(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    as_macro(a, None)
    as_macro(b, None)
    assert "no common resamples" in row(compared(a, b), "lora").notes[0]
    for file in (
        b / "tasks/support_intents/test.jsonl",
        *b.glob("cells/support_intents--*/predictions.jsonl"),
    ):
        edit_rows(file, lambda rows: rows[8:])
    found = row(compared(a, b), "lora")
    assert (found.quality, "40 shared examples alone" in found.notes[0]) == (Change(), True)


def test_another_primary_metric_is_compared_by_one_that_both_have(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    edit(b / "tasks/handbook_qa/task.json", lambda t: t["metrics"].reverse())
    assert row(compared(a, b), "lora", "handbook_qa").metric == "exact_match"


def test_metrics_of_which_none_is_in_both_are_not_compared(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    edit(b / "tasks/support_intents/task.json", lambda t: t["metrics"][0].update(name="kappa"))
    for cell in (b / "cells").glob("support_intents--*"):
        if (cell / "predictions.jsonl").exists():
            edit_rows(cell / "predictions.jsonl", lambda rows: [{**r, "score": {"kappa": 1.0}} for r in rows])
            edit(cell / "scores.json", lambda s: s.update(kappa=1.0))
    found = row(compared(a, b, Limits(0.0)), "lora")
    assert (found.quality.difference, found.crossed) == (None, ())
    assert "by accuracy and by kappa is not compared" in found.notes[0]


# --- cost and latency ------------------------------------------------------------------------


def test_costs_and_latencies_are_those_of_the_tables(a: Path, b: Path) -> None:
    edit(b / "run.json", lambda i: i["price_book"]["machine_hours"]["cpu-2"].update(price=0.18592))
    found = row(compared(a, b), "lora")
    tables = [next(r for r in results.load(f).tables["support_intents"] if r.label == "lora") for f in (a, b)]
    assert found.cost == Change(*(t.cost_per_1000.value for t in tables))
    assert found.one_off == Change(*(t.one_off.value for t in tables))
    assert found.p95 == Change(*(t.latency[1] for t in tables if t.latency))
    assert found.cost.relative == pytest.approx(1.0)


def test_an_unknown_cost_is_no_change_and_crosses_nothing(a: Path, b: Path) -> None:
    edit(b / "suite.yaml", lambda s: s["economics"].update(hardware="nowhere"))
    found = row(compared(a, b, Limits(cost_rise=0.0)), "lora")
    assert (found.cost.after, found.cost.relative, found.crossed) == (None, None, ())
    assert any("known in the first only" in note for note in found.notes)


def test_money_in_two_currencies_is_not_compared(a: Path, b: Path) -> None:
    suite = yaml.safe_load((b / "suite.yaml").read_text())
    suite["economics"]["currency"] = "EUR"
    (b / "suite.yaml").write_text(yaml.safe_dump(suite))
    found = row(compared(a, b), "lora")
    assert found.cost == Change()
    assert "costs in USD and EUR are not compared" in found.notes


def test_a_change_from_nothing_is_infinite_not_an_error() -> None:
    assert Change(0.0, 1.0).relative == float("inf")
    assert Change(0.0, 0.0).relative == 0.0
    assert Change(None, 1.0).relative is None


# --- why -------------------------------------------------------------------------------------


def spoil_version(folder: Path) -> None:
    edit(folder / "run.json", lambda i: i["versions"].update(torch="2.14.0"))


def spoil_hardware(folder: Path) -> None:
    edit(folder / "run.json", lambda i: i["hardware"].update(cpu="Xeon"))


def spoil_price(folder: Path) -> None:
    edit(folder / "run.json", lambda i: i["price_book"]["machine_hours"]["cpu-2"].update(price=0.2))


def spoil_economics(folder: Path) -> None:
    edit(folder / "suite.yaml", lambda s: s["economics"].update(utilisation=0.9))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_version, "torch: 2.13.0, now 2.14.0"),
        (spoil_hardware, "hardware: cpu: AMD EPYC, now Xeon"),
        (spoil_price, "price of machine hours cpu-2: 0.09296 EUR (2026-10-28), now 0.2 EUR (2026-10-28)"),
        (spoil_economics, "economics: utilisation: none, now 0.9"),
    ],
)
def test_what_differs_between_the_runs_is_said(
    a: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    b = run(tmp_path / "b")
    spoil(b)
    assert compared(a, b).why == (words,)


def spoil_setting(folder: Path) -> None:
    edit(folder / "cells/support_intents--few-shot-similar--s0/cell.json",
         lambda c: c["settings"]["demonstrations"].update(k=4))  # fmt: skip


def spoil_weights(folder: Path) -> None:
    edit(folder / "run.json", lambda i: i["models"]["default"].update(digest="c0ffee"))


def spoil_size(folder: Path) -> None:
    edit(folder / "cells/support_intents--few-shot-similar--s0/cell.json", lambda c: c.update(train_size=80))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_setting, "demonstrations.k: 8, now 4"),
        (
            spoil_weights,
            "model digest: b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53, now c0ffee",
        ),
        (spoil_size, "training examples: 160, now 80"),
    ],
)
def test_what_differs_in_a_strategy_is_said(
    a: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    b = run(tmp_path / "b")
    spoil(b)
    found = row(compared(a, b), "few-shot-similar")
    assert found.before is not None
    assert found.why == (words,)


def test_corrected_references_are_the_reason_when_they_are(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")

    def correct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**r, "references": ["other"]} if i < 3 else r for i, r in enumerate(rows)]

    edit_rows(b / "tasks/support_intents/test.jsonl", correct)
    edit(b / "tasks/support_intents/task.json", lambda t: t.update(hash="another"))
    task = compared(a, b).tasks[0]
    assert task.why == ("3 test examples have other references",)


def test_another_task_hash_alone_is_said_as_such(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    edit(b / "tasks/support_intents/task.json", lambda t: t.update(hash="another"))
    assert "hash 9f1c0a3b5d7e2468, now another" in compared(a, b).tasks[0].why[0]


def test_outputs_that_changed_without_a_reason_are_counted(a: Path, b: Path, breakeven: Callable) -> None:
    found = row(compared(a, b), "few-shot-similar")
    outputs = [
        [p.output for p in results.load(f).cells["support_intents--few-shot-similar--s0"].predictions]
        for f in (a, b)
    ]
    assert found.outputs_changed == sum(x != y for x, y in zip(*outputs, strict=True)) > 0
    assert "outputs differ, though its settings and model are the same" in breakeven("compare", a, b).out


def test_a_strategy_or_task_of_one_run_only_is_shown_as_such(tmp_path: Path, breakeven: Callable) -> None:
    a = run(tmp_path / "a", tasks=["support_intents"], strategies=["zero-shot", "majority"])
    b = run(tmp_path / "b", strategies=["zero-shot", "lora"])
    found = compared(a, b, Limits(1.0, 0.0))
    assert [(r.label, r.before is None, r.after is None) for r in found.tasks[0].rows] == [
        ("zero-shot", False, False),
        ("lora", True, False),
        ("majority", False, True),
    ]
    assert found.only_in == {"before": (), "after": ("handbook_qa",)}
    assert found.crossed == []
    assert "only in b: handbook_qa" in breakeven("compare", a, b).out


def test_a_model_of_another_name_is_still_the_same_row(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    edit(b / "run.json", lambda i: i.update(models={"small": i["models"]["default"]}))
    for cell in (b / "cells").iterdir():
        edit(cell / "cell.json", lambda c: c.update(model="small" if c["model"] else None))
    assert row(compared(a, b), "lora").why == ("model: default, now small",)


# --- thresholds ------------------------------------------------------------------------------


def test_quality_that_falls_too_far_fails_with_its_interval(a: Path, b: Path) -> None:
    (said,) = compared(a, b, Limits(quality_drop=0.02)).crossed
    worse = f"accuracy fell by {fall(a, b):.4f}, more than 0.02 (95 %"
    assert said.startswith(f"support_intents, few-shot-similar: {worse}")
    assert said.endswith("which excludes no change)")


def test_a_fall_that_may_be_chance_fails_too_and_says_so(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    cell = b / "cells/support_intents--lora--s0"

    def one_wrong(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        i = next(i for i, r in enumerate(rows) if r["score"]["accuracy"] == 1)
        return [{**r, "score": {"accuracy": 0.0}} if j == i else r for j, r in enumerate(rows)]

    edit_rows(cell / "predictions.jsonl", one_wrong)
    (said,) = compared(a, b, Limits(quality_drop=0.02)).crossed
    assert "fell by 0.0208" in said
    assert said.endswith("which includes no change)")
    assert compared(a, b, Limits(quality_drop=0.021)).crossed == []


def test_a_gain_is_no_fall_whatever_the_metrics_direction(a: Path, b: Path) -> None:
    assert compared(b, a, Limits(quality_drop=0.0)).crossed == []
    for folder in (a, b):
        edit(
            folder / "tasks/support_intents/task.json",
            lambda t: t["metrics"][0].update(higher_is_better=False),
        )
    assert compared(a, b, Limits(quality_drop=0.0)).crossed == []
    assert f"accuracy rose by {fall(a, b):.4f}" in compared(b, a, Limits(quality_drop=0.0)).crossed[0]


def test_a_fall_is_measured_on_the_metrics_own_range(a: Path, b: Path) -> None:
    for folder in (a, b):
        edit(folder / "tasks/support_intents/task.json", lambda t: t["metrics"][0].update(range=[0, 10]))
    assert compared(a, b, Limits(quality_drop=fall(a, b) / 10)).crossed == []
    assert len(compared(a, b, Limits(quality_drop=0.99 * fall(a, b) / 10)).crossed) == 1


def test_a_strategy_that_has_no_result_any_more_fails(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    edit(
        b / "cells/support_intents--lora--s0/status.json",
        lambda s: s.update(state="failed", reason="no memory"),
    )
    (said,) = compared(a, b, Limits(quality_drop=0.02)).crossed
    assert said == "support_intents, lora: has no result any more: failed: no memory"


def test_costs_that_rise_too_far_fail(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b")
    spoil_price(b)
    said = compared(a, b, Limits(cost_rise=1.0)).crossed
    assert len(said) == 7
    assert said[0].endswith("the cost of 1,000 requests rose by 115.1 %, more than 100 %")
    assert compared(a, b, Limits(cost_rise=1.2)).crossed == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--max-quality-drop", "0.4"), 0),
        (("--max-quality-drop", "0.02"), 1),
        (("--max-cost-rise", "0.1"), 0),
        (("--max-quality-drop", "-1"), 2),
        (("--format", "yaml"), 2),
    ],
)
def test_the_exit_code_is_for_a_build(
    a: Path, b: Path, breakeven: Callable, options: tuple[str, ...], code: int
) -> None:
    assert breakeven("compare", a, b, *options).code == code


def test_a_folder_that_is_no_run_is_a_mistake(a: Path, tmp_path: Path, breakeven: Callable) -> None:
    said = breakeven("compare", a, tmp_path)
    assert (said.code, "not a run folder" in said.err) == (2, True)


# --- formats ---------------------------------------------------------------------------------


def test_json_has_every_number_unrounded(a: Path, b: Path, breakeven: Callable) -> None:
    document = json.loads(breakeven("compare", a, b, "--format", "json", "--max-quality-drop", "0.02").out)
    found = row(compared(a, b), "few-shot-similar")
    facts = next(r for r in document["tasks"][0]["rows"] if r["strategy"] == "few-shot-similar")
    assert found.interval is not None
    assert facts["quality"]["difference"] == found.quality.difference
    assert (facts["quality"]["low"], facts["quality"]["excludes_zero"]) == (found.interval.low, True)
    assert facts["cost_per_1000_requests"]["before"] == found.cost.before
    assert len(document["crossed"]) == 1


def test_markdown_is_a_table_of_equal_width_with_what_was_passed_first(
    a: Path, b: Path, breakeven: Callable
) -> None:
    out = breakeven("compare", a, b, "--format", "md", "--max-quality-drop", "0.02").out
    assert out.splitlines()[2].startswith("- **threshold passed:** support\\_intents: few-shot-similar: ")
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {7}
    found = row(compared(a, b), "few-shot-similar")
    assert found.interval is not None
    before, after = qualities(a, b)
    change = f"{after - before:+.3f} ({found.interval.low:+.3f}..{found.interval.high:+.3f})"
    assert f"| few-shot-similar | {before:.3f} → {after:.3f} | {change} |" in out


def test_markdown_of_a_hostile_name_holds_no_markup(tmp_path: Path, breakeven: Callable) -> None:
    a, b = (run(tmp_path / n) for n in "ab")
    for folder in (a, b):
        edit(folder / "run.json", lambda i: i.update(name="<script>|\n# x"))
    assert "<script>" not in breakeven("compare", a, b, "--format", "md").out


def test_text_names_what_changed_and_what_did_not(a: Path, b: Path, breakeven: Callable) -> None:
    out = breakeven("compare", a, b).out
    first_task = out[: out.index("handbook_qa")]
    lines = {line.split()[0]: line for line in first_task.splitlines() if line.strip()}
    assert "same outputs" in lines["lora"]
    assert "{:.3f} → {:.3f}".format(*qualities(a, b)) in lines["few-shot-similar"]
    assert "THRESHOLD" not in out
