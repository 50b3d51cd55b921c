"""One run from the outside: make or reopen its folder, freeze what it depends on, run, record.

`start` is for a new folder, `resume` for an old one; both end in `_go`. The folder's layout is described in
docs/run-folder.md.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import ahead, deployments, egress, plan, registry, scoring, store
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Embedder, Engine, Example, Message, Request, Task
from breakeven.harness.errors import UserError
from breakeven.harness.folds import CrossfitTask, crossfitted
from breakeven.harness.ledger import Ledger
from breakeven.harness.plan import CellSpec
from breakeven.harness.prices import PriceBook
from breakeven.harness.results import ESTIMATE
from breakeven.harness.runner import Display, Runner, State
from breakeven.harness.spending import SpendGuard
from breakeven.harness.suite import BEST_ON_VALIDATION, Suite

if TYPE_CHECKING:
    from breakeven.harness.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line adds to a suite. `limit` caps test examples, `only` are glob patterns, `estimate`
    is kept in the run folder for its reports, `gate` looks at what is ahead and may stop it."""

    only: tuple[str, ...] = ()
    limit: int | None = None
    keep_prompts: bool = False
    prices: Path | None = None
    estimate: Estimate | None = None
    gate: ahead.Gate | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    folder: Path
    states: Mapping[str, State]
    alarms: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all ran or do not apply, 1 one failed or was stopped or a deployment is still billed, 3 only
        hosted jobs are waited for."""
        if self.alarms or any(s in ("failed", "stopped", "waiting") for s in self.states.values()):
            return 1
        return 3 if "pending" in self.states.values() else 0


def _prices(suite: Suite, engines: Engines, cards: Mapping[str, Any]) -> dict[str, Any]:
    """Every price that a report of this run can need, copied with its date and source; also for models whose
    cells were finished before."""
    engines.book.machine_hour(suite.economics.hardware)
    for card in cards.values():
        if card.get("price_as"):
            engines.book.token_price(card["price_as"])
            engines.book.training_tokens(card["price_as"])
        if card.get("hosting"):
            engines.book.hosting_hour(card["hosting"])
    return engines.book.used()


def _served(folder: Path) -> dict[str, Any]:
    """The cards of models that tuning made at a provider, by cell."""
    return {p.parent.name: store.read_json(p) for p in sorted((folder / "cells").glob("*/served.json"))}


def load_tasks(suite: Suite, limit: int | None) -> dict[str, Task]:
    """The tasks by name, at most `limit` examples of each scored; cut into folds where the suite says so."""
    count, most = suite.evaluate.crossfit, _least(suite.evaluate.examples, limit)
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


def new_folder(root: Path, suite: Suite, name: str | None) -> Path:
    """The folder of a new run; `name` must be free, else the suite's name and a number are taken."""
    if name is not None:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise UserError(
                f"'{name}' cannot be a folder name", field="--name", hint="use letters, digits, - _ + ."
            )
        folder = root / name
        if (folder / "run.json").exists():
            raise UserError(
                "a run is already there",
                file=folder,
                hint=f"continue it with: breakeven run --resume {folder}",
            )
        return folder
    stem = re.sub(r"[^\w.+-]", "_", suite.suite)[:100].lstrip(".") or "run"
    numbers = [int(m[1]) for p in root.glob("*") if (m := re.fullmatch(re.escape(stem) + r"-(\d+)", p.name))]
    return root / f"{stem}-{max(numbers, default=0) + 1}"


def start(suite: Suite, folder: Path, options: Options, display: Display) -> Outcome:
    """A new run in a new folder, which sends nothing to hosts that the suite does not allow."""
    with egress.only(suite.allow_hosts):
        return _start(suite, folder, options, display)


