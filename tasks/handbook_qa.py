"""Questions over the handbook of an invented company, answered in the house style: the bare fact.

The facts asked in test stand on pages that no training question touches and nowhere outside the handbook, so
only retrieval can know them; the style of the answers can be learned. See data/handbook_qa/README.md.
"""

from __future__ import annotations

from pathlib import Path

from breakeven.harness.contracts import Task
from breakeven.harness.taskfile import make_task

DATA = Path(__file__).parent / "data" / "handbook_qa"

INSTRUCTIONS = """\
You answer questions of employees of Tarnwick Instruments from the company's handbook. Answer with the bare \
fact in the handbook's own words, one to six words, without a sentence around it."""


def handbook_qa() -> Task:
    """About 200 questions to learn from, 40 to choose settings with, 160 to test; 64 pages as documents.

    An example's group is the page that answers it, which is also the id of that document.
    """
    return make_task(
        "handbook_qa",
        description="Questions over the handbook of an invented company, 64 pages",
        licence="Apache-2.0",
        instructions=INSTRUCTIONS,
        input_template="{{ question }}",
        data=DATA / "questions.jsonl",
        columns={
            "input": "question",
            "references": "answers",
            "id": "id",
            "group": "page",
            "split": "split",
            "meta": "page",
        },
        documents=DATA / "pages",
        metrics=["token_f1", "normalised_match"],
        max_tokens=24,
    )
