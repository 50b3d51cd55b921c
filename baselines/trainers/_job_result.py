"""What a job that has ended says of itself: its events, its losses, its checkpoints.

Pure functions over what a server sent. None of it is worth a training: a field that is missing or odd is
left out, and never an error.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from breakeven.baselines.trainers._protocol import number

Losses = tuple[tuple[int, float], ...]


def event_rows(events: Iterable[Any], known: set[str], job: str, clean: Any) -> Iterator[dict[str, Any]]:
    """Rows for the journal of those that are not in it yet, oldest first."""
    new: dict[str, Any] = {}
    for event in events:
        if event.id and event.id not in known:
            new.setdefault(event.id, event)
    in_order = list(reversed(new.values()))  # they come newest first
    for event in sorted(in_order, key=lambda e: number(e.created_at) or 0.0):
        yield {
            "id": event.id,
            "job": job,
            "at": event.created_at,
            "level": event.level,
            "message": clean(str(event.message or "")),
            "type": getattr(event, "type", None) or "message",
            "data": event.data if isinstance(event.data, dict) else None,
        }


def result_rows(content: bytes) -> Iterator[Mapping[str, Any]]:
    """Rows of a result file, a CSV; OpenAI sends it in base64."""
    try:
        text = base64.b64decode(content, validate=True).decode()
    except (binascii.Error, ValueError):
        text = content.decode("utf-8", "replace")
    yield from csv.DictReader(io.StringIO(text))


def losses(rows: Iterable[Mapping[str, Any]]) -> tuple[Losses, Losses]:
    """(training, validation) losses by step."""
    train: dict[int, float] = {}
    valid: dict[int, float] = {}
    for row in rows:
        step, loss, held = number(row.get("step")), number(row.get("train_loss")), _held_out(row.get)
        if step is None:
            continue
        if loss is not None:
            train[int(step)] = loss
        if held is not None:
            valid[int(step)] = held
    return tuple(sorted(train.items())), tuple(sorted(valid.items()))


def checkpoint_rows(found: Iterable[Any]) -> list[dict[str, Any]]:
    """Those that can be asked, with their validation loss where they say it."""
    return [
        {
            "id": c.id,
            "model": c.fine_tuned_model_checkpoint,
            "step": c.step_number,
            "valid_loss": _held_out(lambda name, c=c: getattr(c.metrics, name, None)),
        }
        for c in found
        if c.fine_tuned_model_checkpoint
    ]


def best(made: Sequence[Mapping[str, Any]]) -> str | None:
    """The model of the checkpoint with the least validation loss, the later of equals; None where none says
    one."""
    judged = [row for row in made if row["valid_loss"] is not None]
    if not judged:
        return None
    return str(min(judged, key=lambda row: (row["valid_loss"], -(number(row["step"]) or 0.0)))["model"])


def seconds_of(job: Any) -> float | None:
    """From a job's creation to its end, queue included."""
    began, ended = number(getattr(job, "created_at", None)), number(getattr(job, "finished_at", None))
    return ended - began if began and ended and ended >= began else None


def _held_out(get: Any) -> float | None:
    """The loss on all validation examples, else on those of a step."""
    whole = number(get("full_valid_loss"))
    return number(get("valid_loss")) if whole is None else whole
