"""The test examples with every strategy's outputs, packed for the page's explorer.

Column by column and compressed, so that 100,000 predictions stay a few megabytes; what is long is cut, and
says so. The first examples are also given as rows, for readers without JavaScript.

A packed task is a JSON object: `name`, `metric`, `labels` (the choices, or null), `fields`, `ids`, `inputs`
(a list for each example, one text a field), `references`, `documents` ([id, title, text]), `rows`. A row has
`label`, `family`, `seeds`; a seed has `name`, `cell`, and for each example `out`, `score`, `right`, and where
there is something to say `finish`, `detail`, `tokens`, `passages` (positions in `documents`). A text is a
string, or [start, full length] when it was cut. Equal outputs of an example are common; gzip sees to them.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from breakeven.harness import formats as f
from breakeven.harness.families import family
from breakeven.harness.labels import is_right
from breakeven.harness.results import DONE, CellResult, Results, Row, StoredPrediction, TaskResult
from breakeven.reports._rows import done

Text = str | tuple[str, int]

#: Longest text shown, in characters, by how many characters the outputs of a task have in all.
LONGEST = 2000
LONGEST_IN_LARGE_RUNS = 600
LARGE = 4_000_000
#: Below this size (bytes) the data is embedded as it is, for browsers that cannot decompress.
SMALL = 40_000


@dataclass(frozen=True, slots=True)
class StaticOutput:
    """A strategy's output to one example, for the page without JavaScript."""

    label: str
    output: str
    score: str
    right: bool


@dataclass(frozen=True, slots=True)
class StaticExample:
    """One example with all outputs, for the page without JavaScript."""

    id: str
    inputs: tuple[tuple[str, str], ...]
    references: tuple[str, ...]
    outputs: tuple[StaticOutput, ...]


def embedded(results: Results, task: str, position: int) -> Markup:
    """The data block of a task: `<script type="application/gzip+base64">`, or plain JSON when small."""
    raw = json.dumps(packed(results, task), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    if len(raw) <= SMALL:
        # in a script element only `<` can end the data early
        kind, body = "application/json", raw.decode("utf-8").replace("<", "\\u003c")
    else:
        kind, body = (
            "application/gzip+base64",
            base64.b64encode(gzip.compress(raw, 6, mtime=0)).decode("ascii"),
        )
    return Markup(f'<script type="{kind}" id="examples-{position}">{body}</script>')


def packed(results: Results, name: str) -> dict[str, Any]:
    """A task's examples and outputs as JSON (see the module's docstring)."""
    task = results.tasks[name]
    rows = done(results, name)
    cells = [c for r in rows for c in _finished(r)]
    limit = (
        LONGEST if sum(len(p.output) for c in cells for p in c.predictions) < LARGE else LONGEST_IN_LARGE_RUNS
    )
    fields = list(dict.fromkeys(k for e in task.test for k in e.input))
    shown: dict[str, int] = {}
    packed_rows = [
        {
            "label": f.clean(row.label),
            "family": family(row),
            "seeds": [_seed(cell, task, shown, limit) for cell in _finished(row)],
        }
        for row in rows
    ]
    return {
        "name": name,
        "metric": task.primary.name,
        "labels": [f.clean(c) for c in task.choices] if task.choices else None,
        "fields": [f.clean(k) for k in fields],
        "ids": [f.clean(e.id) for e in task.test],
        "inputs": [
            [cut(f.plain(e.input[k]), limit) if k in e.input else "" for k in fields] for e in task.test
        ],
        "references": [[cut(f.plain(r), limit) for r in e.references] for e in task.test],
        "documents": [_document(task, d, limit) for d in shown],
        "rows": packed_rows,
    }


def _seed(cell: CellResult, task: TaskResult, shown: dict[str, int], limit: int) -> dict[str, Any]:
    metric = task.primary.name
    predictions = cell.predictions
    seed: dict[str, Any] = {
        "name": "" if cell.seed is None else f"seed {cell.seed}",
        "cell": f.clean(cell.id),
        "out": [cut(output, limit) for output in f.all_clean([p.output for p in predictions])],
        "score": [round(p.score[metric], 4) for p in predictions],
        "right": "".join("1" if is_right(p.score[metric], task) else "0" for p in predictions),
    }
    finish = {i: f.clean(p.finish_reason) for i, p in enumerate(predictions) if _notable(p)}
    detail = {i: d for i, p in enumerate(predictions) if (d := _detail(p))}
    passages = [_passages(p, shown) for p in predictions]
    if finish:
        seed["finish"] = finish
    if detail:
        seed["detail"] = detail
    if any(p.usage.input_tokens for p in predictions):
        seed["tokens"] = [[p.usage.input_tokens, p.usage.output_tokens] for p in predictions]
    if any(passages):
        seed["passages"] = passages
    return seed


def _passages(prediction: StoredPrediction, shown: dict[str, int]) -> list[int]:
    """Positions in the packed documents, each document once, in the order shown."""
    documents = prediction.meta.get("passages")
    if not isinstance(documents, list):
        return []
    return list(dict.fromkeys(shown.setdefault(str(d), len(shown)) for d in documents))


def _document(task: TaskResult, name: str, limit: int) -> list[Text]:
    document = task.documents.get(name, {})
    return [
        f.clean(name),
        f.clean(str(document.get("title") or "")),
        cut(f.plain(document.get("text", "")), limit),
    ]


def _notable(prediction: StoredPrediction) -> bool:
    return prediction.finish_reason not in ("", "stop", "choices")


def _detail(prediction: StoredPrediction) -> str:
    """What the metrics say of this output beyond the output itself, in one line."""
    parts = []
    for key, value in prediction.detail.items():
        items = value.items() if isinstance(value, dict) else [(key, value)]
        told = [(k, f.plain(v)) for k, v in items if v not in ([], "", prediction.output)]
        parts += [v if k == "why" else f"{k.replace('_', ' ')}: {v}" for k, v in told]
    return shortened("; ".join(dict.fromkeys(parts)), 240)


def cut(text: str, limit: int) -> Text:
    """The text, or its start and its full length."""
    return text if len(text) <= limit else (text[:limit], len(text))


def _finished(row: Row) -> Sequence[CellResult]:
    return [c for c in row.cells if c.state == DONE and c.predictions]


def static(results: Results, name: str, count: int) -> Iterator[StaticExample]:
    """The first examples of a task with the first seed's outputs."""
    task, rows = results.tasks[name], done(results, name)
    for i, example in enumerate(task.test[:count]):
        outputs = []
        for row in rows:
            for cell in _finished(row)[:1]:
                prediction = cell.predictions[i]
                value = prediction.score[task.primary.name]
                outputs.append(
                    StaticOutput(
                        row.label,
                        shortened(f.clean(prediction.output), 300),
                        f.quality(value, task.primary),
                        is_right(value, task),
                    )
                )
        yield StaticExample(
            f.clean(example.id),
            tuple((f.clean(k), shortened(f.plain(v), 600)) for k, v in example.input.items()),
            tuple(shortened(f.plain(r), 300) for r in example.references),
            tuple(outputs),
        )


def shortened(text: str, limit: int) -> str:
    """The text, cut with a note of what is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [{len(text) - limit:,} more characters]"
