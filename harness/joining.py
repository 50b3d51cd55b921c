"""The folds of a cell as one: scored together when the last is done, shown as one cell in results.

`write` is for the run, which has the metrics; `joined` for results, which read a folder and have none. Every
fold stays a cell of its own on disk, so that each can fail, be resumed and be looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import store
from breakeven.harness.contracts import Prediction, Score, Usage
from breakeven.harness.costs import ONE_OFF
from breakeven.harness.ledger import PEAKS, Amount, Entry, Ledger

if TYPE_CHECKING:
    from breakeven.harness.folds import CrossfitTask
    from breakeven.harness.results import CellResult, MetricInfo

DONE = "done"
#: What a joined cell is when its folds are not all done: the first of these that one of them is.
WORST = ("failed", "stopped", "pending", "running", "waiting", "not-applicable")


# --- while running ---------------------------------------------------------------------------


def write(folder: Path, task: CrossfitTask, cell: str) -> bool:
    """Score the rows of all folds together, into `joined/CELL.json` of the run folder.

    Args:
        cell: the id without a fold.

    Returns whether it is there: not while a fold is not done. What still fits the folds' predictions is not
    written again.
    """
    from breakeven.harness.plan import fold_suffix
    from breakeven.harness.scoring import resampled

    folders = [folder / "cells" / f"{cell}{fold_suffix(n)}" for n in task.used]
    if any(store.read_json(f / "status.json", {}).get("state") != DONE for f in folders):
        return False
    path = folder / "joined" / f"{cell}.json"
    if fits(store.read_json(path, {}), folders):
        return True
    rows = {row["id"]: row for f in folders for row in store.read_rows(f / "predictions.jsonl")}
    ordered = [rows[e.id] for e in task.test]
    predictions = [_prediction(row) for row in ordered]
    scores = {m.name: [_score(row, m.name) for row in ordered] for m in task.metrics}
    primary = task.primary
    joined = {
        "task": task.name,
        "predictions": {f.name: _hash(f) for f in folders},
        "scores": {m.name: m.aggregate(task.test, predictions, scores[m.name]) for m in task.metrics},
        "draws": [] if primary.additive else resampled(task, predictions, scores[primary.name]),
    }
    store.write_json(path, joined)
    return True


def fits(stored: Mapping[str, Any], folders: Sequence[Path]) -> bool:
    """Whether what `write` left was made from the predictions that are in these cells now."""
    return bool(stored) and stored.get("predictions") == {f.name: _hash(f) for f in folders}


def _hash(folder: Path) -> str:
    with (folder / "predictions.jsonl").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prediction(row: Mapping[str, Any]) -> Prediction:
    return Prediction(
        row["id"],
        row["output"],
        Usage(**row["usage"]),
        row.get("seconds"),
        row.get("finish_reason", ""),
        row.get("meta") or {},
    )


def _score(row: Mapping[str, Any], metric: str) -> Score:
    return Score(row["score"][metric], (row.get("detail") or {}).get(metric) or {})


# --- in results ------------------------------------------------------------------------------


def joined(
    parts: Sequence[CellResult],
    order: Sequence[str],
    metrics: Sequence[MetricInfo],
    stored: Mapping[str, Any],
) -> CellResult:
    """The folds of a cell as one cell.

    Ledgers are added, but what is spent before serving (labels, index, search, training) is the mean over the
    folds, as a deployment trains once; of training it is the mean as well. What the run itself consumed is in
    the `parts`.

    Args:
        parts: the folds that have begun, in their order.
        order: ids of the rows that are scored, in the order of the task.
        stored: what `write` left, or nothing; without it only metrics that are means have an aggregate.
    """
    first, wanted = parts[0], parts[0].folds
    state, reason = _state(parts, wanted)
    rows = {p.id: p for part in parts for p in part.predictions}
    fold_of = {p.id: part.fold for part in parts for p in part.predictions if part.fold is not None}
    whole = state == DONE and all(id in rows for id in order)
    aggregates: dict[str, float] = {}
    if whole:
        scores = dict(stored.get("scores") or {})
        for metric in metrics:
            if metric.name in scores:
                aggregates[metric.name] = scores[metric.name]
            elif metric.additive:
                aggregates[metric.name] = sum(rows[id].score[metric.name] for id in order) / len(order)
    if state == DONE and metrics and metrics[0].name not in aggregates:
        state, whole = "waiting", False
        reason = f"all {wanted} folds are done, but not scored together: resume the run"
    return replace(
        first,
        id=first.joined,
        fold=None,
        state=state,
        reason=reason,
        predictions=tuple(rows[id] for id in order) if whole else (),
        fold_of=tuple(fold_of[id] for id in order) if whole else (),
        outside={n: rows for p in parts for n, rows in p.outside.items()},
        parts=tuple(parts),
        aggregates=aggregates,
        ledger=_ledger(parts),
        timing=_timing([p.timing for p in parts if p.timing is not None]),
        training=_training(parts),
        fit_notes=_notes([p.fit_notes for p in parts]),
        lost={
            q: sum(p.lost.get(q, 0.0) for p in parts) for q in dict.fromkeys(q for p in parts for q in p.lost)
        },
        draws=tuple(stored.get("draws") or ()) if whole else (),
    )


def _state(parts: Sequence[CellResult], wanted: int) -> tuple[str, str]:
    done = sum(p.state == DONE for p in parts)
    if done == wanted:
        return DONE, ""
    states = [p.state for p in parts] + ["waiting"] * (wanted - len(parts))
    state = next((s for s in WORST if s in states), states[0])
    reasons = {p.fold: p.reason for p in parts if p.state != DONE and p.reason}
    if len(reasons) == wanted and len(set(reasons.values())) == 1:
        return state, next(iter(reasons.values()))
    said = [f"fold {fold}: {reason}" for fold, reason in reasons.items()]
    return state, "; ".join([f"{done} of {wanted} folds are done", *said])


def _ledger(parts: Sequence[CellResult]) -> Ledger:
    entries = [_shared(e, len(parts)) for p in parts for e in p.ledger.entries]
    return Ledger(entries).compacted()


def _shared(entry: Entry, folds: int) -> Entry:
    """A fold's part in the mean over folds, for what is spent before serving."""
    if entry.phase not in ONE_OFF or entry.quantity in PEAKS or entry.amount.value is None:
        return entry
    return replace(entry, amount=Amount(entry.amount.value / folds, entry.amount.status))


