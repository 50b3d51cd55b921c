"""`breakeven init`: from somebody's rows to a task, a suite and its economics, ready to run.

Asks only what the options leave open and the rows do not show; without a terminal it takes defaults, and
what has none is an error. What is written has been loaded as a task before; both files are written or none.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from rich.console import Console

from breakeven.harness import readers
from breakeven.harness.cli import _inferred
from breakeven.harness.cli._inferred import Formatted, Shape
from breakeven.harness.contracts import Task
from breakeven.harness.data import Columns, value_of
from breakeven.harness.economics import Economics
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows.task import ANSWER
from breakeven.harness.taskfile import default_template, make_task
from breakeven.harness.yamlfile import flow_style

#: `ask(question, default, allowed)` -> the answer; `allowed` is empty where anything goes.
Ask = Callable[[str, str, Sequence[str]], str]

IMPROVE: tuple[str, ...] = tuple(
    aspect for aspect in get_args(Economics.model_fields["improve"].annotation) if aspect
)
#: A first run stays short: at most so many examples of each split, unless the suite is changed.
FIRST_RUN = {"train": 300, "validation": 50, "test": 200}


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything that the two files say."""

    name: str
    settings: dict[str, Any]  # the keys of the task file
    sources: dict[str, Any]  # data and documents as they were given, from the current folder
    shape: Shape
    strategies: tuple[str, ...]
    economics: dict[str, Any]


def init(
    *,
    data: str | None = None,
    input: str | None = None,
    reference: str | None = None,
    documents: Path | None = None,
    group: str | None = None,
    language: str = "en",
    name: str | None = None,
    improve: str | None = None,
    out: Path = Path(),
    yes: bool = False,
    force: bool = False,
    ask: Ask | None = None,
) -> None:
    """Write `<name>.task.yaml` and `<name>.suite.yaml` into `out`.

    Args:
        data: rows: a file, a folder or a Hub data set.
        input: the column or columns (separated by commas) that the model sees.
        reference: the column with the right answer. Without both, rows whose columns are those of a format of
            training data (chat messages, ShareGPT, Alpaca, ...) are read in it.
        documents: a folder of .md and .txt files, or JSONL, to retrieve from.
        group: the column that says which rows belong together. Where it names the document that answers, the
            stages of retrieval are measured.
        language: of the data, ISO 639-1.
        improve: what should get better; one of `IMPROVE`.
        yes: take defaults instead of asking. Implied where there is no terminal.
        force: overwrite files that are there.
        ask: how to ask; the terminal by default.

    Raises:
        UserError: for what is missing or wrong. Nothing is written then.
    """
    if improve is not None and improve not in IMPROVE:
        raise UserError(
            f"'{improve}' is no aspect to improve", field="--improve", hint=f"one of {', '.join(IMPROVE)}"
        )
    if ask is None and not yes and sys.stdin.isatty():
        ask = _terminal
    if yes:
        ask = None
    data = data or _required(ask, "data", "Where are the rows (file, folder or Hub data set)?")
    try:
        rows = [row for split in readers.read(data).values() for row in split]
    except UserError as error:
        raise UserError(
            error.what, file=error.file, line=error.line, field=error.field or "--data", hint=error.hint
        ) from error
    if not rows:
        raise UserError(f"there is not a single row in {data}", field="--data")
    if not re.fullmatch(r"[a-zA-Z]{2,3}(-\w+)*", language):
        raise UserError(
            f"'{language}' is no language", field="--language", hint="ISO 639-1, such as en or de"
        )
    ungrouped = _ungrouped(group, rows) if group is not None else 0
    formatted = None if input or reference else _inferred.formatted(rows)
    if formatted is not None:
        rows, inputs, answer = formatted.rows, [], ANSWER
    else:
        columns = _inferred.columns_of(rows)
        inputs = _inputs(input, columns, ask)
        answer = _column(reference, "reference", [c for c in columns if c not in inputs], ask)
    plan = _planned(
        data, rows, inputs, answer, documents, group, language, name, improve, out, ask, formatted
    )
    files = {
        out / f"{plan.name}.task.yaml": _task_text(plan),
        out / f"{plan.name}.suite.yaml": _suite_text(plan),
    }
    task = make_task(plan.name, **{**plan.settings, **plan.sources})  # before anything is written
    write_together(files, force)
    _say(plan, task, list(files), Console())
    if ungrouped:
        print(
            f"note: {ungrouped:,} of {len(rows):,} rows have nothing in '{group}': each is a group of its own"
        )


# --- asking ----------------------------------------------------------------------------------


def _terminal(question: str, default: str, allowed: Sequence[str]) -> str:
    import typer

    while True:
        shown = f"{question} ({', '.join(allowed)})" if allowed else question
        answer = str(typer.prompt(shown, default=default or None)).strip()
        if answer and (not allowed or answer in allowed):
            return answer


