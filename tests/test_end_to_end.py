"""The main job on the real default model, at reduced sizes: prompt, retrieve, fine-tune, compare, report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_server import KEY, OpenAIServer, serves

pytestmark = pytest.mark.model

SUITE: dict[str, Any] = {
    "suite": "small",
    "tasks": {
        "support_intents": {"limits": {"train": 32, "validation": 2, "test": 4}},
        "handbook_qa": {"limits": {"train": 8, "validation": 2, "test": 4}},
    },
    "strategies": {
        "zero-shot": {},
        "few-shot-similar": {"demonstrations": {"k": 2}},
        "scored": {"strategy": "levers", "answer": "choices", "tasks": ["support_intents"]},
        "rag": {"context": {"k": 1, "chunk_tokens": 80, "chunk_overlap": 8}},
        "rag+lora": {
            "context": {"k": 1, "chunk_tokens": 80, "chunk_overlap": 8},
            "weights": {"rank": 4, "epochs": 1, "batch_size": 4},
        },
        "logistic-regression": {},
    },
    "timing": {"examples": 2, "concurrency": 2},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the suite above."""
    from rich.console import Console

    from breakeven.harness import progress, run, suite

    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(json.dumps(SUITE))
    chosen = suite.load(folder / "small.yaml")
    options = run.Options(keep_prompts=True)
    outcome = run.start(chosen, folder / "r", options, progress.PlainDisplay(Console(quiet=True)))
    assert outcome.exit_code == 0
    return folder / "r"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rows(cell: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (cell / "predictions.jsonl").read_text().splitlines()]


def test_each_strategy_is_done_or_says_why_it_does_not_apply(finished: Path) -> None:
    states = {p.parent.name: read(p) for p in (finished / "cells").glob("*/status.json")}
    found = {name: s["state"] for name, s in states.items()}
    assert found["support_intents--rag"] == "not-applicable"
    assert "documents" in states["support_intents--rag"]["reason"]
    assert found["handbook_qa--logistic-regression"] == "not-applicable"
    assert found["handbook_qa--rag+lora--s0"] == "done"
    assert set(found.values()) == {"done", "not-applicable"}


def test_an_estimate_counts_the_tokens_that_the_run_then_reads_and_trains(finished: Path) -> None:
    from breakeven.harness import results, suite
    from breakeven.harness.estimate import estimate
    from breakeven.harness.predicted import predicted_against_actual

    foreseen = estimate(suite.load(finished.parent / "small.yaml"), seconds=2)
    rows = predicted_against_actual(foreseen, results.load(finished))
    for row in rows:
        assert row.input_tokens[0] == row.input_tokens[1], row
        assert row.training_tokens[0] == row.training_tokens[1], row
    predicted, actual = rows[-1].output_tokens
    assert predicted == pytest.approx(actual, rel=0.5)
    states = {c.id: c.state for c in foreseen.cells}
    assert states["support_intents--rag"] == states["handbook_qa--logistic-regression"] == "not-applicable"


def test_the_ledger_holds_what_each_phase_consumed(finished: Path) -> None:
    from breakeven.harness.ledger import Ledger

    cell = finished / "cells" / "handbook_qa--rag+lora--s0"
    ledger = Ledger.from_json(read(cell / "ledger.json"))
    usage = [r["usage"] for r in rows(cell)]
    assert ledger.total("input_tokens", "serve").value == sum(u["input_tokens"] for u in usage)
    assert ledger.total("output_tokens", "serve").value == sum(u["output_tokens"] for u in usage)
    assert ledger.total("training_tokens", "train").value == read(cell / "training.json")["training_tokens"]
    assert (ledger.total("embedded_tokens", "index").value or 0) > 5000  # the handbook
    assert (ledger.total("flops", "train").value or 0) > 4 * 1e8 * 1000
    assert (ledger.total("seconds", "train").value or 0) > 0


def test_an_index_is_computed_once_and_billed_to_both_that_need_it(finished: Path) -> None:
    from breakeven.harness.ledger import Ledger

    totals = []
    for name in ("handbook_qa--rag", "handbook_qa--rag+lora--s0"):
        ledger = Ledger.from_json(read(finished / "cells" / name / "ledger.json"))
        totals.append([e.to_json() for e in ledger.select("index")])
    assert totals[0] == totals[1]
    documents = [e["artifact"] for e in totals[0] if e["quantity"] == "embedded_tokens"]
    assert len(documents) == 1
    assert (finished / "artifacts" / documents[0]).is_dir()


