"""The recipe assistant of the OpenAI cookbook: its rows as it cuts them, and suites that need no key to
look at."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Said
from tiny_suite import letters

from breakeven.harness.errors import UserError
from breakeven.harness.templating import render
from breakeven.tasks.recipe_cookbook import recipe_cookbook

SUITES = ("recipe_openai", "recipe_azure")


def cookbook(folder: Path, rows: int = 310, ner: str | None = None) -> Path:
    """A file as the cookbook has it."""
    path = folder / "cookbook_recipes_nlg_10k.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["title", "ingredients", "directions", "link", "source", "NER"])
        for n in range(rows):
            listed = json.dumps([f"1 c. firmly packed sugar no. {n}", "2 Tbsp. butter"])
            writer.writerow(
                [f"Cookies {n}", listed, "[]", "l", "s", ner or json.dumps([f"sugar {n}", "butter"])]
            )
    return path


def test_the_cookbooks_rows_are_cut_as_the_cookbook_cuts_them(tmp_path: Path) -> None:
    made = recipe_cookbook(cookbook(tmp_path))
    assert [len(s) for s in (made.train, made.validation, made.test)] == [101, 100, 100]
    assert [s[0].id for s in (made.train, made.validation, made.test)] == ["r0", "r101", "r201"]
    assert made.train[3].references == (["sugar 3", "butter"],)


def test_a_prompt_reads_as_the_cookbooks(tmp_path: Path) -> None:
    made = recipe_cookbook(cookbook(tmp_path))
    assert render(made.input_template, made.train[0].input) == (
        'Title: Cookies 0\n\nIngredients: ["1 c. firmly packed sugar no. 0", "2 Tbsp. butter"]\n\n'
        "Generic ingredients: "
    )


@pytest.mark.parametrize(
    ("rows", "ner", "words"), [(300, None, "300 rows and 301"), (310, "sugar", "JSON lists")]
)
def test_a_file_that_is_not_the_cookbooks_is_told(
    rows: int, ner: str | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        recipe_cookbook(cookbook(tmp_path, rows, ner))


def test_without_the_file_the_shipped_cards_are_taken() -> None:
    made = recipe_cookbook()
    assert [len(s) for s in (made.train, made.validation, made.test)] == [100, 50, 100]


@pytest.mark.parametrize("name", SUITES)
def test_a_dry_run_needs_neither_key_nor_network(
    name: str, breakeven: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    said = breakeven("run", name, "--dry-run")
    assert said.code == 0, said.err
    assert "4 cells, 400 answers; nothing was run" in said.out


@pytest.mark.parametrize("name", SUITES)
def test_an_estimate_needs_no_key_and_prices_the_training_where_somebody_does(
    name: str, breakeven: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_MANAGEMENT_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    said = breakeven("estimate", name, "--save", "e.json")
    assert said.code == 0, said.err
    tuned = next(c for c in json.loads(Path("e.json").read_text())["cells"] if c["strategy"] == "tuned")
    assert tuned["state"] == "runs"
    assert tuned["token_money"] > 0
    assert 30_000 < tuned["training_tokens"] < 300_000  # 100 cards, three times
    if name == "recipe_openai":
        assert tuned["training_money"] == pytest.approx(tuned["training_tokens"] * 3.0 / 1e6)
    else:
        assert tuned["training_money"] is None
        hours = "the hours of a deployment (azure/standard)"
        assert tuned["unpriced"] == ["training of azure/gpt-4o-mini", hours]
