"""From stored scores and ledgers to the rows of a result table: quality, difference, cost, latency.

Works on a finished run only, so that re-scoring and re-pricing need no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from breakeven.harness import alike, costs, power, stats, trials
from breakeven.harness.crossfit import Folds, variance_inflation
from breakeven.harness.pricing import HERE, Pricing, mean_cost
from breakeven.harness.results import DONE, CellResult, Cost, Results, Row, TaskResult

if TYPE_CHECKING:
    import numpy.typing as npt

Key = tuple[str, str | None, int]


def table(results: Results, task_name: str) -> tuple[Row, ...]:
    """The rows of one task in the suite's order; cells of one strategy, model and size share a row."""
    groups: dict[Key, list[CellResult]] = {}
    for cell in results.cells_of(task_name):
        groups.setdefault((cell.strategy, cell.model, cell.train_size), []).append(cell)
    task = results.tasks[task_name]
    pricing = Pricing(results)
    rows = [_row(results, task, key, cells, _label(key, groups), pricing) for key, cells in groups.items()]
    if unequal := trials.unequal(rows):
        rows = [replace(r, notes=(*r.notes, unequal)) if trials.count(r) > 1 else r for r in rows]
    # of several training sizes the largest is what would be in service
    known = [r for r in rows if r.is_reference and r.quality is not None]
    reference = max(known, key=lambda r: r.train_size, default=None)
    if reference is None:
        return tuple(rows)
    rows = [r if r is reference else replace(r, is_reference=False) for r in rows]
    return adjusted([_compared(r, reference, task) for r in rows])


def adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with p adjusted (Holm) for the number of comparisons among them."""
    compared = [row.p for row in rows if row.p is not None]
    by_row = iter(stats.holm(compared))
    return tuple(row if row.p is None else replace(row, p_adjusted=next(by_row)) for row in rows)


def _label(key: Key, groups: dict[Key, list[CellResult]]) -> str:
    strategy, model, size = key
    label = strategy
    if len({k[1] for k in groups if k[0] == strategy}) > 1:
        label += f" ({model})"
    if len({k[2] for k in groups if k[0] == strategy}) > 1:
        label += f" n={size}"
    return label


def _row(
    results: Results, task: TaskResult, key: Key, cells: Sequence[CellResult], label: str, pricing: Pricing
) -> Row:
    strategy, model, size = key
    done = [c for c in cells if c.state == DONE]
    undone = [c for c in cells if c.state != DONE]
    row = Row(
        label=label,
        strategy=strategy,
        model=model,
        train_size=size,
        state=DONE if done else undone[0].state,
        reason="; ".join(dict.fromkeys(c.reason for c in undone if c.reason)),
        cells=tuple(cells),
        is_reference=strategy == results.reference(task.name),
    )
    if not done:
        return row
    quality, interval = _quality(task, done)
    usage = [c.mean_usage for c in done]
    seeds = len(results.suite.get("seeds") or ()) if cells[0].seed is not None else 1
    wanted = max(len(cells), seeds)  # cells that were never begun have no folder yet
    notes = [f"{len(done)} of {wanted} seeds"] if len(done) < wanted else []
    trained = [float(c.training["seconds"]) for c in done if c.training and c.training["seconds"] is not None]
    row = replace(
        row,
        quality=quality,
        interval=interval,
        input_tokens=float(np.mean([u[0] for u in usage])),
        output_tokens=float(np.mean([u[1] for u in usage])),
        cost_per_1000=_cost(mean_cost([pricing.per_1000(c) for c in done])),
        one_off=_cost(mean_cost([pricing.one_off(c) for c in done])),
        latency=_latency(done),
        training_seconds=float(np.mean(trained)) if trained else None,
        notes=(*notes, *_whereabouts(done, pricing), *_hosting(done, pricing), *_fit_notes(done)),
    )
    return replace(row, notes=(*row.notes, *trials.sentences(row, task.primary)))


def scores(cells: Sequence[CellResult], metric: str) -> npt.NDArray[np.float64]:
    """(seeds, items), items in test order."""
    return np.array([c.scores(metric) for c in cells], dtype=np.float64)


def folds_of(cells: Sequence[CellResult]) -> Folds | None:
    """How the rows of a strategy were scored out of fold; None where they are a test split."""
    first = cells[0]
    return Folds(first.fold_of, first.outside) if first.fold_of else None


def folds_of_both(ours: Sequence[CellResult], theirs: Sequence[CellResult]) -> Folds | None:
    """For a comparison: the folds of whichever side has them; a task's folds are the same for all."""
    return folds_of(ours) or folds_of(theirs)


def _inflation(cells: Sequence[CellResult], task: TaskResult) -> float:
    """Of the variance of an aggregate that is no mean, judged by its scores."""
    folds = folds_of(cells)
    return 1.0 if folds is None else variance_inflation(scores(cells, task.primary.name), folds, task.groups)


