"""Drawing parts: scales with readable ticks, marks that differ in shape, labels that do not overlap.

Everything is placed in user units that equal CSS pixels at natural size; colours come from the page's style
sheet by class, so that one drawing serves light, dark and print. Presentation attributes only: the page's
content security policy forbids inline styles. reports/templates/figures.js draws the same on the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from breakeven.harness.families import Family

#: Width of a character of the page's font, as a share of its size; a little more than the average.
CHARACTER = 0.58
#: How far from its point a label may be put.
REACHES = (10.0, 18.0, 28.0, 40.0, 56.0, 74.0)
#: Sixteen ways to go from a point, the first to the right.
DIRECTIONS = tuple((math.cos(2 * math.pi * i / 16), math.sin(2 * math.pi * i / 16)) for i in range(16))
#: A label that another point is nearer to, or nearly, would be taken for that one's.
MISTAKEN, CLEAR = 250.0, 4.0


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, from (x0, y0) to (x1, y1), y downwards."""

    x0: float
    y0: float
    x1: float
    y1: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width * height if width > 0 and height > 0 else 0.0

    def distance(self, x: float, y: float) -> float:
        """From the nearest point of the rectangle."""
        return math.hypot(max(self.x0 - x, 0.0, x - self.x1), max(self.y0 - y, 0.0, y - self.y1))

    def outside(self, frame: Box) -> float:
        """How far it sticks out of a frame."""
        return (
            max(0.0, frame.x0 - self.x0)
            + max(0.0, self.x1 - frame.x1)
            + max(0.0, frame.y0 - self.y0)
            + max(0.0, self.y1 - frame.y1)
        )


# --- scales ----------------------------------------------------------------------------------


def linear(domain: tuple[float, float], pixels: tuple[float, float]) -> Callable[[float], float]:
    (a, b), (p, q) = domain, pixels
    return lambda value: p + (q - p) * (value - a) / (b - a)


def logarithmic(domain: tuple[float, float], pixels: tuple[float, float]) -> Callable[[float], float]:
    scale = linear((math.log10(domain[0]), math.log10(domain[1])), pixels)
    return lambda value: scale(math.log10(value))


def linear_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values within [low, high], about `wanted` of them."""
    step = 10 ** math.floor(math.log10((high - low) / wanted))
    step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= wanted + 0.5)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Powers of ten within [low, high], with as many round values between them as there is room for."""
    for factors in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = _log_ticks(low, high, factors)
        if len(ticks) <= wanted:
            return ticks
    return ticks[:: math.ceil(len(ticks) / wanted)]


def _log_ticks(low: float, high: float, factors: Sequence[int]) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (m * 10.0**e for e in exponents for m in factors)
    return [v for v in values if low * 0.999 <= v <= high * 1.001]


# --- marks -----------------------------------------------------------------------------------


