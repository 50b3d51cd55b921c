"""Instructions for small Python programs: mlabonne/Evol-Instruct-Python-1k, or a shipped stand-in of 48 rows.

The data of Maxime Labonne's "A Beginner's Guide to LLM Fine-Tuning", which never scores its model. Here
answers are compared with the reference's text (chrF; a right program may read differently), and parsed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from breakeven.harness.contracts import Task
from breakeven.harness.taskfile import make_task
from breakeven.tasks._published import rows, stand_in

HUB = "mlabonne/Evol-Instruct-Python-1k"

#: Alpaca's, which Axolotl puts before every row of `type: alpaca` without an input.
INSTRUCTIONS = """\
Below is an instruction that describes a task. Write a response that appropriately completes the request."""


def evol_instruct_python(path: str | Path | None = None, seed: int = 0) -> Task:
    """32 rows to learn from, 6 to choose with and 10 to test, written for this project; or all of a `path`:
    2 % to choose with as in the guide, and a tenth to test, of which the guide has none.

    Args:
        path: "mlabonne/Evol-Instruct-Python-1k" on the Hub, or a file with its columns instruction and output
            (and perhaps input). Without it the rows are the stand-in, which never replaces what is asked for.
        seed: of the cut.

    Raises:
        UserError: the rows cannot be had, or are other than that.
    """
    common: dict[str, Any] = {"input": ["instruction"], "reference": "output", "id": "id"}
    settings: dict[str, Any] = {
        "instructions": INSTRUCTIONS,
        "input_template": "{{ instruction }}",
        "metrics": ["chrf", "python_parses"],
        "max_tokens": 1024,
        "correct_at": 0.5,
    }
    if path is None:
        return make_task(
            "evol_instruct_python",
            description=f"Python programs: a stand-in of 48 rows written for this project, NOT {HUB}",
            licence="Apache-2.0",
            data=stand_in("evol_instruct_python"),
            columns={**common, "split": "split"},
            **settings,
        )
    found = rows(path, ("instruction", "output"), None, seed)
    for row in found:
        if given := str(row.get("input") or "").strip():
            row["instruction"] = f"{row['instruction']}\n\n### Input:\n{given}"  # as Alpaca writes it
    return make_task(
        "evol_instruct_python",
        description=f"Python programs: {len(found):,} rows of {path}",
        licence="",
        data=found,
        columns=common,
        sizes={"validation": 0.02, "test": 0.1},
        seed=seed,
        **settings,
    )
