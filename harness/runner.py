"""Runs the cells of a suite, one after the other; see `cell` for what happens in each.

`Runner.run` is the whole story. A cell that fails, does not apply or waits for a hosted job is recorded with
its reason and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from breakeven.harness import plan
from breakeven.harness.cell import Cell, State
from breakeven.harness.contracts import Embedder, Engine, Task
from breakeven.harness.errors import DiskError, SpendingLimitReached
from breakeven.harness.folds import CrossfitTask
from breakeven.harness.ledger import Ledger
from breakeven.harness.plan import CellSpec
from breakeven.harness.suite import Suite


class Display(Protocol):
    """What the runner tells whoever shows progress."""

    def cell_started(self, spec: CellSpec, position: int, total: int) -> None: ...

    def progress(self, stage: str, done: float, total: float, tokens: int) -> None: ...

    def cell_finished(self, spec: CellSpec, state: State, reason: str, quality: str) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass
class Runner:
    """One run of a suite in one folder.

    `engine_of(model name)` makes or returns the shared engine; `embedder(ledger, fresh)` binds the shared
    embedding model to a ledger, computing each text anew where `fresh`.
    """

    suite: Suite
    folder: Path
    tasks: Mapping[str, Task]
    engine_of: Callable[[str], Engine]
    embedder: Callable[[Ledger, bool], Embedder]
    display: Display
    keep_prompts: bool = False
    embedder_digest: str = ""
    states: dict[str, State] = field(default_factory=dict)
    worked: bool = False  # whether a cell was begun
    _digests: dict[str, str] = field(default_factory=dict)
    _addresses: dict[str, str] = field(default_factory=dict)

    def task_digest(self, name: str) -> str:
        """Address of a task's content, computed once: it goes over every example."""
        if name not in self._digests:
            self._digests[name] = plan.task_digest(self.tasks[name])
        return self._digests[name]

    def unfinished(self, specs: Sequence[CellSpec]) -> tuple[list[CellSpec], frozenset[str]]:
        """The cells that are left to do, and the ids of those whose training is done or waited for.

        Looks only: `run` clears what is stale.
        """
        cells = [cell for spec in specs if not (cell := Cell(self, spec)).is_done()]
        return [c.spec for c in cells], frozenset(c.spec.id for c in cells if c.is_trained())

    def run(self, specs: Sequence[CellSpec]) -> dict[str, State]:
        """Run what is not finished. Raises KeyboardInterrupt through, after marking the cell stopped.

        When the spending limit is reached, cells that a provider would bill are left; the others go on.
        """
        limit: SpendingLimitReached | None = None
        for position, spec in enumerate(specs, 1):
            cell = Cell(self, spec)
            if cell.finished():
                self.states[spec.id] = cell.state
                self._join(spec)
                continue
            if limit is not None and cell.is_billed():
                self.states[spec.id] = "waiting"
                continue
            self.worked = True
            self.display.cell_started(spec, position, len(specs))
            try:
                state, reason = cell.run()
            except SpendingLimitReached as reached:
                limit = reached
                state, reason = cell.mark("stopped", str(reached))
                self.display.note(f"to go on, raise limits.spend in {self.folder / 'suite.yaml'} and resume")
            self.states[spec.id] = state
            self._join(spec)
            self.display.cell_finished(spec, state, reason, cell.quality)
        return self.states

    def _join(self, spec: CellSpec) -> None:
        """Score all rows together once the last fold of a cell is done."""
        from breakeven.harness import joining

        task = self.tasks[spec.task]
        if spec.fold is None or not isinstance(task, CrossfitTask):
            return
        try:
            joining.write(self.folder, task, spec.joined)
        except DiskError:
            raise
        except Exception as error:  # a metric that cannot aggregate; the folds stay as they are
            self.display.note(f"{spec.joined}: its folds cannot be scored together: {error}")
