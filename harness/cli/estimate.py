"""`breakeven estimate`: what a suite would take, and what a cheaper plan would drop, before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from breakeven.harness import progress, suite
from breakeven.harness import run as runs
from breakeven.harness.errors import UserError
from breakeven.harness.estimate import Estimate, Totals
from breakeven.harness.estimate import estimate as made
from breakeven.harness.formats import minutes

#: Cheaper plans shown.
SHOWN = 10


def estimate(
    suite_name: str,
    changes: Sequence[str],
    only: Sequence[str],
    limit: int | None,
    prices: Path | None,
    seconds: float,
    ask_hosted: bool,
    save: Path | None,
) -> None:
    """Print the estimate, and write it to `save` if given."""
    if prices is not None and not prices.is_file():
        raise UserError("no such file", file=prices, field="--prices")
    runs.offline_by_default()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    path = suite.find(suite_name)
    chosen = suite.load(path, changes)
    began = psutil.Process().create_time()
    display = progress.PlainDisplay(Console(stderr=True))
    with suite.placed(path):
        found = made(
            chosen,
            only=only,
            limit=limit,
            prices=prices,
            seconds=seconds,
            ask_hosted=ask_hosted,
            began=began,
            display=display,
        )
    show(Console(), found)
    if save is not None:
        found.save(save)
        print(f"saved: {save}")


def show(console: Console, found: Estimate) -> None:
    """Per strategy and in total; then memory, what saves most, and what the numbers rest on."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("strategy", overflow="fold")  # alone gives way: a figure is never cut short
    columns = ("cells", "trainings", "input", "output", "trained", "min", found.currency)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for name in dict.fromkeys(c.strategy for c in found.cells):
        part = found.totals([c for c in found.cells if c.strategy == name])
        if part.cells:
            rough = any(c.strategy == name and c.model in found.projected for c in found.cells)
            table.add_row(name, *_figures(part, rough))
    loading = found.overhead_seconds
    table.add_row("starting, loading", *[""] * 5, minutes(loading), money(_hours(found, loading)))
    table.add_section()
    table.add_row("all", *_figures(found.totals(), bool(found.projected)), style="bold")
    console.print(f"suite {found.suite}: tokens, minutes and {found.currency}", style="bold", highlight=False)
    console.print(table)
    for line in _lines(found):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figures(part: Totals, rough: bool = False) -> list[str]:
    """`rough`: a model in it was not tried, so that all but the numbers of cells is about right at best."""
    tokens = (part.input_tokens, part.output_tokens, part.training_tokens)
    about = "≈ " if rough else ""
    return [
        str(part.cells),
        str(part.trainings or ""),
        *(f"{about}{n:,.0f}" if n else "" for n in tokens),
        f"{about}{minutes(part.seconds)}" if part.untimed < part.cells else "?",
        f"{about}{money(part.money)}" if part.money is not None else money(None),
    ]


def _lines(found: Estimate) -> list[str]:
    lines = []
    if (peak := found.peak_bytes) is not None:
        lines.append(f"memory: about {peak / 1e9:.1f} GB, and what the allocator keeps of what it freed")
    total = found.totals()
    if found.savings:
        lines.append("cheaper, each alone:")
    for saving in found.savings[:SHOWN]:
        said = f"  {saving.what}: saves {minutes(saving.seconds)} of {minutes(total.seconds)} min"
        if saving.money:
            said += f", {money(saving.money)} {found.currency}"
        lines.append(f"{said}  ({saving.change})" if saving.change else said)
    lines += [f"note: {note}" for note in found.notes]
    lines.append(
        f"estimated in {found.probing_seconds:.0f} s on {found.hardware}: prompts and training counted "
        f"{_basis(found)}; nothing was kept"
    )
    return lines


def _basis(found: Estimate) -> str:
    """What the figures rest on."""
    if found.projected:
        return f"from what is declared of {', '.join(found.projected)}, nothing of it tried"
    return "exactly, answers and speeds from a few probes"


def _hours(found: Estimate, seconds: float) -> float | None:
    return None if found.machine_hour is None else seconds / 3600 * found.machine_hour


def money(value: float | None) -> str:
    if value is None:
        return "?"
    if value >= 1 or not value:
        return f"{value:,.2f}"
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"
