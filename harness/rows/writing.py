"""Rows into a file: JSONL, JSON, CSV or Parquet. What was written is read back before it counts.

A table holds less than JSON does (a CSV cell only text), so whether a file is without loss is not argued but
tried: a row that comes back as another one is refused, and the file is not written.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from breakeven.harness import readers, rows, store
from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows.conversation import Conversation
from breakeven.harness.rows.sources import Read

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def write(read: Sequence[Read], format: str, path: Path) -> None:
    """Write conversations as rows of a format; the whole file or nothing.

    Raises:
        UserError: with the file and line of a row that the format or the file cannot hold.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"cannot write '{path.suffix or path.name}'", field="--out",
                        hint=f"known are {', '.join(SUFFIXES)}")  # fmt: skip
    made = list(rows.written(read, format))
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / f"rows{path.suffix.lower()}"
        trial.write_bytes(_encoded(made, read, path.suffix.lower()))
        _check_same(trial, read, format, path)
        store.write_bytes(path, trial.read_bytes())


def _encoded(made: Sequence[dict[str, Json]], read: Sequence[Read], suffix: str) -> bytes:
    if suffix != ".parquet":
        for row, (source, _) in zip(made, read, strict=True):
            for key, value in row.items():
                _check_json(value, source, key)
    if suffix == ".jsonl":
        return "".join(store.dumps(row) + "\n" for row in made).encode()
    if suffix == ".json":
        return (store.dumps(list(made), indent=1) + "\n").encode()
    if suffix == ".csv":
        return _csv(made, read)
    return _parquet(made)


def _check_json(value: Any, source: Row, field: str) -> None:
    """Raises UserError for what a table holds and JSON does not: a timestamp, bytes, NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        what = f"the number {value}"
    elif value is None or isinstance(value, str | int | float):
        return
    elif isinstance(value, list | tuple | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_json(inner, source, field)
        return
    else:
        what = f"values of type {type(value).__name__} ({str(value)[:40]})"
    raise UserError(
        f"JSON does not have {what}",
        file=source.file,
        line=source.line,
        field=field,
        hint="drop the column, or write Parquet",
    )


def _csv(made: Sequence[dict[str, Json]], read: Sequence[Read]) -> bytes:
    columns = list(dict.fromkeys(key for row in made for key in row))
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row, (source, _) in zip(made, read, strict=True):
        for key, value in row.items():
            if not isinstance(value, str | list):
                raise UserError(
                    f"a CSV file cannot tell {json.dumps(value)[:40]} from the text",
                    file=source.file,
                    line=source.line,
                    field=key,
                    hint="drop the column, or write JSONL or Parquet",
                )
        writer.writerow([_cell(row.get(column)) for column in columns])
    return buffer.getvalue().encode("utf-8", "surrogatepass")


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parquet(made: Sequence[dict[str, Json]]) -> bytes:
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    columns = list(dict.fromkeys(key for row in made for key in row))
    try:
        table = pyarrow.table({c: [row.get(c) for row in made] for c in columns})
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink)
    except (pyarrow.ArrowException, UnicodeEncodeError, OverflowError) as error:
        what = str(error).split("\n")[0]
        raise UserError(
            f"a Parquet file cannot hold the rows: {what}", field="--out", hint="write JSONL"
        ) from error
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _check_same(trial: Path, read: Sequence[Read], format: str, path: Path) -> None:
    try:
        back = rows.conversations(readers.read_file(trial), format) if read else []
    except UserError as error:
        raise UserError(
            f"{path.suffix} does not hold what is in the rows: {error.what}",
            field="--out",
            hint="write JSONL",
        ) from error
    for (source, meant), found in zip(read, back, strict=False):
        if not _same(meant, found):
            raise UserError(
                f"the row would come back as another one from {path.suffix}",
                file=source.file,
                line=source.line,
                field="--out",
                hint="write JSONL",
            )
    if len(back) != len(read):
        raise UserError(f"{len(read)} rows would come back as {len(back)}", field="--out", hint="write JSONL")


def _same(a: Any, b: Any) -> bool:
    """Equal, and NaN where the other is NaN."""
    if a == b:
        return True
    if isinstance(a, Conversation) and isinstance(b, Conversation):
        return a.turns == b.turns and a.tools == b.tools and _same(a.extra, b.extra)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
