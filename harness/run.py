"""One run from the outside: make or reopen its folder, freeze what it depends on, run, record.

`start` is for a new folder, `resume` for an old one; both end in `_go`. The folder's layout is described in
docs/run-folder.md.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import abandoned, ahead, deployments, egress, plan, store
from breakeven.harness import suite as suites
from breakeven.harness.cell import State
from breakeven.harness.contracts import Task
from breakeven.harness.errors import UserError
from breakeven.harness.plan import CellSpec
from breakeven.harness.pool import Engines, fetch_models, preflight
from breakeven.harness.results import ESTIMATE
from breakeven.harness.run_tasks import forget_results, least, load_tasks, write_task
from breakeven.harness.runner import Display, Runner
from breakeven.harness.suite import BEST_ON_VALIDATION, Suite

if TYPE_CHECKING:
    from breakeven.harness.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a suite. `limit` caps test examples, `only` are glob patterns, `estimate`
    is kept in the run folder for its reports, `gate` looks at what is ahead and may stop it."""

    only: tuple[str, ...] = ()
    limit: int | None = None
    keep_prompts: bool = False
    prices: Path | None = None
    estimate: Estimate | None = None
    gate: ahead.Gate | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    folder: Path
    states: Mapping[str, State]
    alarms: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all ran or do not apply, 1 one failed or was stopped or a deployment or an unwanted job is still
        billed, 3 only hosted jobs are waited for."""
        if self.alarms or any(s in ("failed", "stopped", "waiting") for s in self.states.values()):
            return 1
        return 3 if "pending" in self.states.values() else 0


def _prices(suite: Suite, engines: Engines, cards: Mapping[str, Any]) -> dict[str, Any]:
    """Every price that a report of this run can need, copied with its date and source; also for models whose
    cells were finished before."""
    engines.book.machine_hour(suite.economics.hardware)
    for card in cards.values():
        if card.get("price_as"):
            engines.book.token_price(card["price_as"])
            engines.book.training_tokens(card["price_as"])
        if card.get("hosting"):
            engines.book.hosting_hour(card["hosting"])
    return engines.book.used()


def _served(folder: Path) -> dict[str, Any]:
    """The cards of models that tuning made at a provider, by cell."""
    return {p.parent.name: store.read_json(p) for p in sorted((folder / "cells").glob("*/served.json"))}


def new_folder(root: Path, suite: Suite, name: str | None) -> Path:
    """The folder of a new run; `name` must be free, else the suite's name and a number are taken."""
    if name is not None:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise UserError(
                f"'{name}' cannot be a folder name", field="--name", hint="use letters, digits, - _ + ."
            )
        folder = root / name
        if (folder / "run.json").exists():
            raise UserError(
                "a run is already there",
                file=folder,
                hint=f"continue it with: breakeven run --resume {folder}",
            )
        return folder
    stem = re.sub(r"[^\w.+-]", "_", suite.suite)[:100].lstrip(".") or "run"
    numbers = [int(m[1]) for p in root.glob("*") if (m := re.fullmatch(re.escape(stem) + r"-(\d+)", p.name))]
    return root / f"{stem}-{max(numbers, default=0) + 1}"


def start(suite: Suite, folder: Path, options: Options, display: Display) -> Outcome:
    """A new run in a new folder, which sends nothing to hosts that the suite does not allow."""
    with egress.only(suite.allow_hosts):
        return _start(suite, folder, options, display)


