"""What several runs have in common and together: suites, models and the facts of run.json, joined.

Runs come as (label, value) in the order given; where they may differ, the first counts. Raises UserError
where they must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from breakeven.harness.errors import UserError
from breakeven.harness.results import Results

#: Keys of a strategy that say which cells to run, or nothing; the others say how it answers.
_WHICH = ("description", "models", "tasks")


def plain_settings(value: Any) -> Any:
    """Settings without where a file lies: "/home/me/mine.py:Mine" is "mine.py:Mine" on every machine."""
    if isinstance(value, Mapping):
        return {k: plain_settings(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_settings(v) for v in value]
    if isinstance(value, str) and ".py:" in value:
        return value.replace("\\", "/").rpartition("/")[2]
    return value


def joined_suite(suites: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], list[str]]:
    """The suite of all runs together, and notes on settings of which only the first one's are kept.

    Raises UserError where a strategy of one name has other settings.
    """
    first_label, first = suites[0]
    joined: dict[str, Any] = {
        **first,
        **{kind: _entries(suites, kind) for kind in ("tasks", "models")},
        "strategies": _strategies(suites),
        **{key: list(dict.fromkeys(v for _, suite in suites for v in suite.get(key, [])))
           for key in ("seeds", "train_sizes") if key in first},
    }  # fmt: skip
    notes = [
        f"{key} differs in {label}; that of {first_label} is kept"
        for label, suite in suites[1:]
        for key in ("reference", "economics", "timing")
        if plain_settings(suite.get(key)) != plain_settings(first.get(key))
    ]
    return joined, notes


def _entries(suites: Sequence[tuple[str, Mapping[str, Any]]], kind: str) -> dict[str, Any]:
    """Named entries of all suites; of one name the first counts."""
    joined: dict[str, Any] = {}
    for _, suite in suites:
        joined = {**joined, **{k: v for k, v in (suite.get(kind) or {}).items() if k not in joined}}
    return joined


def _strategies(suites: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    first: dict[str, str] = {}
    for label, suite in suites:
        for name, entry in suite["strategies"].items():
            known = joined.setdefault(name, entry)
            unlike = unlike_keys(_how(known), _how(entry))
            if unlike:
                raise UserError(
                    f"the strategy '{name}' has another {' and '.join(unlike)} in {label} than in "
                    f"{first[name]}",
                    field=f"strategies.{name}",
                    hint="cells of two settings need two names",
                )
            first.setdefault(name, label)
            joined[name] = {**known, **{k: _both(known.get(k), entry.get(k)) for k in ("models", "tasks")}}
    return joined


def _how(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in plain_settings(entry).items() if k not in _WHICH}


def _both(ours: list[str] | None, theirs: list[str] | None) -> list[str] | None:
    """Two restrictions together; None restricts nothing."""
    return None if ours is None or theirs is None else list(dict.fromkeys([*ours, *theirs]))


def unlike_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ; a key that is missing is null."""
    return [key for key in dict.fromkeys((*a, *b)) if a.get(key) != b.get(key)]


def unlike_models(runs: Sequence[tuple[str, Results]]) -> list[str]:
    """Notes on models that ran differently, one for each.

    Raises UserError where a model of one name is another one: other weights or, where they are not known,
    another name or engine.
    """
    notes = []
    first: dict[str, tuple[str, Results]] = {}
    for label, run in runs:
        for name, entry in (run.suite.get("models") or {}).items():
            other_label, other = first.setdefault(name, (label, run))
            theirs = other.suite["models"][name]
            card, their_card = ((r.info.get("models") or {}).get(name, {}) for r in (run, other))
            if card.get("digest") and their_card.get("digest"):
                same = card["digest"] == their_card["digest"]
            else:
                same = all(_named(entry.get(key)) == _named(theirs.get(key)) for key in ("model", "engine"))
            if not same:
                raise UserError(
                    f"the model '{name}' is not the same in {other_label} and in {label}",
                    field=f"models.{name}",
                    hint="cells of two models need two names",
                )
            unlike = {
                key: f"{their_card[key]} in {other_label}, {card[key]} in {label}"
                for key in ("dtype", "device", "engine", "price_as")
                if card and their_card and card.get(key) != their_card.get(key)
            }
            notes += [f"{key} of the model '{name}': {said}" for key, said in unlike.items()]
    return notes


def _named(model: Any) -> Any:
    """A model that is a folder by the folder's name, wherever it lies; others as they are called."""
    return Path(model).name if isinstance(model, str) and Path(model).is_absolute() else model


def joined_facts(infos: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """`run.json` of all runs together: the first's, with models, prices, tasks and dates of all.

    Versions and hardware that are not the same everywhere say which is whose.
    """
    every = [info for _, info in infos]
    joined = dict(every[0])
    joined["tasks"] = list(dict.fromkeys(t for info in every for t in info.get("tasks", [])))
    joined["models"] = {k: v for info in reversed(every) for k, v in (info.get("models") or {}).items()}
    joined["hardware"] = _by_run(infos, "hardware")
    joined["versions"] = {
        package: "; ".join(f"{v} in {label}" for label, v in found.items())
        if isinstance(found, dict)
        else found
        for package, found in _by_run(infos, "versions").items()
    }
    for key, pick in {"created": min, "finished": max}.items():
        dates = [info[key] for info in every if info.get(key)]
        if dates:
            joined[key] = pick(dates)
    book: dict[str, dict[str, Any]] = {}
    for info in reversed(every):
        for kind, entries in (info.get("price_book") or {}).items():
            book[kind] = {**book.get(kind, {}), **entries}
    return {**joined, "price_book": book} if book else joined


def _by_run(infos: Sequence[tuple[str, Mapping[str, Any]]], kind: str) -> dict[str, Any]:
    """Key by key the value that all runs have, or each run's own by its label."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(k for _, info in infos for k in info.get(kind) or {}):
        values = {label: (info.get(kind) or {}).get(key) for label, info in infos}
        one = next(iter(values.values()))
        found[key] = one if all(v == one for v in values.values()) else values
    return found
