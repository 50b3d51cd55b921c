"""What a total cost is made of: every line's share of it, and in which lines two strategies differ.

The lines and their sums are `ownership`'s; reports/templates/decision.js counts the same on the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from breakeven.harness.economics import Economics
from breakeven.harness.ownership import Knobs, Line, Ownership, replicas

#: The line that dedicated machines make, which no request and no month has a fixed share of.
MACHINES = "dedicated machines"
#: A difference below this share of all differences is not worth a word.
SMALL = 0.02


@dataclass(frozen=True, slots=True)
class Change:
    """How much more one strategy costs than another in a line. `assumed`: nobody gave that number."""

    what: str
    money: float
    assumed: bool


def lines(own: Ownership) -> tuple[Line, ...]:
    """The strategy's lines, with the one that its dedicated machines make."""
    if own.replica <= 0:
        return own.lines
    source = f"as many as the busiest second needs, {own.replica:,.4g} each"
    return (*own.lines, Line(MACHINES, "each month", "machine", own.replica, "estimated", source))


def amounts(
    own: Ownership, economics: Economics, knobs: Knobs, months: int | None = None
) -> tuple[float | None, ...]:
    """Money of each of `lines` over so many months (the knobs' horizon unless said); None: unknown.

    What is known adds up to `Ownership.total`.
    """
    horizon = knobs.months if months is None else months
    asked, hosts = 0.0, 0.0
    for month in range(horizon):
        requests = economics.requests(month, float(knobs.requests))
        asked += requests
        if own.replica > 0:
            hosts += float(replicas(economics, float(knobs.requests), requests, own.seconds))
    times = {
        "up front": 1.0,
        "each month": float(horizon),
        "each retraining": float(economics.retrainings(horizon)),
        "each request": asked,
    }
    factor = {"fixed": 1.0, "machine": float(knobs.machine), "tokens": float(knobs.tokens)}
    return tuple(
        None
        if line.value is None
        else line.value * (hosts if line.what == MACHINES else times[line.when]) * factor[line.part]
        for line in lines(own)
    )


def assumed(own: Ownership, economics: Economics, knobs: Knobs, months: int) -> float:
    """What people's hours cost over so many months where nobody gave the hours or their rate."""
    found = zip(lines(own), amounts(own, economics, knobs, months), strict=True)
    return sum(amount or 0.0 for line, amount in found if line.known == "assumed")


def topic(line: Line) -> str:
    """What a line is about, the same for strategies that differ in how much: `labelling`, `setting up`."""
    return re.sub(r"^(labelling|setting up) .*", r"\1", line.what)


def changes(a: Ownership, b: Ownership, economics: Economics, knobs: Knobs) -> Sequence[Change]:
    """In which lines `a` costs more or less than `b` over the horizon, the largest first."""
    money: dict[str, float] = {}
    assumed: dict[str, bool] = {}
    for own, sign in ((a, 1.0), (b, -1.0)):
        for line, amount in zip(lines(own), amounts(own, economics, knobs), strict=True):
            what = topic(line)
            money[what] = money.get(what, 0.0) + sign * (amount or 0.0)
            assumed[what] = assumed.get(what, False) or line.known == "assumed"
    total = sum(abs(m) for m in money.values())
    found = [Change(what, m, assumed[what]) for what, m in money.items() if abs(m) > SMALL * total]
    return sorted(found, key=lambda c: -abs(c.money))
