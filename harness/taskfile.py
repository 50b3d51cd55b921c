"""A task from a YAML file or from a few arguments: data read, columns mapped, splits cut, everything checked.

`make_task` is what tasks written in Python call; `load` reads the same settings from YAML and adds file and
line to every fault. Metrics are `breakeven.harness.metrics`, cutting is `breakeven.harness.splits`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from breakeven.harness import data as rows_and_documents
from breakeven.harness import readers, splits, templating
from breakeven.harness.contracts import Document, Example, Json, Metric, Task
from breakeven.harness.data import Columns
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row, Source
from breakeven.harness.rows.sources import Source as DataSource
from breakeven.harness.rows.sources import is_source
from breakeven.harness.rows.task import is_formatted, read_task

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
FROM_DATA = "from data"


def make_task(
    name: str,
    *,
    instructions: str = "",
    data: Source | Mapping[str, Any],
    columns: Columns | Mapping[str, Any] | None = None,
    metrics: Any,
    input_template: str | None = None,
    choices: Sequence[str] | str | None = None,
    documents: Source | Sequence[Document] | None = None,
    max_tokens: int = 64,
    language: str = "en",
    correct_at: float = 1.0,
    description: str = "",
    licence: str = "",
    sizes: Mapping[str, float | int] | None = None,
    seed: int = 0,
    encoding: str = "utf-8",
    base: Path | None = None,
) -> Task:
    """A checked task.

    Args:
        name: as reports show it.
        instructions: what the model is told, plain text. A system message that all rows share is taken for
            them where none are given.
        data: a file, folder, Hub id or rows (see `readers.read`), a description of training data in a known
            format or of a mixture (see `rows.sources.Source`), or one of these by split.
        columns: which column is what (see `data.Columns`). Without `input`, the rows are read in their
            format, which is recognised unless `data` says it.
        metrics: one or several specifications, the first decides (see `metrics.build`).
        input_template: sandboxed Jinja over the input's fields; without one, the fields themselves (a field
            `messages` is then a chat).
        choices: the closed set of answers, or "from data": every answer that occurs.
        documents: a folder of .md and .txt files, rows with `text`, or ready documents.
        max_tokens: room for an answer.
        language: ISO 639-1.
        correct_at: the score of the deciding metric that counts as correct.
        sizes: examples of the splits that have to be cut, as numbers or shares; 0 means none wanted.
        seed: of the cut.
        encoding: of text files.
        base: where relative paths start; the current folder otherwise.

    Raises:
        UserError: for whatever is missing or wrong, with file, line and field as far as they are known.
    """
    if isinstance(columns, Columns) or not is_formatted(data, columns or {}):
        if not instructions.strip():
            raise UserError("is required", field="instructions")
        columns = columns if isinstance(columns, Columns) else Columns.of(**{"input": (), **(columns or {})})
        by_split, origin = _rows(data, columns, base, encoding)
        read_as: Mapping[str, Json] = {}
    else:
        read = read_task(data, columns or {}, instructions, base, encoding)
        columns, instructions = Columns.of(**read.columns), read.instructions
        by_split, origin, read_as = _shared_out(read.splits, columns), list(read.names), read.note
    everything = [row for rows in by_split.values() for row in rows]
    labels = _choices(choices, everything, columns)
    # one call, so that an id given in two splits is found
    made = iter(rows_and_documents.examples(everything, columns, labels))
    given = {split: tuple(next(made) for _ in rows) for split, rows in by_split.items()}
    template = default_template(columns) if input_template is None else input_template
    _check_template(template, columns)
    cut, note = _complete(given, sizes or {}, seed, labels is not None)
    note["from"] = ", ".join(dict.fromkeys(origin))
    note |= read_as
    found = {split: cut.get(split, ()) for split in SPLITS}
    if not found["test"]:
        blamed = "sizes.test" if (sizes or {}).get("test") == 0 else "data"
        raise UserError("the test split is empty", field=blamed, hint="nothing could be scored")
    return Task(
        name=name,
        instructions=instructions.strip(),
        input_template=template,
        metrics=_metrics(metrics, labels, base),
        choices=labels,
        documents=_documents(documents, base, encoding),
        max_tokens=max_tokens,
        language=language,
        correct_at=correct_at,
        description=description.strip(),
        licence=licence,
        cut=note,
        **found,
    )


# --- from YAML -------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnsEntry(_Strict):
    """See `data.Columns`."""

    input: str | list[str] | dict[str, str] | None = None
    reference: str | None = None
    references: str | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    meta: str | list[str] = []
    separator: str | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _some_columns(cls, value: Any) -> Any:
        if value is None:
            return value
        names = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            raise ValueError("should be a column, a list of columns, or columns by field")
        return value


class SplitSources(_Strict):
    """One source per split; splits that are not named are cut from train (or from `all`)."""

    train: str | DataSource | None = None
    validation: str | DataSource | None = None
    test: str | DataSource | None = None


class SplitSizes(_Strict):
    """Numbers of examples, or shares of all (0.2)."""

    train: int | float | None = Field(None, ge=0)
    validation: int | float | None = Field(None, ge=0)
    test: int | float | None = Field(None, ge=0)


class TaskFile(_Strict):
    """The keys of a task file; see `make_task` for what they mean."""

    name: str = ""
    description: str = ""
    licence: str = ""
    language: str = Field("en", min_length=2)
    instructions: str = ""
    input_template: str | None = None
    data: str | DataSource | SplitSources
    columns: ColumnsEntry | None = None
    encoding: str = "utf-8"
    choices: Literal["from data"] | list[str] | None = None
    documents: str | None = None
    metrics: str | dict[str, Any] | list[str | dict[str, Any]] = Field(min_length=1)
    max_tokens: int = Field(64, ge=1)
    correct_at: float = 1.0
    sizes: SplitSizes = SplitSizes()  # type: ignore[call-arg]
    seed: int = 0

    @field_validator("data", mode="before")
    @classmethod
    def _one_source_or_splits(cls, value: Any) -> Any:
        if not isinstance(value, str | dict):
            raise ValueError("should be a file, folder or Hub data set, or one of these by split")
        if isinstance(value, str) or is_source(value):
            return value
        for split, source in value.items():
            if split not in SPLITS:
                raise ValueError(f"there is no split '{split}', only {', '.join(SPLITS)}")
            if not isinstance(source, str) and not is_source(source):
                raise ValueError(f"{split} should be a file, folder or Hub data set")
        return value

    @field_validator("choices", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if value is not None and value != FROM_DATA and not isinstance(value, list):
            raise ValueError(f"should be a list of answers, or '{FROM_DATA}'")
        for choice in value if isinstance(value, list) else []:
            if not isinstance(choice, str):
                raise ValueError(f"one choice is read as {json.dumps(choice)}, put it in quotes")
        return value


def load(path: Path, **args: Any) -> Task:
    """The task of a YAML file; `args` override its top-level keys.

    Relative paths start at the file's folder. Raises UserError with file, line and field.
    """
    from breakeven.harness.yamlfile import YamlFile, validated

    source = YamlFile(path)
    entry = validated(TaskFile, source.data, source)
    if args:
        entry = validated(TaskFile, {**entry.model_dump(exclude_unset=True), **args})
    settings = entry.model_dump(exclude_none=True)
    settings["name"] = entry.name or path.name.removesuffix(path.suffix).removesuffix(".task")
    try:
        return make_task(base=path.parent, **settings)
    except UserError as error:
        if error.file is not None:
            raise
        line = source.line(error.field.split(".")) if error.field else None
        raise UserError(error.what, file=path, line=line, field=error.field, hint=error.hint) from error


# --- the parts -------------------------------------------------------------------------------


def _rows(
    data: Source | Mapping[str, Source], columns: Columns, base: Path | None, encoding: str
) -> tuple[dict[str, list[Row]], list[str]]:
    """Rows by split ("" for those still to be cut), and where they came from."""
    sources = dict(data) if isinstance(data, Mapping) else {"": data}
    by_split: dict[str, list[Row]] = {}
    for wanted, source in sources.items():
        field = f"data.{wanted}" if wanted else "data"
        try:
            found = readers.read(source, base=base, encoding=encoding)
        except UserError as error:
            if error.file is None and error.field is None:
                raise UserError(error.what, field=field, hint=error.hint) from error
            raise
        if not any(found.values()):
            raise UserError(f"there is not a single row in {_name(source)}", field=field)
        if wanted and wanted in found:  # a Hub id or folder that has this very split
            found = {wanted: found[wanted]}
        for part, some in _shared_out(found, columns, wanted).items():
            by_split.setdefault(part, []).extend(some)
    return by_split, [_name(source) for source in sources.values()]


def _shared_out(
    splits: Mapping[str, Sequence[Row]], columns: Columns, wanted: str = ""
) -> dict[str, list[Row]]:
    """Rows by split: the one they are `wanted` for, the one of their file, or that of their split column."""
    by_split: dict[str, list[Row]] = {}
    for split, rows in splits.items():
        for part, some in _by_column(list(rows), columns, wanted or split).items():
            by_split.setdefault(part, []).extend(some)
    return by_split


def _by_column(rows: list[Row], columns: Columns, split: str) -> dict[str, list[Row]]:
    """Rows shared out by their split column, where there is one and the source did not say."""
    if columns.split is None or split:
        return {split: rows}
    parts: dict[str, list[Row]] = {}
    for row in rows:
        value = row.values.get(columns.split)
        name = "" if value in (None, "") else readers.SPLIT_NAMES.get(str(value).lower())
        if name is None:
            raise UserError(
                f"there is no split '{value}'",
                file=row.file,
                line=row.line,
                field=columns.split,
                hint=f"one of {', '.join(SPLITS)}, or empty for rows to be cut",
            )
        parts.setdefault(name, []).append(row)
    return parts


def _name(source: Source) -> str:
    """As the user spelled it; a task's own file by its name, wherever it is installed."""
    if isinstance(source, Path):
        return source.name
    return source if isinstance(source, str) else "rows given by the program"


