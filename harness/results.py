"""Reads a run folder into dataclasses: what reports, tables and comparisons work from.

Reads only; the writing side is `store`. Summaries (intervals, differences, costs) are computed here from
the stored per-example scores and ledgers, so that a run can be re-scored and re-priced without running.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from breakeven.harness import _folders, economics
from breakeven.harness._garbage import uncollected
from breakeven.harness.contracts import Json, Usage
from breakeven.harness.economics import Economics
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.suite import BEST_ON_VALIDATION

if TYPE_CHECKING:
    from breakeven.harness.estimate import Estimate
    from breakeven.harness.probe import Probe
    from breakeven.harness.stats import Interval

DONE = "done"
ESTIMATE = "estimate.json"
FOLD = re.compile(r"--f\d+$")  # what `plan.fold_suffix` appends


@dataclass(frozen=True, slots=True)
class MetricInfo:
    name: str
    range: tuple[float, float] | None
    higher_is_better: bool
    additive: bool


@dataclass(frozen=True, slots=True)
class TestExample:
    __test__ = False  # not a test class, whatever pytest thinks of the name

    id: str
    input: Mapping[str, Json]
    references: tuple[Json, ...]
    group: str | None = None
    meta: Mapping[str, Json] = field(default_factory=dict)
    fold: int | None = None  # from 1, where rows are scored out of fold


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task as it was run: test examples in their order, documents that some prediction shows."""

    name: str
    description: str
    instructions: str
    input_template: str
    language: str
    licence: str
    choices: tuple[str, ...] | None
    metrics: tuple[MetricInfo, ...]
    correct_at: float
    sizes: Mapping[str, int]
    document_count: int
    cut: Mapping[str, Json]
    duplicates: Mapping[str, int]
    hash: str
    test: tuple[TestExample, ...]
    documents: Mapping[str, Mapping[str, str]]
    group_is_document: bool = False  # the group of an example is the id of the document that answers it

    @property
    def primary(self) -> MetricInfo:
        return self.metrics[0]

    @property
    def groups(self) -> list[str | None] | None:
        """What makes test examples dependent, in their order; None where nothing does."""
        found = [e.group for e in self.test]
        return found if any(g is not None for g in found) else None


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    id: str
    output: str
    score: Mapping[str, float]
    detail: Mapping[str, Json]
    usage: Usage
    seconds: float | None
    finish_reason: str
    meta: Mapping[str, Json]
    prompt: Sequence[Mapping[str, str]] | None = None


