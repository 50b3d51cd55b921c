"""The checklist "should I fine-tune?" filled with what a run measured.

After lesson 18 of Microsoft's course Generative AI for Beginners ("Fine-Tuning Your LLM"): use case,
alternatives, costs (tunability, effort, compute, data), benefits (quality, token cost, extensibility), and
the four prerequisites (model, data set, training environment, hosting environment). What a run cannot know
is said to be not measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from breakeven.harness import breakdown, cases, effects, labels, probed, trials
from breakeven.harness import formats as f
from breakeven.harness.decision import Case
from breakeven.harness.families import is_tuned
from breakeven.harness.pairs import compare
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import DONE, CellResult, Results, Row, TaskResult

Part = Literal["use case", "alternatives", "costs", "benefits", "prerequisites"]
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Item:
    """A point of the list and what the run says of it. `found` False: nothing was measured or stated.

    `examples`: the filter of the example explorer that shows what is meant.
    """

    part: Part
    name: str
    said: str
    found: bool = True
    examples: str = ""


def checklist(results: Results, name: str, case: Case) -> tuple[Item, ...]:
    """The list of a task whose case is given."""
    task, rows = results.tasks[name], cases.contenders(results.tables[name])
    tuned = [i for i in range(len(rows)) if is_tuned(case.candidates[i].family)]
    plain = [i for i in range(len(rows)) if not is_tuned(case.candidates[i].family)]
    best_tuned, best_plain = _best(case, tuned), _best(case, plain)
    return (
        *_use_case(results),
        *_alternatives(task, rows, plain, best_plain),
        *_tunability(results, [rows[i] for i in tuned]),
        *_effort(case, best_tuned),
        *_compute([rows[i] for i in tuned]),
        *_data(task, rows),
        *_quality(task, rows, best_tuned, best_plain),
        *_tokens(rows, best_tuned, _best(case, [i for i in plain if rows[i].model is not None])),
        _extensibility(results, name, [rows[i] for i in tuned]),
        *_prerequisites(results, task, [rows[i] for i in tuned]),
    )


def _missing(part: Part, name: str, why: str) -> Item:
    return Item(part, name, f"{NOT_MEASURED}: {why}", found=False)


def _best(case: Case, positions: Sequence[int]) -> int | None:
    return max(positions, key=lambda i: float(case.gain_means[i])) if positions else None


def _use_case(results: Results) -> Iterator[Item]:
    e = results.economics
    goal = f" To be improved: {e.improve}." if e.improve else ""
    if e.use_case or goal:
        yield Item("use case", "what it is for", f"{f.clean(e.use_case)}{goal}".strip())
    else:
        yield Item("use case", "what it is for", "not stated: economics.use_case", found=False)


def _alternatives(
    task: TaskResult, rows: Sequence[Row], plain: Sequence[int], best: int | None
) -> Iterator[Item]:
    if best is None:
        yield _missing("alternatives", "tried without tuning", "every strategy of the suite tunes")
        return
    tried = f.names([f.clean(rows[i].label) for i in plain])
    q = f.quality(rows[best].quality, task.primary)
    yield Item(
        "alternatives", "tried without tuning",
        f"{tried}; the best is {f.clean(rows[best].label)} with {f.clean(task.primary.name)} {q}",
    )  # fmt: skip


def _trainings(rows: Sequence[Row]) -> list[CellResult]:
    return [c for row in rows for c in row.cells if c.state == DONE and c.training]


def _cards(results: Results, rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    cards = results.info.get("models") or {}
    return [cards[m] for m in dict.fromkeys(r.model for r in rows) if m in cards]


def _tunability(results: Results, tuned: Sequence[Row]) -> Iterator[Item]:
    said = []
    for card in _cards(results, tuned):
        facts = [
            f"licence {card.get('licence') or f.UNKNOWN}",
            f"{f.large(card.get('parameters'))} parameters",
            f"{card['dtype']} on {card['device']}" if card.get("dtype") else "",
        ]
        said.append(f"{card.get('name', '?')}: {', '.join(x for x in facts if x)}")
    trainings = [c.training for c in _trainings(tuned) if c.training]
    peaks = [t["peak_bytes"] for t in trainings if t.get("peak_bytes")]
    trained = [t["trainable_parameters"] for t in trainings if t.get("trainable_parameters")]
    if peaks:
        said.append(f"trained here in {f.large(max(peaks), 'B')} of memory at most")
    if trained:
        said.append(f"{f.large(max(trained))} parameters trained")
    if said:
        yield Item("costs", "tunability", f.clean("; ".join(said)))
    else:
        yield _missing("costs", "tunability", "no strategy of the suite tunes a model")


def _effort(case: Case, best: int | None) -> Iterator[Item]:
    if best is None:
        yield _missing("costs", "effort", "no strategy of the suite tunes a model")
        return
    own, currency = case.candidates[best].ownership, case.economics.currency
    people = [
        (breakdown.topic(x), x)
        for x in own.lines
        if x.part == "fixed" and x.when != "each request" and x.value is not None
    ]
    said = [
        f"{what} {f.money(x.value, currency)} {x.when}{' (assumed)' if x.known == 'assumed' else ''}"
        for what, x in people
    ]
    yield Item("costs", "effort", f"people's time for {f.clean(own.label)}: {'; '.join(said)}")


def _compute(tuned: Sequence[Row]) -> Iterator[Item]:
    trainings = [c.training for c in _trainings(tuned) if c.training]
    if not trainings:
        yield _missing("costs", "compute", "nothing was trained")
        return
    longest = max((float(t["seconds"]) for t in trainings if t.get("seconds") is not None), default=None)
    known = (float(t["training_tokens"]) for t in trainings if t.get("training_tokens") is not None)
    tokens = max(known, default=None)
    said = (
        f"{f.plural(len(trainings), 'training')}, each of {f.seconds(longest)} and {f.count(tokens)} tokens"
    )
    more = sum(len(s.tried) - 1 for row in tuned for _, s in trials.of_row(row))
    searched = f"; {more} more in the search for settings" if more else ""
    yield Item("costs", "compute", f"{said} at most{searched}")


def _data(task: TaskResult, rows: Sequence[Row]) -> Iterator[Item]:
    sizes = ", ".join(f"{n:,} {split}" for split, n in task.sizes.items() if n)
    duplicates = ", ".join(f"{n} {kind}" for kind, n in task.duplicates.items())
    between = f"; duplicates between training and test: {duplicates}" if duplicates else ""
    yield Item("costs", "data: amount", f"{sizes}{between}")
    clashes = _contradictions(task)
    yield Item(
        "costs", "data: contradictions",
        f"{f.plural(clashes, 'test example')} with the input of another and a different reference; "
        "breakeven validate tells of training rows",
    )  # fmt: skip
    found = labels.contradicted(rows, task)
    said = f"{f.plural(len(found.all), 'test example')} on which all strategies contradict the reference"
    if found.all:
        said += f", {len(found.agreed)} of them with one and the same answer of most: look at these first"
    yield Item(
        "costs",
        "data: label errors",
        said,
        examples="agree" if found.agreed else "wrong" if found.all else "",
    )


def _contradictions(task: TaskResult) -> int:
    answers: dict[str, set[str]] = {}
    keys = [json.dumps(e.input, sort_keys=True, ensure_ascii=False).strip().lower() for e in task.test]
    for key, example in zip(keys, task.test, strict=True):
        answers.setdefault(key, set()).add(json.dumps(sorted(map(str, example.references))))
    return sum(len(answers[key]) > 1 for key in keys)


def _quality(task: TaskResult, rows: Sequence[Row], tuned: int | None, plain: int | None) -> Iterator[Item]:
    if tuned is None or plain is None:
        yield _missing("benefits", "quality", "tuned and untuned strategies were not both run")
        return
    a, b, metric = rows[tuned], rows[plain], task.primary
    found = compare(task, a, b)
    assert a.quality is not None
    assert b.quality is not None
    gap = f.signed(a.quality - b.quality, metric)
    between = f" ({f.signed_interval(found.interval.low, found.interval.high, metric)})" if found else ""
    yield Item(
        "benefits", "quality",
        f"{f.clean(a.label)} minus {f.clean(b.label)}: {gap} {f.clean(metric.name)}{between}, the best with "
        "tuning against the best without, both picked on these examples",
    )  # fmt: skip


def _tokens(rows: Sequence[Row], tuned: int | None, prompted: int | None) -> Iterator[Item]:
    """What the best tuned strategy reads less than the best one that asks a model untuned."""
    a, b = (None if i is None else rows[i] for i in (tuned, prompted))
    if a is None or b is None or a.input_tokens is None or b.input_tokens is None:
        yield _missing("benefits", "token cost", "tuned and prompted strategies were not both run")
        return
    fewer = b.input_tokens - a.input_tokens
    yield Item(
        "benefits", "token cost",
        f"{f.clean(a.label)} reads {f.count(a.input_tokens)} tokens a request, {f.clean(b.label)} "
        f"{f.count(b.input_tokens)}: {f.count(abs(fewer))} {'fewer' if fewer >= 0 else 'more'}",
    )  # fmt: skip


def _extensibility(results: Results, name: str, tuned: Sequence[Row]) -> Item:
    """What the adapters forgot or gained elsewhere; else how to find out."""
    part: Part = "benefits"
    if not tuned:
        return _missing(part, "extensibility", "no strategy of the suite tunes a model")
    known = effects.of_task(results, name)
    found = [x for x in known.found if any(x.row is row for row in tuned)]
    command = f"`breakeven transfer {f.clean(results.place)}`"
    stale = (
        f"{effects.FILE} is of other adapters or other data than this run has now; " if known.stale else ""
    )
    if not found and not known.unasked:
        return _missing(part, "extensibility", "the run keeps no adapter that could be asked")
    if not found:
        why = "what the adapter keeps or forgets on other tasks was not asked"
        return _missing(part, "extensibility", f"{stale}{why}; {command} asks it")
    said = []
    for word in get_args(effects.Word):
        listed = [_changed(x) for x in found if x.word == word]
        if listed:
            said.append(f"{word}: {', '.join(listed)}")
    if known.unasked:
        said.append(f"not asked: {f.names([f.clean(x) for x in known.unasked])}, {command} asks again")
    return Item(part, "extensibility", "; ".join(said))


def _changed(x: effects.SideEffect) -> str:
    change, between = effects.said(x)
    said = f"{f.clean(x.row.label)} on {f.clean(x.on)} {change} {f.clean(x.metric.name)}"
    return f"{said} ({between})" if between else said


def _prerequisites(results: Results, task: TaskResult, tuned: Sequence[Row]) -> Iterator[Item]:
    cards = _cards(results, tuned)
    names = f.names([str(c.get("name", "?")) for c in cards])
    if cards:
        yield Item("prerequisites", "model", f.clean(f"{names}, which was tuned in this run"))
    else:
        yield _missing("prerequisites", "model", "no model was tuned")
    licence = f.clean(task.licence) or f.UNKNOWN
    yield Item(
        "prerequisites", "data set",
        f"{task.sizes.get('train', 0):,} training examples, licence {licence}",
    )  # fmt: skip
    if _trainings(tuned):
        yield Item(
            "prerequisites",
            "training environment",
            f.clean(f"this run trained on {_machine(results.info.get('hardware') or {})}"),
        )
    else:
        yield _missing("prerequisites", "training environment", "nothing was trained")
    pricing = Pricing(results)
    e, hour = results.economics, pricing.machine
    price = f", {f.money(hour.price, e.currency)} an hour" if hour is not None else ", no price for its hour"
    own = "seconds used" if e.serving == "shared" else "whole machines"
    speed = ", speed projected" if e.projected else ""
    if results.probes:
        speed = f", speed by {probed.said(results.probes)}"
    yield Item(
        "prerequisites",
        "hosting environment",
        f.clean(f"{pricing.machine_name}{price}, paid by {own}{speed}"),
    )


def _machine(hardware: Mapping[str, Any]) -> str:
    """The hardware of a run; of one joined from several, what differs stands there by origin."""
    gpus = hardware.get("gpus") or []
    if isinstance(gpus, Mapping) or isinstance(hardware.get("cpu"), Mapping):
        return "several machines (see where the numbers come from)"
    names = [str(g.get("name", g)) if isinstance(g, Mapping) else str(g) for g in gpus]
    machine = f.names(names) if names else str(hardware.get("cpu") or f.UNKNOWN)
    memory = hardware.get("memory_bytes")
    return f"{machine} with {f.large(memory, 'B')} of memory" if isinstance(memory, int | float) else machine
