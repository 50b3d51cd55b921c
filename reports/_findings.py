"""What came out, in sentences: one answer per task, and the facts a reader must not miss.

Only what the run measured is said. "Clearly" means that the 95 % interval of the paired difference excludes
zero; what does not is "undecided". Sentences are tuples of plain strings and `Name`s, so that each report
marks and escapes names in its own way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from breakeven.harness.results import Results, Row, TaskResult
from breakeven.reports import _format as f
from breakeven.reports._rows import (
    Lever,
    LeverPair,
    best,
    better,
    direction,
    done,
    not_done,
    pulls,
    reference_of,
    standing,
)

#: A strategy is called cheaper by a fraction from this ratio of costs on.
MUCH_CHEAPER = 2.0

Kind = Literal["best", "undecided", "nothing", "close", "fine-tuning", "retrieval", "no-model", "failed"]
Sentence = tuple[str, ...]

_LEVERS: dict[Lever, tuple[Kind, str]] = {
    "weights": ("fine-tuning", "Fine-tuning"),
    "context": ("retrieval", "Retrieval"),
}


class Name(str):
    """The label of a strategy within a sentence."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence and what it is about."""

    kind: Kind
    sentence: Sentence

    @property
    def text(self) -> str:
        return f.clean("".join(self.sentence))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came out of one task: the answer, then facts in the order of their weight."""

    task: str
    lead: Finding
    facts: tuple[Finding, ...]


def answer(results: Results, name: str, pairs: Sequence[LeverPair]) -> Answer:
    """The answer of a task. `pairs` are its `lever_pairs`, which take a while on many examples."""
    task, rows, missing = results.tasks[name], done(results, name), not_done(results, name)
    facts = [
        *_close(rows, task),
        *_without_model(rows, task),
        *_behind("weights", rows, task),
        *_behind("context", rows, task),
        *_hurt(pairs, task),
        *_missing(missing),
    ]
    return Answer(name, _lead(rows, missing, task), tuple(facts))


# --- the answer ------------------------------------------------------------------------------


def _lead(rows: Sequence[Row], missing: Sequence[Row], task: TaskResult) -> Finding:
    top = best(rows, task.primary)
    if top is None:
        return _finding("nothing", "No strategy has a result.")
    if len(rows) == 1:
        return _finding("best", "Only ", Name(top.label), f" has a result: {_measured(top, task)}.")
    reference = reference_of(rows)
    if reference is None:
        gone = next((r for r in missing if r.is_reference), None)
        why = (
            ("the reference ", Name(gone.label), " has no result.")
            if gone
            else ("the reference was not run.")
        )
        said = f" scored best: {_measured(top, task)}. What it is compared with is missing: "
        return _finding("best", Name(top.label), said, *why)
    if not better(_quality(top), _quality(reference), task.primary):
        return _reference_first(reference, rows, task)
    return _against(top, reference, task)


def _against(top: Row, reference: Row, task: TaskResult) -> Finding:
    """The best strategy, which is another than the reference."""
    start = (Name(top.label), f" scored best: {_measured(top, task)}")
    if top.difference is None or top.difference_interval is None:
        return _finding(
            "undecided",
            *start,
            ", but its difference to the reference ",
            Name(reference.label),
            f" ({f.quality(reference.quality, task.primary)}) has no interval.",
        )
    low, high = top.difference_interval.low, top.difference_interval.high
    distance = f"{f.signed(top.difference, task.primary)} ({f.signed_interval(low, high, task.primary)})"
    if standing(top, task.primary) == "better":
        word = "above" if task.primary.higher_is_better else "better than"
        return _finding(
            "best", *start, f", clearly {word} the reference ", Name(reference.label), f": {distance}."
        )
    return _finding(
        "undecided",
        "Undecided. ",
        *start,
        ", but on these ",
        f.plural(len(task.test), "example"),
        " that may be chance: the interval of its difference to the reference ",
        Name(reference.label),
        f" includes zero: {distance}.",
    )


def _reference_first(reference: Row, rows: Sequence[Row], task: TaskResult) -> Finding:
    start = (
        "No strategy scored better than the reference ",
        Name(reference.label),
        f": {_measured(reference, task)}",
    )
    close = [r for r in rows if standing(r, task.primary) in ("undecided", "none")]
    if close:
        return _finding("undecided", *start, "; undecided against ", *_named(close), ".")
    return _finding("best", *start, "; all others are clearly worse.")


# --- facts beside it -------------------------------------------------------------------------


def _close(rows: Sequence[Row], task: TaskResult) -> Iterator[Finding]:
    """Whom the best cannot be told from by looking at the intervals."""
    top = best(rows, task.primary)
    if top is not None:
        apart = (top, reference_of(rows))
        near = [r for r in rows if not any(r is other for other in apart) and _overlap(r, top)]
        if near:
            own = (
                "its interval overlaps with that of "
                if len(near) == 1
                else "its interval overlaps with those of "
            )
            yield _finding(
                "close", Name(top.label), " is not clearly ahead of all: ", own, *_named(near), "."
            )


def _without_model(rows: Sequence[Row], task: TaskResult) -> Iterator[Finding]:
    """Whether a strategy without a language model is as good, or nearly, for a fraction of the cost."""
    simple, model = (
        best([r for r in rows if (r.model is None) is none], task.primary) for none in (True, False)
    )
    if simple is None or model is None:
        return
    scores = [f.quality(r.quality, task.primary) for r in (simple, model)]
    names = (Name(simple.label), f" ({scores[0]})"), (Name(model.label), f" ({scores[1]})")
    fraction = _fraction(simple, model)
    at = f", at {fraction} of its cost per request" if fraction else ""
    if not better(_quality(model), _quality(simple), task.primary):
        yield _finding(
            "no-model",
            "No language model needed on these examples: without one, ",
            *names[0],
            " is not behind the best with one, ",
            *names[1],
            f"{at}.",
        )
    elif at and model.interval is not None:
        worst = model.interval.low if task.primary.higher_is_better else model.interval.high
        if not better(worst, _quality(simple), task.primary):
            yield _finding(
                "no-model",
                *names[0],
                ", without a language model, lies within the interval of the best with one, ",
                *names[1],
                f"{at}.",
            )


def _fraction(simple: Row, model: Row) -> str:
    """`1/40`, or "" where the costs are not known or not far apart."""
    a, b = simple.cost_per_1000.value, model.cost_per_1000.value
    if a is None or b is None or b <= 0:
        return ""
    if a == 0:
        return "none"
    return f"1/{f.times(b / a)}" if b / a >= MUCH_CHEAPER else ""


def _behind(lever: Lever, rows: Sequence[Row], task: TaskResult) -> Iterator[Finding]:
    """Says so when the best strategy with a lever scored below the best without it."""
    with_it = best([r for r in rows if pulls(r, lever)], task.primary)
    without = best([r for r in rows if not pulls(r, lever)], task.primary)
    if with_it is None or without is None or not better(_quality(without), _quality(with_it), task.primary):
        return
    kind, word = _LEVERS[lever]
    scores = [f.quality(r.quality, task.primary) for r in (with_it, without)]
    yield _finding(
        kind,
        f"{word} did not win: its best, ",
        Name(with_it.label),
        f" ({scores[0]}), is behind ",
        Name(without.label),
        f" ({scores[1]}), which does without",
        ", though their intervals overlap." if _overlap(with_it, without) else ".",
    )


def _hurt(pairs: Sequence[LeverPair], task: TaskResult) -> Iterator[Finding]:
    """Says so when a strategy is clearly worse than the same one without fine-tuning or retrieval."""
    for pair in pairs:
        if pair.lever in _LEVERS and effect(pair, task) == "worse":
            kind, word = _LEVERS[pair.lever]
            d = pair.difference
            between = f.signed_interval(d.interval.low, d.interval.high, task.primary)
            yield _finding(
                kind,
                f"{word} hurt: ",
                Name(pair.with_it.label),
                " is clearly worse than ",
                Name(pair.without.label),
                f": {f.signed(d.value, task.primary)} ({between}).",
            )


def effect(pair: LeverPair, task: TaskResult) -> Literal["better", "worse", "undecided"]:
    """What the lever did, by the interval of the paired difference."""
    return direction(pair.difference.interval.low, pair.difference.interval.high, task.primary)


def _missing(rows: Sequence[Row]) -> Iterator[Finding]:
    """Who is not in the comparison although the suite asked for it."""
    gone = [r for r in rows if r.state != "not-applicable"]
    if gone:
        rest = (
            " has no result and is not compared."
            if len(gone) == 1
            else " have no result and are not compared."
        )
        yield _finding("failed", *_named(gone), rest)


# --- words -----------------------------------------------------------------------------------


def _finding(kind: Kind, *parts: str) -> Finding:
    return Finding(kind, parts)


def _named(rows: Sequence[Row]) -> Sentence:
    """`a, b and c` as parts of a sentence."""
    parts: list[str] = []
    for i, row in enumerate(rows):
        if i:
            parts.append(" and " if i == len(rows) - 1 else ", ")
        parts.append(Name(row.label))
    return tuple(parts)


def _measured(row: Row, task: TaskResult) -> str:
    value = f"{f.quality(row.quality, task.primary)} {task.primary.name}"
    if row.interval is None:
        return value
    return f"{value} ({f.interval(row.interval.low, row.interval.high, task.primary)})"


def _overlap(a: Row, b: Row) -> bool:
    if a.interval is None or b.interval is None:
        return False
    return a.interval.low <= b.interval.high and b.interval.low <= a.interval.high


def _quality(row: Row) -> float:
    assert row.quality is not None
    return row.quality
