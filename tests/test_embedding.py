"""The embedder on its real default model: vectors, and what they are billed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from breakeven.harness import embedding, models
from breakeven.harness._kept_vectors import KeptVectors
from breakeven.harness.embedding import KEPT, SentenceEmbedder, language_warning
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


HINDI = "यह एक छोटा दस्तावेज़ है"


def test_data_in_another_script_than_declared_gets_a_warning() -> None:
    texts = {"documents": ["An English page"], "questions": [HINDI]}
    warning = language_warning("all-minilm-l6-v2", "en", texts)
    assert warning is not None
    assert "100 % of the letters of the questions are not Latin (most are Devanagari)" in warning
    assert "declares English" in warning


@pytest.mark.parametrize("text", ["Déjà vu, naïve Ünal", f"{HINDI}, and many words of English", "3.14", ""])
def test_texts_that_are_mostly_latin_or_have_no_letters_get_no_warning(text: str) -> None:
    assert language_warning("all-minilm-l6-v2", "en", {"documents": [text]}) is None
    assert language_warning("somebodys-model", "en", {"documents": [HINDI]}) is None


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


# --- between runs ----------------------------------------------------------------------------


@pytest.fixture
def keeping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ledger]:
    """Embeds texts as an index, as the next run of the program would: nothing is known but what was kept."""
    monkeypatch.setattr(embedding, "WORTH_KEEPING", 3)
    monkeypatch.setattr(KeptVectors, "of", lambda digest: KeptVectors(tmp_path / f"{digest[:8]}.sqlite"))

    def run(*texts: str, fresh: bool = False) -> Ledger:
        monkeypatch.setattr(embedding, "_shared", dict(loaded))
        model = next(iter(loaded.values()))
        model.vectors, model.lengths = {}, {}
        model.tokens_done, model.seconds_spent = 0, 0.0
        ledger = Ledger()
        vectors = SentenceEmbedder(ledger, device="cpu", fresh=fresh).encode(texts, phase="index")
        run.vectors = vectors  # type: ignore[attr-defined]
        return ledger

    SentenceEmbedder(device="cpu").encode(["loaded"], phase="serve")
    loaded = {k: m for k, m in embedding._shared.items() if k == (models.DEFAULT_EMBEDDER, "cpu")}
    return run


def tokens(ledger: Ledger, source: str) -> float:
    return sum(
        e.amount.value or 0 for e in ledger.select("index", "embedded_tokens") if e.source.startswith(source)
    )


def test_only_new_passages_are_embedded_when_documents_change(keeping: Any) -> None:
    keeping("one", "two", "three words here")
    whole = keeping("one", "two", "a new passage")
    assert tokens(whole, "counted, no padding") == 5  # with the two around it
    assert tokens(whole, KEPT) == 6


def test_a_repeated_passage_that_was_kept_is_not_embedded_now(keeping: Any) -> None:
    keeping("one", "two", "two")
    again = keeping("one", "two", "two")
    assert tokens(again, "counted, no padding") == 0
    assert tokens(again, KEPT) == 9


def test_vectors_that_were_kept_are_the_same_to_the_bit(keeping: Any) -> None:
    keeping("one", "two", "three words here")
    first = keeping.vectors
    keeping("one", "two", "three words here")
    np.testing.assert_array_equal(keeping.vectors, first)


def test_the_bill_is_that_of_the_whole_index(keeping: Any) -> None:
    first = keeping("one", "two", "three words here")
    again = keeping("one", "two", "three words here")
    assert again.total("embedded_tokens").value == first.total("embedded_tokens").value
    assert again.total("flops").value == first.total("flops").value
    seconds = again.total("seconds")
    assert (seconds.status, seconds.value) == ("estimated", pytest.approx(first.total("seconds").value))


def test_models_that_share_weights_and_pool_them_differently_share_no_vectors(tmp_path: Path) -> None:
    import shutil

    mean, cls = tmp_path / "mean", tmp_path / "cls"
    shutil.copytree(models.resolve(models.DEFAULT_EMBEDDER), mean)
    shutil.copytree(mean, cls)
    file = cls / "1_Pooling" / "config.json"
    file.write_text(file.read_text().replace("true", "false"))
    digests = {SentenceEmbedder(model=str(folder)).digest for folder in (mean, cls)}
    assert len(digests) == 2
    assert SentenceEmbedder().digest == models.digest(mean)  # pinned: its weights say it all


def test_what_is_timed_is_computed_again(keeping: Any) -> None:
    keeping("one", "two", "three words here")
    assert keeping("one", "two", "three words here", fresh=True).total("seconds").status == "measured"


def test_few_texts_and_questions_are_not_kept(keeping: Any, tmp_path: Path) -> None:
    keeping("one", "two")
    SentenceEmbedder(device="cpu").encode(["a", "b", "c", "d"], phase="serve")
    assert list(tmp_path.glob("*.sqlite")) == []


def test_seconds_on_hardware_that_never_embedded_are_unknown(
    keeping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping("one", "two", "three words here")
    monkeypatch.setattr(embedding.hardware, "name", lambda: "another machine")
    assert keeping("one", "two", "three words here").total("seconds").value is None


def test_a_damaged_cache_is_no_error(keeping: Any, tmp_path: Path) -> None:
    keeping("one", "two", "three words here")
    (file,) = tmp_path.glob("*.sqlite")
    file.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    assert keeping("one", "two", "three words here").total("embedded_tokens").value == 11
