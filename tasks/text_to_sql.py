"""From a question and CREATE TABLE statements to SQL: b-mc2/sql-create-context, or a stand-in of 64 rows.

The task of Philipp Schmid's "How to Fine-Tune LLMs in 2024 with Hugging Face", in its words. There the schema
stands in the system message; here it stands before the question, so that a demonstration can bring its own.
"""

from __future__ import annotations

from pathlib import Path

from breakeven.harness.contracts import Task
from breakeven.harness.taskfile import make_task
from breakeven.tasks._published import rows, stand_in

HUB = "b-mc2/sql-create-context"

INSTRUCTIONS = """\
You are an text to SQL query translator. Users will ask you questions in English and you will generate a SQL \
query based on the provided SCHEMA."""
TEMPLATE = """\
SCHEMA:
{{ context }}

{{ question }}"""
#: As the recipe draws them: 12,500 of the 78,577 rows, 10,000 of them to learn from.
PUBLISHED = {"train": 10_000, "validation": 0, "test": 2_500}


def text_to_sql(path: str | Path | None = None, seed: int = 0) -> Task:
    """40 rows to learn from, 11 to choose with and 13 to test, written for this project; or, of a `path`,
    10,000 and 2,500 as in the recipe (all of a smaller one, a fifth to test).

    Args:
        path: "b-mc2/sql-create-context" on the Hub, or a file with its columns question, context and answer.
            Without it the rows are the stand-in, which never replaces what is asked for.
        seed: of the draw and of the cut. The recipe's own draw is not published.

    Raises:
        UserError: the rows cannot be had, or are other than that.
    """
    metrics = ["sql_match", {"metric": "sql_execution", "schema": "context"}, "exact_match"]
    common = {"input": ["context", "question"], "reference": "answer", "id": "id"}
    if path is None:
        return make_task(
            "text_to_sql",
            description=f"Text to SQL: a stand-in of 64 rows written for this project, NOT {HUB}",
            licence="Apache-2.0",
            instructions=INSTRUCTIONS,
            input_template=TEMPLATE,
            data=stand_in("text_to_sql"),
            columns={**common, "split": "split", "group": "context"},
            metrics=metrics,
            max_tokens=256,
        )
    found = rows(path, ("question", "context", "answer"), sum(PUBLISHED.values()), seed)
    full = len(found) == sum(PUBLISHED.values())
    return make_task(
        "text_to_sql",
        description=f"Text to SQL: {len(found):,} rows of {path}",
        licence="CC-BY-4.0" if str(path) == HUB else "",
        instructions=INSTRUCTIONS,
        input_template=TEMPLATE,
        data=found,
        columns=common,
        metrics=metrics,
        max_tokens=256,  # the recipe's max_new_tokens
        sizes=PUBLISHED if full else {"validation": 0, "test": 0.2},
        seed=seed,
    )
