"""The tasks of a run: loaded as the suite says, and written into the run folder as they were run."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from breakeven.harness import ahead, plan, scoring, store
from breakeven.harness.contracts import Task
from breakeven.harness.errors import UserError
from breakeven.harness.folds import CrossfitTask, crossfitted
from breakeven.harness.suite import Suite


def load_tasks(suite: Suite, limit: int | None) -> dict[str, Task]:
    """The tasks by name, at most `limit` examples of each scored; cut into folds where the suite says so."""
    count, most = suite.evaluate.crossfit, least(suite.evaluate.examples, limit)
    if count is None:
        return {name: _named(plan.load_task(name, entry, limit), name) for name, entry in suite.tasks.items()}
    tasks: dict[str, Task] = {}
    for name, entry in suite.tasks.items():
        try:
            tasks[name] = crossfitted(_named(plan.load_task(name, entry), name), count, most)
        except UserError as error:
            if error.field != "evaluate.crossfit":
                raise
            raise UserError(f"task {name}: {error.what}", field=error.field, hint=error.hint) from error
    return tasks


def write_task(folder: Path, task: Task, leaks: ahead.Leaks | None = None) -> None:
    """The task as it was run; test examples with their references, for the report."""
    duplicates = (leaks or ahead.Leaks()).of(task)
    sizes = {s: len(getattr(task, s)) for s in ("train", "validation", "test")}
    rows: list[Any] = list(task.test)
    if isinstance(task, CrossfitTask):
        sizes, fold_of = task.sizes, task.fold_of
        rows = [{**asdict(e), "fold": fold_of[e.id]} for e in task.test]
    store.write_lines(folder / "test.jsonl", rows)
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
            **scoring.judgement(task),
            "sizes": sizes,
            "documents": len(task.documents),
            "group_is_document": plan.says_which_document(task),
            "cut": task.cut,
            "duplicates": duplicates.to_json(),
            "hash": plan.task_digest(task),
        },
    )


def forget_results(folder: Path, task: str) -> None:
    """Remove a task's cells: they answer other examples than those that a report would show beside them."""
    for cell in sorted((folder / "cells").glob("*")):
        if store.read_json(cell / "cell.json", {}).get("task", task) == task:
            store.remove(cell)
    for joined in sorted((folder / "joined").glob("*.json")):
        if store.read_json(joined)["task"] == task:
            joined.unlink()
    (folder / "tasks" / task / "documents.jsonl").unlink(missing_ok=True)


def _named(task: Task, name: str) -> Task:
    return task if task.name == name else replace(task, name=name)


def least(*limits: int | None) -> int | None:
    """The strictest of some limits; None where there is none."""
    return min((n for n in limits if n is not None), default=None)
