"""One cell of a run: fit, predict, score, time; each stage written down before the next begins.

A cell that fails, does not apply or waits for a hosted job is recorded with its reason. What a killed run had
finished is found again and not repeated; see `session` for how a broken-off batch is replayed.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from breakeven.harness import _timing, plan, registry, scoring, store
from breakeven.harness.contracts import (
    Engine,
    Example,
    Input,
    Prediction,
    Predictor,
    Services,
    Strategy,
    Task,
    take,
)
from breakeven.harness.errors import DiskError, NotApplicable, Pending, SpendingLimitReached, UserError
from breakeven.harness.folds import CrossfitTask
from breakeven.harness.ledger import Ledger, Phase
from breakeven.harness.plan import CellSpec
from breakeven.harness.session import Journal, Session, lost_work
from breakeven.harness.suite import BEST_ON_VALIDATION

if TYPE_CHECKING:
    from breakeven.harness.runner import Runner

State = Literal["waiting", "running", "done", "failed", "pending", "not-applicable", "stopped"]


class Cell:
    """One cell in its folder. Files appear in the order of the stages; `status.json` is written last."""

    def __init__(self, runner: Runner, spec: CellSpec) -> None:
        self.runner, self.spec = runner, spec
        self.task = plan.task_of(runner.tasks, spec)
        self.folder = runner.folder / "cells" / spec.id
        self.quality = ""
        self._meter: Any = None  # read now and then, before a counter wraps
        self._status: dict[str, Any] = store.read_json(self.folder / "status.json", {})

    @property
    def state(self) -> State:
        state: State = self._status.get("state", "waiting")
        return state

    def is_billed(self) -> bool:
        """Whether a provider bills this cell's requests."""
        engine = self._engine()
        return engine is not None and engine.describe().data_goes_to != "this machine"

    def finished(self) -> bool:
        """Done, and still what the suite asks for; a stale cell is cleared."""
        known = store.read_json(self.folder / "cell.json")
        if self.folder.exists() and (known is None or known.get("hash") != self.address):
            store.remove(self.folder)  # without cell.json: clearing it was broken off, the rest is stale too
            self._status = {}
            if known is not None:
                self.runner.display.note(f"{self.spec.id}: its task or settings changed; running it again")
        return self.state in ("done", "not-applicable")

    def is_done(self) -> bool:
        """Whether `finished` would say so; changes nothing."""
        return self.state in ("done", "not-applicable") and self._fits()

    def is_trained(self) -> bool:
        """Whether `fit` is over, or goes on elsewhere, for what the suite asks for."""
        begun = ("predictor", "pending.json")
        return any((self.folder / name).exists() for name in begun) and self._fits()

    def is_fitting(self) -> bool:
        """Whether `fit` was begun for what the suite asks for, and is not over."""
        return self._fits() and not (self.folder / "predictor").exists()

    def _fits(self) -> bool:
        known = store.read_json(self.folder / "cell.json", {})
        return bool(known.get("hash") == self.address)

    def run(self) -> tuple[State, str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        store.write_json(self.folder / "cell.json", {**self._record(), "hash": self.address})
        self._status["attempts"] = self._status.get("attempts", 0) + 1
        self._status.setdefault("started", _now())
        self.mark("running", "")
        try:
            self._stages()
        except NotApplicable as error:
            return self.mark("not-applicable", error.reason)
        except Pending as error:
            store.write_json(self.folder / "pending.json", error.state)
            return self.mark("pending", f"look again after {error.check_after:%Y-%m-%d %H:%M %Z}")
        except DiskError:
            raise
        except UserError as error:
            return self.mark("failed", str(error))
        except KeyboardInterrupt:
            self.mark("stopped", "interrupted")
            raise
        except SpendingLimitReached:
            raise
        except Exception as error:
            store.write_text(self.folder / "error.txt", traceback.format_exc())
            return self.mark(
                "failed", f"{type(error).__name__}: {error} (traceback in {self.folder}/error.txt)"
            )
        return self.mark("done", "")

    def mark(self, state: State, reason: str) -> tuple[State, str]:
        self._status.update(state=state, reason=reason)
        if state != "running":
            self._status["finished"] = _now()
        store.write_json(self.folder / "status.json", self._status)
        return state, reason

    # --- stages ------------------------------------------------------------------------------

    def _stages(self) -> None:
        spec, task = self.spec, self.task
        strategy = plan.make_strategy(spec.strategy, spec.factory, spec.settings)
        if is_told(strategy) and (untold := plan.untold(task)):
            raise NotApplicable(
                f"{untold:,} of {len(task.test):,} test examples do not say which document answers: "
                "their group is no document's id"
            )
        fit_ledger = self._fit(strategy)
        choice_ledger = self._validate(strategy)
        serve_ledger = Ledger()
        with self._metered(serve_ledger, "serve"):
            services = self._services(serve_ledger, "serve", self.folder / "journal.jsonl")
            predictor = self._load(strategy, services)
            predictions = self._predict(predictor, self.task.test, is_told(strategy))
        self._score(predictions)
        self._copy_notes(predictor, predictions)
        self._status["lost"] = self._lost(predictor)
        self._time(strategy)
        ledger = Ledger([*fit_ledger.entries, *choice_ledger.entries, *serve_ledger.entries])
        store.write_json(self.folder / "ledger.json", ledger.compacted().to_json())
        shown = {str(p) for x in predictions for p in _listed(x.meta.get("passages"))}
        add_documents(self.runner.folder, task, shown)
        store.remove(self.folder / "scratch")

    def _fit(self, strategy: Strategy) -> Ledger:
        """Fit and save, or find what an earlier attempt saved."""
        saved = self.folder / "predictor"
        if not saved.exists():
            store.remove(self.folder / "predictor.partial")
            ledger = Ledger()
            services = self._services(ledger, "search", self.folder / "journal-fit.jsonl")
            train = plan.training_rows(self.runner.tasks, self.spec)
            with self._metered(ledger, "train", services):
                predictor = strategy.fit(self.task.brief, train, self.task.validation, services)
            partial = self.folder / "predictor.partial"
            with store.disk_errors(partial):
                partial.mkdir(parents=True)
                predictor.save(partial)
            store.write_json(partial / "fit-ledger.json", ledger.compacted().to_json())
            partial.rename(saved)
        return Ledger.from_json(store.read_json(saved / "fit-ledger.json"))

    def _validate(self, strategy: Strategy) -> Ledger:
        """Score the validation examples, where the reference is chosen by them; what that takes is search."""
        ledger, file = Ledger(), self.folder / "validation.json"
        if self.runner.suite.reference != BEST_ON_VALIDATION:
            return ledger
        examples = self.task.validation
        services = self._services(ledger, "search", self.folder / "journal-validation.jsonl")
        with self._metered(ledger, "search"):
            predictions = self._predict(self._load(strategy, services), examples, is_told(strategy))
        found = scoring.scored(replace(self.task, test=examples), predictions).aggregates
        store.write_json(file, {"n": len(examples), "scores": found})
        return ledger

    def _load(self, strategy: Strategy, services: Services) -> Predictor:
        """Always from disk, so that a resumed run serves with exactly what an unbroken one does."""
        return strategy.load(self.folder / "predictor", self.task.brief, services)

    def _predict(
        self, predictor: Predictor, examples: Sequence[Example], told: bool = False
    ) -> list[Prediction]:
        inputs = _inputs(examples, told)
        found: dict[str, Prediction] = {}
        answers = predictor.predict(inputs)
        try:
            for prediction in answers:
                found[prediction.id] = prediction
        finally:  # at once, also on Ctrl-C: what a strategy has deployed is billed until it is closed
            if isinstance(answers, Generator):
                answers.close()
        missing = [i.id for i in inputs if i.id not in found]
        if missing:
            raise RuntimeError(
                f"no prediction for {len(missing)} of {len(inputs)} inputs, first '{missing[0]}'"
            )
        return [found[i.id] for i in inputs]

    def _score(self, predictions: Sequence[Prediction]) -> None:
        task = self.task
        found = scoring.scored(task, predictions)
        rows = []
        for i, p in enumerate(predictions):
            row = {
                "id": p.id,
                "output": p.output,
                **found.row(i),
                "usage": p.usage,
                "seconds": p.seconds,
                "finish_reason": p.finish_reason,
                "meta": p.meta,
            }
            rows.append({**row, "prompt": p.prompt} if p.prompt is not None else row)
        store.write_lines(self.folder / "predictions.jsonl", rows)
        store.write_json(self.folder / "scores.json", found.aggregates)
        if found.draws is not None and self.spec.fold is None:
            store.write_json(self.folder / "draws.json", found.draws)
        self.quality = f"{task.primary.name} {found.aggregates[task.primary.name]:.3f}"

    def _copy_notes(self, predictor: Predictor, predictions: Sequence[Prediction]) -> None:
        store.write_json(self.folder / "fit.json", getattr(predictor, "notes", {}) or {})
        served = getattr(predictor, "served_by", None)
        if served is not None:
            store.write_json(self.folder / "served.json", asdict(served))
        training = getattr(predictor, "training", None)
        if training:
            ended = stop_rate(p.finish_reason for p in predictions)
            as_dict = training if isinstance(training, Mapping) else store.as_dict(training)
            store.write_json(self.folder / "training.json", {**as_dict, "stop_rate": ended})

    def _lost(self, predictor: Predictor) -> dict[str, float]:
        """What was computed and then lost to a crash, as far as it was written down; billed to nobody."""
        lost = {"seconds": 0.0, "tokens": 0.0}
        for name in ("journal-fit.jsonl", "journal-validation.jsonl", "journal.jsonl"):
            for quantity, value in lost_work(self.folder / name).items():
                lost[quantity] += value
        if self._status["attempts"] > 1:  # else it was another cell that trained this adapter
            lost["seconds"] += getattr(getattr(predictor, "training", None), "lost_seconds", 0.0)
            lost["seconds"] += getattr(predictor, "lost_in_search", 0.0)
        return {quantity: value for quantity, value in lost.items() if value}

    def _time(self, strategy: Strategy) -> None:
        """Latency from one request at a time; priced seconds also at the stated concurrency.

        An API is not asked again: its latencies are those of the requests already made. So are those of
        answers that were given elsewhere. What a language model says on the way is compared with what it
        said in the run's own batches: `equal` counts the texts that are the same.
        """
        if (self.folder / "timing.json").exists():
            return
        timing = self.runner.suite.timing
        inputs = _inputs(take(self.task.test, timing.examples), is_told(strategy))
        engine = self._engine()
        hosted = engine is not None and engine.describe().data_goes_to != "this machine"
        rows = store.read_rows(self.folder / "predictions.jsonl")
        if hosted or getattr(strategy, "timed_elsewhere", False):
            seconds = [r["seconds"] for r in rows if r.get("seconds") is not None]
            own = {"n": len(seconds), "seconds": seconds, "note": "latencies of the run's own requests"}
            store.write_json(self.folder / "timing.json", {"batch_of_one": own})
            return
        if not inputs:
            return

        def lent(concurrency: int) -> Predictor:
            services = self._services(Ledger(), "serve", None, concurrency=concurrency, timed=True)
            return self._load(strategy, services)

        before = {r["id"]: r["output"] for r in rows} if engine is not None else None
        found = _timing.measured(lent, inputs, timing.concurrency, before, self.runner.display.progress)
        store.write_json(self.folder / "timing.json", found)

    @contextmanager
    def _metered(self, ledger: Ledger, phase: Phase, services: Services | None = None) -> Iterator[None]:
        """Book the joules of a stage where this machine has a meter; unknown otherwise, never zero."""
        from breakeven.harness import energy

        engine = self._engine()
        card = engine.describe() if engine is not None else None
        if card is not None and card.data_goes_to != "this machine":
            yield
            ledger.book(phase, "joules", None, source=f"spent at {card.data_goes_to}")
            return
        self._meter = meter = energy.energy_meter(card.device if card is not None else "cpu")
        yield
        self._meter = None
        if meter is None:
            ledger.book(phase, "joules", None, source="no meter (NVML, RAPL) on this machine")
        elif services is not None and getattr(services.artifacts, "reused", False):
            ledger.book(phase, "joules", None, source="an artifact of another cell is not metered here")
        elif self._status["attempts"] > 1:
            ledger.book(phase, "joules", None, source="broken off and resumed: metered in part")
        else:
            searched = phase == "train" and any(ledger.select("search"))
            source = f"{meter.name}, searching for settings included" if searched else meter.name
            ledger.book(phase, "joules", meter.joules(), source=source)

    # --- what a stage is lent ----------------------------------------------------------------

    def _engine(self) -> Engine | None:
        return self.runner.engine_of(self.spec.model) if self.spec.model is not None else None

    def _services(
        self,
        ledger: Ledger,
        phase: Phase,
        journal: Path | None,
        concurrency: int | None = None,
        timed: bool = False,
    ) -> Services:
        runner, engine = self.runner, self._engine()
        if timed and engine is not None and hasattr(engine, "unshared"):
            engine = engine.unshared()  # what a request costs alone
        display = runner.display
        answered = tokens = 0

        def count(completion: Any) -> None:
            nonlocal answered, tokens
            answered += 1
            tokens += completion.usage.input_tokens + completion.usage.output_tokens
            if not timed:
                display.progress(phase, answered, max(len(self.task.test), answered), tokens)

        def progress(done: float, total: float, what: str) -> None:
            if self._meter is not None:
                self._meter.joules()
            if not timed:
                display.progress(what, done, total, 0)

        session = (
            Session(engine, Journal(journal), ledger, phase, concurrency, count)
            if engine is not None
            else None
        )
        return Services(
            seed=self.spec.seed if self.spec.seed is not None else self.runner.suite.seeds[0],
            ledger=ledger,
            scratch=_made(self.folder / "scratch"),
            artifacts=store.ArtifactStore(runner.folder / "artifacts", ledger),
            engine=session,
            embedder=lambda: runner.embedder(ledger, timed),
            score=self._validation_score,
            progress=progress,
            pending_state=store.read_json(self.folder / "pending.json"),
            keep_prompts=runner.keep_prompts,
        )

    def _validation_score(self, predictions: Sequence[Prediction]) -> float:
        by_id = {e.id: e for e in self.task.validation}
        pairs = [(by_id[p.id], p) for p in predictions]
        metric = self.task.primary
        scores = [metric.score(e, p, None) for e, p in pairs]
        return metric.aggregate([e for e, _ in pairs], [p for _, p in pairs], scores)

    def _record(self) -> dict[str, Any]:
        """The specification, and what joins a fold to the others of its cell."""
        whole = self.runner.tasks[self.spec.task]
        record = _spec_json(self.spec)
        if self.spec.fold is not None and isinstance(whole, CrossfitTask):
            outside = len(self.task.train) + len(self.task.validation)
            record |= {"joined": self.spec.joined, "folds": len(whole.used), "outside": outside}
        return record

    @property
    def address(self) -> str:
        """See `_address`; computed once, since it goes over the training rows."""
        known = self.runner._addresses
        if self.spec.id not in known:
            known[self.spec.id] = self._address()
        return known[self.spec.id]

    def _address(self) -> str:
        """Everything that changes this cell's answers; a stored cell with another address is stale."""
        spec, engine = self.spec, self._engine()
        card = engine.describe() if engine is not None else None
        train = plan.training_rows(self.runner.tasks, spec)
        chosen = {"train": [e.id for e in train]} if len(train) < len(self.task.train) else {}
        return store.digest(
            {
                **chosen,
                "spec": _spec_json(spec),
                "task": self.runner.task_digest(self.spec.task),
                "model": [card.name, card.engine, card.digest, card.dtype, card.device] if card else None,
                "strategy": getattr(
                    plan.make_strategy(spec.strategy, spec.factory, spec.settings), "digest", None
                ),
                "sources": [registry.source_hash(name) for name in _files_in([spec.factory, spec.settings])],
                "embedder": self.runner.embedder_digest,
            }
        )


def _files_in(value: Any) -> Iterator[str]:
    """Every "file.py:attribute" in settings: what stands in such a file changes answers too."""
    if isinstance(value, str) and ".py:" in value:
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _files_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _files_in(part)


def stop_rate(finish_reasons: Iterable[str]) -> float | None:
    """Share of generated answers that ended by the end token rather than by the length limit.

    A tuned model well below 1 was not taught to stop. Answers scored over choices do not count; None if
    nothing was generated.
    """
    generated = [reason for reason in finish_reasons if reason != "choices"]
    return sum(reason == "stop" for reason in generated) / len(generated) if generated else None


def add_documents(folder: Path, task: Task, shown: set[str]) -> None:
    """Keep the documents that some prediction shows, for the report."""
    if not shown:
        return
    path = folder / "tasks" / task.name / "documents.jsonl"
    known = {r["id"]: r for r in store.read_rows(path)}
    for d in task.documents:
        if d.id in shown:
            source = {k: d.meta[k] for k in ("path", "pages") if k in d.meta}
            known[d.id] = {"id": d.id, "title": d.title, "text": d.text, **source}
    store.write_lines(path, known.values())


def is_told(strategy: Strategy) -> bool:
    """Whether it is a ceiling, which is told which document answers (`ceiling`, see `contracts.Strategy`)."""
    return bool(getattr(strategy, "ceiling", False))


def _inputs(examples: Sequence[Example], told: bool = False) -> list[Input]:
    """Test examples as a predictor sees them: without references, and without group unless it is `told`."""
    return [Input(e.id, e.input, e.group if told else None) for e in examples]


def _spec_json(spec: CellSpec) -> dict[str, Any]:
    return {
        "id": spec.id,
        "task": spec.task,
        "strategy": spec.strategy,
        "factory": spec.factory,
        "settings": dict(spec.settings),
        "model": spec.model,
        "train_size": spec.train_size,
        "seed": spec.seed,
        **({"fold": spec.fold} if spec.fold is not None else {}),
    }


def _listed(value: Any) -> Iterator[Any]:
    return iter(value if isinstance(value, list | tuple) else [])


def _made(folder: Path) -> Path:
    with store.disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
