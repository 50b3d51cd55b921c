"""A suite: which tasks, models and strategies to run, as a YAML file; resolved, frozen, written back.

The pydantic models are the edge where people type. `load` resolves named settings, paths and defaults, so
that what is frozen into a run needs nothing else and is accepted again by `breakeven run`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from breakeven.harness import registry
from breakeven.harness.economics import Economics
from breakeven.harness.errors import UserError
from breakeven.harness.yamlfile import YamlFile, validated

DEFAULT_MODEL = "smollm2-135m-instruct"
#: In place of a strategy as `reference`: on each task the one that scores best on its validation examples.
BEST_ON_VALIDATION = "best-on-validation"
#: Arguments of tasks and models that are paths when they name something that exists.
PATH_KEYS = ("data_dir", "path", "file", "data", "documents", "folder", "chat_template")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(Strict):
    """At most so many examples of each split, the same ones every time."""

    train: int | None = Field(None, ge=0)
    validation: int | None = Field(None, ge=0)
    test: int | None = Field(None, ge=1)


class TaskEntry(Strict):
    task: str = ""
    args: dict[str, Any] = {}
    limits: Limits = Limits()  # type: ignore[call-arg]


class ModelEntry(BaseModel):
    """Settings beyond `model` and `engine` go to the engine."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str
    engine: str = "local"

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class StrategyEntry(BaseModel):
    """Settings beyond these go to the strategy."""

    model_config = ConfigDict(extra="allow", frozen=True)

    strategy: str = ""
    description: str = ""
    models: list[str] | None = None
    tasks: list[str] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Timing(Strict):
    """The passes that measure latency and priced seconds: examples asked, and how many at once."""

    examples: int = Field(8, ge=0)
    concurrency: int = Field(8, ge=1)


class Spending(Strict):
    """`spend` stops a run, `ask_above` asks before it starts; both in the currency of the economics.

    What counts is what others bill: hours of one's own machine are no money spent.
    """

    spend: float | None = Field(None, gt=0)
    ask_above: float = Field(10.0, ge=0, allow_inf_nan=False)
    allow_unpriced: bool = False


class Evaluate(Strict):
    """What is scored: the test split, or out of fold every labelled row.

    `crossfit` is the number of folds; `examples` then caps the rows that are scored, about as many a fold.
    """

    crossfit: int | None = Field(None, ge=2)
    examples: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _examples_of_folds(self) -> Evaluate:
        if self.examples is not None and self.crossfit is None:
            raise ValueError("examples counts with crossfit only: without it, say limits.test of a task")
        return self


