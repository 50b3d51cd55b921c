"""From a suite to its cells: what has to be run, under which names, with which addresses.

A cell is task x strategy x model x training size x seed, and x fold where rows are scored out of fold; less
what the strategy does not vary with, so that no cell is run twice.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any

from breakeven.harness import registry
from breakeven.harness.contracts import Example, Metric, Strategy, Task
from breakeven.harness.errors import BreakevenError, UserError
from breakeven.harness.folds import CrossfitTask, nested
from breakeven.harness.store import digest
from breakeven.harness.suite import StrategyEntry, Suite, TaskEntry

#: Bytes of a folder's name; file systems take 255.
LONGEST_ID = 240


@dataclass(frozen=True, slots=True)
class CellSpec:
    """A cell as JSON; `factory` and `settings` re-create its strategy anywhere.

    `fold` counts from 1; without one a cell is fitted once and answers all that is scored.
    """

    id: str
    task: str
    strategy: str
    factory: str
    settings: Mapping[str, Any] = field(hash=False)
    model: str | None
    train_size: int
    seed: int | None
    fold: int | None = None

    @property
    def joined(self) -> str:
        """The id under which results show the folds of a cell as one."""
        return self.id if self.fold is None else self.id.removesuffix(fold_suffix(self.fold))


def fold_suffix(fold: int) -> str:
    """What the id of a fold's cell ends in."""
    return f"--f{fold}"


def task_of(tasks: Mapping[str, Task], spec: CellSpec) -> Task:
    """What a cell is fitted and scored on: its task, or the fold of it."""
    task = tasks[spec.task]
    if spec.fold is None:
        return task
    assert isinstance(task, CrossfitTask)
    return task.folds[spec.fold - 1]


def full_size(task: Task) -> int:
    """The training size that means all rows; where rows are scored out of fold, the mean over the folds."""
    return task.sizes["train"] if isinstance(task, CrossfitTask) else len(task.train)


def training_rows(tasks: Mapping[str, Task], spec: CellSpec) -> tuple[Example, ...]:
    """The training rows for `fit`: some of those of a larger size, the same for all strategies and seeds.

    By choice where the task has choices. Each fold draws its own, or the folds would share nearly all of a
    small training set, and how much hangs on which rows it holds would not show.
    """
    task = task_of(tasks, spec)
    if spec.train_size >= full_size(tasks[spec.task]):
        return task.train
    salt = f"fold {spec.fold}" if spec.fold is not None else ""
    return nested(task.train, spec.train_size, stratify=task.choices is not None, salt=salt)


def load_task(name: str, entry: TaskEntry, limit: int | None = None) -> Task:
    """The task of a suite's entry, limited. Raises UserError with the entry's name in it."""
    target = (
        Path(entry.task) if entry.task.endswith((".yaml", ".yml")) else registry.find("tasks", entry.task)
    )
    if isinstance(target, Path):
        from breakeven.harness.taskfile import load

        task = called(f"tasks.{name}.args", load, target, **entry.args)
    else:
        task = called(f"tasks.{name}.args", target, **entry.args)
    if not isinstance(task, Task):
        raise UserError(f"'{entry.task}' returned {type(task).__name__}, not a Task", field=f"tasks.{name}")
    _check_task(name, task)
    limits = entry.limits.model_dump()
    if limit is not None:
        limits["test"] = min(limit, limits["test"] or limit)
    return task.limited(**limits)


def _check_task(name: str, task: Task) -> None:
    """What `make_task` makes sure of, for tasks that were put together by hand."""
    if not task.test:
        raise UserError("the test split is empty", field=f"tasks.{name}", hint="nothing could be scored")
    if not task.metrics:
        raise UserError("the task has no metric", field=f"tasks.{name}")
    seen: set[str] = set()
    for example in (*task.train, *task.validation, *task.test):
        if example.id in seen:
            raise UserError(
                f"two examples have the id '{example.id}'",
                field=f"tasks.{name}",
                hint="ids must be unique over all splits",
            )
        seen.add(example.id)


def make_strategy(name: str, factory: str, settings: Mapping[str, Any]) -> Strategy:
    """Raises UserError whose field says which strategy it is about."""
    where = f"strategies.{name}"
    try:
        made = called(where, registry.find("strategies", factory), **settings)
    except UserError as error:
        if error.file is not None or (error.field or "").startswith(where):
            raise
        field = f"{where}.{error.field}" if error.field else where
        raise UserError(error.what, line=error.line, field=field, hint=error.hint) from error
    if not hasattr(made, "fit") or not hasattr(made, "varies_with"):
        raise UserError(
            f"'{factory}' is no strategy: it lacks fit or varies_with", field=f"strategies.{name}"
        )
    strategy: Strategy = made
    return strategy


def called(where: str, function: Callable[..., Any], /, *args: Any, **settings: Any) -> Any:
    """`function(**settings)`; a setting it does not take, a file that is not there is the user's error."""
    import inspect

    parameters = inspect.signature(function).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [k for k in settings if k not in parameters]
    if unknown and not takes_all:
        known = ", ".join(k for k in list(parameters)[len(args) :]) or "none"
        raise UserError("unknown setting", field=f"{where}.{unknown[0]}", hint=f"known: {known}")
    try:
        return function(*args, **settings)
    except (TypeError, ValueError, OSError) as error:
        if isinstance(error, BreakevenError):
            raise
        raise UserError(str(error), field=where) from error


