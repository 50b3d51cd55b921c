"""The API engine beyond plain chats: batch mode, scores of choices, a pace, Azure's header."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchServer
from conftest import Said
from openai_server import KEY, OpenAIServer, ask, chat, engine_for, many
from tiny_suite import write_suite

from breakeven.harness.contracts import Usage
from breakeven.harness.engines import _batch, _hosted_choices
from breakeven.harness.engines.openai import OpenAIEngine, Pace, ProviderError
from breakeven.harness.errors import NotApplicable, Pending, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.prices import PriceBook
from breakeven.harness.session import Journal, Session
from breakeven.harness.spending import SpendGuard


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


# --- batch mode ------------------------------------------------------------------------------


def echo(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    said = body["messages"][0]["content"].upper()
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return 200, {"choices": [{"message": {"content": said}, "finish_reason": "stop"}], "usage": usage}


@pytest.fixture
def batches() -> Iterator[Callable[..., BatchServer]]:
    running: list[BatchServer] = []

    def start(answer: Any = echo, **settings: Any) -> BatchServer:
        running.append(BatchServer(answer, **settings).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def batched(server: Any, folder: Path, **settings: Any) -> OpenAIEngine:
    engine = engine_for(server, batch=True, **settings)
    engine.keep_hosting(folder)
    return engine


def posts(server: BatchServer, path: str) -> int:
    return server.got.count(("POST", f"/v1/{path}"))


def test_a_batch_answers_every_request_with_its_own_answer(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(looks=2)
    answers = ask(batched(server, tmp_path), *(chat(str(i), f"word {i}") for i in range(200)))
    assert {i: c.text for i, c in answers.items()} == {str(i): f"WORD {i}" for i in range(200)}
    assert (posts(server, "files"), posts(server, "batches")) == (1, 1)


def test_nobody_waited_for_an_answer_of_a_batch_so_it_has_no_seconds(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    assert ask(batched(batches(), tmp_path))["a"].seconds is None


def test_all_requests_go_into_one_batch(batches: Callable[..., BatchServer], tmp_path: Path) -> None:
    assert [len(g) for g in batched(batches(), tmp_path).plan(many(500))] == [500]


def test_a_batch_holds_no_more_than_a_provider_takes_in_number_or_in_bytes(
    batches: Callable[..., BatchServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_batch, "MOST_BYTES", 5000)
    monkeypatch.setattr(_batch, "MOST", 20)
    server = batches()
    engine = batched(server, tmp_path)
    requests = [*many(50), *(chat(f"long {i}", "é" * 900) for i in range(6)), chat("longer", "é" * 4000)]
    plan = engine.plan(requests)
    assert [r.id for group in plan for r in group] == [r.id for r in requests]
    for group in plan:
        ask(engine, *group)
    assert all(len(sent) <= 5000 for sent in server.uploads[:-1])
    assert len(server.uploads[-1].splitlines()) == 1  # refused by the server, if at all
    assert [len(group) for group in plan[:2]] == [20, 20]
    assert len(plan) < 10


def test_a_batch_that_takes_long_is_left_and_found_again(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(looks=1)
    for _ in range(2):
        with pytest.raises(Pending) as left:
            ask(batched(server, tmp_path, batch_wait=0.0))
        assert left.value.state["batch"] == "batch-0"
    assert ask(batched(server, tmp_path, batch_wait=0.0))["a"].text == "IS WATER WET?"
    assert (posts(server, "files"), posts(server, "batches")) == (1, 1)


@pytest.mark.parametrize("path", ["files", "batches"])
def test_an_answer_lost_on_the_way_sends_no_second_batch(
    path: str, batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(loses={f"/v1/{path}"})
    assert ask(batched(server, tmp_path))["a"].text == "IS WATER WET?"
    assert (posts(server, "files"), posts(server, "batches")) == (1, 1)


def test_what_a_batch_leaves_unanswered_is_sent_again_alone(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(leaves_out={"1"})

    def run() -> dict[str, str]:
        session = Session(batched(server, tmp_path), Journal(tmp_path / "journal.jsonl"), Ledger(), "serve")
        return {c.id: c.text for c in session.complete([chat(str(i), f"word {i}") for i in range(3)])}

    with pytest.raises(ProviderError, match="1 of 3 requests unanswered"):
        run()
    server.leaves_out = set()
    assert run() == {str(i): f"WORD {i}" for i in range(3)}
    assert [len(content.splitlines()) for content in server.uploads] == [3, 1]


@pytest.mark.parametrize(
    "code", ["model_not_found", "token_limit_exceeded", "billing_hard_limit_reached", None]
)
def test_a_batch_that_fails_as_a_whole_is_sent_again_only_where_time_mends_it(
    batches: Callable[..., BatchServer], tmp_path: Path, code: str | None
) -> None:
    said = {"code": code, "message": "the model `gpt-none` takes no batches", "param": None, "line": 3}
    server = batches(fails=said)
    waits = code != "model_not_found"
    with pytest.raises(ProviderError if waits else UserError) as caught:
        ask(batched(server, tmp_path), *many(4))
    assert "takes no batches" in str(caught.value)
    assert ("--resume sends those again" in str(caught.value)) == waits
    if not waits:
        assert "its file refused at line 3" in str(caught.value)
        assert caught.value.field == "batch"


WRONG_ROOM = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."


def newer_room(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """As Azure's newer models answer."""
    if "max_tokens" in body:
        return 400, {"error": {"message": WRONG_ROOM, "param": "max_tokens", "code": "unsupported_parameter"}}
    return echo(body)