def _quality(task: TaskResult, done: Sequence[CellResult]) -> tuple[float, stats.Interval | None]:
    metric = task.primary
    value = float(np.mean([c.aggregates[metric.name] for c in done]))
    if not metric.additive:
        draws, seeds = _draws(done), _seeds(done, metric.name)
        if draws is None:
            return value, None
        wider = _inflation(done, task)
        found = stats.draws_interval(draws, seeds=seeds, varies_with_seed=bool(seeds), inflation=wider)
        if alike.alike(draws):
            n, own = alike.drawn(len(task.test), task.groups, wider), seeds[0] if seeds else ()
            notes = _without_seeds(seeds)
            found = alike.interval(value, n, metric.range, seeds=own, notes=notes) or found
        return value, found
    try:
        seeded = any(c.seed is not None for c in done)
        y = scores(done, metric.name)
        return value, stats.mean_interval(
            y, task.groups, bounds=metric.range, varies_with_seed=seeded, folds=folds_of(done)
        )
    except ValueError:  # an open range and no variance: nothing can be said
        return value, None


def _compared(row: Row, reference: Row, task: TaskResult) -> Row:
    """`row` with its paired difference to the reference."""
    if row.quality is None or reference.quality is None or row is reference:
        return row
    metric = task.primary
    apart = row.quality - reference.quality
    row = replace(row, difference=apart)
    ours, theirs = ([c for c in r.cells if c.state == DONE] for r in (row, reference))
    if not metric.additive:
        a, b = _draws(ours), _draws(theirs)
        if a is None or b is None or len(a) != len(b):
            return row
        seeds = [*_seeds(ours, metric.name), *_seeds(theirs, metric.name)]
        wider = max(_inflation(ours, task), _inflation(theirs, task))
        interval = stats.draws_interval(a - b, seeds=seeds, varies_with_seed=bool(seeds), inflation=wider)
        p, test = stats.draws_p(a - b, seeds=seeds)
        if alike.alike(a - b) and not any(np.ptp(side) > 0 for side in seeds):
            n = alike.drawn(len(task.test), task.groups, wider)
            bound = alike.difference(apart, n, metric.range, notes=_without_seeds(seeds))
            if bound is not None:
                interval, (p, test) = bound, alike.p_value(apart, n)
        return replace(row, difference_interval=interval, p=p, test=test)
    both = scores(ours, metric.name), scores(theirs, metric.name)
    try:
        found = stats.paired_difference(
            *both,
            task.groups,
            bounds=metric.range,
            varies_with_seed=(any(c.seed is not None for c in ours), any(c.seed is not None for c in theirs)),
            folds=folds_of_both(ours, theirs),
        )
    except ValueError:
        return row
    span = metric.range[1] - metric.range[0] if metric.range is not None else None
    within = found.interval.low <= 0 <= found.interval.high
    return replace(
        row,
        detectable=power.detectable_here(*both, task.groups, span=span),
        needed=_needed(power.examples_needed(*both, task.groups, span=span)) if within else "",
        difference=found.value,
        difference_interval=found.interval,
        won=found.won,
        lost=found.lost,
        p=found.p,
        test=found.test,
    )


def _needed(found: power.Needed) -> str:
    return f"{found} would show a difference this large" if found.more else found.reason


def _draws(cells: Sequence[CellResult]) -> npt.NDArray[np.float64] | None:
    """(draws,), the mean over seeds; None where a cell has none."""
    if not all(c.draws for c in cells):
        return None
    drawn: npt.NDArray[np.float64] = np.array([c.draws for c in cells], dtype=np.float64).mean(axis=0)
    return drawn


def _seeds(cells: Sequence[CellResult], metric: str) -> list[list[float]]:
    """The aggregate of each seed, as the one side of a comparison; no side without chance."""
    return [[c.aggregates[metric] for c in cells]] if any(c.seed is not None for c in cells) else []


def _without_seeds(sides: Sequence[Sequence[float]]) -> str:
    return stats.WITHOUT_SEEDS if any(len(side) == 1 for side in sides) else ""


def _cost(found: costs.Cost) -> Cost:
    return Cost(found.value, found.status, found.note)


def _latency(done: Sequence[CellResult]) -> tuple[float, float] | None:
    seconds = [s for c in done for s in ((c.timing or {}).get("batch_of_one") or {}).get("seconds", [])]
    if not seconds:
        return None
    return stats.percentile(seconds, 50).value, stats.percentile(seconds, 95).value


def _whereabouts(done: Sequence[CellResult], pricing: Pricing) -> list[str]:
    """Where a row's examples went, if they left this machine."""
    hosts = dict.fromkeys(pricing.host(c) for c in done)
    return [f"examples were sent to {host}" for host in hosts if host != HERE]


def _hosting(done: Sequence[CellResult], pricing: Pricing) -> list[str]:
    """How long deployments of a row existed for this run, and what that cost."""
    hours: dict[str, float] = {}
    for cell in done:
        for entry in cell.ledger.select("host", "seconds"):
            name = entry.hardware or ""
            hours[name] = hours.get(name, 0.0) + (entry.amount.value or 0.0) / 3600
    said = []
    for name, spent in hours.items():
        price = pricing.deployment_of(name)
        money = f"{spent * price.price:.2f} {price.currency}" if price is not None else "an unknown amount"
        said.append(f"its deployment existed for {spent:.2f} h of this run: {money}, beside the costs shown")
    return said


def _fit_notes(done: Sequence[CellResult]) -> list[str]:
    """Sentences that the strategy left for the reader, once each."""
    found: dict[str, None] = {}
    for cell in done:
        for note in cell.fit_notes.get("remarks", []):
            found.setdefault(str(note))
    return list(found)
