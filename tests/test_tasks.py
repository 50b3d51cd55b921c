"""The tasks that come with Breakeven: their sizes, their labels, and what must not leak."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from breakeven.harness.contracts import Task
from breakeven.harness.data import damage
from breakeven.harness.errors import UserError
from breakeven.harness.metrics import answer_text, parse_list
from breakeven.harness.splits import leakage
from breakeven.harness.templating import render
from breakeven.tasks.banking77 import banking77
from breakeven.tasks.handbook_qa import handbook_qa
from breakeven.tasks.recipe_ingredients import recipe_ingredients
from breakeven.tasks.support_intents import INTENTS, support_intents
from breakeven.tasks.xquad import xquad


@cache
def task(make: Callable[[], Task]) -> Task:
    return make()


SHIPPED = [recipe_ingredients, support_intents, handbook_qa]


def everything(made: Task) -> list[str]:
    return [render(made.input_template, e.input) for e in (*made.train, *made.validation, *made.test)]


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (recipe_ingredients, (250, 50, 200)),
        (support_intents, (450, 100, 350)),
        (handbook_qa, (204, 39, 157)),
    ],
)
def test_a_shipped_task_has_its_sizes(make: Callable[[], Task], sizes: tuple[int, int, int]) -> None:
    made = task(make)
    assert (len(made.train), len(made.validation), len(made.test)) == sizes


@pytest.mark.parametrize("make", SHIPPED)
def test_no_test_example_is_known_from_train_or_validation(make: Callable[[], Task]) -> None:
    assert leakage(task(make)).to_json() == {"exact": 0, "near": 0}


@pytest.mark.parametrize("make", SHIPPED)
def test_the_texts_are_undamaged(make: Callable[[], Task]) -> None:
    assert [text for text in everything(task(make)) if damage(text)] == []


@pytest.mark.parametrize("make", SHIPPED)
def test_no_two_examples_have_the_same_input(make: Callable[[], Task]) -> None:
    texts = everything(task(make))
    assert len(set(texts)) == len(texts)


def test_every_intent_is_in_every_split_in_proportion() -> None:
    made = task(support_intents)
    for split, few, many in ((made.train, 26, 30), (made.validation, 5, 8), (made.test, 20, 24)):
        counts = [sum(e.references[0] == intent for e in split) for intent in INTENTS]
        assert few <= min(counts)
        assert max(counts) <= many


def test_every_intent_is_explained_in_the_data_card() -> None:
    card = Path(support_intents.__code__.co_filename).parent / "data" / "support_intents" / "README.md"
    assert all(f"| {intent} |" in card.read_text(encoding="utf-8") for intent in INTENTS)


def test_a_list_of_ingredients_survives_being_written_and_read() -> None:
    made = task(recipe_ingredients)
    for example in (*made.train, *made.validation, *made.test):
        assert parse_list(answer_text(example.references[0])) == example.references[0]


def test_ingredients_are_lower_case_and_given_once() -> None:
    made = task(recipe_ingredients)
    for example in (*made.train, *made.validation, *made.test):
        generic = example.references[0]
        assert isinstance(generic, list)
        assert generic == [str(name).strip().lower() for name in generic]
        assert len(set(generic)) == len(generic)


def test_every_handbook_answer_stands_on_its_page() -> None:
    made = task(handbook_qa)
    pages = {d.id: plain(d.text) for d in made.documents}
    for example in (*made.train, *made.validation, *made.test):
        assert example.group is not None
        assert plain(str(example.references[0])) in pages[example.group], example.id


def test_a_page_is_asked_about_in_one_split_only() -> None:
    made = task(handbook_qa)
    pages = [{e.group for e in split} for split in (made.train, made.validation, made.test)]
    assert sum(map(len, pages)) == len(set.union(*pages)) == len(made.documents) == 64


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("*", "").replace("’", "'")).casefold()


# --- the Hub data sets, from folders in their layout -----------------------------------------


@pytest.fixture
def banking(tmp_path: Path) -> Path:
    names = ["card_lost", "top_up", "exchange_rate"]
    for file, n in (("train", 30), ("test", 6)):
        rows = "".join(
            f'"{file} query {i * 7919} about {name}, no {i * 104729}",{name}\n'
            for i in range(n)
            for name in names
        )
        (tmp_path / f"{file}.csv").write_text("text,category\n" + rows)
    (tmp_path / "categories.json").write_text(json.dumps(["top_up", "card_lost", "exchange_rate"]))
    return tmp_path


def test_banking77_keeps_the_first_categories_of_its_list(banking: Path) -> None:
    made = banking77(banking, intents=2)
    assert made.choices == ("top_up", "card_lost")
    assert {e.references[0] for e in (*made.train, *made.validation, *made.test)} == {"top_up", "card_lost"}


def test_banking77_tests_on_the_official_test_split(banking: Path) -> None:
    made = banking77(banking, intents=3)
    assert len(made.test) == 18
    assert all(str(e.input["text"]).startswith("test query") for e in made.test)
    assert (len(made.train), len(made.validation)) == (81, 9)


def test_banking77_refuses_a_number_of_intents_it_does_not_have() -> None:
    with pytest.raises(UserError, match="78 intents"):
        banking77(intents=78)


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    paragraphs = [
        {
            "context": f"Paragraph {n} says that the {n * 7919}th gate is painted in colour {n * 31}.",
            "qas": [
                {
                    "id": f"q{n}-{k}",
                    "question": f"What about gate {n * 7919} and {k * 104729}?",
                    "answers": [{"text": f"colour {n * 31}", "answer_start": 0}],
                }
                for k in range(4)
            ],
        }
        for n in range(200)
    ]
    (tmp_path / "xquad.de.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return tmp_path


def test_xquad_is_cut_by_paragraph(squad: Path) -> None:
    made = xquad(squad, language="de")
    groups = [{e.group for e in split} for split in (made.train, made.validation, made.test)]
    assert sum(map(len, groups)) == 200
    assert set.union(*groups) == {d.id for d in made.documents}
    assert made.language == "de"


def test_xquad_names_the_file_it_misses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"xquad\.en\.json"):
        xquad(tmp_path)


def test_xquad_refuses_another_layout(tmp_path: Path) -> None:
    (tmp_path / "xquad.en.json").write_text('{"data": [{"paragraph": []}]}')
    with pytest.raises(UserError, match="SQuAD"):
        xquad(tmp_path)
