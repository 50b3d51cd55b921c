"""A run's task as its data now are: loaded, matched with the examples that were answered, compared.

`rescoring` says what is asked for and judges by what comes out of here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from breakeven.harness import plan, registry, store
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Example, Task
from breakeven.harness.errors import UserError
from breakeven.harness.results import TaskResult
from breakeven.harness.suite import TaskEntry
from breakeven.harness.yamlfile import YamlFile

# --- what a suite says -----------------------------------------------------------------------


def entry_for(entry: TaskEntry, specs: Sequence[Any]) -> TaskEntry:
    """The entry of a task file so that it alone says what is scored; a task in Python as it is.

    Splits that a changed `data` does not name stay the file's own; `specs` go before the file's metrics.
    """
    file = task_file(entry)
    if file is None:
        return entry
    args, own = dict(entry.args), YamlFile(file).data
    if isinstance(args.get("data"), Mapping) and isinstance(own.get("data"), Mapping):
        args["data"] = {**own["data"], **args["data"]}
    if specs:
        had = args.get("metrics", own.get("metrics"))
        rest = had if isinstance(had, list) else [had]
        args["metrics"] = [*specs, *(s for s in rest if _name(s) not in {_name(x) for x in specs})]
    return entry.model_copy(update={"args": args})


def task_file(entry: TaskEntry) -> Path | None:
    """The YAML file of a task, None for one in Python."""
    if entry.task.endswith((".yaml", ".yml")):
        return Path(entry.task)
    found = registry.find("tasks", entry.task)
    return found if isinstance(found, Path) else None


def full_paths(value: Any) -> Any:
    """A path, or paths by split, made absolute where they name something that exists."""
    if isinstance(value, dict):
        return {key: full_paths(v) for key, v in value.items()}
    found = registry.locate(value, None) if isinstance(value, str) else None
    return str(found.resolve()) if found is not None else value


def absolute(spec: Any) -> Any:
    """A metric's `file.py:name` with the file's full path, so that a suite that holds it can be anywhere."""
    target = spec.get("metric") if isinstance(spec, dict) else spec
    if not isinstance(target, str) or ".py:" not in target:
        return spec
    file, _, attribute = target.rpartition(":")
    full = f"{full_paths(file)}:{attribute}"
    return {**spec, "metric": full} if isinstance(spec, dict) else full


def _name(spec: Any) -> str:
    """What a metric's specification calls it, without making it."""
    given = spec.get("name") or spec.get("metric") if isinstance(spec, Mapping) else spec
    return str(given).rpartition(":")[2]


# --- the examples that were answered ---------------------------------------------------------


def answered(
    stored: TaskResult, loaded: Task, entry: TaskEntry, keep_missing: bool
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """The test examples as they were asked, in their order, with the references that the data now give.

    An example is looked for in every split: where splits are cut, a corrected label may have moved it.
    """
    known: dict[str, Example] = {}
    for task in _everywhere(loaded, entry):
        for example in (*task.test, *task.validation, *task.train):
            known.setdefault(example.id, example)
        if all(e.id in known for e in stored.test):
            break
    missing = [e.id for e in stored.test if e.id not in known]
    if missing and not keep_missing:
        raise UserError(
            f"{len(missing)} of the {len(stored.test)} examples that were answered are not in the data: "
            f"{listed(missing)}",
            field=f"tasks.{stored.name}",
            hint="give the whole data, or let them keep their references with --keep-missing",
        )
    moved = [e.id for e in stored.test if e.id in known and plain(known[e.id].input) != plain(e.input)]
    if moved:
        raise UserError(
            f"the input of {len(moved)} examples is not what the stored outputs answer: {listed(moved)}",
            field=f"tasks.{stored.name}",
            hint="references and metrics can be changed afterwards; with other inputs run the suite again",
        )
    test = (
        known[e.id] if e.id in known else Example(e.id, e.input, e.references, e.group, e.meta)
        for e in stored.test
    )
    return tuple(test), tuple(missing)


def _everywhere(loaded: Task, entry: TaskEntry) -> Iterator[Task]:
    """The task as a run has it; then with everything that its limits and sizes leave out."""
    yield loaded
    args = {**entry.args, "sizes": {}} if task_file(entry) is not None else entry.args
    try:
        yield plan.load_task(loaded.name, TaskEntry(task=entry.task, args=args))
    except UserError:  # too few rows for another cut
        return


def unlike(folder: Path, stored: TaskResult, loaded: Task) -> list[str]:
    """Remarks on what else is not as it was when the outputs were made."""
    found = []
    if loaded.instructions != stored.instructions or loaded.input_template != stored.input_template:
        found.append("its instructions or template were changed since; the outputs answer the old ones")
    if loaded.choices != stored.choices:
        found.append("its choices are not those that the strategies were given")
    asked = tuple(Example(e.id, e.input, e.references, e.group, e.meta) for e in stored.test)
    judges = [loaded.metrics]
    with contextlib.suppress(UserError):  # what the run was made from may be gone
        frozen = suites.load(folder / "suite.yaml").tasks[stored.name]
        judges.append(plan.load_task(stored.name, frozen).metrics)
    same = replace(
        loaded,
        test=asked,
        correct_at=stored.correct_at,
        instructions=stored.instructions,
        input_template=stored.input_template,
        choices=stored.choices,
    )
    if all(plan.task_digest(replace(same, metrics=metrics)) != stored.hash for metrics in judges):
        found.append(
            "its training or validation examples, its documents or the room for an answer are not what "
            "the run had; the outputs rest on what it had"
        )
    return found


def listed(ids: Sequence[str], most: int = 5) -> str:
    """`'a', 'b' and 3 more`."""
    shown = ", ".join(f"'{i}'" for i in ids[:most])
    return f"{shown} and {len(ids) - most} more" if len(ids) > most else shown


def plain(value: Any) -> Any:
    """As the value comes back from a file."""
    return json.loads(store.dumps(value))