def _timing(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """All latencies together; priced seconds from the passes at the highest concurrency that was reached."""
    if not found:
        return None
    result: dict[str, Any] = {}
    ones = [t["batch_of_one"] for t in found if "batch_of_one" in t]
    if ones:
        seconds = [s for one in ones for s in one["seconds"]]
        kept = {key: value for key, value in ones[0].items() if key != "equal"}
        result["batch_of_one"] = {**kept, "n": len(seconds), "seconds": seconds, **_equal(ones)}
    passes = [t["concurrent"] for t in found if "concurrent" in t]
    if passes:
        highest = max(p["concurrency"] for p in passes)
        passes = [p for p in passes if p["concurrency"] == highest]
        asked = sum(p["n"] for p in passes)
        spent = sum(p["n"] * p["seconds_per_request"] for p in passes)
        result["concurrent"] = {
            "concurrency": highest,
            "n": asked,
            "seconds_per_request": spent / asked,
            **_equal(passes),
        }
    return result


def _equal(passes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Texts that came out the same in all passes; nothing as soon as one did not count them."""
    return {"equal": sum(p["equal"] for p in passes)} if all("equal" in p for p in passes) else {}


def _training(parts: Sequence[CellResult]) -> Mapping[str, Any] | None:
    """The mean of the folds' trainings, field by field, but the largest memory; each one is in `folds`."""
    found = [p.training for p in parts if p.training is not None]
    if not found:
        return None
    result: dict[str, Any] = dict(found[0])
    for key in result:
        values = [t[key] for t in found if t.get(key) is not None]
        if key.endswith("losses"):
            result[key] = _curve(values)
        elif values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            mean = sum(values) / len(values)
            result[key] = max(values) if key == "peak_bytes" else int(mean) if mean == int(mean) else mean
    return {**result, "folds": found}


def _curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[list[float]]:
    """The mean loss at every step that all folds have."""
    held = [dict(curve) for curve in curves]
    shared = [step for step in held[0] if all(step in losses for losses in held)] if held else []
    return [[step, sum(losses[step] for losses in held) / len(held)] for step in shared]


def _notes(found: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the first fold's fit noted, with the remarks of all folds, once each."""
    remarks = list(dict.fromkeys(str(r) for notes in found for r in notes.get("remarks", [])))
    first: Mapping[str, Any] = next((n for n in found if n), {})
    return {**first, "remarks": remarks} if first else {}
