"""The result tables as Parquet: the lines and columns of the CSV report, with their types.

Read it with `pandas.read_parquet("report.parquet")`. A column keeps its type when nothing in it is known, so
that the files of several runs can be read as one data set.
"""

from __future__ import annotations

import io

import pandas as pd

from breakeven.harness.results import Results
from breakeven.reports._summary import cleaned, row_facts

#: Columns by what they hold where that is not a number; a column in none of these is told by its values.
WHOLE = ("train_size", "seeds", "test_examples", "won", "lost")
TRUTH = ("higher_is_better", "is_best", "is_reference")
TEXT = ("run", "task", "strategy", "setting", "model", "family", "state", "reason", "metric", "reference",
        "standing", "test", "examples_needed", "currency", "notes")  # fmt: skip
TEXT_ENDINGS = ("_status", "_note", "_method")


def parquet(results: Results, *, examples: bool = True) -> bytes:
    """The tables. Examples are no part of it: `cells/*/predictions.jsonl` of the run folder has them."""
    rows = [cleaned(row_facts(results, task, row)) for task, rows in results.tables.items() for row in rows]
    frame = pd.DataFrame(rows)
    frame = frame.astype({column: kind(column, frame[column]) for column in frame.columns})
    out = io.BytesIO()
    frame.to_parquet(out, index=False)
    return out.getvalue()


def kind(column: str, values: pd.Series) -> str:
    """The pandas type of a column."""
    if column in WHOLE:
        return "Int64"
    if column in TRUTH:
        return "boolean"
    if column in TEXT or column.endswith(TEXT_ENDINGS):
        return "string"
    known = values.dropna()
    return "float64" if known.map(lambda v: isinstance(v, int | float)).all() else "string"
