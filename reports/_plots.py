"""The report's figures: quality against cost, the intervals in the table, training curves.

A figure comes in a wide and a narrow drawing; the page shows the one that fits. The data of each is in a
table beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from breakeven.harness import formats as f
from breakeven.harness.families import Family, family
from breakeven.harness.results import CellResult, MetricInfo, Row
from breakeven.reports import _svg as svg
from breakeven.reports._rows import reference_of


@dataclass(frozen=True, slots=True)
class Axis:
    """What the x axis shows and how to say it; `zero` heads the column of those that have none of it."""

    title: str
    say: Callable[[float], str]
    zero: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A strategy in a drawing: its place on the x axis (None: not known) and its quality with interval.

    `hollow`: its place rests on an estimate; `chosen`: it is what the verdict takes.
    """

    label: str
    family: Family
    x: float | None
    quality: float
    low: float | None
    high: float | None
    hollow: bool = False
    chosen: bool = False


def cost_axis(rows: Sequence[Row], currency: str) -> tuple[Axis, list[Dot]]:
    """Cost per 1,000 requests; tokens per request where nothing at all has a price."""
    if any(r.cost_per_1000.value is not None for r in rows):
        axis = Axis("cost per 1,000 requests", lambda v: rounded(f.money(v, currency)), f.money(0, currency))
        return axis, [_dot(r, r.cost_per_1000.value, r.cost_per_1000.status == "estimated") for r in rows]
    axis = Axis("tokens per request (no strategy has a price)", f.count, "none")
    tokens = [None if r.input_tokens is None else r.input_tokens + (r.output_tokens or 0) for r in rows]
    return axis, [_dot(r, t, False) for r, t in zip(rows, tokens, strict=True)]


def _dot(row: Row, x: float | None, hollow: bool) -> Dot:
    assert row.quality is not None
    low, high = (row.interval.low, row.interval.high) if row.interval else (None, None)
    return Dot(row.label, family(row), x, row.quality, low, high, hollow)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a drawing in pixels."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    font: float
    ticks: int
    band: float
    css: str


#: Beyond so many strategies their names would overlap.
MOST_NAMES = 10

WIDE = Shape(670, 400, 56, 16, 32, 50, 12.5, 7, 64, "wide")
NARROW = Shape(352, 330, 42, 8, 32, 48, 12.5, 4, 40, "narrow")


def quality_against_cost(rows: Sequence[Row], metric: MetricInfo, currency: str) -> list[Markup]:
    """The wide and the narrow drawing. Where names have no room, rows are numbered as in the table."""
    axis, dots = cost_axis(rows, currency)
    reference = reference_of(rows)
    at = None if reference is None else reference.quality
    return scatter(dots, metric, axis, at)


def scatter(
    dots: Sequence[Dot], metric: MetricInfo, axis: Axis, reference: float | None, *, frontier: bool = False
) -> list[Markup]:
    """The wide and the narrow drawing of quality against what the axis says.

    Args:
        reference: the quality at which a line is drawn.
        frontier: join the dots that no other one beats in both (Pareto).
    """
    return [
        _scatter(dots, metric, axis, reference, shape, shape is NARROW or numbered(dots), frontier)
        for shape in (WIDE, NARROW)
    ]


def numbered(rows: Sequence[object]) -> bool:
    """Whether even the wide drawing has no room for names."""
    return len(rows) > MOST_NAMES


def _scatter(
    dots: Sequence[Dot],
    metric: MetricInfo,
    axis: Axis,
    reference: float | None,
    shape: Shape,
    numbered: bool,
    frontier: bool,
) -> Markup:
    low, high = value_range(dots, metric)
    y = svg.linear((low, high), (shape.height - shape.bottom, shape.top))
    xs, parts = _columns([d.x for d in dots], axis, shape)
    for tick in svg.linear_ticks(low, high, 5):
        parts.append(svg.line(shape.left, y(tick), shape.width - shape.right, y(tick), "grid"))
        parts.append(svg.text(shape.left - 7, y(tick) + 4, tick_text(tick), "tick", "end"))
    parts.append(svg.text(2, 13, _axis_name(metric), "axis-title"))
    taken: list[svg.Box] = []
    if reference is not None:
        at = y(reference)
        parts.append(svg.line(shape.left, at, shape.width - shape.right, at, "reference-line"))
        taken.append(svg.Box(shape.left, at - 3, shape.width - shape.right, at + 3))
    if frontier:
        line = [(xs[i], y(dots[i].quality)) for i in pareto(dots, metric)]
        parts.append(svg.polyline(line, "pareto"))
    labels = []
    for number, (dot, x) in enumerate(zip(dots, xs, strict=True), 1):
        at = y(dot.quality)
        if dot.low is not None and dot.high is not None:
            y0, y1 = y(dot.low), y(dot.high)
            parts.append(svg.line(x, y0, x, y1, f"whisker {dot.family}"))
            for end in (y0, y1):
                parts.append(svg.line(x - 3, end, x + 3, end, f"whisker {dot.family}"))
            taken.append(svg.Box(x - 3, min(y0, y1), x + 3, max(y0, y1)))
        taken.append(svg.Box(x - 8, at - 8, x + 8, at + 8))
        labels.append(svg.Label(x, at, str(number) if numbered else short(dot.label)))
    for dot, x in zip(dots, xs, strict=True):
        if dot.chosen:
            parts.append(svg.ring(x, y(dot.quality), "chosen"))
        parts.append(svg.mark(dot.family, x, y(dot.quality), hollow=dot.hollow))
    frame = svg.Box(shape.left, shape.top - 4, shape.width - 2, shape.height - shape.bottom)
    for placed in svg.place(labels, taken, frame, shape.font):
        box, label = placed.box, placed.label
        if placed.far:
            parts.append(svg.line(label.x, label.y, *_nearest(box, label), "leader"))
        parts.append(svg.text(box.x0 + 1, box.y1 - 3.5, label.text, "label"))
    title = f"{metric.name} against {axis.title} of {len(dots)} strategies; the data is in the table"
    return svg.picture(shape.width, shape.height, title, parts, shape.css)


