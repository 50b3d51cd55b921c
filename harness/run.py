"""One run from the outside: make or reopen its folder, freeze what it depends on, run, record.

`start` is for a new folder, `resume` for an old one; both end in `_go`. The folder's layout is described in
docs/run-folder.md.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from breakeven.harness import plan, registry, store
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Embedder, Engine, Task
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.runner import Display, Runner, State
from breakeven.harness.suite import ModelEntry, Suite


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a suite. `limit` caps test examples, `only` are glob patterns."""

    only: tuple[str, ...] = ()
    limit: int | None = None
    keep_prompts: bool = False
    prices: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    folder: Path
    states: Mapping[str, State]

    @property
    def exit_code(self) -> int:
        """0 everything ran or does not apply, 1 a cell failed or was stopped, 3 only hosted jobs are waited for."""
        if any(s in ("failed", "stopped", "waiting") for s in self.states.values()):
            return 1
        return 3 if "pending" in self.states.values() else 0


def load_tasks(suite: Suite, limit: int | None) -> dict[str, Task]:
    return {name: _named(plan.load_task(name, entry, limit), name) for name, entry in suite.tasks.items()}


def new_folder(root: Path, suite: Suite, name: str | None) -> Path:
    """The folder of a new run; `name` must be free, else the suite's name and a number are taken."""
    if name is not None:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise UserError(f"'{name}' cannot be a folder name", field="--name", hint="use letters, digits, - _ + .")
        folder = root / name
        if (folder / "run.json").exists():
            raise UserError(
                "a run is already there", file=folder, hint=f"continue it with: breakeven run --resume {folder}"
            )
        return folder
    numbers = [int(m[1]) for p in root.glob(f"{suite.suite}-*") if (m := re.fullmatch(r".*-(\d+)", p.name))]
    return root / f"{suite.suite}-{max(numbers, default=0) + 1}"


def start(suite: Suite, folder: Path, options: Options, display: Display) -> Outcome:
    tasks = load_tasks(suite, options.limit)
    specs = plan.cells(suite, tasks, options.only)  # every setting is checked before anything is written
    with store.locked(folder):
        suite = _frozen(suite, options)
        store.write_text(folder / "suite.yaml", suite.to_yaml())
        for name, task in tasks.items():
            write_task(folder / "tasks" / name, task)
        info = {
            "name": folder.name,
            "suite": suite.suite,
            "created": _now(),
            "command": shlex.join(["breakeven", *sys.argv[1:]]),
            "versions": versions(),
            "hardware": _hardware(),
            "tasks": list(tasks),
            "cells": [s.id for s in plan.cells(suite, tasks)],
            "asked": [s.id for s in specs],
            "reference": suite.reference,
            "currency": suite.economics.currency,
            "limit": options.limit,
            "keep_prompts": options.keep_prompts,
        }
        store.write_json(folder / "run.json", info)
        return _go(suite, folder, tasks, options, display)


def resume(folder: Path, options: Options, display: Display) -> Outcome:
    """Go on with a run: finished cells are kept, broken-off ones continue, failed ones are tried again."""
    info = store.read_json(folder / "run.json")
    if info is None:
        raise UserError("not a run folder: there is no run.json in it", file=folder)
    suite = suites.load(folder / "suite.yaml")
    options = Options(
        options.only,
        options.limit or info.get("limit"),
        options.keep_prompts or info.get("keep_prompts", False),
        options.prices,
    )
    tasks = load_tasks(suite, options.limit)
    with store.locked(folder):
        for name, task in tasks.items():
            before = store.read_json(folder / "tasks" / name / "task.json", {}).get("hash")
            if before != plan.task_digest(task):
                display.note(f"task {name} is not what it was when this run began; its cells run again")
                write_task(folder / "tasks" / name, task)
        return _go(suite, folder, tasks, options, display)


def _go(suite: Suite, folder: Path, tasks: Mapping[str, Task], options: Options, display: Display) -> Outcome:
    engines = Engines(suite, folder, options.prices)
    specs = plan.cells(suite, tasks, options.only)
    runner = Runner(suite, folder, tasks, engines.get, engines.embedder, display, options.keep_prompts)
    try:
        runner.run(specs)
    finally:
        info = store.read_json(folder / "run.json")
        info["models"] = {**info.get("models", {}), **engines.cards()}
        info["finished"] = _now()
        info["prices"] = engines.price_file
        store.write_json(folder / "run.json", info)
    return Outcome(folder, runner.states)


