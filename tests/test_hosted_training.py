"""Fine-tuning over OpenAI's protocol at a server that really trains: what a run sends, survives, bills."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fine_tuning_server
import pytest
from conftest import Said
from fine_tuning_server import KEY, FineTuningServer, Lost
from hosted_world import cell, ledger, read, state, suite

from breakeven.harness import spending

pytest.importorskip("openai")

Start = Callable[..., FineTuningServer]
Call = Callable[..., Said]
FILES, JOBS, CHATS = "/v1/files", "/v1/fine_tuning/jobs", "/v1/chat/completions"


class Killed(BaseException):
    """Ends a run where it stands, as SIGKILL does: nothing is written any more."""


def run(breakeven: Call, path: Path, *more: str) -> Said:
    return breakeven("run", path, "--name", "r", "--prices", "prices.yaml", *more)


def resume(breakeven: Call, folder: Path) -> Said:
    return breakeven("run", "--resume", folder / "runs/r")


def rows(breakeven: Call) -> dict[str, Any]:
    """The rows of the report's table, by strategy."""
    found = json.loads(breakeven("report", "runs/r", "--format", "json", "-o", "-").out)
    return {r["strategy"]: r for r in found["tasks"]["weather"]["rows"]}


def uploads(server: FineTuningServer) -> int:
    return len(server.arrived("POST", FILES))


# --- the whole way ---------------------------------------------------------------------------


def test_a_hosted_model_is_trained_asked_and_billed(
    tuning: Start, tiny_engine: Any, hosted: Path, breakeven: Call
) -> None:
    server = tuning(engine=tiny_engine, queued=2)
    said = run(breakeven, suite(server, hosted, allow_hosts=["127.0.0.1"]))
    assert said.code == 0, said.out + said.err
    training = read(cell(hosted) / "training.json")
    assert training["model"].startswith(f"ft:{server.base}:")
    assert training["losses"][-1][1] < training["losses"][0][1]
    assert (len(training["validation_losses"]), training["epochs"]) == (2, 2)
    assert {g.body["model"] for g in server.arrived("POST", CHATS)} == {server.base, training["model"]}
    (tokens,) = ledger(hosted).select("train", "training_tokens")
    assert (tokens.amount.value, tokens.amount.status) == (training["training_tokens"], "measured")
    assert tokens.source == "trained_tokens of job ftjob-0001"


