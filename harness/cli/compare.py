"""`breakeven compare`: two runs side by side, on a terminal, as Markdown for a pull request, or as JSON."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from breakeven.harness import formats as f
from breakeven.harness import results
from breakeven.harness._verdicts import BY_WORDS, Decided
from breakeven.harness.cli.tables import money
from breakeven.harness.comparing import Change, Comparison, Limits, RowComparison, TaskComparison
from breakeven.harness.comparing import compare as compared
from breakeven.harness.errors import UserError
from breakeven.harness.results import Cost, Row

FORMAT = "breakeven-compare/1"
#: Inputs that are named beside a verdict that changed.
NAMED = 8
COLUMNS = ("quality", "change (95 %)", "per 1,000", "one-off", "p95 s")


def compare(
    before: Path,
    after: Path,
    format: str,
    quality_drop: float | None,
    cost_rise: float | None,
    verdict: bool = False,
) -> int:
    """Print what changed; the exit code is 1 when a threshold is passed."""
    writers = {"text": text, "md": markdown, "json": as_json}
    if format not in writers:
        raise UserError(
            f"there is no format '{format}'", field="--format", hint=f"one of {', '.join(writers)}"
        )
    found = compared(results.load(before), results.load(after), Limits(quality_drop, cost_rise, verdict))
    print(writers[format](found).rstrip("\n"))
    return 1 if found.crossed else 0


# --- what is said in both --------------------------------------------------------------------


def _title(found: Comparison) -> str:
    return f"{found.before.name} → {found.after.name}"


def _cells(row: RowComparison) -> list[str]:
    """The columns of a row, in the order of `COLUMNS`."""
    sides = (row.before, row.after)
    return [
        _arrow(_quality(row.quality.before, row.before), _quality(row.quality.after, row.after)),
        _difference(row),
        _moved(row.cost, *(r.cost_per_1000 if r else None for r in sides)) + _percent(row.cost),
        _moved(row.one_off, *(r.one_off if r else None for r in sides)),
        _arrow(*("?" if v is None else f"{v:.3g}" for v in (row.p95.before, row.p95.after)))
        + _percent(row.p95),
    ]


def _arrow(before: str, after: str) -> str:
    return after if before == after else f"{before} → {after}"


def _quality(value: float | None, row: Row | None) -> str:
    if row is None:
        return "-"
    if value is None:
        value = row.quality
    return row.state if value is None else f"{value:.3f}"


def _difference(row: RowComparison) -> str:
    if row.quality.difference is None:
        return ""
    if row.unchanged:
        return "same outputs"
    if row.interval is None:
        return f"{row.quality.difference:+.3f} (?)"
    return f"{row.quality.difference:+.3f} ({row.interval.low:+.3f}..{row.interval.high:+.3f})"


def _moved(change: Change, before: Cost | None, after: Cost | None) -> str:
    """Two amounts as in the tables; one where they are the same to the last digit."""
    shown = [money(cost) if cost is not None else "-" for cost in (before, after)]
    return shown[1] if change.difference == 0 else _arrow(*shown)


def _percent(change: Change) -> str:
    relative = change.relative
    if relative is None or math.isinf(relative) or abs(relative) < 0.0005:
        return ""
    return f" {100 * relative:+.3g} %"


def _shown(task: TaskComparison) -> list[RowComparison]:
    """The rows without those that apply in neither run."""
    states = [{r.state for r in (row.before, row.after) if r is not None} for row in task.rows]
    return [row for row, found in zip(task.rows, states, strict=True) if found != {"not-applicable"}]


def _remarks(row: RowComparison) -> Iterator[str]:
    """Why a row changed, or that nothing recorded says so; what could not be compared."""
    if row.before is None or row.after is None:
        yield f"only in the {'second' if row.before is None else 'first'} run"
        return
    yield from row.why
    if row.outputs_changed:
        said = f"{row.outputs_changed} of {row.outputs} outputs differ"
        yield said if row.why else f"{said}, though its settings and model are the same"
    if row.won or row.lost:
        yield f"better on {row.won} examples, worse on {row.lost}"
    yield from row.notes


def _only(found: Comparison) -> Iterator[str]:
    for side, run in (("before", found.before), ("after", found.after)):
        if found.only_in[side]:
            yield f"only in {run.name}: {', '.join(found.only_in[side])}"


def _decided(found: Decided | None) -> str:
    """`UNDECIDED, leaning to lora, sure in 71.2 % of draws`."""
    if found is None:
        return "no result"
    if found.choice is None:
        return f"{found.answer}, nothing is left to choose"
    word = {"undecided": "ahead is", "stay": "stay with", "choose": "take", "nothing": ""}[found.kind]
    said = f"{word} {found.choice}, right in {f.percent(found.confidence)} of draws"
    return f"{found.answer}, {said}" if found.answer else said


def _verdicts(task: TaskComparison) -> list[str]:
    """The verdict of both runs in a line; if it changed, what turned it and which inputs differ in others."""
    v = task.verdict
    if not v.changed:
        now = "" if v.before == v.after else f"; before, in {_confidence(v.before)}"
        return [f"verdict: same: {_decided(v.after)}{now}"]
    lines = [f"verdict: changed: {_decided(v.before)} → {_decided(v.after)}"]
    if v.by:
        lines.append(f"why: {BY_WORDS[v.by]}")
    more = [f"{len(v.why) - NAMED} more, listed with the runs and strategies"] if len(v.why) > NAMED else []
    differs = "; ".join([*v.why[:NAMED], *more])
    return [*lines, f"inputs that differ: {differs or 'none on record; seconds were measured anew'}"]


def _confidence(found: Decided | None) -> str:
    return f.percent(found.confidence) if found is not None else "no result"


def _verdict(found: Comparison) -> list[str]:
    """What the thresholds say; nothing where none was given."""
    limits = found.limits
    asked = [
        f"quality may fall by {limits.quality_drop:g} of its range"
        if limits.quality_drop is not None
        else "",
        f"cost may rise by {limits.cost_rise:.0%}" if limits.cost_rise is not None else "",
        "no verdict may change" if limits.verdict else "",
    ]
    if not any(asked):
        return []
    return _grouped(found) or [f"within the thresholds: {', '.join(a for a in asked if a)}"]


def _grouped(found: Comparison) -> list[str]:
    """Thresholds passed, the strategies of a task that pass one in the same way together."""
    lines = []
    for task in found.tasks:
        lines += [f"{task.name}: {said}" for said in task.crossed]
        by_sentence: dict[str, list[str]] = {}
        for row in task.rows:
            for sentence in row.crossed:
                by_sentence.setdefault(sentence, []).append(row.label)
        lines += [f"{task.name}: {', '.join(who)}: {said}" for said, who in by_sentence.items()]
    return lines


# --- formats ---------------------------------------------------------------------------------


def text(found: Comparison) -> str:
    """For a terminal."""
    out = io.StringIO()
    console = Console(file=out, width=max(Console().width, 100))

    def say(line: str, style: str = "") -> None:
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    say(_title(found), "bold")
    for line in (*found.why, *_only(found)):
        say(f"  {line}")
    for task in found.tasks:
        say(f"\n{task.name}: {task.metric} on {task.shared} shared test examples", "bold")
        for line in task.why:
            say(f"  {line}")
        for n, line in enumerate(_verdicts(task)):
            say(f"  {line}", "" if n else "bold")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("strategy", no_wrap=True)
        for column in COLUMNS:
            table.add_column(column, justify="right")
        for row in _shown(task):
            table.add_row(escape(row.label), *map(escape, _cells(row)))
        console.print(table)
        for row in _shown(task):
            for line in _remarks(row):
                say(f"  {row.label}: {line}")
    said = _verdict(found)
    if said:
        say("")
    for line in said:
        say(f"THRESHOLD PASSED  {line}" if found.crossed else line)
    return out.getvalue()


_MARKUP = re.compile(r"([\\`*\[\]<>#|~&_])")


def _escaped(line: str) -> str:
    """Text on one line of Markdown, with everything that could be taken for markup escaped."""
    return _MARKUP.sub(r"\\\1", re.sub(r"\s+", " ", line))


def markdown(found: Comparison) -> str:
    """For a pull request: a table per task, the reasons below it."""
    said = _verdict(found)
    lines = [f"## {_escaped(_title(found))}", ""]
    lines += [f"- **threshold passed:** {_escaped(s)}" if found.crossed else f"- {_escaped(s)}" for s in said]
    lines += [f"- {_escaped(line)}" for line in (*found.why, *_only(found))]
    for task in found.tasks:
        lines += ["", *_markdown_task(task)]
    return "\n".join(lines) + "\n"


def _markdown_task(task: TaskComparison) -> Iterator[str]:
    yield f"### {_escaped(task.name)}"
    yield ""
    yield f"{_escaped(task.metric)} on {task.shared} shared test examples."
    yield ""
    first, *reasons_of_it = _verdicts(task)
    yield f"**{_escaped(first)}**"
    yield ""
    if task.why or reasons_of_it:
        yield from (f"- {_escaped(line)}" for line in dict.fromkeys((*task.why, *reasons_of_it)))
        yield ""
    yield f"| strategy | {' | '.join(COLUMNS)} |"
    yield "|---|" + "--:|" * len(COLUMNS)
    for row in _shown(task):
        yield "| " + " | ".join(_escaped(c) for c in (row.label, *_cells(row))) + " |"
    reasons = [(row.label, "; ".join(_remarks(row))) for row in _shown(task)]
    if any(why for _, why in reasons):
        yield ""
    yield from (f"- {_escaped(label)}: {_escaped(why)}" for label, why in reasons if why)


def as_json(found: Comparison) -> str:
    """For programs: nothing rounded, unknown is null, units in the names."""
    document = {
        "format": FORMAT,
        "before": {"run": found.before.name, "currency": found.before.currency},
        "after": {"run": found.after.name, "currency": found.after.currency},
        "limits": asdict(found.limits),
        "crossed": found.crossed,
        "why": list(found.why),
        "only_in": {side: list(names) for side, names in found.only_in.items()},
        "tasks": [
            {
                "task": task.name,
                "metric": task.metric,
                "shared_examples": task.shared,
                "why": list(task.why),
                "verdict": {
                    "changed": task.verdict.changed,
                    "before": asdict(task.verdict.before) if task.verdict.before else None,
                    "after": asdict(task.verdict.after) if task.verdict.after else None,
                    "turned_by": task.verdict.by or None,
                    "why": list(task.verdict.why),
                },
                "crossed": list(task.crossed),
                "rows": [_facts(row) for row in task.rows],
            }
            for task in found.tasks
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _facts(row: RowComparison) -> dict[str, Any]:
    return {
        "strategy": row.label,
        "state": {side: r.state if r else None for side, r in (("before", row.before), ("after", row.after))},
        "metric": row.metric or None,
        "shared_examples": row.shared,
        "quality": {
            **_numbers(row.quality),
            "low": row.interval.low if row.interval else None,
            "high": row.interval.high if row.interval else None,
            "method": row.interval.method if row.interval else None,
            "excludes_zero": row.excludes_zero,
            "won": row.won,
            "lost": row.lost,
        },
        "outputs": row.outputs,
        "outputs_changed": row.outputs_changed,
        "cost_per_1000_requests": _numbers(row.cost),
        "one_off_cost": _numbers(row.one_off),
        "latency_p50_seconds": _numbers(row.p50),
        "latency_p95_seconds": _numbers(row.p95),
        "why": list(row.why),
        "notes": list(row.notes),
        "crossed": list(row.crossed),
    }


def _numbers(change: Change) -> dict[str, float | None]:
    relative = change.relative
    return {
        "before": change.before,
        "after": change.after,
        "difference": change.difference,
        "relative": None if relative is None or math.isinf(relative) else relative,
    }