class Suite(Strict):
    suite: str
    description: str = ""
    tasks: dict[str, TaskEntry] = Field(min_length=1)
    models: dict[str, ModelEntry] = {"default": ModelEntry(model=DEFAULT_MODEL)}
    strategies: dict[str, StrategyEntry] = Field(min_length=1)
    seeds: list[int] = Field([0], min_length=1)
    train_sizes: list[int | Literal["all"]] = Field(["all"], min_length=1)
    reference: str = ""
    evaluate: Evaluate = Evaluate()  # type: ignore[call-arg]
    timing: Timing = Timing()  # type: ignore[call-arg]
    limits: Spending = Spending()  # type: ignore[call-arg]
    allow_hosts: list[str] | None = None
    economics: Economics = Economics()  # type: ignore[call-arg]

    @field_validator("tasks", "models", "strategies", mode="before")
    @classmethod
    def _empty_entries(cls, value: Any) -> Any:
        """`name:` and a list of names mean `name: {}`."""
        if isinstance(value, list):
            value = {str(name): {} for name in value}
        if isinstance(value, Mapping):
            return {k: ({} if v is None else v) for k, v in value.items()}
        return value

    @field_validator("tasks")
    @classmethod
    def _folder_names(cls, value: dict[str, TaskEntry]) -> dict[str, TaskEntry]:
        """A task's name is the name of a folder in the run."""
        for name in value:
            if name in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in name):
                raise ValueError(f"{name!r} cannot be a task's name: say `name: {{task: {name}}}`")
            if len(name.encode()) > 120:
                raise ValueError(f"the task's name '{name[:40]}...' is too long")
        return value

    @field_validator("allow_hosts")
    @classmethod
    def _are_hosts(cls, value: list[str] | None) -> list[str] | None:
        for host in value or []:
            if not host or "/" in host or "@" in host or any(c.isspace() for c in host):
                raise ValueError(
                    f"'{host}' is no host: say api.openai.com, *.openai.azure.com or 127.0.0.1:8000"
                )
        return value

    @field_validator("train_sizes")
    @classmethod
    def _some_examples(cls, value: list[int | Literal["all"]]) -> list[int | Literal["all"]]:
        if any(size != "all" and size < 0 for size in value):
            raise ValueError("should be numbers of examples, or all")
        return value

    @field_validator("seeds", "train_sizes")
    @classmethod
    def _no_repeats(cls, value: list[Any]) -> list[Any]:
        if len(set(value)) != len(value):
            raise ValueError("should not repeat a value")
        return value

    def to_yaml(self) -> str:
        data = self.model_dump(mode="json", exclude_defaults=False)
        # What nobody gave stays open, so that a report can mark it as assumed.
        data["economics"] = self.economics.model_dump(mode="json", exclude_unset=True)
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def find(name: str) -> Path:
    """The file of a suite: a path, or the name of one that comes with an installed package."""
    path = Path(name)
    is_suite = path.suffix in {".yaml", ".yml"} or path.is_file() or (path / "suite.yaml").exists()
    known = {} if is_suite else shipped()  # a folder of the same name hides no suite that comes along
    if is_suite or (path.exists() and name not in known):
        if path.is_dir() and (path / "suite.yaml").exists():
            return path / "suite.yaml"
        if not path.is_file():
            raise UserError("no such suite file", file=path)
        return path
    if name not in known:
        raise UserError(
            f"there is no suite called '{name}'", hint=f"known: {', '.join(sorted(known))}, or a file"
        )
    return known[name]


def shipped() -> dict[str, Path]:
    """Suites that installed packages carry, by name."""
    return {path.stem: path for path in registry.data_files("tasks", "suites/*.yaml")}


def load(path: Path, changes: Sequence[str] = ()) -> Suite:
    """Read, override, check and resolve a suite file.

    Args:
        changes: "dotted.key=value" with YAML values, as `--set` takes them.
    """
    source = YamlFile(path)
    data = copy.deepcopy(source.data)
    suite = validated(Suite, data, source)  # errors first without overrides: their lines are right
    if changes:
        data = suite.model_dump(mode="json", exclude_unset=True)
        for change in changes:
            _apply(data, change)
        suite = validated(Suite, data, None)
    return _resolved(suite, source)


@contextmanager
def placed(path: Path | None) -> Iterator[None]:
    """Within, an error about a key of this suite's is told with the file and line it stands in.

    Args:
        path: the suite's file; None: errors are told as they are.
    """
    try:
        yield
    except UserError as error:
        parts = (error.field or "").split(".")
        if path is None or error.file is not None or parts[0] not in Suite.model_fields:
            raise
        line = YamlFile(path).line(parts)
        raise UserError(error.what, file=path, line=line, field=error.field, hint=error.hint) from error


def made(data: Mapping[str, Any], base: Path, changes: Sequence[str] = ()) -> Suite:
    """A suite that stands in no file; relative paths start at `base`. Raises UserError as `load` does."""
    changed = copy.deepcopy(dict(data))
    validated(Suite, changed, None)
    for change in changes:
        _apply(changed, change)
    try:
        return _resolved(validated(Suite, changed, None), _Unwritten(base))
    except UserError as error:
        raise UserError(error.what, field=error.field, hint=error.hint) from error


class _Unwritten(YamlFile):
    """Where settings come from that nobody wrote into a file."""

    def __init__(self, base: Path) -> None:
        self.path, self.data = base / "suite.yaml", None

    def line(self, location: Sequence[str | int]) -> int | None:
        return None


