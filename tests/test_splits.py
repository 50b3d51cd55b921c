"""Duplicates, leakage and the cut: what stays together, what moves, and what is counted."""

from __future__ import annotations

import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness.contracts import Example, Task
from breakeven.harness.errors import UserError
from breakeven.harness.splits import cut, leakage, leaks, near_pairs

SIZES = {"train": 60, "validation": 10, "test": 30}
WORDS = ["river", "stone", "lamp", "winter", "paper", "engine", "coffee", "tower", "garden", "mirror"]


def sentence(seed: object) -> str:
    draw = random.Random(str(seed))
    return " ".join(draw.choice(WORDS) + str(draw.randrange(10_000)) for _ in range(8))


def made(n: int, **fixed: Any) -> list[Example]:
    return [Example(f"e{i}", {"text": sentence(i)}, (f"label{i % 4}",), **fixed) for i in range(n)]


def ids(split: tuple[Example, ...]) -> set[str]:
    return {e.id for e in split}


# --- duplicates ------------------------------------------------------------------------------


def test_small_edits_make_near_duplicates_and_other_words_do_not() -> None:
    texts = ["How do I close my account?", "How do I close my account please?", "Where is my new card?"]
    assert [(i, j) for i, j, _ in near_pairs(texts, threshold=0.6)] == [(0, 1)]


def test_pairs_between_two_lists_are_indexed_by_each() -> None:
    assert [(i, j) for i, j, _ in near_pairs(["stone lamp", "winter"], ["paper", "winter"])] == [(1, 1)]


def test_texts_without_any_letter_have_no_duplicates() -> None:
    assert list(near_pairs(["", " "])) == []


def test_pairs_are_found_across_blocks() -> None:
    texts = [sentence(i) for i in range(1500)] + [sentence(3)]
    assert [(i, j) for i, j, _ in near_pairs(texts)] == [(3, 1500)]


def test_a_cut_is_found_again_without_looking_for_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path))
    examples = [*made(60), replace(made(1)[0], id="copy")]
    first = cut(examples, {"train": 40, "validation": 6, "test": 15}, 0)
    assert first.clusters == 1
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)  # importing it is an error now
    assert cut(examples, {"train": 40, "validation": 6, "test": 15}, 0) == first
    with pytest.raises(ImportError):
        cut([*examples, *made(62)[61:]], {"train": 40, "validation": 6, "test": 15}, 0)


@pytest.mark.parametrize("left", ["", "[[0", "{}", "[1]"])
def test_what_a_broken_off_process_left_in_the_cache_is_no_list_of_duplicates(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path))
    examples = [*made(60), replace(made(1)[0], id="copy")]
    first = cut(examples, {"train": 40, "validation": 6, "test": 15}, 0)
    for memo in (tmp_path / "duplicates").iterdir():
        memo.write_text(left)
    assert cut(examples, {"train": 40, "validation": 6, "test": 15}, 0) == first


# --- leakage ---------------------------------------------------------------------------------


def test_exact_duplicates_are_counted_whatever_their_case_and_spacing() -> None:
    test = [Example("t", {"text": "My  Card is lost"}, ("x",))]
    found = leaks(test, [Example("a", {"text": "my card is lost"}, ("x",))])
    assert (found.exact, found.near, found.pairs[0][:2]) == (1, 0, ("t", "a"))


def test_a_test_example_with_many_duplicates_counts_once() -> None:
    test = [Example("t", {"text": "my card is lost"}, ("x",))]
    seen = [Example(f"a{i}", {"text": "my card is lost" + "!" * i}, ("x",)) for i in range(3)]
    assert leaks(test, seen).to_json() == {"exact": 1, "near": 0}


def test_leakage_looks_at_validation_too(tiny_task: Task) -> None:
    leaking = replace(tiny_task, validation=tiny_task.test[:1])
    assert leakage(tiny_task).exact == 0
    assert leakage(leaking).exact == 1


@pytest.fixture
def tiny_task() -> Task:
    examples = made(30)
    return Task("t", "", "{{ text }}", tuple(examples[:20]), (), tuple(examples[20:]), ())


