"""The embedder on its real default model: vectors, and what they are billed."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from breakeven.harness.embedding import SentenceEmbedder, language_warning
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Entry, Ledger

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder(device="cpu")


def booked(ledger: Ledger, quantity: str) -> Entry:
    found = [entry for entry in ledger.entries if entry.quantity == quantity]
    assert len(found) == 1
    return found[0]


def billed(embedder: SentenceEmbedder, *texts: str) -> Ledger:
    ledger = Ledger()
    embedder.bind(ledger).encode(texts, phase="serve")
    return ledger


def test_vectors_are_float32_rows_of_length_one_in_the_order_of_the_texts(embedder: SentenceEmbedder) -> None:
    vectors = embedder.encode(["a lost card", "a refund", "a lost card"], phase="index")
    assert vectors.shape == (3, embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] != vectors[1]).any()


def test_a_meaning_is_nearer_to_itself_in_other_words(embedder: SentenceEmbedder) -> None:
    question, same, other = embedder.encode(
        ["My card has not arrived", "Where is the card you sent me?", "How do I bake bread?"], phase="serve"
    )
    assert question @ same > question @ other


def test_no_texts_make_no_vectors_and_no_bill(embedder: SentenceEmbedder) -> None:
    ledger = Ledger()
    assert embedder.bind(ledger).encode([], phase="serve").shape == (0, embedder.dimension)
    assert not ledger.entries


def test_padding_is_nobodys_tokens(embedder: SentenceEmbedder) -> None:
    short, long = "one", "a much longer text that pads the short one " * 3
    apart = [billed(embedder, text).total("embedded_tokens").value for text in (short, long)]
    together = billed(embedder, short, long).total("embedded_tokens").value
    assert together == sum(cast(list[float], apart))
    assert apart[0] == 3  # the word, and the two tokens around every text


def test_a_text_too_long_is_billed_as_cut(embedder: SentenceEmbedder) -> None:
    assert billed(embedder, "word " * 1000).total("embedded_tokens").value == 256


def test_the_tokens_of_a_texts_parts_add_up(embedder: SentenceEmbedder) -> None:
    first, second = "Where is my card? ", "It was lost. " * 200
    assert embedder.count_tokens([first + second]) == [sum(embedder.count_tokens([first, second]))]
    assert embedder.count_tokens([second])[0] > embedder.context


def test_a_repeated_text_is_billed_again_with_the_seconds_it_would_take(embedder: SentenceEmbedder) -> None:
    text = "a text that nobody asked for before"
    first, second = billed(embedder, text), billed(embedder, text)
    assert second.total("embedded_tokens") == first.total("embedded_tokens")
    assert second.total("flops") == first.total("flops")
    assert booked(first, "seconds").amount.status == "measured"
    again = booked(second, "seconds").amount
    assert again.status == "estimated"
    assert again.value is not None
    assert again.value > 0


def test_amounts_are_booked_under_the_phase_and_model_asked_for(embedder: SentenceEmbedder) -> None:
    ledger = Ledger()
    embedder.bind(ledger).encode(["hello"], phase="index")
    assert {(e.phase, e.model) for e in ledger.entries} == {("index", "all-minilm-l6-v2")}
    assert {e.quantity for e in ledger.entries} == {"embedded_tokens", "seconds", "flops"}


def test_data_in_another_language_gets_a_warning() -> None:
    warning = language_warning("all-minilm-l6-v2", "de-AT")
    assert warning is not None
    assert "English" in warning
    assert "German" in warning


def test_english_data_gets_no_warning() -> None:
    assert language_warning("all-minilm-l6-v2", "en-GB") is None


def test_an_embedding_model_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(UserError, match="'all-minilm-l7' is not there"):
        SentenceEmbedder(Ledger(), model="all-minilm-l7").encode(["x"], phase="serve")


@pytest.mark.model
def test_a_timed_pass_computes_a_text_again_that_is_known_already(monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = SentenceEmbedder()
    embedder.encode(["a question asked before"], phase="serve")
    computed: list[list[str]] = []
    model = embedder._model
    real = model._compute
    monkeypatch.setattr(model, "_compute", lambda texts: computed.append(texts) or real(texts))
    embedder.bind(Ledger()).encode(["a question asked before"], phase="serve")
    assert computed == []
    embedder.bind(Ledger(), fresh=True).encode(["a question asked before"], phase="serve")
    assert computed == [["a question asked before"]]
