"""Two runs beside each other: what changed in the quality and cost of strategies and in the verdict, and why.

Quality is paired on the test examples that both runs have, by `stats.paired_difference`; why is what
`_differences` finds in what was recorded. Thresholds make a comparison something a build can fail on. How it
is shown is the command's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from breakeven.harness import _differences, _verdicts, alike, stats
from breakeven.harness._variance import Floats
from breakeven.harness._verdicts import VerdictChange
from breakeven.harness.results import DONE, CellResult, MetricInfo, Results, Row, TaskResult
from breakeven.harness.stats import Interval

#: Positions of a test example that both runs have, in the first and in the second.
Shared: TypeAlias = "list[tuple[int, int]]"
EDGE = 1e-12  # what rounding may add to a difference that is just at its threshold


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as too much; None is not checked.

    `quality_drop` is a share of the metric's range (0.02: two points of a hundred), or in the metric's own
    unit where its range is open; `cost_rise` a share of the first run's cost of 1,000 requests. With
    `verdict` any task whose verdict changes is too much.
    """

    quality_drop: float | None = None
    cost_rise: float | None = None
    verdict: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A number in the first run and in the second; None where it is unknown or there is no such row."""

    before: float | None = None
    after: float | None = None

    @property
    def difference(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def relative(self) -> float | None:
        """As a share of the first; infinite where that is 0 and the second is not."""
        if self.before is None or self.after is None:
            return None
        if self.before == 0:
            return 0.0 if self.after == 0 else float("inf")
        return self.after / self.before - 1


@dataclass(frozen=True, slots=True)
class RowComparison:
    """One strategy (x model x training size) in both runs.

    `quality` is on the `shared` examples (those of the tables may be on more), `interval` that of its
    difference, second minus first; `won` and `lost` count examples. `outputs_changed` of `outputs` pairs of
    outputs differ. `cost` is of 1,000 requests, latencies are p50 and p95 in seconds. `why` lists inputs that
    differ, `notes` what could not be compared, `crossed` the thresholds passed, each a sentence.
    """

    label: str
    before: Row | None
    after: Row | None
    metric: str = ""
    shared: int = 0
    quality: Change = Change()
    interval: Interval | None = None
    won: int = 0
    lost: int = 0
    outputs: int = 0
    outputs_changed: int = 0
    cost: Change = Change()
    one_off: Change = Change()
    p50: Change = Change()
    p95: Change = Change()
    why: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    crossed: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether the same was answered and scored on every shared example."""
        same = self.quality.difference == 0 and self.outputs_changed == self.won == self.lost == 0
        return same and self.outputs > 0

    @property
    def excludes_zero(self) -> bool | None:
        """Whether the interval of the difference leaves 0 out; None without an interval."""
        return None if self.interval is None else not self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True, slots=True)
