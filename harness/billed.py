"""What others would bill for cells that have not run: hosted training, answers, hours of deployments.

Counted from rendered prompts and prices; nothing is sent, no language model is asked or loaded. Our own
machine's hours are no part of it. Answers are taken to be as long as they may be, a deployment to be there as
long as its settings allow, so that a bill is more likely below what is said than above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from breakeven.harness import _foresee, costs, plan, store
from breakeven.harness._foresee import Foreseen, World
from breakeven.harness.contracts import Engine, Usage
from breakeven.harness.plan import CellSpec
from breakeven.harness.previews import TrainingOutlook
from breakeven.harness.prices import PriceBook
from breakeven.harness.suite import BEST_ON_VALIDATION


@dataclass(frozen=True, slots=True)
class Bill:
    """Money that others would ask for, in `currency`; `unknown` names what nobody has a price for.

    `paying` of the unknown ones may not go without a price (`allow_unpriced` is not set for their model).
    `trainings` and `deployments` are numbers of them, `hosts` who bills.
    """

    currency: str
    training: float = 0.0
    answers: float = 0.0
    hosting: float = 0.0
    trainings: int = 0
    cells: int = 0
    deployments: int = 0
    hosts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    paying: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Of what has a price."""
        return self.training + self.answers + self.hosting

    def __bool__(self) -> bool:
        return bool(self.hosts)

    def sentence(self) -> str:
        """The amount and what it is made of, without a full stop."""
        parts = []
        if self.trainings:
            parts.append(f"{written(self.training)} for {_plural(self.trainings, 'training')}")
        if self.cells:
            parts.append(f"{written(self.answers)} for the answers of {_plural(self.cells, 'cell')} at most")
        if self.deployments:
            parts.append(f"{written(self.hosting)} for {_plural(self.deployments, 'deployment')} at most")
        made = f": {', '.join(parts)}" if parts else ""
        more = f"; nobody knows the price of {', '.join(self.unknown)}" if self.unknown else ""
        return f"{', '.join(self.hosts)} would bill about {written(self.total)} {self.currency}{made}{more}"

    def to_json(self) -> dict[str, Any]:
        return {
            "currency": self.currency,
            "total": self.total,
            "training": self.training,
            "answers": self.answers,
            "hosting": self.hosting,
            "hosts": list(self.hosts),
            "unknown": list(self.unknown),
            "said": self.sentence(),
        }


def is_hosted(engine: Engine) -> bool:
    """Whether somebody else runs the model, and may bill for it."""
    return engine.describe().data_goes_to != "this machine"


def foresee(specs: Sequence[CellSpec], world: World, book: PriceBook) -> Bill:
    """The bill for those cells whose model others serve. A training that several share counts once, and one
    that has begun in `world.folder` is paid for.

    Raises:
        UserError: what making an engine raises (no key, no price, a host that is not allowed).
    """
    bill, trainings, unknown, paying = Bill(book.currency), dict[str, TrainingOutlook](), [], []
    hosted = [s for s in specs if s.model is not None and is_hosted(world.engine_of(s.model))]
    for cell in _foresee.look(hosted, world):
        assert cell.spec.model is not None
        if cell.state in ("not-applicable", "fails"):  # a run finds the same, and sends nothing
            continue
        engine, missing = world.engine_of(cell.spec.model), []
        host = engine.describe().data_goes_to
        bill = replace(bill, hosts=tuple(dict.fromkeys([*bill.hosts, host])))
        if cell.state != "runs":
            missing.append(f"{cell.spec.id} ({cell.reason})")
        else:
            bill = _with_answers(bill, cell, engine, world, book, missing)
        training = cell.training
        if training is not None and training.billed:
            bill = _with_hosting(bill, cell, training, engine, world, book, missing)
            if training.key not in trainings and not _begun(world, training.key):
                trainings[training.key] = training
                if training.money is None:
                    missing.append(f"training of {cell.spec.id}")
        unknown += missing
        entry = world.suite.models[cell.spec.model]
        if not (world.suite.limits.allow_unpriced or entry.settings.get("allow_unpriced")):
            paying += missing
    money = sum(t.money or 0.0 for t in trainings.values())
    return replace(
        bill,
        training=money,
        trainings=len(trainings),
        unknown=tuple(dict.fromkeys(unknown)),
        paying=tuple(dict.fromkeys(paying)),
    )


def _with_answers(
    bill: Bill, cell: Foreseen, engine: Engine, world: World, book: PriceBook, missing: list[str]
) -> Bill:
    """With what asking the test examples would cost, and the validation examples where they are asked too."""
    card, training = engine.describe(), cell.training
    name = training.served_as if training is not None and training.billed else ""
    name = name or card.price_as or card.name
    usages = [_most(engine, request) for request in cell.requests]
    cost = costs.tokens_cost(usages, book.token_price(name), model=name)
    missing += cost.missing
    money = (cost.value or 0.0) * _asked(cell, world)
    return replace(bill, answers=bill.answers + money, cells=bill.cells + 1)


def _most(engine: Engine, request: Any) -> Usage:
    most: Any = getattr(engine, "most_billed", None)
    if most is not None:
        usage: Usage = most(request)
        return usage
    return Usage(engine.count_tokens(request), request.max_tokens, estimated=True)


def _asked(cell: Foreseen, world: World) -> int:
    validation = len(plan.task_of(world.tasks, cell.spec).validation)
    return cell.examples + (validation if world.suite.reference == BEST_ON_VALIDATION else 0)


def _with_hosting(
    bill: Bill,
    cell: Foreseen,
    training: TrainingOutlook,
    engine: Engine,
    world: World,
    book: PriceBook,
    missing: list[str],
) -> Bill:
    """With the hours of a deployment: until it serves, and as long as its requests may take.

    What is billed for a training comes from an engine's endpoint, so this engine has one.
    """
    if not training.hosting:
        return bill
    hour = book.hosting_hour(training.hosting)
    times = 2 if world.suite.reference == BEST_ON_VALIDATION else 1
    if hour is None:
        missing.append(f"the hours of a deployment ({training.hosting})")
        return replace(bill, deployments=bill.deployments + times)
    asks: Any = engine
    together, timeout = max(asks.concurrency, 1), asks.endpoint().timeout
    seconds = times * training.hosting_patience + _asked(cell, world) / together * timeout
    money = seconds / 3600 * hour.price
    return replace(bill, hosting=bill.hosting + money, deployments=bill.deployments + times)


def _begun(world: World, key: str) -> bool:
    """Whether the run has this training already, or has asked for it and stands in the purse with it; not
    where a job was only thought of, and the spending limit or a kill came before anything was sent."""
    made = world.folder / "artifacts" / f"hosted-{key}"
    return made.exists() or was_asked(
        store.read_json(made.with_name(f"{made.name}.partial") / "job.json", {})
    )


def was_asked(job: Mapping[str, Any]) -> bool:
    """Whether anything was sent for what a job.json tells of."""
    return bool(job.get("job") or job.get("asked"))


def written(amount: float) -> str:
    """An amount as a bill says it."""
    return f"{amount:,.2f}" if amount >= 0.01 or not amount else f"{amount:.4f}"


def _plural(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"
