"""`breakeven merge`: runs of several machines as one, with what has to be known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from breakeven.harness import results
from breakeven.harness.cli.report import write
from breakeven.harness.cli.tables import print_tables
from breakeven.harness.merging import merge as merged


def merge(folders: Sequence[Path], out: Path, prefer: str) -> None:
    """Join `folders` in `out` and print the tables; see `merging.merge`."""
    console = Console()
    made = merged(folders, out, prefer=prefer)
    found = results.load(made.folder)
    print_tables(console, found)
    for label, count in Counter(made.cells.values()).items():
        _say(console, f"{count} cells from {label}")
    for note in made.notes:
        _say(console, f"note: {note}")
    _say(console, f"run folder: {made.folder}")
    _say(console, f"report: {write(found, 'html', None, examples=True)}")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
