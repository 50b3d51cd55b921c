"""What the cells of a run share: engines, embedding model, price book and purse; made when first asked for.

`fetch_models` has the weights on this machine before, and `preflight` finds what would spoil a run halfway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import egress, plan, registry
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Embedder, Engine, Example, Message, Request, Task
from breakeven.harness.errors import UserError
from breakeven.harness.folds import CrossfitTask
from breakeven.harness.ledger import Ledger
from breakeven.harness.plan import CellSpec
from breakeven.harness.prices import PriceBook
from breakeven.harness.spending import SpendGuard
from breakeven.harness.suite import Suite

if TYPE_CHECKING:
    from breakeven.harness.runner import Display


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

    def close_orphans(self) -> list[str]:
        """Have batches closed that no cell asks for any more; a sentence on each."""
        closing = [e.close_orphans for e in self._made.values() if hasattr(e, "close_orphans")]
        return [line for close in closing for line in close()]

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
        """Hash of the embedding model: another one chooses other passages and demonstrations."""
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
