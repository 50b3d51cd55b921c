"""What servers of all kinds really answer, and what the engine makes of it.

The bodies are those that Ollama, vLLM, llama.cpp's server, Azure, gateways and routers are reported to send.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from openai_server import KEY, Fault, OpenAIServer, ask, chat, engine_for, many, says

from breakeven.harness.engines import _wire
from breakeven.harness.engines.openai import ProviderError
from breakeven.harness.errors import UserError
from breakeven.harness.prices import PriceBook
from breakeven.harness.spending import SpendGuard

Serve = Callable[..., OpenAIServer]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def body(message: Any, reason: str = "stop", usage: Any = None, **more: Any) -> Fault:
    made = {"choices": [{"index": 0, "message": message, "finish_reason": reason}], **more}
    return Fault(raw=json.dumps(made if usage is None else {**made, "usage": usage}))


def error(status: int, said: Any) -> Fault:
    return Fault(status=status, body=json.dumps(said))


# --- answers ---------------------------------------------------------------------------------

ANSWERS = [
    # Azure, of an answer that it has filtered: no content at all
    (body({"role": "assistant"}, "content_filter"), ("", "content_filter")),
    (body({"content": None, "tool_calls": [{"id": "x"}]}, "tool_calls"), ("", "tool_calls")),
    (body({"content": None, "refusal": "I can't help with that."}), ("I can't help with that.", "refusal")),
    # a model that thinks until its room is full
    (body({"content": None, "reasoning_content": "hm"}, "length"), ("", "length")),
    (body({"content": [{"type": "text", "text": "we"}, {"type": "text", "text": "t"}]}), ("wet", "stop")),
    (body({"content": "wet"}, "stop", logprobs=None, id=None), ("wet", "stop")),
]


@pytest.mark.parametrize(("fault", "said"), ANSWERS, ids=lambda v: str(v)[:24])
def test_an_answer_is_read_at_once_however_it_is_shaped(
    fault: Fault, said: tuple[str, str], serve: Serve
) -> None:
    server = serve(faults=[fault])
    answer = ask(engine_for(server))["a"]
    assert (answer.text, answer.finish_reason) == said
    assert len(server.got) == 1


USAGES = [
    ({"prompt_tokens": 0, "completion_tokens": 3}, True),  # Ollama, of a prompt that it had cached
    ({"prompt_tokens": 9}, True),  # a text was written, and nobody says how long it is
    ({"total_tokens": 12}, True),
    ({"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": None}, False),
    (
        {
            "prompt_tokens": 9,
            "completion_tokens": 3,
            "completion_tokens_details": {"reasoning_tokens": 2},
            "prompt_tokens_details": {"cached_tokens": None},
        },
        False,
    ),
]


@pytest.mark.parametrize(("usage", "guessed"), USAGES, ids=lambda v: str(v)[:30])
def test_tokens_that_a_server_does_not_say_are_not_taken_for_none(
    usage: Any, guessed: bool, serve: Serve
) -> None:
    found = ask(engine_for(serve(faults=[body({"content": "wet"}, usage=usage)])))["a"].usage
    assert found.estimated is guessed
    assert found.input_tokens > 0
    assert found.output_tokens > 0


def test_an_error_that_comes_as_an_answer_is_an_error(serve: Serve) -> None:
    """As routers send it: status 200, the real one inside."""
    busy = Fault(raw=json.dumps({"error": {"code": 429, "message": "rate limited upstream"}}))
    guard = SpendGuard(None)
    engine = engine_for(serve(says("yes", 10, 2), faults=[busy]), price_as="gpt-4o")
    engine.bill_to(guard, PriceBook.load())
    assert ask(engine, chat(max_tokens=1000))["a"].text == "yes"
    assert guard.spent == pytest.approx((10 * 2.5 + 2 * 10.0) / 1e6)
    broken = Fault(raw=json.dumps({"error": {"code": 400, "message": "bad field"}}))
    with pytest.raises(UserError, match="400 bad field"):
        ask(engine_for(serve(faults=[broken])))


def test_a_page_in_place_of_an_answer_is_said_to_be_one(serve: Serve) -> None:
    page = Fault(raw="<html>Sign in</html>", headers={"Content-Type": "text/html"})
    with pytest.raises(ProviderError, match="a web page; is base_url right"):
        ask(engine_for(serve(faults=[page] * 3), retries=1))


# --- refusals --------------------------------------------------------------------------------

TOO_LONG = "This model's maximum context length is 2048 tokens. However, you requested 2723 tokens"
REFUSALS = [
    # vLLM before 0.11 and FastAPI keep the message at the top
    (error(400, {"object": "error", "message": TOO_LONG, "code": 400}), "longer than the model's context"),
    (error(422, {"detail": [{"loc": ["body", "seed"], "msg": "unknown"}]}), "seed"),
    (error(400, {"message": "no such deployment", "statusCode": 400}), "no such deployment"),
    # Ollama says it as a text
    (error(404, {"error": "model 'x' not found"}), "model 'x' not found"),
    # llama.cpp: its code is the status, and a prompt that is too long may come as 500
    (
        error(
            400,
            {"error": {"code": 400, "type": "exceed_context_size_error", "message": "request (9 tokens)"}},
        ),
        "longer than the model's context",
    ),
    (
        error(500, {"error": {"code": 500, "type": "server_error",
                              "message": "Context size has been exceeded."}}),
        "longer than the model's context",
    ),
    (error(402, {"error": {"message": "Insufficient Balance"}}), "no credit left"),
    (
        error(429, {"error": {"type": "insufficient_quota", "code": None,
                              "message": "You exceeded your current quota"}}),
        "no credit left",
    ),
    # a name that is wrong, where nothing was just deployed
    (error(404, {"error": {"code": "DeploymentNotFound", "message": "does not exist"}}), "no such model"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "words"), REFUSALS, ids=lambda v: str(v)[:30])
def test_a_refusal_for_good_is_understood_and_told_once(fault: Fault, words: str, serve: Serve) -> None:
    server = serve(faults=[fault] * 9)
    with pytest.raises(UserError, match=words):
        ask(engine_for(server))
    assert len(server.got) == 1


def test_a_model_that_wants_its_room_by_another_name_gets_it(serve: Serve) -> None:
    """Azure's newer models; its older ones refuse the newer name, so that a server has to say so."""
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
    refusal = error(400, {"error": {"message": said, "param": "max_tokens", "code": "unsupported_parameter"}})
    server, guard = serve(says("yes", 10, 2), faults=[refusal]), SpendGuard(None)
    engine = engine_for(server, price_as="gpt-4o")
    engine.bill_to(guard, PriceBook.load())
    digest = engine.describe().digest
    ask(engine, chat("a", max_tokens=7))
    ask(engine, chat("b", max_tokens=8))
    rooms = [{k: v for k, v in g.body.items() if k.startswith("max")} for g in server.got]
    assert rooms == [{"max_tokens": 7}, {"max_completion_tokens": 7}, {"max_completion_tokens": 8}]
    assert guard.spent == pytest.approx(2 * (10 * 2.5 + 2 * 10.0) / 1e6)
    assert engine.describe().digest == digest  # a resumed run asks nothing again