def _required(ask: Ask | None, option: str, question: str, columns: Sequence[str] = ()) -> str:
    if ask is not None:
        return ask(question, _inferred.likely(columns, _kind_of(option)) or "" if columns else "", columns)
    hint = f"the columns are {', '.join(columns)}" if columns else None
    raise UserError("is missing", field=f"--{option}", hint=hint)


def _kind_of(option: str) -> Any:
    return "input" if option == "input" else "reference"


def _inputs(given: str | None, columns: Sequence[str], ask: Ask | None) -> list[str]:
    if given is not None and given not in columns:
        return [_column(part.strip(), "input", columns, ask) for part in given.split(",") if part.strip()]
    return [_column(given, "input", columns, ask)]


def _column(given: str | None, option: str, columns: Sequence[str], ask: Ask | None) -> str:
    """A column that exists. Nested values are named with dots."""
    if given is None:
        what = "does the model see" if option == "input" else "holds the right answer"
        return _required(ask, option, f"Which column {what}?", columns)
    if given not in columns and given.split(".")[0] not in columns:
        raise UserError(
            f"there is no column '{given}'", field=f"--{option}", hint=f"the columns are {', '.join(columns)}"
        )
    return given


def _ungrouped(column: str, rows: Sequence[Row]) -> int:
    """How many rows have nothing in the column. Raises UserError where none has anything."""
    _column(column, "group", _inferred.columns_of(rows), None)
    without = sum(value_of(row, column) in (None, "") for row in rows)
    if without == len(rows):
        raise UserError(f"no row has anything in the column '{column}'", field="--group")
    return without


def _planned(
    data: str,
    rows: Sequence[Row],
    inputs: Sequence[str],
    answer: str,
    documents: Path | None,
    group: str | None,
    language: str,
    name: str | None,
    improve: str | None,
    out: Path,
    ask: Ask | None,
    formatted: Formatted | None = None,
) -> _Plan:
    def asked(question: str, default: str, allowed: Sequence[str] = ()) -> str:
        return ask(question, default, allowed) if ask is not None else default

    found = _inferred.shape(rows, answer)
    name = _file_name(name or asked("What is the task called?", _likely_name(data)))
    improve = improve or asked("What should get better?", "accuracy", IMPROVE)
    settings: dict[str, Any] = {
        "metrics": list(found.metrics), "max_tokens": found.max_tokens, "language": language,
    }  # fmt: skip
    if formatted is None or not formatted.instructed:
        told = asked("What should the model do? One or two sentences", found.instructions)
        settings["instructions"] = told
    if formatted is None:
        settings |= {"data": _from(out, data), "columns": _columns(rows, inputs, found, group)}
        settings["input_template"] = default_template(Columns.of(**settings["columns"]))
    else:
        settings["data"] = {"path": _from(out, data), "format": formatted.format}
        if group is not None:
            settings["columns"] = {"group": group}
    if found.choices:
        settings["choices"] = list(found.choices)
    if documents is not None:
        settings["documents"] = _from(out, str(documents))
    economics = {
        "use_case": asked("What is it for, in one line?", name.replace("_", " ").replace("-", " ")),
        "improve": improve,
        "requests_per_month": _number(asked("How many requests a month?", "10000")),
        "horizon_months": 12,
        "currency": "USD",
        "hardware": "cpu-2",
        "utilisation": 0.5,
    }
    classical = ("majority", "nearest-neighbour", "logistic-regression") if found.choices else ()
    retrieval = ("rag", "rag+few-shot", "rag+lora") if documents is not None else ()
    strategies = ("zero-shot", "few-shot", "few-shot-similar", "lora", *retrieval, *classical)
    sources: dict[str, Any] = {"data": data} | ({"documents": documents} if documents is not None else {})
    if formatted is not None:
        sources["data"] = {"path": data, "format": formatted.format}
    return _Plan(name, settings, sources, found, strategies, economics)


def _number(text: str) -> float:
    try:
        number = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        number = 0
    if number <= 0:
        raise UserError(f"'{text}' is no number of requests", field="requests_per_month")
    return int(number) if number.is_integer() else number


def _likely_name(data: str) -> str:
    """After the file, or the folder around files that are only called train or data."""
    path = Path(data)
    generic = path.stem.lower() in {*readers.SPLIT_NAMES, "data", "rows"}
    return _file_name(path.resolve().parent.name if generic else path.stem)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w-]+", "_", text.split("/")[-1].removesuffix(".task")).strip("_") or "task"


def _from(out: Path, source: str) -> str:
    """A path as the task file in `out` must spell it; a Hub id stays as it is."""
    path = readers.resolve(source)
    if path is None:
        return source
    try:
        return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()
    except ValueError:  # another drive
        return path.resolve().as_posix()


