"""Rows are what stands in their file, every value as it is; what cannot be so is refused with its line."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakeven.harness import readers
from breakeven.harness.errors import UserError

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
    """A JSON value, of the kinds that tables change."""
    kinds: list[Callable[[], Any]] = [
        lambda: rng.choice(TEXTS),
        lambda: rng.choice([0, 1, -7, 2**53 - 1, -(2**53), 2**63 - 1, 10**30]),
        lambda: rng.choice([True, False, None]),
        lambda: rng.choice([0.1, 1.0, 1e-12, 0.123456789012345, 1e300]),
        lambda: [anything(rng, depth + 1) for _ in range(rng.randrange(3))],
        lambda: {rng.choice(TEXTS): anything(rng, depth + 1) for _ in range(rng.randrange(3))},
    ]
    return rng.choice(kinds if depth < 3 else kinds[:4])()


def table(rng: random.Random) -> list[dict[str, Any]]:
    """Rows in which a column may hold anything, and be missing now and then."""
    names = rng.sample("abcdé", rng.randint(1, 4))
    return [
        {name: anything(rng) for name in names if rng.random() < 0.9 or name == names[0]}
        for _ in range(rng.randint(1, 6))
    ]


def exactly(rows: list[dict[str, Any]]) -> str:
    """Values with their types: 1, 1.0 and True are three things."""
    return repr(rows)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_rows_of_json_are_exactly_what_python_reads(tmp_path: Path, suffix: str) -> None:
    rng = random.Random(4)
    for number in range(150):
        records = table(rng)
        columns = list(dict.fromkeys(key for row in records for key in row))
        file = tmp_path / f"{number}{suffix}"
        texts = [json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in records]
        file.write_text("\n".join(texts) if suffix == ".jsonl" else f"[{', '.join(texts)}]")
        meant = [{column: json.loads(text).get(column) for column in columns} for text in texts]
        assert exactly([dict(row.values) for row in readers.read_file(file)]) == exactly(meant)


@pytest.mark.parametrize(
    "values",
    [
        ["x", 3, "007", "1e5", "null", "[1]"],
        [1e-12, 0.1234567890123456, 5],
        [2**53 + 1, 10**30],
        [["x"], "3"],
    ],
    ids=repr,
)
def test_a_value_does_not_depend_on_the_others_of_its_column(tmp_path: Path, values: list[Any]) -> None:
    rows = [{"a": value} for value in values]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert exactly([dict(row.values) for row in readers.read_file(tmp_path / "a.jsonl")]) == exactly(rows)
    assert exactly([dict(row.values) for row in readers.read(rows)[""]]) == exactly(rows)


@pytest.mark.parametrize(
    ("row", "field", "what"),
    [
        ('{"a": 1, "b": 2, "a": 3}', None, 'the key "a" stands twice in one object'),
        ('{"a": [{"role": "x", "role": "y"}]}', None, 'the key "role" stands twice'),
        ('{"a": NaN}', None, "holds NaN, which is no number of JSON"),
        ('{"a": -Infinity}', None, "holds -Infinity"),
        ('{"a": 1e400}', None, "the number 1e400, which is too large"),
        (f'{{"a": {"1" * 5000}}}', None, "thousands of digits"),
        (f'{{"a": {"[" * 100_000}}}', None, "nested more than 100 deep"),
        (f'{{"a": {"[" * 200 + "]" * 200}}}', None, "nested more than 100 deep"),
        ('{"a": ["\\ud83d"]}', "a", "half of a character"),
        ('{"a": {"\\ud83d": 1}}', "a", 'the key "\\ud83d" holds half of a character'),
        ('{"\\ud83d": 1}', None, "half of a character"),
    ],
    ids=lambda value: str(value)[:30],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_what_json_would_change_or_choke_on_is_refused_with_its_line(
    tmp_path: Path, suffix: str, row: str, field: str | None, what: str
) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_text(f'{{"a": 0}}\n\n{row}\n' if suffix == ".jsonl" else f'[{{"a": 0}},\n\n  {row}\n]')
    with pytest.raises(UserError) as caught:
        readers.read_file(file)
    assert (caught.value.file, caught.value.line, caught.value.field) == (file, 3, field)
    assert what in caught.value.what
    assert str(caught.value).isprintable()


def test_a_json_list_gives_the_lines_that_its_rows_begin_on(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[\n {"a": "x",\n  "b": "y"}\n ,{"a": "z"}, {"a": "w"}\n]\n')
    assert [row.line for row in readers.read_file(file)] == [2, 4, 4]
    file.write_text(" [ ] ")
    assert readers.read_file(file) == []


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('{"a": 1}\n{"a": 2}', 2, "name the file .jsonl"),
        ('{"a": 1}', None, "an object where a list of objects is wanted"),
        ('[{"a": 1},\n 2]', 2, "item 2 is a number"),
        ('[{"a": 1}\n {"a": 2}]', 2, "expecting ',' delimiter"),
        ('[{"a": 1},\n]', 2, "expecting value"),
        ('[{"a": 1}\n', 2, "expecting ',' delimiter"),
        ('[{"a": 1}]\n]', 2, "extra data"),
        ("", 1, "expecting value"),
    ],
)
def test_a_broken_json_list_is_named_by_its_line(
    tmp_path: Path, text: str, line: int | None, what: str
) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=re.escape(what)) as caught:
        readers.read_file(tmp_path / "a.json")
    assert caught.value.line == line


def test_rows_of_a_program_are_json_or_refused() -> None:
    given = [{"a": (1, np.float64(0.5)), "b": np.array([1, 2]), "c": float("nan"), "d": np.int64(3)}]
    found = [dict(row.values) for row in readers.read(given)[""]]
    assert exactly(found) == exactly([{"a": [1, 0.5], "b": [1, 2], "c": None, "d": 3}])
    for value, what in [
        (datetime(2026, 1, 2), "type datetime, which JSON"),
        (b"x", "type bytes"),
        (float("inf"), "infinite"),
    ]:
        with pytest.raises(UserError, match=what) as caught:
            readers.read([{"a": 1}, {"a": value}])
        assert (caught.value.line, caught.value.field) == (2, "a")


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
    (tmp_path / "rows.jsonl").write_text('{"share": 0.5}\n{"share": "half"}\n')
    assert [row.values["share"] for row in readers.read_file(tmp_path / "rows.jsonl")] == [0.5, "half"]
