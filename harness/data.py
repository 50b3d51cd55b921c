"""Rows become examples, texts become documents; what is wrong with a row is said with file, line and field.

Which column is what is a `Columns`. Reading files is `breakeven.harness.readers`, cutting splits is
`breakeven.harness.splits`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from breakeven.harness import documents as texts
from breakeven.harness import readers
from breakeven.harness.contracts import Document, Example, Json
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row, Source

_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is what. A name with dots reaches into nested values ("answers.text").

    Attributes:
        input: template field -> column.
        reference: the column whose value is *the* answer; a list there is one list answer.
        references: the column that lists several acceptable answers (instead of `reference`).
        id, group, split: columns with the example's id, what makes examples dependent, and its split.
        meta: further columns to carry into the report.
        separator: splits a text cell into a list ("salt; pepper"), for formats without lists.
    """

    input: Mapping[str, str]
    reference: str | None = None
    references: str | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    meta: Sequence[str] = field(default_factory=tuple)
    separator: str | None = None

    @classmethod
    def of(
        cls,
        input: str | Sequence[str] | Mapping[str, str],
        *,
        meta: str | Sequence[str] = (),
        **columns: str | None,
    ) -> Columns:
        """Columns from the short spellings: one name, a list of names, or field -> column.

        Raises UserError for a key that is none of these, and unless exactly one of `reference` and
        `references` is given.
        """
        known = ["input", *(f for f in cls.__dataclass_fields__ if f != "input")]
        for key in columns:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
                raise UserError("unknown key", field=f"columns.{key}", hint=hint)
        names = [input] if isinstance(input, str) else input
        fields = dict(names) if isinstance(names, Mapping) else {n.split(".")[-1]: n for n in names}
        if not fields:
            raise UserError("no column feeds the prompt", field="columns.input")
        if (columns.get("reference") is None) == (columns.get("references") is None):
            raise UserError(
                "give either `reference` (one answer; a list is one list answer) or `references` "
                "(a list of acceptable answers)",
                field="columns",
            )
        return cls(fields, meta=(meta,) if isinstance(meta, str) else tuple(meta), **columns)

    @property
    def answer(self) -> str:
        """The column that holds the answer or answers."""
        return self.reference or self.references or ""


def examples(rows: Sequence[Row], columns: Columns, choices: Sequence[str] | None = None) -> list[Example]:
    """One example a row, in order.

    Ids come from the id column or, without one, from a hash of the input, so that a row keeps its id when
    others come or go (identical inputs are numbered). With `choices` every reference is a text among them.

    Raises:
        UserError: a column that no row has, a row without answer or input, an id given twice, a label
            outside the choices.
    """
    _check_columns(rows, columns)
    seen: dict[str, Row] = {}
    found = []
    for row in rows:
        fields = {name: _input(row, column) for name, column in columns.input.items()}
        if all(value in ("", [], {}) for value in fields.values()):
            raise _fault(row, "the input is empty", next(iter(columns.input.values())))
        references = _references(row, columns, choices)
        name = _identity(row, columns, fields, seen)
        seen[name] = row
        group = value_of(row, columns.group) if columns.group else None
        meta = {column: value_of(row, column) for column in columns.meta}
        found.append(Example(name, fields, references, None if group in (None, "") else str(group), meta))
    return found


def labels(rows: Sequence[Row], columns: Columns) -> tuple[str, ...]:
    """The distinct answers of the rows, sorted: the choices of a task that says `choices: from data`."""
    _check_columns(rows, columns)
    found = {_label(r) for row in rows for r in _references(row, columns, None)} - {""}
    return tuple(sorted(found))


