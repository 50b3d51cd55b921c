"""Passages by words, by both words and vectors, reread, and made diverse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategy_fakes import World, brief, examples

from breakeven.baselines import _composer
from breakeven.baselines._lexical import LexicalIndex, words
from breakeven.baselines._predictor import LeversPredictor
from breakeven.baselines._ranking import RRF, diverse, fused
from breakeven.baselines.levers import levers
from breakeven.harness.contracts import Document, Input, Prediction
from breakeven.harness.errors import NotApplicable, UserError

DOCUMENTS = (
    Document("sky", "the winter sky is blue"),
    Document("sea", "the deep sea is blue and cold"),
    Document("rose", "an old rose is red"),
    Document("code", "error XK-2201 means the valve is shut"),
)
TRAIN = examples(("a ripe tomato", "red"), ("the summer sky", "blue"))
ASKED = Input("q", {"text": "what does error XK-2201 mean ?"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def fitted(world: World, context: dict[str, Any], **settings: Any) -> LeversPredictor:
    task = brief(documents=DOCUMENTS)
    return levers(context=context, **settings).fit(task, TRAIN, (), world.services())


def answer(predictor: LeversPredictor, asked: Input = ASKED) -> Prediction:
    return next(iter(predictor.predict([asked])))


def shown(predictor: LeversPredictor, asked: Input = ASKED) -> Any:
    return answer(predictor, asked).meta["passages"]


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Sky, blue!", ["the", "sky", "blue"]),
        ("Müller café", ["muller", "cafe"]),
        ("error XK-2201", ["error", "xk", "2201"]),
        ("日本語です", ["日本", "本語", "語で", "です"]),
        ("日", ["日"]),
        ("𠀀𠀁𠀂", ["𠀀𠀁", "𠀁𠀂"]),
        ("GPUで学習", ["gpu", "で学", "学習"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("বাংলা, தமிழ்", ["বাংলা", "தமிழ்"]),
        ("การทดลอง", ["กา", "าร", "รท", "ทด", "ดล", "ลอ", "อง"]),
        ("ที่นี่", ["ที่นี่"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("العَرَبِيَّة דָּבָר", ["العربية", "דבר"]),
        ("Ένας ёж", ["ενας", "еж"]),
        ("", []),
    ],
)
def test_words_are_read_off_a_text(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(("one", "other"), [("दान", "दीन"), ("मेला", "मूल"), ("がき", "かぎ"), ("กิน", "กัน")])
def test_words_that_differ_in_their_vowels_or_marks_alone_are_different(one: str, other: str) -> None:
    assert LexicalIndex.of([other, one]).nearest([one], 2) == [[1]]


def test_a_joiner_that_only_shapes_a_letter_is_no_border() -> None:
    assert words("क्\u200dष") == words("क्ष")


@pytest.mark.parametrize("texts", [["!!!", "..."], [""]])
def test_texts_without_a_word_are_found_by_none(texts: list[str], tmp_path: Path) -> None:
    LexicalIndex.of(texts).write(tmp_path / "words")
    assert LexicalIndex.read(tmp_path / "words", len(texts)).nearest(["a", "!!!"], 3) == [[], []]


def test_rows_that_share_rarer_words_come_first() -> None:
    index = LexicalIndex.of(["the cat", "the dog", "the dog and the cat", "the bird"])
    assert index.nearest(["the bird"], 4)[0][0] == 3


def test_rows_that_share_no_word_are_not_found() -> None:
    index = LexicalIndex.of(["a cat", "a dog"])
    assert index.nearest(["dog", "bird", ""], 2) == [[1], [], []]


def test_rows_that_are_equally_good_keep_their_order() -> None:
    assert LexicalIndex.of(["a cat"] * 9).nearest(["cat"], 4) == [[0, 1, 2, 3]]


def test_rows_that_are_not_allowed_are_passed_over_by_words_too() -> None:
    assert LexicalIndex.of(["a cat"] * 9).nearest(["cat"], 2, lambda n, row: row > 4) == [[5, 6]]


def test_an_index_of_words_read_again_finds_the_same(tmp_path: Path) -> None:
    texts = [d.text for d in DOCUMENTS]
    LexicalIndex.of(texts).write(tmp_path / "words")
    again = LexicalIndex.read(tmp_path / "words", len(texts))
    assert again.nearest(["the blue sea"], 3) == LexicalIndex.of(texts).nearest(["the blue sea"], 3)


# --- fusion ----------------------------------------------------------------------------------

RANKINGS = st.lists(
    st.lists(st.integers(0, 20), unique=True, max_size=12).map(lambda rows: [(r, 0.0) for r in rows]),
    min_size=1,
    max_size=3,
)


def test_reciprocal_rank_fusion_is_the_sum_of_reciprocal_ranks() -> None:
    found = dict(fused([[(1, 9.0), (2, 8.0)], [(2, 0.5), (3, 0.1)]]))
    assert found == pytest.approx({2: 1 / (RRF + 2) + 1 / (RRF + 1), 1: 1 / (RRF + 1), 3: 1 / (RRF + 2)})
    assert RRF == 60


@given(RANKINGS)
def test_fusion_keeps_every_row_once_and_the_best_first(rankings: list[list[tuple[int, float]]]) -> None:
    found = fused(rankings)
    assert sorted(r for r, _ in found) == sorted({r for ranking in rankings for r, _ in ranking})
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)


@given(RANKINGS.filter(lambda x: len(x) > 1), st.integers(0, 20))
def test_a_row_that_every_ranking_has_first_is_first(
    rankings: list[list[tuple[int, float]]], row: int
) -> None:
    first = [[(row, 0.0), *((r, s) for r, s in ranking if r != row)] for ranking in rankings]
    assert fused(first)[0][0] == row


# --- diversity -------------------------------------------------------------------------------


def test_a_copy_of_what_is_chosen_goes_behind_what_is_new() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    assert diverse([1.0, 0.99, 0.5], vectors, 0.5, 3) == [0, 2, 1]


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12), st.integers(0, 2**16))
def test_with_a_weight_of_one_relevance_alone_decides(scores: list[float], seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(len(scores), 4)).astype(np.float32)
    order = diverse(scores, vectors, 1.0, len(scores))
    span = max(scores) - min(scores) or 1.0
    ranked = [round((scores[i] - min(scores)) / span, 9) for i in order]
    assert ranked == sorted(ranked, reverse=True)


@given(st.integers(0, 12), st.integers(1, 14), st.floats(0, 1))
def test_every_row_is_chosen_at_most_once(rows: int, number: int, weight: float) -> None:
    random = np.random.default_rng(rows)
    order = diverse(random.normal(size=rows), random.normal(size=(rows, 3)), weight, number)
    assert len(order) == len(set(order)) == min(rows, number)


# --- as settings -----------------------------------------------------------------------------


def test_words_find_what_is_spelt_alike_and_nothing_is_embedded(world: World) -> None:
    assert shown(fitted(world, {"k": 1, "retriever": "lexical"})) == ["code"]
    assert world.embedded == []


@pytest.mark.parametrize("retriever", ["lexical", "hybrid"])
def test_documents_without_a_word_are_no_error(world: World, retriever: str) -> None:
    task = brief(documents=(Document("a", "!!!"), Document("b", "...")))
    predictor = levers(context={"k": 1, "retriever": retriever}).fit(task, TRAIN, (), world.services())
    assert len(shown(predictor)) == (retriever == "hybrid")


def test_hybrid_shows_what_both_retrievers_found_on_the_way(world: World) -> None:
    stages = answer(fitted(world, {"k": 1, "retriever": "hybrid"})).meta["retrieved"]
    assert list(stages) == ["dense", "lexical", "fused"]  # type: ignore[arg-type]
    assert stages["fused"][0] == "code"  # type: ignore[call-overload,index]


def test_dense_is_one_stage_and_as_it_was(world: World) -> None:
    found = answer(fitted(world, {"k": 2}), Input("q", {"text": "the winter sky"}))
    assert found.meta["passages"][0] == "sky"  # type: ignore[index]
    assert list(found.meta["retrieved"]) == ["dense"]  # type: ignore[arg-type]


def test_passages_are_cited_by_characters_of_their_document(world: World) -> None:
    found = answer(fitted(world, {"k": 1}), Input("q", {"text": "the winter sky"}))
    assert found.meta["spans"] == [[0, len("the winter sky is blue")]]


def test_diverse_passages_do_not_repeat_one_another(world: World) -> None:
    twice = (*DOCUMENTS, dataclasses.replace(DOCUMENTS[0], id="sky again"))
    asked = Input("q", {"text": "the winter sky is blue"})
    task = brief(documents=twice)
    plain, made = (
        levers(context={"k": 2, **mmr}).fit(task, TRAIN, (), world.services()) for mmr in ({}, {"mmr": 0.2})
    )
    assert shown(plain, asked) == ["sky", "sky again"]
    assert shown(made, asked)[0] == "sky"
    assert shown(made, asked)[1] != "sky again"


@pytest.mark.parametrize("more", [{"retriever": "hybrid"}, {"mmr": 0.2}, {"retriever": "hybrid", "mmr": 0.2}])
def test_stages_are_measured_to_ten_passages_however_few_go_on(world: World, more: dict[str, Any]) -> None:
    many = tuple(Document(f"d{n}", f"the {'sea ' * (12 - n)} of number {n}") for n in range(12))
    asked = Input("q", {"text": "the deep sea"})
    predictor = levers(context={"k": 2, "candidates": 2, **more}).fit(
        brief(documents=many), TRAIN, (), world.services()
    )
    found = answer(predictor, asked)
    stages: Any = found.meta["retrieved"]
    assert {name: len(set(documents)) for name, documents in stages.items()} == dict.fromkeys(stages, 10)
    last, first = list(stages.values())[-1], [*stages["dense"][:2], *stages.get("lexical", [])[:2]]
    assert found.meta["passages"] == last[:2]
    assert set(last[:2]) <= set(first)


def test_the_oracle_shows_the_document_of_the_group(world: World) -> None:
    train = [dataclasses.replace(TRAIN[0], group="rose")]
    task = brief(documents=DOCUMENTS)
    predictor = levers(context={"k": 1, "retriever": "oracle"}).fit(task, train, (), world.services())
    assert shown(predictor, Input("q", {"text": "the winter sky"}, group="rose")) == ["rose"]
    assert levers(context={"retriever": "oracle"}).ceiling
    assert "a ceiling" in predictor.notes["remarks"][0]


@pytest.mark.parametrize("retriever", ["dense", "lexical", "hybrid", "oracle"])
def test_no_retriever_shows_a_training_example_a_passage_that_repeats_it(
    world: World, retriever: str
) -> None:
    train = [dataclasses.replace(TRAIN[0], input={"text": DOCUMENTS[2].text}, group="rose")]
    task = brief(documents=(*DOCUMENTS, Document("garden", "the rose in the garden is old")))
    predictor = levers(context={"k": 5, "retriever": retriever}).fit(task, train, (), world.services())
    assert "rose" not in shown(predictor, train[0].without_references())
    assert "rose" in shown(predictor, Input("another", {"text": DOCUMENTS[2].text}, group="rose"))


def test_the_oracle_does_not_apply_where_no_group_is_a_document(world: World) -> None:
    with pytest.raises(NotApplicable, match="do not say which document"):
        fitted(world, {"retriever": "oracle"})


def test_an_oracle_counts_the_examples_that_do_not_say_which_document_answers(world: World) -> None:
    train = [dataclasses.replace(TRAIN[0], group="rose"), dataclasses.replace(TRAIN[1], group="nowhere")]
    task = brief(documents=DOCUMENTS)
    strategy = levers(context={"k": 1, "retriever": "oracle"})
    strategy.fit(task, train, (), world.services()).save(world.folder / "p")
    remarks = strategy.load(world.folder / "p", task, world.services()).notes["remarks"]
    assert "1 training and validation examples do not say which document answers" in remarks[1]
    assert len(strategy.fit(task, train[:1], (), world.services()).notes["remarks"]) == 1


def test_an_index_by_words_is_another_one_and_its_seconds_are_booked(world: World) -> None:
    fitted(world, {"k": 1})
    before = world.ledger.total("seconds", "index").value
    assert before == 0
    fitted(world, {"k": 1, "retriever": "lexical"})
    assert world.ledger.total("seconds", "index").value > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({"retriever": "sparse"}, "retriever"),
        ({"k": 60, "retriever": "hybrid"}, "candidates should be at least k"),
        ({"mmr": 1.5}, "mmr"),
        ({"retriever": "oracle", "mmr": 0.5}, "nothing to rerank"),
        ({"rerank": ""}, "rerank"),
    ],
)
def test_a_wrong_setting_of_retrieval_is_named(context: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        levers(context=context)


@pytest.mark.parametrize(
    "context",
    [{"retriever": "lexical"}, {"retriever": "hybrid"}, {"mmr": 0.5}, {"retriever": "lexical", "mmr": 0.5}],
    ids=str,
)
def test_a_loaded_retriever_shows_what_the_saved_one_does(world: World, context: dict[str, Any]) -> None:
    predictor = fitted(world, {"k": 2, **context})
    predictor.save(world.folder / "p")
    task = brief(documents=DOCUMENTS)
    loaded = levers(context={"k": 2, **context}).load(world.folder / "p", task, world.services())
    assert answer(loaded) == answer(predictor)


def test_retrieving_alone_asks_no_language_model(world: World) -> None:
    strategy = levers(context={"k": 1, "retriever": "hybrid"}, weights={})
    (found,) = strategy.retrieve(brief(documents=DOCUMENTS), [ASKED], world.services(engine=None))
    assert found["fused"][0] == "code"


# --- reading again ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of two small layers with random weights, as one would be downloaded."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    known = sorted({w for d in DOCUMENTS for w in words(d.text)} | set(words(ASKED.fields["text"])))  # type: ignore[arg-type]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {w: i for i, w in enumerate([*special, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, num_labels=1,
        initializer_range=1.0,  # scores that differ
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reranker")
    BertForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    return folder


def test_reranked_passages_come_in_the_order_of_the_cross_encoder(world: World, cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    found = answer(fitted(world, {"k": 4, "rerank": str(cross_encoder)}))
    ranked = CrossEncoder(str(cross_encoder), device="cpu").rank(
        str(ASKED.fields["text"]), [d.text for d in DOCUMENTS]
    )
    assert found.meta["passages"] == [DOCUMENTS[int(r["corpus_id"])].id for r in ranked]
    assert list(found.meta["retrieved"]) == ["dense", "reranked"]  # type: ignore[arg-type]


def test_what_the_reranker_reads_is_booked(world: World, cross_encoder: Path) -> None:
    answer(fitted(world, {"k": 1, "rerank": str(cross_encoder)}))
    booked = {e.quantity: e for e in world.ledger.select("serve", model=str(cross_encoder))}
    assert set(booked) == {"embedded_tokens", "seconds", "flops"}
    pairs = sum(len(words(d.text)) for d in DOCUMENTS)
    assert booked["embedded_tokens"].amount.value > pairs  # type: ignore[operator]


def test_a_folder_that_is_no_cross_encoder_is_an_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        fitted(world, {"rerank": str(tmp_path / "empty")})


def test_a_reranker_that_was_changed_is_not_served_with(
    world: World, cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"k": 1, "rerank": str(cross_encoder)}
    fitted(world, settings).save(world.folder / "p")
    monkeypatch.setattr(_composer.Reranker, "digest", "other weights")
    with pytest.raises(UserError, match="have changed"):
        levers(context=settings).load(world.folder / "p", brief(documents=DOCUMENTS), world.services())
