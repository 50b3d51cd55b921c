"""The result tables as CSV: a line for each task and strategy (x model x training size), for pandas.

The columns are the keys of `_summary.row_facts`; a unit is part of its name, e.g. `latency_p95_seconds`.
Numbers are unrounded, an unknown one is an empty field, failed strategies have a line with their reason.
Read it with `pandas.read_csv("report.csv")`.
"""

from __future__ import annotations

import csv as writer
import io

from breakeven.harness.results import Results
from breakeven.reports._summary import cleaned, row_facts


def csv(results: Results, *, examples: bool = True) -> str:
    """The tables. Examples are no part of it: `cells/*/predictions.jsonl` of the run folder has them."""
    rows = [cleaned(row_facts(results, task, row)) for task, rows in results.tables.items() for row in rows]
    out = io.StringIO()
    if rows:
        lines = writer.DictWriter(out, list(rows[0]), lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
    return out.getvalue()
