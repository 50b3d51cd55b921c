"""From a recipe's title and ingredient lines to the list of generic ingredients, scored with set F1.

The recipe assistant of the OpenAI cookbook as a task of its own: 500 recipe cards as home cooks type them,
with amounts, brands, subheads and typos. How the answers were made is in data/recipe_ingredients/README.md.
"""

from __future__ import annotations

from pathlib import Path

from breakeven.harness.contracts import Task
from breakeven.harness.taskfile import make_task

DATA = Path(__file__).parent / "data" / "recipe_ingredients" / "recipes.jsonl"

INSTRUCTIONS = """\
You turn recipe cards into shopping lists. List the generic ingredients of the recipe in one line, separated \
by commas, in order of first appearance, each once. Lower case; no amounts, units, sizes, containers or ways \
of preparing; a brand becomes the thing it is. Answer with the list only."""

TEMPLATE = """\
{{ title }}
{%- for line in ingredients %}
- {{ line }}
{%- endfor %}"""


def recipe_ingredients() -> Task:
    """250 recipes to learn from, 50 to choose settings with, 200 to test."""
    return make_task(
        "recipe_ingredients",
        description="From a recipe card to the list of generic ingredients",
        licence="Apache-2.0",
        instructions=INSTRUCTIONS,
        input_template=TEMPLATE,
        data=DATA,
        columns={
            "input": ["title", "ingredients"],
            "reference": "generic",
            "id": "id",
            "split": "split",
        },
        metrics=["set_f1", "exact_match"],
        max_tokens=64,
        correct_at=0.9,
    )
