"""`breakeven transfer`: what the adapters of a run forgot, or learned for other tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from breakeven.harness import run as runs
from breakeven.harness import stats
from breakeven.harness.transfer import Effect, measure


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
    before, after = np.array(effect.before), np.array(effect.after)
    try:
        found = stats.paired_difference(after, before, bounds=(0.0, 1.0), varies_with_seed=(False, False))
    except ValueError:  # scores that leave 0 to 1
        return f"{before.mean():.3f}", f"{after.mean():.3f}", f"{after.mean() - before.mean():+.3f}"
    spread = f"{found.interval.low:+.3f} to {found.interval.high:+.3f}"
    return f"{before.mean():.3f}", f"{after.mean():.3f}", f"{found.value:+.3f} ({spread})"
