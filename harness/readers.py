"""Rows out of JSONL, JSON, CSV, Parquet, a Hub data set, a folder of those, or a Python iterable.

Every row remembers its file and line, so that whoever finds fault with it can say where. Text files are
read here and not by `datasets`, because its errors name neither line nor field, and because its tables turn
the label "01" into 1, "NA" into nothing, "2026-11-20" into a timestamp and 1e-12 into 0.
What the columns mean is decided in `breakeven.harness.data`.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.harness import jsontext
from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError

#: What counts as data: a path, a Hub id ("org/name", "org/name:config", either with "@revision"), or rows.
Source = str | Path | Iterable[Mapping[str, Any]]

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read: `values` by column, the file (or Hub id) and the 1-based line it starts on.

    `padded` says that it is out of a table (Parquet, the Hub), which gives every object in a column the same
    keys: there, None in an object may stand for a key that it does not have.
    """

    values: Mapping[str, Json]
    file: str
    line: int | None
    padded: bool = False


def read(source: Source, *, base: Path | None = None, encoding: str = "utf-8") -> dict[str, list[Row]]:
    """All rows of a source by split name; "" holds what belongs to no split yet.

    Args:
        source: a file, a folder, a Hub id, or an iterable of mappings (a `datasets.Dataset` is one).
        base: where relative paths start (the folder of the task file); the current folder otherwise.
        encoding: of text files. A byte-order mark is dropped.

    Raises:
        UserError: with file and line, for what cannot be read.
    """
    if not isinstance(source, str | Path):
        return _read_iterable(source)
    path = resolve(source, base)
    if path is None:
        return _read_hub(str(source))
    if path.is_dir():
        return _read_folder(path, encoding)
    return {"": read_file(path, encoding)}


def resolve(source: str | Path, base: Path | None = None) -> Path | None:
    """The existing path that `source` names, or None when it can only be a Hub id.

    Raises UserError when it is neither. A relative path is looked for beside `base`, then here.
    """
    path = Path(source).expanduser()
    candidates = [path] if path.is_absolute() or base is None else [base / path, path]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    text = str(source)
    if isinstance(source, str) and _HUB_ID.fullmatch(text) and path.suffix.lower() not in SUFFIXES:
        return None
    raise UserError(f"there is no such file or folder: {candidates[0]}", hint=_nearby(candidates[0]))


def _nearby(path: Path) -> str | None:
    import difflib

    parent = path.parent
    if not parent.is_dir():
        return f"the folder {parent} does not exist either"
    near = difflib.get_close_matches(path.name, [p.name for p in parent.iterdir()], n=1)
    return f"did you mean {parent / near[0]}?" if near else None


def read_file(path: Path, encoding: str = "utf-8") -> list[Row]:
    """The rows of one file. Raises UserError for a suffix we do not know and for every broken row."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _table(jsontext.lines(read_text(path, encoding), path), str(path))
    if suffix == ".json":
        return _table(jsontext.items(read_text(path, encoding), path), str(path))
    if suffix in (".csv", ".tsv"):
        return _table(_csv_records(path, encoding), str(path))
    if suffix == ".parquet":
        return _read_parquet(path)
    raise UserError(
        f"cannot read '{suffix or path.name}' files", file=path, hint=f"known are {', '.join(SUFFIXES)}"
    )


def _read_folder(folder: Path, encoding: str) -> dict[str, list[Row]]:
    """Every data file of a folder, by name; `train.csv`, `test-2.jsonl` and the like name their split."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError("the folder holds no data file", file=folder, hint=f"known are {', '.join(SUFFIXES)}")
    splits: dict[str, list[Row]] = {}
    for file in files:
        name = SPLIT_NAMES.get(re.split(r"[-_.]", file.stem.lower())[0], "")
        splits.setdefault(name, []).extend(read_file(file, encoding))
    if "" in splits and len(splits) > 1:
        loose = next(f for f in files if re.split(r"[-_.]", f.stem.lower())[0] not in SPLIT_NAMES)
        raise UserError(
            "beside files named after a split this one belongs to none",
            file=loose,
            hint="name it train-..., validation-... or test-..., or move it away",
        )
    return splits