def _start(suite: Suite, folder: Path, options: Options, display: Display) -> Outcome:
    tasks = load_tasks(suite, options.limit)
    # Every setting, model and prompt length is checked before anything is written.
    specs = plan.cells(suite, tasks, options.only)
    _check_reference(suite, tasks)
    engines = Engines(suite, {}, options.prices)
    fetch_models(suite, specs, display)
    engines.book.check("machine_hours", suite.economics.hardware, field="economics.hardware")
    preflight(tasks, specs, engines)
    for model in engines.beyond_the_limit():
        display.note(f"limits.spend does not hold for {model}: nobody knows its price")
    with _begun(folder), store.locked(folder):
        coming = ahead.Ahead(suite, folder, tasks, specs, engines, display)
        look = options.gate(coming) if options.gate is not None else None
        suite = _frozen(suite, options)
        store.write_text(folder / "suite.yaml", suite.to_yaml())
        for name, task in tasks.items():
            write_task(folder / "tasks" / name, task, coming.leaks)
        if options.estimate is not None:
            options.estimate.save(folder / ESTIMATE)
        info = {
            "name": folder.name,
            "suite": suite.suite,
            "created": _now(),
            "command": shlex.join(["breakeven", *sys.argv[1:]]),
            "versions": _versions(),
            "hardware": _hardware(),
            "tasks": list(tasks),
            "cells": [s.id for s in plan.cells(suite, tasks)],
            "asked": [s.id for s in specs],
            "reference": suite.reference,
            "currency": suite.economics.currency,
            "limit": options.limit,
            "keep_prompts": options.keep_prompts,
            "prices": str(options.prices.resolve()) if options.prices else None,
            # at the end again; a killed run is reported from these
            "models": engines.cards(),
            "price_book": _prices(suite, engines, engines.cards()),
            **({"preflight": look.summary()} if look is not None else {}),
        }
        if look is not None:
            ahead.keep(folder, look)
        store.write_json(folder / "engines.json", engines.chosen())
        store.write_json(folder / "run.json", info)
        return _go(suite, folder, tasks, engines, options, display)