def pareto(dots: Sequence[Dot], metric: MetricInfo) -> list[int]:
    """Positions of the dots that no other beats in both cost and quality, the cheapest first."""
    sign = 1.0 if metric.higher_is_better else -1.0
    known = [(d.x, -sign * d.quality, i) for i, d in enumerate(dots) if d.x is not None]
    found: list[int] = []
    best = float("inf")
    for _, loss, i in sorted(known):
        if loss < best:
            best = loss
            found.append(i)
    return found


@dataclass(frozen=True, slots=True)
class Band:
    """A column of the x axis for the rows whose value has no place on a log scale: zero, or unknown."""

    word: str
    rows: list[int]
    start: float
    width: float

    def x(self, position: int) -> float:
        """Where the row at this position of the band is drawn."""
        return self.start + self.width * (position + 1) / (len(self.rows) + 1)

    @property
    def middle(self) -> float:
        return self.start + self.width / 2


def _columns(values: Sequence[float | None], axis: Axis, shape: Shape) -> tuple[list[float], list[Markup]]:
    """The x of each row, and the axis: a column for zero on the left, log scale, a column for unknown."""
    left, right, base = shape.left, shape.width - shape.right, shape.height - shape.bottom
    known = [v for v in values if v]
    bands = _bands(values, axis, shape, bool(known))
    xs = [0.0] * len(values)
    parts = [svg.line(left, base, right, base, "axis")]
    words = []
    for band in bands:
        for position, i in enumerate(band.rows):
            xs[i] = band.x(position)
        parts.append(svg.text(band.middle, base + 17, band.word, "tick", "middle"))
        words.append((band.middle, band.word))
        border = band.start + band.width if band.start == left else band.start
        if left < border < right:
            parts.append(svg.line(border, shape.top, border, base + 6, "border"))
    if known:
        start = max([left, *(b.start + b.width for b in bands if b.start == left)])
        end = min([right, *(b.start for b in bands if b.start != left)])
        low, high = min(known) / 1.5, max(known) * 1.7
        scale = svg.logarithmic((low, high), (start, end))
        xs = [scale(v) if v else x for v, x in zip(values, xs, strict=True)]
        for tick in svg.log_ticks(low, high, max(2, round(shape.ticks * (end - start) / shape.width))):
            parts.append(svg.line(scale(tick), base, scale(tick), base + 4, "axis"))
            if all(_apart(scale(tick), axis.say(tick), *other) for other in words):
                parts.append(svg.text(scale(tick), base + 17, axis.say(tick), "tick", "middle"))
                words.append((scale(tick), axis.say(tick)))
    title = f"{axis.title}{', log scale' if known else ''}"
    parts.append(svg.text((left + right) / 2, base + 38, title, "axis-title", "middle"))
    return xs, parts


def _bands(values: Sequence[float | None], axis: Axis, shape: Shape, scale: bool) -> list[Band]:
    """The columns for zero and unknown; half of the axis at most where there is a scale, else all of it."""
    left, right = shape.left, shape.width - shape.right
    zero = [i for i, v in enumerate(values) if v == 0]
    unknown = [i for i, v in enumerate(values) if v is None]
    widths = [shape.band + 14 * (len(rows) - 1) if rows else 0.0 for rows in (zero, unknown)]
    room = (right - left) / max(sum(widths), 1.0)
    factor = min(1.0, room / 2) if scale else room
    widths = [factor * width for width in widths]
    found = [Band(axis.zero, zero, left, widths[0]), Band("unknown", unknown, right - widths[1], widths[1])]
    return [band for band in found if band.rows]


def _apart(x: float, text: str, other_x: float, other: str) -> bool:
    """Whether two centred tick labels leave a gap between them."""
    return abs(x - other_x) > svg.CHARACTER * 11.5 * (len(text) + len(other)) / 2 + 6


