"""The gate of `breakeven run`: trainings, and what others would bill, looked at before anything is spent.

What can be seen of a training is `preflight`'s, what is billed `breakeven.harness.billed`'s. Here it is
decided what is looked at, what stops a run and what is asked. Nothing is sent, no language model is loaded;
what is embedded on the way lies among the run's artifacts and is not embedded again.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from breakeven.harness import billed, plan, registry, spending, store
from breakeven.harness.ahead import Ahead, Look
from breakeven.harness.contracts import Strategy
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.plan import CellSpec
from breakeven.harness.training import Exportable

if TYPE_CHECKING:
    from breakeven.harness._foresee import World
    from breakeven.harness.billed import Bill
    from breakeven.harness.cli.preflight import Looked
    from breakeven.harness.energy import EnergyMeter

#: Every training example and document, where a look ahead could do with some.
ALL = sys.maxsize
_ROUNDING = 1e-9
#: Examples that are named for a finding in preflight.json.
NAMED = 20


@dataclass(frozen=True)
class Gate:
    """See the module; a `run.Options.gate`.

    `looks` at trainings unless told not to; `yes` accepts any bill; `ask` asks a person, where there is one.
    """

    looks: bool = True
    yes: bool = False
    ask: Callable[[str], bool] | None = None

    def __call__(self, coming: Ahead) -> Look | None:
        """What was found; None where there was nothing to look at.

        Raises:
            UserError: something would spoil a training, or the bill is not accepted.
        """
        if not self.looks and self.yes:
            return _look(Trainings(), None, (None, True), False)
        seen, bill, world = Trainings(), None, _world(coming)
        try:
            if self.looks:
                seen = trainings(coming, world)
                for warning in seen.warnings():
                    coming.display.note(f"preflight: {warning}")
                seen.refuse()
                if seen.looked:
                    coming.display.note(f"preflight: {seen.said()}")
            models = {s.model for s in coming.specs if s.model is not None}
            if any(billed.is_hosted(coming.engines.get(name)) for name in models):
                bill = billed.foresee(coming.specs, world, coming.engines.book)
            accepted = self._accepted(coming, bill)
        finally:
            store.remove(coming.folder / "scratch")
        if self.looks and not seen and not bill:
            return None
        return _look(seen, bill, accepted, self.looks)

    def _accepted(self, coming: Ahead, bill: Bill | None) -> tuple[float | None, bool]:
        """The most that may be billed from now on without asking again, and whether what has no price may go.

        What was accepted before holds: a resumed run asks again only for more. What is only set aside counts
        as it was foreseen, as in what was accepted. Raises UserError where it is refused.
        """
        limits, before = coming.suite.limits, coming.before or {}
        accepted, unpriced = before.get("accepted", limits.ask_above), bool(before.get("unpriced"))
        if not bill or accepted is None:
            return accepted, unpriced
        spent, under_way = _committed(coming)
        before_this = spent + under_way
        most = max(float(accepted), limits.ask_above)
        above, unknown = before_this + bill.total > most + _ROUNDING, bool(bill.paying) and not unpriced
        if not above and not unknown:
            return most, unpriced
        what = bill.sentence()
        told = [f"the {billed.written(spent)} that was spent"] if spent else []
        told += [f"about {billed.written(under_way)} for what is under way"] if under_way else []
        if told:
            what += f" on top of {' and '.join(told)}"
        if not (self.yes or self._agrees(what, coming.display)):
            limit = f"more than limits.ask_above ({limits.ask_above:g} {bill.currency})"
            prices = "give its price in a file (--prices) or set limits.allow_unpriced; " if unknown else ""
            raise UserError(
                f"{what}. That is {limit if above else 'not known in full'}; nothing {'more ' * bool(told)}"
                "was sent",
                hint=f"{prices}--yes accepts it; breakeven estimate looks closer",
            )
        return max(most, before_this + bill.total), unpriced or unknown

    def _agrees(self, what: str, display: Any) -> bool:
        """Asks a person, if there is one; no progress bar is drawn over the question."""
        if self.ask is None:
            return False
        with getattr(display, "paused", contextlib.nullcontext)():
            return self.ask(f"{what}. Go on?")


# --- trainings -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trainings:
    """What was seen of them; `unseen` are strategies that do not show what they train on."""

    looked: tuple[Looked, ...] = ()
    unseen: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.looked or self.unseen)

    def warnings(self) -> list[str]:
        """A sentence each; the same finding of several cells once."""
        cells: dict[str, list[str]] = {}
        for one in self.looked:
            for finding in one.findings:
                if finding.level == "warning":
                    cells.setdefault(f"{finding.check}: {finding.what}", []).append(one.cell)
        found = [f"{' and '.join(of) if len(of) < 3 else f'{len(of)} trainings'}: {what}"
                 for what, of in cells.items()]  # fmt: skip
        if self.unseen:
            found.append(f"not looked at: {', '.join(self.unseen)}, which does not show what it trains on")
        return found

    def said(self) -> str:
        """One sentence for all of them; "" where nothing was looked at."""
        n, warnings = len(self.looked), len(self.warnings())
        if not n:
            return ""
        found = f"{warnings} warning{'s' * (warnings != 1)}" if warnings else "nothing that would spoil one"
        return f"{n} training{'s' * (n != 1)} looked at before the first one started, {found}"

    def refuse(self) -> None:
        """Raises UserError where something would spoil a training."""
        errors = [(one.cell, f) for one in self.looked for f in one.findings if f.level == "error"]
        if not errors:
            return
        cell, first = errors[0]
        named = f" ({', '.join(first.instances[:3])})" if first.instances else ""
        more = f"; {len(errors) - 1} more like it" if len(errors) > 1 else ""
        raise UserError(
            f"{cell}: {first.check}: {first.what.rstrip('.')}{named}{more}. Nothing was trained or sent",
            hint="`breakeven preflight` shows all of it; --no-preflight runs it as it is",
        )


def trainings(coming: Ahead, world: World) -> Trainings:
    """Look at each training that has not begun, once for each task, strategy and model: with the most rows
    and the first seed. With the fewest rows it is only counted whether they are enough."""
    from breakeven.harness.cli.preflight import look
    from breakeven.harness.single import Single

    largest: dict[tuple[str, str, str | None], CellSpec] = {}
    smallest: dict[tuple[str, str, str | None], CellSpec] = {}
    unseen: dict[str, None] = {}
    made: dict[str, Strategy] = {}
    for spec in coming.specs:
        if spec.id in coming.trained:
            continue
        if spec.strategy not in made:
            made[spec.strategy] = plan.make_strategy(spec.strategy, spec.factory, spec.settings)
        if not isinstance(made[spec.strategy], Exportable):
            if _may_train(spec, made[spec.strategy]):
                unseen[spec.strategy] = None
            continue
        if not _trains(spec):
            continue
        key = spec.task, spec.strategy, spec.model
        if key not in largest or spec.train_size > largest[key].train_size:
            largest[key] = spec
        if key not in smallest or spec.train_size < smallest[key].train_size:
            smallest[key] = spec
    looked = []
    for key, spec in largest.items():
        strategy: Any = made[spec.strategy]
        metered = replace(world, meter=partial(_meter, coming, spec))
        one = Single(coming.suite, spec, plan.task_of(coming.tasks, spec), metered, strategy)
        with contextlib.suppress(NotApplicable):  # the cell says so by itself
            if (check := getattr(strategy, "check_trainable", None)) is not None:
                check(one.task.brief, one.services())
            found = look(one, lambda one: coming.leaks.of(one.task))
            few = _too_few(coming, smallest[key]) if smallest[key] != spec else ()
            looked.append(replace(found, findings=(*found.findings, *few)))
    return Trainings(tuple(looked), tuple(unseen))


def _trains(spec: CellSpec) -> bool:
    """Whether its `weights` are tuned by this run; what was imported is not."""
    weights = spec.settings.get("weights")
    return weights is not None and not (isinstance(weights, dict) and weights.get("trainer") == "imported")


def _may_train(spec: CellSpec, strategy: Strategy) -> bool:
    """Whether a strategy of somebody else learns from rows; ours that tune weights are all shown."""
    if spec.settings.get("weights") is not None:
        return True
    provider = registry.providers("strategies").get(spec.factory)
    is_ours = provider is not None and provider.distribution == "breakeven"
    return not is_ours and "train_size" in strategy.varies_with


def _too_few(coming: Ahead, spec: CellSpec) -> Iterator[Any]:
    from breakeven.harness.cli.preflight import LEAST_EXAMPLES
    from breakeven.harness.cli.validate import Finding

    rows = len(plan.training_rows(coming.tasks, spec))
    if not rows:
        yield Finding(
            "error", "training", f"there are no training examples with train_size {spec.train_size}"
        )
    host = coming.engines.get(spec.model).describe().data_goes_to if spec.model is not None else ""
    if host and host != "this machine" and 0 < rows < LEAST_EXAMPLES:
        what = f"{host} wants {LEAST_EXAMPLES} examples, train_size {spec.train_size} gives {rows}"
        yield Finding("error", "provider", what)


def _committed(coming: Ahead) -> tuple[float, float]:
    """(what was billed so far, what is likely to be for what is under way).

    The answers of a batch are in the bill of its cell, which is not finished; only where some of those are
    not asked for now does a batch count by itself.
    """
    stands = spending.standing(coming.folder / "purse.json")
    asked = {spec.id for spec in coming.specs}
    begun = [file.parent.name for file in coming.folder.glob("cells/*/status.json")
             if store.read_json(file, {}).get("state") not in ("done", "not-applicable")]  # fmt: skip
    all_asked = asked.issuperset(begun)
    waiting = [m for name, m in stands.open.items() if not (all_asked and name.startswith("batch "))]
    return stands.spent, sum(waiting) + stands.unsure


# --- what is lent and kept -------------------------------------------------------------------


def _world(coming: Ahead) -> World:
    """The run's own engines and artifacts, for looking ahead."""
    from breakeven.harness._foresee import World

    engines = coming.engines
    return World(coming.suite, coming.tasks, engines.get, engines.embedder, coming.folder, sample=ALL)


