"""The result tables as Markdown, to paste into an issue or a pull request.

One table per task, its answer in words above, below it what has no result and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from breakeven.harness import deployments, probed
from breakeven.harness import formats as f
from breakeven.harness.evidence import Name, Sentence
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import Results
from breakeven.reports import _predicted
from breakeven.reports._effects import EffectsView
from breakeven.reports._learning import LearningView
from breakeven.reports._predicted import PredictedView
from breakeven.reports._provenance import place
from breakeven.reports._retrieval import RetrievalView
from breakeven.reports._search import SearchView
from breakeven.reports._view import STANDING_SIGNS, RowView, TaskView, view

_MARKUP = re.compile(r"([\\`*\[\]<>#|~&]|(?<!\w)_|_(?!\w))")


def md(results: Results, *, examples: bool = True) -> str:
    """The tables. Examples are no part of it."""
    lines = [f"# {escaped(results.name)}", ""]
    for alarm in deployments.alarms(results.folder, Pricing(results).book):
        lines += [f"**{escaped(alarm)}.**", ""]
    for name in results.tasks:
        lines += _task(view(results, name))
    lines += [
        "Scores with 95 % intervals; ▲ ▼ better or worse than the reference beyond the interval of the "
        "paired difference, ○ undecided. Intervals are each for itself, not adjusted for the number of "
        "comparisons. ≈ estimated.",
        "",
        *_priced_by_probes(results),
        *_foreseen(_predicted.view(results)),
        f"Made with `breakeven run {_code(f'{place(results)}/suite.yaml')}`.",
    ]
    return "\n".join(lines) + "\n"


def _priced_by_probes(results: Results) -> Iterator[str]:
    """Where priced seconds come from, if not from the run."""
    if results.probes:
        yield escaped(
            f"Priced with the seconds of {probed.said(results.probes)}; {probed.latencies(results)}."
        )
        yield ""


def _foreseen(found: PredictedView | None) -> Iterator[str]:
    """An estimate beside what the run took, if there is one."""
    if found is None:
        return
    yield "## Predicted against actual"
    yield ""
    yield f"{escaped(found.made)} Predicted → actual (ratio)."
    yield ""
    if found.lines:
        yield _line(["Task", "Strategy", "Cells", *(q.capitalize() for q in _predicted.QUANTITIES)])
        yield "|---|---|" + "--:|" * (1 + len(_predicted.QUANTITIES))
        for line in found.lines:
            who = [escaped(line.task), escaped(line.strategy)] if line.task else ["**the whole run**", ""]
            yield _line([*who, str(line.cells), *(f"{a} → {b} ({ratio})" for a, b, ratio in line.amounts)])
        yield ""
    yield from (f"- {escaped(note)}" for note in found.notes)
    if found.notes:
        yield ""


def _task(t: TaskView) -> Iterator[str]:
    metric = t.task.primary
    yield f"## {escaped(t.name)}"
    yield ""
    yield f"**{escaped(t.told.question)} {_sentence(t.told.lead)}**"
    yield ""
    if t.told.basis:
        yield _sentence(t.told.basis)
        yield ""
    said = [(head, s) for head, sentences in t.told.sections() for s in sentences]
    yield from (f"- *{head}:* {_sentence(s)}" for head, s in said)
    if said:
        yield ""
    if t.rows:
        arrow = "↑" if metric.higher_is_better else "↓"
        yield _line(
            [
                "Strategy",
                f"{escaped(metric.name)} {arrow}",
                "95 %",
                f"− {escaped(t.reference)}",
                "95 %",
                "Tokens in/out",
                "Cost of 1,000",
                "One-off",
                "p50/p95",
                "Training",
                "Notes",
            ]
        )
        yield "|---|" + "--:|" * 9 + "---|"
        yield from (_line(_cells(row)) for row in t.rows)
        yield ""
        yield f"{f.plural(len(t.task.test), 'test example')}{f', {t.priced}' if t.priced else ''}."
        yield ""
        yield from (f"{i}. {escaped(note)}" for i, note in enumerate(t.notes, 1))
        yield ""
    if t.learning is not None:
        yield from _learning(t.learning)
    if t.search is not None:
        yield from _search(t.search)
    if t.retrieval is not None and t.retrieval.cells:
        yield from _retrieval(t.retrieval, t.task.primary.name)
    if t.effects is not None:
        yield from _effects(t.effects)
    if t.missing:
        yield "Without a result:"
        yield ""
        yield from (f"- {escaped(m.label)}: {m.state}: {escaped(m.reason)}" for m in t.missing)
        yield ""


def _learning(found: LearningView) -> Iterator[str]:
    yield "### Learning curves"
    yield ""
    yield _line(["Strategy", *(f"n={size}" for size in found.sizes), "any number"])
    yield "|---|" + "--:|" * (len(found.sizes) + 1)
    for line in found.lines:
        cells = [*(line.cells or (("", ""),) * len(found.sizes)), line.flat or ("", "")]
        yield _line([escaped(line.label), *(f"{q} ({between})" if between else q for q, between in cells)])
    yield ""
    yield from (f"- {_sentence(s)}" for s in found.sentences)
    yield ""


def _search(found: SearchView) -> Iterator[str]:
    yield "### Settings chosen on validation"
    yield ""
    heads = ["Strategy", "Fit", "Candidate", f"Validation {escaped(found.metric)}", "Validation loss"]
    yield _line([*heads, "Tokens trained", "Tokens of answers", "Outcome"])
    yield "|---|---|---|" + "--:|" * 4 + "---|"
    for x in found.lines:
        outcome = f"**{x.outcome}**" if x.is_chosen else x.outcome
        yield _line(
            [escaped(x.label), x.fit, escaped(x.settings), x.score, x.loss, x.trained, x.answered, outcome]
        )
    yield ""
    yield from (f"- {escaped(s)}" for s in found.sentences)
    yield ""


def _retrieval(found: RetrievalView, metric: str) -> Iterator[str]:
    yield "### Retrieval"
    yield ""
    yield _line(["Strategy", *(head for head, _ in found.heads), "floor", escaped(metric), "ceiling"])
    yield "|---|" + "--:|" * (len(found.heads) + 3)
    for c in found.cells:
        counts = [f"{count} ({share})" for count, share in c.counts]
        yield _line([escaped(c.label), *counts, c.floor, c.quality, c.ceiling])
    yield ""
    if found.stages:
        yield _line(["Strategy", "Stage", *found.measures])
        yield "|---|---|" + "--:|" * len(found.measures)
        for s in found.stages:
            yield _line([escaped(s.label), s.stage, *(f"{value} ({i})" for value, i in s.numbers)])
        yield ""
    overflowed = [(s.label, s.overflowed) for s in found.shown if s.overflowed != f.DASH]
    yield from (f"- {escaped(label)}: {n} answers had passages left out" for label, n in overflowed)
    yield from [""] if overflowed else []


def _effects(found: EffectsView) -> Iterator[str]:
    yield "### Side effects of tuning"
    yield ""
    if found.lines:
        heads = ["Tuned", "Asked", "Metric", "Examples", "Before", "After", "Difference", "95 %", "Effect"]
        yield _line(heads)
        yield "|---|---|---|" + "--:|" * 5 + "---|"
    for x in found.lines:
        named = [escaped(x.label), escaped(x.on), escaped(x.metric)]
        numbers = [x.examples, x.before, x.after, x.change, x.interval]
        yield _line([*named, *numbers, f"{x.sign} {x.word}"])
    if found.lines:
        yield ""
    for remark in found.remarks:
        yield escaped(remark)
        yield ""


def _cells(row: RowView) -> list[str]:
    difference = f"{row.difference} {STANDING_SIGNS[row.standing]}" if row.difference else ""
    return [
        f"**{escaped(row.label)}**" if row.is_best else escaped(row.label),
        row.quality,
        row.interval,
        "reference" if row.is_reference else difference,
        row.difference_interval,
        f"{row.tokens_in} / {row.tokens_out}",
        row.cost,
        row.one_off,
        f"{row.p50} / {row.p95}",
        row.training,
        " ".join(f"[{n}]" for n in row.notes),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _sentence(parts: Sentence) -> str:
    return "".join(f"`{_code(p)}`" if isinstance(p, Name) else escaped(p) for p in parts)


def _code(text: str) -> str:
    return re.sub(r"[`\s]+", " ", f.clean(text)).strip()


def escaped(text: str) -> str:
    """Text from data on one line, with everything that Markdown or HTML would take for markup escaped."""
    return _MARKUP.sub(r"\\\1", re.sub(r"\s+", " ", f.clean(text)))
