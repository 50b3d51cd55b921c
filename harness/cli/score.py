"""`breakeven score`: stored outputs judged again, with what changed in each strategy's quality."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from breakeven.harness._retask import listed
from breakeven.harness.cli.report import write
from breakeven.harness.rescoring import Rescored, TaskChange, rescore
from breakeven.harness.results import Row


def score(
    folder: Path,
    changes: Sequence[str],
    by_metric: Sequence[str],
    out: Path | None,
    in_place: bool,
    keep_missing: bool,
    why: str,
) -> None:
    """Score `folder` again and print what came of it; see `rescoring.rescore`."""
    console = Console()
    found = rescore(
        folder, changes, by_metric, out=out, in_place=in_place, keep_missing=keep_missing, why=why
    )
    if found.completed:
        _say(console, "an earlier re-scoring of this run, which was broken off, is completed")
    for change in found.tasks:
        _print(console, found, change)
    if found.folder is None:
        _say(console, "\nnothing differs, nothing was written")
        return
    _say(console, f"\nrun folder: {found.folder}")
    _say(console, f"report: {write(found.after, 'html', None, examples=True)}")


def _print(console: Console, found: Rescored, change: TaskChange) -> None:
    """What changed in the task, and a line for each strategy that has outputs."""
    same = change.metrics_before[0] == change.metrics[0]
    metric = change.metrics[0] if same else f"{change.metrics_before[0]}, now {change.metrics[0]}"
    console.print(f"\n{change.task}: {metric}", style="bold", markup=False, highlight=False)
    for many, ids in {
        "examples have other references": change.corrected,
        "examples are not in the data and keep their references": change.kept,
        "examples of the new data were never answered and are left out": change.added,
    }.items():
        if ids:
            _say(console, f"{len(ids)} {many}: {listed(ids)}")
    for remark in change.remarks:
        _say(console, f"note: {remark}")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("strategy", overflow="fold")  # alone gives way: a figure is never cut short
    for column in ("before", "after", "95 %", *(["change"] if same else [])):
        table.add_column(column, justify="right", no_wrap=True)
    rows = zip(found.before.tables[change.task], found.after.tables[change.task], strict=True)
    for before, after in rows:
        if before.quality is not None and after.quality is not None:
            shown = [f"{before.quality:.3f}", f"{after.quality:.3f}", _interval(after)]
            difference = [f"{after.quality - before.quality:+.3f}"] if same else []
            table.add_row(escape(after.label), *shown, *difference)
    console.print(table)


def _interval(row: Row) -> str:
    return f"{row.interval.low:.3f}-{row.interval.high:.3f}" if row.interval else "?"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
