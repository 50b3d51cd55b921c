"""Where rows come from: files with the format and the columns they are in, mixed or one alone.

A `Source` is what stands under `data` in a task file when it is more than a path:
`{path: train.jsonl, format: sharegpt}`, or `{mix: [{path, ratio}, ...], examples: 1000}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from breakeven.harness import readers, rows
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows.conversation import Conversation
from breakeven.harness.rows.mixing import mixed
from breakeven.harness.yamlfile import validated

Read = tuple[Row, Conversation]


class Part(BaseModel):
    """One data set.

    Attributes:
        path: a file, a folder or a Hub data set.
        format: one of `rows.FORMATS`; recognised by its columns unless said.
        columns: the format's field -> the column that holds it, where they are called otherwise.
        ratio: its share of a mixture.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    format: str | None = None
    columns: dict[str, str] = {}
    ratio: float | None = Field(None, gt=0)


class Source(BaseModel):
    """One data set (`path`), or several (`mix`) of which `examples` rows are taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = None
    format: str | None = None
    columns: dict[str, str] = {}
    mix: list[Part] = []
    examples: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one_or_several(self) -> Source:
        if (self.path is None) == (not self.mix):
            raise ValueError("should have either a path, or a mix of several")
        if self.mix and (self.format or self.columns):
            raise ValueError("format and columns belong to each data set of a mix")
        if len({part.ratio is None for part in self.mix}) > 1:
            raise ValueError("either all data sets of a mix have a ratio, or none")
        return self

    @property
    def parts(self) -> list[Part]:
        if self.path is None:
            return self.mix
        return [Part(path=self.path, format=self.format, columns=self.columns, ratio=None)]

    @property
    def name(self) -> str:
        """As reports show it."""
        return " + ".join(Path(part.path).name for part in self.parts)


@dataclass(frozen=True, slots=True)
class Found:
    """Conversations by split ("" for those still to be cut), each part's format, and how many it gave."""

    splits: Mapping[str, Sequence[Read]]
    formats: Mapping[str, str]
    taken: Mapping[str, int]


def is_source(value: Any) -> bool:
    """Whether a mapping describes data sets, rather than naming one by split."""
    return isinstance(value, Mapping) and bool({"path", "mix"} & set(value))


def source(value: Mapping[str, Any] | Source) -> Source:
    """Raises UserError for an unknown key or a bad value."""
    return value if isinstance(value, Source) else validated(Source, value)


def read(given: Source, *, base: Path | None = None, encoding: str = "utf-8") -> Found:
    """The conversations of a source.

    Raises:
        UserError: with file, line and field, for what cannot be read or mixed.
    """
    found: list[dict[str, list[Read]]] = []
    formats: dict[str, str] = {}
    for part in given.parts:
        read_now = _part(part, base, encoding)
        formats[part.path] = read_now[0]
        found.append(read_now[1])
    names = list(dict.fromkeys(split for splits in found for split in splits))
    for part, splits in zip(given.parts, found, strict=True):
        if missing := [name for name in names if name not in splits]:
            raise UserError(
                f"{part.path} has no {missing[0] or 'loose rows beside its'} split, others of the mix have",
                field="mix",
            )
    ratios = [part.ratio for part in given.parts if part.ratio is not None] or None
    taken = dict.fromkeys(formats, 0)
    result: dict[str, list[Read]] = {}
    for name in names:
        parts = [(p.path, splits[name]) for p, splits in zip(given.parts, found, strict=True)]
        result[name] = mixed(parts, ratios, given.examples, _content)
        kept = {id(row) for row, _ in result[name]}
        for path, all_rows in parts:
            taken[path] += sum(id(row) in kept for row, _ in all_rows)
    return Found(result, formats, taken)


def _part(part: Part, base: Path | None, encoding: str) -> tuple[str, dict[str, list[Read]]]:
    of: dict[str, str] = {}
    for field, column in part.columns.items():
        if (other := of.setdefault(column, field)) != field:
            what = f"the column '{column}' is to be '{other}' already"
            raise UserError(what, field=f"columns.{field}", hint="each field has a column of its own")
    splits = {
        split: [_renamed(row, part.columns) for row in some]
        for split, some in readers.read(part.path, base=base, encoding=encoding).items()
    }
    everything = [row for some in splits.values() for row in some]
    format = part.format or detected(everything, part.path)
    known = rows.named(format)
    if unknown := [name for name in part.columns if name not in known.keys]:
        raise UserError(
            f"'{format}' has no field '{unknown[0]}'",
            field=f"columns.{unknown[0]}",
            hint=f"its fields are {', '.join(known.keys)}",
        )
    read_now = {
        split: list(zip(some, rows.conversations(some, format), strict=True))
        for split, some in splits.items()
    }
    return format, read_now


def detected(some: Sequence[Row], path: str) -> str:
    """The format of rows. Raises UserError where the columns do not tell."""
    found = rows.detect(some)
    if found is None:
        columns = ", ".join(dict.fromkeys(key for row in some[:100] for key in row.values)) or "none"
        raise UserError(
            f"the columns of {path} ({columns}) tell no format, or more than one",
            field="format",
            hint=f"say which: {', '.join(rows.FORMATS)}; or say which column is what",
        )
    return found


def _renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """Columns under the names that the format has for them. Raises UserError where one would be lost."""
    if not columns:
        return row
    used = set(columns.values())
    for field, column in columns.items():
        if column not in row.values:
            raise UserError(
                f"there is no column '{column}'",
                file=row.file,
                line=row.line,
                field=f"columns.{field}",
                hint=f"the columns are {', '.join(row.values)}",
            )
        if field not in used and row.values.get(field) is not None:
            raise UserError(
                f"the data have a column '{field}' too, and '{column}' would take its place",
                file=row.file,
                line=row.line,
                field=f"columns.{field}",
                hint=f"rename or drop the column '{field}'",
            )
    others = {k: v for k, v in row.values.items() if k not in used and k not in columns}
    return replace(row, values={**{f: row.values[column] for f, column in columns.items()}, **others})


def _content(read_now: Read) -> str:
    return json.dumps([[turn.role, turn.content] for turn in read_now[1].turns], ensure_ascii=False)