def _start(suite: Suite, folder: Path, options: Options, display: Display) -> Outcome:
    tasks = load_tasks(suite, options.limit)
    # Every setting, model and prompt length is checked before anything is written.
    specs = plan.cells(suite, tasks, options.only)
    _check_reference(suite, tasks)
    engines = Engines(suite, {}, options.prices)
    fetch_models(suite, specs, display)
    engines.book.check("machine_hours", suite.economics.hardware, field="economics.hardware")
    preflight(tasks, specs, engines)
    for model in engines.beyond_the_limit():
        display.note(f"limits.spend does not hold for {model}: nobody knows its price")
    with _begun(folder), store.locked(folder):
        coming = ahead.Ahead(suite, folder, tasks, specs, engines, display)
        look = options.gate(coming) if options.gate is not None else None
        suite = _frozen(suite, options)
        store.write_text(folder / "suite.yaml", suite.to_yaml())
        for name, task in tasks.items():
            write_task(folder / "tasks" / name, task, coming.leaks)
        if options.estimate is not None:
            options.estimate.save(folder / ESTIMATE)
        info = {
            "name": folder.name,
            "suite": suite.suite,
            "created": _now(),
            "command": shlex.join(["breakeven", *sys.argv[1:]]),
            "versions": _versions(),
            "hardware": _hardware(),
            "tasks": list(tasks),
            "cells": [s.id for s in plan.cells(suite, tasks)],
            "asked": [s.id for s in specs],
            "reference": suite.reference,
            "currency": suite.economics.currency,
            "limit": options.limit,
            "keep_prompts": options.keep_prompts,
            "prices": str(options.prices.resolve()) if options.prices else None,
            # at the end again; a killed run is reported from these
            "models": engines.cards(),
            "price_book": _prices(suite, engines, engines.cards()),
            **({"preflight": look.summary()} if look is not None else {}),
        }
        if look is not None:
            ahead.keep(folder, look)
        store.write_json(folder / "engines.json", engines.chosen())
        store.write_json(folder / "run.json", info)
        return _go(suite, folder, tasks, engines, options, display)


