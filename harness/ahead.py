"""What is about to be run, and what was found by looking at it first: the seam between a run and its gate.

A run calls its gate (`run.Options.gate`) before anything is trained, sent or written; the gate raises
UserError to stop it. What it found is kept in the run folder. Looking itself is the gate's business
(`breakeven.harness.cli._gate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import store
from breakeven.harness.contracts import Task
from breakeven.harness.plan import CellSpec
from breakeven.harness.suite import Suite

if TYPE_CHECKING:
    from breakeven.harness.pool import Engines
    from breakeven.harness.runner import Display
    from breakeven.harness.splits import Leakage

#: In the run folder: everything that was seen, one entry for each time it was looked.
FILE = "preflight.json"


@dataclass(frozen=True)
class Ahead:
    """What will be run if nobody objects.

    Attributes:
        folder: the run's; what is put under `artifacts` there is found by the run and not made again.
        specs: the cells that are not finished.
        trained: ids of those whose training is done, or waited for.
        before: what earlier looks have left in run.json (`Look.summary`).
        leaks: duplicates, which the run wants to know too.
    """

    suite: Suite
    folder: Path
    tasks: Mapping[str, Task]
    specs: Sequence[CellSpec]
    engines: Engines
    display: Display
    trained: frozenset[str] = frozenset()
    before: Mapping[str, Any] | None = None
    leaks: Leaks = field(default_factory=lambda: Leaks())


@dataclass(frozen=True, slots=True)
class Look:
    """What was found.

    Attributes:
        said: one sentence for the record, without its full stop.
        warnings: a sentence each.
        accepted: the most that others may bill without asking again; None where any amount was accepted.
        unpriced: whether what has no price was accepted too.
        details: all of it, as JSON.
    """

    said: str
    warnings: tuple[str, ...]
    accepted: float | None
    unpriced: bool
    details: Mapping[str, Any]

    def summary(self) -> dict[str, Any]:
        return {
            "said": self.said,
            "warnings": list(self.warnings),
            "accepted": self.accepted,
            "unpriced": self.unpriced,
        }


class Leaks:
    """Duplicates between the test examples of a task and the rest, looked for once."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Task, Leakage]] = {}

    def of(self, task: Task) -> Leakage:
        from breakeven.harness.splits import leakage

        if id(task) not in self._found:
            self._found[id(task)] = task, leakage(task)  # the task is held, so that its id stays its own
        return self._found[id(task)][1]


Gate = Callable[[Ahead], Look | None]


def keep(folder: Path, look: Look) -> None:
    """Add a look to those that the run folder has."""
    file = folder / FILE
    now = datetime.now(UTC).isoformat(timespec="seconds")
    store.write_json(file, [*store.read_json(file, []), {"looked": now, **look.details}])
