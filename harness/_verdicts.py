"""A task's verdict in two runs: whether it changed, and which side of the decision it changed by.

The decision has two sides, what was measured and what the economics and prices say of it. Where both differ,
each is laid under the other run's measurements, to see whether it turns the verdict alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from breakeven.harness import cases, wording
from breakeven.harness.decision import Kind, decide
from breakeven.harness.errors import UserError
from breakeven.harness.results import Results

#: What turns a verdict: prices and settings of the deployment, what was measured, either alone, or both only
#: together; "" where nothing changed or it cannot be tried.
By = Literal["", "economics", "measurements", "either", "both"]
BY_WORDS: Mapping[By, str] = {
    "economics": "the economics and prices alone turn it, with what the first run measured",
    "measurements": "what was measured alone turns it, at the first run's economics and prices",
    "either": "the economics and prices alone turn it, and so does what was measured alone",
    "both": "neither the economics and prices nor what was measured turns it alone, only both together",
}


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict: the word of its headline ("" where tuning was not asked about), the strategy to take or to
    lean to (None: nothing), whether it is decided, and the share of draws in which it is right."""

    answer: str
    choice: str | None
    kind: Kind
    confidence: float


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """The verdict on a task in both runs, None where no strategy has a result.

    `changed` when answer, choice or being decided differ; confidence alone is no change. `why` lists the
    inputs that differ, and is empty where nothing changed.
    """

    before: Decided | None
    after: Decided | None
    changed: bool
    by: By = ""
    why: tuple[str, ...] = ()


def of_task(results: Results, name: str) -> Decided | None:
    """The verdict of a run on a task."""
    case = cases.of_task(results, name)
    if case is None:
        return None
    found = decide(case)
    choice = None if found.choice is None else case.candidates[found.choice].label
    return Decided(wording.answer(case, found), choice, found.kind, found.confidence)


def change(
    before: Results,
    after: Results,
    name: str,
    same: Mapping[str, str],
    money: Sequence[str],
    rest: Sequence[str],
) -> VerdictChange:
    """What became of the verdict on a task.

    Args:
        same: label of a strategy in the second run -> its label in the first.
        money: what of economics and prices differs, each a sentence.
        rest: every other input that differs.
    """
    old, new = of_task(before, name), of_task(after, name)
    if _alike(old, new, same):
        return VerdictChange(old, new, False)
    return VerdictChange(
        old, new, True, _by(before, after, name, same, new) if money else "", (*money, *rest)
    )


def _alike(old: Decided | None, new: Decided | None, same: Mapping[str, str]) -> bool:
    if old is None or new is None:
        return old is new
    choice = None if new.choice is None else same.get(new.choice, new.choice)
    return (old.answer, old.choice, old.kind) == (new.answer, choice, new.kind)


def _by(
    before: Results,
    after: Results,
    name: str,
    same: Mapping[str, str],
    new: Decided | None,
) -> By:
    """`new` is the verdict to be reached."""
    try:
        repriced = of_task(_under(before, after), name)  # the first run's answers at the second's prices
        remeasured = of_task(_under(after, before), name)
    except UserError:  # the other run's incumbent is no strategy of this one
        return ""
    prices_do, answers_do = _alike(repriced, new, same), _alike(remeasured, new, {})
    if prices_do and answers_do:
        return "either"
    return "economics" if prices_do else "measurements" if answers_do else "both"


def _under(measured: Results, priced: Results) -> Results:
    """What one run measured, at the economics and prices of the other."""
    ours, theirs = (r.info.get("price_book") or {} for r in (measured, priced))
    book = {k: {**ours.get(k, {}), **theirs.get(k, {})} for k in dict.fromkeys((*ours, *theirs))}
    return replace(
        measured,
        suite={**measured.suite, "economics": priced.suite.get("economics") or {}},
        info={**measured.info, **({"price_book": book} if book else {})},
        prices=priced.prices,
        changes=priced.changes,
    )
