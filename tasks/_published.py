"""Rows of a published data set, from the Hub or a file; of a shipped stand-in where nobody names one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from breakeven.harness import readers
from breakeven.harness.errors import UserError

DATA = Path(__file__).parent / "data"


def stand_in(task: str) -> Path:
    """The shipped rows of a task, each with its split."""
    return DATA / task / "rows.jsonl"


def rows(path: str | Path, columns: Sequence[str], most: int | None, seed: int) -> list[dict[str, Any]]:
    """At most so many rows of a Hub data set or a file, drawn by `seed`, with an id by their place in it.

    Raises:
        UserError: it cannot be read, or a row lacks one of the columns.
    """
    read = [row for split in readers.read(path).values() for row in split]
    for row in read:
        missing = next((name for name in columns if not str(row.values.get(name) or "").strip()), None)
        if missing is not None:
            raise UserError(
                f"the row has no {missing}", file=row.file, line=row.line, field=missing,
                hint=f"it needs the columns {', '.join(columns)}",
            )  # fmt: skip
    chosen = list(enumerate(read))
    if most is not None and len(chosen) > most:
        chosen = random.Random(seed).sample(chosen, most)
    return [{"id": f"r{place}", **_kept(row.values)} for place, row in sorted(chosen, key=lambda c: c[0])]


def _kept(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "id"}
