"""Passages, their index, and the nearest ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from strategy_fakes import LetterEmbedder, World, brief, examples

from breakeven.baselines import _retrieval
from breakeven.baselines._chunks import cut, words
from breakeven.baselines._guard import Guard
from breakeven.baselines._retrieval import PassageIndex, unread_remarks
from breakeven.baselines._vectors import VectorIndex
from breakeven.baselines.levers import levers
from breakeven.baselines.logistic_regression import logistic_regression
from breakeven.baselines.nearest_neighbour import nearest_neighbour
from breakeven.harness.contracts import Document, Input
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Ledger

LONG = "\n\n".join(
    f"Paragraph {n} opens here. It goes on for a while, with words {n}. And it ends." for n in range(12)
)


def texts(text: str, size: int = 30, overlap: int = 0) -> list[str]:
    return [p.text for p in cut([Document("d", text)], size, overlap, words)]


def test_a_short_document_is_one_passage_as_it_stands() -> None:
    assert texts("One. Two.\nThree.\n\nFour.") == ["One. Two.\nThree.\n\nFour."]


def test_no_passage_is_longer_than_asked() -> None:
    assert max(words(texts(LONG))) <= 30


def test_passages_without_overlap_hold_every_word_once_and_in_order() -> None:
    assert " ".join(texts(LONG)).split() == LONG.split()


def test_passages_are_cut_between_sentences() -> None:
    assert all(t.endswith(".") for t in texts(LONG))


def test_a_passage_begins_with_the_last_sentences_of_the_one_before() -> None:
    first, second, *_ = texts(LONG, overlap=10)
    assert second.startswith(first.rsplit(". ", 1)[1])


def test_overlap_is_never_longer_than_asked() -> None:
    one, two = texts(LONG, overlap=10)[:2]
    shared = next(n for n in range(len(two), -1, -1) if one.endswith(two[:n]))
    assert sum(words([two[:shared]])) <= 10


def test_a_document_is_cut_into_passages_of_about_one_length() -> None:
    sizes = words(texts(LONG, size=150))
    assert max(sizes) - min(sizes) < 20


def test_a_heading_goes_with_the_paragraph_it_heads() -> None:
    body = " ".join(["word"] * 20) + "."
    assert texts(f"{body}\n\n# Heading\n\n{body}")[1].startswith("# Heading\n\nword")


def test_a_sentence_longer_than_a_passage_is_cut_between_words() -> None:
    found = texts(" ".join(f"w{n}" for n in range(100)), size=30)
    assert len(found) > 1
    assert " ".join(found).split() == [f"w{n}" for n in range(100)]


def test_text_without_spaces_is_cut_too() -> None:
    def count(parts: list[str]) -> list[int]:
        return [len(p) for p in parts]

    found = [p.text for p in cut([Document("d", "字" * 100)], 30, 0, count)]  # type: ignore[arg-type]
    assert max(map(len, found)) <= 30
    assert "".join(found) == "字" * 100


def test_passages_know_their_document() -> None:
    passages = cut([Document("a", "One."), Document("b", "Two.", title="B")], 30, 0, words)
    assert [(p.id, p.document, p.title) for p in passages] == [("a#0", "a", ""), ("b#0", "b", "B")]


def test_the_nearest_rows_come_nearest_first() -> None:
    index = VectorIndex.of(np.eye(3, dtype=np.float32))
    asked = np.array([[0.1, 0.9, 0.3]], dtype=np.float32)
    assert index.nearest(asked, 3) == [[1, 2, 0]]


def test_rows_that_are_equally_near_keep_their_order() -> None:
    index = VectorIndex.of(np.ones((40, 2), dtype=np.float32))
    assert index.nearest(np.ones((1, 2), dtype=np.float32), 4) == [[0, 1, 2, 3]]


def test_rows_that_are_not_allowed_are_passed_over_however_many_they_are() -> None:
    index = VectorIndex.of(np.ones((200, 2), dtype=np.float32))
    found = index.nearest(np.ones((1, 2), dtype=np.float32), 2, lambda number, row: row >= 190)
    assert found == [[190, 191]]


def test_a_question_is_answered_alone_as_among_others() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    index = VectorIndex.of(vectors)
    together = index.nearest(vectors[:20], 5)
    assert together == [index.nearest(vectors[n : n + 1], 5)[0] for n in range(20)]


DOCUMENTS = [
    Document("sky", "the sky is blue"),
    Document("rose", "a rose is red"),
    Document("sea", "sea water"),
]


def nearest(index: PassageIndex, world: World, question: str, guard: Guard | None = None) -> list[str]:
    asked = Input("q", {"text": question})
    vectors = _retrieval.embedder_of(world.services()).encode([question], phase="serve")
    return [p.document for p in index.nearest([asked], vectors, 1, guard or Guard())[0]]


def test_a_question_finds_the_document_that_speaks_of_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    index = PassageIndex.build(DOCUMENTS, 50, 0, world.services())
    assert nearest(index, world, "which colour is a rose ?") == ["rose"]


def test_an_index_is_embedded_once_and_billed_to_everybody_who_asks(tmp_path: Path) -> None:
    world, other = World(tmp_path), World(tmp_path)
    PassageIndex.build(DOCUMENTS, 50, 0, world.services())
    PassageIndex.build(DOCUMENTS, 50, 0, other.services())
    assert other.embedded == []
    assert other.ledger.total("embedded_tokens", "index") == world.ledger.total("embedded_tokens", "index")


def test_an_index_with_other_settings_is_another_index(tmp_path: Path) -> None:
    services = World(tmp_path).services()
    folders = {PassageIndex.build(DOCUMENTS, size, 0, services).folder for size in (50, 60)}
    assert len(folders) == 2


def test_a_task_without_documents_cannot_be_retrieved_from(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no documents"):
        PassageIndex.build([], 50, 0, World(tmp_path).services())


def test_documents_without_a_word_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="empty"):
        PassageIndex.build([Document("d", " \n")], 50, 0, World(tmp_path).services())


def test_a_passage_that_repeats_a_training_input_is_not_shown_to_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    index = PassageIndex.build(DOCUMENTS, 50, 0, world.services())
    (example,) = examples(("a rose is red", "red"))
    guard = Guard.of([dataclasses.replace(example, id="q")], [], index.passages)
    assert nearest(index, world, "a rose is red", guard) == ["sky"]


def test_an_index_read_again_finds_the_same(tmp_path: Path) -> None:
    world = World(tmp_path)
    built = PassageIndex.build(DOCUMENTS, 50, 0, world.services())
    again = PassageIndex.read(built.folder)
    assert again.passages == built.passages
    assert nearest(again, world, "sea water") == ["sea"]


def test_embedding_documents_is_booked_as_indexing(tmp_path: Path) -> None:
    ledger = Ledger()
    PassageIndex.build(DOCUMENTS, 50, 0, World(tmp_path, ledger=ledger).services())
    assert {e.phase for e in ledger.entries} == {"index"}


class ShortSighted(LetterEmbedder):
    """Reads six tokens of a text, the two around it included; a token is a word."""

    context = 6

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def test_passages_that_the_embedding_model_does_not_read_to_their_ends_are_counted(tmp_path: Path) -> None:
    world = World(tmp_path)
    short = world.services(embedder=lambda: ShortSighted(world.ledger, world.embedded))
    long = [Document("long", "one two three four five six seven"), *DOCUMENTS]
    (said,) = unread_remarks(PassageIndex.build(long, 50, 0, short))
    assert said.startswith("1 of 4 passages are longer than the 6 tokens that the embedding model reads")
    assert "3 of 17 tokens" in said
    assert unread_remarks(PassageIndex.build(DOCUMENTS, 50, 0, short)) == []
    by_words = PassageIndex.build(long, 50, 0, short, by_vectors=False, by_words=True)
    assert unread_remarks(by_words) == []


def test_a_strategy_says_that_passages_are_not_read_to_their_ends(tmp_path: Path) -> None:
    world = World(tmp_path)
    services = world.services(embedder=lambda: ShortSighted(world.ledger, world.embedded))
    task = brief(documents=(Document("long", "one two three four five six seven"),))
    for retriever in ("dense", "hybrid"):
        predictor = levers(context={"k": 1, "retriever": retriever}).fit(task, (), (), services)
        assert any("1 of 1 passages are longer" in remark for remark in predictor.notes["remarks"])


def test_questions_in_a_script_that_the_embedding_model_does_not_know_are_told(tmp_path: Path) -> None:
    world = World(tmp_path, embedder_name="all-minilm-l6-v2")
    for strategy, what in (
        (levers(context={"k": 1}), "questions"),
        (logistic_regression(), "inputs"),
        (nearest_neighbour(), "inputs"),
    ):
        train = examples(("the sky", "blue"), ("a rose", "red"))
        predictor = strategy.fit(brief(documents=tuple(DOCUMENTS)), train, (), world.services())
        assert not any("Latin" in str(remark) for remark in predictor.notes["remarks"])
        list(predictor.predict([Input("q", {"text": "आसमान का रंग क्या है"})]))
        assert any(f"letters of the {what} are not Latin" in str(r) for r in predictor.notes["remarks"])
