"""`breakeven transfer`: what the adapters of a run forgot, or learned for other tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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
    table = Table("adapter", "asked", "metric", "examples", "before", "after", "difference (95 %)")
    for e in effects:
        table.add_row(f"{e.strategy} of {e.own}", e.on, e.metric, str(len(e.before)), *said(e))
    console.print(table)


def said(effect: Effect) -> tuple[str, str, str]:
    """(before, after, difference with its interval)."""
    before, after = np.mean(effect.before), np.mean(effect.after)
    found = difference([effect])
    change = f"{after - before:+.3f}"
    if found is not None:
        change += f" ({found.interval.low:+.3f} to {found.interval.high:+.3f})"
    return f"{before:.3f}", f"{after:.3f}", change
