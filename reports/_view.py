"""A task's results as the page shows them: every cell of its tables as text, its figures, its foot notes.

`html` renders what is built here; `md` uses the same texts, so that all reports agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from breakeven.harness import formats as f
from breakeven.harness import labels, wording
from breakeven.harness.checklist import Item, checklist
from breakeven.harness.families import FAMILY_WORDS, Family, family
from breakeven.harness.pairs import LEVER_WORDS, LeverPair, lever_pairs, shown
from breakeven.harness.results import CellResult, Cost, Results, Row, TaskResult
from breakeven.harness.wording import Told
from breakeven.reports import _effects, _learning, _plots, _retrieval, _search, _svg, _verdict
from breakeven.reports._effects import EffectsView
from breakeven.reports._learning import LearningView
from breakeven.reports._provenance import EFFORT, LedgerTable, ledger_of_task
from breakeven.reports._retrieval import RetrievalView
from breakeven.reports._rows import Standing, best, done, not_done, reference_of, standing
from breakeven.reports._search import SearchView
from breakeven.reports._verdict import VerdictView

STANDING_WORDS: dict[Standing, str] = {
    "better": "better than the reference beyond the interval",
    "worse": "worse than the reference beyond the interval",
    "undecided": "undecided: the interval of the difference includes zero",
    "reference": "the reference",
    "none": "no difference known",
}
STANDING_SIGNS: dict[Standing, str] = {
    "better": "▲",
    "worse": "▼",
    "undecided": "○",
    "reference": "◆",
    "none": "",
}
EFFECT_WORDS = {"better": "helps", "worse": "hurts", "undecided": "undecided"}
#: Where the interval leaves out zero and the test does not support it.
UNSURE_WORDS = {"better": "seems to help", "worse": "seems to hurt", "undecided": "undecided"}
#: Labels in the table of the worst ones.
WORST = 12


@dataclass(frozen=True, slots=True)
class RowView:
    """A line of the result table. `notes` are numbers of the task's foot notes."""

    number: int
    label: str
    family: Family
    symbol: Markup
    is_best: bool
    is_reference: bool
    quality: str
    interval: str
    strip: Markup
    difference: str
    difference_interval: str
    standing: Standing
    won: int
    lost: int
    p: str
    needed: str
    tokens_in: str
    tokens_out: str
    cost: str
    one_off: str
    p50: str
    p95: str
    training: str
    notes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MissingView:
    """A strategy without a result, and why."""

    label: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeverView:
    """What a lever did: the same strategy with and without it."""

    lever: str
    with_it: str
    without: str
    difference: str
    interval: str
    won: int
    lost: int
    effect: str


@dataclass(frozen=True, slots=True)
class TrainingView:
    """The trainings of one strategy: the curve, and a line of facts for each seed."""

    label: str
    curve: Markup | None
    runs: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class PromptView:
    """One rendered prompt of a strategy, where prompts were kept."""

    label: str
    messages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TaskView:
    """Everything the page says of a task."""

    name: str
    task: TaskResult
    told: Told
    decision: VerdictView | None
    checklist: tuple[Item, ...]
    rows: tuple[RowView, ...]
    missing: tuple[MissingView, ...]
    notes: tuple[str, ...]
    priced: str
    reference: str
    against: str
    numbered: bool
    hollow: bool
    plots: tuple[Markup, ...]
    families: tuple[tuple[Markup, str], ...]
    estimated: bool
    methods: str
    tests: str
    detectable: str
    levers: tuple[LeverView, ...]
    learning: LearningView | None
    trainings: tuple[TrainingView, ...]
    search: SearchView | None
    retrieval: RetrievalView | None
    effects: EffectsView | None
    prompts: tuple[PromptView, ...]
    other_metrics: tuple[str, ...]
    other_values: tuple[tuple[str, tuple[str, ...]], ...]
    label_heads: tuple[str, ...]
    label_rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    ledger: LedgerTable
    effort: LedgerTable