class Engines:
    """The shared engines and the shared embedding model of a run; made when first asked for."""

    def __init__(self, suite: Suite, folder: Path, prices: Path | None) -> None:
        self._suite, self._folder = suite, folder
        self._made: dict[str, Engine] = {}
        self._embedder: Any = None
        self._guard: Any = None
        self.price_file = str(prices) if prices else None

    def get(self, name: str) -> Engine:
        if name not in self._made:
            entry = self._suite.models[name]
            factory = registry.find("engines", entry.engine)
            settings = {**entry.settings, **self._frozen_settings(name)}
            if "guard" in _parameters(factory):
                settings["guard"] = self._spend_guard(entry)
            self._made[name] = plan.called(f"models.{name}", factory, entry.model, **settings)
            self._freeze(name)
        return self._made[name]

    def embedder(self, ledger: Ledger) -> Embedder:
        from breakeven.harness.embedding import SentenceEmbedder

        if self._embedder is None:
            self._embedder = SentenceEmbedder()
        bound: Embedder = self._embedder.bind(ledger)
        return bound

    def cards(self) -> dict[str, Any]:
        return {name: asdict(engine.describe()) for name, engine in self._made.items()}

    def _frozen_settings(self, name: str) -> dict[str, Any]:
        """What the engine chose for itself when the run began (dtype, device): kept on resume."""
        frozen: dict[str, Any] = store.read_json(self._folder / "engines.json", {}).get(name, {})
        return frozen

    def _freeze(self, name: str) -> None:
        chosen = getattr(self._made[name], "chosen_settings", None)
        known = store.read_json(self._folder / "engines.json", {})
        if chosen is not None and name not in known:
            store.write_json(self._folder / "engines.json", {**known, name: chosen()})

    def _spend_guard(self, entry: ModelEntry) -> Any:
        from breakeven.harness.spending import SpendGuard

        if self._guard is None:
            limits = self._suite.limits
            self._guard = SpendGuard(limits.spend, allow_unpriced=limits.allow_unpriced)
        return self._guard


def write_task(folder: Path, task: Task) -> None:
    """The task as it was run; test examples with their references, for the report."""
    from breakeven.harness.splits import duplicates_between

    pairs = duplicates_between((*task.train, *task.validation), task.test)
    store.write_lines(folder / "test.jsonl", task.test)
    store.write_json(
        folder / "task.json",
        {
            "name": task.name,
            "description": task.description,
            "instructions": task.instructions,
            "input_template": task.input_template,
            "language": task.language,
            "licence": task.licence,
            "choices": task.choices,
            "metrics": [
                {"name": m.name, "range": m.range, "higher_is_better": m.higher_is_better, "additive": m.additive}
                for m in task.metrics
            ],
            "correct_at": task.correct_at,
            "sizes": {s: len(getattr(task, s)) for s in ("train", "validation", "test")},
            "documents": len(task.documents),
            "cut": task.cut,
            "duplicates": {"exact": pairs.exact, "near": pairs.near},
            "hash": plan.task_digest(task),
        },
    )


def _named(task: Task, name: str) -> Task:
    from dataclasses import replace

    return task if task.name == name else replace(task, name=name)


def _frozen(suite: Suite, options: Options) -> Suite:
    """The suite with a limit written in, so that the frozen file alone repeats the run."""
    if options.limit is None:
        return suite
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


@cache
def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    from importlib import metadata

    import platform

    names = ("breakeven", "torch", "transformers", "peft", "sentence-transformers", "faiss-cpu", "datasets",
             "tokenizers", "scikit-learn", "numpy")  # fmt: skip
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _hardware() -> dict[str, Any]:
    from breakeven.harness import hardware

    return dict(hardware.describe())


def _parameters(function: Any) -> set[str]:
    import inspect

    return set(inspect.signature(function).parameters)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def offline_by_default() -> None:
    """Keep the libraries from asking the network about what is already here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
