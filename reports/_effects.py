"""The side effects of tuning as the reports show them: what each adapter forgot or gained elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from breakeven.harness import effects
from breakeven.harness import formats as f
from breakeven.harness.families import family
from breakeven.harness.results import Results
from breakeven.reports import _svg

SIGNS: dict[effects.Word, str] = {"forgot": "▼", "gained": "▲", "no change shown": "○"}
#: Each word's class in the style sheet, where what a lever did has its own.
STYLES: dict[effects.Word, str] = {"forgot": "hurts", "gained": "helps", "no change shown": "undecided"}


@dataclass(frozen=True, slots=True)
class EffectLine:
    """A strategy on something it was not trained for."""

    label: str
    symbol: Markup
    on: str
    metric: str
    examples: str
    before: str
    after: str
    change: str
    interval: str
    word: effects.Word
    sign: str
    style: str


@dataclass(frozen=True, slots=True)
class EffectsView:
    """The table of a task, and what must be said of it."""

    lines: tuple[EffectLine, ...]
    remarks: tuple[str, ...]


def view(results: Results, name: str) -> EffectsView | None:
    """None where nothing was measured; what is stale is said to be, and not shown."""
    known = effects.of_task(results, name)
    if not known.found and not known.stale:
        return None
    return EffectsView(tuple(_line(x) for x in known.found), tuple(_remarks(results, known)))


def _line(x: effects.SideEffect) -> EffectLine:
    change, between = effects.said(x)
    return EffectLine(
        label=f.clean(x.row.label),
        symbol=_svg.symbol(family(x.row)),
        on=f.clean(x.on),
        metric=f.clean(x.metric.name),
        examples=f"{x.examples:,}",
        before=f.quality(x.before, x.metric),
        after=f.quality(x.after, x.metric),
        change=change,
        interval=between,
        word=x.word,
        sign=SIGNS[x.word],
        style=STYLES[x.word],
    )


def _remarks(results: Results, known: effects.SideEffects) -> list[str]:
    found = []
    if known.found:
        found.append(
            "The model before and after tuning, asked the same examples by the bare prompt (instructions and "
            "input). Each interval stands by itself; with many of them a few leave out zero by chance."
        )
        counts = {x.adapters for x in known.found}
        if counts == {1}:
            found.append("One adapter of each strategy was asked: excludes seed variance.")
        else:
            found.append(f"The mean over up to {max(counts)} adapters of a strategy.")
    command = f"breakeven transfer {f.clean(results.place)}"
    if known.stale:
        found.append(
            f"Left out: measurements of other adapters or other data than this run has now; {command} "
            "measures again."
        )
    elif known.unasked:
        found.append(f"Not asked yet: {f.names([f.clean(x) for x in known.unasked])}; {command} asks.")
    return found


def facts(results: Results, name: str) -> dict[str, Any]:
    """The same as plain numbers."""
    known = effects.of_task(results, name)
    return {
        "found": [_facts(x) for x in known.found],
        "not_asked": list(known.unasked),
        "stale": known.stale,
    }


def _facts(x: effects.SideEffect) -> dict[str, Any]:
    d = x.difference
    return {
        "strategy": x.row.label,
        "on": x.on,
        "metric": x.metric.name,
        "examples": x.examples,
        "adapters": x.adapters,
        "before": x.before,
        "after": x.after,
        "difference": x.after - x.before,
        "low": None if d is None else d.interval.low,
        "high": None if d is None else d.interval.high,
        "interval_method": None if d is None else d.interval.method,
        "interval_note": None if d is None else d.interval.note,
        "effect": x.word,
    }