@contextmanager
def _begun(folder: Path) -> Iterator[None]:
    """A new run whose folder is gone again where it was stopped before it began."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        if not there and not (folder / "run.json").exists():
            store.remove(folder)
        raise


def _check_reference(suite: Suite, tasks: Mapping[str, Task]) -> None:
    for name, task in tasks.items():
        if suite.reference == BEST_ON_VALIDATION and not task.validation:
            raise UserError(
                f"'{BEST_ON_VALIDATION}' needs validation examples, and '{name}' has none",
                field="reference",
                hint=f"give {name} a validation split (or limits.validation above 0), or name a strategy",
            )


def resume(folder: Path, options: Options, display: Display) -> Outcome:
    """Go on with a run: finished cells are kept, broken-off ones continue, failed ones are tried again.

    Cells that `only` has left out before stay left out, unless `only` names them now.
    """
    info = store.read_json(folder / "run.json")
    if info is None:
        raise UserError("not a run folder: there is no run.json in it", file=folder)
    for made, how in {"rescored": "scored again", "merged": "put together from others"}.items():
        if info.get(made):
            raise UserError(
                f"this run was {how}; what a new attempt would find is no longer what it was made from",
                file=folder,
                field="--resume",
                hint="resume the run it came from, then do the same to that one",
            )
    suite = suites.load(folder / "suite.yaml")
    if options.limit is not None and options.limit != info.get("limit"):
        began = f"with --limit {info['limit']}" if info.get("limit") else "without a limit"
        raise UserError(
            f"this run began {began}; another one would throw away its results",
            field="--limit",
            hint=f"leave --limit out, or start a new run: breakeven run {folder / 'suite.yaml'} --limit "
            f"{options.limit}",
        )
    options = Options(
        options.only,
        options.limit or info.get("limit"),
        options.keep_prompts or info.get("keep_prompts", False),
        options.prices,
        gate=options.gate,
    )
    with egress.only(suite.allow_hosts):
        return _resume(suite, folder, info, options, display)


def _resume(
    suite: Suite, folder: Path, info: Mapping[str, Any], options: Options, display: Display
) -> Outcome:
    tasks = load_tasks(suite, options.limit)
    options = replace(options, prices=options.prices or _path(info.get("prices")))
    with store.locked(folder):
        for name, task in tasks.items():
            before = store.read_json(folder / "tasks" / name / "task.json", {}).get("hash")
            if before != plan.task_digest(task):
                display.note(f"task {name} is not what it was when this run began; its cells run again")
                forget_results(folder, name)  # also of cells that are not asked for now
                write_task(folder / "tasks" / name, task)
        if info.get("versions") and (changed := _changed(info["versions"], _versions())):
            display.note(f"not what this run began with: {', '.join(changed)}; answers and times may differ")
        engines = Engines(suite, store.read_json(folder / "engines.json", {}), options.prices)
        return _go(suite, folder, tasks, engines, options, display, again=True)


def _go(
    suite: Suite,
    folder: Path,
    tasks: Mapping[str, Task],
    engines: Engines,
    options: Options,
    display: Display,
    again: bool = False,
) -> Outcome:
    every = plan.cells(suite, tasks)
    planned = [s.id for s in every]
    specs = plan.cells(suite, tasks, options.only) if options.only else every
    if again and not options.only:
        specs = _still_asked(specs, store.read_json(folder / "run.json"), display)
    engines.keep_purse(folder / "purse.json")
    deployments.sweep(folder, engines.book, display.note, engines.purse())
    runner = Runner(
        suite,
        folder,
        tasks,
        engines.get,
        engines.embedder,
        display,
        options.keep_prompts,
        engines.embedder_digest(),
    )
    if again and options.gate is not None:
        _look_again(runner, specs, engines, options.gate)
    swept = abandoned.sweep(runner, every, engines, display.note)
    if swept.said:
        info = store.read_json(folder / "run.json")
        store.write_json(
            folder / "run.json", {**info, "abandoned": [*info.get("abandoned", ()), *swept.said]}
        )
    try:
        runner.run(specs)
        if set(planned) == set(runner.states) and not {"failed", "stopped", "waiting"} & set(
            runner.states.values()
        ):  # every cell has asked for what it still wants
            for line in engines.close_orphans():
                display.note(line)
    finally:
        info = store.read_json(folder / "run.json")
        models = {**info.get("models", {}), **engines.cards()}
        prices = _prices(suite, engines, {**models, **_served(folder)})
        asked = list(dict.fromkeys([*info.get("asked", ()), *(s.id for s in specs)]))
        now = {"cells": planned, "asked": asked, "models": models, "price_book": prices}
        # a run that had nothing left to do was finished when it was
        if runner.worked or "finished" not in info or store.as_dict({**info, **now}) != info:
            store.write_json(folder / "run.json", {**info, **now, "finished": _now()})
        store.write_json(folder / "engines.json", engines.chosen())
        alarms = (*deployments.alarms(folder, engines.book), *swept.left)
        for alarm in alarms:
            display.note(alarm)
    return Outcome(folder, runner.states, alarms)


def _still_asked(specs: Sequence[CellSpec], info: Mapping[str, Any], display: Display) -> list[CellSpec]:
    """Without cells that have been left out of the run so far; what the suite has gained since is asked."""
    left_out = set(info.get("cells", ())) - set(info.get("asked") or info.get("cells", ()))
    kept = [s for s in specs if s.id not in left_out]
    if len(kept) < len(specs):
        number = len(specs) - len(kept)
        what = "a cell that was" if number == 1 else f"{number} cells that were"
        display.note(f"{what} left out before (--only) {'is' if number == 1 else 'are'} not run now either; "
                     "--only '*' runs everything")  # fmt: skip
    return kept


def _look_again(runner: Runner, specs: Sequence[CellSpec], engines: Engines, gate: ahead.Gate) -> None:
    """Let the gate look at what a resumed run has left to do, and keep what it found."""
    left, trained = runner.unfinished(specs)
    if not left:
        return
    info = store.read_json(runner.folder / "run.json")
    before = info.get("preflight")
    look = gate(
        ahead.Ahead(runner.suite, runner.folder, runner.tasks, left, engines, runner.display, trained, before)
    )
    if look is not None:
        ahead.keep(runner.folder, look)
        store.write_json(runner.folder / "run.json", {**info, "preflight": look.summary()})


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """["torch 2.13.0, now 2.14.0"] for each package whose version is another one."""
    return [
        f"{name} {before.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _frozen(suite: Suite, options: Options) -> Suite:
    """The suite with a limit written in, so that the frozen file alone repeats the run."""
    if options.limit is None:
        return suite
    if suite.evaluate.crossfit is not None:
        most = least(suite.evaluate.examples, options.limit)
        return suite.model_copy(update={"evaluate": suite.evaluate.model_copy(update={"examples": most})})
    tasks = {
        name: entry.model_copy(
            update={
                "limits": entry.limits.model_copy(
                    update={"test": min(options.limit, entry.limits.test or options.limit)}
                )
            }
        )
        for name, entry in suite.tasks.items()
    }
    return suite.model_copy(update={"tasks": tasks})


def _versions() -> dict[str, str]:
    from breakeven.harness import hardware

    return hardware.versions()


def _hardware() -> dict[str, Any]:
    from breakeven.harness import hardware

    return dict(hardware.describe())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def offline_by_default() -> None:
    """Keep the libraries from asking the network about what is already here, and threads from waiting busily.

    OpenMP's threads spin for milliseconds before they sleep: beside any other process both wait for each
    other. After 1,000 turns they sleep here; must be set before torch is imported.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
