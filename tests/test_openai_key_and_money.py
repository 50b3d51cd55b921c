"""The API engine never tells its key and never spends more than it may."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from openai_server import KEY, Fault, OpenAIServer, ask, chat, engine_for, many, says

from breakeven.harness.engines.openai import openai
from breakeven.harness.errors import SpendingLimitReached, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.prices import PriceBook
from breakeven.harness.session import Journal, Session
from breakeven.harness.spending import SpendGuard


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


# --- the key ---------------------------------------------------------------------------------


def test_a_wrong_key_is_refused_without_being_shown(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(key="another")
    with pytest.raises(UserError) as caught:
        ask(engine_for(server))
    assert server.got[0].key == KEY
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_the_key_is_cut_out_of_what_a_server_quotes(serve: Callable[..., OpenAIServer]) -> None:
    server = serve(faults=[Fault(status=400, message=f"bad header Authorization: Bearer {KEY}")])
    with pytest.raises(UserError) as caught:
        ask(engine_for(server))
    assert KEY not in str(caught.value)


def test_the_key_is_in_no_attribute_log_or_journal(
    serve: Callable[..., OpenAIServer], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = engine_for(serve(key=KEY, faults=[Fault(status=500), Fault(drop=True)]))
    session = Session(engine, Journal(tmp_path / "journal.jsonl"), Ledger(), "serve")
    assert len(list(session.complete([chat()]))) == 1
    shown = [engine, engine.describe(), vars(engine), vars(engine._server)]
    written = [caplog.text, (tmp_path / "journal.jsonl").read_text(), *map(repr, shown)]
    assert not any(KEY in text for text in written)


def test_the_key_is_read_when_a_request_leaves(
    serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    engine = engine_for(server)
    monkeypatch.setenv("TEST_KEY", "sk-new-key\n")
    ask(engine)
    assert server.got[0].key == "sk-new-key"


def test_a_missing_key_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(UserError, match="environment variable TEST_KEY is not set"):
        openai("gpt-4o-mini", api_key_env="TEST_KEY").check()


def test_a_server_on_this_machine_needs_no_key(
    serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    server = serve()
    assert ask(engine_for(server))["a"].text == "yes"
    assert server.got[0].key is None


def test_a_key_with_foreign_characters_is_refused_unseen(
    serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", "sk-“quoted”")
    with pytest.raises(UserError, match="characters that no key has") as caught:
        ask(engine_for(serve()))
    assert "quoted" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://api.example.com/v1", "unencrypted"),
        ("https://me:secret@api.example.com/v1", "user, password"),
        ("https://api.example.com/v1?key=secret", "query"),
        ("api.example.com", "no http"),
    ],
)
def test_an_address_that_would_give_the_key_away_is_refused(url: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        openai("small", base_url=url)
    assert "secret" not in str(caught.value)


# --- money -----------------------------------------------------------------------------------


def test_a_model_nobody_prices_is_refused_before_anything_is_sent(
    serve: Callable[..., OpenAIServer],
) -> None:
    server = serve()
    with pytest.raises(UserError, match=r"nobody knows what 'small'.*allow_unpriced"):
        ask(engine_for(server, allow_unpriced=False))
    assert server.got == []


def test_a_known_name_on_an_unknown_server_is_not_taken_for_the_known_model(
    serve: Callable[..., OpenAIServer],
) -> None:
    with pytest.raises(UserError, match="nobody knows"):
        openai("gpt-4o-mini", base_url=serve().url, api_key_env="TEST_KEY").check()


def test_openais_own_models_are_priced_by_their_names() -> None:
    card = openai("gpt-4o-mini", api_key_env="TEST_KEY").describe()
    assert (card.price_as, card.data_goes_to) == ("openai/gpt-4o-mini", "api.openai.com")
    assert card.context == 128_000


def test_what_is_spent_is_the_price_of_the_usage(serve: Callable[..., OpenAIServer]) -> None:
    guard = SpendGuard(None)
    engine = engine_for(serve(says("yes", 1000, 100)), price_as="gpt-4o-mini")
    engine.bill_to(guard, PriceBook.load())
    ask(engine, chat("a"), chat("b"))
    assert guard.spent == pytest.approx(2 * (1000 * 0.15 + 100 * 0.60) / 1e6)
    assert guard.reserved == 0


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_limit_is_never_crossed_and_what_was_paid_for_is_handed_out(
    serve: Callable[..., OpenAIServer], concurrency: int
) -> None:
    price_of_one = (1000 * 2.5 + 64 * 10.0) / 1e6
    server = serve(says("yes", 1000, 64), delay=0.005)
    limit = price_of_one * 10.5
    guard = SpendGuard(limit)
    engine = engine_for(server, price_as="gpt-4o", concurrency=concurrency)
    engine.bill_to(guard, PriceBook.load())
    finished: list[str] = []
    long = "x" * 900  # at most 900 tokens and the template's
    with pytest.raises(SpendingLimitReached, match="nothing of it was sent"):
        finished.extend(c.id for c in engine.complete(many(40, long)))
    assert len(finished) == len(server.got) == 10
    assert guard.spent == pytest.approx(10 * price_of_one)
    assert guard.spent <= limit


def test_a_first_request_beyond_the_limit_is_not_sent(serve: Callable[..., OpenAIServer]) -> None:
    server = serve()
    with pytest.raises(SpendingLimitReached):
        ask(engine_for(server, price_as="gpt-4o", max_spend=1e-6))
    assert server.got == []


def test_an_attempt_that_may_have_been_billed_counts_in_full(serve: Callable[..., OpenAIServer]) -> None:
    guard = SpendGuard(None)
    engine = engine_for(serve(faults=[Fault(drop=True)]), price_as="gpt-4o")
    engine.bill_to(guard, PriceBook.load())
    ask(engine, chat(max_tokens=1000))
    assert guard.spent > 1000 * 10.0 / 1e6


def test_an_attempt_the_server_was_too_busy_for_costs_nothing(serve: Callable[..., OpenAIServer]) -> None:
    guard = SpendGuard(None)
    engine = engine_for(serve(says("yes", 10, 2), faults=[Fault(status=503)]), price_as="gpt-4o")
    engine.bill_to(guard, PriceBook.load())
    ask(engine, chat(max_tokens=1000))
    assert guard.spent == pytest.approx((10 * 2.5 + 2 * 10.0) / 1e6)


def test_a_call_stopped_at_the_limit_goes_on_later_without_asking_twice(
    serve: Callable[..., OpenAIServer], tmp_path: Path
) -> None:
    server = serve(says(lambda body: body["messages"][0]["content"], 1000, 64))
    requests = [chat(str(i), f"question {i}") for i in range(12)]

    def run(limit: float) -> dict[str, str]:
        engine = engine_for(server, price_as="gpt-4o")
        engine.bill_to(SpendGuard(limit), PriceBook.load())
        session = Session(engine, Journal(tmp_path / "journal.jsonl"), Ledger(), "serve")
        return {c.id: c.text for c in session.complete(requests)}

    with pytest.raises(SpendingLimitReached):
        run(0.02)
    assert 0 < len(server.got) < 12
    assert run(1.0) == {str(i): f"question {i}" for i in range(12)}
    assert len(server.got) == 12


def test_a_limit_on_one_model_of_a_run_is_refused_instead_of_ignored(
    serve: Callable[..., OpenAIServer],
) -> None:
    engine = engine_for(serve(), price_as="gpt-4o", max_spend=2.5)
    with pytest.raises(UserError, match=r"limits: \{spend: 2\.5\}"):
        engine.bill_to(SpendGuard(None), PriceBook.load())
