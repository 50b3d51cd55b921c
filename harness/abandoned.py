"""Hosted trainings that were asked for and that no cell of the run wants any more: given up, and told.

A run whose settings, task or model was changed while a job was under way asks for another job; nobody would
look for the first one again, and it would be billed in silence. How a job is given up is its trainer's
business (`training.checked`); here it is found out which are not wanted. Where that is not certain, nothing
is cancelled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import _foresee, billed, registry, store
from breakeven.harness.cell import Cell
from breakeven.harness.errors import BreakevenError, UserError
from breakeven.harness.hosted import Endpoint
from breakeven.harness.plan import CellSpec

if TYPE_CHECKING:
    from breakeven.harness.pool import Engines
    from breakeven.harness.runner import Runner


@dataclass(frozen=True, slots=True)
class Swept:
    """Sentences: of every job that no cell wants, and of those among them that could not be given up."""

    said: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def sweep(runner: Runner, planned: Sequence[CellSpec], engines: Engines, say: Callable[[str], None]) -> Swept:
    """Give up what no cell of the run wants, and say so.

    Args:
        planned: all cells of the suite, also those that are not asked for now.
    """
    begun = {folder: job for folder in _partial(runner.folder) if (job := _under_way(folder)) is not None}
    if not begun:
        return Swept()
    wanted, doubt = _wanted(runner, planned, engines)
    said, left = [], []
    for folder, job in begun.items():
        if _key(folder) in wanted:
            continue
        name = f"the training job {job.get('job') or 'of ' + folder.name}"
        if doubt:
            said.append(f"{name} may be wanted by no cell any more; it goes on, since {doubt}")
        else:
            try:
                said.append(_given_up(folder, job, planned, engines))
            except BreakevenError as error:
                said.append(
                    f"{name} is wanted by no cell any more, is not cancelled and may be billed: {error}"
                )
                left.append(said[-1])
        say(said[-1])
    return Swept(tuple(said), tuple(left))


def _partial(folder: Path) -> list[Path]:
    return sorted(file.parent for file in (folder / "artifacts").glob("hosted-*.partial/job.json"))


def _under_way(folder: Path) -> dict[str, Any] | None:
    """What is known of a job that something was sent for, and that was not given up before."""
    job: dict[str, Any] = store.read_json(folder / "job.json", {})
    return job if billed.was_asked(job) and not job.get("ended") else None


def _key(folder: Path) -> str:
    return folder.name.removeprefix("hosted-").removesuffix(".partial")


def _wanted(runner: Runner, planned: Sequence[CellSpec], engines: Engines) -> tuple[set[str], str]:
    """Addresses that unfinished cells want, and why there may be more; "" where there are none.

    What is foreseen is not always to the letter what will be trained. A cell that was broken off, or waits,
    and has begun nothing that was foreseen of it may have asked for something else.
    """
    wanted: set[str] = set()
    there = {_key(made) for made in (runner.folder / "artifacts").glob("hosted-*")}
    suite, folder = runner.suite, runner.folder
    world = _foresee.World(suite, runner.tasks, engines.get, engines.embedder, folder, sample=sys.maxsize)
    try:
        for spec in _tuned_elsewhere(runner, planned, engines):
            seen = _foresee.foresee(spec, world)
            keys = {training.key for training in seen.trainings}
            if seen.state in ("unknown", "fails"):
                return wanted, f"what {spec.id} would train cannot be said ({seen.reason})"
            if Cell(runner, spec).is_fitting() and not keys <= there:
                return wanted | keys, f"{spec.id} was broken off and may have asked for it; resume once more"
            wanted |= keys
    except UserError as error:
        return wanted, f"what the cells would train cannot be said ({error})"
    finally:
        store.remove(folder / "scratch")
    return wanted, ""


def _tuned_elsewhere(runner: Runner, planned: Sequence[CellSpec], engines: Engines) -> Iterator[CellSpec]:
    """Cells that may ask for a hosted training yet."""
    unfinished, _ = runner.unfinished(planned)
    for spec in unfinished:
        fitted = (runner.folder / "cells" / spec.id / "predictor").exists() and Cell(
            runner, spec
        ).is_trained()
        if spec.model is None or spec.settings.get("weights") is None or fitted:
            continue
        if billed.is_hosted(engines.get(spec.model)) or _endpoint(engines, spec.model) is not None:
            yield spec


def _given_up(folder: Path, job: dict[str, Any], planned: Sequence[CellSpec], engines: Engines) -> str:
    """Raises BreakevenError where its server is not known, refuses or does not answer."""
    endpoint = _where(job, list(dict.fromkeys(s.model for s in planned if s.model)), engines)
    made: Any = registry.find("trainers", job.get("trainer") or "openai")
    abandon: Callable[[Endpoint, Path], str] | None = vars(made).get("abandon")
    if abandon is None:
        raise UserError(
            f"the trainer '{job['trainer']}' cannot give a job up", hint="cancel it at the provider"
        )
    return abandon(endpoint, folder)


def _where(job: dict[str, Any], models: Sequence[str], engines: Engines) -> Endpoint:
    """The server of a job: among those of the suite's models, of the same model where there is one.

    Earlier versions did not note the server; then there must be no other.
    """
    found = [endpoint for name in models if (endpoint := _endpoint(engines, name)) is not None]
    if not job.get("server"):
        fitting = found if len({endpoint.base_url for endpoint in found}) == 1 else []
    else:
        fitting = [endpoint for endpoint in found if endpoint.base_url == job["server"]]
    for endpoint in sorted(fitting, key=lambda endpoint: endpoint.model != job.get("asks")):
        return endpoint
    where = job.get("server") or "its server, which was not noted"
    raise UserError(f"no model of the suite is asked at {where}", hint="cancel it at the provider")


def _endpoint(engines: Engines, model: str) -> Endpoint | None:
    engine: Any = engines.get(model)
    find = getattr(engine, "endpoint", None)
    endpoint: Endpoint | None = find() if find is not None else None
    return endpoint
