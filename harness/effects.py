"""What a finished run knows of the side effects of its tuning: the reading side of `transfer`.

Scores before and after stand in `transfer.json` by adapter. An adapter's folder is named after everything
that made it, so an effect belongs to the run as it is now only where a cell still names that adapter, and the
task that was asked still has the same data; what does not is stale and not shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from breakeven.harness import formats as f
from breakeven.harness import stats, store
from breakeven.harness.errors import UserError
from breakeven.harness.results import DONE, CellResult, MetricInfo, Results, Row
from breakeven.harness.stats import Difference

FILE = "transfer.json"
#: The name under which the general questions go.
GENERAL = "general questions"

Word = Literal["forgot", "gained", "no change shown"]


@dataclass(frozen=True)
class Effect:
    """An adapter on something it was not trained for.

    Attributes:
        own: the task that the adapter was trained for, by the cell of this strategy, model, size and seed.
        adapter: its folder in `artifacts`.
        on: the other task, or `GENERAL`.
        data: hash of the data that were asked.
        range: lowest and highest possible score; None where it is open.
        groups: of each example, what makes it depend on others.
        before, after: scores of the base model and of the adapter by example, in the same order, on `metric`.
    """

    own: str
    strategy: str
    model: str
    train_size: int
    seed: int | None
    adapter: str
    on: str
    data: str
    metric: str
    higher_is_better: bool
    range: tuple[float, float] | None
    groups: tuple[str | None, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class SideEffect:
    """A strategy on something it was not trained for, over the adapters that were asked.

    `metric` is taken as the mean over the examples, also where the task aggregates it in another way.
    `difference` is after minus before, paired by example; None where no interval can be given.
    """

    row: Row
    on: str
    metric: MetricInfo
    examples: int
    adapters: int
    before: float
    after: float
    difference: Difference | None

    @property
    def word(self) -> Word:
        """What the interval of the difference says, by itself."""
        if self.difference is None:
            return "no change shown"
        low, high = self.difference.interval.low, self.difference.interval.high
        if low <= 0 <= high:
            return "no change shown"
        return "gained" if (low > 0) == self.metric.higher_is_better else "forgot"


@dataclass(frozen=True)
class SideEffects:
    """What is known of the adapters of a task.

    `unasked` are the labels of tuned strategies of which nothing current is known; `stale` tells whether
    measurements were left out that belong to another state of the run. A strategy that was tuned elsewhere
    has no adapter here that could be asked.
    """

    found: tuple[SideEffect, ...]
    unasked: tuple[str, ...]
    stale: bool


def load(folder: Path) -> list[Effect]:
    """What `transfer.measure` found; empty where it was not run.

    Raises:
        UserError: the file is not what it writes.
    """
    rows = store.read_json(folder / FILE, [])
    try:
        return [
            Effect(**{
                **row,
                **{key: tuple(row[key]) for key in ("groups", "before", "after")},
                "range": tuple(row["range"]) if row["range"] else None,
            })
            for row in rows
        ]  # fmt: skip
    except (TypeError, KeyError, ValueError):
        raise UserError(
            "was not written by this version", file=folder / FILE, hint=f"breakeven transfer {folder}"
        ) from None


def adapters_of(cell: CellResult) -> list[str]:
    """Folders in `artifacts` of the adapters that a cell trained."""
    return sorted({e.artifact for e in cell.ledger.select("train") if e.artifact})


def of_task(results: Results, name: str) -> SideEffects:
    """The side effects of the strategies that were tuned on a task."""
    try:
        effects, readable = [e for e in load(results.folder) if e.own == name], True
    except UserError:  # of another version, so nobody can tell whose adapters it speaks of
        effects, readable = [], False
    tuned = [r for r in results.tables[name] if r.quality is not None and _adapters(r)]
    current: list[Effect] = []
    found: list[SideEffect] = []
    unasked = []
    for row in tuned:
        mine = [e for e in effects if e.adapter in _adapters(row) and _same(results, row, e)]
        current += mine
        asked = dict.fromkeys((e.on, e.metric) for e in mine)
        found += [_together(row, [e for e in mine if (e.on, e.metric) == key]) for key in asked]
        if not mine:
            unasked.append(row.label)
    stale = len(current) < len(effects) or (bool(tuned) and not readable)
    return SideEffects(tuple(found), tuple(unasked), stale)


def _adapters(row: Row) -> set[str]:
    return {name for cell in row.cells if cell.state == DONE for name in adapters_of(cell)}


def _same(results: Results, row: Row, effect: Effect) -> bool:
    """Whether an effect is of this row, and the task that was asked is as it was."""
    task = results.tasks.get(effect.on)
    unchanged = effect.on == GENERAL or (task is not None and task.hash == effect.data)
    key = effect.strategy, effect.model, effect.train_size
    return unchanged and key == (row.strategy, row.model or "", row.train_size)


def _together(row: Row, effects: Sequence[Effect]) -> SideEffect:
    """The mean over adapters; all were asked the same examples."""
    first = effects[0]
    after = np.array([e.after for e in effects])
    return SideEffect(
        row=row,
        on=first.on,
        metric=MetricInfo(first.metric, first.range, first.higher_is_better, additive=True),
        examples=len(first.before),
        adapters=len(effects),
        before=float(np.mean(first.before)),
        after=float(after.mean()),
        difference=difference(effects),
    )


def said(x: SideEffect) -> tuple[str, str]:
    """The change and its interval; that is empty where there is none."""
    between = "" if x.difference is None else f.signed_interval(
        x.difference.interval.low, x.difference.interval.high, x.metric
    )  # fmt: skip
    return f.signed(x.after - x.before, x.metric), between


def difference(effects: Sequence[Effect]) -> Difference | None:
    """After minus before of one strategy's adapters, paired by example; None without any variance."""
    first = effects[0]
    grouped = any(g is not None for g in first.groups)
    try:
        return stats.paired_difference(
            np.array([e.after for e in effects]),
            np.array(first.before),
            list(first.groups) if grouped else None,
            bounds=first.range,
            varies_with_seed=(True, False),
            tested=False,
        )
    except ValueError:  # an open range and no variance: nothing can be said
        return None
