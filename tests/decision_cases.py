"""Cases to decide on, made from scores and costs instead of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from breakeven.harness import draws
from breakeven.harness.decision import Candidate, Case
from breakeven.harness.economics import Economics
from breakeven.harness.ownership import Bill, Knobs, Ownership


def owned(
    label: str = "x",
    *,
    up_front: float = 0.0,
    monthly: float = 0.0,
    request: float = 0.0,
    tokens: float = 0.0,
    machine: float = 0.0,
    replica: float = 0.0,
    seconds: float = 0.0,
    missing: tuple[str, ...] = (),
) -> Ownership:
    """`request` is fixed money of a request, `tokens` and `machine` what scales with their prices."""
    return Ownership(
        label,
        (),
        Bill(fixed=up_front),
        Bill(fixed=monthly),
        Bill(),
        Bill(fixed=request, tokens=tokens, machine=machine),
        replica=replica,
        seconds=seconds,
        missing=missing,
    )


def economics(**settings: Any) -> Economics:
    return Economics.model_validate(settings)


def right_answers(share: float, n: int, seed: int) -> np.ndarray:
    """(1, n) scores of which exactly `share` are 1, at places drawn by the seed."""
    scores = np.zeros(n)
    scores[: round(share * n)] = 1
    return np.random.default_rng(seed).permutation(scores)[None, :]


def case(
    scores: Mapping[str, np.ndarray],
    costs: Mapping[str, Ownership] | None = None,
    *,
    settings: Economics | None = None,
    incumbent: str | None = None,
    p95: Mapping[str, float] | None = None,
    hosts: Mapping[str, str] | None = None,
    families: Mapping[str, Any] | None = None,
    count: int = draws.DRAWS,
) -> Case:
    labels = list(scores)
    given = settings or economics()
    n = next(iter(scores.values())).shape[1]
    return Case(
        "task",
        tuple(
            Candidate(
                label,
                (families or {}).get(label, "prompting"),
                (hosts or {}).get(label, "this machine"),
                (p95 or {}).get(label),
                (costs or {}).get(label, owned(label)),
            )
            for label in labels
        ),
        draws.of_scores(labels, list(scores.values()), draws.resampled(n, draws=count)),
        given,
        Knobs(given.requests_per_month, given.horizon_months, given.value_per_correct),
        incumbent=labels.index(incumbent) if incumbent else None,
    )


def name(case: Case, position: int | None) -> str | None:
    return None if position is None else case.candidates[position].label


def names(case: Case, positions: Sequence[int]) -> list[str]:
    return [case.candidates[i].label for i in positions]