def _meter(coming: Ahead, spec: CellSpec) -> EnergyMeter | None:
    from breakeven.harness import energy

    device = coming.engines.get(spec.model).describe().device if spec.model is not None else "cpu"
    return energy.energy_meter(device)


def _look(seen: Trainings, bill: Bill | None, accepted: tuple[float | None, bool], looks: bool) -> Look:
    warnings = tuple(seen.warnings())
    said = [seen.said() if looks else "skipped (--no-preflight)"]
    if bill:
        said.append(bill.sentence())
    details = {
        "skipped": not looks,
        "trainings": [
            {
                "cell": one.cell,
                "findings": [
                    {"level": f.level, "check": f.check, "what": f.what, "instances": f.instances[:NAMED]}
                    for f in one.findings
                ],
                "example": [{"text": text, "learned": learned} for text, learned in one.mask],
            }
            for one in seen.looked
        ],
        "not_looked_at": list(seen.unseen),
        "bill": bill.to_json() if bill else None,
        "accepted": accepted[0],
    }
    return Look("; ".join(part for part in said if part), warnings, *accepted, details)


def terminal() -> Callable[[str], bool] | None:
    """Asks yes or no, where somebody sits at a terminal."""
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        return None
    import typer

    return lambda question: bool(typer.confirm(question, default=False))
