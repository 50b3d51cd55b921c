"""What the words of a verdict rest on beside its numbers: measured texts that no knob changes.

Gathered once for a task; `wording` makes sentences of it, on the page of a report again for every turn of a
knob. Sentences are tuples of plain strings and `Name`s, so that each report marks and escapes names in its
own way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from breakeven.harness import cases, labels, probed
from breakeven.harness import formats as f
from breakeven.harness.breakdown import lines
from breakeven.harness.decision import Case
from breakeven.harness.families import is_tuned, reads_documents
from breakeven.harness.pairs import compare, lever_pairs, shown
from breakeven.harness.pricing import HERE, Pricing
from breakeven.harness.results import MetricInfo, Results, Row, TaskResult

Sentence = tuple[str, ...]


class Name(str):
    """The label of a strategy within a sentence."""

    __slots__ = ()


def text(sentence: Sequence[str]) -> str:
    return "".join(sentence)


@dataclass(frozen=True)
class Evidence:
    """Texts about a task and its candidates; sequences are in the order of the case's candidates.

    `pairs[i][j]` says how much more quality i has than j, with interval and examples won and lost,
    `gaps[i][j]` the difference alone, `leads[i][j]` it and its interval. `machines` and `hosted`: whether any
    cost scales with the price of machines, or of tokens; `hour` is the only machine and the price of its
    hour, None where there are more. `again` is what labelling as many test examples once more would cost.
    """

    task: str
    metric: MetricInfo
    currency: str
    labels: tuple[str, ...]
    quality: tuple[str, ...]
    ranges: tuple[str, ...]
    ends: tuple[tuple[float | None, float | None], ...]
    correct: tuple[str, ...]
    graded: bool
    worst: tuple[str, ...]
    pairs: tuple[tuple[str, ...], ...]
    gaps: tuple[tuple[str, ...], ...]
    leads: tuple[tuple[str, ...], ...]
    tuning: bool
    floor: str
    margin: str
    machines: bool
    hour: tuple[str, float] | None
    hosted: bool
    hosts: tuple[str, ...]
    test_examples: int
    again: float
    again_assumed: bool
    hurts: tuple[Sentence, ...]
    left_out: tuple[Sentence, ...]
    provenance: tuple[str, ...]


def of_task(results: Results, name: str, case: Case) -> Evidence:
    """The evidence of a task whose case is given."""
    task, pricing = results.tasks[name], Pricing(results)
    rows: list[Row | None] = list(cases.contenders(results.tables[name]))
    rows += [None] * (len(case.candidates) - len(rows))  # an incumbent as stated has no row
    metric, economics = task.primary, case.economics
    pairs = _pairs(case, rows, task)
    machine = None if economics.machines or economics.deployments else pricing.machine
    parts = {line.part for c in case.candidates for line in lines(c.ownership)}
    worst = [labels.worst(row, task) if row else None for row in rows]
    right = case.draws.worth_mean
    worst = [x if x and x.right < right[i] else None for i, x in enumerate(worst)]
    people = economics.people
    again = len(task.test) * people.label_minutes / 60 * people.hourly_rate
    return Evidence(
        task=f.clean(name),
        metric=metric,
        currency=economics.currency,
        labels=tuple(f.clean(c.label) for c in case.candidates),
        quality=tuple(
            f.quality(row.quality if row else float(q), metric)
            for row, q in zip(rows, case.draws.score_mean, strict=True)
        ),
        ranges=tuple(_range(row, metric) for row in rows),
        ends=tuple((r.interval.low, r.interval.high) if r and r.interval else (None, None) for r in rows),
        correct=tuple(f.percent(float(w)) for w in case.draws.worth_mean),
        graded=not np.allclose(case.draws.score_mean, case.draws.worth_mean),
        worst=tuple(f"{f.clean(x.label)} {f.percent(x.right)} (n={x.examples})" if x else "" for x in worst),
        pairs=pairs[0],
        gaps=pairs[1],
        leads=pairs[2],
        tuning=any(is_tuned(c.family) for c in case.candidates),
        floor="" if economics.quality_floor is None else f.quality(economics.quality_floor, metric),
        margin=f.quality(economics.margin, metric),
        machines="machine" in parts,
        hour=(f.clean(machine.name), machine.price) if machine is not None else None,
        hosted="tokens" in parts,
        hosts=tuple("in-house" if c.host == HERE else f.clean(c.host) for c in case.candidates),
        test_examples=len(task.test),
        again=again,
        again_assumed=economics.assumed("people.label_minutes") or economics.assumed("people.hourly_rate"),
        hurts=tuple(_hurts(results, name)),
        left_out=(*_dropped(case, metric, results), *absent(results, name)),
        provenance=tuple(_provenance(results, task, case, pricing)),
    )


def _range(row: Row | None, metric: MetricInfo) -> str:
    return f.interval(row.interval.low, row.interval.high, metric) if row and row.interval else ""


def _pairs(
    case: Case, rows: Sequence[Row | None], task: TaskResult
) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """`pairs`, `gaps` and `leads` of the evidence."""
    n, metric = len(rows), task.primary
    said = [[""] * n for _ in range(n)]
    gaps = [[""] * n for _ in range(n)]
    leads = [[""] * n for _ in range(n)]
    for i in range(n):
        for j in range(i):
            a, b = rows[i], rows[j]
            found = compare(task, a, b) if a and b else None
            won: int | None = None
            lost: int | None = None
            if found is not None:
                value, low, high = found.value, found.interval.low, found.interval.high
                won, lost = found.won, found.lost
            else:
                value = float(case.draws.score_mean[i] - case.draws.score_mean[j])
                drawn = case.draws.score[i] - case.draws.score[j]
                low, high = (float(x) for x in np.quantile(drawn, [0.025, 0.975]))
            gaps[i][j], said[i][j] = f.signed(value, metric), _pair(value, low, high, won, lost, metric)
            gaps[j][i], said[j][i] = f.signed(-value, metric), _pair(-value, -high, -low, lost, won, metric)
            leads[i][j] = f"{gaps[i][j]} ({f.signed_interval(low, high, metric)})"
            leads[j][i] = f"{gaps[j][i]} ({f.signed_interval(-high, -low, metric)})"
    return tuple(tuple(map(tuple, found)) for found in (said, gaps, leads))


def _pair(
    value: float, low: float, high: float, won: int | None, lost: int | None, metric: MetricInfo
) -> str:
    counts = "" if won is None else f", {won:,} won, {lost:,} lost"
    return (
        f"{f.signed(value, metric)} {f.clean(metric.name)} ({f.signed_interval(low, high, metric)}){counts}"
    )


def _hurts(results: Results, name: str) -> Iterator[Sentence]:
    """Says so when a strategy is worse than the same one without fine-tuning or retrieval.

    By the interval; "seems to" where the test, adjusted for the number of pairs, does not show it.
    """
    task, metric = results.tasks[name], results.tasks[name].primary
    pairs = lever_pairs(results, name)
    words = {"weights": "Fine-tuning", "context": "Retrieval"}
    for pair, firm in zip(pairs, shown(task, pairs), strict=True):
        if pair.lever in words and pair.effect(metric) == "worse":
            d = pair.difference
            what = words[pair.lever]
            if pair.lever == "weights" and reads_documents(pair.with_it) == "documents":
                what = "Training on the documents"
            said = _pair(d.value, d.interval.low, d.interval.high, d.won, d.lost, metric)
            yield (
                f"{what} {'hurts' if firm else 'seems to hurt'}: ",
                Name(f.clean(pair.with_it.label)),
                " minus ",
                Name(f.clean(pair.without.label)),
                f": {said}.",
            )


# --- who is not ranked -----------------------------------------------------------------------


def _dropped(case: Case, metric: MetricInfo, results: Results) -> Iterator[Sentence]:
    e = case.economics
    where = " on the run's own machine" if results.probes else ""
    for i, reasons in case.dropped.items():
        candidate = case.candidates[i]
        p95 = "unknown" if candidate.p95 is None else f.seconds(candidate.p95)
        words = {
            "floor": f"{f.clean(metric.name)} {f.quality(float(case.draws.score_mean[i]), metric)} misses "
            f"your floor of {f.quality(e.quality_floor, metric)}",
            "latency": f"its p95{where} is {p95}, your ceiling {f.seconds(e.latency_ceiling)}",
            "host": f"its data would go to {f.clean(candidate.host)}, which you exclude",
            "cost": f"what it costs is not known: {f.clean('; '.join(candidate.ownership.missing))}",
        }
        why = "; ".join(words[reason] for reason in reasons)
        yield Name(f.clean(candidate.label)), f" is left out: {why}."


def absent(results: Results, name: str) -> Iterator[Sentence]:
    """Who is not ranked although the suite asked for it: no result, or a smaller training size."""
    rows = results.tables[name]
    for row in rows:
        if row.quality is None and row.state != "not-applicable":
            reason = f.clean(row.reason) or "no reason given"
            state = "failed" if row.state == "failed" else "has no result"
            yield Name(f.clean(row.label)), f" {state}, not ranked: {_shortened(reason)}."
    reference, shown = f.clean(results.reference(name)), [r for r in rows if r.quality is not None]
    if reference and shown and not any(r.is_reference for r in shown):
        yield "Nothing is compared with ", Name(reference), ": the reference has no result in this run."
    ranked = cases.contenders(rows)
    smaller = {r.train_size for r in rows if r.quality is not None and not any(r is x for x in ranked)}
    if smaller:
        sizes = f.names([f"n={size:,}" for size in sorted(smaller)])
        yield (
            f"Smaller training sizes ({sizes}) are not ranked: each strategy is judged at its largest; they "
            "are in the learning curves.",
        )


def _shortened(reason: str, limit: int = 160) -> str:
    reason = " ".join(reason.split()).rstrip(".")
    return reason if len(reason) <= limit else f"{reason[:limit]}…"


def _provenance(results: Results, task: TaskResult, case: Case, pricing: Pricing) -> Iterator[str]:
    """What a reader must know of the numbers, in a few words each."""
    seeds = len(results.suite.get("seeds") or []) or 1
    yield f"{f.plural(len(task.test), 'test example')}, {f.plural(seeds, 'seed')}"
    used = [p for entries in pricing.used().values() for p in entries.values()]
    if used:
        dated = sum(1 for p in used if p.get("date"))
        yield f"{dated} of {f.plural(len(used), 'price')} dated"
    known = [line for c in case.candidates for line in c.ownership.lines]
    projected = any(line.known == "estimated" and line.part == "machine" for line in known)
    if results.probes:
        yield f.clean(f"seconds by {probed.said(results.probes)}{', in part estimated' if projected else ''}")
        ceiling = case.economics.latency_ceiling is not None
        held = "; your latency ceiling is held against those latencies" if ceiling else ""
        yield f.clean(f"{probed.latencies(results)}{held}")
    elif projected and pricing.machine:
        yield f"seconds measured on the run's machine, projected to {f.clean(pricing.machine.name)}"
    if any(line.known == "assumed" for line in known):
        yield "people's hours and rate are assumed where the suite gives none"