def test_training_is_billed_by_the_job_and_answers_at_the_tuned_price(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    run(breakeven, suite(tuning(), hosted))
    tuned = rows(breakeven)["tuned"]
    tokens = read(cell(hosted) / "training.json")["training_tokens"]
    assert tuned["one_off_cost"] == pytest.approx(tokens * 1000 / 1e6, rel=1e-3)
    usage = [json.loads(line)["usage"] for line in (cell(hosted) / "predictions.jsonl").open()]
    money = sum(u["input_tokens"] * 3.0 + u["output_tokens"] * 6.0 for u in usage) / 1e6
    assert tuned["cost_per_1000_requests"] == pytest.approx(1000 * money / len(usage), rel=1e-3)


def test_the_report_says_per_row_where_the_data_went(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning()
    strategies = {"zero-shot": {}, "majority": {}}
    run(breakeven, suite(server, hosted, strategies=strategies, allow_hosts=["127.0.0.1"]))
    text = breakeven("report", "runs/r", "-o", "-").out
    assert f"examples were sent to {server.host}" in text
    assert "nothing could be sent anywhere but to 127.0.0.1" in text
    notes = {name: r["notes"] for name, r in rows(breakeven).items()}
    assert server.host in notes["zero-shot"]
    assert "sent" not in notes["majority"]


def test_no_key_is_ever_written(tuning: Start, hosted: Path, breakeven: Call) -> None:
    run(breakeven, suite(tuning(), hosted))
    written = [p for p in (hosted / "runs").rglob("*") if p.is_file()]
    assert len(written) > 10
    assert not [p for p in written if KEY.encode() in p.read_bytes()]


def test_the_file_holds_the_prompts_that_are_asked_with_the_answer_last(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    run(breakeven, suite(server, hosted, weights={"keep_files": True}))
    (_, content), *_ = server.files.values()
    first = json.loads(content.splitlines()[0])["messages"]
    asked = server.arrived("POST", CHATS)[-1].body["messages"]
    assert [m["role"] for m in first] == ["system", "user", "assistant"]
    assert first[0] == asked[0]


def test_answers_that_are_only_shown_are_not_learned(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning()
    weights = {"trainer": "openai", "epochs": 1, "wait": 60, "price_as": "test/ft-tiny", "keep_files": True}
    strategies = {"tuned": {"demonstrations": {"k": 2}, "weights": weights}}
    said = run(breakeven, suite(server, hosted, strategies=strategies))
    assert said.code == 0, said.out + said.err
    assert len(server.files) == 2  # training and validation
    for _, content in server.files.values():
        for line in content.splitlines():
            answers = [m for m in json.loads(line)["messages"] if m["role"] == "assistant"]
            assert [m.get("weight", 1) for m in answers] == [0, 0, 1]
    learned = fine_tuning_server._learned_turns(content.splitlines())
    assert len(learned) == len(content.splitlines())


def test_a_server_learns_every_answer_without_weight_0() -> None:
    shown, asked = {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}
    row = {"messages": [asked, shown, asked, shown]}
    assert len(fine_tuning_server._learned_turns([json.dumps(row).encode()])) == 2


def test_a_model_that_learned_shown_answers_too_is_not_taken_for_one_that_did_not() -> None:
    """Earlier versions sent no weights: what they made has another address, everything else has its old."""
    from breakeven.baselines import _hosted
    from breakeven.baselines.trainers.openai import openai
    from breakeven.harness.training import TrainingPair

    asked, shown = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    plain, few = TrainingPair("1", (asked,), "a"), TrainingPair("1", (asked, shown, asked), "a")
    where: Any = SimpleNamespace(base_url="u", model="m")
    keys = [set(_hosted._spec(openai(), "openai", [pair], [], where, 0)) for pair in (plain, few)]
    assert keys[1] - keys[0] == {"learned"}
    assert keys[0] == {"trainer", "source", "settings", "seed", "model", "pairs", "validation"}


def test_two_strategies_that_want_the_same_model_share_one_job(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    weights = {"trainer": "openai", "epochs": 1, "wait": 60, "price_as": "test/ft-tiny"}
    strategies = {"one": {"weights": weights}, "two": {"weights": weights, "list_choices": False}}
    assert run(breakeven, suite(server, hosted, strategies=strategies)).code == 0
    assert len(server.jobs) == 1
    billed = [ledger(hosted, f"weather--{n}--s0").total("training_tokens", "train") for n in strategies]
    assert billed[0] == billed[1]


# --- what is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["auto", 1])
def test_hyper_parameters_are_sent_as_auto_or_as_numbers(
    asked: Any, tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    weights = {"epochs": asked, "batch_size": asked, "learning_rate_multiplier": asked}
    assert run(breakeven, suite(server, hosted, weights=weights)).code == 0
    (created,) = server.arrived("POST", JOBS)
    sent = created.body["method"]["supervised"]["hyperparameters"]
    assert sent == {"n_epochs": asked, "batch_size": asked, "learning_rate_multiplier": asked}
    assert read(cell(hosted) / "training.json")["epochs"] == (3 if asked == "auto" else 1)


def test_a_setting_that_does_not_exist_is_told_before_anything_is_sent(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    said = run(breakeven, suite(server, hosted, weights={"epoch": 3}))
    assert said.code == 2
    assert "epoch" in said.err
    assert server.got == []


def test_fewer_examples_than_a_provider_takes_are_refused_before_anything_is_sent(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    tasks = {"weather": {"task": "weather.yaml", "limits": {"train": 9}}}
    file = suite(server, hosted, tasks=tasks)
    looked = run(breakeven, file)
    assert looked.code == 2
    assert "wants 10 examples, there are 9" in looked.err
    run(breakeven, file, "--no-preflight")
    assert state(hosted)[0] == "failed"
    assert "9 training examples and providers take 10" in state(hosted)[1]
    assert uploads(server) == 0


def test_a_training_that_nobody_prices_is_refused_before_anything_is_sent(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    (hosted / "prices.yaml").write_text((hosted / "prices.yaml").read_text().partition("training_tokens")[0])
    run(breakeven, suite(server, hosted), "--yes")
    assert "nobody knows what training 'test/tiny' costs" in state(hosted)[1]
    assert uploads(server) == 0


def test_a_tuned_model_that_nobody_prices_is_refused_before_it_is_trained(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    run(breakeven, suite(server, hosted, weights={"price_as": "test/unheard-of"}), "--yes")
    assert "nobody knows what asking the tuned" in state(hosted)[1]
    assert uploads(server) == 0


def test_a_training_beyond_the_spending_limit_is_not_begun(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    run(breakeven, suite(server, hosted, limits={"spend": 0.5}))
    assert state(hosted)[0] == "stopped"
    assert uploads(server) == 0


def test_the_purse_holds_what_was_billed_not_what_was_feared(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    run(breakeven, suite(tuning(), hosted, limits={"spend": 100.0}))
    tokens = read(cell(hosted) / "training.json")["training_tokens"]
    spent = read(hosted / "runs/r/purse.json")["spent"]
    assert tokens * 1000 / 1e6 < spent < tokens * 1000 / 1e6 + 0.1  # the answers cost little


# --- stopped and continued -------------------------------------------------------------------


def test_a_job_that_takes_long_is_left_and_found_again(tuning: Start, hosted: Path, breakeven: Call) -> None:
    hold = threading.Event()
    server = tuning(hold=hold)
    said = run(breakeven, suite(server, hosted, weights={"wait": 0}))
    assert said.code == 3
    assert state(hosted)[0] == "pending"
    assert state(hosted, "weather--zero-shot")[0] == "done"
    pending = read(cell(hosted) / "pending.json")
    assert (pending["job"], pending["host"]) == ("ftjob-0001", server.host)
    assert resume(breakeven, hosted).code == 3  # still running
    hold.set()
    server.run_job()
    said = resume(breakeven, hosted)
    assert said.code == 0, said.out + said.err
    assert (uploads(server), len(server.jobs)) == (2, 1)


def test_a_run_killed_before_noting_its_job_finds_it_again(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other moment is in test_hosted_kills."""
    from breakeven.baselines.trainers import _sending

    server, save = tuning(), _sending.Sending.save

    def dies(sending: Any) -> None:
        if sending.state.job:
            raise Killed
        save(sending)

    path = suite(server, hosted)
    with monkeypatch.context() as patch:
        patch.setattr(_sending.Sending, "save", dies)
        with pytest.raises(Killed):
            run(breakeven, path)
    said = resume(breakeven, hosted)
    assert said.code == 0, said.out + said.err
    assert (uploads(server), len(server.jobs)) == (2, 1)


@pytest.mark.parametrize("path", [FILES, JOBS])
def test_an_answer_lost_on_the_way_makes_nothing_twice(
    path: str, tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning(lose=[Lost("POST", path)])
    said = run(breakeven, suite(server, hosted))
    assert said.code == 0, said.out + said.err
    assert (uploads(server), len(server.jobs)) == (2, 1)


def test_a_file_that_is_not_ready_yet_is_waited_for(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning(unready=2)
    assert run(breakeven, suite(server, hosted)).code == 0
    assert (len(server.arrived("POST", JOBS)), uploads(server), len(server.jobs)) == (3, 2, 1)


def test_a_failed_job_is_told_in_its_own_words_and_tried_again_when_resumed(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning(fails="Line 7 of the file has no assistant message")
    said = run(breakeven, suite(server, hosted))
    assert said.code == 1
    assert "Line 7 of the file has no assistant message" in state(hosted)[1]
    assert "ftjob-0001" in said.out
    server.fails = ""
    assert resume(breakeven, hosted).code == 0
    assert list(server.jobs) == ["ftjob-0001", "ftjob-0002"]


def test_a_failed_job_gives_the_purse_its_money_back(tuning: Start, hosted: Path, breakeven: Call) -> None:
    run(breakeven, suite(tuning(fails="no"), hosted, limits={"spend": 100.0}))
    assert read(hosted / "runs/r/purse.json")["spent"] < 0.1


def test_a_job_cancelled_at_the_provider_is_said_to_be(tuning: Start, hosted: Path, breakeven: Call) -> None:
    hold = threading.Event()
    server = tuning(hold=hold)
    run(breakeven, suite(server, hosted, weights={"wait": 0}))
    server.jobs["ftjob-0001"].row["status"] = "cancelled"
    resume(breakeven, hosted)
    assert state(hosted)[0] == "failed"
    assert "was cancelled there" in state(hosted)[1]


def test_a_job_that_takes_too_long_is_cancelled(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning(hold=threading.Event())
    run(breakeven, suite(server, hosted, weights={"max_hours": 1e-9}))
    assert server.jobs["ftjob-0001"].row["status"] == "cancelled"
    assert "cancelled: it was not ready after" in state(hosted)[1]


def test_a_job_stopped_by_hand_goes_on_when_resumed(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakeven.baselines.trainers import _jobs

    hold = threading.Event()
    server, path = tuning(hold=hold), None
    path = suite(server, hosted)

    def interrupted(job: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_jobs.Job, "_note_events", interrupted)
        assert run(breakeven, path).code == 130
    hold.set()
    assert resume(breakeven, hosted).code == 0
    assert len(server.jobs) == 1


# --- wanted no more --------------------------------------------------------------------------


def left_waiting(server: FineTuningServer, hosted: Path, breakeven: Call, **weights: Any) -> Path:
    """A job under way; returns the run's suite, in which epochs can be changed from 2."""
    assert run(breakeven, suite(server, hosted, weights={"wait": 0, **weights})).code == 3
    return hosted / "runs/r/suite.yaml"


def change(frozen: Path, old: str, new: str) -> None:
    text = frozen.read_text()
    assert old in text
    frozen.write_text(text.replace(old, new))


def test_a_job_that_nobody_wants_after_a_change_is_given_up_and_told(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    hold = threading.Event()
    server = tuning(hold=hold)
    change(left_waiting(server, hosted, breakeven), "epochs: 2", "epochs: 3")
    (charge,) = spending.standing(hosted / "runs/r/purse.json").open
    server.jobs["ftjob-0001"].row["trained_tokens"] = 70
    said = resume(breakeven, hosted)
    assert said.code == 3, said.out + said.err
    assert [job.row["status"] == "cancelled" for job in server.jobs.values()] == [True, False]
    told = "job ftjob-0001 at 127.0.0.1"
    assert told in said.out
    assert "is wanted by no cell any more and was cancelled; it says it trained 70 tokens" in said.out
    assert len(server.files) == 2  # those of the second job
    purse = read(hosted / "runs/r/purse.json")
    assert purse["charges"][charge] == pytest.approx(70 * 1000 / 1e6)
    assert charge not in purse["open"]
    hold.set()
    server.run_job()
    said = resume(breakeven, hosted)
    assert said.code == 0, said.out + said.err
    assert "ftjob-0001" not in said.out  # told once
    assert (len(server.jobs), server.files) == (2, {})
    assert told in breakeven("report", "runs/r", "-o", "-").out


def test_what_a_given_up_job_may_have_cost_stays_set_aside_where_it_does_not_say(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning(hold=threading.Event())
    change(left_waiting(server, hosted, breakeven), "epochs: 2", "epochs: 3")
    (charge,) = spending.standing(hosted / "runs/r/purse.json").open
    said = resume(breakeven, hosted)
    assert "it does not say what it trained, so that" in said.out
    assert charge in spending.standing(hosted / "runs/r/purse.json").open


def test_an_unwanted_job_that_has_ended_meanwhile_is_paid_and_not_trained_again(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    hold = threading.Event()
    server = tuning(hold=hold)
    frozen = left_waiting(server, hosted, breakeven)
    change(frozen, "epochs: 2", "epochs: 3")
    hold.set()
    server.run_job()
    said = resume(breakeven, hosted)
    assert "has ended there (succeeded); it says it trained" in said.out
    server.run_job()
    change(frozen, "epochs: 3", "epochs: 2")
    said = resume(breakeven, hosted)
    assert said.code == 0, said.out + said.err
    assert read(cell(hosted) / "training.json")["job"] == "ftjob-0001"


def test_a_job_that_a_cell_still_wants_goes_on(tuning: Start, hosted: Path, breakeven: Call) -> None:
    """Also where the cell was broken off, or is not asked for now."""
    server = tuning(hold=threading.Event())
    left_waiting(server, hosted, breakeven)
    breakeven("run", "--resume", hosted / "runs/r", "--only", "weather--zero-shot")
    (cell(hosted) / "pending.json").unlink()
    assert resume(breakeven, hosted).code == 3
    assert len(server.jobs) == 1
    assert not server.arrived("POST", f"{JOBS}/.*/cancel")


def test_an_unwanted_job_that_cannot_be_cancelled_is_told_and_tried_again(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tuning(hold=threading.Event())
    change(left_waiting(server, hosted, breakeven), "epochs: 2", "epochs: 3")
    with monkeypatch.context() as patch:
        patch.setenv("TEST_KEY", "sk-wrong-0123456789")
        said = resume(breakeven, hosted)
    assert said.code == 1
    assert "is wanted by no cell any more, is not cancelled and may be billed" in said.out
    assert "sk-wrong" not in said.out
    resume(breakeven, hosted)
    assert server.jobs["ftjob-0001"].row["status"] == "cancelled"


def test_an_unwanted_job_at_a_server_that_no_model_is_asked_at_is_told(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    first, second = tuning(hold=threading.Event()), tuning()
    change(left_waiting(first, hosted, breakeven), first.url, second.url)
    said = resume(breakeven, hosted)
    assert said.code == 1
    assert f"no model of the suite is asked at {first.url}" in said.out
    assert "ftjob-0001" in said.out
    assert not second.arrived("POST", f"{JOBS}/.*/cancel")


def test_a_job_that_may_have_been_asked_for_by_a_cell_that_was_broken_off_is_left(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    """What is foreseen of a training is not always to the letter what is trained."""
    server = tuning(hold=threading.Event())
    left_waiting(server, hosted, breakeven)
    (partial,) = (hosted / "runs/r/artifacts").glob("hosted-*.partial")
    partial.rename(partial.with_name("hosted-0123456789abcdef.partial"))
    assert "was broken off and may have asked for it" in resume(breakeven, hosted).out
    assert server.jobs["ftjob-0001"].row["status"] != "cancelled"


# --- what the provider says ------------------------------------------------------------------


def test_a_job_that_does_not_say_what_it_bills_costs_an_unknown_amount(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    run(breakeven, suite(tuning(trained_tokens=False), hosted))
    assert ledger(hosted).total("training_tokens", "train").status == "unknown"
    tuned = rows(breakeven)["tuned"]
    assert tuned["one_off_cost"] is None


def test_the_day_a_base_model_is_shut_down_stands_beside_the_row(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning(shutdown={FineTuningServer.base: "2027-01-14"})
    run(breakeven, suite(server, hosted))
    assert f"shuts {server.base} down on 2027-01-14" in breakeven("report", "runs/r", "-o", "-").out


def test_the_best_checkpoint_is_the_one_with_the_least_validation_loss(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    run(breakeven, suite(server, hosted, weights={"epochs": 3, "checkpoint": "best"}))
    losses = {c["fine_tuned_model_checkpoint"]: c["metrics"]["full_valid_loss"]
              for c in server.jobs["ftjob-0001"].checkpoints}  # fmt: skip
    assert len(losses) == 3
    assert read(cell(hosted) / "training.json")["model"] == min(losses, key=losses.__getitem__)


def test_losses_come_from_the_result_file_where_events_hold_none(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    run(breakeven, suite(tuning(result_file=True), hosted))
    losses = read(cell(hosted) / "training.json")["losses"]
    assert losses[-1][1] < losses[0][1]


def test_events_are_kept_once_each_in_order(tuning: Start, hosted: Path, breakeven: Call) -> None:
    server = tuning(queued=3)
    run(breakeven, suite(server, hosted))
    (file,) = (hosted / "runs/r/artifacts").glob("hosted-*/events.jsonl")
    ids = [json.loads(line)["id"] for line in file.open()]
    assert ids == [e["id"] for e in server.jobs["ftjob-0001"].events]


def test_uploaded_examples_are_taken_back_when_the_job_has_ended(
    tuning: Start, hosted: Path, breakeven: Call
) -> None:
    server = tuning()
    run(breakeven, suite(server, hosted))
    assert server.files == {}


def test_a_wrong_key_is_told_and_not_shown(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tuning()
    monkeypatch.setenv("TEST_KEY", "sk-wrong-0123456789")
    strategies = {"tuned": {"weights": {"trainer": "openai", "price_as": "test/ft-tiny"}}}
    said = run(breakeven, suite(server, hosted, strategies=strategies))
    assert "refuses fine-tuning with the key in TEST_KEY" in state(hosted)[1]
    assert "sk-wrong" not in said.out + said.err + state(hosted)[1]


def test_a_model_of_ones_own_cannot_be_tuned_by_a_provider(hosted: Path, tiny_engine: Any) -> None:
    from strategy_fakes import World

    from breakeven.baselines.levers import levers
    from breakeven.harness.errors import NotApplicable

    brief, rows = _toy()
    with pytest.raises(NotApplicable, match="tunes models behind a server"):
        levers(weights={"trainer": "openai"}).fit(brief, rows, [], World(hosted).services())


def _toy() -> Any:
    from strategy_fakes import brief, examples

    return brief(), examples(*[(f"text {n}", "red") for n in range(12)])


# --- before anything runs --------------------------------------------------------------------


def test_an_estimate_counts_the_training_without_a_key(
    tuning: Start, hosted: Path, breakeven: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tuning()
    monkeypatch.delenv("TEST_KEY")
    saved = hosted / "estimate.json"
    said = breakeven("estimate", suite(server, hosted), "--prices", "prices.yaml", "--save", saved)
    assert said.code == 0, said.out + said.err
    tuned = next(c for c in read(saved)["cells"] if c["strategy"] == "tuned")
    assert tuned["training_tokens"] > 0
    assert tuned["training_money"] == pytest.approx(tuned["training_tokens"] * 1000 / 1e6)
    assert server.got == []
