"""The learning curves of a task: each strategy by its number of labelled examples, who overtakes whom, and
what more labels would bring.

Puts the rows of a result table together as curves; the mathematics is `curves`, the sentences are
`learning_words`. Pairs are either given by settings (a strategy and the same one untuned) or the best of
their kind; the latter were picked on these examples, which is kept with them, and nothing here is tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from breakeven.harness import cases, curves, summary
from breakeven.harness import draws as drawing
from breakeven.harness.crossfit import variance_inflation
from breakeven.harness.curves import Gain, Overtaking, Point
from breakeven.harness.economics import Economics
from breakeven.harness.families import Family, family, is_tuned
from breakeven.harness.pairs import without
from breakeven.harness.results import DONE, CellResult, Results, Row, TaskResult

Floats = npt.NDArray[np.float64]
Curve = Mapping[int, Floats]

#: Labelled examples of which it is asked what they would bring.
MORE = 200

Kind = Literal["curve", "flat", "lone"]
Picked = Literal["settings", "only", "examples"]


@dataclass(frozen=True)
class Line:
    """A strategy (with its model) over training sizes; `rows` ascend by size.

    `kind`: "curve", measured at several sizes; "flat", which does not change with the number of rows, so that
    its one row holds at all sizes; "lone", which does, but has a result at one size only.
    """

    label: str
    family: Family
    kind: Kind
    rows: tuple[Row, ...]

    @property
    def top(self) -> Row:
        """The row of the largest size."""
        return self.rows[-1]

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(Point(r.train_size, r.quality, r.interval) for r in self.rows if r.quality is not None)


@dataclass(frozen=True)
class Meeting:
    """Two strategies and from which size on `learner` is ahead of `other`.

    Attributes:
        picked: "settings", when the other is the learner without tuning; "only", when each is the only one of
            its kind; "examples", when one was picked from several by its score on these examples.
        found: None where they have no size in common.
    """

    learner: Line
    other: Line
    picked: Picked
    found: Overtaking | None


@dataclass(frozen=True)
class MoreLabels:
    """What `MORE` labelled examples beyond the largest size would bring a strategy, and what they cost.

    Attributes:
        picked: whether it was picked from several of its kind by its score on these examples.
        gain: on the primary metric; None for fewer than three sizes.
        worth: (expected, low, high) in money over the horizon; None where nobody said what a correct answer
            is worth.
        hours, cost: of labelling; the training that follows is not in it.
        assumed: whether nobody gave the minutes or the rate.
    """

    line: Line
    picked: bool
    gain: Gain | None
    worth: tuple[float, float, float] | None
    hours: float
    cost: float
    assumed: bool


@dataclass(frozen=True)
class Learning:
    """The curves of a task. `additive`: whether its metric is a mean over examples; else nothing is compared.

    `sizes` are those at which any strategy was measured, ascending.
    """

    sizes: tuple[int, ...]
    lines: tuple[Line, ...]
    additive: bool
    meetings: tuple[Meeting, ...]
    more: tuple[MoreLabels, ...]


def of_task(results: Results, name: str) -> Learning | None:
    """The learning curves of a task; None where no strategy has a result at two sizes or more."""
    task = results.tasks[name]
    found = lines(results.tables[name])
    grown = [line for line in found if line.kind == "curve"]
    if not grown:
        return None
    sizes = sorted({row.train_size for line in found if line.kind != "flat" for row in line.rows})
    if not task.primary.additive or sizes[0] < 1:
        return Learning(tuple(sizes), tuple(found), task.primary.additive, (), ())
    return Learning(
        tuple(sizes),
        tuple(found),
        True,
        tuple(_met(task, *pair) for pair in _pairs(found, task)),
        tuple(_more(task, results.economics, *one) for one in _learners(found, task)),
    )


def lines(rows: Sequence[Row]) -> list[Line]:
    """The strategies of a result table that have a result, in its order."""
    groups: dict[tuple[str, str | None], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.strategy, row.model), []).append(row)
    found = []
    for together in groups.values():
        done = sorted((r for r in together if r.quality is not None), key=lambda r: r.train_size)
        if not done:
            continue
        grows = len(together) > 1 or _sized(done[0])
        kind: Kind = "curve" if len(done) > 1 else "lone" if grows else "flat"
        label = done[-1].label
        if len(together) > 1:
            label = label.removesuffix(f" n={done[-1].train_size}")
        found.append(Line(label, family(done[-1]), kind, tuple(done)))
    return found


def _sized(row: Row) -> bool:
    """Whether the run planned more sizes of it: a cell says its size in its id where there are several."""
    return any(f"--n{row.train_size}--" in f"{cell.id}--" for cell in row.cells)


# --- which pairs -----------------------------------------------------------------------------


def _pairs(found: Sequence[Line], task: TaskResult) -> list[tuple[Line, Line, Picked]]:
    """The best tuned and the best without a model against the best of the others, then tuned and untuned."""
    tuned = [line for line in found if is_tuned(line.family)]
    plain = [line for line in found if line.family == "no-model"]
    prompted = [line for line in found if line.family in ("prompting", "retrieval")]
    today = [line for line in found if line.family == "given"]
    wanted = [(tuned, prompted), (tuned, plain), (tuned, today), (plain, prompted), (plain, today)]
    twins = list(_twins(tuned, prompted))
    made: list[tuple[Line, Line, Picked]] = []
    for learners, others in wanted:
        grown = [line for line in learners if line.kind == "curve"]
        against = [line for line in others if line.kind != "lone"]
        if not grown or not against:
            continue
        pair = _best(grown, task), _best(against, task)
        picked: Picked = "examples" if len(grown) > 1 or len(against) > 1 else "only"
        made.append((*pair, "settings" if pair in twins else picked))
    have = [(a, b) for a, b, _ in made]
    return made + [(a, b, "settings") for a, b in twins if (a, b) not in have]


def _twins(tuned: Sequence[Line], prompted: Sequence[Line]) -> Iterator[tuple[Line, Line]]:
    """Tuned strategies, each with the one that asks the same way untuned."""
    for line in tuned:
        for other in prompted:
            same = without(line.top, "weights") == without(other.top, "weights")
            if line.kind == "curve" and other.kind != "lone" and same:
                yield line, other


def _best(found: Sequence[Line], task: TaskResult) -> Line:
    """By the score at the largest size; the first of equal ones."""
    sign = 1.0 if task.primary.higher_is_better else -1.0
    return max(found, key=lambda line: sign * (line.top.quality or 0.0))


def _learners(found: Sequence[Line], task: TaskResult) -> Iterator[tuple[Line, bool]]:
    """The best tuned curve and the best other one; whether each was picked from several."""
    for tuned in (True, False):
        kind = [line for line in found if line.kind == "curve" and is_tuned(line.family) == tuned]
        if kind:
            yield _best(kind, task), len(kind) > 1


# --- what they say ---------------------------------------------------------------------------


def _met(task: TaskResult, learner: Line, other: Line, picked: Picked) -> Meeting:
    a, b = _curve(learner, task), _curve(other, task)
    try:
        found = curves.overtaking(
            a,
            b,
            task.groups,
            higher_is_better=task.primary.higher_is_better,
            varies_with_seed=(_by_seed(learner), _by_seed(other)),
            inflation=_widened_pair(learner, other, a, b, task),
        )
    except ValueError:  # no size in common
        found = None
    return Meeting(learner, other, picked, found)


def _more(task: TaskResult, economics: Economics, line: Line, picked: bool) -> MoreLabels:
    metric, curve = task.primary, _curve(line, task)
    gain = _gain(line, curve, task, metric.range, higher_is_better=metric.higher_is_better)
    value = cases.knobs(economics, task).value
    worth = None
    if gain is not None and value is not None:
        weights = drawing.example_weights(task, economics.error_costs)
        right = {size: drawing.correct(task, y) * weights for size, y in curve.items()}
        plain = metric.higher_is_better and all(np.array_equal(right[n], curve[n]) for n in curve)
        good = gain if plain else _gain(line, right, task, (0.0, float(weights.max())))
        worth = None if good is None else _money(good, float(value) * requests(economics))
    people = economics.people
    hours = MORE * people.label_minutes / 60
    assumed = economics.assumed("people.label_minutes") or economics.assumed("people.hourly_rate")
    return MoreLabels(line, picked, gain, worth, hours, hours * people.hourly_rate, assumed)


def requests(economics: Economics) -> float:
    """Requests over the horizon."""
    months = range(economics.horizon_months)
    return float(sum(economics.requests(month, economics.requests_per_month) for month in months))


def _money(gain: Gain, each: float) -> tuple[float, float, float]:
    return gain.expected * each, gain.interval.low * each, gain.interval.high * each


def _gain(
    line: Line,
    curve: Curve,
    task: TaskResult,
    bounds: tuple[float, float] | None,
    *,
    higher_is_better: bool = True,
) -> Gain | None:
    return curves.gain(
        curve,
        MORE,
        task.groups,
        bounds=bounds,
        higher_is_better=higher_is_better,
        varies_with_seed=_by_seed(line),
        inflation=max(_widened(row, curve[row.train_size], task) for row in line.rows),
    )


def _cells(row: Row) -> list[CellResult]:
    return [c for c in row.cells if c.state == DONE]


def _by_seed(line: Line) -> bool:
    return any(c.seed is not None for row in line.rows for c in row.cells)


def _curve(line: Line, task: TaskResult) -> dict[int, Floats]:
    return {row.train_size: summary.scores(_cells(row), task.primary.name) for row in line.rows}


def _widened(row: Row, scores: Floats, task: TaskResult) -> float:
    """By how much the variance over examples is to be inflated; 1 unless they were scored out of fold."""
    folds = summary.folds_of(_cells(row))
    return 1.0 if folds is None else variance_inflation(scores, folds, task.groups)


def _widened_pair(learner: Line, other: Line, a: Curve, b: Curve, task: TaskResult) -> float:
    """The same for the difference: the most that it is at any size both have (a flat one has all)."""
    folds = summary.folds_of_both(_cells(learner.top), _cells(other.top))
    if folds is None:
        return 1.0
    theirs = next(iter(b.values())) if other.kind == "flat" else None
    gaps = [y.mean(axis=0) - (b[n] if theirs is None else theirs).mean(axis=0) for n, y in a.items()
            if theirs is not None or n in b]  # fmt: skip
    groups = task.groups
    return max((variance_inflation(gap, folds, groups) for gap in gaps), default=folds.factor)
