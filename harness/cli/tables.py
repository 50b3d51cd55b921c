"""The result tables of a run on a terminal."""

from __future__ import annotations

from breakeven.harness.results import Cost, Results, Row
from rich import box
from rich.console import Console
from rich.table import Table


def print_tables(console: Console, found: Results) -> None:
    """Per task: strategy, quality with interval, difference to the reference, cost, one-off cost."""
    wide = console.width >= 110
    for name, rows in found.tables.items():
        task = found.tasks[name]
        title = f"\n{name}: {task.primary.name}, {len(task.test)} test examples; minus {found.reference}"
        table = Table(
            title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
        )
        table.add_column("strategy", no_wrap=True, overflow="ellipsis", min_width=12)
        for column in ("quality", "95 %", "difference", f"{found.currency}/1,000", "one-off"):
            table.add_column(column, justify="right", no_wrap=True)
        if wide:
            table.add_column("p50 s", justify="right")
            table.add_column("training s", justify="right")
        for row in rows:
            table.add_row(*(_cells(row) if wide else _cells(row)[:6]))
        console.print(table)
    problems = [c for c in found.cells.values() if c.state in ("failed", "pending", "stopped")]
    for cell in problems:
        console.print(
            f"{cell.state}: {cell.id}: {cell.reason}", markup=False, highlight=False, soft_wrap=True
        )
    unseeded = {
        row.interval.note for rows in found.tables.values() for row in rows if row.interval is not None
    }
    for note in sorted(filter(None, unseeded)):
        console.print(f"intervals: {note}", markup=False, highlight=False)


def _cells(row: Row) -> list[str]:
    if row.quality is None:
        text = "does not apply" if row.state == "not-applicable" else row.state
        return [row.label, text, "", "", "", "", "", ""]
    interval = f"{row.interval.low:.3f}-{row.interval.high:.3f}" if row.interval else "?"
    if row.is_reference:
        difference = "reference"
    elif row.difference is None or row.difference_interval is None:
        difference = "?"
    else:
        d = row.difference_interval
        difference = f"{row.difference:+.3f} ({d.low:+.2f}..{d.high:+.2f})"
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
    """An amount to three significant digits; "~" marks an estimate, "?" an unknown one."""
    if cost.value is None:
        return "?"
    mark = "~" if cost.status == "estimated" else ""
    if cost.value == 0:
        return f"{mark}0"
    digits = 2 if cost.value >= 1 else 4
    return f"{mark}{cost.value:,.{digits}f}" if cost.value >= 0.0001 else f"{mark}{cost.value:.1e}"
