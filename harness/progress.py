"""What a person sees while a run is going: a live display on a terminal, plain lines elsewhere.

Cells done and to do, examples, tokens per second, time left. Nothing here changes what is run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console

from breakeven.harness.plan import CellSpec

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from breakeven.harness.cell import State

MARKS = {"done": "[green]done[/]", "failed": "[red]failed[/]", "pending": "[yellow]pending[/]",
         "not-applicable": "[dim]does not apply[/]", "stopped": "[yellow]stopped[/]"}  # fmt: skip
STAGES = {"serve": "answering", "search": "searching", "timing": "timing"}


def display(console: Console) -> LiveDisplay | PlainDisplay:
    """The display that fits the console."""
    return LiveDisplay(console) if console.is_terminal else PlainDisplay(console)


class PlainDisplay:
    """A line when a cell begins and ends, and one every `every` seconds in between."""

    def __init__(self, console: Console, every: float = 15.0) -> None:
        self._console, self._every = console, every
        self._started = self._last = time.monotonic()
        self._head = ""

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def cell_started(self, spec: CellSpec, position: int, total: int) -> None:
        self._started = self._last = time.monotonic()
        self._head = f"[{position}/{total}] {spec.id}"
        self._print(self._head)

    def progress(self, stage: str, done: float, total: float, tokens: int) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = f", {tokens / (now - self._started):,.0f} tokens/s" if tokens else ""
        self._print(f"{self._head}: {STAGES.get(stage, stage)} {done:,.0f} of {total:,.0f}{rate}")

    def cell_finished(self, spec: CellSpec, state: State, reason: str, quality: str) -> None:
        seconds = time.monotonic() - self._started
        said = f": {reason}" if reason else f" {quality}" if quality else ""
        self._print(f"{self._head}: {state}{said} ({seconds:.1f} s)")

    def note(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay:
    """Two bars: all cells, and the stage of the current one; finished cells scroll above them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._all: TaskID | None = None
        self._now: TaskID | None = None
        self._stage = ""
        self._started = time.monotonic()

    def __enter__(self) -> LiveDisplay:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[rate]}"),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Draws nothing while this lasts: somebody is asked something."""
        assert self._progress is not None
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def cell_started(self, spec: CellSpec, position: int, total: int) -> None:
        assert self._progress is not None
        if self._all is None:
            self._all = self._progress.add_task("cells", total=total, rate="")
        self._progress.update(self._all, completed=position - 1)
        if self._now is not None:
            self._progress.remove_task(self._now)
        self._now = self._progress.add_task(spec.id, total=None, rate="")
        self._stage, self._started = "", time.monotonic()

    def progress(self, stage: str, done: float, total: float, tokens: int) -> None:
        if self._progress is None or self._now is None:
            return
        if stage != self._stage:
            self._stage, self._started = stage, time.monotonic()
            self._progress.reset(self._now)
        elapsed = time.monotonic() - self._started
        rate = f"{tokens / elapsed:,.0f} tokens/s" if tokens and elapsed > 0.5 else ""
        text = f"{STAGES.get(stage, stage)} {rate}".strip()
        self._progress.update(self._now, completed=done, total=total, rate=text)

    def cell_finished(self, spec: CellSpec, state: State, reason: str, quality: str) -> None:
        from rich.markup import escape

        said = f" {escape(reason or quality)}" if reason or quality else ""
        self._console.print(
            f"{MARKS.get(state, state)} {escape(spec.id)}{said}", highlight=False, soft_wrap=True
        )
        if self._progress is not None and self._all is not None:
            self._progress.advance(self._all)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
