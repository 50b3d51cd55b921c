"""One strategy on one task, looked at without running it: what `export` and `preflight` need.

Builds the suite that a task and a strategy make together, so that all of them mean what a run would mean.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.harness import plan, pool, progress, registry, run_tasks
from breakeven.harness import run as runs
from breakeven.harness import suite as suites
from breakeven.harness._foresee import World
from breakeven.harness.contracts import Services, Task
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.models import DEFAULT_MODEL
from breakeven.harness.plan import CellSpec
from breakeven.harness.suite import Suite
from breakeven.harness.training import Exportable
from breakeven.harness.yamlfile import YamlFile


def is_suite(what: str) -> bool:
    """Whether a name or file is a suite rather than a task."""
    path = Path(what)
    if path.is_dir():
        return (path / "suite.yaml").exists()
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        data = YamlFile(path).data
        return isinstance(data, dict) and "strategies" in data
    return what in suites.shipped()


def as_suite(what: str, strategy: str, model: str = "", changes: Sequence[str] = ()) -> Suite:
    """The suite of a task and a strategy; of a suite, itself, with the strategy added if it is a file.

    Args:
        what: a suite's or task's name or file.
        strategy: a named setting or one of the suite's, or a YAML file of the levers' settings.
        model: of a task; the default model unless said.
    """
    settings = _settings_file(strategy)
    if is_suite(what):
        path = suites.find(what)
        if settings is None:
            return suites.load(path, changes)
        data = dict(YamlFile(path).data)
        data["strategies"] = _with(data.get("strategies"), strategy_name(strategy), settings)
        return suites.made(data, path.parent, changes)
    name = Path(what.rpartition(":")[2] if ".py:" in what else what).name
    data = {
        "suite": "single",
        "tasks": {name.split(".")[0]: {"task": str(Path(what).resolve()) if Path(what).exists() else what}},
        "models": {"default": {"model": model or DEFAULT_MODEL}},
        "strategies": {strategy_name(strategy): settings or {}},
    }
    return suites.made(data, Path.cwd(), changes)


def strategy_name(strategy: str) -> str:
    """A strategy's name; of a file, the file's."""
    is_file = strategy.endswith((".yaml", ".yml"))
    return Path(strategy).name.rpartition(".")[0] if is_file else strategy


def _settings_file(strategy: str) -> dict[str, Any] | None:
    if not strategy.endswith((".yaml", ".yml")):
        return None
    data = YamlFile(Path(strategy)).data
    if not isinstance(data, dict):
        raise UserError("should hold the settings of a strategy", file=strategy, hint="weights: {rank: 16}")
    return data


def _with(strategies: Any, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    known = {str(n): {} for n in strategies} if isinstance(strategies, list) else dict(strategies or {})
    return {**known, name: settings}


@dataclass(frozen=True)
class Single:
    """One cell and what it takes to look at it."""

    suite: Suite
    spec: CellSpec
    task: Task
    world: World
    strategy: Exportable

    def services(self) -> Services:
        return self.world.services(self.spec, Ledger())


@contextmanager
def tuned(
    suite: Suite, only: Sequence[str] = (), prices: Path | None = None, *, declared: bool = False
) -> Iterator[list[Single]]:
    """Every strategy that tunes weights, once for each task and model: the largest training size, the first
    seed. `only` are patterns as those of a run. `declared`: a model that cannot run here may be known by its
    declared architecture alone.

    Raises:
        UserError: what a run of the suite would refuse before it starts.
    """
    runs.offline_by_default()
    tasks = run_tasks.load_tasks(suite, None)
    kinds: dict[tuple[str, str, str | None], CellSpec] = {}
    for spec in plan.cells(suite, tasks, only):
        key = spec.task, spec.strategy, spec.model
        if key not in kinds or spec.train_size > kinds[key].train_size:
            kinds[key] = spec
    engines = pool.Engines(suite, {}, prices, asks=False, declared=declared)  # nothing is sent from here
    pool.fetch_models(suite, list(kinds.values()), progress.PlainDisplay(_stderr()), declared=declared)
    with tempfile.TemporaryDirectory() as folder:
        world = World(suite, tasks, engines.get, engines.embedder, Path(folder))
        found = []
        for spec in kinds.values():
            strategy = plan.make_strategy(spec.strategy, spec.factory, spec.settings)
            if isinstance(strategy, Exportable) and spec.settings.get("weights") is not None:
                found.append(Single(suite, spec, plan.task_of(tasks, spec), world, strategy))
        yield found


@contextmanager
def single(suite: Suite, only: str, *, declared: bool = False) -> Iterator[Single]:
    """The one that `only` (a strategy, cell or pattern) means. Raises UserError if none or several do."""
    with tuned(suite, [only], declared=declared) as found:
        if not found:
            raise UserError(f"'{only}' tunes no weights", field="--strategy", hint="one with `weights`")
        if len(found) > 1:
            raise UserError(
                f"'{only}' means {len(found)} trainings",
                field="--strategy",
                hint=f"name one: {', '.join(one.spec.id for one in found[:6])}",
            )
        if found[0].spec.fold is not None:
            raise UserError("rows are scored out of fold here: there are several trainings", field="evaluate")
        yield found[0]


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def located(model: str) -> str:
    """Where another program on this machine finds a model that Breakeven knows by a name of its own."""
    from breakeven.harness import models

    entry = models.known(model)
    if entry is not None and entry.hub is not None:
        return entry.hub
    if entry is not None or registry.locate(model, None) is not None:
        return str(models.resolve(model).resolve())
    return model
