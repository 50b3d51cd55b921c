"""A run as plain numbers: what `csv` and `json` write.

Numbers are not rounded, unknown is null (an empty field in CSV), and units are in the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from breakeven.harness import cases, evidence, trials, wording
from breakeven.harness import formats as f
from breakeven.harness.decision import Case
from breakeven.harness.evidence import text
from breakeven.harness.families import family
from breakeven.harness.ledger import PHASES
from breakeven.harness.pairs import lever_pairs
from breakeven.harness.probe import Probe
from breakeven.harness.results import DONE, CellResult, Cost, MetricInfo, Results, Row
from breakeven.harness.stats import Interval
from breakeven.reports import _effects, _learning, _predicted, _provenance, _search
from breakeven.reports._rows import best, done, reference_of, standing

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
        "p": row.p,
        "p_adjusted": row.p_adjusted,
        "test": row.test or None,
        "detectable_difference": row.detectable,
        "examples_needed": row.needed or None,
        "input_tokens_per_request": row.input_tokens,
        "output_tokens_per_request": row.output_tokens,
        "currency": results.currency,
        **_cost("cost_per_1000_requests", row.cost_per_1000),
        **_cost("one_off_cost", row.one_off),
        "latency_p50_seconds": row.latency[0] if row.latency else None,
        "latency_p95_seconds": row.latency[1] if row.latency else None,
        "training_seconds": row.training_seconds,
        "validation_trials": trials.count(row) if row.quality is not None else None,
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
        "reference": results.info.get("reference"),
        "currency": results.currency,
        "tasks": {name: task_facts(results, name) for name in results.tasks},
        "prices": {"as_of": _provenance.prices(results)[0], "used": _provenance.price_book(results)},
        "probes": [_probe(p) for p in results.probes],
        "predicted": _predicted.facts(results),
        "unknown": _provenance.unknowns(results),
        "lost": _provenance.lost(results),
    }


def _probe(probe: Probe) -> Facts:
    """Where the priced seconds come from, without the fitted speeds."""
    made = probe.to_json()
    return {k: v for k, v in made.items() if k not in ("speeds", "training_speeds")}


def task_facts(results: Results, name: str) -> Facts:
    """A task: its data, what came out in words and in rows, what each lever did, every cell's consumption."""
    task = results.tasks[name]
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
        "verdict": _verdict(results, name),
        "rows": [row_facts(results, name, row) for row in results.tables[name]],
        "levers": [
            {
                "lever": pair.lever,
                "with": pair.with_it.label,
                "without": pair.without.label,
                "difference": pair.difference.value,
                "low": pair.difference.interval.low,
                "high": pair.difference.interval.high,
                "effect": pair.effect(task.primary),
            }
            for pair in lever_pairs(results, name)
        ],
        "learning": _learning.facts(results, name),
        "searches": _search.facts(results, name),
        "side_effects": _effects.facts(results, name),
        "cells": [_cell(c) for c in results.cells_of(name)],
    }


def _verdict(results: Results, name: str) -> Facts:
    """The decision in words and numbers; strategies by their labels."""
    case = cases.of_task(results, name)
    if case is None:
        return _words(wording.nothing_done(results, name))
    told = wording.told(case, evidence.of_task(results, name, case))
    verdict = told.verdict
    assert verdict is not None
    labels = [c.label for c in case.candidates]

    def called(i: int | None) -> str | None:
        return None if i is None else labels[i]

    flips = told.flipped
    return {
        **_words(told),
        "kind": verdict.kind,
        "mode": verdict.mode,
        "choice": called(verdict.choice),
        "confidence": None if case.alone else verdict.confidence,
        "runner_up": called(verdict.rival),
        "optimism": verdict.optimism,
        "worth_of_testing": verdict.worth_of_testing,
        "requests_per_month": case.knobs.requests,
        "horizon_months": case.knobs.months,
        "value_per_correct": case.knobs.value,
        "left_out": {labels[i]: list(why) for i, why in case.dropped.items()},
        "strategies": {label: _owned(case, i) for i, label in enumerate(labels)},
        "best": dict(zip(labels, verdict.best, strict=True)),
        "regret": dict(zip(labels, verdict.regret, strict=True)),
        "thresholds": [
            {"knob": x.knob, "side": x.side, "at": x.at, "to": called(x.to), "low": x.low, "high": x.high,
             "never": x.never}
            for x in (flips.thresholds if flips else ())
        ],
        "break_even": [
            {"strategy": called(x.other), "cheaper": [list(v) for v in x.volumes.intervals], "low": x.low,
             "high": x.high, "never": x.never, "shown_no_worse": x.proven}
            for x in (flips.break_evens if flips else ())
        ],
    }  # fmt: skip


def _owned(case: Case, i: int) -> Facts:
    """What a strategy costs, in the run's currency."""
    own, economics, knobs = case.candidates[i].ownership, case.economics, case.knobs
    known = own.known
    return {
        "correct": float(case.draws.worth_mean[i]),
        "no_worse": float(case.not_worse[i]),
        "cash_now": own.cash_now(knobs) if known else None,
        "first_month": own.month(economics, knobs) if known else None,
        "year_one": own.year_one(economics, knobs) if known else None,
        "horizon": case.cost(i, knobs) if known else None,
        "lines": [
            {"what": x.what, "when": x.when, "scales_with": x.part, "value": x.value, "known": x.known,
             "source": x.source}
            for x in own.lines
        ],
    }  # fmt: skip


def _words(told: wording.Told) -> Facts:
    return {
        "question": told.question,
        "answer": told.answer,
        "text": text(told.lead),
        "basis": text(told.basis),
        **{
            head.lower().replace(" ", "_") + "_sentences": [text(s) for s in sentences]
            for head, sentences in told.sections()
        },
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
