"""From a finished run to the cases that are decided: one for each task.

Puts a task's rows, draws and costs together with the economics; who wins is `decision`'s business.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from breakeven.harness import draws as drawing
from breakeven.harness.decision import Candidate, Case
from breakeven.harness.draws import Draws
from breakeven.harness.economics import Economics, Incumbent
from breakeven.harness.errors import UserError
from breakeven.harness.families import family, is_ceiling
from breakeven.harness.ownership import Knobs, of_incumbent, of_row
from breakeven.harness.pricing import HERE, Pricing
from breakeven.harness.results import DONE, Results, Row, TaskResult


def of_task(results: Results, name: str, *, draws: int = drawing.DRAWS, seed: int = 0) -> Case | None:
    """The case of a task; None where no strategy has a result.

    Of a strategy run with several training sizes the largest one stands for it.

    Raises:
        UserError: the incumbent is no strategy of the run.
    """
    task, pricing = results.tasks[name], Pricing(results)
    rows = contenders(results.tables[name])
    if not rows:
        return None
    economics = pricing.economics
    position = _incumbent(economics, rows, results)
    found = drawing.of_task(task, rows, pricing, draws=draws, seed=seed)
    candidates = [_candidate(row, pricing, in_service=i == position) for i, row in enumerate(rows)]
    if isinstance(economics.incumbent, Incumbent):
        stated = economics.incumbent
        assert stated.quality is not None  # with predictions it is one of the strategies
        candidates.append(Candidate(stated.name, "given", HERE, stated.p95, of_incumbent(stated)))
        found = _with_stated(found, stated.name, stated.quality)
        position = len(candidates) - 1
    return Case(
        name,
        tuple(candidates),
        found,
        economics,
        knobs(economics, task),
        higher_is_better=task.primary.higher_is_better,
        incumbent=position,
    )


def knobs(economics: Economics, task: TaskResult) -> Knobs:
    """The knobs as the suite sets them: factors of 1 on all prices."""
    value = economics.value_per_correct
    if value is None and economics.error_costs is not None:
        value = drawing.mean_error_cost(task, economics.error_costs)
    return Knobs(economics.requests_per_month, economics.horizon_months, value)


def contenders(rows: tuple[Row, ...]) -> list[Row]:
    """The rows that a verdict may name: those with a result, but for ceilings, which nobody could serve; each
    strategy at its largest training size.
    """
    done = [r for r in rows if r.quality is not None and not is_ceiling(r)]
    largest: dict[tuple[str, str | None], int] = {}
    for row in done:
        key = row.strategy, row.model
        largest[key] = max(largest.get(key, 0), row.train_size)
    return [r for r in done if r.train_size == largest[r.strategy, r.model]]


def _incumbent(economics: Economics, rows: list[Row], results: Results) -> int | None:
    name = economics.incumbent
    if not isinstance(name, str):
        return None
    found = [i for i, row in enumerate(rows) if name in (row.strategy, row.label)]
    strategies = list(results.suite.get("strategies") or {})
    if not found and name not in strategies:
        raise UserError(
            f"'{name}' is no strategy of this run",
            field="economics.incumbent",
            hint=f"one of {', '.join(strategies)}",
        )
    return found[0] if found else None


def _candidate(row: Row, pricing: Pricing, *, in_service: bool) -> Candidate:
    cell = next(c for c in row.cells if c.state == DONE)
    return Candidate(
        row.label,
        family(row),
        pricing.host(cell),
        row.latency[1] if row.latency else None,
        of_row(row, pricing, in_service=in_service),
    )


def _with_stated(found: Draws, name: str, quality: float) -> Draws:
    """The draws with an incumbent whose quality is taken as stated: the same in every draw.

    What share of its answers counts as correct is taken to be its quality, which holds for 0/1 scores.
    """
    shape = (1, found.score.shape[1])
    one = np.ones(shape)
    return replace(
        found,
        labels=(*found.labels, name),
        score=np.vstack([found.score, quality * one]),
        worth=np.vstack([found.worth, quality * one]),
        tokens=np.vstack([found.tokens, one]),
        seconds=np.vstack([found.seconds, one]),
        score_mean=np.append(found.score_mean, quality),
        worth_mean=np.append(found.worth_mean, quality),
    )
