"""The API engine: what it sends, what it hands out, and when it tries again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from openai_server import KEY, Fault, OpenAIServer, ask, chat, engine_for, many, says, serves

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines.openai import ProviderError
from breakeven.harness.errors import NotApplicable, UserError


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


# --- what is sent and what comes back --------------------------------------------------------


def test_a_chat_request_carries_messages_decoding_and_the_key(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(key=KEY)
    answer = ask(engine_for(server), chat(max_tokens=7, stop=("\n",), seed=3))["a"]
    (got,) = server.got
    assert answer.text == "yes"
    assert got.path == "/v1/chat/completions"
    assert got.body == {
        "model": "small",
        "messages": [{"role": "user", "content": "Is water wet?"}],
        "max_tokens": 7,
        "stop": ["\n"],
        "temperature": 0.0,
        "seed": 3,
    }


def test_a_text_request_goes_to_completions(serve: Callable[..., OpenAIServer]) -> None:
    server = serve()
    assert ask(engine_for(server), Request("a", text="Water is"))["a"].text == "yes"
    assert (server.got[0].path, server.got[0].body["prompt"]) == ("/v1/completions", "Water is")


def test_body_adds_fields_and_null_leaves_one_out(serve: Callable[..., OpenAIServer]) -> None:
    server = serve()
    ask(engine_for(server, body={"temperature": None, "reasoning_effort": "low"}, reasoning_tokens=100))
    body = server.got[0].body
    assert "temperature" not in body
    assert (body["reasoning_effort"], body["max_tokens"]) == ("low", 164)


def test_body_cannot_change_what_a_request_may_cost(serve: Callable[..., OpenAIServer]) -> None:
    with pytest.raises(UserError, match=r"body\.n"):
        engine_for(serve(), body={"n": 5})


def test_each_request_gets_its_own_answer_whatever_finishes_first(
    serve: Callable[..., OpenAIServer],
) -> None:
    server = serve(says(lambda body: body["messages"][0]["content"].upper()))
    answers = ask(engine_for(server), *(chat(str(i), f"word {i}") for i in range(30)))
    assert {name: c.text for name, c in answers.items()} == {str(i): f"WORD {i}" for i in range(30)}


def test_usage_is_what_the_response_says_cached_tokens_too(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(lambda body: Completion("", "yes", "length", Usage(100, 5, 80), 0.0))
    answer = ask(engine_for(server))["a"]
    assert (answer.usage, answer.finish_reason) == (Usage(100, 5, 80), "length")


def test_a_response_without_usage_is_estimated_and_says_so(serve: Callable[..., OpenAIServer]) -> None:
    usage = ask(engine_for(serve(faults=[Fault(without_usage=True)])))["a"].usage
    assert usage.estimated
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


def test_seconds_are_those_of_the_attempt_that_succeeded(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(faults=[Fault(status=500, delay=0.4)])
    assert ask(engine_for(server))["a"].seconds < 0.4


def test_a_prompt_the_provider_filters_is_an_empty_answer_not_a_failure(
    serve: Callable[..., OpenAIServer],
) -> None:
    server = serve(faults=[Fault(status=400, code="content_filter")])
    answers = ask(engine_for(server, concurrency=1), chat("a"), chat("b"))
    assert (answers["a"].text, answers["a"].finish_reason) == ("", "content_filter")
    assert answers["b"].text == "yes"


def test_no_more_requests_are_under_way_than_allowed(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(delay=0.03)
    ask(engine_for(server, concurrency=3), *many(12))
    assert server.most_at_once == 3


def test_a_plan_with_a_concurrency_never_has_larger_groups(serve: Callable[..., OpenAIServer]) -> None:
    engine = engine_for(serve())
    requests = many(130)
    assert [len(g) for g in engine.plan(requests)] == [64, 64, 2]
    assert [len(g) for g in engine.plan(requests[:5], concurrency=2)] == [2, 2, 1]


def test_the_card_says_where_the_data_goes_and_changes_with_what_is_asked(
    serve: Callable[..., OpenAIServer],
) -> None:
    server = serve()
    plain, shaped = engine_for(server).describe(), engine_for(server, body={"top_p": 0.5}).describe()
    assert plain.data_goes_to in server.url
    assert plain.digest != shaped.digest


def test_it_scores_no_choices_and_takes_no_adapter(serve: Callable[..., OpenAIServer]) -> None:
    engine = engine_for(serve())
    with pytest.raises(NotApplicable, match="score choices"):
        ask(engine, chat(choices=("a", "b")))
    with pytest.raises(NotApplicable, match="adapters"):
        engine.adapt(Path("adapter"))
    assert not engine.capabilities.train


# --- trying again ----------------------------------------------------------------------------

PASSING = [
    Fault(status=429),
    Fault(status=500),
    Fault(status=503),
    Fault(raw="{not json"),
    Fault(raw='{"choices": []}'),
    Fault(raw='{"choices": [{"message": {"content": 7}}]}'),
    Fault(drop=True),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f.raw or ("drop" if f.drop else str(f.status)))
def test_a_fault_that_may_pass_is_tried_again(serve: Callable[..., OpenAIServer], fault: Fault) -> None:
    server = serve(faults=[fault, fault])
    assert ask(engine_for(server))["a"].text == "yes"
    assert len(server.got) == 3


def test_a_timeout_is_tried_again(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(faults=[Fault(delay=0.6)])
    assert ask(engine_for(server, timeout=0.2))["a"].text == "yes"
    assert len(server.got) == 2


def test_the_pauses_grow_and_stay_bounded(serve: Callable[..., OpenAIServer]) -> None:
    naps: list[float] = []
    server = serve(faults=[Fault(status=503)] * 9)
    ask(engine_for(server, naps, retries=9))
    assert all(a / 4 <= b <= 30.0 for a, b in zip([1.0, 2.0, 4.0, 8.0], naps[1:5], strict=True))
    assert naps[0] <= 0.5
    assert max(naps) <= 30.0
    assert naps[4] > naps[0]


def test_the_server_is_given_the_pause_it_asks_for(serve: Callable[..., OpenAIServer]) -> None:
    naps: list[float] = []
    server = serve(faults=[Fault(status=429, headers={"Retry-After": "17"})])
    ask(engine_for(server, naps))
    assert naps == [17.0]


def test_a_pause_of_hours_is_not_waited_for(serve: Callable[..., OpenAIServer]) -> None:
    naps: list[float] = []
    server = serve(faults=[Fault(status=429, headers={"Retry-After": "7200"})])
    with pytest.raises(ProviderError, match=r"7200 s.*--resume"):
        ask(engine_for(server, naps))
    assert naps == []


def test_it_gives_up_after_its_retries_and_says_why(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(faults=[Fault(status=503, message="overloaded")] * 9)
    with pytest.raises(ProviderError, match=r"request 'a' \(3 attempts\).*503 overloaded"):
        ask(engine_for(server, retries=2))
    assert len(server.got) == 3


def test_a_server_on_this_machine_is_not_looked_for_behind_a_proxy(
    serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(engine_for(serve(), retries=0))["a"].text == "yes"


def test_a_server_that_is_not_there_is_named(serve: Callable[..., OpenAIServer]) -> None:
    server = OpenAIServer(says("yes"))
    server._http.server_close()
    with pytest.raises(ProviderError, match=r"127\.0\.0\.1:\d+ .* cannot connect"):
        ask(engine_for(server, retries=1))


REFUSALS = [
    (Fault(status=400, message="unknown field seed"), "unknown field seed"),
    (Fault(status=400, code="context_length_exceeded"), "longer than the model's context"),
    (Fault(status=401), "refuses the key in TEST_KEY"),
    (Fault(status=403), "refuses the key in TEST_KEY"),
    (Fault(status=404, message="no model small"), "no model small.*base_url"),
    (Fault(status=422, message="bad"), "422 bad"),
    (Fault(status=302, headers={"Location": "https://elsewhere.example"}), "redirects"),
    (Fault(status=429, code="insufficient_quota"), "no credit left"),
]


@pytest.mark.parametrize(("fault", "words"), REFUSALS, ids=lambda v: str(v)[:20])
def test_a_refusal_is_the_users_to_mend_and_not_tried_again(
    serve: Callable[..., OpenAIServer], fault: Fault, words: str
) -> None:
    server = serve(faults=[fault] * 5)
    with pytest.raises(UserError, match=words):
        ask(engine_for(server))
    assert len(server.got) == 1


def test_answers_under_way_are_handed_out_before_a_refusal_stops_the_rest(
    serve: Callable[..., OpenAIServer],
) -> None:
    server = serve(faults=[None, None, Fault(status=400, message="bad")], delay=0.02)
    finished: list[str] = []
    with pytest.raises(UserError, match="bad"):
        finished.extend(c.id for c in engine_for(server, concurrency=2).complete(many(40)))
    assert len(finished) == len(server.got) - 1 < 39


def test_after_ctrl_c_answers_under_way_are_handed_out_and_nothing_more_is_sent(
    serve: Callable[..., OpenAIServer],
) -> None:
    server = serve(delay=0.2)
    engine, finished = engine_for(server, concurrency=4), list[str]()

    def interrupt() -> None:
        while len(server.got) < 4:
            threading.Event().wait(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        finished.extend(c.id for c in engine.complete(many(40)))
    assert len(finished) == len(server.got) == 4


# --- a real model behind it ------------------------------------------------------------------


@pytest.mark.model
def test_the_default_model_answers_through_a_server_as_it_does_at_home(
    serve: Callable[..., OpenAIServer],
) -> None:
    from breakeven.harness.engines.local import local

    at_home = local("smollm2-135m-instruct")
    server = serve(serves(at_home))
    questions = ["What is the capital of France?", "Name a colour of the rainbow."]
    requests = [chat(str(i), q, max_tokens=8) for i, q in enumerate(questions)]
    answers = ask(engine_for(server, concurrency=2), *requests)
    for request in requests:
        alone = next(iter(at_home.complete([request])))
        assert answers[request.id].text == alone.text
        assert answers[request.id].usage == alone.usage


@pytest.mark.model
def test_tokens_are_guessed_to_within_a_third_without_the_tokenizer(
    serve: Callable[..., OpenAIServer],
) -> None:
    from breakeven.harness.engines.local import local

    text = (
        "Our annual leave is 27 days; unused days lapse on 31 March unless a manager agrees in writing. "
        "Préparez la pâte, laissez reposer 30 minutes, puis étalez-la finement avant d'ajouter les pommes."
    )
    counted = local("smollm2-135m-instruct").count_tokens(Request("a", text=text))
    guessed = engine_for(serve()).count_tokens(Request("a", text=text))
    assert guessed == pytest.approx(counted, rel=0.33)
