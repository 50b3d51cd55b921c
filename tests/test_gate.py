"""`breakeven run` looks before it spends: at trainings, and at what others would bill."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from fine_tuning_server import Azure, FineTuningServer
from hosted_world import read, state, suite
from strategy_fakes import LetterEmbedder
from test_run import STRATEGIES
from tiny_suite import letters, tiny_model, write_suite

from breakeven.harness import billed, pool, spending
from breakeven.harness import run as runs
from breakeven.harness.billed import Bill
from breakeven.harness.cli import _gate
from breakeven.harness.ledger import Ledger
from breakeven.harness.store import ArtifactStore

Start = Callable[..., FineTuningServer]
Call = Callable[..., Said]
QUICK = {"examples": 0, "concurrency": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from breakeven.harness.cli import _shown
    from breakeven.harness.cli import run as cli_run

    letters(monkeypatch)
    monkeypatch.setattr(cli_run, "_show", lambda console, folder: "")
    monkeypatch.setattr(_shown, "made_from", lambda folder, console: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lora(**weights: Any) -> dict[str, Any]:
    return {"lora": {"weights": {"rank": 4, "epochs": 1, **weights}}}


# --- trainings -------------------------------------------------------------------------------


def test_what_is_found_before_a_training_is_said_kept_and_reported(
    model: Path, folder: Path, breakeven: Call
) -> None:
    file = write_suite(folder, model, strategies=lora(max_length=60), timing=QUICK)
    said = breakeven("run", file, "--name", "r")
    assert said.code == 0, said.out + said.err
    (line,) = [text for text in said.out.splitlines() if "lose the beginning" in text]
    assert line.startswith("preflight: weather--lora--s0: length: 10 of 10 examples")
    assert "1 training looked at before the first one started, 1 warning" in said.out
    (look,) = read(folder / "runs/r/preflight.json")
    (training,) = look["trainings"]
    assert training["cell"] == "weather--lora--s0"
    assert [part["learned"] for part in training["example"]] == [False, True]
    levels = {found["check"]: found["level"] for found in training["findings"]}
    assert levels == {"prompt": "ok", "mask": "ok", "end": "ok", "length": "warning", "duplicates": "ok"}
    page = breakeven("report", "runs/r", "-o", "-").out
    assert "1 training looked at before the first one started" in page
    assert "10 of 10 examples lose the beginning of their prompt" in page
    assert not (folder / "runs/r/scratch").exists()


def test_what_would_spoil_a_training_stops_the_run_and_leaves_nothing(
    model: Path, folder: Path, breakeven: Call
) -> None:
    file = write_suite(folder, model, strategies={"majority": {}, **lora(max_length=3)}, timing=QUICK)
    said = breakeven("run", file, "--name", "r")
    assert said.code == 2
    assert "weather--lora--s0: length: 10 examples are dropped" in said.err
    assert "Nothing was trained or sent" in said.err
    assert "--no-preflight" in said.err
    assert not (folder / "runs/r").exists()
    assert "[1/2]" not in said.out


def test_a_run_that_is_not_looked_at_says_so(model: Path, folder: Path, breakeven: Call) -> None:
    file = write_suite(folder, model, strategies={"majority": {}, **lora(max_length=3)}, timing=QUICK)
    said = breakeven("run", file, "--name", "r", "--no-preflight")
    assert said.code == 1  # the training fails by itself
    assert state(folder, "weather--majority")[0] == "done"
    assert read(folder / "runs/r/run.json")["preflight"]["said"] == "skipped (--no-preflight)"
    assert "skipped (--no-preflight)" in breakeven("report", "runs/r", "-o", "-").out


def test_a_resumed_run_looks_at_trainings_that_have_not_begun(
    model: Path, folder: Path, breakeven: Call
) -> None:
    file = write_suite(folder, model, strategies={"majority": {}, **lora()}, timing=QUICK)
    assert breakeven("run", file, "--name", "r", "--only", "majority").code == 0
    frozen = folder / "runs/r/suite.yaml"
    text = frozen.read_text()
    frozen.write_text(text.replace("rank: 4", "rank: 4\n      max_length: 3"))
    said = breakeven("run", "--resume", "runs/r", "--only", "*")
    assert said.code == 2
    assert "examples are dropped" in said.err
    assert not (folder / "runs/r/cells/weather--lora--s0").exists()
    frozen.write_text(text)
    assert breakeven("run", "--resume", "runs/r", "--only", "*").code == 0
    assert "1 training looked at" in read(folder / "runs/r/run.json")["preflight"]["said"]
    again = breakeven("run", "--resume", "runs/r")
    assert "looked at" not in again.out
    assert len(read(folder / "runs/r/preflight.json")) == 1


def test_too_few_rows_of_a_smaller_training_size_are_seen_too(
    model: Path, folder: Path, breakeven: Call
) -> None:
    file = write_suite(folder, model, strategies=lora(), train_sizes=[0, "all"], timing=QUICK)
    said = breakeven("run", file, "--name", "r")
    assert said.code == 2
    assert "there are no training examples with train_size 0" in said.err


def test_a_strategy_that_does_not_show_its_training_is_named(
    folder: Path, breakeven: Call, model: Path
) -> None:
    (folder / "mine.py").write_text(STRATEGIES)
    strategies = {"mine": {"strategy": "mine.py:Seeded"}, "plain": {"strategy": "mine.py:LastWord"}}
    said = breakeven("run", write_suite(folder, model, strategies=strategies, timing=QUICK), "--name", "r")
    assert said.code == 0, said.err
    assert "preflight: not looked at: mine, which does not show what it trains on" in said.out
    assert read(folder / "runs/r/preflight.json")[0]["not_looked_at"] == ["mine"]


def test_where_nothing_is_trained_nothing_is_looked_at(folder: Path, breakeven: Call, model: Path) -> None:
    said = breakeven(
        "run", write_suite(folder, model, strategies={"majority": {}}, timing=QUICK), "--name", "r"
    )
    assert said.code == 0
    assert "preflight" not in said.out
    assert not (folder / "runs/r/preflight.json").exists()


def test_what_was_imported_is_not_looked_at() -> None:
    def spec(**settings: Any) -> Any:
        return runs.CellSpec("t--a--s0", "t", "a", "levers", settings, "default", 5, 0)

    assert _gate._trains(spec(weights={"rank": 4}))
    assert not _gate._trains(spec(weights={"trainer": "imported", "adapter": "x"}))
    assert not _gate._trains(spec())


def test_documents_that_were_embedded_to_look_are_not_embedded_again(
    model: Path, folder: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        pool.Engines, "embedder", lambda self, ledger, fresh=False: LetterEmbedder(ledger, calls)
    )
    strategies = {"rag+lora": {"context": {"k": 1}, "weights": {"rank": 4, "epochs": 1}}}
    said = breakeven("run", write_suite(folder, model, strategies=strategies, timing=QUICK), "--name", "r")
    assert said.code == 0, said.out + said.err
    pages = [texts for phase, texts in calls if phase == "index" and "rain" in texts[0]]
    assert len(pages) == 1
    cell = Ledger.from_json(read(folder / "runs/r/cells/weather--rag+lora--s0/ledger.json"))
    assert [e.artifact is not None for e in cell.select("index", "embedded_tokens")] == [True]


def test_what_was_made_under_its_own_meter_is_no_gap_in_a_cells(tmp_path: Path) -> None:
    class Meter:
        name = "a meter"

        def joules(self) -> float:
            return 5.0

    def get(**more: Any) -> tuple[ArtifactStore, Ledger]:
        ledger = Ledger()
        artifacts = ArtifactStore(tmp_path, ledger, **more)
        artifacts.get("index", {"of": "pages"}, lambda folder, ledger: None)
        return artifacts, ledger

    meter: Any = Meter
    get(meter=meter)
    later, ledger = get()
    assert ledger.total("joules", "index").value == 5.0
    assert not later.reused


# --- money -----------------------------------------------------------------------------------


def hosted_run(breakeven: Call, file: Path, *more: str) -> Said:
    return breakeven("run", file, "--name", "r", "--prices", "prices.yaml", *more)


def test_a_bill_above_the_limit_wants_to_be_accepted_before_anything_is_sent(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    file = suite(server, hosted, limits={"ask_above": 0.001}, timing=QUICK)
    said = hosted_run(breakeven, file)
    assert said.code == 2
    assert "would bill about" in said.err
    assert "for 1 training" in said.err
    assert "for the answers of 2 cells at most" in said.err
    assert "--yes" in said.err
    assert not server.arrived("POST", ".*")
    assert not (hosted / "runs/r").exists()
    accepted = hosted_run(breakeven, file, "--yes")
    assert accepted.code == 0, accepted.out + accepted.err
    (look,) = read(hosted / "runs/r/preflight.json")
    bill, purse = look["bill"], read(hosted / "runs/r/purse.json")
    assert bill["total"] == pytest.approx(bill["training"] + bill["answers"])
    assert look["accepted"] >= bill["total"] >= purse["spent"] * 0.5  # foretold by a rule of thumb
    (hosted / "runs/r/cells/weather--zero-shot/status.json").unlink()
    assert breakeven("run", "--resume", "runs/r").code == 0  # what was accepted holds


def test_a_dry_run_says_what_would_be_billed(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning()
    said = breakeven("run", suite(server, hosted), "--dry-run", "--prices", "prices.yaml")
    assert said.code == 0
    assert "money: 127.0.0.1" in said.out
    assert "for 1 training" in said.out
    assert not server.arrived(".*", ".*")


def test_the_hours_of_a_deployment_are_in_the_bill(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server: Any = tuning(Azure)
    said = hosted_run(breakeven, suite(server, hosted, limits={"ask_above": 5}))
    assert said.code == 2
    found = float(said.err.partition("cells at most, ")[2].partition(" for 1 deployment")[0])
    assert found >= 36.0  # an hour until it serves, which its settings allow, at 36 USD
    assert not server.arrived("POST", ".*")


def test_what_has_no_price_wants_to_be_accepted_too(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        billed, "foresee", lambda *_: Bill("USD", cells=1, hosts=("h",), unknown=("x",), paying=("x",))
    )
    said = hosted_run(breakeven, suite(tuning(), hosted))
    assert said.code == 2
    assert "nobody knows the price of x" in said.err
    assert "not known in full" in said.err


def test_a_strategy_that_says_nothing_before_it_runs_has_no_known_bill(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    (hosted / "mine.py").write_text(
        STRATEGIES.replace("varies_with = frozenset()", "varies_with = frozenset({'model'})")
    )
    strategies = {"mine": {"strategy": "mine.py:LastWord"}}
    said = hosted_run(breakeven, suite(tuning(), hosted, strategies=strategies))
    assert said.code == 2
    assert "nobody knows the price of weather--mine" in said.err
    allowed = suite(tuning(), hosted, strategies=strategies, limits={"allow_unpriced": True}, timing=QUICK)
    assert hosted_run(breakeven, allowed).code == 0


def test_a_training_under_way_is_accepted_once(tuning: Start, hosted: Path, breakeven: Call) -> None:
    """What is set aside for it is a byte to a token; what was accepted is an estimate."""
    hold = threading.Event()
    server = tuning(hold=hold)
    file = suite(server, hosted, weights={"wait": 0}, limits={"ask_above": 0.01}, timing=QUICK)
    assert hosted_run(breakeven, file, "--yes").code == 3
    stands = spending.standing(hosted / "runs/r/purse.json")
    accepted = read(hosted / "runs/r/preflight.json")[0]["accepted"]
    assert read(hosted / "runs/r/purse.json")["spent"] > accepted
    assert stands.spent + sum(stands.open.values()) < accepted
    assert breakeven("run", "--resume", "runs/r").code == 3  # nothing more is asked for
    hold.set()
    server.run_job()
    said = breakeven("run", "--resume", "runs/r")
    assert said.code == 0, said.out + said.err
    assert spending.standing(hosted / "runs/r/purse.json").open == {}


def test_what_is_set_aside_is_never_said_to_be_spent(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning(hold=threading.Event())
    file = suite(server, hosted, weights={"wait": 0}, limits={"ask_above": 1}, timing=QUICK)
    assert hosted_run(breakeven, file).code == 3
    info = hosted / "runs/r/run.json"
    info.write_text(info.read_text().replace('"accepted": 1.0', '"accepted": 0.0'))
    frozen = hosted / "runs/r/suite.yaml"
    frozen.write_text(frozen.read_text().replace("ask_above: 1", "ask_above: 0"))
    said = breakeven("run", "--resume", "runs/r")
    assert said.code == 2
    stands = spending.standing(hosted / "runs/r/purse.json")
    told = f"on top of the {stands.spent:.4f} that was spent and about {sum(stands.open.values()):.2f}"
    assert f"{told} for what is under way" in said.err


def test_a_training_that_the_limit_stopped_is_still_to_be_billed(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    file = suite(tuning(), hosted, limits={"spend": 0.5, "ask_above": 0.02}, timing=QUICK)
    hosted_run(breakeven, file, "--yes")
    assert state(hosted)[0] == "stopped"
    frozen = hosted / "runs/r/suite.yaml"
    frozen.write_text(frozen.read_text().replace("spend: 0.5", "spend: 100"))
    breakeven("run", "--resume", "runs/r", "--yes")
    first, again = (look["bill"]["training"] for look in read(hosted / "runs/r/preflight.json"))
    assert again == first > 0


def test_on_a_terminal_it_asks(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(yes: bool) -> None:
        monkeypatch.setattr(_gate, "terminal", lambda: lambda question: asked.append(question) or yes)

    file = suite(tuning(), hosted, limits={"ask_above": 0}, strategies={"zero-shot": {}}, timing=QUICK)
    answers(False)
    assert hosted_run(breakeven, file).code == 2
    answers(True)
    assert hosted_run(breakeven, file).code == 0
    assert len(asked) == 2
    assert asked[0].endswith("Go on?")


def test_hours_of_ones_own_machine_are_never_asked_about(model: Path, folder: Path, breakeven: Call) -> None:
    file = write_suite(folder, model, strategies={"zero-shot": {}}, limits={"ask_above": 0}, timing=QUICK)
    assert breakeven("run", file, "--name", "r").code == 0


def test_choices_that_are_scored_by_prompts_are_billed_as_prompts() -> None:
    from breakeven.harness.contracts import Request
    from breakeven.harness.engines.openai import openai

    messages = ({"role": "user", "content": "wet or dry"},)
    engine = openai("m", base_url="http://127.0.0.1:9/v1", choices="prompt", reasoning_tokens=100)
    plain = engine.most_billed(Request("a", messages, max_tokens=6))
    scored = engine.most_billed(Request("a", messages, choices=("wet", "dry")))
    assert plain.output_tokens == 106
    assert scored.input_tokens > 3 * plain.input_tokens


def test_no_bar_is_drawn_over_a_question() -> None:
    from io import StringIO

    from rich.console import Console

    from breakeven.harness.progress import LiveDisplay

    with LiveDisplay(Console(file=StringIO(), force_terminal=True)) as display:
        assert display._progress is not None
        with display.paused():
            assert not display._progress.live.is_started
        assert display._progress.live.is_started