def mark(family: Family, x: float, y: float, size: float = 5.5, hollow: bool = False) -> Markup:
    """The shape of a family: square, circle, diamond, triangle (up, down), star."""
    css = f"mark {family}{' hollow' if hollow else ''}"
    if family == "prompting":
        return Markup(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>')
    return Markup(f'<polygon class="{css}" points="{_corners(family, x, y, size)}"/>')


def _corners(family: Family, x: float, y: float, size: float) -> str:
    corners, turn, inner = {
        "given": (3, math.pi, 1.0),
        "no-model": (4, math.pi / 4, 1.0),
        "retrieval": (4, 0.0, 1.0),
        "tuned": (3, 0.0, 1.0),
        "tuned-retrieval": (10, 0.0, 0.48),
    }[family]
    grow = {"given": 1.3, "no-model": 1.25, "retrieval": 1.25, "tuned": 1.3, "tuned-retrieval": 1.45}[family]
    points = []
    for i in range(corners):
        radius = size * grow * (inner if i % 2 else 1.0)
        angle = turn + 2 * math.pi * i / corners
        points.append(f"{x + radius * math.sin(angle):.1f},{y - radius * math.cos(angle):.1f}")
    return " ".join(points)


def symbol(family: Family) -> Markup:
    """A family's shape as a small picture of its own, for tables and legends."""
    box = 'width="16" height="16" viewBox="0 0 16 16"'
    return Markup(f'<svg class="symbol" {box} aria-hidden="true">{mark(family, 8, 8, 5)}</svg>')


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> Markup:
    """Text from data is isolated: a direction mark in it turns nothing outside it."""
    return Markup(
        '<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}" unicode-bidi="isolate">{}</text>'
    ).format(x, y, css, anchor, content)


def line(x0: float, y0: float, x1: float, y1: float, css: str) -> Markup:
    return Markup(f'<line class="{css}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>')


def polyline(points: Iterable[tuple[float, float]], css: str) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup(f'<polyline class="{css}" points="{path}"/>')


def ring(x: float, y: float, css: str) -> Markup:
    return Markup(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="10.0"/>')


def picture(width: float, height: float, title: str, parts: Iterable[Markup], css: str = "") -> Markup:
    """An SVG with an accessible name; it scales down to the page, never up beyond its natural size."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return Markup('<svg class="figure {}" {} role="img" aria-label="{}">{}</svg>').format(
        css, Markup(size), title, Markup("").join(parts)
    )


# --- labels ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    """A text for the point (x, y)."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a label went: its box, and whether it is so far away that it needs a line to its point."""

    label: Label
    box: Box
    far: bool


def place(labels: Sequence[Label], taken: Sequence[Box], frame: Box, size: float) -> list[Placed]:
    """Put each label beside its point so that it overlaps neither another label nor what is `taken`.

    Greedy over rings of positions around the point, the crowded points first, then two rounds in which
    each label may move again. The best position wins, so a very full plot may still overlap.
    """
    order = sorted(
        range(len(labels)),
        key=lambda i: -sum(1 / (20 + math.hypot(labels[i].x - o.x, labels[i].y - o.y)) for o in labels),
    )
    chosen: dict[int, tuple[Box, bool]] = {}
    for _ in range(3):
        for i in order:
            others = [box for j, (box, _) in chosen.items() if j != i]
            points = [(o.x, o.y) for j, o in enumerate(labels) if j != i]
            chosen[i] = _best_place(labels[i], taken, others, points, frame, size)
    return [Placed(label, *chosen[i]) for i, label in enumerate(labels)]


def _best_place(
    label: Label,
    taken: Sequence[Box],
    others: Sequence[Box],
    points: Sequence[tuple[float, float]],
    frame: Box,
    size: float,
) -> tuple[Box, bool]:
    wide, high = _size(label, size)
    across, down = REACHES[-1] + wide, REACHES[-1] + high
    # what no place of this label can touch, or be mistaken for, adds nothing to any of them
    taken = [b for b in taken if _near(b, label, across, down)]
    others = [b for b in others if _near(b, label, across, down)]
    far_off = REACHES[-1] + 2 * CLEAR
    points = [
        (x, y)
        for x, y in points
        if abs(x - label.x) <= across + far_off and abs(y - label.y) <= down + far_off
    ]
    best, where = math.inf, None
    for penalty, far, box in _places(label, size):
        # what is added is never negative, so a place that costs too much already is not looked at further
        cost = penalty + 100 * box.outside(frame)
        if cost >= best:
            continue
        cost += 2 * _covered(box, taken)
        if cost >= best:
            continue
        cost += 8 * _covered(box, others)
        if cost >= best:
            continue
        clear = box.distance(label.x, label.y) + CLEAR
        cost += MISTAKEN * sum(box.distance(*p) < clear for p in points)
        if cost < best:
            best, where = cost, (box, far)
    assert where is not None
    return where


def _covered(box: Box, others: Sequence[Box]) -> float:
    """The sum of `box.overlap(o)`, without a call for each: most do not touch, and there are many."""
    x0, y0, x1, y1 = box.x0, box.y0, box.x1, box.y1
    total = 0.0
    for o in others:
        if o.x0 < x1 and o.x1 > x0 and o.y0 < y1 and o.y1 > y0:
            total += box.overlap(o)
    return total


def _near(box: Box, label: Label, across: float, down: float) -> bool:
    """Whether a box comes so close to a label's point, to the sides and up and down."""
    beside = box.x0 - label.x <= across and label.x - box.x1 <= across
    return beside and box.y0 - label.y <= down and label.y - box.y1 <= down


def _size(label: Label, size: float) -> tuple[float, float]:
    return CHARACTER * size * len(label.text) + 2, size * 1.15


def _places(label: Label, size: float) -> Iterable[tuple[float, bool, Box]]:
    """(penalty, far, box) of the candidate positions, the preferred ones first."""
    width, height = _size(label, size)
    for ring, reach in enumerate(REACHES):
        for step, (dx, dy) in enumerate(DIRECTIONS):
            x, y = label.x + reach * dx, label.y + reach * dy
            x0 = x if dx > 0.3 else x - width if dx < -0.3 else x - width / 2
            y0 = y - height / 2 + dy * height / 2
            yield ring * 12 + step * 0.05 + (abs(dy) > 0.9), ring >= 2, Box(x0, y0, x0 + width, y0 + height)