def test_requests_under_way_by_the_older_name_are_all_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first refusal teaches the newer name; those that come after it were sent before it was known."""
    together = threading.Barrier(4)
    said = "'max_tokens' is not supported, use 'max_completion_tokens'"
    message = {"choices": [{"message": {"content": "yes"}}]}
    engine = engine_for(type("S", (), {"url": "http://127.0.0.1:9/v1"})(), concurrency=4)  # type: ignore[arg-type]

    def post(url: str, json: Any, auth: Any) -> httpx.Response:
        if "max_tokens" in json:
            together.wait(10)
            return httpx.Response(400, json={"error": {"message": said}})
        return httpx.Response(200, json=message)

    monkeypatch.setattr(engine._client, "post", post)
    assert len(ask(engine, *many(4))) == 4


def test_a_server_that_refuses_both_names_is_told_once(serve: Serve) -> None:
    said = "'max_tokens' is not supported, use 'max_completion_tokens'"
    server = serve(faults=[error(400, {"error": {"message": said}})] * 9)
    with pytest.raises(UserError, match="is not supported"):
        ask(engine_for(server))
    assert len(server.got) == 2


# --- how long to wait, and what was billed ---------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"retry-after-ms": "2500", "Retry-After": "9"}, 2.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"}, 6.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m6.5s"}, 66.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "850ms"}, 0.85),
    ],
)
def test_the_pause_is_what_the_server_says_in_whatever_header(
    headers: dict[str, str], waits: float, serve: Serve
) -> None:
    naps: list[float] = []
    ask(engine_for(serve(faults=[Fault(status=429, headers=headers)]), naps))
    assert naps == [pytest.approx(waits, abs=0.5)]


def test_a_pause_until_a_date_is_waited_for(serve: Serve) -> None:
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    naps: list[float] = []
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    ask(engine_for(serve(faults=[Fault(status=429, headers={"Retry-After": until})]), naps))
    assert 20 < naps[0] <= 30


@pytest.mark.parametrize(
    ("date", "until", "waits"),
    [
        (
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Wed, 21 Oct 2015 07:28:10 GMT",
            10.0,
        ),  # a clock that is years behind
        ("Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:10 -0000", 10.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("today", "Wed, 21 Oct 2015 07:28:10 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "tomorrow", None),
    ],
)
def test_a_pause_until_a_date_goes_by_the_clock_of_the_server(
    date: str, until: str, waits: float | None
) -> None:
    reply = httpx.Response(429, headers={"Date": date, "Retry-After": until})
    assert _wire.retry_after(reply) == waits


@pytest.mark.parametrize(
    ("status", "billed"), [(429, False), (503, False), (529, False), (408, True), (502, True), (504, True)]
)
def test_an_attempt_that_a_gateway_gave_up_on_may_have_been_billed(
    status: int, billed: bool, serve: Serve
) -> None:
    guard = SpendGuard(None)
    engine = engine_for(serve(says("yes", 10, 2), faults=[Fault(status=status)]), price_as="gpt-4o")
    engine.bill_to(guard, PriceBook.load())
    ask(engine, chat(max_tokens=1000))
    assert (guard.spent > 1000 * 10.0 / 1e6) is billed


def test_a_choice_longer_than_the_question_is_in_the_worst_case() -> None:
    shape = _wire.Shape("m", "http://127.0.0.1/v1")
    choice = "a very long answer " * 40
    asked = _wire.worst_case(chat(), shape)
    assert _wire.worst_case(chat(), shape, choice).input_tokens == asked.input_tokens + len(choice)


def test_only_the_first_token_is_written_where_only_it_is_scored(serve: Serve) -> None:
    server = serve()
    with pytest.raises(UserError, match="gives no top_logprobs"):
        ask(engine_for(server, choices="first-token"), chat("a", max_tokens=64, choices=("yes", "no")))
    assert server.got[0].body["max_tokens"] == 1


# --- the key ---------------------------------------------------------------------------------


def test_a_redirect_is_never_followed_with_a_key(serve: Serve) -> None:
    elsewhere = serve()
    to = {"Location": f"{elsewhere.url}/chat/completions"}
    with pytest.raises(UserError, match="redirects elsewhere"):
        ask(engine_for(serve(faults=[Fault(status=307, headers=to)]), auth="api-key"))
    assert elsewhere.got == []
