"""Nearest rows: exactly among few, in cells among many, and what that misses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import faiss
import numpy as np
import pytest

from breakeven.baselines import _vectors
from breakeven.baselines._vectors import RECIPE, Recipe, VectorIndex, recall

CELLS = dataclasses.replace(RECIPE, flat_values=0, queries=64)
NUMBER, DIMENSION = 3000, 24


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(rows: int = NUMBER, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(60, DIMENSION))
    return unit(centres[random.integers(0, 60, rows)] + 0.4 * random.normal(size=(rows, DIMENSION)))


def formless(rows: int = 2000) -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(rows, 200)))


def asked(vectors: np.ndarray, number: int = 50) -> np.ndarray:
    random = np.random.default_rng(7)
    rows = vectors[random.integers(0, len(vectors), number)]
    return unit(rows + 0.1 * random.normal(size=rows.shape))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered()


@pytest.fixture(scope="module")
def cells(vectors: np.ndarray) -> VectorIndex:
    index = VectorIndex.of(vectors, CELLS)
    assert not index.facts.exact
    return index


def before(vectors: np.ndarray, questions: np.ndarray, k: int) -> list[list[int]]:
    """The search as it was when there was only an exact one."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    found = []
    for question in questions:
        similarities, rows = index.search(question[None], min(k + 8, len(vectors)))
        pairs = zip(similarities[0], rows[0], strict=True)
        found.append([r for _, r in sorted((-round(float(s), 5), int(r)) for s, r in pairs)][:k])
    return found


# --- which index -----------------------------------------------------------------------------


def test_few_rows_are_searched_exactly_and_as_before(vectors: np.ndarray) -> None:
    index = VectorIndex.of(vectors)
    assert index.facts.type == "flat"
    assert index.nearest(asked(vectors), 7) == before(vectors, asked(vectors), 7)


def test_the_type_turns_with_the_size(vectors: np.ndarray) -> None:
    here = dataclasses.replace(CELLS, flat_values=vectors.size)
    below = dataclasses.replace(CELLS, flat_values=vectors.size - 1)
    assert [VectorIndex.of(vectors, r).facts.type for r in (here, below)] == ["flat", "ivf-flat"]


def test_a_million_passages_of_the_default_model_are_not_searched_one_by_one() -> None:
    assert 10_000 * 384 < RECIPE.flat_values < 1_000_000 * 384


def test_the_same_vectors_make_the_same_index(vectors: np.ndarray, tmp_path: Path) -> None:
    for name in ("a", "b"):
        VectorIndex.of(vectors, CELLS).write(tmp_path / f"{name}.faiss")
    assert (tmp_path / "a.faiss").read_bytes() == (tmp_path / "b.faiss").read_bytes()
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


# --- what it finds ---------------------------------------------------------------------------


def test_the_recall_that_is_asked_for_is_reached_on_questions_it_was_not_tuned_with(
    vectors: np.ndarray, cells: VectorIndex
) -> None:
    questions = asked(vectors, 200)
    similar, _ = faiss.knn(questions, vectors, 10, faiss.METRIC_INNER_PRODUCT)
    found = cells.nearest(questions, 10)
    shares = [recall(q, vectors, f, s) for q, f, s in zip(questions, found, similar, strict=True)]
    assert np.mean(shares) >= CELLS.recall


def test_the_recall_that_is_written_down_was_measured(vectors: np.ndarray, cells: VectorIndex) -> None:
    questions = _vectors._questions(vectors, 2 * CELLS.queries, CELLS)[CELLS.queries :]
    exact = before(vectors, questions, 10)
    found = cells.nearest(questions, 10)
    shares = [len({*a} & {*b}) / 10 for a, b in zip(exact, found, strict=True)]
    assert cells.facts.recall == pytest.approx(np.mean(shares))
    assert cells.facts.queries == len(questions)


