"""The recipe assistant of OpenAI's cookbook ("How to fine-tune chat models") with its prompts, and a score.

The cookbook never scores its model; here the lists are compared with set F1. Its rows are RecipeNLG's and
do not come along: give the CSV of the cookbook's repository as `path`, or take the shipped cards in its
prompts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from breakeven.harness import readers
from breakeven.harness.contracts import Task
from breakeven.harness.errors import UserError
from breakeven.harness.taskfile import make_task

CARDS = Path(__file__).parent / "data" / "recipe_ingredients" / "recipes.jsonl"

INSTRUCTIONS = """\
You are a helpful recipe assistant. You are to extract the generic ingredients from each of the recipes
provided."""
TEMPLATE = """\
Title: {{ title }}

Ingredients: {{ ingredients | tojson }}

Generic ingredients: """
#: First and last row of each split as the cookbook cuts them (pandas counts both in).
ROWS = {"train": (0, 100), "validation": (101, 200), "test": (201, 300)}


def recipe_cookbook(path: str | Path | None = None) -> Task:
    """101 recipes to learn from, 100 to choose with, 100 to test, of the cookbook's CSV; or 100, 50 and
    100 of the shipped cards.

    Args:
        path: the cookbook's data/cookbook_recipes_nlg_10k.csv (title, ingredients, NER).

    Raises:
        UserError: the file is missing, too short, or other than that.
    """
    data: Any = {split: [] for split in ROWS}
    for split, row in _cookbook(Path(path)) if path is not None else _cards():
        data[split].append(row)
    return make_task(
        "recipe_cookbook",
        description="Generic ingredients of a recipe, in the prompts of the OpenAI cookbook",
        licence="unknown (RecipeNLG: research, not commercial)" if path is not None else "Apache-2.0",
        instructions=INSTRUCTIONS,
        input_template=TEMPLATE,
        data=data,
        columns={"input": ["title", "ingredients"], "reference": "generic", "id": "id"},
        metrics=["set_f1", "exact_match"],
        max_tokens=128,
        correct_at=0.9,
    )


def _cookbook(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise UserError("there is no such file", file=path, field="path")
    rows = list(csv.DictReader(readers.read_text(path).splitlines()))
    last = max(end for _, end in ROWS.values())
    if len(rows) <= last:
        raise UserError(f"has {len(rows)} rows and {last + 1} are wanted", file=path, field="path")
    for split, (first, end) in ROWS.items():
        for number in range(first, end + 1):
            row = rows[number]
            try:
                listed, generic = json.loads(row["ingredients"]), json.loads(row["NER"])
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    "should have the columns title, ingredients and NER, the last two as JSON lists",
                    file=path,
                    line=number + 2,
                ) from None
            yield (
                split,
                {"id": f"r{number}", "title": row["title"], "ingredients": listed, "generic": generic},
            )


def _cards() -> Iterator[tuple[str, dict[str, Any]]]:
    """The first cards of each split, as many as the cookbook takes where there are so many."""
    wanted = {"train": 100, "validation": 50, "test": 100}
    for line in CARDS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        split = str(row.pop("split"))
        if wanted.get(split, 0):
            wanted[split] -= 1
            yield split, row