def test_a_batch_refused_by_the_older_name_of_the_room_is_sent_again_by_the_newer_one(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server, guard, book = batches(newer_room), SpendGuard(None), PriceBook.load()
    engine = batched(server, tmp_path, price_as="openai/gpt-4o-mini")
    engine.bill_to(guard, book)
    assert len(ask(engine, *many(4))) == 4
    assert posts(server, "batches") == 2
    price = book.token_price("batch/openai/gpt-4o-mini")
    assert price is not None
    assert guard.spent == pytest.approx(4 * price.cost(Usage(100, 10)))  # the refused ones cost nothing
    assert server.files == {}
    ask(engine, chat("b"))
    assert posts(server, "batches") == 3  # it knows by now


def test_the_newer_name_of_the_room_is_known_to_whoever_resumes(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(newer_room)
    for _ in range(2):  # first the one that is refused is waited for, then the one that takes its place
        with pytest.raises(Pending):
            ask(batched(server, tmp_path, batch_wait=0.0))
    assert ask(batched(server, tmp_path, batch_wait=0.0))["a"].text == "IS WATER WET?"
    assert posts(server, "batches") == 2
    with pytest.raises(Pending):
        ask(batched(server, tmp_path, batch_wait=0.0), chat("b"))
    assert b"max_completion_tokens" in server.uploads[2]
    assert len(server.uploads) == 3


def test_a_batch_refused_by_both_names_of_the_room_is_not_sent_a_third_time(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(lambda body: (400, {"error": {"message": WRONG_ROOM}}))
    with pytest.raises(UserError, match="2 of 2 requests refused: Unsupported parameter"):
        ask(batched(server, tmp_path), *many(2))
    assert posts(server, "batches") == 2


def test_a_request_that_a_batch_refuses_for_good_is_not_said_to_be_sent_again(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    def picky(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        if body["messages"][0]["content"] == "word 1":
            return 400, {"error": {"message": "temperature must be 1"}}
        return echo(body)

    guard, book, got = SpendGuard(None), PriceBook.load(), list[str]()
    server = batches(picky)
    engine = batched(server, tmp_path, price_as="openai/gpt-4o-mini")
    engine.bill_to(guard, book)
    with pytest.raises(UserError, match=r"1 of 3 requests refused.*request '1'.*must be 1.*`body`") as told:
        got.extend(c.id for c in engine.complete([chat(str(i), f"word {i}") for i in range(3)]))
    assert "--resume" not in str(told.value)
    assert sorted(got) == ["0", "2"]
    price = book.token_price("batch/openai/gpt-4o-mini")
    assert price is not None
    assert guard.spent == pytest.approx(2 * price.cost(Usage(100, 10)))
    assert server.files == {}


def test_a_batch_is_paid_at_its_price(batches: Callable[..., BatchServer], tmp_path: Path) -> None:
    guard, book = SpendGuard(None), PriceBook.load()
    engine = batched(batches(), tmp_path, price_as="openai/gpt-4o-mini")
    engine.bill_to(guard, book)
    ask(engine, *many(4))
    plain = book.token_price("openai/gpt-4o-mini")
    assert plain is not None
    assert guard.spent == pytest.approx(4 * plain.cost(Usage(100, 10)) / 2)
    card = engine.describe()
    assert card.price_as == "batch/openai/gpt-4o-mini"
    again = PriceBook.recorded(book.used()).token_price(card.price_as)
    assert again is not None
    assert again.input == pytest.approx(plain.input / 2)


def suite_in_batches(server: BatchServer, folder: Path) -> Path:
    """A suite that asks in batches and does not wait for them, and a cell that asks nobody."""
    model = {"model": "small", "engine": "openai", "base_url": server.url, "api_key_env": "TEST_KEY",
             "batch": True, "batch_wait": 0}  # fmt: skip
    return write_suite(
        folder,
        Path("unused"),
        models={"api": model},
        strategies={"zero-shot": {}, "majority": {}},
        limits={"allow_unpriced": True},
    )


def test_a_run_leaves_a_batch_under_way_and_takes_its_answers_when_resumed(
    batches: Callable[..., BatchServer], hosted: Path, breakeven: Callable[..., Said]
) -> None:
    server = batches(looks=1)
    path = suite_in_batches(server, hosted)
    assert breakeven("run", path, "--name", "r").code == 3
    cells = hosted / "runs/r/cells"
    assert '"done"' in (cells / "weather--majority/status.json").read_text()
    assert '"pending"' in (cells / "weather--zero-shot/status.json").read_text()
    codes = [breakeven("run", "--resume", hosted / "runs/r").code for _ in range(2)]
    assert codes == [3, 0]
    assert (posts(server, "files"), posts(server, "batches")) == (1, 1)
    rows = (cells / "weather--zero-shot/predictions.jsonl").read_text().splitlines()
    assert len(rows) == 6
    assert all('"seconds": null' in row for row in rows)


def test_a_resumed_run_closes_the_batch_of_a_task_that_has_changed(
    batches: Callable[..., BatchServer],
    hosted: Path,
    breakeven: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = batches(looks=9)
    path = suite_in_batches(server, hosted)
    assert breakeven("run", path, "--name", "r").code == 3
    monkeypatch.setattr(_batch, "PROCESS", "another")
    task = hosted / "weather.yaml"
    task.write_text(task.read_text().replace("Say what", "Tell what"))
    said = breakeven("run", "--resume", hosted / "runs/r")
    assert said.code == 3
    assert "which no cell asks for any more, is closed" in said.out + said.err
    assert [b["status"] for b in server.batches.values()] == ["cancelled", "validating"]


def test_whoever_is_killed_while_reading_answers_reads_the_rest_and_pays_once(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server, book = batches(), PriceBook.load()
    requests = [chat(str(i), f"word {i}") for i in range(5)]

    def run(most: int) -> dict[str, str]:
        engine = batched(server, tmp_path, price_as="openai/gpt-4o-mini")
        engine.bill_to(SpendGuard(1.0, file=tmp_path / "purse.json"), book)
        session = Session(engine, Journal(tmp_path / "journal.jsonl"), Ledger(), "serve")
        return {c.id: c.text for c, _ in zip(session.complete(requests), range(most), strict=False)}

    run(2)
    assert run(5) == {str(i): f"WORD {i}" for i in range(5)}
    assert (posts(server, "files"), posts(server, "batches")) == (1, 1)
    price = book.token_price("batch/openai/gpt-4o-mini")
    assert price is not None
    spent = SpendGuard(1.0, file=tmp_path / "purse.json").spent
    assert spent == pytest.approx(5 * price.cost(Usage(100, 10)))


def test_the_same_questions_asked_again_do_not_empty_the_purse(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    """Two cells may ask the same: each is sent, and what one was billed stays billed."""
    guard, book = SpendGuard(1.0), PriceBook.load()
    engine = batched(batches(), tmp_path, price_as="openai/gpt-4o-mini")
    engine.bill_to(guard, book)
    ask(engine, *many(4))
    once = guard.spent
    ask(engine, *many(4))
    assert guard.spent == pytest.approx(2 * once)


def test_a_batch_that_is_refused_costs_nothing(batches: Callable[..., BatchServer], tmp_path: Path) -> None:
    guard = SpendGuard(1.0)
    engine = batched(batches(offered=False), tmp_path, price_as="openai/gpt-4o-mini")
    engine.bill_to(guard, PriceBook.load())
    with pytest.raises(UserError, match="refuses its batch mode"):
        ask(engine, *many(4))
    assert guard.spent == 0.0


def test_the_provider_keeps_no_file_of_a_batch_that_was_read(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches()
    server.files["file-theirs"] = ("theirs.jsonl", b"{}")
    ask(batched(server, tmp_path), *many(4))
    assert list(server.files) == ["file-theirs"]


def test_answers_that_arrive_by_half_are_read_again_not_sent_again(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(halves=1)
    with pytest.raises(ProviderError, match="broken; --resume reads it again"):
        ask(batched(server, tmp_path), *many(3))
    assert len(ask(batched(server, tmp_path), *many(3))) == 3
    assert posts(server, "batches") == 1


def test_a_batch_is_found_on_the_last_page_of_many(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(loses={"/v1/files", "/v1/batches"}, page=2)
    server.files |= {f"file-{n:02}x": ("theirs", b"") for n in range(7)}
    ask(batched(server, tmp_path))
    assert (posts(server, "files"), posts(server, "batches")) == (1, 1)


def test_a_batch_made_twice_because_it_showed_late_is_cancelled_once(
    batches: Callable[..., BatchServer], tmp_path: Path
) -> None:
    server = batches(loses={"/v1/batches"}, late=1)
    assert len(ask(batched(server, tmp_path), *many(3))) == 3
    assert [b["status"] for b in server.batches.values()].count("cancelled") == 1
    assert posts(server, "batches") == 2


@pytest.fixture
def orphan(
    batches: Callable[..., BatchServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[BatchServer, OpenAIEngine, SpendGuard]]:
    """A batch that an earlier process sent: (server, engine of the process that resumes, its purse)."""

    def left(**settings: Any) -> tuple[BatchServer, OpenAIEngine, SpendGuard]:
        server = batches(**settings)
        for process in ("first", "second"):
            monkeypatch.setattr(_batch, "PROCESS", process)
            guard = SpendGuard(1.0, file=tmp_path / "purse.json")
            engine = batched(server, tmp_path, price_as="openai/gpt-4o-mini", batch_wait=0.0)
            engine.bill_to(guard, PriceBook.load())
            if process == "first":
                with pytest.raises(Pending):
                    ask(engine, *many(4, "before"))
                assert engine.close_orphans() == []  # its own
        return server, engine, guard

    return left


Orphan = Callable[..., tuple[BatchServer, OpenAIEngine, SpendGuard]]


def test_a_batch_whose_prompts_have_changed_is_cancelled_and_costs_nothing(orphan: Orphan) -> None:
    server, engine, guard = orphan(looks=2)
    before = guard.spent
    with pytest.raises(Pending):
        ask(engine, *many(4, "after"))
    (told,) = engine.close_orphans()
    assert "batch-0" in told
    assert "is closed" in told
    assert [b["status"] for b in server.batches.values()] == ["cancelled", "validating"]
    assert list(server.files) == ["file-1"]
    assert guard.spent == pytest.approx(before, rel=0.05)  # the worst case of the new one alone
    assert engine.close_orphans() == []


def test_a_batch_that_was_answered_for_nobody_is_paid_at_what_it_used(orphan: Orphan) -> None:
    server, engine, guard = orphan()
    (told,) = engine.close_orphans()
    assert "4 of its answers were billed" in told
    price = PriceBook.load().token_price("batch/openai/gpt-4o-mini")
    assert price is not None
    assert guard.spent == pytest.approx(4 * price.cost(Usage(100, 10)))
    assert server.files == {}


def test_a_batch_that_is_asked_for_again_is_no_orphan(orphan: Orphan) -> None:
    server, engine, _ = orphan(looks=2)
    with pytest.raises(Pending):
        ask(engine, *many(4, "before"))
    assert engine.close_orphans() == []
    assert posts(server, "batches/batch-0/cancel") == 0


def test_an_orphan_that_cannot_be_closed_keeps_its_money_and_is_said(orphan: Orphan) -> None:
    server, engine, guard = orphan()
    before, server.offered = guard.spent, False
    (told,) = engine.close_orphans()
    assert "could not be closed" in told
    assert "stay set aside" in told
    assert guard.spent == before
    server.offered = True
    assert "is closed" in engine.close_orphans()[0]


def test_a_batch_that_nobody_prices_is_refused(batches: Callable[..., BatchServer], tmp_path: Path) -> None:
    engine = batched(batches(), tmp_path, price_as="mistral/mistral-small-latest")
    with pytest.raises(UserError, match="nobody knows"):
        engine.bill_to(SpendGuard(None), PriceBook.load())


def test_a_server_without_batch_mode_is_told_so(batches: Callable[..., BatchServer], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refuses its batch mode \(404 .*batch: false"):
        ask(batched(batches(offered=False), tmp_path))


# --- scores of choices -----------------------------------------------------------------------


def tokens(text: str) -> list[str]:
    """A token is a letter."""
    return list(text)


def rendered(body: Mapping[str, Any]) -> str:
    said = "".join(f"<{m['role']}>{m['content']};" for m in body["messages"])
    return said if body.get("add_generation_prompt") is False else f"{said}<assistant>"


LIKES = {"y": -0.1, "n": -2.5}


def prompt_logprobs(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """As vLLM answers: each prompt token's log-probability, beside a likelier one here and there."""
    rows: list[Any] = [None]
    for letter in tokens(rendered(body))[1:]:
        rows.append(
            {str(ord(letter)): {"logprob": LIKES.get(letter, -0.01), "rank": 1, "decoded_token": letter}}
        )
    usage = {"prompt_tokens": len(rows), "completion_tokens": 1}
    return 200, {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}], "usage": usage,
                 "prompt_logprobs": rows}  # fmt: skip


@pytest.fixture
def scoring(monkeypatch: pytest.MonkeyPatch) -> Callable[..., OpenAIEngine]:
    import httpx

    def engine(answer: Any, choices: str, asked: list[Any] | None = None) -> OpenAIEngine:
        made = engine_for(type("S", (), {"url": "http://127.0.0.1:9/v1"})(), choices=choices)  # type: ignore[arg-type]

        def post(url: str, json: Any, auth: Any) -> httpx.Response:
            if asked is not None:
                asked.append(json)
            status, body = answer(json)
            return httpx.Response(status, json=body)

        monkeypatch.setattr(made._client, "post", post)
        return made

    return engine


def test_an_answered_prompt_scores_a_choice_with_its_end(scoring: Callable[..., OpenAIEngine]) -> None:
    asked: list[Any] = []
    engine = scoring(prompt_logprobs, "prompt", asked)
    assert engine.capabilities.logprobs
    (done,) = engine.complete([chat("a", choices=("yes", "no"))])
    # y e s ; and n o ; the rest of the prompt counts for neither
    assert done.choice_logprobs == pytest.approx((-0.1 - 0.01 * 3, -2.5 - 0.01 * 2))
    assert (done.finish_reason, done.text) == ("choices", "")
    prompt = len(rendered(asked[0]))
    assert done.usage.input_tokens == prompt + 2 * prompt + len("yes;") + len("no;")  # all that is billed


def test_a_template_that_renders_answers_otherwise_is_not_scored(
    scoring: Callable[..., OpenAIEngine],
) -> None:
    def differs(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        if len(body["messages"]) == 1:
            return prompt_logprobs(body)
        return prompt_logprobs({**body, "messages": [{"role": "system", "content": "!"}, *body["messages"]]})

    with pytest.raises(NotApplicable, match="renders an answered prompt otherwise"):
        list(scoring(differs, "prompt").complete([chat("a", choices=("yes", "no"))]))


def first(*top: tuple[str, float]) -> Any:
    rows = [{"token": token, "logprob": math.log(p)} for token, p in top]

    def answer(body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        assert body["logprobs"] is True
        told = {"content": [{"token": top[0][0], "top_logprobs": rows}]}
        usage = {"prompt_tokens": 9, "completion_tokens": 1}
        return 200, {"choices": [{"message": {"content": "x"}, "logprobs": told}], "usage": usage}

    return answer


def test_first_tokens_add_up_for_the_choice_they_begin(scoring: Callable[..., OpenAIEngine]) -> None:
    engine = scoring(first(("yes", 0.5), (" ye", 0.2), ("no", 0.1), ("maybe", 0.05)), "first-token")
    (done,) = engine.complete([chat("a", choices=("yes", "no", "perhaps"))])
    assert done.choice_logprobs == pytest.approx((math.log(0.7), math.log(0.1), math.log(0.05)))
    assert done.usage == Usage(9, 1)


def test_choices_that_begin_alike_are_not_told_apart_by_guessing(
    scoring: Callable[..., OpenAIEngine],
) -> None:
    engine = scoring(first(("card_", 0.8), ("refund", 0.1)), "first-token")
    with pytest.raises(NotApplicable, match="cannot tell 'card_lost' from 'card_stolen'"):
        list(engine.complete([chat("a", choices=("card_lost", "card_stolen", "refund"))]))


def test_choices_that_begin_alike_do_not_matter_where_another_one_wins(
    scoring: Callable[..., OpenAIEngine],
) -> None:
    engine = scoring(first(("refund", 0.8), ("card_", 0.1)), "first-token")
    (done,) = engine.complete([chat("a", choices=("card_lost", "card_stolen", "refund"))])
    assert done.choice_logprobs is not None
    assert max(done.choice_logprobs) == done.choice_logprobs[2]


def test_a_server_that_gives_no_logprobs_is_an_error_not_a_score(serve: Callable[..., OpenAIServer]) -> None:
    for mode in ("prompt", "first-token"):
        with pytest.raises(UserError, match=r"gives no (top|prompt)_logprobs"):
            ask(engine_for(serve(), choices=mode, retries=1), chat("a", choices=("yes", "no")))


def test_an_unknown_way_of_scoring_is_refused(serve: Callable[..., OpenAIServer]) -> None:
    with pytest.raises(UserError, match="is not prompt or first-token"):
        engine_for(serve(), choices="echo")


def test_another_way_of_scoring_is_another_model_to_a_resumed_run(serve: Callable[..., OpenAIServer]) -> None:
    server = serve()
    digests = {engine_for(server, choices=mode).describe().digest for mode in ("", "prompt", "first-token")}
    assert len(digests) == 3


def test_a_token_of_the_prompt_is_the_first_that_vllm_tells() -> None:
    told = {"prompt_logprobs": [None, {"7": {"logprob": -3.0}, "9": {"logprob": -0.1}}]}
    assert _hosted_choices.prompt_tokens(told) == [("", 0.0), ("7", -3.0)]


# --- pace and header -------------------------------------------------------------------------


def test_requests_keep_the_pace_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    pace = Pace(120.0)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    for _ in range(3):
        pace.wait(type("E", (), {"wait": lambda self, seconds: waits.append(seconds)})())
    assert waits == pytest.approx([0.0, 0.5, 1.0])


def test_a_pace_of_nothing_is_refused(serve: Callable[..., OpenAIServer]) -> None:
    with pytest.raises(UserError, match="requests_per_minute"):
        engine_for(serve(), requests_per_minute=0)


def test_azure_gets_its_key_in_a_header_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    from breakeven.harness.engines._wire import Server

    server = Server("https://r.openai.azure.com/openai/v1/", "TEST_KEY", allow_http=False, auth="api-key")
    request = next(
        server.auth_flow(httpx.Request("POST", server.base_url, headers={"Authorization": "Bearer x"}))
    )
    assert request.headers["api-key"] == KEY
    assert "Authorization" not in request.headers
