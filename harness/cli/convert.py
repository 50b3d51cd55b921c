"""`breakeven convert`: training data from one format into another, several data sets into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from breakeven.harness import rows
from breakeven.harness.errors import UserError
from breakeven.harness.rows import sources, writing


def convert(
    paths: Sequence[str],
    to: str,
    out: Path,
    format: str = "",
    columns: Sequence[str] = (),
    ratios: Sequence[float] = (),
    examples: int | None = None,
    split: str = "",
    force: bool = False,
) -> None:
    """Write the rows of `paths` to `out` in the format `to`, and say what was read as what.

    Args:
        format: of all data sets; recognised one by one where "".
        columns: "field=column" each, for columns that are called otherwise.
        ratios: one for each path, for a mixture.
        examples: rows of the mixture.
        split: which split of a folder or Hub data set; needed where there are several.

    Raises:
        UserError: for a row that cannot be held without loss, with file and line. Nothing is written then.
    """
    rows.named(to, field="--to")
    if out.exists() and not force:
        raise UserError("is there already", file=out, hint="take another name, or --force to overwrite")
    if ratios and len(ratios) != len(paths):
        raise UserError(
            f"{len(ratios)} ratios for {len(paths)} data sets", field="--ratio", hint="give one for each"
        )
    renamed: dict[str, str] = {}
    for field, column in map(_pair, columns):
        if renamed.setdefault(field, column) != column:
            what = f"'{field}' is to be the column '{renamed[field]}' already"
            raise UserError(what, field="--column", hint="a field has one column")
    parts: list[dict[str, Any]] = [
        {"path": path, "format": format or None, "columns": renamed} for path in paths
    ]
    for part, ratio in zip(parts, ratios, strict=False):
        part["ratio"] = ratio
    found = sources.read(sources.source({"mix": parts, "examples": examples}))
    names = [name for name in found.splits if not split or name == split]
    if len(names) != 1:
        there = ", ".join(name or "(none)" for name in found.splits)
        raise UserError(f"the data have the splits {there}", field="--split", hint="say which to convert")
    read = found.splits[names[0]]
    writing.write(read, to, out)
    for path, read_as in found.formats.items():
        print(f"{path}: {found.taken[path]:,} rows of {read_as}")
    print(f"wrote {len(read):,} rows of {to}: {out}")


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals or not field or not column:
        raise UserError(f"'{text}' names no column", field="--column", hint="write it as field=column")
    return field, column