@dataclass(frozen=True)
class CellResult:
    """One cell: task x strategy x model x training size x seed.

    Where rows are scored out of fold, the folds of a cell are one of these, its `parts`: see
    `breakeven.harness.joining`. `fold_of` is then the fold of each prediction, from 1, and `outside` of each
    fold the labelled rows outside of it, which its fit could see; both are empty elsewhere.
    """

    id: str
    task: str
    strategy: str
    model: str | None
    train_size: int
    seed: int | None
    settings: Mapping[str, Json]
    state: str
    reason: str
    predictions: tuple[StoredPrediction, ...]
    aggregates: Mapping[str, float]
    ledger: Ledger
    timing: Mapping[str, Any] | None
    training: Mapping[str, Any] | None
    fit_notes: Mapping[str, Any]
    lost: Mapping[str, float]
    draws: tuple[float, ...] = ()  # resamples of a primary metric that is no mean
    validation: Mapping[str, float] = field(default_factory=dict)  # scores there, where they were asked for
    factory: str = ""  # what makes the strategy, by its name in the registry
    fold: int | None = None  # of one fold's cell alone, from 1
    joined: str = ""  # the id that its folds are joined under
    folds: int = 1  # how many there should be
    fold_of: tuple[int, ...] = ()
    outside: Mapping[int, int] = field(default_factory=dict)
    parts: tuple[CellResult, ...] = ()
    served: Mapping[str, Any] | None = (
        None  # card of the model that answered, where tuning made it another one
    )

    @cached_property
    def _scores(self) -> dict[str, list[float]]:
        """By metric, as far as asked: a comparison of all pairs asks for each again and again."""
        return {}

    def scores(self, metric: str) -> list[float]:
        if metric not in self._scores:
            self._scores[metric] = [p.score[metric] for p in self.predictions]
        return list(self._scores[metric])

    @cached_property
    def mean_usage(self) -> tuple[float, float]:
        """(input, output) tokens per request; (0, 0) where no language model is asked."""
        n = max(len(self.predictions), 1)
        return (
            sum(p.usage.input_tokens for p in self.predictions) / n,
            sum(p.usage.output_tokens for p in self.predictions) / n,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """Money in the run's currency; `value` None is unknown. `note` says what it rests on."""

    value: float | None
    status: str  # measured | estimated | unknown
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A line of a task's result table: one strategy (x model x training size), its seeds together.

    `quality` is the primary metric over all seeds; `difference` to the reference strategy is paired by
    example, `p` of no difference by `test`, `p_adjusted` after Holm over the task's comparisons with the
    reference. `detectable` is the smallest difference to it that these examples show four times in five,
    `needed` says how many more would show the one that was seen. `input_tokens`/`output_tokens` per request;
    `latency` (p50, p95) seconds from the batch-of-one pass; `training_seconds` mean over seeds.
    `label` is unique within the table.
    """

    label: str
    strategy: str
    model: str | None
    train_size: int
    state: str
    reason: str
    cells: tuple[CellResult, ...]
    is_reference: bool = False
    quality: float | None = None
    interval: Interval | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    won: int = 0
    lost: int = 0
    p: float | None = None
    p_adjusted: float | None = None
    test: str = ""
    detectable: float | None = None
    needed: str = ""
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost_per_1000: Cost = Cost(None, "unknown")
    one_off: Cost = Cost(None, "unknown")
    latency: tuple[float, float] | None = None
    training_seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """A whole run. `tables()` gives the rows per task, in the suite's order of strategies."""

    folder: Path
    name: str
    info: Mapping[str, Any]  # run.json
    suite: Mapping[str, Any]  # suite.yaml
    tasks: Mapping[str, TaskResult]
    cells: Mapping[str, CellResult]
    prices: Path | None = None  # the user's own price file, if the run is re-priced
    changes: tuple[str, ...] = ()  # "key=value" laid over the suite's economics and prices
    estimate: Estimate | None = None  # made before the run
    probes: tuple[Probe, ...] = ()  # of one machine, whose seconds are priced instead of the run's

    @cached_property
    def _changed(self) -> tuple[Economics, dict[str, float]]:
        return economics.changed(economics.read(self.suite.get("economics") or {}), self.changes)

    @property
    def economics(self) -> Economics:
        return self._changed[0]

    @property
    def price_changes(self) -> Mapping[str, float]:
        return self._changed[1]

    @property
    def currency(self) -> str:
        return self.economics.currency

    @property
    def place(self) -> str:
        """`runs/NAME`: the run's folder without where on somebody's machine it lies."""
        folder = self.folder.resolve()
        return f"{folder.parent.name}/{folder.name}"

    def reference(self, task: str) -> str:
        """The strategy that a task's others are compared with.

        What is in service today; else what the suite names, be it the best on the task's validation examples
        (mean over seeds; of equals the first).
        """
        cells, incumbent = self.cells_of(task), self.economics.incumbent
        named = str(self.info.get("reference", ""))
        if isinstance(incumbent, str) and any(incumbent == c.strategy for c in cells):
            return incumbent
        if named != BEST_ON_VALIDATION:
            return named
        metric, found = self.tasks[task].primary, dict[str, list[float]]()
        for c in cells:
            if c.state == DONE and metric.name in c.validation:
                found.setdefault(c.strategy, []).append(c.validation[metric.name])
        sign = 1 if metric.higher_is_better else -1
        return max(found, key=lambda s: sign * sum(found[s]) / len(found[s])) if found else ""

    def cells_of(self, task: str) -> list[CellResult]:
        return [c for c in self.cells.values() if c.task == task]

    @cached_property
    def tables(self) -> Mapping[str, tuple[Row, ...]]:
        """Task name -> rows."""
        from breakeven.harness.summary import table

        return {name: table(self, name) for name in self.tasks}


def load(
    folder: Path,
    prices: Path | None = None,
    changes: Sequence[str] = (),
    probes: Sequence[Path] = (),
    estimate: Path | None = None,
) -> Results:
    """Read a run folder; `prices`, `changes` and `probes` (files) price it again.

    Args:
        estimate: file of an estimate to set beside it, in place of the one it has.

    Raises:
        UserError: it is no run folder, or what is given does not fit it.
    """
    folder = Path(folder)
    _folders.require_run(folder)
    if _folders.is_broken_off(folder):
        raise UserError(
            "scoring this run again was broken off, its files do not fit together",
            file=folder,
            hint=f"complete it with: breakeven score {folder} --in-place",
        )
    import yaml

    info = _json(folder / "run.json", {})
    suite = yaml.safe_load((folder / "suite.yaml").read_text(encoding="utf-8"))
    with uncollected():
        tasks = {p.name: _task(p) for p in sorted((folder / "tasks").glob("*")) if (p / "task.json").exists()}
        planned = info.get("cells") or sorted(p.name for p in (folder / "cells").glob("*"))
        begun = [
            _cell(folder / "cells" / c) for c in planned if (folder / "cells" / c / "cell.json").exists()
        ]
    order = {name: i for i, name in enumerate(info.get("tasks", []))}
    tasks = dict(sorted(tasks.items(), key=lambda kv: order.get(kv[0], len(order))))
    if (suite.get("evaluate") or {}).get("crossfit"):
        info = {**info, "cells": list(dict.fromkeys(FOLD.sub("", c) for c in planned))}
    cells = _joined(folder, begun, tasks)
    made = Results(folder, info.get("name", folder.name), info, suite, tasks, cells, prices, tuple(changes))
    _ = made.economics  # a wrong change is said now, not while a report is half written
    if estimate is not None or (estimate := _stored(folder)) is not None:
        from breakeven.harness import predicted

        made = replace(made, estimate=predicted.load(estimate, str(info.get("suite", ""))))
    return _with_probes(made, probes) if probes else made


def _stored(folder: Path) -> Path | None:
    """The estimate that the run was made with, if it was."""
    file = folder / ESTIMATE
    return file if file.is_file() else None


def _with_probes(results: Results, files: Sequence[Path]) -> Results:
    from breakeven.harness import probed
    from breakeven.harness.probe import Probe

    made = replace(results, probes=tuple(Probe.load(Path(f)) for f in files))
    probed.check(made)
    return made


def _joined(
    folder: Path, begun: Sequence[CellResult], tasks: Mapping[str, TaskResult]
) -> dict[str, CellResult]:
    """The cells by id; the folds of one are joined and stand where the first of them stood."""
    from breakeven.harness import joining

    together: dict[str, list[CellResult]] = {}
    for cell in begun:
        together.setdefault(cell.joined or cell.id, []).append(cell)
    found: dict[str, CellResult] = {}
    for id, parts in together.items():
        if parts[0].fold is None:
            found[id] = parts[0]
            continue
        task = tasks[parts[0].task]
        stored = _json(folder / "joined" / f"{id}.json", {})
        done = [folder / "cells" / p.id for p in parts if p.state == DONE]
        kept = stored if joining.fits(stored, done) else {}
        found[id] = joining.joined(parts, [e.id for e in task.test], task.metrics, kept)
    return found


def _json(path: Path, default: Any = None) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [_parsed(line) for line in file if line.strip()]


def _parsed(line: bytes) -> dict[str, Any]:
    """What `json.loads` says, in half of its time; a lone surrogate is read by itself alone."""
    row: dict[str, Any]
    try:
        row = from_json(line)
    except ValueError:
        row = json.loads(line)
    return row


def _task(folder: Path) -> TaskResult:
    d = _json(folder / "task.json")
    test = tuple(
        TestExample(
            e["id"],
            e["input"],
            tuple(e["references"]),
            e.get("group"),
            e.get("meta") or {},
            e.get("fold"),
        )
        for e in _lines(folder / "test.jsonl")
    )
    return TaskResult(
        name=d["name"],
        description=d["description"],
        instructions=d["instructions"],
        input_template=d["input_template"],
        language=d["language"],
        licence=d["licence"],
        choices=tuple(d["choices"]) if d["choices"] is not None else None,
        metrics=tuple(
            MetricInfo(
                m["name"], tuple(m["range"]) if m["range"] else None, m["higher_is_better"], m["additive"]
            )
            for m in d["metrics"]
        ),
        correct_at=d["correct_at"],
        sizes=d["sizes"],
        document_count=d["documents"],
        cut=d["cut"],
        duplicates=d["duplicates"],
        hash=d["hash"],
        test=test,
        documents=(documents := {r["id"]: r for r in _lines(folder / "documents.jsonl")}),
        group_is_document=_group_is_document(d, test, documents),
    )


def _group_is_document(
    stored: dict[str, Any], test: Sequence[TestExample], shown: Mapping[str, object]
) -> bool:
    """As the run wrote it down; of runs that did not, whether some group is a document that was shown."""
    if "group_is_document" in stored:
        return bool(stored["group_is_document"])
    return any(e.group in shown for e in test)


def _prediction(row: dict[str, Any]) -> StoredPrediction:
    return StoredPrediction(
        id=row["id"],
        output=row["output"],
        score=row["score"],
        detail=row.get("detail") or {},
        usage=Usage(**row["usage"]),
        seconds=row.get("seconds"),
        finish_reason=row.get("finish_reason", ""),
        meta=row.get("meta") or {},
        prompt=row.get("prompt"),
    )


def _cell(folder: Path) -> CellResult:
    spec, status = _json(folder / "cell.json"), _json(folder / "status.json", {})
    fold: int | None = spec.get("fold")
    done = status.get("state") == DONE
    return CellResult(
        id=spec["id"],
        task=spec["task"],
        strategy=spec["strategy"],
        model=spec.get("model"),
        train_size=spec["train_size"],
        seed=spec.get("seed"),
        settings=spec["settings"],
        state=status.get("state", "waiting"),
        reason=status.get("reason", ""),
        predictions=tuple(_prediction(r) for r in _lines(folder / "predictions.jsonl")) if done else (),
        aggregates=_json(folder / "scores.json", {}),
        ledger=Ledger.from_json(_json(folder / "ledger.json", [])),
        timing=_json(folder / "timing.json"),
        training=_json(folder / "training.json"),
        validation=_json(folder / "validation.json", {}).get("scores") or {},
        fit_notes=_json(folder / "fit.json", {}),
        lost=status.get("lost") or {},
        draws=tuple(_json(folder / "draws.json", [])),
        factory=spec.get("factory", ""),
        fold=fold,
        joined=spec.get("joined", ""),
        folds=spec.get("folds", 1),
        outside={fold: spec["outside"]} if fold is not None else {},
        served=_json(folder / "served.json"),
    )