# --- text files ------------------------------------------------------------------------------


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file without its byte-order mark. Raises UserError with the line of a wrong byte."""
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise UserError(f"cannot be read: {e.strerror or e}", file=path) from e
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) and encoding == "utf-8":
        raise UserError(
            "is UTF-16",
            file=path,
            hint=f"save it as UTF-8, for example: iconv -f utf-16 -t utf-8 {path.name}",
        )
    try:
        return raw.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError as e:
        raise UserError(f"there is no encoding '{encoding}'", file=path, field="encoding") from e
    except UnicodeDecodeError as e:
        raise UserError(
            f"byte 0x{raw[e.start]:02x} is not {encoding}",
            file=path,
            line=raw.count(b"\n", 0, e.start) + 1,
            hint=f"save the file as UTF-8; from Windows, for example: iconv -f cp1252 -t utf-8 {path.name}",
        ) from e


def _csv_records(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    text = read_text(path, encoding)
    csv.field_size_limit(sys.maxsize)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header: list[str] | None = None
    start = 1
    while True:
        try:
            record = next(reader, None)
        except csv.Error as e:
            open_quote = "unexpected end of data" in str(e)
            raise UserError(
                "opens a quote that is never closed" if open_quote else f"is not CSV: {e}",
                file=path,
                line=start if open_quote else reader.line_num,
                hint='write a quotation mark inside a quoted field twice: ""',
            ) from e
        if record is None:
            break
        line, start = start, reader.line_num + 1
        if not record:
            continue
        if header is None:
            header = _header(record, path)
        elif len(record) != len(header):
            raise UserError(
                f"the row has {_count(len(record), 'field')}, the header {len(header)} ({', '.join(header)})",
                file=path,
                line=line,
                hint=f"put text that contains '{delimiter}' or a line break in quotation marks",
            )
        else:
            yield line, dict(zip(header, record, strict=True))
    if header is None:
        raise UserError("is empty", file=path, hint="the first line must name the columns")


def _delimiter(text: str) -> str:
    """What separates the columns: what cuts header and first rows alike, or else the header most often."""

    def widths(delimiter: str) -> list[int]:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
        found = []
        try:
            for record in itertools.islice(filter(None, reader), 20):
                found.append(len(record))
        except csv.Error:
            found.append(0)
        return found or [0]

    by_delimiter = {delimiter: widths(delimiter) for delimiter in ",;\t"}
    return max(by_delimiter, key=lambda d: _fit(by_delimiter[d]))


def _fit(widths: Sequence[int]) -> tuple[bool, int]:
    """How well a table of rows of these widths stands: all alike, then a header of many columns."""
    return widths[0] > 1 and len(set(widths)) == 1, widths[0]


def _header(record: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in record]
    for position, name in enumerate(names, 1):
        if not name:
            raise UserError(f"column {position} has no name", file=path, line=1)
        if names.count(name) > 1:
            raise UserError(f"two columns are called '{name}'", file=path, line=1, field=name)
    return names


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


# --- rows ------------------------------------------------------------------------------------


def _table(records: Iterable[tuple[int, Mapping[str, Any]]], name: str) -> list[Row]:
    """Records as rows of the same columns, every value as it is; None where a record has no such column."""
    numbered = list(records)
    columns = list(dict.fromkeys(key for _, record in numbered for key in record))
    return [Row({c: record.get(c) for c in columns}, name, line) for line, record in numbered]


def _read_iterable(source: Iterable[Mapping[str, Any]]) -> dict[str, list[Row]]:
    if isinstance(source, Mapping):  # a DatasetDict, or rows by split
        return {
            SPLIT_NAMES.get(str(split), str(split)): row
            for split, rows in source.items()
            for row in _read_iterable(rows).values()
        }
    if hasattr(source, "features") and hasattr(source, "to_list"):
        return {"": _plain(source, "<data set>")}
    records: list[tuple[int, Mapping[str, Any]]] = []
    for number, record in enumerate(source, 1):
        if not isinstance(record, Mapping):
            raise UserError(f"row {number} of the data is {type(record).__name__} where a mapping is wanted")
        records.append((number, {str(c): _given(v, number, str(c)) for c, v in record.items()}))
    return {"": _table(records, "<rows>")}


def _given(value: Any, number: int, column: str) -> Json:
    """A value of a program's row as JSON: tuples as lists, NaN (pandas says "missing" with it) as None."""
    try:
        made = _copied(value)
        jsontext.check_characters(made)
    except UserError as e:
        raise UserError(e.what, file="<rows>", line=number, field=column, hint=e.hint) from e
    except RecursionError as e:
        raise UserError("is nested too deep", file="<rows>", line=number, field=column) from e
    return made


def _copied(value: Any) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isinf(value):
            raise UserError("holds an infinite number, which JSON does not have")
        return None if math.isnan(value) else float(value)
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _copied(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's numbers and arrays
        return _copied(value.tolist())
    raise UserError(
        f"holds a value of type {type(value).__name__}, which JSON does not have",
        hint="give it as a text or a number, or leave the column out",
    )


# --- datasets --------------------------------------------------------------------------------


def _read_parquet(path: Path) -> list[Row]:
    import datasets
    import pyarrow.parquet  # type: ignore[import-untyped]

    try:
        data = datasets.Dataset(pyarrow.parquet.read_table(path))
    except Exception as e:
        raise UserError(f"is not a readable Parquet file: {e}", file=path) from e
    return _plain(data, str(path))


def _read_hub(name: str) -> dict[str, list[Row]]:
    """A data set of the Hub: "org/name", "org/name:config", either with "@revision"."""
    import datasets

    identifier, _, revision = name.partition("@")
    identifier, _, config = identifier.partition(":")
    try:
        data = _load_from_hub(datasets, identifier, config or None, revision or None)
    except Exception as e:
        reason = str(e).strip().split("\n")[0] or type(e).__name__
        raise UserError(
            f"the Hub data set '{identifier}' could not be loaded: {reason}",
            hint="check its name and the network, or give a local file or folder instead",
        ) from e
    return {SPLIT_NAMES.get(s, s): _plain(d, f"{identifier} ({s})") for s, d in data.items()}


def _load_from_hub(datasets: Any, identifier: str, config: str | None, revision: str | None) -> Any:
    try:
        return datasets.load_dataset(identifier, config, revision=revision)
    except RuntimeError as e:
        # data sets that are still a script are not run; the Hub keeps a Parquet copy of most of them
        if "scripts are no longer supported" not in str(e) or revision is not None:
            raise
        return datasets.load_dataset(identifier, config, revision="refs/convert/parquet")


def _plain(data: Any, name: str) -> list[Row]:
    """The rows of a `datasets.Dataset`, class numbers turned into class names."""
    labels = {c: f for c, f in data.features.items() if type(f).__name__ == "ClassLabel"}
    rows = []
    for number, values in enumerate(data, 1):
        for column, feature in labels.items():
            value = values[column]
            values[column] = None if value is None or value < 0 else feature.int2str(value)
        rows.append(Row(values, name, number, padded=True))
    return rows
