"""The figures of a decision: cost against volume, probability of being best over the worth of an answer.

Lines over a log axis, a strategy's shape on each and its name at the end of it; wide and narrow. What they
show is in tables beside them. reports/templates/figures.js draws the same when a reader turns a knob.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from breakeven.harness import formats as f
from breakeven.harness.decision import WORTHS, Case, best_by_worth
from breakeven.harness.families import Family
from breakeven.harness.ownership import Knobs
from breakeven.reports import _plots
from breakeven.reports import _svg as svg
from breakeven.reports._plots import Shape

WIDE = Shape(670, 400, 74, 176, 32, 50, 12.5, 6, 0, "wide")
#: The left margin holds `$1,000,000`, the widest label of an axis.
NARROW = Shape(352, 330, 74, 40, 32, 48, 12.5, 4, 0, "narrow")
#: Points of a line for each power of ten of the volume.
PER_DECADE = 20
#: Height of a name at the end of a line.
LINE = 14.0
#: A share of draws that is worth a line.
SEEN = 0.01

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """A strategy's curve: `points` (x, y), a mark where it is now, circles where it meets another."""

    number: int
    label: str
    family: Family
    points: tuple[tuple[float, float], ...]
    mark: tuple[float, float] | None
    meets: tuple[tuple[float, float], ...] = ()
    chosen: bool = False


@dataclass(frozen=True)
class Frame:
    """Axes of a drawing of lines.

    `now` is where the knobs stand; `tall` whether y is a log scale; `ticks` of x, round values unless given.
    """

    title: str
    x_title: str
    y_title: str
    x: tuple[float, float]
    y: tuple[float, float]
    say_x: Callable[[float], str]
    say_y: Callable[[float], str]
    now: float | None
    tall: bool
    ticks: tuple[float, ...] = ()


# --- cost against volume ---------------------------------------------------------------------


def volume_range(case: Case, at: Knobs) -> tuple[float, float]:
    """Two powers of ten around the suite's own volume, wider where the knob stands beyond."""
    own, now = float(case.knobs.requests), float(at.requests)
    return min(own / 100, now / 10), max(own * 100, now * 10)


def volume_lines(
    case: Case, labels: Sequence[str], choice: int, meets: Sequence[tuple[int, float]], at: Knobs
) -> list[Line]:
    """A line for each strategy that stands: its cost over the horizon by requests a month.

    Args:
        meets: (strategy, volume) at which it and the choice cost the same.
    """
    low, high = volume_range(case, at)
    steps = math.ceil(PER_DECADE * math.log10(high / low))
    grid = [low * (high / low) ** (k / steps) for k in range(steps + 1)]
    found = []
    for i in case.standing:
        points = tuple((x, case.cost(i, replace(at, requests=x))) for x in grid)
        own = tuple((x, case.cost(i, replace(at, requests=x))) for j, x in meets if j == i and low < x < high)
        now = (float(at.requests), case.cost(i, at))
        found.append(Line(i + 1, labels[i], case.candidates[i].family, points, now, own, i == choice))
    return found


def cost_against_volume(lines: Sequence[Line], case: Case, currency: str, at: Knobs) -> list[Markup]:
    """The wide and the narrow drawing."""
    costs = [y for line in lines for _, y in line.points if y > 0]
    low, high = (min(costs) / 1.3, max(costs) * 1.3) if costs else (1.0, 10.0)
    frame = Frame(
        f"cost over {f.plural(at.months, 'month')} against requests a month of {len(lines)} strategies",
        "requests a month, log scale",
        f"cost over {f.plural(at.months, 'month')}, log scale",
        volume_range(case, at),
        (low, high),
        f.volume,
        lambda v: _plots.rounded(f.money(v, currency)),
        float(at.requests),
        True,
    )
    return [draw(lines, frame, shape) for shape in (WIDE, NARROW)]


# --- probability of being best ---------------------------------------------------------------


def worth_window(shares: Sequence[Sequence[float]], value: float | None) -> tuple[int, int]:
    """Positions in `WORTHS` between which anything happens, with a little on either side."""

    def still(k: int, end: int) -> bool:
        return all(abs(a - b) < SEEN for a, b in zip(shares[k], shares[end], strict=True))

    last = len(shares) - 1
    first, final = 0, last
    while first < last and still(first, 0):
        first += 1
    while final > first and still(final, last):
        final -= 1
    if value:
        k = round(10 * (math.log10(value) + 6))
        first, final = min(first, k), max(final, k)
    return max(0, min(first, last) - 5), min(last, max(final, 0) + 5)