class TaskComparison:
    """A task that both runs have; `why` is what of its content differs, `crossed` the thresholds of the task
    as a whole, each a sentence."""

    name: str
    metric: str
    shared: int
    rows: tuple[RowComparison, ...]
    why: tuple[str, ...]
    verdict: VerdictChange
    crossed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`why` is what differs between the runs as a whole; tasks that only one has are in `only_in`."""

    before: Results
    after: Results
    limits: Limits
    tasks: tuple[TaskComparison, ...]
    why: tuple[str, ...]
    only_in: Mapping[str, tuple[str, ...]]

    @property
    def crossed(self) -> list[str]:
        """Every threshold passed, as "task, strategy: sentence", or "task: sentence"."""
        found = []
        for t in self.tasks:
            found += [f"{t.name}: {said}" for said in t.crossed]
            found += [f"{t.name}, {r.label}: {said}" for r in t.rows for said in r.crossed]
        return found


def compare(before: Results, after: Results, limits: Limits | None = None) -> Comparison:
    """What changed from `before` to `after`, task by task and strategy by strategy."""
    limits = limits or Limits()
    return Comparison(
        before,
        after,
        limits,
        tuple(_task(before, after, name, limits) for name in before.tasks if name in after.tasks),
        tuple(_differences.of_runs(before, after)),
        {
            "before": tuple(name for name in before.tasks if name not in after.tasks),
            "after": tuple(name for name in after.tasks if name not in before.tasks),
        },
    )


def _task(before: Results, after: Results, name: str, limits: Limits) -> TaskComparison:
    old, new = before.tasks[name], after.tasks[name]
    ours = {e.id: i for i, e in enumerate(old.test)}
    shared = [
        (ours[e.id], j)
        for j, e in enumerate(new.test)
        if e.id in ours and old.test[ours[e.id]].input == e.input
    ]
    rows = []
    for label, a, b in _pairs(before.tables[name], after.tables[name]):
        row = RowComparison(label, a, b)
        if a is not None and b is not None:
            row = _figures(row, a, b, before, after)
            row = _quality(row, a, b, old, new, shared)
            row = replace(row, why=tuple(_differences.of_rows(before, after, a, b)))
        rows.append(replace(row, crossed=tuple(_crossed(row, _metric(old, new), limits))))
    why = tuple(_differences.of_tasks(old, new))
    verdict = _verdict(before, after, name, rows, why)
    crossed = ("the verdict changed",) if limits.verdict and verdict.changed else ()
    return TaskComparison(name, new.primary.name, len(shared), tuple(rows), why, verdict, crossed)


def _verdict(
    before: Results, after: Results, name: str, rows: Sequence[RowComparison], why: Sequence[str]
) -> VerdictChange:
    """The verdict of both runs, and the inputs that differ."""
    inputs = [*why]
    for row in rows:
        if row.before is None or row.after is None:
            inputs.append(f"{row.label}: only in the {'second' if row.before is None else 'first'} run")
        inputs += [f"{row.label}: {said}" for said in row.why]
        if row.outputs_changed and not row.why:
            inputs.append(f"{row.label}: {row.outputs_changed} of {row.outputs} outputs differ")
    inputs += _differences.of_machines(before, after)
    same = {r.after.label: r.before.label for r in rows if r.before is not None and r.after is not None}
    return _verdicts.change(before, after, name, same, _differences.of_money(before, after), inputs)


def _pairs(before: Sequence[Row], after: Sequence[Row]) -> list[tuple[str, Row | None, Row | None]]:
    """Rows that are the same strategy, with its label: by model and training size, else the only one left."""
    gone, new = list(before), list(after)
    found: dict[str, Row] = {}
    keys: list[Callable[[Row], object]] = [
        lambda r: (r.strategy, r.model, r.train_size),
        lambda r: (r.strategy, r.model),
        lambda r: r.strategy,
    ]
    for key in keys:
        for row in list(new):
            same = [r for r in gone if key(r) == key(row)]
            if len(same) == 1 == sum(key(r) == key(row) for r in new):
                found[row.label] = same[0]
                gone.remove(same[0])
                new.remove(row)
    pairs: list[tuple[str, Row | None, Row | None]] = [(r.label, found.get(r.label), r) for r in after]
    return [*pairs, *((r.label, r, None) for r in gone)]


# --- figures ---------------------------------------------------------------------------------


def _figures(row: RowComparison, a: Row, b: Row, before: Results, after: Results) -> RowComparison:
    """Costs and latencies; money in two currencies is not compared."""
    row = replace(
        row,
        p50=Change(*(r.latency[0] if r.latency else None for r in (a, b))),
        p95=Change(*(r.latency[1] if r.latency else None for r in (a, b))),
    )
    if before.currency != after.currency:
        return _noted(row, f"costs in {before.currency} and {after.currency} are not compared")
    row = replace(
        row,
        cost=Change(a.cost_per_1000.value, b.cost_per_1000.value),
        one_off=Change(a.one_off.value, b.one_off.value),
    )
    for what, cost in {"cost of 1,000 requests": row.cost, "one-off cost": row.one_off}.items():
        if (cost.before is None) != (cost.after is None):
            row = _noted(
                row, f"the {what} is known in the {'second' if cost.before is None else 'first'} only"
            )
    return row


def _noted(row: RowComparison, note: str) -> RowComparison:
    return replace(row, notes=(*row.notes, note))


def _metric(old: TaskResult, new: TaskResult) -> MetricInfo | None:
    """The metric to compare by: the second run's primary if the first has it, else the other way round."""
    for metric, other in ((new.primary, old), (old.primary, new)):
        if any(m.name == metric.name for m in other.metrics):
            return metric
    return None


def _quality(
    row: RowComparison, a: Row, b: Row, old: TaskResult, new: TaskResult, shared: Shared
) -> RowComparison:
    """Quality on the examples that both have, its paired difference, and how many outputs changed."""
    if a.quality is None or b.quality is None:
        return row
    metric, left, right = _metric(old, new), _done(a), _done(b)
    row = _outputs(row, left, right, shared)
    if metric is None:
        return _noted(row, f"quality by {old.primary.name} and by {new.primary.name} is not compared")
    row = replace(row, metric=metric.name)
    if not shared:
        return _noted(row, "no test example is in both runs")
    if not metric.additive:
        return _whole(row, metric, left, right, old, new, shared)
    x = _scores(left, metric.name, [i for i, _ in shared])
    y = _scores(right, metric.name, [j for _, j in shared])
    row = replace(row, shared=len(shared), quality=Change(float(x.mean()), float(y.mean())))
    groups = [new.test[j].group for _, j in shared]
    try:
        found = stats.paired_difference(
            y,
            x,
            groups if any(g is not None for g in groups) else None,
            bounds=metric.range,
            varies_with_seed=(_by_seed(right), _by_seed(left)),
            tested=False,
        )
    except ValueError:  # an open range and no variance: nothing can be said
        return _noted(row, "the differences have no variance, so there is no interval")
    return replace(row, interval=found.interval, won=found.won, lost=found.lost)


