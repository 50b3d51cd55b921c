"""A case packed for the page: draws, bills and measured texts, from which the page decides as Python does.

Draws travel as they were rounded (`draws.rounded`): two bytes each, base64, little endian, with the smallest
value and the span of each strategy, so that low + k / 65535 * span gives the same doubles in the browser.
What is the same in all draws has no codes; what equals the scores says so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from breakeven.harness import formats as f
from breakeven.harness.breakdown import MACHINES, lines, topic
from breakeven.harness.decision import Candidate, Case
from breakeven.harness.draws import STEPS
from breakeven.harness.evidence import Evidence, Name, Sentence
from breakeven.harness.ownership import Bill, Knobs

Floats = npt.NDArray[np.float64]


def embedded(case: Case, known: Evidence, position: int) -> Markup:
    """The data block of a task. In a script element only `<` can end the data early."""
    raw = json.dumps(packed(case, known), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    body = raw.replace("<", "\\u003c")
    return Markup(f'<script type="application/json" id="case-{position}">{body}</script>')


def packed(case: Case, known: Evidence) -> dict[str, Any]:
    """The case as JSON. A sentence is a list of its parts; the name of a strategy is a list of one."""
    e, draws = case.economics, case.draws
    score = [_draws(d) for d in draws.score]
    worth = [
        "score" if np.array_equal(a, b) else _draws(a) for a, b in zip(draws.worth, draws.score, strict=True)
    ]
    return {
        "task": known.task,
        "metric": f.clean(known.metric.name),
        "decimals": f.decimals(known.metric),
        "range": known.metric.range,
        "higher": case.higher_is_better,
        "currency": known.currency,
        "symbol": f.SYMBOLS.get(known.currency, ""),
        "knobs": _knobs(case.knobs),
        "economics": {
            "growth": e.growth_per_month,
            "retrain": e.retrain_every_months,
            "peak": e.peak_per_second,
            "peak_factor": e.peak_factor,
            "utilisation": e.utilisation,
            "margin": e.margin,
            "floor": e.quality_floor,
        },
        "incumbent": case.incumbent,
        "candidates": [_candidate(c, i, case, known) for i, c in enumerate(case.candidates)],
        "draws": {
            "n": draws.score.shape[1],
            "score": score,
            "worth": worth,
            "tokens": [_draws(d) for d in draws.tokens],
            "seconds": [_draws(d) for d in draws.seconds],
        },
        "score_mean": [float(x) for x in draws.score_mean],
        "worth_mean": [float(x) for x in draws.worth_mean],
        "pairs": known.pairs,
        "gaps": known.gaps,
        "leads": known.leads,
        "tuning": known.tuning,
        "margin": known.margin,
        "hour": known.hour,
        "tests": known.test_examples,
        "again": known.again,
        "again_assumed": known.again_assumed,
        "hurts": [parts(s) for s in known.hurts],
    }


def parts(sentence: Sentence) -> list[str | list[str]]:
    """A sentence as JSON."""
    return [[str(p)] if isinstance(p, Name) else p for p in sentence]


def _knobs(knobs: Knobs) -> dict[str, float | None]:
    return {
        "requests": float(knobs.requests),
        "months": knobs.months,
        "value": None if knobs.value is None else float(knobs.value),
        "machine": float(knobs.machine),
        "tokens": float(knobs.tokens),
    }


def _candidate(c: Candidate, i: int, case: Case, known: Evidence) -> dict[str, Any]:
    own = c.ownership
    return {
        "label": known.labels[i],
        "family": c.family,
        "dropped": list(case.dropped.get(i, ())),
        "known": own.known,
        "quality": known.quality[i],
        "ranges": known.ranges[i],
        "ends": known.ends[i],
        "up_front": _bill(own.up_front),
        "monthly": _bill(own.monthly),
        "retraining": _bill(own.retraining),
        "request": _bill(own.request),
        "replica": own.replica,
        "seconds": own.seconds,
        "lines": [
            [topic(x), x.when if x.what != MACHINES else MACHINES, x.part, x.value, x.known == "assumed"]
            for x in lines(own)
        ],
    }


def _bill(bill: Bill) -> list[float]:
    return [float(bill.fixed), float(bill.machine), float(bill.tokens)]


def _draws(values: Floats) -> list[Any]:
    """[low, span, codes] such that low + code / STEPS * span are the values; codes "" where all are low."""
    low = float(values.min())
    span = float(values.max()) - low
    if span <= 0:
        return [low, 0.0, ""]
    codes = np.round((values - low) / span * STEPS).astype("<u2")
    return [low, span, base64.b64encode(codes.tobytes()).decode("ascii")]


def unpacked(draws: Sequence[Any], n: int) -> Floats:
    """What the page makes of `[low, span, codes]`."""
    low, span, codes = draws
    if not codes:
        return np.full(n, low)
    made: Floats = low + np.frombuffer(base64.b64decode(codes), dtype="<u2") / STEPS * span
    return made
