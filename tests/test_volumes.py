"""Break-even volumes: never, always, one crossing, several."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from decision_cases import economics, owned

from breakeven.harness import volumes
from breakeven.harness.ownership import Knobs

KNOBS = Knobs(requests=10_000, months=12, value=None)
VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def test_the_break_even_volume_is_where_the_lines_cross() -> None:
    dear_to_start = owned(up_front=1200, request=0.001)
    dear_to_run = owned(request=0.002)

    found = volumes.cheaper(dear_to_start, dear_to_run, economics(), KNOBS)

    # 1200 / 12 months = 100 a month, saved at 0.001 a request
    assert found.intervals[0] == (pytest.approx(100_000, rel=1e-9), math.inf)
    assert str(found) == "above 100,000"


def test_a_strategy_that_is_dearer_in_every_respect_never_breaks_even() -> None:
    found = volumes.cheaper(owned(up_front=1, request=0.002), owned(request=0.001), economics(), KNOBS)

    assert str(found) == VECTORS["decision"]["cases"][4]["value"] == "never"
    assert found.never


def test_a_strategy_that_is_cheaper_in_every_respect_always_is() -> None:
    found = volumes.cheaper(owned(request=0.001), owned(up_front=1, request=0.002), economics(), KNOBS)

    assert found.always
    assert str(found) == "always"


def test_dedicated_machines_make_steps_and_so_several_crossings() -> None:
    # One machine answers as many requests as 0.5 of a busiest second of 4 times the mean allows.
    settings = economics(serving="dedicated")
    machines = owned(replica=100.0, seconds=1.0)
    per_request = owned(request=0.0004)
    capacity = 0.5 / 4 * 730 * 3600  # requests a month for each machine

    found = volumes.cheaper(machines, per_request, settings, KNOBS)

    assert found.intervals[0][0] == pytest.approx(100 / 0.0004, rel=1e-6)
    assert found.intervals[0][1] == pytest.approx(capacity, rel=1e-3)
    assert len(found.intervals) > 2
    for low, high in found.intervals[:3]:
        inside, at = (low * min(high, low * 2)) ** 0.5, lambda v: Knobs(v, 12, None)
        assert machines.total(settings, at(inside)) < per_request.total(settings, at(inside))
        assert machines.total(settings, at(low * 0.999)) >= per_request.total(settings, at(low * 0.999))


def test_growth_moves_the_break_even_volume_down() -> None:
    a, b = owned(request=0.002), owned(up_front=1200, request=0.001)

    flat = volumes.cheaper(b, a, economics(), KNOBS).first
    growing = volumes.cheaper(b, a, economics(growth_per_month=0.1), KNOBS).first

    assert flat is not None
    assert growing is not None
    assert growing == pytest.approx(flat * 12 / sum(1.1**m for m in range(12)), rel=1e-9)


def test_the_interval_of_a_break_even_volume_follows_from_what_requests_consume() -> None:
    a, b = owned(tokens=0.002), owned(up_front=1200, tokens=0.001)
    factors = [0.9, 1.0, 1.1]

    found = volumes.break_even(b, a, economics(), KNOBS, ([1.0] * 3, [1.0] * 3), (factors, [1.0] * 3))

    crossings = sorted(100 / (0.002 * f - 0.001) for f in factors)
    assert found.low is not None
    assert found.high is not None
    assert crossings[0] < found.low < found.high < crossings[-1]
    assert found.volumes.first == pytest.approx(100_000, rel=1e-9)
    assert (found.never, found.always) == (0, 0)


def test_draws_without_a_crossing_are_counted_as_never_or_always() -> None:
    a, b = owned(tokens=0.001), owned(up_front=1200, tokens=0.001)

    found = volumes.break_even(b, a, economics(), KNOBS, ([1.0, 1.0], [1.0] * 2), ([1.0, 3.0], [1.0] * 2))

    assert found.never == 0.5
    assert found.volumes.never
