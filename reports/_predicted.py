"""An estimate beside its run as reports show it: the cells of the table as text, and what is not compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from breakeven.harness import formats as f
from breakeven.harness import predicted
from breakeven.harness.predicted import Compared
from breakeven.harness.results import Results

#: Quantities of the table, each with three columns: predicted, actual, and actual as a multiple of predicted.
QUANTITIES = ("tokens in", "tokens out", "tokens trained", "minutes")


@dataclass(frozen=True, slots=True)
class Line:
    """A strategy on a task, or the whole run (`task` is ""); `amounts` in the order of `QUANTITIES`."""

    task: str
    strategy: str
    cells: int
    amounts: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class PredictedView:
    """`made` says when and on what the estimate was made, `notes` what is not compared."""

    made: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def view(results: Results) -> PredictedView | None:
    """None where the run has no estimate."""
    found, estimate = predicted.beside(results), results.estimate
    if found is None or estimate is None:
        return None
    rows = [*found.rows, *([found.whole] if found.whole is not None else [])]
    return PredictedView(
        f.clean(f"Estimated {f.date(estimate.created)} on {estimate.hardware}."),
        tuple(_line(row) for row in rows),
        tuple(_notes(found)),
    )


def _line(row: Compared) -> Line:
    tokens = (row.input_tokens, row.output_tokens, row.training_tokens)
    return Line(
        f.clean(row.task),
        f.clean(row.strategy),
        row.cells,
        (*((f.count(a), f.count(b), _ratio(a, b)) for a, b in tokens), _minutes(*row.seconds)),
    )


def _minutes(predicted: float | None, actual: float | None) -> tuple[str, str, str]:
    """Without a ratio where both are too short to be told."""
    told = max(predicted or 0.0, actual or 0.0) >= 60 * f.LEAST_MINUTES
    return f.minutes(predicted), f.minutes(actual), _ratio(predicted, actual) if told else f.DASH


def _ratio(predicted: float | None, actual: float | None) -> str:
    return f.DASH if not predicted or actual is None else f"{actual / predicted:.2f}"


def _notes(found: predicted.Beside) -> Iterator[str]:
    yield from (f"{s}." for s in found.sentences())
    if found.whole is not None and found.whole.seconds[1] is None:
        yield (
            "The minutes of the whole run are not compared: it was resumed or is unfinished, or not all of "
            "its cells are in the estimate."
        )


def facts(results: Results) -> dict[str, Any] | None:
    """For programs: numbers as they are; None where the run has no estimate."""
    found, estimate = predicted.beside(results), results.estimate
    if found is None or estimate is None:
        return None
    return {
        "created": estimate.created,
        "hardware": estimate.hardware,
        "rows": [_facts(row) for row in found.rows],
        "whole": _facts(found.whole) if found.whole is not None else None,
        "only_predicted": list(found.only_predicted),
        "only_run": list(found.only_run),
    }


def _facts(row: Compared) -> dict[str, Any]:
    return {
        "task": row.task or None,
        "strategy": row.strategy or None,
        "cells": row.cells,
        **{
            quantity: {"predicted": pair[0], "actual": pair[1]}
            for quantity, pair in (
                ("input_tokens", row.input_tokens),
                ("output_tokens", row.output_tokens),
                ("training_tokens", row.training_tokens),
                ("seconds", row.seconds),
            )
        },
    }
