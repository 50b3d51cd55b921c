"""What a suite would take before any of it runs: cells, trainings, tokens, minutes, money, memory.

Prompts are rendered by the very code that serves, training is counted by the trainer's own plan, speeds come
from a few probes of the real model on this machine. How cells are looked at is `_foresee`'s, how a model is
tried `_forecast`'s, cheaper plans are `_savings`', the comparison with a run afterwards is `predicted`'s.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

from breakeven.harness import egress, store
from breakeven.harness.contracts import Engine
from breakeven.harness.errors import OutOfMemory, UserError
from breakeven.harness.suite import BEST_ON_VALIDATION, Suite

if TYPE_CHECKING:
    from breakeven.harness._forecast import Measured
    from breakeven.harness._foresee import Foreseen
    from breakeven.harness.runner import Display


@dataclass(frozen=True, slots=True)
class Seconds:
    """Where a cell's time goes: fitting without training, training, answering, the timing passes; and the
    validation examples that a search for settings has answered.
    """

    fitting: float
    training: float
    answering: float
    timing: float
    searching: float = 0.0

    @property
    def total(self) -> float:
        return self.fitting + self.training + self.answering + self.timing + self.searching


@dataclass(frozen=True, slots=True)
class Trained:
    """One training. `seconds` None where unknown; `money` is what a provider bills, None without a price."""

    key: str
    tokens: float
    seconds: float | None
    money: float | None = 0.0


@dataclass(frozen=True, slots=True)
class CellEstimate:
    """One cell. `state` is "runs", "not-applicable", "fails" or "unknown", with the reason.

    Attributes:
        rendered: test examples whose prompts were rendered; the others are taken to be like them.
        output_from: what the answers' lengths were taken from.
        training_tokens, training_key: of its training in full; cells of equal keys share one.
        seconds: None where unknown (a model that is served elsewhere and was not asked).
        training_money: what a provider bills for the training, None where it has no price; once for equal
        keys.
        token_money: what a provider bills for the answers, None where it has no price (`unpriced` says
        what); our own
            machine's time is priced for all cells together.
        peak_bytes: memory held at most; None where unknown.
        trials: further trainings that a search for settings makes, which no request is sent to.
        search_input_tokens, search_output_tokens: of the validation examples that its trials answer; their
            price is in `token_money`.
    """

    id: str
    task: str
    strategy: str
    model: str | None
    train_size: int
    seed: int | None
    state: str
    reason: str = ""
    examples: int = 0
    rendered: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    output_from: str = ""
    training_tokens: float = 0.0
    training_key: str = ""
    seconds: Seconds | None = None
    token_money: float | None = 0.0
    unpriced: tuple[str, ...] = ()
    peak_bytes: int | None = None
    training_money: float | None = 0.0
    trials: tuple[Trained, ...] = ()
    search_input_tokens: float = 0.0
    search_output_tokens: float = 0.0

    @property
    def trainings(self) -> tuple[Trained, ...]:
        """Its own and those of its search."""
        if not self.training_key:
            return self.trials
        seconds = self.seconds.training if self.seconds is not None else None
        own = Trained(self.training_key, self.training_tokens, seconds, self.training_money)
        return own, *self.trials

    @property
    def total_seconds(self) -> float | None:
        """All trainings included; None where unknown."""
        if self.seconds is None or any(t.seconds is None for t in self.trials):
            return None
        return self.seconds.total + sum(t.seconds or 0.0 for t in self.trials)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over cells; a training that several share counts once. `untimed` cells are in no seconds.

    `money` is None as soon as something in it has no price.
    """

    cells: int
    trainings: int
    input_tokens: float
    output_tokens: float
    training_tokens: float
    seconds: float
    untimed: int
    money: float | None

    @property
    def tokens(self) -> float:
        return self.input_tokens + self.output_tokens + self.training_tokens


@dataclass(frozen=True, slots=True)
class Saving:
    """What a cheaper plan would save; `change` is how to say it on the command line, if it can be said."""

    what: str
    change: str
    seconds: float
    money: float | None
    tokens: float