def test_more_recall_takes_more_cells(vectors: np.ndarray) -> None:
    probes = [
        VectorIndex.of(vectors, dataclasses.replace(CELLS, recall=r, most_cells=1.0)).facts.probes
        for r in (0.5, 0.9, 0.99)
    ]
    assert probes == sorted(set(probes))


def test_where_nothing_is_saved_by_cells_every_row_is_compared() -> None:
    rows = formless()
    index = VectorIndex.of(rows, CELLS)
    assert index.facts.exact
    assert index.facts.recall == 1.0
    assert index.nearest(asked(rows), 5) == before(rows, asked(rows), 5)


def test_a_question_is_answered_alone_as_among_others(vectors: np.ndarray, cells: VectorIndex) -> None:
    questions = asked(vectors)
    assert cells.nearest(questions, 5) == [cells.nearest(q[None], 5)[0] for q in questions]


def test_rows_that_are_equally_near_keep_their_order() -> None:
    index = VectorIndex.of(np.tile(clustered(50), (40, 1)), CELLS)
    (found,) = index.nearest(clustered(50)[:1], 4)
    assert found == [0, 50, 100, 150]


def test_no_more_rows_are_returned_than_there_are() -> None:
    rows = clustered(30)
    assert len(VectorIndex.of(rows, CELLS).nearest(rows[:1], 100)[0]) == 30


# --- what must not be returned ---------------------------------------------------------------


def test_rows_that_are_not_allowed_are_never_returned(vectors: np.ndarray, cells: VectorIndex) -> None:
    found = cells.nearest(asked(vectors), 10, lambda number, row: row % 3 == number % 3)
    assert all(row % 3 == number % 3 for number, rows in enumerate(found) for row in rows)
    assert {len(rows) for rows in found} == {10}


def test_where_too_few_are_allowed_nearby_the_search_is_exact(
    vectors: np.ndarray, cells: VectorIndex
) -> None:
    question = asked(vectors, 1)
    far = set(before(vectors, question, NUMBER)[0][-20:])
    exact = VectorIndex.of(vectors).nearest(question, 15, lambda number, row: row in far)
    assert cells.nearest(question, 15, lambda number, row: row in far) == exact
    assert len(exact[0]) == 15


def test_fewer_come_only_where_no_more_are_allowed(vectors: np.ndarray, cells: VectorIndex) -> None:
    assert sorted(cells.nearest(asked(vectors, 1), 10, lambda number, row: row < 4)[0]) == [0, 1, 2, 3]


# --- on disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [RECIPE, CELLS], ids=["flat", "cells"])
def test_the_vectors_of_some_rows_are_those_that_went_in(recipe: Recipe, vectors: np.ndarray) -> None:
    rows = [7, 2999, 0, 7]
    np.testing.assert_array_equal(VectorIndex.of(vectors, recipe).some(rows), vectors[rows])


@pytest.mark.parametrize("recipe", [RECIPE, CELLS], ids=["flat", "cells"])
def test_an_index_read_again_is_the_same(recipe: Recipe, vectors: np.ndarray, tmp_path: Path) -> None:
    built = VectorIndex.of(vectors, recipe)
    built.write(tmp_path / "vectors.faiss")
    again = VectorIndex.read(tmp_path / "vectors.faiss")
    assert again.facts == built.facts
    assert again.nearest(asked(vectors), 5) == built.nearest(asked(vectors), 5)
    np.testing.assert_array_equal(again.vectors(), vectors)


def test_an_index_written_before_there_were_two_types_is_exact(vectors: np.ndarray, tmp_path: Path) -> None:
    VectorIndex.of(vectors).write(tmp_path / "vectors.faiss")
    (tmp_path / "vectors.json").unlink()
    again = VectorIndex.read(tmp_path / "vectors.faiss")
    assert (again.facts.type, again.facts.rows, again.facts.recall) == ("flat", NUMBER, 1.0)
    assert again.nearest(asked(vectors), 7) == before(vectors, asked(vectors), 7)