@contextmanager
def _begun(folder: Path) -> Iterator[None]:
    """A new run whose folder is gone again where it was stopped before it began."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        if not there and not (folder / "run.json").exists():
            store.remove(folder)
        raise


def _check_reference(suite: Suite, tasks: Mapping[str, Task]) -> None:
    for name, task in tasks.items():
        if suite.reference == BEST_ON_VALIDATION and not task.validation:
            raise UserError(
                f"'{BEST_ON_VALIDATION}' needs validation examples, and '{name}' has none",
                field="reference",
                hint=f"give {name} a validation split (or limits.validation above 0), or name a strategy",
            )


def resume(folder: Path, options: Options, display: Display) -> Outcome:
    """Go on with a run: finished cells are kept, broken-off ones continue, failed ones are tried again."""
    info = store.read_json(folder / "run.json")
    if info is None:
        raise UserError("not a run folder: there is no run.json in it", file=folder)
    for made, how in {"rescored": "scored again", "merged": "put together from others"}.items():
        if info.get(made):
            raise UserError(
                f"this run was {how}; what a new attempt would find is no longer what it was made from",
                file=folder,
                field="--resume",
                hint="resume the run it came from, then do the same to that one",
            )
    suite = suites.load(folder / "suite.yaml")
    if options.limit is not None and options.limit != info.get("limit"):
        began = f"with --limit {info['limit']}" if info.get("limit") else "without a limit"
        raise UserError(
            f"this run began {began}; another one would throw away its results",
            field="--limit",
            hint=f"leave --limit out, or start a new run: breakeven run {folder / 'suite.yaml'} --limit "
            f"{options.limit}",
        )
    options = Options(
        options.only,
        options.limit or info.get("limit"),
        options.keep_prompts or info.get("keep_prompts", False),
        options.prices,
        gate=options.gate,
    )
    with egress.only(suite.allow_hosts):
        return _resume(suite, folder, info, options, display)


def _resume(
    suite: Suite, folder: Path, info: Mapping[str, Any], options: Options, display: Display
) -> Outcome:
    tasks = load_tasks(suite, options.limit)
    options = replace(options, prices=options.prices or _path(info.get("prices")))
    with store.locked(folder):
        for name, task in tasks.items():
            before = store.read_json(folder / "tasks" / name / "task.json", {}).get("hash")
            if before != plan.task_digest(task):
                display.note(f"task {name} is not what it was when this run began; its cells run again")
                _forget_results(folder, name)  # also of cells that are not asked for now
                write_task(folder / "tasks" / name, task)
        if info.get("versions") and (changed := _changed(info["versions"], _versions())):
            display.note(f"not what this run began with: {', '.join(changed)}; answers and times may differ")
        engines = Engines(suite, store.read_json(folder / "engines.json", {}), options.prices)
        return _go(suite, folder, tasks, engines, options, display, again=True)


def _go(
    suite: Suite,
    folder: Path,
    tasks: Mapping[str, Task],
    engines: Engines,
    options: Options,
    display: Display,
    again: bool = False,
) -> Outcome:
    specs = plan.cells(suite, tasks, options.only)
    planned = [s.id for s in plan.cells(suite, tasks)]
    engines.keep_purse(folder / "purse.json")
    deployments.sweep(folder, engines.book, display.note, engines.purse())
    runner = Runner(
        suite,
        folder,
        tasks,
        engines.get,
        engines.embedder,
        display,
        options.keep_prompts,
        engines.embedder_digest(),
    )
    if again and options.gate is not None:
        _look_again(runner, specs, engines, options.gate)
    try:
        runner.run(specs)
    finally:
        info = store.read_json(folder / "run.json")
        models = {**info.get("models", {}), **engines.cards()}
        prices = _prices(suite, engines, {**models, **_served(folder)})
        now = {"cells": planned, "models": models, "price_book": prices}
        # a run that had nothing left to do was finished when it was
        if runner.worked or "finished" not in info or store.as_dict({**info, **now}) != info:
            store.write_json(folder / "run.json", {**info, **now, "finished": _now()})
        store.write_json(folder / "engines.json", engines.chosen())
        alarms = tuple(deployments.alarms(folder, engines.book))
        for alarm in alarms:
            display.note(alarm)
    return Outcome(folder, runner.states, alarms)


def _look_again(runner: Runner, specs: Sequence[CellSpec], engines: Engines, gate: ahead.Gate) -> None:
    """Let the gate look at what a resumed run has left to do, and keep what it found."""
    left, trained = runner.unfinished(specs)
    if not left:
        return
    info = store.read_json(runner.folder / "run.json")
    before = info.get("preflight")
    look = gate(
        ahead.Ahead(runner.suite, runner.folder, runner.tasks, left, engines, runner.display, trained, before)
    )
    if look is not None:
        ahead.keep(runner.folder, look)
        store.write_json(runner.folder / "run.json", {**info, "preflight": look.summary()})


class Engines:
    """The shared engines, embedding model, price book and purse of a run; made when first asked for.

    Args:
        frozen: what engines chose for themselves when the run began (dtype, device), by model name; kept on
            resume, since answers depend on it.
        prices: the user's own price file.
        asks: whether hosted models will be asked, and need their key.
        declared: let a model that cannot run on this machine be looked at by its declared architecture.
    """

    def __init__(
        self,
        suite: Suite,
        frozen: Mapping[str, Any],
        prices: Path | None = None,
        *,
        asks: bool = True,
        declared: bool = False,
    ) -> None:
        self._suite, self._frozen, self._asks, self._declared = suite, frozen, asks, declared
        self._made: dict[str, Engine] = {}
        self._embedder: Any = None
        self._purse: Path | None = None
        self._guard: SpendGuard | None = None
        self.book = PriceBook.load(prices, currency=suite.economics.currency)

    def get(self, name: str) -> Engine:
        if name not in self._made:
            entry = self._suite.models[name]
            factory = registry.find("engines", entry.engine)
            if self._declared and is_declared(entry):
                from breakeven.harness.engines.declared import declared as factory
            settings = {**entry.settings, **self._frozen.get(name, {})}
            engine = plan.called(f"models.{name}", factory, entry.model, **settings)
            self._stay_within(name, engine)
            self._bill(engine)
            self._keep_hosting(engine)
            self._made[name] = engine
        return self._made[name]

    def _stay_within(self, name: str, engine: Engine) -> None:
        """Refuse an engine that sends data where the suite does not allow it, before anything is sent."""
        hosts = self._suite.allow_hosts
        if hasattr(engine, "stay_within"):
            engine.stay_within(hosts)
        elif (host := engine.describe().data_goes_to) != "this machine":
            egress.check(host, hosts, f"models.{name}")

    def keep_purse(self, file: Path) -> None:
        """From now on the purse survives a crash in this file, and what is deployed in one beside it."""
        self._purse, self._guard = file, None
        for engine in self._made.values():
            self._bill(engine)
            self._keep_hosting(engine)

    def purse(self) -> SpendGuard:
        """What all models of the run pay from."""
        if self._guard is None:
            spend = self._suite.limits.spend
            self._guard = SpendGuard(spend, currency=self.book.currency, file=self._purse)
        return self._guard

    def beyond_the_limit(self) -> list[str]:
        """Models made so far that a limit on spending cannot hold for."""
        if self._suite.limits.spend is None:
            return []
        return [n for n, e in self._made.items() if hasattr(e, "has_no_price") and e.has_no_price()]

    def _keep_hosting(self, engine: Engine) -> None:
        if self._purse is not None and hasattr(engine, "keep_hosting"):
            engine.keep_hosting(self._purse.parent)

    def _bill(self, engine: Engine) -> None:
        if hasattr(engine, "bill_to"):
            limits = self._suite.limits
            more = {} if self._asks else {"asks": False}
            engine.bill_to(self.purse(), self.book, allow_unpriced=limits.allow_unpriced, **more)

    def embedder(self, ledger: Ledger, fresh: bool = False) -> Embedder:
        from breakeven.harness.embedding import SentenceEmbedder

        if self._embedder is None:
            self._embedder = SentenceEmbedder()
        bound: Embedder = self._embedder.bind(ledger, fresh=fresh)
        return bound

    def embedder_digest(self) -> str:
        """Hash of the embedding model's weights: another one chooses other passages and demonstrations."""
        from breakeven.harness.embedding import SentenceEmbedder

        return SentenceEmbedder().digest

    def cards(self) -> dict[str, Any]:
        return {name: asdict(engine.describe()) for name, engine in self._made.items()}

    def chosen(self) -> dict[str, Any]:
        """Settings that bring back the same engines, for those that can say so."""
        made = {n: getattr(e, "chosen_settings", None) for n, e in self._made.items()}
        return {**self._frozen, **{n: c for n, c in made.items() if c is not None}}


