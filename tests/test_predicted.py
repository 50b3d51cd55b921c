"""An estimate kept beside its run: what reports and the command line say of it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run
from tiny_suite import letters, write_suite

from breakeven.harness import predicted, results
from breakeven.harness.estimate import CellEstimate, Estimate, Seconds
from breakeven.harness.results import CellResult, Results
from breakeven.reports._predicted import view

TASK = "support_intents"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(
        tmp_path / "r", tasks=[TASK], strategies=["majority", "zero-shot", "lora"], failing=False
    )


def foreseen(cell: CellResult) -> CellEstimate:
    """Half of the tokens that a cell read, all that it wrote and trained, a minute."""
    usage = [p.usage for p in cell.predictions]
    return CellEstimate(
        cell.id, cell.task, cell.strategy, cell.model, cell.train_size, cell.seed, "runs",
        examples=len(usage), rendered=len(usage), input_tokens=sum(u.input_tokens for u in usage) / 2,
        output_tokens=sum(u.output_tokens for u in usage),
        training_tokens=cell.ledger.total("training_tokens", "train").value or 0.0,
        training_key="a" if cell.training else "", seconds=Seconds(0.0, 0.0, 60.0, 0.0),
    )  # fmt: skip


def estimate_of(found: Results, **changes: Any) -> Estimate:
    made = Estimate(
        "fixture", "2026-11-20T08:00:00+00:00", "AMD EPYC", "cpu-2", 0.1, "USD",
        tuple(foreseen(c) for c in found.cells.values()), loading_seconds=12.0,
    )  # fmt: skip
    return replace(made, **changes)


def saved(run: Path, **changes: Any) -> Path:
    file = run.parent / "e.json"
    estimate_of(results.load(run), **changes).save(file)
    return file


def without(run: Path, strategy: str) -> tuple[CellEstimate, ...]:
    return tuple(c for c in estimate_of(results.load(run)).cells if c.strategy != strategy)


def beside(run: Path, file: Path | None = None) -> predicted.Beside:
    found = predicted.beside(results.load(run, estimate=file))
    assert found is not None
    return found


# --- what is compared ------------------------------------------------------------------------


def test_a_run_without_an_estimate_has_nothing_beside_it(run: Path) -> None:
    assert predicted.beside(results.load(run)) is None


def test_each_strategy_and_the_whole_run_stand_beside_what_was_predicted(run: Path) -> None:
    found = beside(run, saved(run))
    assert [(r.task, r.strategy) for r in found.rows] == [
        (TASK, s) for s in ("majority", "zero-shot", "lora")
    ]
    zero = found.rows[1]
    assert zero.input_tokens[1] == 2 * zero.input_tokens[0] > 0
    assert found.whole is not None
    assert found.whole.cells == 3
    assert found.whole.training_tokens == (14320, 14320)
    assert found.whole.seconds == (3 * 60 + 12, 312.0)
    assert (found.only_predicted, found.only_run, found.sentences()) == ((), (), [])


def test_cells_of_only_one_of_the_two_are_counted_and_their_minutes_not_compared(run: Path) -> None:
    fewer = without(run, "majority")
    extra = replace(fewer[0], id="extra", strategy="extra")
    found = beside(run, saved(run, cells=(*fewer, extra)))
    assert (found.only_predicted, found.only_run) == (("extra",), (f"{TASK}--majority",))
    assert found.whole is not None
    assert found.whole.seconds == (2 * 60 + 12, None)
    assert found.sentences() == [
        "1 cell was estimated and has no result in this run: extra",
        f"1 cell of this run was not estimated to run: {TASK}--majority",
    ]
    assert found.line().endswith("(2 cells in only one of the two)")


def test_a_cell_that_failed_is_predicted_only_and_the_runs_minutes_hold_it(run: Path) -> None:
    file = saved(run)
    status = run / f"cells/{TASK}--lora--s0/status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "state": "failed"}))
    found = beside(run, file)
    assert found.only_predicted == (f"{TASK}--lora--s0",)
    assert found.whole is not None
    assert found.whole.seconds[1] is None


def test_a_cell_that_was_not_to_run_is_not_missed(run: Path) -> None:
    cells = estimate_of(results.load(run)).cells
    idle = replace(cells[0], id="idle", state="not-applicable")
    assert beside(run, saved(run, cells=(*cells, idle))).only_predicted == ()


def test_folds_are_compared_one_by_one(run: Path) -> None:
    loaded = results.load(run)
    cell = loaded.cells[f"{TASK}--zero-shot"]
    parts = tuple(replace(cell, id=f"{cell.id}--f{n}", fold=n) for n in (1, 2))
    joined = replace(loaded, cells={cell.id: replace(cell, parts=parts)})
    made = estimate_of(loaded, cells=tuple(foreseen(p) for p in parts))
    found = predicted.beside(replace(joined, estimate=made))
    assert found is not None
    assert found.whole is not None
    assert (found.whole.cells, found.only_run) == (2, ())


# --- what reports say ------------------------------------------------------------------------


def test_every_report_shows_an_estimate_that_is_given(run: Path, breakeven: Callable[..., Any]) -> None:
    file, said = saved(run, cells=without(run, "majority")), {}
    for format in ("html", "md", "json"):
        out = run.parent / f"out.{format}"
        assert breakeven("report", run, "--estimate", file, "--format", format, "-o", out).code == 0
        said[format] = out.read_text(encoding="utf-8")
    assert "Predicted against actual" in said["html"]
    assert "1 cell of this run was not estimated to run" in said["html"]
    assert "| **the whole run** |  | 2 |" in said["md"]
    assert "14,320 → 14,320 (1.00)" in said["md"]
    assert "(2.00)" in said["md"]
    found = json.loads(said["json"])["predicted"]
    assert found["whole"]["training_tokens"] == {"predicted": 14320, "actual": 14320}
    assert found["only_run"] == [f"{TASK}--majority"]
    assert not (run / "estimate.json").exists()


def test_a_report_of_a_run_without_an_estimate_has_no_such_section(
    run: Path, breakeven: Callable[..., Any]
) -> None:
    for format in ("html", "md"):
        assert "Predicted against" not in breakeven("report", run, "--format", format, "-o", "-").out
    assert json.loads(breakeven("report", run, "--format", "json", "-o", "-").out)["predicted"] is None


def test_names_from_the_estimate_are_escaped(run: Path, breakeven: Callable[..., Any]) -> None:
    cells = without(run, "majority")
    nasty = replace(cells[0], id="<script>alert(1)</script>")
    said = breakeven("report", run, "--estimate", saved(run, cells=(*cells, nasty)), "-o", "-").out
    assert "<script>alert(1)" not in said
    assert "&lt;script&gt;alert(1)" in said


# --- on the command line ---------------------------------------------------------------------


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a suite that needs no language model."""
    monkeypatch.chdir(tmp_path)
    letters(monkeypatch)
    write_suite(tmp_path, tmp_path / "no-model", models={}, strategies={"majority": {}})
    return tmp_path


