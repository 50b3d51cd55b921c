"""The learning curves of a task as the reports show them: figure, table and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from breakeven.harness import formats as f
from breakeven.harness import learning, learning_words
from breakeven.harness.curves import Gain, Point
from breakeven.harness.evidence import Sentence, text
from breakeven.harness.learning import Learning, Meeting, MoreLabels
from breakeven.harness.learning import Line as Strategy
from breakeven.harness.results import MetricInfo, Results
from breakeven.harness.stats import WITHOUT_SEEDS
from breakeven.reports import _figures, _plots, _svg
from breakeven.reports._figures import Frame, Line
from breakeven.reports._plots import Dot, Shape

#: Pixels between the whiskers of two strategies at one size, and the most that all of them take.
APART, ROOM = 7.0, 40.0


@dataclass(frozen=True, slots=True)
class CurveLine:
    """A strategy in the table: a cell for each size, (quality, interval), empty where it has no result.

    `flat` is its only cell where it does not change with the size.
    """

    number: int
    label: str
    symbol: Markup
    cells: tuple[tuple[str, str], ...]
    flat: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class LearningView:
    """Everything that is said of the learning curves of a task."""

    metric: str
    sizes: tuple[str, ...]
    plots: tuple[Markup, ...]
    lines: tuple[CurveLine, ...]
    sentences: tuple[Sentence, ...]
    seedless: bool


def view(results: Results, name: str) -> LearningView | None:
    """None where no strategy was measured at several training sizes."""
    found, metric = learning.of_task(results, name), results.tasks[name].primary
    if found is None:
        return None
    notes = [p.interval.note for line in found.lines for p in line.points if p.interval is not None]
    return LearningView(
        metric=f.clean(metric.name),
        sizes=tuple(f"{n:,}" for n in found.sizes),
        plots=tuple(draw(found, metric, shape) for shape in (_figures.WIDE, _figures.NARROW)),
        lines=tuple(_line(i, line, found.sizes, metric) for i, line in enumerate(found.lines, 1)),
        sentences=learning_words.sentences(found, metric, results.economics),
        seedless=any(WITHOUT_SEEDS in note for note in notes),
    )


def _line(number: int, line: Strategy, sizes: Sequence[int], metric: MetricInfo) -> CurveLine:
    known = {p.size: _cell(p, metric) for p in line.points}
    flat = line.kind == "flat"
    return CurveLine(
        number,
        f.clean(line.label),
        _svg.symbol(line.family),
        () if flat else tuple(known.get(n, ("", "")) for n in sizes),
        _cell(line.points[-1], metric) if flat else None,
    )


def _cell(point: Point, metric: MetricInfo) -> tuple[str, str]:
    between = point.interval
    said = f.interval(between.low, between.high, metric) if between is not None else ""
    return f.quality(point.mean, metric), said


# --- the figure ------------------------------------------------------------------------------


def draw(found: Learning, metric: MetricInfo, shape: Shape) -> Markup:
    """Quality over training sizes: whiskers beside each other, a mark for each size."""
    first, last = found.sizes[0], found.sizes[-1]
    window = first / 1.12, last * 1.12
    dots = [_dot(line, p) for line in found.lines for p in line.points]
    frame = Frame(
        f"{f.clean(metric.name)} by training size of {f.plural(len(found.lines), 'strategy', 'strategies')}",
        "labelled examples, log scale",
        f.clean(metric.name) + ("" if metric.higher_is_better else " (lower is better)"),
        window,
        _plots.value_range(dots, metric),
        f.count,
        _plots.tick_text,
        None,
        False,
        tuple(float(n) for n in found.sizes),
    )
    x, y, parts = _figures.axes(frame, shape)
    grown = [line for line in found.lines if line.kind != "flat"]
    step = min(APART, ROOM / max(len(grown) - 1, 1)) * (0.6 if shape is _figures.NARROW else 1.0)
    aside = {id(line): (i - (len(grown) - 1) / 2) * step for i, line in enumerate(grown)}
    drawn = [_drawn(i, line, window) for i, line in enumerate(found.lines, 1)]
    for line, one in zip(found.lines, drawn, strict=True):
        css = f"curve-line {one.family} dash{one.number % 4}"
        beside = aside.get(id(line), 0.0)
        parts.append(_svg.polyline([(x(a) + beside, y(b)) for a, b in one.points], css))
    for line in found.lines:
        if line.kind == "flat":
            parts.append(_svg.mark(line.family, x(window[0]), y(line.points[-1].mean), 4.2, hollow=True))
            continue
        for p in line.points:
            at = x(p.size) + aside[id(line)]
            if p.interval is not None:
                parts.append(
                    _svg.line(at, y(p.interval.low), at, y(p.interval.high), f"whisker {line.family}")
                )
            parts.append(_svg.mark(line.family, at, y(p.mean), 4.2))
    parts += _figures.names(drawn, [y(one.points[-1][1]) for one in drawn], shape)
    title = f"{frame.title}; the data is in the table"
    return _svg.picture(shape.width, shape.height, title, parts, shape.css)


def _drawn(number: int, line: Strategy, window: tuple[float, float]) -> Line:
    points = tuple((float(p.size), p.mean) for p in line.points)
    if line.kind == "flat":
        points = tuple((end, line.points[-1].mean) for end in window)
    return Line(number, f.clean(line.label), line.family, points, None)


def _dot(line: Strategy, p: Point) -> Dot:
    low, high = (p.interval.low, p.interval.high) if p.interval is not None else (None, None)
    return Dot(line.label, line.family, float(p.size), p.mean, low, high)


# --- plain numbers ---------------------------------------------------------------------------


def facts(results: Results, name: str) -> dict[str, Any] | None:
    """The curves, who overtakes whom and what more labels bring, unrounded; None without curves."""
    found, task = learning.of_task(results, name), results.tasks[name]
    if found is None:
        return None
    said = learning_words.sentences(found, task.primary, results.economics)
    return {
        "sizes": list(found.sizes),
        "curves": [_curve_facts(line) for line in found.lines],
        "overtaking": [_meeting_facts(m) for m in found.meetings],
        "more_labels": [_more_facts(one) for one in found.more],
        "sentences": [text(s) for s in said],
    }


def _curve_facts(line: Strategy) -> dict[str, Any]:
    return {
        "strategy": line.label,
        "family": line.family,
        "kind": line.kind,
        "points": [
            {
                "train_size": p.size,
                "quality": p.mean,
                "low": p.interval.low if p.interval else None,
                "high": p.interval.high if p.interval else None,
            }
            for p in line.points
        ],
    }


def _meeting_facts(m: Meeting) -> dict[str, Any]:
    o = m.found
    pair = {"strategy": m.learner.label, "other": m.other.label, "picked": m.picked}
    if o is None:
        return {**pair, "sizes": None}
    return {
        **pair,
        "sizes": list(o.sizes),
        "at": o.at,
        "low": o.low,
        "high": o.high,
        "crossings": [{"size": c.size, "upward": c.upward} for c in o.crossings],
        "always": o.always,
        "never": o.never,
        "lost_again": o.lost_again,
        "several": o.several,
        "note": o.note,
    }


def _more_facts(one: MoreLabels) -> dict[str, Any]:
    expected, low, high = one.worth or (None, None, None)
    return {
        "strategy": one.line.label,
        "picked_on_these_examples": one.picked,
        "examples": learning.MORE,
        "gain": None if one.gain is None else _gain_facts(one.gain),
        "worth": expected,
        "worth_low": low,
        "worth_high": high,
        "labelling_hours": one.hours,
        "labelling_cost": one.cost,
        "labelling_assumed": one.assumed,
    }


def _gain_facts(gain: Gain) -> dict[str, Any]:
    return {
        "beyond": gain.size,
        "expected": gain.expected,
        "low": gain.interval.low,
        "high": gain.interval.high,
        "extrapolated": gain.extrapolated,
        "asymptote": gain.asymptote,
        "exponent": gain.exponent,
        "note": gain.interval.note,
    }
