"""Scores the stored outputs of a run again: with corrected references, or by another metric.

Nothing is predicted. `rescore` loads the tasks as the run's frozen suite (with changes) says, makes sure that
the outputs still answer their inputs, judges every finished cell as a run would (`scoring`) and writes the
result as a new run folder, or in place, in one step. What was there before is kept and recorded.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from breakeven.harness import _folders, metrics, plan, results, scoring, store
from breakeven.harness import suite as suites
from breakeven.harness._retask import (
    absolute,
    answered,
    entry_for,
    full_paths,
    listed,
    plain,
    task_file,
    unlike,
)
from breakeven.harness.contracts import Prediction, Task, Usage
from breakeven.harness.errors import UserError
from breakeven.harness.results import DONE, CellResult, Results
from breakeven.harness.suite import Suite

#: States that no later `run --resume` would change, but for failed cells, which it tries again.
SETTLED = (DONE, "not-applicable", "failed")


@dataclass(frozen=True, slots=True)
class TaskChange:
    """What a task is now against what it was: content hashes, names of metrics (the first decides), ids.

    `corrected` examples have other references; `kept` ones are not in the new data and keep theirs; `added`
    are in the new test split but were never answered. `remarks` are sentences for the reader.
    """

    task: str
    before: str
    after: str
    metrics_before: tuple[str, ...]
    metrics: tuple[str, ...]
    corrected: tuple[str, ...]
    kept: tuple[str, ...]
    added: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rescored:
    """`folder` is None when no score and no task changed: then nothing was written.

    `completed` says that an earlier re-scoring in place, which was broken off, was completed first.
    """

    folder: Path | None
    before: Results
    after: Results
    tasks: tuple[TaskChange, ...]
    completed: bool


def rescore(
    folder: Path,
    changes: Sequence[str] = (),
    by_metric: Sequence[str] = (),
    *,
    out: Path | None = None,
    in_place: bool = False,
    keep_missing: bool = False,
    why: str = "",
) -> Rescored:
    """Score a run's stored outputs again.

    Args:
        changes: "tasks.NAME.key=value" as `--set` takes them; only the tasks they name are scored again. With
            neither changes nor metrics all are, from their data as they now are.
        by_metric: "TASK=METRIC": the metric that decides from now on; those the task had follow it.
        out: the new run folder; by default the run's name with "-rescored" behind it.
        in_place: change this run instead; what is replaced goes to its folder `before`.
        keep_missing: examples that the new data do not have keep their references instead of being an error.
        why: recorded with the run.

    Raises:
        UserError: no run; a change of anything but a task; inputs that are not what the outputs answer;
            examples missing; `in_place` in a run that is not finished.
    """
    folder = _folders.named(folder)
    _folders.require_run(folder)
    if in_place and out is not None:
        raise UserError("takes no --out: the run itself is changed", field="--in-place")
    out = out or folder.with_name(f"{folder.name}-rescored")
    if not in_place and out.exists():
        raise UserError(
            "is there already",
            file=out,
            field="--out",
            hint="name another folder, or change the run itself with --in-place",
        )
    with store.locked(folder):
        completed = in_place and _folders.finish(folder)
        before = results.load(folder)
        _folders.require_whole(before.suite, folder, "scored again")
        if in_place:
            _require_settled(before)
        suite, asked = _changed_suite(folder, before, changes, by_metric)
        judged = [_judge(before, suite, name, asked.get(name, ()), keep_missing) for name in asked]
        changes_made = tuple(task.change for task in judged)
        if not any(task.differs for task in judged):
            return Rescored(folder if completed else None, before, before, changes_made, completed)
        record = _record(before, judged, why)
        judged = [task for task in judged if task.differs]
        if in_place:
            new = folder / _folders.STAGED / "new"
            removed = _write(new, before, suite, judged, record, folder.name)
            _folders.replace(folder, [*removed, *(p.name for p in sorted(folder.glob("report.*")))])
            written = folder
        else:
            with _folders.built(out) as partial:
                _folders.copy_run(folder, partial)
                for name in _write(partial, before, suite, judged, record, out.name):
                    (partial / name).unlink(missing_ok=True)
            written = out
    return Rescored(written, before, results.load(written), changes_made, completed)


# --- what is asked ---------------------------------------------------------------------------


def _require_settled(before: Results) -> None:
    open_cells = [
        c
        for c in before.info.get("cells") or before.cells
        if c not in before.cells or before.cells[c].state not in SETTLED
    ]
    if open_cells:
        raise UserError(
            f"{len(open_cells)} cells of this run are not finished, first '{open_cells[0]}'; a re-scored run "
            "cannot be resumed",
            file=before.folder,
            hint="leave --in-place out, or finish the run first",
        )


def _changed_suite(
    folder: Path, before: Results, changes: Sequence[str], by_metric: Sequence[str]
) -> tuple[Suite, dict[str, list[Any]]]:
    """The frozen suite with the changes, and for each task to score again the metrics put before its own."""
    asked: dict[str, list[Any]] = {}
    made = []
    for change in changes:
        key, _, raw = change.partition("=")
        parts = key.split(".")
        if parts[0] != "tasks" or len(parts) < 3:
            raise UserError(
                f"'{change}' changes no task",
                field="--set",
                hint="write it as tasks.NAME.args.data=FILE; other prices: breakeven report --prices",
            )
        asked.setdefault(_known(before, parts[1], "--set"), [])
        is_path = parts[2] == "args" and parts[3:4] and parts[3] in suites.PATH_KEYS
        made.append(f"{key}={json.dumps(full_paths(_value(raw, '--set')))}" if is_path else change)
    for pair in by_metric:
        name, equals, raw = pair.partition("=")
        spec = _value(raw, "--metric")
        if not equals or not isinstance(spec, str | dict):
            raise UserError(f"'{pair}' names no metric", field="--metric", hint="write it as TASK=METRIC")
        asked.setdefault(_known(before, name, "--metric"), []).append(absolute(spec))
    suite = suites.load(folder / "suite.yaml", made)
    asked = asked or {name: [] for name in before.tasks}
    entries = {**suite.tasks, **{n: entry_for(suite.tasks[n], specs) for n, specs in asked.items()}}
    return suite.model_copy(update={"tasks": entries}), asked


def _value(raw: str, field: str) -> Any:
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise UserError(f"'{raw}' is not a YAML value", field=field) from error


def _known(before: Results, name: str, field: str) -> str:
    if name not in before.tasks:
        raise UserError(
            f"this run has no task '{name}'", field=field, hint=f"its tasks are {', '.join(before.tasks)}"
        )
    return name


# --- judging ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    """A finished cell's lines of `predictions.jsonl` as they become, its aggregates and draws."""

    id: str
    rows: Sequence[Mapping[str, Any]]
    aggregates: Mapping[str, float]
    draws: Sequence[float] | None
    differs: bool


