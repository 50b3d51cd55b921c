"""A run as plain numbers: what `csv` and `json` write.

Numbers are not rounded, unknown is null (an empty field in CSV), and units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from breakeven.harness.ledger import PHASES
from breakeven.harness.results import DONE, CellResult, Cost, MetricInfo, Results, Row
from breakeven.harness.stats import Interval
from breakeven.reports import _format as f
from breakeven.reports import _provenance
from breakeven.reports._findings import answer, effect
from breakeven.reports._rows import best, done, family, lever_pairs, reference_of, standing

Facts = dict[str, Any]


def row_facts(results: Results, task: str, row: Row) -> Facts:
    """A line of a result table, flat; the keys are the columns of the CSV report, in its order."""
    info = results.tasks[task]
    finished = [c for c in row.cells if c.state == DONE]
    top = best(done(results, task), info.primary)
    return {
        "run": results.name,
        "task": task,
        "strategy": row.label,
        "setting": row.strategy,
        "model": row.model,
        "family": family(row),
        "train_size": row.train_size,
        "seeds": len(finished),
        "state": row.state,
        "reason": row.reason,
        "metric": info.primary.name,
        "higher_is_better": info.primary.higher_is_better,
        "test_examples": len(info.test),
        "quality": row.quality,
        **_interval("quality", row.interval),
        "is_best": row is top,
        "is_reference": row.is_reference and row.difference is None,
        "reference": reference.label if (reference := reference_of(results.tables[task])) else None,
        "difference": row.difference,
        **_interval("difference", row.difference_interval),
        "standing": standing(row, info.primary) if row.quality is not None else None,
        "won": row.won if row.difference is not None else None,
        "lost": row.lost if row.difference is not None else None,
        "input_tokens_per_request": row.input_tokens,
        "output_tokens_per_request": row.output_tokens,
        "currency": results.currency,
        **_cost("cost_per_1000_requests", row.cost_per_1000),
        **_cost("one_off_cost", row.one_off),
        "latency_p50_seconds": row.latency[0] if row.latency else None,
        "latency_p95_seconds": row.latency[1] if row.latency else None,
        "training_seconds": row.training_seconds,
        "notes": "; ".join(row.notes),
    }


def _interval(name: str, interval: Interval | None) -> Facts:
    return {
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
        f"{name}_interval_method": interval.method if interval else None,
        f"{name}_interval_note": interval.note if interval else None,
    }


def _cost(name: str, cost: Cost) -> Facts:
    return {name: cost.value, f"{name}_status": cost.status, f"{name}_note": cost.note}


def run_facts(results: Results) -> Facts:
    """The whole run without its examples."""
    return {
        "run": results.name,
        "info": dict(results.info),
        "suite": dict(results.suite),
        "reference": results.reference,
        "currency": results.currency,
        "tasks": {name: task_facts(results, name) for name in results.tasks},
        "prices": {"as_of": _provenance.prices(results)[0], "used": _provenance.price_book(results)},
        "unknown": _provenance.unknowns(results),
        "lost": _provenance.lost(results),
    }


def task_facts(results: Results, name: str) -> Facts:
    """A task: its data, what came out in words and in rows, what each lever did, every cell's consumption."""
    task, pairs = results.tasks[name], lever_pairs(results, name)
    found = answer(results, name, pairs)
    return {
        "description": task.description,
        "licence": task.licence,
        "language": task.language,
        "metrics": [_metric(m) for m in task.metrics],
        "correct_at": task.correct_at,
        "sizes": dict(task.sizes),
        "documents": task.document_count,
        "duplicates": dict(task.duplicates),
        "cut": dict(task.cut),
        "hash": task.hash,
        "answer": {"kind": found.lead.kind, "text": found.lead.text},
        "facts": [{"kind": fact.kind, "text": fact.text} for fact in found.facts],
        "rows": [row_facts(results, name, row) for row in results.tables[name]],
        "levers": [
            {
                "lever": pair.lever,
                "with": pair.with_it.label,
                "without": pair.without.label,
                "difference": pair.difference.value,
                "low": pair.difference.interval.low,
                "high": pair.difference.interval.high,
                "effect": effect(pair, task),
            }
            for pair in pairs
        ],
        "cells": [_cell(c) for c in results.cells_of(name)],
    }


def _metric(metric: MetricInfo) -> Facts:
    return {
        "name": metric.name,
        "range": metric.range,
        "higher_is_better": metric.higher_is_better,
        "additive": metric.additive,
    }


def _cell(cell: CellResult) -> Facts:
    return {
        "id": cell.id,
        "strategy": cell.strategy,
        "model": cell.model,
        "train_size": cell.train_size,
        "seed": cell.seed,
        "settings": dict(cell.settings),
        "state": cell.state,
        "reason": cell.reason,
        "scores": dict(cell.aggregates),
        "ledger": _ledger(cell),
        "timing": cell.timing,
        "training": cell.training,
        "fit": dict(cell.fit_notes),
        "lost": dict(cell.lost),
    }


def _ledger(cell: CellResult) -> Mapping[str, Mapping[str, Facts]]:
    """Phase -> quantity -> value and status, of what was booked."""
    found: dict[str, dict[str, Facts]] = {}
    for phase in PHASES:
        for quantity in dict.fromkeys(e.quantity for e in cell.ledger.select(phase)):
            total = cell.ledger.total(quantity, phase)
            found.setdefault(phase, {})[quantity] = {"value": total.value, "status": total.status}
    return found


def examples(results: Results, name: str) -> list[Facts]:
    """Every test example with each cell's output and scores."""
    cells = [c for c in results.cells_of(name) if c.state == DONE]
    return [
        {
            "id": example.id,
            "input": dict(example.input),
            "references": list(example.references),
            "outputs": {
                c.id: {"output": c.predictions[i].output, "score": dict(c.predictions[i].score)}
                for c in cells
            },
        }
        for i, example in enumerate(results.tasks[name].test)
    ]


def cleaned(value: Any) -> Any:
    """The value with every text such that UTF-8 can hold it."""
    if isinstance(value, str):
        return f.encodable(value)
    if isinstance(value, Mapping):
        return {f.encodable(str(k)): cleaned(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [cleaned(v) for v in value]
    return value
