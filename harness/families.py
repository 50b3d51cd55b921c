"""What kind of strategy a row of the result table is: which levers it pulls, what it needs to be built.

A family (no language model, prompting, retrieval, tuned, tuned with retrieval) is how the verdict speaks of
a strategy and how a report draws it. It is read off settings, never off scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from breakeven.harness import trials
from breakeven.harness.results import Row

Lever = Literal["demonstrations", "context", "weights"]
LEVERS: tuple[Lever, ...] = ("demonstrations", "context", "weights")

Family = Literal["no-model", "prompting", "retrieval", "tuned", "tuned-retrieval", "given"]
FAMILY_WORDS: dict[Family, str] = {
    "no-model": "no language model",
    "prompting": "prompting",
    "retrieval": "retrieval",
    "tuned": "fine-tuned",
    "tuned-retrieval": "fine-tuned and retrieval",
    "given": "as stated",
}


def settings(row: Row) -> Mapping[str, Any]:
    return row.cells[0].settings if row.cells else {}


def pulls(row: Row, lever: Lever) -> bool:
    if lever == "weights" and row.model is not None and any(c.training is not None for c in row.cells):
        return True
    return bool(settings(row).get(lever))


def reads_documents(row: Row) -> Literal["", "documents", "both"]:
    """Whether its weights were trained on the task's documents: alone, or beside the examples."""
    weights = settings(row).get("weights")
    data = weights.get("data") if isinstance(weights, Mapping) else None
    return data if data in ("documents", "both") else ""


def family(row: Row) -> Family:
    if is_recorded(row):
        return "given"
    tuned, retrieval = pulls(row, "weights"), pulls(row, "context")
    if tuned:
        return "tuned-retrieval" if retrieval else "tuned"
    if row.model is None:
        return "no-model"
    return "retrieval" if retrieval else "prompting"


def is_recorded(row: Row) -> bool:
    """Answers that were given elsewhere: nothing was built, tried or served here."""
    return bool(row.cells) and row.cells[0].factory == "recorded"


def is_ceiling(row: Row) -> bool:
    """It was told which document answers: an upper limit of retrieval, nothing that could be served."""
    context = settings(row).get("context")
    return isinstance(context, Mapping) and context.get("retriever") == "oracle"


def is_tuned(kind: Family) -> bool:
    return kind in ("tuned", "tuned-retrieval")


def labelled_examples(row: Row) -> int:
    """Labelled examples that the strategy cannot do without.

    All of its training set where it trains on it, looks for similar ones or needs no model; the k that it
    shows where they are drawn once; none where it shows none. Beside them the validation examples that its
    settings were chosen by.
    """
    return 0 if is_recorded(row) else _training_examples(row) + trials.judged_on(row)


def _training_examples(row: Row) -> int:
    if row.model is None or (pulls(row, "weights") and reads_documents(row) != "documents"):
        return row.train_size
    shown = settings(row).get("demonstrations") or {}
    if shown.get("select") == "similar":
        return row.train_size
    return min(int(shown.get("k", 0)), row.train_size)