@dataclass(frozen=True, slots=True)
class _Judged:
    task: Task
    change: TaskChange
    cells: Sequence[_Cell]

    @property
    def differs(self) -> bool:
        return self.change.before != self.change.after or any(c.differs for c in self.cells)


def _judge(before: Results, suite: Suite, name: str, specs: Sequence[Any], keep_missing: bool) -> _Judged:
    stored, entry = before.tasks[name], suite.tasks[name]
    loaded = replace(plan.load_task(name, entry), name=name)
    remarks = []
    if specs and task_file(entry) is None:
        first = tuple(metrics.build(spec, choices=loaded.choices) for spec in specs)
        rest = tuple(m for m in loaded.metrics if m.name not in {f.name for f in first})
        loaded = replace(loaded, metrics=(*first, *rest))
        remarks.append(
            f"the task '{entry.task}' is a Python function: suite.yaml cannot say that it is scored by "
            f"{first[0].name}"
        )
    test, kept = answered(stored, loaded, entry, keep_missing)
    task = replace(loaded, test=test)
    remarks += unlike(before.folder, stored, loaded)
    known = {e.id: e for e in stored.test}
    change = TaskChange(
        name,
        stored.hash,
        plan.task_digest(task),
        tuple(m.name for m in stored.metrics),
        tuple(m.name for m in task.metrics),
        tuple(e.id for e in test if plain(e.references) != plain(known[e.id].references)),
        kept,
        tuple(e.id for e in loaded.test if e.id not in known),
        tuple(remarks),
    )
    done = [c for c in before.cells_of(name) if c.state == DONE]
    return _Judged(task, change, [_rejudged(before.folder, cell, task) for cell in done])


def _rejudged(folder: Path, cell: CellResult, task: Task) -> _Cell:
    path = folder / "cells" / cell.id / "predictions.jsonl"
    by_id = {row["id"]: row for row in store.read_rows(path)}
    lacking = [e.id for e in task.test if e.id not in by_id]
    if lacking:
        raise UserError(f"there is no prediction for {listed(lacking)}", file=path)
    rows = [by_id[e.id] for e in task.test]
    scored = scoring.scored(task, [_prediction(row) for row in rows])
    judged = [{**row, **plain(scored.row(i))} for i, row in enumerate(rows)]
    draws = None if scored.draws is None else list(scored.draws)
    differs = (
        judged != rows or dict(scored.aggregates) != dict(cell.aggregates) or (draws or []) != [*cell.draws]
    )
    return _Cell(cell.id, judged, scored.aggregates, draws, differs)


def _prediction(row: Mapping[str, Any]) -> Prediction:
    return Prediction(
        row["id"],
        row["output"],
        Usage(**row["usage"]),
        row.get("seconds"),
        row.get("finish_reason", ""),
        row.get("meta") or {},
    )


# --- writing ---------------------------------------------------------------------------------


def _record(before: Results, judged: Sequence[_Judged], why: str) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["breakeven", *sys.argv[1:]]),
        "why": why,
        "run": before.name,
        "tasks": [asdict(t.change) for t in judged],
    }


def _write(
    root: Path,
    before: Results,
    suite: Suite,
    judged: Sequence[_Judged],
    record: Mapping[str, Any],
    name: str,
) -> list[str]:
    """Write what changes under `root`, which is laid over the run; returns the files that go."""
    removed = []
    for item in judged:
        task, folder = item.task, f"tasks/{item.task.name}"
        known = store.read_json(before.folder / folder / "task.json")
        now = {**scoring.judgement(task), "choices": task.choices, "hash": item.change.after}
        store.write_json(root / folder / "task.json", {**known, **now})
        store.write_lines(root / folder / "test.jsonl", task.test)
        for cell in item.cells:
            place = f"cells/{cell.id}"
            store.write_lines(root / place / "predictions.jsonl", cell.rows)
            store.write_json(root / place / "scores.json", cell.aggregates)
            if cell.draws is not None:
                store.write_json(root / place / "draws.json", cell.draws)
            elif (before.folder / place / "draws.json").exists():
                removed.append(f"{place}/draws.json")
    store.write_text(root / "suite.yaml", suite.to_yaml())
    history = [*before.info.get("rescored", []), record]
    store.write_json(root / "run.json", {**before.info, "name": name, "rescored": history})
    return removed
