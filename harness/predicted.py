"""An estimate beside the run it was made for: predicted against actual tokens and seconds.

How it is shown is the business of the reports and the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from breakeven.harness import formats as f
from breakeven.harness import store, trials
from breakeven.harness.errors import UserError
from breakeven.harness.estimate import CellEstimate, Estimate
from breakeven.harness.ledger import Phase
from breakeven.harness.results import DONE, CellResult, Results


@dataclass(frozen=True, slots=True)
class Compared:
    """A row of predicted against actual: a strategy on a task, or the whole run (`task` is "").

    Seconds are those of training, answering and timing, which a run measures; of the whole run they are
    its wall time from the first cell to the end. Training that others share counts in each row, and once in
    the whole. None: unknown, or not comparable (a run that was broken off, or has other cells too).
    """

    task: str
    strategy: str
    cells: int
    input_tokens: tuple[float, float]
    output_tokens: tuple[float, float]
    training_tokens: tuple[float, float]
    seconds: tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Beside:
    """An estimate beside its run: a row per task and strategy, and the whole run; None where nothing is.

    `only_predicted` are cells that were to run and have no result, `only_run` cells that ran (or failed) and
    were not foreseen to; neither are in the rows.
    """

    rows: tuple[Compared, ...]
    whole: Compared | None
    only_predicted: tuple[str, ...]
    only_run: tuple[str, ...]

    def sentences(self) -> list[str]:
        """What is not compared, counted; nothing where all is."""
        found = []
        if n := len(self.only_predicted):
            verb = "was" if n == 1 else "were"
            found.append(
                f"{f.plural(n, 'cell')} {verb} estimated and {'has' if n == 1 else 'have'} no result in this "
                f"run: {_listed(self.only_predicted)}"
            )
        if n := len(self.only_run):
            verb = "was" if n == 1 else "were"
            found.append(
                f"{f.plural(n, 'cell')} of this run {verb} not estimated to run: {_listed(self.only_run)}"
            )
        return found

    def line(self) -> str:
        """The whole run in one line, for a terminal."""
        if self.whole is None:
            return "predicted and taken: no cell is in both the estimate and the run"
        w = self.whole
        said = [f"{f.minutes(w.seconds[0])} and {f.minutes(w.seconds[1])} min"]
        tokens = {"read": w.input_tokens, "written": w.output_tokens, "trained": w.training_tokens}
        said += [f"{f.count(a)} and {f.count(b)} tokens {what}" for what, (a, b) in tokens.items() if a or b]
        n = len(self.only_predicted) + len(self.only_run)
        apart = f" ({f.plural(n, 'cell')} in only one of the two)" if n else ""
        return f"predicted and taken: {', '.join(said)}{apart}"


#: Cells that are listed by name.
NAMED = 6
#: Phases in which models are trained.
TRAINED: tuple[Phase, ...] = ("train", "search")
#: States of cells that took time.
TRIED = (DONE, "failed", "stopped")


def _listed(ids: Sequence[str]) -> str:
    more = [f"{len(ids) - NAMED} more"] if len(ids) > NAMED else []
    return f.clean(f.names([*ids[:NAMED], *more]))


def load(file: Path, suite: str) -> Estimate:
    """An estimate of a suite. Raises UserError when it is none, or one of another suite."""
    made = Estimate.load(file)
    if made.suite != suite:
        raise UserError(
            f"holds an estimate of the suite '{made.suite}', not of '{suite}'",
            file=file,
            field="--estimate",
            hint=f"make one with: breakeven estimate {suite} --save FILE",
        )
    return made


def beside(results: Results) -> Beside | None:
    """The estimate that a run has beside it, compared; None where it has none."""
    estimate = results.estimate
    if estimate is None:
        return None
    rows = predicted_against_actual(estimate, results)
    foreseen = [c.id for c in estimate.cells if c.state == "runs"]
    ran = _by_id(results)
    done = {r.id for r in ran.values() if r.state == DONE}
    return Beside(
        rows[:-1],
        rows[-1] if rows else None,
        tuple(id for id in foreseen if id not in done),
        tuple(r.id for r in ran.values() if r.state in TRIED and r.id not in foreseen),
    )


def _by_id(results: Results) -> dict[str, CellResult]:
    """The cells as they ran: each fold by itself."""
    return {part.id: part for cell in results.cells.values() for part in cell.parts or (cell,)}


def predicted_against_actual(estimate: Estimate, results: Results) -> tuple[Compared, ...]:
    """(predicted, actual) per task and strategy over the cells that are done, and at last of the run."""
    ran = _by_id(results)
    pairs = [(c, ran[c.id]) for c in estimate.cells if c.id in ran]
    done = [(c, r) for c, r in pairs if r.state == DONE and c.state == "runs"]
    groups: dict[tuple[str, str], list[tuple[CellEstimate, CellResult]]] = {}
    for c, r in done:
        groups.setdefault((c.task, c.strategy), []).append((c, r))
    rows = [_compared(task, strategy, group) for (task, strategy), group in groups.items()]
    if not done:
        return ()
    whole = _compared("", "", done)
    predicted = estimate.totals([c for c, _ in done])
    trained = sum(_once(r.ledger.entries, seen) for seen in [set[str]()] for _, r in done)
    compared = {r.id for _, r in done}
    all_of_it = all(r.id in compared for r in ran.values() if r.state in TRIED)
    return (
        *rows,
        replace(
            whole,
            training_tokens=(predicted.training_tokens, trained),
            seconds=(
                None if predicted.untimed else predicted.seconds + estimate.loading_seconds,
                _wall_seconds(results) if all_of_it else None,
            ),
        ),
    )


def _once(entries: Iterable[Any], seen: set[str]) -> float:
    """Training tokens in a ledger, less those of artifacts that were seen before."""
    total, here = 0.0, set()
    for e in entries:
        if e.phase in TRAINED and e.quantity == "training_tokens" and (e.artifact or "") not in seen:
            total += e.amount.value or 0.0
            here |= {e.artifact} if e.artifact else set()
    seen |= here
    return total


def _compared(task: str, strategy: str, group: Sequence[tuple[CellEstimate, CellResult]]) -> Compared:
    predicted, actual = [c for c, _ in group], [r for _, r in group]
    said = [c.total_seconds for c in predicted]
    took = [_cell_seconds(r) for r in actual]
    return Compared(
        task,
        strategy,
        len(group),
        (sum(c.input_tokens + c.search_input_tokens for c in predicted), _used(actual, "input_tokens")),
        (sum(c.output_tokens + c.search_output_tokens for c in predicted), _used(actual, "output_tokens")),
        (
            sum(t.tokens for c in predicted for t in c.trainings),
            sum(r.ledger.total("training_tokens", TRAINED).value or 0.0 for r in actual),
        ),
        (_sum(said), _sum(took)),
    )


def _used(cells: Sequence[CellResult], quantity: str) -> float:
    """Tokens of the answers, and of those that a search for settings asked for."""
    answered = sum(getattr(p.usage, quantity) for r in cells for p in r.predictions)
    tried = (t for r in cells for _, search in trials.of_cell(r) for t in search.trials)
    return float(answered + sum(getattr(t, quantity) for t in tried))


def _sum(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) if len(known) == len(values) else None


def _cell_seconds(cell: CellResult) -> float | None:
    """What a cell took, as far as its ledger and its timing passes say; None of a model served elsewhere."""
    timing = cell.timing or {}
    alone = timing.get("batch_of_one") or {}
    if "note" in alone:  # the run's own requests: no pass of its own was made
        return None
    spent = sum(
        e.amount.value
        for e in cell.ledger.select(quantity="seconds")
        if e.amount.status == "measured" and e.amount.value is not None
    )
    seconds = alone.get("seconds") or []
    spent += sum(seconds) + (seconds[0] if seconds else 0.0)
    if together := timing.get("concurrent"):
        spent += together["seconds_per_request"] * together["n"]
    return float(spent)


def _wall_seconds(results: Results) -> float | None:
    """From the first cell to the end of an unbroken run."""
    began, ended = results.info.get("created"), results.info.get("finished")
    attempts = [
        (store.read_json(results.folder / "cells" / c / "status.json") or {}).get("attempts", 1)
        for c in _by_id(results)
    ]
    if not began or not ended or any(n != 1 for n in attempts):
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