def test_a_run_keeps_its_estimate_and_ends_with_both_in_one_line(
    at: Path, breakeven: Callable[..., Any]
) -> None:
    assert breakeven("estimate", "tiny.yaml", "--save", "e.json").code == 0
    said = breakeven("run", "tiny.yaml", "--estimate", "e.json")
    assert said.code == 0, said.err
    (line,) = [x for x in said.out.splitlines() if x.startswith("predicted and taken")]
    assert " min" in line
    assert Estimate.load(at / "runs/tiny-1/estimate.json") == Estimate.load(at / "e.json")
    assert 'id="predicted"' in (at / "runs/tiny-1/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.update(suite="another"), "an estimate of the suite 'another', not of 'tiny'"),
        (lambda e: e.pop("cells"), "holds no estimate"),
    ],
)
def test_a_wrong_estimate_is_refused_before_anything_runs(
    at: Path, breakeven: Callable[..., Any], change: Callable[[Any], None], words: str
) -> None:
    made = Estimate("tiny", "", "", "", None, "USD", ()).to_json()
    change(made)
    (at / "e.json").write_text(json.dumps(made))
    said = breakeven("run", "tiny.yaml", "--estimate", "e.json")
    assert (said.code, words in said.err, "--estimate" in said.err) == (2, True, True)
    assert not (at / "runs").exists()


def test_a_report_refuses_the_estimate_of_another_suite(run: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("report", run, "--estimate", saved(run, suite="another"))
    assert said.code == 2
    assert "'another', not of 'fixture'" in said.err


def test_a_resumed_run_takes_no_estimate(run: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("run", "--resume", run, "--estimate", saved(run))
    assert said.code == 2
    assert "breakeven report" in said.err


def test_minutes_too_short_to_be_told_have_no_ratio(run: Path) -> None:
    quick = {"majority": 0.001}
    cells = [
        replace(foreseen(c), seconds=Seconds(0.0, 0.0, quick.get(c.strategy, 60.0), 0.0))
        for c in results.load(run).cells.values()
    ]
    found = view(results.load(run, estimate=saved(run, cells=tuple(cells))))
    assert found is not None
    minutes = {line.strategy: line.amounts[-1] for line in found.lines}
    assert minutes["majority"] == ("<0.1", "<0.1", "–")
    assert float(minutes["lora"][2]) > 0
