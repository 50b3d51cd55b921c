"""`breakeven run`: from a suite's name to its table, its report and what to type next."""

from __future__ import annotations

import logging
import signal
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from breakeven.harness import fitting, plan, pool, progress, run_tasks, suite
from breakeven.harness import run as runs
from breakeven.harness.cli import _gate
from breakeven.harness.contracts import Task
from breakeven.harness.errors import UserError
from breakeven.harness.plan import CellSpec
from breakeven.harness.suite import Suite

#: Engines that run a model on this machine.
LOCAL = ("local", "vllm")


def run(
    suite_name: str,
    resume: Path | None,
    name: str | None,
    out: Path,
    only: Sequence[str],
    limit: int | None,
    changes: Sequence[str],
    dry_run: bool,
    keep_prompts: bool,
    prices: Path | None,
    estimate: Path | None = None,
    preflight: bool = True,
    yes: bool = False,
) -> int:
    """Returns the exit code; see `breakeven.harness.cli`."""
    console = Console()
    if resume is None and not suite_name:
        raise UserError("say which suite to run", hint="see `breakeven list suites`, or give a YAML file")
    if resume is not None and (suite_name or changes or name):
        raise UserError("--resume continues a run as it was; it takes no suite, --set or --name")
    if resume is not None and estimate is not None:
        raise UserError(
            "an estimate is kept with a new run; a resumed one takes none",
            field="--estimate",
            hint=f"show it with: breakeven report {resume} --estimate {estimate}",
        )
    if resume is not None and dry_run:
        raise UserError(
            "--dry-run shows what a new run would do; it takes no --resume",
            hint=f"see: breakeven run {resume / 'suite.yaml'} --dry-run",
        )
    if prices is not None and not prices.is_file():
        raise UserError("no such file", file=prices, field="--prices")
    runs.offline_by_default()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    for polite in (signal.SIGTERM, signal.SIGHUP):  # a kill or a closed terminal stops as Ctrl-C does
        if signal.getsignal(polite) != signal.SIG_IGN:  # nohup
            signal.signal(polite, signal.default_int_handler)
    gate = _gate.Gate(preflight, yes, _gate.terminal())
    options = runs.Options(tuple(only), limit, keep_prompts, prices, gate=gate)
    path = suite.find(suite_name) if resume is None else None
    with suite.placed(path):
        return _run(console, path, resume, name, out, changes, dry_run, options, estimate)


def _run(
    console: Console,
    path: Path | None,
    resume: Path | None,
    name: str | None,
    out: Path,
    changes: Sequence[str],
    dry_run: bool,
    options: runs.Options,
    estimate: Path | None,
) -> int:
    if path is None:
        assert resume is not None
        folder, chosen = resume, None
    else:
        chosen = suite.load(path, changes)
        if estimate is not None:
            from breakeven.harness import predicted

            options = replace(options, estimate=predicted.load(estimate, chosen.suite))
        if dry_run:
            return _dry_run(console, chosen, options)
        folder = runs.new_folder(out, chosen, name)
    try:
        with progress.display(console) as display:
            if chosen is None:
                outcome = runs.resume(folder, options, display)
            else:
                display.note(f"run folder: {folder}")
                outcome = runs.start(chosen, folder, options, display)
    except KeyboardInterrupt:
        begun = (folder / "run.json").exists()
        said = f"stopped; go on with: breakeven run --resume {folder}" if begun else "stopped before it began"
        console.print(f"\n{said}", markup=False, highlight=False, soft_wrap=True)
        return 130
    _finish(console, folder, outcome)
    return outcome.exit_code


