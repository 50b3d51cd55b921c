"""`breakeven compare`: whether the verdict changed between two runs, what turned it, and what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from run_fixture import write_run

from breakeven.harness import cases, results, wording
from breakeven.harness._verdicts import VerdictChange
from breakeven.harness.comparing import Limits, compare
from breakeven.harness.decision import decide

TASK = "support_intents"
PLAIN = {"zero-shot": 0.3, "lora": 0.95}
#: At a worth of nothing the cheap strategy wins, at 100 a correct answer the good one.
CHEAP = {"requests_per_month": 1000, "people": {"hourly_rate": 60}, "value_per_correct": 0.0}
DEAR = {**CHEAP, "value_per_correct": 100.0}


def run(folder: Path, quality: dict[str, float], economics: dict[str, Any]) -> Path:
    made = write_run(
        folder, tasks=[TASK], strategies=list(quality), examples=96, failing=False,
        quality={name: {TASK: share} for name, share in quality.items()},
    )  # fmt: skip
    suite = yaml.safe_load((made / "suite.yaml").read_text())
    suite["economics"].update(economics)
    (made / "suite.yaml").write_text(yaml.safe_dump(suite))
    return made


def change(a: Path, b: Path) -> VerdictChange:
    return compare(results.load(a), results.load(b)).tasks[0].verdict


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return run(tmp_path / "a", PLAIN, DEAR)


def test_a_verdict_is_that_of_each_runs_own_report(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b", PLAIN, CHEAP)
    found = change(a, b)
    for side, folder in ((found.before, a), (found.after, b)):
        loaded = results.load(folder)
        case = cases.of_task(loaded, TASK)
        assert case is not None
        verdict = decide(case)
        assert side is not None
        assert (side.kind, side.confidence) == (verdict.kind, verdict.confidence)
        assert side.answer == wording.of_task(loaded, TASK).answer
        assert verdict.choice is not None
        assert side.choice == case.candidates[verdict.choice].label


def test_a_run_beside_itself_has_the_same_verdict_and_no_reasons(a: Path) -> None:
    found = change(a, a)
    assert (found.changed, found.by, found.why) == (False, "", ())
    assert found.before == found.after
    assert found.after is not None
    assert (found.after.answer, found.after.choice) == ("YES", "lora")


def test_economics_that_turn_it_are_named_as_what_turned_it(a: Path, tmp_path: Path) -> None:
    found = change(a, run(tmp_path / "b", PLAIN, CHEAP))
    assert found.changed
    assert found.after is not None
    assert found.after.choice == "zero-shot"
    assert found.by == "economics"
    assert found.why == ("economics: value_per_correct: 100.0, now 0.0",)


def test_answers_that_turn_it_beside_other_economics_are_named_as_what_turned_it(
    a: Path, tmp_path: Path
) -> None:
    swapped = run(tmp_path / "b", {"zero-shot": 0.95, "lora": 0.3}, {**DEAR, "horizon_months": 13})
    found = change(a, swapped)
    assert found.changed
    assert found.by == "measurements"
    assert found.why[0] == "economics: horizon_months: none, now 13"
    assert any("outputs differ" in why for why in found.why)


def test_where_the_economics_are_the_same_only_measurements_can_have_turned_it(
    a: Path, tmp_path: Path
) -> None:
    found = change(a, run(tmp_path / "b", {"zero-shot": 0.95, "lora": 0.3}, DEAR))
    assert (found.changed, found.by) == (True, "")
    assert not any("economics" in why for why in found.why)


def test_another_incumbent_that_the_first_run_does_not_have_cannot_be_tried_there(
    a: Path, tmp_path: Path
) -> None:
    b = run(tmp_path / "b", {"majority": 0.1, **PLAIN}, {**CHEAP, "incumbent": "majority"})
    found = change(a, b)
    assert (found.changed, found.by) == (True, "")
    assert "majority: only in the second run" in found.why


def test_a_task_that_has_no_result_any_more_has_another_verdict(a: Path, tmp_path: Path) -> None:
    b = run(tmp_path / "b", PLAIN, DEAR)
    for status in b.glob("cells/*/status.json"):
        status.write_text(json.dumps({**json.loads(status.read_text()), "state": "failed"}))
    found = change(a, b)
    assert (found.changed, found.after) == (True, None)


def test_a_change_of_verdict_fails_a_build_that_asks_for_the_same(
    a: Path, tmp_path: Path, breakeven: Callable[..., Any]
) -> None:
    b = run(tmp_path / "b", PLAIN, CHEAP)
    assert breakeven("compare", a, b).code == 0
    said = breakeven("compare", a, b, "--same-verdict")
    assert said.code == 1
    assert f"THRESHOLD PASSED  {TASK}: the verdict changed" in said.out
    assert breakeven("compare", a, a, "--same-verdict").code == 0
    assert compare(results.load(a), results.load(b), Limits(verdict=True)).crossed == [
        f"{TASK}: the verdict changed"
    ]


def test_every_format_says_both_verdicts_and_why(
    a: Path, tmp_path: Path, breakeven: Callable[..., Any]
) -> None:
    b = run(tmp_path / "b", PLAIN, CHEAP)
    found = change(a, b)
    text = breakeven("compare", a, b).out
    assert "verdict: changed: YES, take lora, right in " in text
    assert "zero-shot" in text.split("verdict: changed")[1].splitlines()[0].split("→")[1]
    assert "the economics and prices alone turn it" in text
    assert (
        "inputs that differ: economics: value\\_per\\_correct"
        in breakeven("compare", a, b, "--format", "md").out
    )
    facts = json.loads(breakeven("compare", a, b, "--format", "json").out)["tasks"][0]["verdict"]
    assert (facts["changed"], facts["turned_by"], facts["why"]) == (True, "economics", list(found.why))
    assert found.before is not None
    assert facts["before"]["confidence"] == found.before.confidence
    assert "verdict: same: YES, take lora" in breakeven("compare", a, a).out


def test_markup_in_a_strategys_name_stays_text(tmp_path: Path, breakeven: Callable[..., Any]) -> None:
    a, b = (run(tmp_path / n, PLAIN, e) for n, e in (("a", DEAR), ("b", CHEAP)))
    for cell in [*a.glob("cells/*lora*/cell.json"), *b.glob("cells/*lora*/cell.json")]:
        cell.write_text(cell.read_text().replace('"strategy": "lora"', '"strategy": "<b>[x]"'))
    assert "<b>" not in breakeven("compare", a, b, "--format", "md").out
    assert "take <b>[x]" in breakeven("compare", a, b).out