# --- the cut ---------------------------------------------------------------------------------


def test_the_splits_have_the_sizes_asked_for_and_share_nothing() -> None:
    found = cut(made(100), SIZES)
    assert [len(s) for s in (found.train, found.validation, found.test)] == [60, 10, 30]
    assert len(ids(found.train) | ids(found.validation) | ids(found.test)) == 100


def test_the_same_seed_gives_the_same_cut_whatever_the_order_of_the_rows() -> None:
    shuffled = made(100)
    random.Random(1).shuffle(shuffled)
    assert cut(made(100), SIZES, 3) == cut(shuffled, SIZES, 3)


def test_another_seed_gives_another_cut() -> None:
    assert ids(cut(made(100), SIZES, 0).test) != ids(cut(made(100), SIZES, 1).test)


def test_ten_more_rows_hardly_move_the_others() -> None:
    before, after = cut(made(300), {"test": 90}).test, cut(made(310), {"test": 93}).test
    assert len(ids(before) & ids(after)) >= 80


def test_shares_are_of_all_rows_and_train_takes_the_rest() -> None:
    found = cut(made(100), {"test": 0.25, "validation": 0.05})
    assert [len(s) for s in (found.train, found.validation, found.test)] == [70, 5, 25]


def test_rows_beyond_the_sizes_are_left_out_and_counted() -> None:
    found = cut(made(100), {"train": 20, "validation": 10, "test": 30})
    assert found.left_out == 40


def test_a_group_is_never_divided() -> None:
    grouped = [replace(e, group=f"g{i % 20}") for i, e in enumerate(made(200))]
    found = cut(grouped, {"test": 60, "validation": 20})
    sides = [{e.group for e in split} for split in (found.train, found.validation, found.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20
    assert found.by_group


def test_near_duplicates_stay_on_one_side() -> None:
    pairs = [
        Example(f"{kind}{i}", {"text": sentence(i) + kind}, ("x",)) for i in range(60) for kind in ("", "!")
    ]
    found = cut(pairs, {"test": 40, "validation": 20})
    assert leaks(found.test, (*found.train, *found.validation)).to_json() == {"exact": 0, "near": 0}
    assert found.clusters == 60


def test_groups_that_share_a_near_duplicate_stay_together() -> None:
    a = [Example(f"a{i}", {"text": sentence(f"a{i}")}, ("x",), "A") for i in range(5)]
    b = [Example(f"b{i}", {"text": sentence("a0" if i == 0 else f"b{i}")}, ("x",), "B") for i in range(5)]
    rest = [Example(f"r{i}", {"text": sentence(f"r{i}")}, ("x",), f"R{i}") for i in range(20)]
    found = cut([*a, *b, *rest], {"test": 10, "validation": 5})
    for split in (found.train, found.validation, found.test):
        groups = {e.group for e in split}
        assert ("A" in groups) == ("B" in groups)


def test_a_stratified_cut_gives_every_label_its_share() -> None:
    uneven = [replace(e, references=("rare" if i % 10 == 0 else "common",)) for i, e in enumerate(made(200))]
    found = cut(uneven, {"train": 100, "validation": 40, "test": 60}, stratify=True)
    assert Counter(e.references[0] for e in found.test) == {"common": 54, "rare": 6}
    assert Counter(e.references[0] for e in found.validation) == {"common": 36, "rare": 4}


def test_only_the_splits_asked_for_are_made() -> None:
    found = cut(made(50), {"validation": 10}, splits=("train", "validation"))
    assert (len(found.train), len(found.validation), len(found.test)) == (40, 10, 0)


def test_asking_for_more_than_there_is_names_both_numbers() -> None:
    with pytest.raises(UserError, match=r"test 30, .*train 60.*\(50\)") as caught:
        cut(made(50), SIZES)
    assert caught.value.field == "sizes"


def test_a_split_that_cannot_be_filled_is_an_error() -> None:
    one_group = [replace(e, group="all") for e in made(50)]
    with pytest.raises(UserError, match="stays empty"):
        cut(one_group, {"test": 10, "validation": 5})