def is_declared(entry: suites.ModelEntry) -> bool:
    """Whether a model cannot run on this machine, and its architecture is declared."""
    from breakeven.harness import models

    known = models.known(entry.model)
    if entry.engine != "local" or known is None or known.shape is None:
        return False
    from breakeven.harness.engines.declared import stands_in

    return stands_in(entry.engine, entry.model, entry.settings)


def fetch_models(
    suite: Suite, specs: Sequence[CellSpec], display: Display, *, declared: bool = False
) -> None:
    """Have the local models on this machine, saying what takes its time (a download, a conversion).

    Args:
        declared: leave out those that are looked at by their declared architecture.
    """
    from breakeven.harness import models

    for name in dict.fromkeys(s.model for s in specs if s.model is not None):
        entry = suite.models[name]
        if entry.engine != "local" or (declared and is_declared(entry)):
            continue
        if entry.settings.get("load_in_4bit"):
            from breakeven.harness.engines._weights import check_four_bit

            check_four_bit(str(entry.settings.get("device", "auto")), f"models.{name}.load_in_4bit")
        models.resolve(entry.model, say=display.note)


def preflight(tasks: Mapping[str, Task], specs: Sequence[CellSpec], engines: Engines) -> None:
    """What would spoil a run halfway, found before anything is written.

    Raises:
        UserError: a model is not there, or a task's barest prompt is longer than a model's context.
    """
    for model, task_name in dict.fromkeys((s.model, s.task) for s in specs if s.model is not None):
        engine, task = engines.get(model), tasks[task_name]
        context = engine.describe().context
        if context is None:
            continue
        rows = task.rows if isinstance(task, CrossfitTask) else (*task.train, *task.test)
        prompts = [(e.id, bare_request(task, e)) for e in rows]
        longest = sorted(prompts, key=lambda p: -sum(len(m["content"]) for m in p[1].messages))[:3]
        for example, request in longest:
            tokens = engine.count_tokens(request)
            if tokens + task.max_tokens > context:
                raise UserError(
                    f"the prompt of example '{example}' has {tokens:,} tokens and its answer may take "
                    f"{task.max_tokens:,}, but the context of {engine.describe().name} is {context:,}",
                    file=str(task.cut["from"]) if task.cut.get("from") else None,
                    field=f"tasks.{task_name}",
                    hint="shorten or drop it, lower max_tokens, or take a model with a longer context",
                )


