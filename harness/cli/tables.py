"""The result tables of a run on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from breakeven.harness import wording
from breakeven.harness.evidence import text
from breakeven.harness.results import Cost, Results, Row

#: Characters of a line that nothing has to be left out for.
WIDE = 1000


def room(console: Console) -> None:
    """A file or a pipe has no edge: what is written to one is not fitted to the width of a terminal."""
    if not console.is_terminal:
        console.width = WIDE


def print_tables(console: Console, found: Results) -> None:
    """Per task: quality, difference to the reference, cost; then what did not apply or failed."""
    wide = console.width >= 110
    for name, rows in found.tables.items():
        task = found.tasks[name]
        said = f"{name}: {task.primary.name} on {len(task.test)} test examples, {found.currency}"
        console.print(f"\n{said}", style="bold", markup=False, highlight=False)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("strategy", overflow="fold")  # alone gives way: a figure is never cut short
        for column in ("quality", "95 %", f"minus\n{found.reference(name)}", "per\n1,000", "one-off"):
            table.add_column(column, justify="right", no_wrap=True)
        if wide:
            table.add_column("p50 s", justify="right")
            table.add_column("training s", justify="right")
        for row in rows:
            if row.quality is not None:
                table.add_row(*(_cells(row) if wide else _cells(row)[:6]))
        console.print(table)
        _others(console, rows)
        _verdict(console, found, name)
    notes = {r.interval.note for rows in found.tables.values() for r in rows if r.interval is not None}
    if any("excludes seed variance" in note for note in notes):
        console.print("\n95 % intervals exclude seed variance: there is one seed", highlight=False)
    if any(r.cost_per_1000.status == "estimated" for rows in found.tables.values() for r in rows):
        console.print("~ estimated: projected to the machine of the suite's economics", highlight=False)


def _verdict(console: Console, found: Results, name: str) -> None:
    """The answer, its condition, and what would overturn it; the rest is in the report."""
    told = wording.of_task(found, name)
    lead = f"{told.question} {text(told.lead)}"
    console.print(f"\n{lead}", style="bold", markup=False, highlight=False, soft_wrap=True)
    for sentence in (told.basis, *told.flips):
        if sentence:
            console.print(text(sentence), markup=False, highlight=False, soft_wrap=True)


def _others(console: Console, rows: Sequence[Row]) -> None:
    """What has no figures, with the reason, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.quality is None:
            state = "does not apply" if row.state == "not-applicable" else row.state
            reasons.setdefault(f"{state}: {row.reason}", []).append(row.label)
    for reason, labels in reasons.items():
        state, _, why = reason.partition(": ")
        console.print(f" {', '.join(labels)}: {state}; {why}", markup=False, highlight=False, soft_wrap=True)


def _cells(row: Row) -> list[str]:
    interval = f"{row.interval.low:.2f}-{row.interval.high:.2f}" if row.interval else "?"
    if row.is_reference:
        difference = "-"
    elif row.difference is None or row.difference_interval is None:
        difference = "?"
    else:
        d = row.difference_interval
        difference = f"{row.difference:+.2f} ({d.low:.2f}..{d.high:.2f})"
    latency = f"{row.latency[0]:.2f}" if row.latency else "?"
    return [
        row.label,
        f"{row.quality:.3f}",
        interval,
        difference,
        money(row.cost_per_1000),
        money(row.one_off),
        latency,
        f"{row.training_seconds:,.0f}" if row.training_seconds is not None else "",
    ]


def money(cost: Cost) -> str:
    """An amount to four decimals at most; "~" marks an estimate, "?" an unknown one."""
    if cost.value is None:
        return "?"
    mark = "~" if cost.status == "estimated" else ""
    if 0 < cost.value < 0.0001:
        return "<0.0001"
    digits = 0 if cost.value == 0 else 2 if cost.value >= 1 else 4
    return f"{mark}{cost.value:,.{digits}f}"
