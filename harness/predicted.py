"""An estimate beside the run it was made for: predicted against actual tokens and seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from breakeven.harness import store
from breakeven.harness.estimate import CellEstimate, Estimate
from breakeven.harness.results import DONE, CellResult, Results


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of predicted against actual: a strategy on a task, or the whole run (`task` is "").

    Seconds are those of training, answering and timing, which a run measures; of the whole run they are
    its wall time from the first cell to the end. Training that others share counts in each row, and once in
    the whole. None: unknown, or not comparable (a run that was broken off).
    """

    task: str
    strategy: str
    cells: int
    input_tokens: tuple[float, float]
    output_tokens: tuple[float, float]
    training_tokens: tuple[float, float]
    seconds: tuple[float | None, float | None]


def predicted_against_actual(estimate: Estimate, results: Results) -> tuple[Compared, ...]:
    """(predicted, actual) per task and strategy over the cells that are done, and at last of the run."""
    pairs = [(c, results.cells[c.id]) for c in estimate.cells if c.id in results.cells]
    done = [(c, r) for c, r in pairs if r.state == DONE and c.state == "runs"]
    groups: dict[tuple[str, str], list[tuple[CellEstimate, CellResult]]] = {}
    for c, r in done:
        groups.setdefault((c.task, c.strategy), []).append((c, r))
    rows = [_compared(task, strategy, group) for (task, strategy), group in groups.items()]
    if not done:
        return ()
    whole = _compared("", "", done)
    predicted = estimate.totals([c for c, _ in done])
    trained = sum(_once(r.ledger.entries, seen) for seen in [set[str]()] for _, r in done)
    return (
        *rows,
        replace(
            whole,
            training_tokens=(predicted.training_tokens, trained),
            seconds=(
                None if predicted.untimed else predicted.seconds + estimate.loading_seconds,
                _wall_seconds(results),
            ),
        ),
    )


def _once(entries: Iterable[Any], seen: set[str]) -> float:
    """Training tokens in a ledger, less those of artifacts that were seen before."""
    total, here = 0.0, set()
    for e in entries:
        if e.phase == "train" and e.quantity == "training_tokens" and (e.artifact or "") not in seen:
            total += e.amount.value or 0.0
            here |= {e.artifact} if e.artifact else set()
    seen |= here
    return total


def _compared(task: str, strategy: str, group: Sequence[tuple[CellEstimate, CellResult]]) -> Compared:
    predicted, actual = [c for c, _ in group], [r for _, r in group]
    said = [c.seconds.total if c.seconds is not None else None for c in predicted]
    took = [_cell_seconds(r) for r in actual]
    return Compared(
        task,
        strategy,
        len(group),
        (sum(c.input_tokens for c in predicted), _used(actual, "input_tokens")),
        (sum(c.output_tokens for c in predicted), _used(actual, "output_tokens")),
        (
            sum(c.training_tokens for c in predicted),
            sum(r.ledger.total("training_tokens", "train").value or 0.0 for r in actual),
        ),
        (_sum(said), _sum(took)),
    )


def _used(cells: Sequence[CellResult], quantity: str) -> float:
    return float(sum(getattr(p.usage, quantity) for r in cells for p in r.predictions))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


def _cell_seconds(cell: CellResult) -> float | None:
    """What a cell took, as far as its ledger and its timing passes say; None of a model served elsewhere."""
    timing = cell.timing or {}
    alone = timing.get("batch_of_one") or {}
    if "note" in alone:  # the run's own requests: no pass of its own was made
        return None
    spent = sum(
        e.amount.value
        for e in cell.ledger.select(quantity="seconds")
        if e.amount.status == "measured" and e.amount.value is not None
    )
    seconds = alone.get("seconds") or []
    spent += sum(seconds) + (seconds[0] if seconds else 0.0)
    if together := timing.get("concurrent"):
        spent += together["seconds_per_request"] * together["n"]
    return float(spent)


def _wall_seconds(results: Results) -> float | None:
    """From the first cell to the end of an unbroken run."""
    began, ended = results.info.get("created"), results.info.get("finished")
    attempts = [
        (store.read_json(results.folder / "cells" / c / "status.json") or {}).get("attempts", 1)
        for c in results.cells
    ]
    if not began or not ended or any(n != 1 for n in attempts):
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