def share_lines(
    case: Case, labels: Sequence[str], choice: int, at: Knobs
) -> tuple[list[Line], tuple[int, int]]:
    """A line for each strategy that is ever best: its probability of being so by the worth of an answer."""
    shares = [[float(s) for s in row] for row in best_by_worth(case, WORTHS, at)]
    window = worth_window(shares, None if at.value is None else float(at.value))
    found = []
    for i in case.standing:
        points = tuple((WORTHS[k], shares[k][i]) for k in range(window[0], window[1] + 1))
        if max(y for _, y in points) < SEEN:
            continue
        peak = max(points, key=lambda p: p[1])
        found.append(Line(i + 1, labels[i], case.candidates[i].family, points, peak, (), i == choice))
    return found, window


def probability_of_best(
    lines: Sequence[Line], window: tuple[int, int], currency: str, at: Knobs
) -> list[Markup]:
    """The wide and the narrow drawing."""
    frame = Frame(
        "probability of being best against the worth of a correct answer",
        "worth of a correct answer, log scale",
        "probability of being best",
        (WORTHS[window[0]], WORTHS[window[1]]),
        (0.0, 1.0),
        lambda v: _plots.rounded(f.money(v, currency)),
        lambda v: _plots.rounded(f.percent(v)),
        None if at.value is None else float(at.value),
        False,
    )
    return [draw(lines, frame, shape) for shape in (WIDE, NARROW)]


# --- drawing ---------------------------------------------------------------------------------


def draw(lines: Sequence[Line], frame: Frame, shape: Shape) -> Markup:
    x, y, parts = axes(frame, shape)
    if frame.now is not None and frame.x[0] <= frame.now <= frame.x[1]:
        base = shape.height - shape.bottom
        parts.append(svg.line(x(frame.now), shape.top, x(frame.now), base, "now"))
    for line in lines:
        css = f"curve-line {line.family} dash{line.number % 4}{' chosen' if line.chosen else ''}"
        parts.append(svg.polyline([(x(a), y(max(b, frame.y[0]))) for a, b in line.points], css))
    for line in lines:
        parts += [svg.ring(x(a), y(b), "meets") for a, b in line.meets]
        if line.mark is not None:
            parts.append(svg.mark(line.family, x(line.mark[0]), y(max(line.mark[1], frame.y[0]))))
    parts += names(lines, [y(max(line.points[-1][1], frame.y[0])) for line in lines], shape)
    return svg.picture(
        shape.width, shape.height, f"{frame.title}; the data is in the table", parts, shape.css
    )


def axes(frame: Frame, shape: Shape) -> tuple[Scale, Scale, list[Markup]]:
    """Both scales, and the axes with their ticks and titles."""
    left, right, base = shape.left, shape.width - shape.right, shape.height - shape.bottom
    x = svg.logarithmic(frame.x, (left, right))
    y = svg.logarithmic(frame.y, (base, shape.top)) if frame.tall else svg.linear(frame.y, (base, shape.top))
    parts = [svg.text(2, 13, frame.y_title, "axis-title")]
    for tick in svg.log_ticks(*frame.y, 6) if frame.tall else svg.linear_ticks(*frame.y, 5):
        parts.append(svg.line(left, y(tick), right, y(tick), "grid"))
        parts.append(svg.text(left - 7, y(tick) + 4, frame.say_y(tick), "tick", "end"))
    parts.append(svg.line(left, base, right, base, "axis"))
    end = -math.inf
    for tick in frame.ticks or svg.log_ticks(*frame.x, shape.ticks):
        parts.append(svg.line(x(tick), base, x(tick), base + 4, "axis"))
        half = svg.CHARACTER * 11.5 * len(frame.say_x(tick)) / 2
        if x(tick) - half > end and x(tick) + half < shape.width:
            parts.append(svg.text(x(tick), base + 17, frame.say_x(tick), "tick", "middle"))
            end = x(tick) + half + 6
    parts.append(svg.text((left + right) / 2, base + 38, frame.x_title, "axis-title", "middle"))
    return x, y, parts


def names(lines: Sequence[Line], ends: Sequence[float], shape: Shape) -> list[Markup]:
    """Names (numbers where it is narrow) right of the lines' ends, moved apart where they would overlap."""
    right, low, high = shape.width - shape.right, shape.top + 4, shape.height - shape.bottom
    order = sorted(range(len(lines)), key=lambda k: ends[k])
    gap = min(LINE, (high - low) / max(len(lines) - 1, 1))
    places: list[float] = []
    for k in order:
        places.append(max([ends[k], *([places[-1] + gap] if places else [low])]))
    places[-1:] = [min(places[-1], high)] if places else []
    for j in range(len(places) - 2, -1, -1):
        places[j] = min(places[j], places[j + 1] - gap)
    parts = []
    for k, place in zip(order, places, strict=True):
        parts.append(svg.line(right + 2, ends[k], right + 12, place, "leader"))
        name = str(lines[k].number) if shape is NARROW else _plots.short(lines[k].label, 22)
        parts.append(svg.text(right + 15, place + 4, name, "label"))
    return parts
