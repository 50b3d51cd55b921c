"""`breakeven transfer`: what the adapters of a run forgot, or learned for other tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from breakeven.harness import run as runs
from breakeven.harness.effects import Effect, difference
from breakeven.harness.transfer import measure


def transfer(folder: Path, examples: int) -> None:
    """Measures and prints; the result stays in the run for its reports."""
    runs.offline_by_default()
    console = Console()
    effects = measure(folder, examples, lambda text: console.print(text, markup=False, highlight=False))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("adapter", "asked", "metric"):
        table.add_column(column, overflow="fold")
    for column in ("examples", "before", "after", "difference (95 %)"):
        table.add_column(column, justify="right", no_wrap=True)
    several = len({e.train_size for e in effects}) > 1
    for e in effects:
        size = f" n={e.train_size}" if several else ""
        table.add_row(f"{e.strategy}{size} of {e.own}", e.on, e.metric, str(len(e.before)), *said(e))
    console.print(table)


def said(effect: Effect) -> tuple[str, str, str]:
    """(before, after, difference with its interval)."""
    before, after = np.mean(effect.before), np.mean(effect.after)
    found = difference([effect])
    change = f"{after - before:+.3f}"
    if found is not None:
        change += f" ({found.interval.low:+.3f} to {found.interval.high:+.3f})"
    return f"{before:.3f}", f"{after:.3f}", change