def content_id(fields: Mapping[str, Json]) -> str:
    """12 hexadecimal digits that depend on the fields' content only."""
    text = json.dumps(fields, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _identity(row: Row, columns: Columns, fields: Mapping[str, Json], seen: Mapping[str, Row]) -> str:
    if columns.id is None:
        name = base = content_id(fields)
        copies = 1
        while name in seen:
            copies += 1
            name = f"{base}-{copies}"
        return name
    value = value_of(row, columns.id)
    if value is None or value == "":
        raise _fault(row, "the row has no id", columns.id)
    name = str(value)
    if name in seen:
        first = seen[name]
        where = f"line {first.line}" if first.file == row.file else f"{first.file}:{first.line}"
        raise _fault(row, f"the id '{name}' was already given in {where}", columns.id)
    return name


def _input(row: Row, column: str) -> Json:
    value = value_of(row, column)
    return "" if value is None else value


def _references(row: Row, columns: Columns, choices: Sequence[str] | None) -> tuple[Json, ...]:
    value = value_of(row, columns.answer)
    if value is None:
        raise _fault(row, "the row has no answer", columns.answer)
    if columns.separator is not None and isinstance(value, str):
        value = [part.strip() for part in value.split(columns.separator) if part.strip()]
    answers: list[Json] = [value]
    if columns.references is not None:
        answers = value if isinstance(value, list) else [value]
        if not answers or any(a is None for a in answers):
            raise _fault(row, "the row has no answer", columns.answer)
    if choices is None:
        return tuple(answers)
    texts = [_label(a) for a in answers]
    for text in texts:
        if text not in choices:
            if not text.strip():
                raise _fault(
                    row, "the row has no answer", columns.answer, "fill the cell, or leave the row out"
                )
            near = difflib.get_close_matches(text, choices, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the choices are {_shortened(choices)}"
            raise _fault(row, f"the label '{text}' is not among the choices", columns.answer, hint)
    return tuple(texts)


def _label(answer: Json) -> str:
    """A choice is a text: 3 is "3", true is "true"."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def value_of(row: Row, column: str) -> Json:
    """The value of a column, None where the row does not have it."""
    if column in row.values:
        return row.values[column]
    value: Any = row.values
    for part in column.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is _MISSING:
            return None
    result: Json = value
    return result


def _check_columns(rows: Sequence[Row], columns: Columns) -> None:
    """Every column that is named must be in the data somewhere; the first file is blamed otherwise."""
    if not rows:
        return
    known = list(dict.fromkeys(name for row in rows[:1000] for name in row.values))
    single = {"id": columns.id, "group": columns.group, "split": columns.split}
    wanted = [
        *((f"columns.input.{field}", column) for field, column in columns.input.items()),
        ("columns.reference" if columns.reference else "columns.references", columns.answer),
        *((f"columns.{key}", column) for key, column in single.items() if column is not None),
        *(("columns.meta", column) for column in columns.meta),
    ]
    for key, column in wanted:
        if column in known or column.split(".")[0] in known:
            continue
        near = difflib.get_close_matches(column, known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"the columns are {_shortened(known)}"
        raise UserError(f"{rows[0].file} has no column '{column}'", field=key, hint=hint)


def _fault(row: Row, what: str, column: str, hint: str | None = None) -> UserError:
    return UserError(what, file=row.file, line=row.line, field=column, hint=hint)


def _shortened(names: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


# --- documents -------------------------------------------------------------------------------


def documents(source: Source, *, base: Path | None = None, encoding: str = "utf-8") -> tuple[Document, ...]:
    """Documents from a text, HTML or PDF file, a folder of those (with its subfolders), or rows with `text`.

    A file's id is its path in the folder without suffix, its title its first heading or else the file name
    (see `breakeven.harness.documents`). Rows may have `id` and `title` beside `text`. Empty ones are left
    out.

    Raises:
        UserError: when there is no text at all, a row lacks its text, or two documents share an id.
    """
    if isinstance(source, str | Path):
        path = readers.resolve(source, base)
        if path is not None and path.is_file() and texts.is_document(path):
            return texts.from_file(path, encoding)
        if path is not None and path.is_dir():
            files = [p for p in sorted(path.rglob("*")) if p.is_file() and texts.is_document(p)]
            if files:
                return texts.from_folder(path, files, encoding)
    rows = [row for split in readers.read(source, base=base, encoding=encoding).values() for row in split]
    return _document_rows(rows, str(source) if isinstance(source, str | Path) else "<documents>")


def _document_rows(rows: Sequence[Row], name: str) -> tuple[Document, ...]:
    found: dict[str, Document] = {}
    for row in rows:
        text = row.values.get("text")
        if not isinstance(text, str):
            raise _fault(row, "a document needs its text", "text")
        if not text.strip():
            continue
        title = str(row.values.get("title") or "")
        given = row.values.get("id")
        identity = str(given) if given is not None else content_id({"title": title, "text": text})
        if identity in found:
            if given is None:
                continue  # the same text twice is one document
            raise _fault(row, f"two documents have the id '{identity}'", "id")
        meta = {k: v for k, v in row.values.items() if k not in ("id", "title", "text") and v is not None}
        found[identity] = Document(identity, text, title, meta)
    if not found:
        raise UserError("there is no document", file=name)
    return tuple(found.values())


# --- damaged text ----------------------------------------------------------------------------


def damage(text: str) -> str | None:
    """What is wrong with the characters of a text: a stray byte-order mark, lost characters, mojibake.

    Mojibake is UTF-8 that was read as Windows-1252 ("cafÃ©", "donâ€™t"): a run of non-ASCII characters that
    turns into fewer, valid ones when read back. Returns None for a sound text.
    """
    if "\ufeff" in text:
        return "a byte-order mark inside the text"
    if "\ufffd" in text:
        return "a replacement character (\ufffd): something was lost in decoding"
    for run in re.findall(r"[^\x00-\x7f]{2,}", text):
        try:
            repaired = _bytes_1252(run).decode("utf-8")
        except (UnicodeEncodeError, UnicodeDecodeError):
            continue
        return f"mojibake: '{run}' is probably '{repaired}'"
    return None


def _bytes_1252(run: str) -> bytes:
    """Windows-1252 bytes, the five undefined ones passed through as C1 controls, as browsers do."""
    return b"".join(c.encode("latin-1") if "\x80" <= c <= "\x9f" else c.encode("cp1252") for c in run)
