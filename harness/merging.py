"""Joins runs whose cells were made on several machines into one run folder. Nothing is run again.

Runs fit together when what they share is the same: the content of a task, the settings of a strategy, the
model. `merge` checks that, takes every cell from a run that finished it, and writes down where each came
from. The suites' own union is `_unions`'.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from breakeven.harness import _folders, results, store
from breakeven.harness._unions import joined_facts, joined_suite, unlike_models
from breakeven.harness.errors import UserError
from breakeven.harness.results import DONE, CellResult, Results

#: A cell in one of these states is taken rather than one further on.
PREFERENCE = (DONE, "not-applicable", "pending", "failed", "stopped", "running", "waiting")
#: What a cell is, whatever it is called: task, strategy, model, training size, seed.
Key: TypeAlias = "tuple[str, str, str | None, int, int | None]"


@dataclass(frozen=True, slots=True)
class Origin:
    """One of the runs, under the name it has in the merged one."""

    label: str
    folder: Path
    results: Results

    @property
    def machine(self) -> str:
        """What computed: "NVIDIA L4" or "AMD EPYC, 2 cores"."""
        if self.results.info.get("merged"):
            return f"the machines of {self.label}"
        seen = self.results.info.get("hardware") or {}
        if seen.get("gpus"):
            return str(seen["gpus"][0]["name"])
        return f"{seen.get('cpu', 'an unknown machine')}, {seen.get('physical_cores', '?')} cores"


@dataclass(frozen=True, slots=True)
class Taken:
    """A cell of the merged run: the run it comes from, its name there and here."""

    origin: Origin
    cell: CellResult
    id: str


@dataclass(frozen=True, slots=True)
class Merged:
    """`cells` gives the label of the run that each cell comes from; `notes` are for the reader."""

    folder: Path
    cells: Mapping[str, str]
    notes: tuple[str, ...]


def merge(folders: Sequence[Path], out: Path, *, prefer: str = "") -> Merged:
    """Join runs into the new folder `out`.

    A cell that one run has done and another not is taken from the one that has. One that several have done is
    taken from the first, if all have the same outputs.

    Args:
        folders: two run folders or more; economics, timing and prices are those of the first.
        prefer: folder or name of the run whose cell counts where outputs differ.

    Raises:
        UserError: a folder that is no run or given twice; a task, strategy or model of one name that is not
            the same; cells with different outputs and no preference; `out` is there already.
    """
    folders = [_folders.named(Path(folder)) for folder in folders]
    for folder in folders:
        _folders.require_run(folder)
    twice = [f for i, f in enumerate(folders) if any(f.samefile(other) for other in folders[:i])]
    if len(folders) < 2 or twice:
        raise UserError("give two runs or more, each once", file=twice[0] if twice else None)
    with contextlib.ExitStack() as stack:
        for folder in folders:
            stack.enter_context(store.locked(folder))
        origins = _origins(folders)
        for origin in origins:
            _folders.require_whole(origin.results.suite, origin.folder, "merged")
        preferred = _preferred(origins, prefer)
        _check_tasks(origins)
        notes = unlike_models([(o.label, o.results) for o in origins])
        suite, more = joined_suite([(o.label, o.results.suite) for o in origins])
        notes += more
        taken, more = _taken(origins, suite, preferred)
        notes += more
        machines = {t.origin.machine for t in taken if t.cell.state == DONE}
        if len(machines) > 1:
            notes.append(f"measured on different machines: {', '.join(sorted(machines))}")
            notes += _projected(suite)
        with _folders.built(out) as partial:
            _write(partial, out.name, origins, taken, suite, notes, several=len(machines) > 1)
    return Merged(out, {t.id: t.origin.label for t in taken}, tuple(notes))


# --- what fits together ----------------------------------------------------------------------


def _origins(folders: Sequence[Path]) -> list[Origin]:
    """The runs with names that tell them apart; two machines may both have a quickstart-1."""
    found: list[Origin] = []
    for folder in folders:
        run = results.load(folder)
        names, label, copies = {o.label for o in found}, run.name, 1
        while label in names:
            copies += 1
            label = f"{run.name} ({copies})"
        found.append(Origin(label, folder, run))
    return found


def _preferred(origins: Sequence[Origin], prefer: str) -> Origin | None:
    if not prefer:
        return None
    path = Path(prefer)
    for origin in origins:
        if origin.label == prefer or (path.exists() and path.samefile(origin.folder)):
            return origin
    raise UserError(
        f"'{prefer}' is none of the runs",
        field="--prefer",
        hint=f"one of {', '.join(o.label for o in origins)}",
    )


def _check_tasks(origins: Sequence[Origin]) -> None:
    """Raises UserError where a task of one name has not the same content everywhere."""
    first: dict[str, Origin] = {}
    for origin in origins:
        for name, task in origin.results.tasks.items():
            other = first.setdefault(name, origin)
            known = other.results.tasks[name]
            if known.hash != task.hash:
                judged = [m.name for m in known.metrics] != [m.name for m in task.metrics]
                what = "other metrics" if judged else "other examples, references, instructions or documents"
                raise UserError(
                    f"the task '{name}' is not the same in {other.label} and in {origin.label}: {what}",
                    hint="score one of them again with the data or metric of the other: breakeven score",
                )


def _taken(
    origins: Sequence[Origin], suite: Mapping[str, Any], preferred: Origin | None
) -> tuple[list[Taken], list[str]]:
    """Every cell once, in the order of the suite, and what has to be said about the choice."""
    groups: dict[Key, list[tuple[Origin, CellResult]]] = {}
    for origin in origins:
        for cell in origin.results.cells.values():
            key = (cell.task, cell.strategy, cell.model, cell.train_size, cell.seed)
            groups.setdefault(key, []).append((origin, cell))
    notes: list[str] = []
    names: dict[str, Key] = {}
    taken = []
    tasks, strategies = list(suite["tasks"]), list(suite["strategies"])
    for key in sorted(groups, key=lambda k: (tasks.index(k[0]), strategies.index(k[1]))):
        origin, cell = _chosen(groups[key], preferred, notes)
        name = cell.id
        if names.setdefault(name, key) != key:  # two models that were each the only one of their run
            name = "--".join([cell.id, str(cell.model), f"n{cell.train_size}"])
            names[name] = key
        taken.append(Taken(origin, cell, name))
    return taken, notes


def _chosen(
    candidates: Sequence[tuple[Origin, CellResult]], preferred: Origin | None, notes: list[str]
) -> tuple[Origin, CellResult]:
    """The cell to take. Raises UserError where several are done and do not say the same."""
    ranked = sorted(candidates, key=lambda c: PREFERENCE.index(c[1].state))
    done = [(o, c) for o, c in ranked if c.state == DONE]
    if len(done) < 2:
        return ranked[0]
    first, cell = done[0]
    for other, theirs in done[1:]:
        ours = [(p.id, p.output) for p in cell.predictions]
        unlike = sum(a != (p.id, p.output) for a, p in zip(ours, theirs.predictions, strict=True))
        if not unlike:
            continue
        chosen = next(((o, c) for o, c in done if o is preferred), None)
        said = f"the cell '{cell.id}' has other outputs in {other.label} than in {first.label}: {unlike} of "
        if chosen is None:
            raise UserError(
                f"{said}{len(ours)}",
                hint=f"say whose count: --prefer {first.folder} or --prefer {other.folder}",
            )
        notes.append(f"{said}{len(ours)}; those of {chosen[0].label} are taken")
        return chosen
    return first, cell


def _projected(suite: dict[str, Any]) -> list[str]:
    """No machine is the one that was measured when there are several: costs of seconds become estimates."""
    economics = suite.get("economics") or {}
    if economics.get("projected", True):
        return []
    suite["economics"] = {**economics, "projected": True}
    return [f"seconds count as projected to {economics.get('hardware')}: not all were measured on it"]


# --- writing ---------------------------------------------------------------------------------


def _write(
    root: Path,
    name: str,
    origins: Sequence[Origin],
    taken: Sequence[Taken],
    suite: Mapping[str, Any],
    notes: Sequence[str],
    *,
    several: bool,
) -> None:
    for origin in origins:
        for kind in ("tasks", "artifacts"):
            for path in sorted((origin.folder / kind).glob("*")):
                if not (root / kind / path.name).exists():
                    _folders.copy(origin.folder, f"{kind}/{path.name}", root / kind / path.name)
        for task in origin.results.tasks:
            _add_documents(root, origin, task)
    for item in taken:
        _write_cell(root / "cells" / item.id, item, remark=several)
    text = yaml.safe_dump(dict(suite), sort_keys=False, allow_unicode=True, width=110)
    store.write_text(root / "suite.yaml", text)
    engines = [store.read_json(o.folder / "engines.json", {}) for o in origins]
    store.write_json(root / "engines.json", {k: v for chosen in reversed(engines) for k, v in chosen.items()})
    info = joined_facts([(o.label, o.results.info) for o in origins])
    begun = {c for o in origins for c in o.results.cells}
    planned = dict.fromkeys(c for o in origins for c in o.results.info.get("cells", []) if c not in begun)
    store.write_json(
        root / "run.json",
        {
            **info,
            "name": name,
            "command": shlex.join(["breakeven", *sys.argv[1:]]),
            "cells": [*(t.id for t in taken), *planned],
            "merged": {
                "when": datetime.now(UTC).isoformat(timespec="seconds"),
                "origins": [{**o.results.info, "name": o.label} for o in origins],
                "notes": list(notes),
            },
        },
    )


def _write_cell(folder: Path, item: Taken, *, remark: bool) -> None:
    """The cell's files; where runs were made on several machines, with a remark on which this one was."""
    origin, cell = item.origin, item.cell
    _folders.copy(origin.folder, f"cells/{cell.id}", folder)
    known = store.read_json(folder / "cell.json")
    store.write_json(folder / "cell.json", {"origin": origin.label, **known, "id": item.id})
    if remark and cell.state == DONE and "origin" not in known:
        fit = store.read_json(folder / "fit.json", {})
        said = f"measured on {origin.machine} ({origin.label})"
        store.write_json(folder / "fit.json", {**fit, "remarks": [*fit.get("remarks", []), said]})


def _add_documents(root: Path, origin: Origin, task: str) -> None:
    """The documents that this run's predictions show, beside those already there."""
    path = root / "tasks" / task / "documents.jsonl"
    known = {row["id"]: row for row in store.read_rows(path)}
    rows = store.read_rows(origin.folder / "tasks" / task / "documents.jsonl")
    if any(row["id"] not in known for row in rows):
        store.write_lines(path, {**{row["id"]: row for row in rows}, **known}.values())