def _choices(
    choices: Sequence[str] | str | None, rows: Sequence[Row], columns: Columns
) -> tuple[str, ...] | None:
    if choices is None:
        return None
    if choices == FROM_DATA:
        labels = rows_and_documents.labels(rows, columns)
    elif isinstance(choices, str):
        raise UserError(f"'{choices}' are no choices", field="choices", hint=f"a list, or '{FROM_DATA}'")
    else:
        labels = tuple(choices)
    if len(labels) < 2:
        raise UserError("choices need at least two different answers", field="choices")
    twice = next((label for i, label in enumerate(labels) if label in labels[:i]), None)
    if twice is not None:
        raise UserError(f"the choice '{twice}' is given twice", field="choices")
    return labels


def _complete(
    given: Mapping[str, tuple[Example, ...]],
    sizes: Mapping[str, float | int],
    seed: int,
    stratify: bool,
) -> tuple[dict[str, tuple[Example, ...]], dict[str, Json]]:
    """The three splits: those given as they are, missing ones cut from the loose rows or from train."""
    unknown = [s for s in given if s not in ("", *SPLITS)]
    if unknown:
        raise UserError(f"there is no split '{unknown[0]}'", field="data", hint=f"one of {', '.join(SPLITS)}")
    result: dict[str, tuple[Example, ...]] = {s: given[s] for s in SPLITS if s in given}
    missing = [s for s in SPLITS if s not in result and sizes.get(s) != 0]
    pool = given.get("") or (result.pop("train", ()) if missing else ())
    if not missing or (not pool and missing == ["validation"]):
        return result, {"made": []}
    if not pool:
        raise UserError(
            f"there are no rows to cut the {' and '.join(missing)} split from",
            field="data",
            hint="give train rows, or one source for all splits",
        )
    make = [s for s in SPLITS if s == "train" or s in missing] if "train" not in result else missing
    made = splits.cut(pool, sizes, seed, stratify=stratify, splits=make)
    for split in make:
        result[split] = getattr(made, split)
    return result, {"made": list(make), **made.to_json()}


