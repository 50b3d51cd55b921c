"""Banking77 (Casanueva et al. 2020, arXiv:2003.04807): queries of bank customers to one of 77 intents.

From the Hub (`PolyAI/banking77`, CC BY 4.0) or a folder with train.csv, test.csv and, if the order of the
intents matters, categories.json. The official test split is the test split; validation is cut from train.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from breakeven.harness import readers
from breakeven.harness.contracts import Task
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.taskfile import make_task

HUB = "PolyAI/banking77"

INSTRUCTIONS = """\
You sort queries that customers write to an online bank. Name the one intent that fits best. Answer with the \
name of the intent only."""


def banking77(data_dir: str | Path | None = None, intents: int = 77, seed: int = 0) -> Task:
    """Banking77 with all 77 intents, or with the first `intents` of its list of categories.

    Args:
        data_dir: folder with train.csv and test.csv (columns text, category) in place of the Hub.
        intents: how many intents to keep, at least 2, in the order of categories.json (or of the Hub's
            class names); alphabetical where neither is there.
        seed: of the cut that takes a tenth of train for validation.
    """
    if not 2 <= intents <= 77:
        raise UserError(f"{intents} intents cannot be chosen", field="intents", hint="between 2 and 77")
    train, test = _hub() if data_dir is None else _local(Path(data_dir))
    kept = _categories(data_dir, [row["label"] for row in (*train, *test)])[:intents]
    return make_task(
        "banking77" if intents == 77 else f"banking77_{intents}",
        description=f"Queries to an online bank, {intents} intents",
        licence="CC-BY-4.0",
        instructions=INSTRUCTIONS,
        input_template="{{ text | trim }}",
        data={
            "train": [row for row in train if row["label"] in kept],
            "test": [row for row in test if row["label"] in kept],
        },
        columns={"input": "text", "reference": "label"},
        choices=kept,
        metrics=["accuracy", "macro_f1"],
        max_tokens=24,
        sizes={"validation": 0.1},
        seed=seed,
    )


Labelled = list[dict[str, str]]


def _local(folder: Path) -> tuple[Labelled, Labelled]:
    train, test = (readers.read_file(folder / name) for name in ("train.csv", "test.csv"))
    return _labelled(train, "category"), _labelled(test, "category")


def _hub() -> tuple[Labelled, Labelled]:
    rows = readers.read(HUB)
    return _labelled(rows["train"], "label"), _labelled(rows["test"], "label")


def _labelled(rows: Sequence[Row], column: str) -> Labelled:
    for row in rows:
        if not row.values.get("text") or not row.values.get(column):
            raise UserError("the row needs a text and a label", file=row.file, line=row.line, field=column)
    return [{"text": str(r.values["text"]), "label": str(r.values[column])} for r in rows]


def _categories(data_dir: str | Path | None, labels: Sequence[str]) -> list[str]:
    path = Path(data_dir) / "categories.json" if data_dir is not None else None
    if path is None or not path.is_file():
        return sorted(set(labels))
    listed = json.loads(readers.read_text(path))
    missing = set(labels) - set(listed)
    if missing:
        raise UserError(f"the category '{min(missing)}' of the rows is not in the list", file=path)
    return [str(name) for name in listed]