def _whole(
    row: RowComparison,
    metric: MetricInfo,
    left: Sequence[CellResult],
    right: Sequence[CellResult],
    old: TaskResult,
    new: TaskResult,
    shared: Shared,
) -> RowComparison:
    """For a metric that is no mean over examples: aggregates, and draws where the resamples are equal."""
    if len(shared) != len(old.test) or len(shared) != len(new.test):
        return _noted(row, f"{metric.name} cannot be taken of the {len(shared)} shared examples alone")
    before, after = (float(np.mean([c.aggregates[metric.name] for c in cells])) for cells in (left, right))
    row = replace(row, shared=len(shared), quality=Change(before, after))
    same_order = all(i == j for i, j in shared)
    same_groups = [e.group for e in old.test] == [e.group for e in new.test]
    primary = metric.name == old.primary.name == new.primary.name
    if not (same_order and same_groups and primary and all(c.draws for c in (*left, *right))):
        return _noted(row, "the runs have no common resamples, so there is no interval")
    drawn = [np.array([c.draws for c in cells], dtype=np.float64).mean(axis=0) for cells in (left, right)]
    interval = stats.draws_interval(drawn[1] - drawn[0])
    if alike.alike(drawn[1] - drawn[0]):
        n = alike.drawn(len(new.test), new.groups)
        interval = alike.difference(after - before, n, metric.range) or interval
    return replace(row, interval=interval)


def _outputs(
    row: RowComparison, left: Sequence[CellResult], right: Sequence[CellResult], shared: Shared
) -> RowComparison:
    theirs = {c.seed: c for c in right}
    pairs = [(c.predictions, theirs[c.seed].predictions) for c in left if c.seed in theirs]
    changed = sum(p[i].output != q[j].output for p, q in pairs for i, j in shared)
    return replace(row, outputs=len(pairs) * len(shared), outputs_changed=changed)


def _done(row: Row) -> list[CellResult]:
    return [c for c in row.cells if c.state == DONE]


def _by_seed(cells: Sequence[CellResult]) -> bool:
    return any(c.seed is not None for c in cells)


def _scores(cells: Sequence[CellResult], metric: str, positions: Sequence[int]) -> Floats:
    """(seeds, shared examples)."""
    found = [c.scores(metric) for c in cells]
    return np.array([[scores[i] for i in positions] for scores in found], dtype=np.float64)


# --- thresholds ------------------------------------------------------------------------------


def _crossed(row: RowComparison, metric: MetricInfo | None, limits: Limits) -> list[str]:
    """The thresholds that a row passes. The point estimate decides; what chance may do is said with it."""
    found = []
    if limits.quality_drop is not None and row.before is not None and row.after is not None:
        if row.before.quality is not None and row.after.quality is None:
            found.append(
                f"has no result any more: {row.after.state}: {row.after.reason or 'no reason given'}"
            )
        elif metric is not None and row.quality.difference is not None:
            found += _fallen(row, row.quality.difference, metric, limits.quality_drop)
    rise = row.cost.relative
    if limits.cost_rise is not None and rise is not None and rise > limits.cost_rise + EDGE:
        share = "from nothing" if rise == float("inf") else f"by {100 * rise:.1f} %"
        found.append(f"the cost of 1,000 requests rose {share}, more than {100 * limits.cost_rise:g} %")
    return found


def _fallen(row: RowComparison, difference: float, metric: MetricInfo, limit: float) -> list[str]:
    worse = -difference if metric.higher_is_better else difference
    span = metric.range[1] - metric.range[0] if metric.range is not None else 1.0
    if worse <= limit * span + EDGE:
        return []
    verb = "fell" if metric.higher_is_better else "rose"
    if row.interval is None:
        surely = "there is no interval for it"
    else:
        bounds = f"95 % {row.interval.low:+.4f} to {row.interval.high:+.4f}"
        surely = f"{bounds}, which {'excludes' if row.excludes_zero else 'includes'} no change"
    return [f"{metric.name} {verb} by {abs(difference):.4f}, more than {limit * span:g} ({surely})"]