def _columns(rows: Sequence[Row], inputs: Sequence[str], found: Shape, group: str | None) -> dict[str, Any]:
    fields: dict[str, str] = {}
    for column in inputs:
        field = re.sub(r"\W+", "_", column.split(".")[-1]).strip("_")
        field = field if field and not field[0].isdigit() else f"field_{field}"
        fields[f"{field}_{len(fields)}" if field in fields else field] = column
    plain = list(fields) == list(fields.values())
    columns: dict[str, Any] = {
        "input": (list(fields) if len(fields) > 1 else next(iter(fields))) if plain else fields
    }
    columns["references" if found.several else "reference"] = found.column
    identity = _inferred.id_column(rows, [*inputs, found.column])
    known = {"id": identity, "group": group, "split": _inferred.split_column(rows)}
    return columns | {key: column for key, column in known.items() if column is not None}


# --- writing ---------------------------------------------------------------------------------


_COMMENTS = {
    "instructions": """\
# What the model is told. Say what you want and in which form; this line decides how well prompting does.""",
    "input_template": "# The question, as sandboxed Jinja over the fields of the input.",
    "data": """\
# A file, a folder, a Hub data set, or one of these by split: {train: ..., validation: ..., test: ...}.""",
    "columns": """\
# Which column is what. `reference` is the answer; `references` lists several acceptable ones. Name a `group`
# where rows belong together (one document, one author): a group is never divided between train and test.""",
}


def _task_text(plan: _Plan) -> str:
    s = plan.settings
    optional = {"choices": "# the closed set of answers; or: from data", "documents": "# to retrieve from"}
    extra = "".join(f"{comment}\n{_line(key, s[key])}" for key, comment in optional.items() if key in s)
    parts = "".join(f"{comment}\n{_line(key, s[key])}" for key, comment in _COMMENTS.items() if key in s)
    return f"""\
# A task of Breakeven: data and judgement. Check it with `breakeven validate`.
{_line("name", plan.name)}\
{parts}\
{extra}\
# The first metric decides.
{_line("metrics", s["metrics"])}\
{_line("max_tokens", s["max_tokens"])}\
# Of the data, ISO 639-1: an embedding model that does not know it is named.
{_line("language", s["language"])}\
# Splits that the data does not have are cut from it: shares, or numbers of rows.
sizes: {{train: 0.6, validation: 0.1, test: 0.3}}
seed: 0
"""


def _suite_text(plan: _Plan) -> str:
    strategies = "".join(f"  {name}: {{}}\n" for name in plan.strategies)
    return f"""\
# What to compare on {plan.name}: run it with `breakeven run {plan.name}.suite.yaml`.
{_line("suite", plan.name)}\
tasks:
  # The limits keep the first run short; take them away for figures to decide by.
  {plan.name}: {{task: {plan.name}.task.yaml, limits: {flow_style(FIRST_RUN)}}}
# Any causal language model: a Hub id, a folder, or behind an API ({{model: gpt-4o-mini, engine: openai}}).
models:
  default: {{model: smollm2-135m-instruct}}
strategies:
{strategies}\
# Differences are relative to this one: what you have today, or the simplest.
reference: zero-shot
# Three seeds show how much luck is in a draw of demonstrations and in training: [0, 1, 2].
seeds: [0]
# What the decision depends on besides quality.
{_line("economics", plan.economics, flow=False)}"""


def _line(key: str, value: Any, flow: bool = True) -> str:
    """`key: value` as YAML, nested values in flow style on the same line if they fit."""
    if isinstance(value, dict | list) and flow and len(flow_style(value)) < 100:
        return f"{key}: {flow_style(value)}\n"
    return yaml.safe_dump(
        {key: value}, sort_keys=False, allow_unicode=True, width=100, default_flow_style=False
    )


def write_together(files: Mapping[Path, str], force: bool) -> None:
    """All files or none: each to a neighbour first, renamed when all are on disk.

    Raises:
        UserError: a file is there already and `force` is not set, or writing fails.
    """
    there = [path for path in files if path.exists()]
    if there and not force:
        raise UserError("is there already", file=there[0], hint="take another name, or --force to overwrite")
    parts = {path: path.with_name(f".{path.name}.part") for path in files}
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            parts[path].write_text(text, encoding="utf-8")
        for path, part in parts.items():
            part.replace(path)
    except OSError as error:
        for path, part in parts.items():
            part.unlink(missing_ok=True)
            if path not in there:
                path.unlink(missing_ok=True)
        raise UserError(f"cannot be written: {error.strerror or error}", file=error.filename) from error


def _say(plan: _Plan, task: Task, files: Sequence[Path], console: Console) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    task_file, suite_file = files
    kind = f"{len(task.choices)} choices" if task.choices else plan.shape.kind
    sizes = ", ".join(f"{split} {len(getattr(task, split)):,}" for split in FIRST_RUN)
    say(f"{plan.name}: {sizes}")
    say(f"the answer is taken as {kind}, scored by {task.primary.name}")
    if plan.economics["improve"] == "knowledge" and not task.documents:
        say("knowledge comes from documents: give them with --documents to compare retrieval too")
    if isinstance(plan.settings["data"], dict):
        say(f"the rows are read as {plan.settings['data']['format']}")
    for file in files:
        say(f"wrote {file}")
    say(f"next: breakeven validate {task_file}")
    say(f"      breakeven run {suite_file}")
