"""Which inputs of two runs differ, in words: what a change in quality or cost can come from.

Looks at what was recorded only: content of tasks, settings, model cards, versions, hardware, prices. Numbers
are compared in `comparing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from breakeven.harness._unions import plain_settings
from breakeven.harness.results import DONE, Results, Row, TaskResult

#: Fields of a model card that decide answers or what they cost.
_CARD = ("name", "engine", "digest", "dtype", "device", "licence", "data_goes_to", "price_as")


def of_runs(a: Results, b: Results) -> list[str]:
    """Versions, hardware, economics, timing and prices that are not the same."""
    return [*of_machines(a, b), *of_money(a, b)]


def of_machines(a: Results, b: Results) -> list[str]:
    """Versions, hardware and timing that are not the same: what answers and seconds can depend on."""
    return [
        *_unlike("", a.info.get("versions"), b.info.get("versions")),
        *_unlike("hardware: ", a.info.get("hardware"), b.info.get("hardware")),
        *_unlike("timing: ", a.suite.get("timing"), b.suite.get("timing")),
    ]


def of_money(a: Results, b: Results) -> list[str]:
    """Economics and prices that are not the same: what a verdict makes of what was measured."""
    return [
        *_unlike("economics: ", a.suite.get("economics"), b.suite.get("economics")),
        *_unlike("price of ", _prices(a), _prices(b)),
    ]


def of_tasks(a: TaskResult, b: TaskResult) -> list[str]:
    """What of a task's content is not the same; nothing when its hash is."""
    if a.hash == b.hash:
        return []
    ours, theirs = ({e.id: e for e in t.test} for t in (a, b))
    shared = [e for e in ours if e in theirs]
    counts = {
        "test examples only in the first": len(ours) - len(shared),
        "test examples only in the second": len(theirs) - len(shared),
        "test examples have another input": sum(ours[e].input != theirs[e].input for e in shared),
        "test examples have other references": sum(
            ours[e].references != theirs[e].references for e in shared
        ),
    }
    found = [f"{count} {what}" for what, count in counts.items() if count]
    for what in ("instructions", "input_template", "choices", "language", "correct_at"):
        if getattr(a, what) != getattr(b, what):
            found.append(f"other {what.replace('_', ' ')}")
    if [m.name for m in a.metrics] != [m.name for m in b.metrics]:
        found.append(f"metrics: {_names(a)}, now {_names(b)}")
    found += _unlike("examples for ", a.sizes, b.sizes)
    found += _unlike("", {"documents": a.document_count}, {"documents": b.document_count})
    return found or [
        f"other content: hash {a.hash}, now {b.hash} (training data, documents or a metric's options)"
    ]


def of_rows(a: Results, b: Results, before: Row, after: Row) -> list[str]:
    """Settings, training size, seeds and model of a strategy that are not the same."""
    return [
        *_unlike("", _how(a, before), _how(b, after)),
        *_unlike("model ", _card(a, before), _card(b, after)),
    ]


def _how(run: Results, row: Row) -> dict[str, Any]:
    """The settings of a strategy, and what its cells vary with."""
    entry = (run.suite.get("strategies") or {}).get(row.strategy) or {}
    return {
        **plain_settings({"strategy": entry.get("strategy"), **row.cells[0].settings}),
        "training examples": row.train_size,
        "seeds": [c.seed for c in row.cells if c.state == DONE and c.seed is not None],
        "model": row.model,
    }


def _card(run: Results, row: Row) -> dict[str, Any]:
    card = (run.info.get("models") or {}).get(row.model or "", {})
    return {key: card.get(key) for key in _CARD}


def _names(task: TaskResult) -> str:
    return ", ".join(m.name for m in task.metrics)


def _prices(run: Results) -> dict[str, Any]:
    """The prices copied into a run, as one text each."""
    book = run.info.get("price_book") or {}
    return {
        f"{kind.replace('_', ' ')} {name}": " / ".join(
            f"{entry[k]:g}" for k in ("price", "input", "output") if isinstance(entry.get(k), int | float)
        )
        + f" {entry.get('currency', '')} ({entry.get('date', 'no date')})"
        for kind, entries in book.items()
        for name, entry in entries.items()
    }


def _unlike(prefix: str, a: Any, b: Any) -> list[str]:
    """["torch: 2.13.0, now 2.14.0"] for each nested key whose values differ."""
    ours, theirs = dict(_flat(a or {})), dict(_flat(b or {}))
    return [
        f"{prefix}{key}: {_said(ours.get(key))}, now {_said(theirs.get(key))}"
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key)
    ]


def _flat(value: Mapping[str, Any] | Sequence[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
    for key, part in items:
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(part, Mapping) or (
            isinstance(part, list) and any(isinstance(p, Mapping) for p in part)
        ):
            yield from _flat(part, name)
        else:
            yield name, part


def _said(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