def test_training_and_serving_send_the_same_prompt(finished: Path) -> None:
    """The stored serving prompt ends in a question with its passage and lists no demonstrations."""
    prompt = rows(finished / "cells" / "handbook_qa--rag+lora--s0")[0]["prompt"]
    assert [m["role"] for m in prompt] == ["system", "user"]
    first = read(finished / "tasks/handbook_qa/task.json")
    assert prompt[0]["content"].startswith(first["instructions"][:40])


def test_the_end_token_was_learned_and_the_loss_fell(finished: Path) -> None:
    training = read(finished / "cells/handbook_qa--rag+lora--s0/training.json")
    losses = [loss for _, loss in training["losses"]]
    assert losses[-1] < losses[0]
    assert 0 <= training["stop_rate"] <= 1
    assert training["answer_tokens"] < training["training_tokens"]


def test_scored_choices_always_name_a_choice(finished: Path) -> None:
    choices = set(read(finished / "tasks/support_intents/task.json")["choices"])
    assert {r["output"] for r in rows(finished / "cells/support_intents--scored")} <= choices


def test_latency_is_measured_one_request_at_a_time(finished: Path) -> None:
    timing = read(finished / "cells/support_intents--zero-shot/timing.json")
    assert timing["batch_of_one"]["n"] == 2
    assert timing["concurrent"]["concurrency"] == 2


def test_the_report_shows_every_strategy_and_every_example(finished: Path, breakeven: Callable) -> None:
    text = breakeven("report", finished, "-o", "-").out
    for name in SUITE["strategies"]:
        assert name in text
    table = breakeven("report", finished, "--format", "json", "-o", "-").out
    assert len(json.loads(table)["tasks"]) == 2


def test_an_api_strategy_is_billed_in_tokens_and_lora_on_it_does_not_apply(
    tmp_path: Path, breakeven: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakeven.harness.engines.local import local

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_KEY", KEY)
    engine = local("smollm2-135m-instruct")
    with OpenAIServer(serves(engine), key=KEY) as server:
        model = {"model": "small", "engine": "openai", "base_url": server.url, "api_key_env": "TEST_KEY",
                 "price_as": "gpt-4o-mini"}  # fmt: skip
        suite = {
            "suite": "api",
            "tasks": {"support_intents": {"limits": {"train": 8, "validation": 0, "test": 4}}},
            "models": {"api": model},
            "strategies": {"zero-shot": {}, "lora": {}},
            "limits": {"spend": 1.0},
        }
        (tmp_path / "api.yaml").write_text(json.dumps(suite))
        said = breakeven("run", "api.yaml", "--name", "r")
    assert said.code == 0, said.out + said.err
    lora = read(tmp_path / "runs/r/cells/support_intents--lora--s0/status.json")
    assert lora["state"] == "not-applicable"
    assert "no trainer" in lora["reason"]
    usage = [r["usage"] for r in rows(tmp_path / "runs/r/cells/support_intents--zero-shot")]
    price = (
        sum(u["input_tokens"] for u in usage) * 0.15 + sum(u["output_tokens"] for u in usage) * 0.60
    ) / 1e6
    table = json.loads(breakeven("report", "runs/r", "--format", "json", "-o", "-").out)
    assert f"{price / 4 * 1000:.6g}"[:6] in json.dumps(table)
    written = "".join(p.read_text(errors="replace") for p in (tmp_path / "runs").rglob("*") if p.is_file())
    assert KEY not in written


def test_the_spending_limit_stops_a_run_before_it_is_crossed(
    tmp_path: Path, breakeven: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openai_server import says

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_KEY", KEY)
    with OpenAIServer(says("order_status", input_tokens=200), key=KEY) as server:
        model = {"model": "small", "engine": "openai", "base_url": server.url, "api_key_env": "TEST_KEY",
                 "price_as": "gpt-4o-mini", "concurrency": 2}  # fmt: skip
        suite = {
            "suite": "api",
            "tasks": {"support_intents": {"limits": {"train": 8, "validation": 0, "test": 20}}},
            "models": {"api": model},
            "strategies": {"zero-shot": {}, "majority": {}},
            "limits": {"spend": 0.0005},
        }
        (tmp_path / "api.yaml").write_text(json.dumps(suite))
        said = breakeven("run", "api.yaml", "--name", "r")
        sent = len(server.got)
    assert said.code == 1
    assert "spending limit" in said.out
    assert "raise limits.spend" in said.out
    assert read(tmp_path / "runs/r/cells/support_intents--majority/status.json")["state"] == "done"
    assert 0 < sent < 20
    assert read(tmp_path / "runs/r/purse.json")["spent"] <= 0.0005