def cells(suite: Suite, tasks: Mapping[str, Task], only: Sequence[str] = ()) -> list[CellSpec]:
    """All cells in the suite's order.

    Args:
        only: glob patterns on strategy names or cell ids; none means everything.
    """
    specs: dict[str, CellSpec] = {}
    for task_name, task in tasks.items():
        for name, entry in suite.strategies.items():
            if entry.tasks is None or task_name in entry.tasks:
                for spec in _cells_of(suite, task_name, task, name, entry):
                    _check_id(spec, specs.setdefault(spec.id, spec))
    chosen = [s for s in specs.values() if not only or any(_matches(s, pattern) for pattern in only)]
    if only and not chosen:
        raise UserError(
            f"no strategy or cell matches {' or '.join(map(repr, only))}",
            field="--only",
            hint=f"strategies: {', '.join(suite.strategies)}",
        )
    return chosen


def _matches(spec: CellSpec, pattern: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for name in (spec.strategy, spec.id, spec.joined))


def _cells_of(suite: Suite, task_name: str, task: Task, name: str, entry: StrategyEntry) -> list[CellSpec]:
    varies = make_strategy(name, entry.strategy, entry.settings).varies_with
    models: list[str | None] = list(entry.models or suite.models) if "model" in varies else [None]
    full = full_size(task)
    wanted = [full if n == "all" else min(int(n), full) for n in suite.train_sizes]
    sizes = sorted(set(wanted)) if "train_size" in varies else [max(wanted)]
    seeds: list[int | None] = list(suite.seeds) if "seed" in varies else [None]
    learns = bool({"train_size", "seed"} & set(varies))  # from rows, so never from those it answers
    folds: list[int | None] = list(task.used) if learns and isinstance(task, CrossfitTask) else [None]
    many_models, many_sizes = len(suite.models) > 1, len(set(wanted)) > 1
    found = []
    for model, size, seed, fold in product(models, sizes, seeds, folds):
        parts = [task_name, name]
        if many_models and model is not None:
            parts.append(model)
        if many_sizes and "train_size" in varies:
            parts.append(f"n{size}")
        if seed is not None:
            parts.append(f"s{seed}")
        id = "--".join(_safe(p) for p in parts) + (fold_suffix(fold) if fold is not None else "")
        found.append(CellSpec(id, task_name, name, entry.strategy, entry.settings, model, size, seed, fold))
    return found


def _check_id(spec: CellSpec, other: CellSpec) -> None:
    """Raises UserError where two cells would share a folder, or a folder's name would be too long."""
    if spec != other:
        ours, theirs = (
            f"strategy '{s.strategy}' on task '{s.task}'" + (f" with model '{s.model}'" if s.model else "")
            for s in (spec, other)
        )
        raise UserError(
            f"{ours} and {theirs} would both be called '{spec.id}'",
            field=f"strategies.{spec.strategy}",
            hint="names must differ in more than punctuation; rename one of them",
        )
    if len(spec.id.encode()) > LONGEST_ID:
        raise UserError(
            f"the cell '{spec.id[:40]}...' has a name of {len(spec.id.encode())} bytes, which is too long "
            "for a folder",
            field=f"strategies.{spec.strategy[:40]}",
            hint="shorten the names of tasks, strategies or models",
        )


def _safe(name: str) -> str:
    """A name as part of a folder name."""
    return "".join(c if c.isalnum() or c in "+-_." else "_" for c in name)


def _metric_identity(metric: Metric) -> Any:
    """Name and options of a metric; never an object's address."""
    options: dict[str, Any] = asdict(metric) if is_dataclass(metric) and not isinstance(metric, type) else {}
    plain = (str, int, float, bool, list, tuple, dict, type(None))
    kept = {k: v for k, v in options.items() if isinstance(v, plain)}
    functions = [v for v in vars(metric).values() if callable(v)] if hasattr(metric, "__dict__") else []
    functions += [v for k, v in options.items() if callable(v) and v not in functions]
    return [
        type(metric).__name__,
        metric.name,
        kept,
        sorted({_source(f) for f in (*functions, type(metric))}),
    ]


def _source(thing: Any) -> str:
    """Hash of the file that a user's function or class stands in; its name alone for what is installed."""
    import inspect

    try:
        file = inspect.getsourcefile(thing)
    except TypeError:
        file = None
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"
    if file is None or not str(getattr(thing, "__module__", "")).startswith("breakeven_user_"):
        return name
    return digest(Path(file).read_text(encoding="utf-8", errors="replace"))


def says_which_document(task: Task) -> bool:
    """Whether every group of a test example is a document's id: then it is the document that answers."""
    known = {d.id for d in task.documents}
    groups = [e.group for e in task.test if e.group is not None]
    return bool(groups) and all(group in known for group in groups)


def untold(task: Task) -> int:
    """How many test examples do not say which document answers: their group is no document that has text."""
    known = {d.id for d in task.documents if d.text.strip()}
    return sum(e.group not in known for e in task.test)


def task_digest(task: Task) -> str:
    """Address of a task's content: everything that changes a prompt, a split or a score."""
    folds = {}
    if isinstance(task, CrossfitTask):  # rows that are not scored are fitted on all the same
        folds = {
            "folds": [[[e.id for e in s] for s in (f.train, f.validation, f.test)] for f in task.folds],
            "rows": [_row(e) for e in task.rows],
        }
    return digest(
        {
            **folds,
            "name": task.name,
            "instructions": task.instructions,
            "template": task.input_template,
            "choices": task.choices,
            "max_tokens": task.max_tokens,
            "metrics": [_metric_identity(m) for m in task.metrics],
            "splits": {s: [_row(e) for e in getattr(task, s)] for s in ("train", "validation", "test")},
            "documents": [[d.id, d.title, d.text] for d in task.documents],
            "language": task.language,
            "correct_at": task.correct_at,
        }
    )


def _row(example: Example) -> list[Any]:
    return [example.id, example.input, example.references, example.group]