def default_template(columns: Columns) -> str:
    """The input as it stands: one field bare, several with their names; chat messages need no template."""
    if set(columns.input) == {"messages"}:
        return ""
    if len(columns.input) == 1:
        return "{{ " + next(iter(columns.input)) + " }}"
    return "\n".join(f"{field}: {{{{ {field} }}}}" for field in columns.input)


def _check_template(template: str, columns: Columns) -> None:
    if not template.strip() and "messages" in columns.input:
        return
    used = templating.variables(template)
    for name in sorted(used - set(columns.input)):
        near = difflib.get_close_matches(name, columns.input, n=1)
        raise UserError(
            f"the template uses the field '{name}', which the input does not have",
            field="input_template",
            hint=f"did you mean '{near[0]}'?" if near else f"the fields are {', '.join(columns.input)}",
        )
    if not used:
        raise UserError(
            "the template uses no field of the input, every prompt would be the same",
            field="input_template",
            hint=f"the fields are {', '.join(columns.input)}",
        )


def _metrics(specs: Any, choices: tuple[str, ...] | None, base: Path | None) -> tuple[Metric, ...]:
    from breakeven.harness import metrics

    try:
        return metrics.build_all(specs, choices=choices, folder=base)
    except UserError as error:
        if error.file is None and error.field is None:
            raise UserError(error.what, field="metrics", hint=error.hint) from error
        raise


def _documents(
    source: Source | Sequence[Document] | None, base: Path | None, encoding: str
) -> tuple[Document, ...]:
    if source is None:
        return ()
    if not isinstance(source, str | Path):
        given = list(source)
        ready = tuple(d for d in given if isinstance(d, Document))
        if ready and len(ready) == len(given):
            return ready
        source = [d for d in given if isinstance(d, Mapping)]
    try:
        return rows_and_documents.documents(source, base=base, encoding=encoding)
    except UserError as error:
        if error.file is None and error.field is None:
            raise UserError(error.what, field="documents", hint=error.hint) from error
        raise