def _apply(data: dict[str, Any], change: str) -> None:
    key, equals, raw = change.partition("=")
    if not equals or not key:
        raise UserError(f"'{change}' is no change", field="--set", hint="write it as key.key=value")
    target = data
    *parents, last = key.split(".")
    for part in parents:
        value = target.setdefault(part, {})
        if not isinstance(value, dict):
            raise UserError(f"'{part}' in '{key}' holds a value, not keys", field="--set")
        target = value
    try:
        target[last] = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UserError(f"'{raw}' is not a YAML value", field="--set") from error


def _resolved(suite: Suite, source: YamlFile) -> Suite:
    base = source.path.parent
    tasks = {name: _task(name, entry, base, source) for name, entry in suite.tasks.items()}
    models = {
        name: ModelEntry(
            **{**_paths(_files(entry.model_dump(), base), base), "model": _model(entry.model, base)}
        )
        for name, entry in suite.models.items()
    }
    suite = _with_incumbent(suite, base, source)
    strategies = {n: _strategy(n, e, suite, base, source) for n, e in suite.strategies.items()}
    reference = suite.reference or next(iter(strategies))
    if reference not in (*strategies, BEST_ON_VALIDATION):
        raise UserError(
            f"'{reference}' is no strategy of this suite",
            file=source.path,
            line=source.line(["reference"]),
            field="reference",
            hint=f"one of {', '.join(strategies)}, or {BEST_ON_VALIDATION}",
        )
    if reference == BEST_ON_VALIDATION and suite.evaluate.crossfit is not None:
        raise UserError(
            f"'{BEST_ON_VALIDATION}' needs validation examples, and with crossfit every row is scored",
            file=source.path,
            line=source.line(["reference"]),
            field="reference",
            hint="name a strategy",
        )
    return suite.model_copy(
        update={"tasks": tasks, "models": models, "strategies": strategies, "reference": reference}
    )


def _with_incumbent(suite: Suite, base: Path, source: YamlFile) -> Suite:
    """The suite in which the incumbent, where its answers are in a file, is a strategy like the others."""
    given = suite.economics.incumbent
    place = ["economics", "incumbent"]
    if isinstance(given, str) and given not in suite.strategies:
        raise UserError(
            f"'{given}' is no strategy of this suite",
            file=source.path,
            line=source.line(place),
            field=".".join(place),
            hint=f"one of {', '.join(suite.strategies)}; or say its predictions, or its quality",
        )
    if given is None or isinstance(given, str) or given.predictions is None:
        return suite
    path = registry.locate(given.predictions, base)
    if path is None or not path.is_file():
        raise UserError(
            f"there is no file '{given.predictions}'",
            file=source.path,
            line=source.line([*place, "predictions"]),
            field=".".join([*place, "predictions"]),
        )
    if given.name in suite.strategies:
        raise UserError(
            f"'{given.name}' is a strategy of this suite already",
            file=source.path,
            line=source.line([*place, "name"]),
            field=".".join([*place, "name"]),
            hint="give the incumbent another name",
        )
    settings = {"file": str(path.resolve()), "cost_per_1000": given.cost_per_1000}
    described = {"strategy": "recorded", "description": "What is in service today."}
    entry = StrategyEntry.model_validate({**described, **settings})
    return suite.model_copy(
        update={
            "strategies": {given.name: entry, **suite.strategies},
            "economics": suite.economics.model_copy(update={"incumbent": given.name}),
        }
    )