def value_range(dots: Sequence[Dot], metric: MetricInfo) -> tuple[float, float]:
    """All intervals with a little air, within the metric's range."""
    ends = [d.quality for d in dots]
    ends += [end for d in dots for end in (d.low, d.high) if end is not None]
    low, high = min(ends), max(ends)
    air = (high - low) * 0.06 or 0.05 * (abs(high) or 1.0)
    low, high = low - air, high + air
    if metric.range is not None:
        low, high = max(low, metric.range[0]), min(high, metric.range[1])
        if low >= high:
            low, high = metric.range
    return low, high


def tick_text(value: float) -> str:
    return f"{value:g}".replace("-", f.MINUS)


def rounded(amount: str) -> str:
    """`$0.01` of `$0.010`: ticks are round."""
    return re.sub(r"(\.\d*?)0+(?=\D|$)", r"\1", amount).replace(". ", " ").rstrip(".")


def _axis_name(metric: MetricInfo) -> str:
    return metric.name if metric.higher_is_better else f"{metric.name} (lower is better)"


def short(label: str, limit: int = 30) -> str:
    label = f.clean(label)
    return label if len(label) <= limit else f"{label[: limit - 1]}…"


def _nearest(box: svg.Box, label: svg.Label) -> tuple[float, float]:
    """The point of the box that is nearest to the label's own point."""
    return min(max(label.x, box.x0), box.x1), min(max(label.y, box.y0), box.y1)


# --- intervals in the table ------------------------------------------------------------------


def interval_strip(row: Row, rows: Sequence[Row], metric: MetricInfo) -> Markup:
    """A row's quality and interval on the scale that all rows share; the line is the reference."""
    width, height = 132, 18
    x = svg.linear(value_range([_dot(r, None, False) for r in rows], metric), (4, width - 4))
    assert row.quality is not None
    parts = [svg.line(2, height / 2, width - 2, height / 2, "grid")]
    reference = reference_of(rows)
    if reference is not None and reference.quality is not None:
        parts.append(svg.line(x(reference.quality), 0, x(reference.quality), height, "reference-line"))
    if row.interval is not None:
        low, high = x(row.interval.low), x(row.interval.high)
        parts.append(svg.line(low, height / 2, high, height / 2, f"whisker thick {family(row)}"))
    parts.append(svg.mark(family(row), x(row.quality), height / 2, 4.2))
    return Markup(
        '<svg class="strip" viewBox="0 0 {} {}" width="{}" height="{}" aria-hidden="true">{}</svg>'
    ).format(width, height, width, height, Markup("").join(parts))


# --- training curves -------------------------------------------------------------------------


def training_curve(cells: Sequence[CellResult], title: str) -> Markup | None:
    """Loss by optimizer step, a line for each seed, validation losses as dots. None without losses."""
    drawn = [c.training for c in cells if c.training is not None and c.training.get("losses")]
    if not drawn:
        return None
    width, height, left, right, top, bottom = 352.0, 200.0, 38.0, 10.0, 20.0, 40.0
    points = [p for t in drawn for p in [*t["losses"], *(t.get("validation_losses") or [])]]
    last = max(max(p[0] for p in points), 1)
    # a first loss far above the rest would flatten the curve: show 98 % of the points, clip what is above
    tallest = sorted(p[1] for p in points)[max(0, int(0.98 * len(points)) - 1)] * 1.1 or 1.0
    x = svg.linear((0, last), (left, width - right))
    y = svg.linear((0, tallest), (height - bottom, top))
    base = height - bottom
    parts = [
        svg.line(left, base, width - right, base, "axis"),
        svg.text(2, 12, str(drawn[0].get("loss") or "loss per answer token"), "axis-title"),
    ]
    for tick in svg.linear_ticks(0, tallest, 4):
        parts.append(svg.line(left, y(tick), width - right, y(tick), "grid"))
        parts.append(svg.text(left - 6, y(tick) + 4, tick_text(tick), "tick", "end"))
    for tick in svg.linear_ticks(0, last, 5):
        if tick == int(tick):
            parts.append(svg.text(x(tick), base + 16, f"{tick:,.0f}", "tick", "middle"))
    parts.append(svg.text((left + width - right) / 2, height - 6, "optimizer step", "axis-title", "middle"))
    for number, training in enumerate(drawn):
        thin = _thinned(training["losses"], 160)
        path = " ".join(f"{x(s):.1f},{y(min(v, tallest)):.1f}" for s, v in thin)
        parts.append(Markup(f'<polyline class="curve seed{number % 4}" points="{path}"/>'))
        for step, value in training.get("validation_losses") or []:
            at = y(min(value, tallest))
            parts.append(Markup(f'<circle class="validation" cx="{x(step):.1f}" cy="{at:.1f}" r="3.5"/>'))
    return svg.picture(width, height, f"{title}: training loss by step, validation loss as dots", parts)


def _thinned(points: Sequence[Sequence[float]], wanted: int) -> list[tuple[float, float]]:
    """At most `wanted` points, each the mean of its neighbours, so that a long curve stays small."""
    size = max(1, -(-len(points) // wanted))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(p[0] for p in g) / len(g), sum(p[1] for p in g) / len(g)) for g in groups]