def bare_request(task: Task, example: Example) -> Request:
    """Instructions and input alone: the least that any strategy with a language model sends."""
    from breakeven.harness.templating import render

    told: list[Message] = [{"role": "system", "content": task.instructions}] if task.instructions else []
    turns = example.input.get("messages") if not task.input_template.strip() else None
    if isinstance(turns, list):
        asked = [{"role": str(turn["role"]), "content": str(turn["content"])} for turn in turns]
    else:
        asked = [{"role": "user", "content": render(task.input_template, example.input)}]
    return Request(example.id, messages=(*told, *asked), max_tokens=task.max_tokens)


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


def _forget_results(folder: Path, task: str) -> None:
    """Remove a task's cells: they answer other examples than those that a report would show beside them."""
    for cell in sorted((folder / "cells").glob("*")):
        if store.read_json(cell / "cell.json", {}).get("task", task) == task:
            store.remove(cell)
    for joined in sorted((folder / "joined").glob("*.json")):
        if store.read_json(joined)["task"] == task:
            joined.unlink()
    (folder / "tasks" / task / "documents.jsonl").unlink(missing_ok=True)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """["torch 2.13.0, now 2.14.0"] for each package whose version is another one."""
    return [
        f"{name} {before.get(name, 'absent')}, now {now.get(name, 'absent')}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    ]


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _named(task: Task, name: str) -> Task:
    return task if task.name == name else replace(task, name=name)


def _frozen(suite: Suite, options: Options) -> Suite:
    """The suite with a limit written in, so that the frozen file alone repeats the run."""
    if options.limit is None:
        return suite
    if suite.evaluate.crossfit is not None:
        most = _least(suite.evaluate.examples, options.limit)
        return suite.model_copy(update={"evaluate": suite.evaluate.model_copy(update={"examples": most})})
    tasks = {
        name: entry.model_copy(
            update={
                "limits": entry.limits.model_copy(
                    update={"test": min(options.limit, entry.limits.test or options.limit)}
                )
            }
        )
        for name, entry in suite.tasks.items()
    }
    return suite.model_copy(update={"tasks": tasks})


def _least(*limits: int | None) -> int | None:
    """The strictest of some limits; None where there is none."""
    return min((n for n in limits if n is not None), default=None)


def _versions() -> dict[str, str]:
    from breakeven.harness import hardware

    return hardware.versions()


def _hardware() -> dict[str, Any]:
    from breakeven.harness import hardware

    return dict(hardware.describe())


def _parameters(function: Any) -> set[str]:
    import inspect

    return set(inspect.signature(function).parameters)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def offline_by_default() -> None:
    """Keep the libraries from asking the network about what is already here, and threads from waiting busily.

    OpenMP's threads spin for milliseconds before they sleep: beside any other process both wait for each
    other. After 1,000 turns they sleep here; must be set before torch is imported.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
