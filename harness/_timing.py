"""Latency and priced seconds of a fitted strategy, from requests that are asked again for nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from breakeven.harness.contracts import Input, Predictor


def measured(
    lent: Callable[[int], Predictor],
    inputs: Sequence[Input],
    concurrency: int,
    before: Mapping[str, str] | None,
    progress: Callable[[str, float, float, int], None],
) -> dict[str, Any]:
    """What `timing.json` says: `batch_of_one`, and `concurrent` where more than one request is asked at once.

    Args:
        lent: the predictor, with an engine that takes so many requests at once.
        before: what a language model said in the run's own batches, by id; `equal` counts the texts that are
            the same. None where none was asked.
    """
    one = lent(1)
    list(one.predict(inputs[:1]))  # warm caches, as a server is warm
    seconds: list[float] = []
    alone: dict[str, str] = {}
    for i, x in enumerate(inputs):
        took, said = _timed(one, [x])
        seconds.append(took)
        alone |= said
        progress("timing", i + 1, len(inputs) + 1, 0)
    result: dict[str, Any] = {
        "batch_of_one": {"n": len(seconds), "seconds": seconds, **_equal(alone, before)}
    }
    many = min(concurrency, len(inputs))
    if many > 1:
        took, said = _timed(lent(many), inputs[:many])
        result["concurrent"] = {
            "concurrency": many,
            "n": many,
            "seconds_per_request": took / many,
            **_equal(said, alone if before is not None else None),
        }
    return result


def _timed(predictor: Predictor, inputs: Sequence[Any]) -> tuple[float, dict[str, str]]:
    """(seconds, outputs by id)."""
    start = time.perf_counter()
    said = {p.id: p.output for p in predictor.predict(inputs)}
    return time.perf_counter() - start, said


def _equal(said: Mapping[str, str], before: Mapping[str, str] | None) -> dict[str, int]:
    """How many outputs are the same text as before; nothing where no language model was asked."""
    return {} if before is None else {"equal": sum(before[id] == text for id, text in said.items())}