def _task(name: str, entry: TaskEntry, base: Path, source: YamlFile) -> TaskEntry:
    task = entry.task or name
    file_name, colon, attribute = task.rpartition(":")
    is_file = task.endswith((".yaml", ".yml")) or (bool(colon) and file_name.endswith(".py"))
    if is_file:
        file_name = file_name if colon and file_name.endswith(".py") else task
        path = registry.locate(file_name, base)
        if path is None:
            raise UserError(
                f"there is no task file '{file_name}'",
                file=source.path,
                line=source.line(["tasks", name]),
                field=f"tasks.{name}",
            )
        task = f"{path.resolve()}:{attribute}" if file_name != task else str(path.resolve())
    elif task not in registry.providers("tasks"):
        try:
            registry.find("tasks", task)
        except UserError as error:
            raise UserError(
                error.what,
                file=source.path,
                line=source.line(["tasks", name]),
                field=f"tasks.{name}",
                hint=error.hint,
            ) from None
    return TaskEntry(task=task, args=_paths(entry.args, base), limits=entry.limits)


def _model(model: str, base: Path) -> str:
    path = registry.locate(model, base) if "/" in model or model.startswith(".") else None
    return str(path.resolve()) if path is not None and path.is_dir() else model


def _paths(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Values of path-like keys made absolute, where they name something that exists."""
    made = dict(values)
    for key in PATH_KEYS:
        if isinstance(made.get(key), str):
            found = registry.locate(made[key], base)
            if found is not None:
                made[key] = str(found.resolve())
    return made


def presets() -> dict[str, dict[str, Any]]:
    """Named settings from the `presets.yaml` of every installed strategies package."""
    merged: dict[str, dict[str, Any]] = {}
    for path in registry.data_files("strategies", "presets.yaml"):
        merged.update(yaml.safe_load(path.read_text(encoding="utf-8")))
    return merged


def _strategy(name: str, entry: StrategyEntry, suite: Suite, base: Path, source: YamlFile) -> StrategyEntry:
    def wrong(what: str, hint: str | None = None, key: str | None = None) -> UserError:
        place = ["strategies", name, *([key] if key else [])]
        return UserError(what, file=source.path, line=source.line(place), field=".".join(place), hint=hint)

    known = {**{n: {} for n in registry.providers("strategies")}, **presets()}
    settings, description = entry.settings, entry.description
    if entry.strategy:
        factory = entry.strategy
        if ".py:" in factory:
            located = registry.locate(factory.rpartition(":")[0], base)
            if located is None:
                raise wrong(f"there is no file for '{factory}'", key="strategy")
            factory = f"{located.resolve()}:{factory.rpartition(':')[2]}"
        elif factory not in registry.providers("strategies"):
            raise wrong(f"there is no strategy called '{factory}'",
                        f"known: {', '.join(registry.providers('strategies'))}", "strategy")  # fmt: skip
    elif name in known:
        preset = copy.deepcopy(known[name])
        factory = str(preset.pop("strategy", name))
        description = description or str(preset.pop("description", ""))
        preset.pop("description", None)
        settings = _merged(preset, settings)
    elif settings:
        factory = "levers"
    else:
        raise wrong(f"there is no named setting called '{name}'", f"known: {', '.join(sorted(known))}")
    for key, names, have in (("models", entry.models, suite.models), ("tasks", entry.tasks, suite.tasks)):
        unknown = [n for n in names or [] if n not in have]
        if unknown:
            raise wrong(f"'{unknown[0]}' is none of the suite's {key}", f"one of {', '.join(have)}", key)
    return StrategyEntry(
        strategy=factory,
        description=description,
        models=entry.models,
        tasks=entry.tasks,
        **_files(settings, base),
    )


def _files(settings: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Every `file.py:name` in the settings (of a trainer, an engine) made absolute, where the file exists."""
    made = dict(settings)
    for key, value in made.items():
        if isinstance(value, Mapping):
            made[key] = _files(value, base)
        elif isinstance(value, str) and ".py:" in value:
            file_name, _, attribute = value.rpartition(":")
            found = registry.locate(file_name, base) if file_name.endswith(".py") else None
            if found is not None and found.is_file():
                made[key] = f"{found.resolve()}:{attribute}"
    return made


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid upon `base`, nested mappings key by key; null removes a lever."""
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _merged(dict(result[key]), value)
        else:
            result[key] = value
    return result