@dataclass
class FootNotes:
    """Numbers equal notes once, in the order of their first use."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        text = f.clean(text)
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1


def view(results: Results, name: str) -> TaskView:
    """The view of a task."""
    task, rows, notes = results.tasks[name], done(results, name), FootNotes()
    decision = _verdict.view(results, name)
    top = best(rows, task.primary)
    lines = tuple(_row(r, i, rows, top, task, results.currency, notes) for i, r in enumerate(rows, 1))
    reference = reference_of(rows)
    unpriced = [r for r in rows if r.cost_per_1000.value is None]
    trainings, pairs = (_training(r, name) for r in rows), lever_pairs(results, name)
    unpriced_all = bool(rows) and decision is not None and not decision.quality_plots
    return TaskView(
        name=name,
        task=task,
        told=decision.told if decision else wording.nothing_done(results, name),
        decision=decision,
        checklist=checklist(results, name, decision.case) if decision else (),
        rows=lines,
        missing=tuple(_missing(r) for r in not_done(results, name)),
        notes=tuple(notes.texts),
        priced=f"{len(rows) - len(unpriced)} of {len(rows)} priced" if unpriced else "",
        reference=f.clean(reference.label) if reference else f.clean(results.reference(name)),
        against="tokens" if rows and len(unpriced) == len(rows) else "cost",
        numbered=_plots.numbered(rows),
        hollow=any(r.cost_per_1000.status == "estimated" for r in rows),
        plots=tuple(_plots.quality_against_cost(rows, task.primary, results.currency))
        if unpriced_all
        else (),
        families=tuple(
            (_svg.symbol(k), FAMILY_WORDS[k]) for k in FAMILY_WORDS if any(family(r) == k for r in rows)
        ),
        estimated=any("≈" in x for r in lines for x in (r.cost, r.one_off)),
        methods=f.names(list(dict.fromkeys(r.interval.method for r in rows if r.interval is not None))),
        tests=_tests(rows),
        detectable=_detectable(rows, task),
        levers=tuple(_lever(p, task, firm) for p, firm in zip(pairs, shown(task, pairs), strict=True)),
        learning=_learning.view(results, name),
        trainings=tuple(t for t in trainings if t is not None),
        search=_search.view(rows, task.primary),
        retrieval=_retrieval.view(rows, task),
        effects=_effects.view(results, name),
        prompts=tuple(_prompts(rows)),
        other_metrics=tuple(m.name for m in task.metrics[1:]),
        other_values=tuple((f.clean(r.label), _others(r, task)) for r in rows),
        label_heads=tuple(f.clean(r.label) for r in rows) if task.choices is not None else (),
        label_rows=tuple(_labels(rows, task, decision.chosen if decision else "")),
        ledger=ledger_of_task(results, name),
        effort=ledger_of_task(results, name, EFFORT),
    )


def _row(
    row: Row,
    number: int,
    rows: Sequence[Row],
    top: Row | None,
    task: TaskResult,
    currency: str,
    notes: FootNotes,
) -> RowView:
    metric = task.primary
    between = row.difference_interval
    difference = "" if row.difference is None else f.signed(row.difference, metric)
    said = [*row.notes, row.reason]
    said += [i.note for i in (row.interval, row.difference_interval) if i is not None]
    said += [c.note for c in (row.cost_per_1000, row.one_off)]
    return RowView(
        number=number,
        label=f.clean(row.label),
        family=family(row),
        symbol=_svg.symbol(family(row)),
        is_best=row is top,
        is_reference=row.is_reference and row.difference is None,
        quality=f.quality(row.quality, metric),
        interval=f.interval(row.interval.low, row.interval.high, metric) if row.interval else f.UNKNOWN,
        strip=_plots.interval_strip(row, rows, metric),
        difference=difference,
        difference_interval=f.signed_interval(between.low, between.high, metric)
        if between and difference
        else "",
        standing=standing(row, metric),
        won=row.won,
        lost=row.lost,
        p=f.p_value(row.p_adjusted) if row.p_adjusted is not None else "",
        needed=row.needed,
        tokens_in=_tokens(row.input_tokens),
        tokens_out=_tokens(row.output_tokens),
        cost=_cost(row.cost_per_1000, currency),
        one_off=_cost(row.one_off, currency),
        p50=f.seconds(row.latency[0] if row.latency else None),
        p95=f.seconds(row.latency[1] if row.latency else None),
        training=f.seconds(row.training_seconds) if row.training_seconds else f.DASH,
        notes=tuple(sorted({notes.number(n) for n in said if n})),
    )


def _tests(rows: Sequence[Row]) -> str:
    """What the p values are of, in words; nothing where there are none."""
    tested = [r for r in rows if r.p_adjusted is not None]
    if not tested:
        return ""
    tests = f.names(list(dict.fromkeys(r.test for r in tested)))
    many = f", adjusted for {len(tested)} comparisons (Holm)" if len(tested) > 1 else ""
    return (
        f"p: how often so large a difference comes by chance where there is none ({tests}{many}). "
        "Intervals are each for itself, not adjusted: one may leave out zero where p is not small, and its "
        "▲ or ▼ is then not shown beyond chance."
    )


def _detectable(rows: Sequence[Row], task: TaskResult) -> str:
    """The difference to the reference that these examples show, in the middle of the comparisons."""
    found = [r.detectable for r in rows if r.detectable is not None]
    if not found:
        return ""
    least = f.quality(float(np.median(found)), task.primary)
    return (
        f"With these examples a difference of {least} to the reference is found four times in five; smaller "
        "ones are often missed."
    )


def _tokens(value: float | None) -> str:
    return f.DASH if value == 0 else f.count(value)


def _cost(cost: Cost, currency: str) -> str:
    text = f.money(cost.value, currency)
    return f"≈ {text}" if cost.status == "estimated" and cost.value is not None else text


def _missing(row: Row) -> MissingView:
    reasons = [r for r in dict.fromkeys([row.reason, *(c.reason for c in row.cells)]) if r]
    return MissingView(
        f.clean(row.label), row.state.replace("-", " "), f.clean("; ".join(reasons)) or "no reason given"
    )


def _lever(pair: LeverPair, task: TaskResult, firm: bool) -> LeverView:
    d = pair.difference
    return LeverView(
        LEVER_WORDS[pair.lever],
        f.clean(pair.with_it.label),
        f.clean(pair.without.label),
        f.signed(d.value, task.primary),
        f.signed_interval(d.interval.low, d.interval.high, task.primary),
        d.won,
        d.lost,
        (EFFECT_WORDS if firm else UNSURE_WORDS)[pair.effect(task.primary)],
    )


# --- training --------------------------------------------------------------------------------


def _training(row: Row, task: str) -> TrainingView | None:
    cells = [c for c in row.cells if c.training is not None]
    if not cells:
        return None
    label = f.clean(row.label)
    curve = _plots.training_curve(cells, f"{task}, {label}")
    return TrainingView(label, curve, tuple((_seed(c), tuple(_training_facts(c))) for c in cells))


def _seed(cell: CellResult) -> str:
    return f"seed {cell.seed}" if cell.seed is not None else "the only training"


def _training_facts(cell: CellResult) -> Iterator[tuple[str, str]]:
    t = cell.training or {}
    losses, validation = t.get("losses") or [], t.get("validation_losses") or []
    yield "steps", f.count(t.get("steps"))
    yield "epochs", f.count(t.get("epochs"))
    yield "examples", f.count(t.get("examples"))
    if "truncated" in t:  # an encoder has no answers that could be cut, lost or unended
        yield "truncated", f.count(t.get("truncated"))
        yield "left out", f.count(t.get("dropped"))
    yield "tokens", f.count(t.get("training_tokens"))
    yield "time", f.seconds(t.get("seconds"))
    yield "last loss", f"{losses[-1][1]:.3f}" if losses else f.UNKNOWN
    if "truncated" in t:
        yield "validation loss", f"{validation[-1][1]:.3f}" if validation else f.UNKNOWN
        yield "answers that ended", f.share(t["stop_rate"]) if t.get("stop_rate") is not None else f.UNKNOWN
    yield "trainable parameters", f.large(t.get("trainable_parameters"))
    yield "peak memory", f.large(t.get("peak_bytes"), "B")


# --- prompts ---------------------------------------------------------------------------------


def _prompts(rows: Sequence[Row]) -> Iterator[PromptView]:
    for row in rows:
        prompt = next((p.prompt for c in row.cells for p in c.predictions if p.prompt), None)
        if prompt:
            messages = tuple(
                (f.clean(str(m.get("role", ""))), f.plain(m.get("content", ""))[:6000]) for m in prompt
            )
            yield PromptView(f.clean(row.label), messages)


def _labels(rows: Sequence[Row], task: TaskResult, choice: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(label, its test examples, right answers of each strategy) of the labels the choice errs most on."""
    if not rows or task.choices is None:
        return
    chosen = next((r for r in rows if f.clean(r.label) == choice), rows[0])
    shares = [{x.label: x.right for x in labels.by_label(r, task)} for r in rows]
    for x in labels.by_label(chosen, task)[:WORST]:
        yield f.clean(x.label), f"{x.examples:,}", tuple(f.percent(s[x.label]) for s in shares)


def _others(row: Row, task: TaskResult) -> tuple[str, ...]:
    values = []
    for metric in task.metrics[1:]:
        found = [c.aggregates[metric.name] for c in row.cells if metric.name in c.aggregates]
        values.append(f.quality(sum(found) / len(found) if found else None, metric))
    return tuple(values)