def _dry_run(console: Console, chosen: Suite, options: runs.Options) -> int:
    """The cells that would run, the sizes of their splits, whether models fit, what others would bill.

    Loads data, no model.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from breakeven.harness.cli.tables import room
    from breakeven.harness.yamlfile import flow_style

    tasks = run_tasks.load_tasks(chosen, options.limit)
    specs = plan.cells(chosen, tasks, options.only)
    trials = {s.id: _trials(s) for s in specs}
    searched = ["trials"] if any(n > 1 for n in trials.values()) else []
    columns = ("cell", "model", "train", "validation", "test", *searched, "settings")
    room(console)
    console.print(f"suite {chosen.suite}", style="bold", markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:  # names and settings give way, figures do not
        counted = column not in ("cell", "model", "settings")
        table.add_column(
            column,
            overflow="fold",
            no_wrap=counted,
            justify="right" if counted else "left",
            min_width=len(column) if counted else 8,
        )
    for spec in specs:
        task = plan.task_of(tasks, spec)
        table.add_row(
            Text(spec.id),
            Text(spec.model or "-"),
            str(len(plan.training_rows(tasks, spec))),
            str(len(task.validation)),
            str(len(task.test)),
            *(str(trials[spec.id]) for _ in searched),
            Text(flow_style(dict(spec.settings))[1:-1]),
        )
    console.print(table)
    if searched:
        console.print(
            "trials: candidates that are compared on validation examples; what they take: breakeven estimate",
            highlight=False,
            soft_wrap=True,
        )
    for name, described in tasks.items():
        if described.description:
            said = f"{name}: {described.description}"
            console.print(said, markup=False, highlight=False, soft_wrap=True)
    for fit in fitting.of_models(chosen.models, (s.model for s in specs)):
        style = None if fit.fits else "bold red"
        console.print(f"memory: {fit.sentence()}", style=style, markup=False, highlight=False, soft_wrap=True)
    if (bill := _bill(chosen, tasks, specs, options)) is not None:
        console.print(f"money: {bill}", markup=False, highlight=False, soft_wrap=True)
    answers = sum(len(plan.task_of(tasks, s).test) for s in specs)
    console.print(f"{len(specs)} cells, {answers:,} answers; nothing was run", highlight=False)
    if any(spec.settings.get("weights") for spec in specs):
        console.print("what would be trained, and on what: breakeven preflight, with the same suite")
    return 0


def _bill(
    chosen: Suite, tasks: Mapping[str, Task], specs: Sequence[CellSpec], options: runs.Options
) -> str | None:
    """What others would bill, as a sentence; None where all models run here. Some examples stand for all."""
    hosted = [s for s in specs if s.model is not None and chosen.models[s.model].engine not in LOCAL]
    if not hosted:
        return None
    from breakeven.harness import billed
    from breakeven.harness._foresee import World

    try:
        engines = pool.Engines(chosen, {}, options.prices, asks=False)
        with tempfile.TemporaryDirectory() as folder:
            world = World(chosen, tasks, engines.get, engines.embedder, Path(folder))
            bill = billed.foresee(hosted, world, engines.book)
    except UserError as error:
        return f"what others would bill cannot be said: {error}"
    return bill.sentence() if bill else None


def _trials(spec: CellSpec) -> int:
    """Candidates that a cell tries on its validation examples."""
    strategy = plan.make_strategy(spec.strategy, spec.factory, spec.settings)
    return int(getattr(strategy, "trials", 1))


def _show(console: Console, folder: Path) -> str:
    """Print the tables and write the report. Returns what was printed."""
    from breakeven.harness import predicted, results
    from breakeven.harness._garbage import uncollected
    from breakeven.harness.cli.report import write
    from breakeven.harness.cli.tables import print_tables

    with uncollected():
        found = results.load(folder)
        with console.capture() as printed:
            print_tables(console, found)
            if (compared := predicted.beside(found)) is not None:
                console.print(f"\n{compared.line()}", markup=False, highlight=False, soft_wrap=True)
        console.file.write(printed.get())
        write(found, "html", None, examples=True)
        del found  # within, or the first search for garbage afterwards goes over everything
    return printed.get()


def _finish(console: Console, folder: Path, outcome: runs.Outcome) -> None:
    """The table, what failed, where the report is, what to type next."""
    from breakeven.harness.cli import _shown

    made_from = _shown.made_from(folder, console)
    text = _shown.said(folder, made_from)
    if text is None:
        text = _show(console, folder)
        _shown.keep(folder, made_from, text)
    else:
        console.file.write(text)
    console.print(f"report: {folder / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
    unfinished = [c for c, s in outcome.states.items() if s in ("failed", "stopped", "pending", "waiting")]
    if unfinished:
        console.print(f"next: breakeven run --resume {folder}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(
            "next: open the report; then `breakeven init --data rows.csv --input text --reference label` "
            "for a task of your own",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