@dataclass(frozen=True)
class Estimate:
    """See the module. `machine_hour` is the price of an hour of `machine` in `currency`, None if unknown.

    `starting_seconds` pass before a run's clock begins (imports, data), `loading_seconds` while models load.
    Of the `projected` models nothing was tried: they cannot run on this machine.
    """

    suite: str
    created: str
    hardware: str
    machine: str
    machine_hour: float | None
    currency: str
    cells: tuple[CellEstimate, ...]
    starting_seconds: float = 0.0
    loading_seconds: float = 0.0
    probing_seconds: float = 0.0
    savings: tuple[Saving, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    projected: tuple[str, ...] = ()

    @property
    def overhead_seconds(self) -> float:
        return self.starting_seconds + self.loading_seconds

    def totals(self, cells: Iterable[CellEstimate] | None = None) -> Totals:
        """Of these cells alone, or of all with the overhead."""
        chosen = list(self.cells if cells is None else cells)
        running = [c for c in chosen if c.state in ("runs", "unknown")]
        trainings = {t.key: t for c in reversed(running) for t in reversed(c.trainings)}
        seconds = self.overhead_seconds if cells is None else 0.0
        for c in running:
            if c.seconds is not None:
                seconds += c.seconds.total - c.seconds.training
        seconds += sum(t.seconds or 0.0 for t in trainings.values())
        billed = [c.token_money for c in running] + [t.money for t in trainings.values()]
        untimed = any(c.seconds is None and c.token_money == 0 for c in running)  # of our own machine
        unknown = None in billed or untimed or (self.machine_hour is None and seconds > 0)
        own = seconds / 3600 * (self.machine_hour or 0.0)
        return Totals(
            cells=len(running),
            trainings=len(trainings),
            input_tokens=sum(c.input_tokens + c.search_input_tokens for c in running),
            output_tokens=sum(c.output_tokens + c.search_output_tokens for c in running),
            training_tokens=sum(t.tokens for t in trainings.values()),
            seconds=seconds,
            untimed=sum(c.total_seconds is None for c in running),
            money=None if unknown else own + sum(m for m in billed if m is not None),
        )

    @property
    def peak_bytes(self) -> int | None:
        """Of the cell that needs most; None if one is unknown."""
        peaks = [c.peak_bytes for c in self.cells if c.state == "runs" and c.model is not None]
        known = [p for p in peaks if p is not None]
        return max(known) if known and len(known) == len(peaks) else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        def cell(c: Mapping[str, Any]) -> CellEstimate:
            seconds = Seconds(**c["seconds"]) if c["seconds"] is not None else None
            trials = tuple(Trained(**t) for t in c.get("trials") or ())
            return CellEstimate(
                **{**c, "seconds": seconds, "unpriced": tuple(c["unpriced"]), "trials": trials}
            )

        return cls(
            **{
                **row,
                "cells": tuple(cell(c) for c in row["cells"]),
                "savings": tuple(Saving(**s) for s in row["savings"]),
                "notes": tuple(row["notes"]),
                "projected": tuple(row.get("projected", ())),
            }
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        """Raises UserError when there is no estimate in the file."""
        try:
            return cls.from_json(json.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError("no such file", file=file, field="--estimate") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                "holds no estimate",
                file=file,
                field="--estimate",
                hint="make one with: breakeven estimate SUITE --save FILE",
            ) from error

    def save(self, file: Path) -> None:
        store.write_json(file, self.to_json())


# --- making one ------------------------------------------------------------------------------


def estimate(
    suite: Suite,
    *,
    only: Sequence[str] = (),
    limit: int | None = None,
    prices: Path | None = None,
    seconds: float = 20.0,
    ask_hosted: bool = False,
    began: float | None = None,
    display: Display | None = None,
) -> Estimate:
    """Look ahead at what `breakeven run` would do with the same arguments.

    Args:
        seconds: how long each local model is probed, loading left out.
        ask_hosted: send a few requests to models that others serve, which costs money; else their answers
            are taken to be as long as they may be.
        began: when this process began (seconds since the epoch): a run would start up as long.

    Raises:
        UserError: what `breakeven run` would refuse.
    """
    with egress.only(suite.allow_hosts):
        return _estimate(suite, only, limit, prices, seconds, ask_hosted, began, display)


def _estimate(
    suite: Suite,
    only: Sequence[str],
    limit: int | None,
    prices: Path | None,
    seconds: float,
    ask_hosted: bool,
    began: float | None,
    display: Display | None,
) -> Estimate:
    from breakeven.harness import _forecast, _foresee, _projected, hardware, plan, pool, progress, run_tasks
    from breakeven.harness._savings import savings

    began = time.time() if began is None else began
    shown = display or progress.PlainDisplay(Console(quiet=True))
    tasks = run_tasks.load_tasks(suite, limit)
    specs = plan.cells(suite, tasks, only)
    engines = pool.Engines(suite, {}, prices, asks=ask_hosted, declared=True)
    pool.fetch_models(suite, specs, shown, declared=True)
    engines.book.check("machine_hours", suite.economics.hardware, field="economics.hardware")
    pool.preflight(tasks, specs, engines)
    hour = engines.book.machine_hour(suite.economics.hardware)
    starting = time.time() - began
    asked = {n: engines.get(n) for n in dict.fromkeys(s.model for s in specs if s.model is not None)}
    local = {n for n, engine in asked.items() if engine.describe().data_goes_to == "this machine"}
    declared: dict[str, Any] = {n: e for n, e in asked.items() if pool.is_declared(suite.models[n])}
    local -= declared.keys()
    loading = {n: _forecast.loaded(asked[n], shown.note) for n in asked if n in local}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = _foresee.World(suite, tasks, engines.get, engines.embedder, folder, shown.note)
        looked = _foresee.look(specs, world)
        found: dict[str, _forecast.Measured] = {}
        for model, engine in asked.items():
            cells = [c for c in looked if c.spec.model == model]
            if model in declared:
                found[model] = _projected.projected(declared[model], suite.economics.hardware)
            elif model in local:
                found[model] = _tried(engine, cells, seconds, folder, shown)
            elif ask_hosted:
                found[model] = _forecast.heard(engine, cells, shown.note)
            else:
                found[model] = _forecast.Measured(engine.describe())
        alone = _forecast.taught(looked, seconds / 3, folder, shown.note)
        line = _forecast.journal_line(folder)
        made_cells = []
        for cell in looked:
            measured = found.get(cell.spec.model or "")
            card = measured.card if measured is not None else None
            named = cell.training.served_as if cell.training is not None and cell.training.billed else ""
            named = named or (card.price_as if card is not None else "")
            price = engines.book.token_price(named) if named else None
            asks = asked.get(cell.spec.model or "")
            made_cells.append(_forecast.estimated(cell, suite, asks, measured, price, line, alone))
    made = Estimate(
        suite=suite.suite,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=hardware.name(),
        machine=suite.economics.hardware,
        machine_hour=hour.price if hour is not None else None,
        currency=suite.economics.currency,
        cells=tuple(made_cells),
        starting_seconds=starting,
        loading_seconds=sum(loading.values()) + sum(world.loading),
        probing_seconds=time.time() - began - starting,
        notes=(
            *(_projected.sentence(n, e, suite.economics.hardware) for n, e in declared.items()),
            *_notes(made_cells, suite),
            *_too_large(made_cells, found),
        ),
        projected=tuple(declared),
        versions=hardware.versions(),
    )
    return replace(made, savings=savings(made, suite))


def _tried(
    engine: Engine, cells: Sequence[Foreseen], seconds: float, folder: Path, display: Display
) -> Measured:
    from breakeven.harness import _forecast

    try:
        return _forecast.tried(engine, cells, seconds, folder, display.note)
    except OutOfMemory as error:
        raise UserError(
            f"{engine.describe().name} cannot be tried on this machine: {error}",
            hint="use a smaller model, load_in_4bit on a GPU, or shorter prompts",
        ) from None


def _notes(cells: Sequence[CellEstimate], suite: Suite) -> tuple[str, ...]:
    """What the reader must know of how the numbers came about, a sentence each."""
    running = [c for c in cells if c.state == "runs"]
    notes = []
    if sampled := [c for c in running if c.model is not None and c.rendered < c.examples]:
        fewest, most = min(c.rendered for c in sampled), max(c.examples for c in sampled)
        notes.append(
            f"prompts of {len(sampled)} cells were rendered for {fewest} of up to {most:,} test examples; "
            "the others are taken to be like them"
        )
    if unasked := {c.model for c in running if c.output_from == "at most: nothing was asked"}:
        notes.append(
            f"{_listed(unasked)} was not asked: its answers are counted as long as they may be, its minutes "
            "not at all (--ask-hosted asks a few requests)"
        )
    for c in cells:
        if c.state in ("fails", "unknown"):
            notes.append(f"{c.id}: {c.reason}")
    for reason, ids in _by_reason(cells).items():
        notes.append(f"does not apply: {_listed(ids)} ({reason})")
    if any(c.seconds is None and c.training_key for c in running):
        notes.append("some trainings cannot be tried beforehand: their minutes are unknown")
    for name in dict.fromkeys(c.strategy for c in running if c.trials):
        searched = [c for c in running if c.strategy == name]
        trials = [t for c in searched for t in c.trials]
        asked = sum(c.search_input_tokens + c.search_output_tokens for c in searched)
        answers = f" and {asked:,.0f} tokens of answers to validation examples" if asked else ""
        notes.append(
            f"{name} searches for its settings: {len(trials)} further trainings of "
            f"{sum(t.tokens for t in trials):,.0f} tokens{answers} are counted"
        )
    if suite.reference == BEST_ON_VALIDATION:
        notes.append("answering the validation examples, by which the reference is chosen, is not counted")
    if unpriced := {name for c in running for name in c.unpriced}:
        notes.append(f"no price for {_listed(unpriced)}")
    return tuple(notes)


def _too_large(cells: Sequence[CellEstimate], found: Mapping[str, Measured]) -> Iterator[str]:
    """What would need more memory than there is, a sentence for each model."""
    for model, measured in found.items():
        room = measured.room_bytes
        if room is None:
            continue
        large = [c for c in cells if c.model == model and (c.peak_bytes or 0) > room]
        if not large:
            continue
        on_gpu = measured.card.device.startswith("cuda")
        then = "it is halved until it fits" if on_gpu else "the system would stop the run"
        trains = any(c.training_key for c in large)
        lower = (
            "weights.tokens_per_pass, or weights.gradient_checkpointing: true" if trains else "batch_tokens"
        )
        yield (
            f"does not fit: {_listed({c.strategy for c in large})} would hold up to "
            f"{max(c.peak_bytes or 0 for c in large) / 1e9:.1f} GB with {model}, and there is room for "
            f"{room / 1e9:.1f} GB: {then}; set a lower {lower}"
        )


def _by_reason(cells: Sequence[CellEstimate]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for c in cells:
        if c.state == "not-applicable":
            reasons.setdefault(c.reason, []).append(c.id)
    return reasons


def _listed(names: Iterable[str | None]) -> str:
    return ", ".join(sorted(name or "-" for name in names))
