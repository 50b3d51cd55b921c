"""Plain rows are read without the library for tables, and are what that library would have made of them."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness import readers

TEXTS = [
    "",
    "3",
    "null",
    "[1]",
    '{"a": 1}',
    "NA",
    "01",
    "naïve café",
    "\u2028",
    "\x00",
    "a\nb",
    "😀",
    '"',
    "\\",
    "/",
]


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value, of the kinds that tables change too."""
    kinds: list[Callable[[], Any]] = [
        lambda: rng.choice(TEXTS),
        lambda: rng.choice([0, 1, -7, 2**53 - 1, -(2**53), 2**63 - 1, 10**30]),
        lambda: rng.choice([True, False, None]),
        lambda: rng.choice([0.1, 1.0, 1e-12, 0.123456789012345, 1e300]),
        lambda: [anything(rng, depth + 1) for _ in range(rng.randrange(3))],
        lambda: {rng.choice(TEXTS): anything(rng, depth + 1) for _ in range(rng.randrange(3))},
    ]
    return rng.choice(kinds if depth < 3 else kinds[:4])()


def text(rng: random.Random) -> Any:
    return rng.choice([*TEXTS, None])


def labels(rng: random.Random) -> Any:
    return [rng.choice(TEXTS) for _ in range(rng.randrange(4))]


def table(rng: random.Random) -> list[dict[str, Any]]:
    """Rows in which each column has one kind of value, and is missing now and then."""
    kinds = {
        name: rng.choice([text, text, labels, anything]) for name in rng.sample("abcdé", rng.randint(1, 4))
    }
    return [
        {name: kind(rng) for name, kind in kinds.items() if rng.random() < 0.9}
        for _ in range(rng.randint(1, 6))
    ]


def numbered(rows: list[dict[str, Any]]) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    return list(enumerate(rows, 1)), list(dict.fromkeys(key for row in rows for key in row))


def exactly(rows: list[readers.Row]) -> str:
    """Values with their types: 1, 1.0 and True are three things."""
    return repr([(row.values, row.file, row.line) for row in rows])


def test_plain_rows_are_what_the_library_makes_of_them() -> None:
    rng, plain = random.Random(4), 0
    for _ in range(600):
        records, columns = numbered(table(rng))
        quick = readers._plain_rows(records, columns, "rows.jsonl")
        if quick is not None:
            plain += 1
            assert exactly(quick) == exactly(readers._through_datasets(records, columns, "rows.jsonl"))
    assert plain > 100


@pytest.mark.parametrize(
    "value",
    ["\ud800", ["\ud800"], {"\ud800": "a"}, 0.5, [0.5], 2**53, ("a",), b"x"],
    ids=repr,
)
def test_what_the_library_may_change_is_left_to_it(value: Any) -> None:
    records, columns = numbered([{"a": value}])
    assert readers._plain_rows(records, columns, "rows") is None


def test_a_text_in_a_column_of_lists_is_left_to_the_library() -> None:
    """There it would be parsed: "3" is 3."""
    records, columns = numbered([{"a": ["x"]}, {"a": "3"}])
    assert readers._plain_rows(records, columns, "rows") is None
    assert readers._through_datasets(records, columns, "rows")[1].values == {"a": 3}


def test_rows_share_nothing_with_those_they_were_made_from() -> None:
    given = [{"text": "a", "labels": ["x"]}]
    found = readers.read(given)[""][0]
    given[0]["labels"].append("y")
    assert found.values == {"text": "a", "labels": ["x"]}


def test_a_file_of_texts_is_read_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # importing it is an error now
    rows = [{"text": "a", "labels": ["x", "y"], "n": 1}, {"text": "b"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.csv").write_text("text,label\na,01\nb,NA\n")
    for name in ("rows.jsonl", "rows.json"):
        found = [row.values for row in readers.read_file(tmp_path / name)]
        assert found == [rows[0], {"text": "b", "labels": None, "n": None}]
    assert [row.values["label"] for row in readers.read_file(tmp_path / "rows.csv")] == ["01", "NA"]
    (tmp_path / "rows.jsonl").write_text('{"share": 0.5}\n')
    with pytest.raises(ImportError):
        readers.read_file(tmp_path / "rows.jsonl")
