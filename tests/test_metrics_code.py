"""Metrics of code: SQL by text and by what it returns, Python by whether it parses; nothing escapes."""

from __future__ import annotations

from pathlib import Path

import pytest

from breakeven.harness._metrics_code import run_query
from breakeven.harness.contracts import Example, Prediction
from breakeven.harness.errors import UserError
from breakeven.harness.metrics import build

BOATS = "CREATE TABLE boats (id INTEGER, name VARCHAR, length REAL, built DATE)"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"


def value(metric: str, output: str, reference: str, **fields: str) -> float:
    example = Example("e", {"context": BOATS, **fields}, (reference,))
    return build(metric).score(example, Prediction("e", output), None).value


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("select name FROM boats where name='Una'", 1),
        ('SELECT name\nFROM boats\nWHERE name = "Una";', 1),
        ("```sql\nSELECT name FROM boats WHERE name = 'Una'\n```\nThis finds her.", 1),
        ("SELECT name FROM boats WHERE name = 'Una'; DROP TABLE boats", 1),
        ("SELECT name FROM boats WHERE name = 'una'", 0),
        ("SELECT name FROM boats WHERE name <> 'Una'", 0),
        ("", 0),
    ],
)
def test_sql_matches_whatever_its_case_spacing_and_quotes(output: str, right: int) -> None:
    assert value("sql_match", output, "SELECT name FROM boats WHERE name = 'Una'") == right


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("SELECT b.name FROM boats AS b WHERE NOT b.length <= 4", 1),
        ("SELECT name FROM boats WHERE length >= 4", 0),
        ("SELECT name, length FROM boats WHERE length > 4", 0),
        ("SELECT name FROM boats WHERE length > 4 ORDER BY name", 1),
        ("SELECT nam FROM boats", 0),
        ("The boats that are longer than 4 metres", 0),
    ],
)
def test_another_query_with_the_same_rows_is_right(output: str, right: int) -> None:
    assert value("sql_execution", output, "SELECT name FROM boats WHERE length > 4") == right


def test_order_counts_where_the_reference_orders() -> None:
    ordered = "SELECT id FROM boats ORDER BY id DESC"
    assert value("sql_execution", "SELECT id FROM boats ORDER BY -id", ordered) == 1
    assert value("sql_execution", "SELECT id FROM boats", ordered) == 0


def test_a_reference_that_does_not_run_is_compared_as_text() -> None:
    broken = "SELECT 2001 FRM boats"
    assert value("sql_execution", "select 2001 frm boats", broken) == 1
    assert value("sql_execution", "SELECT 2002 FRM boats", broken) == 0


def test_the_field_with_the_tables_is_asked_for() -> None:
    with pytest.raises(UserError, match="no CREATE TABLE statements"):
        build("sql_execution").score(Example("e", {"q": "?"}, ("SELECT 1",)), Prediction("e", "x"), None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DELETE FROM boats", "not authorized"),
        ("ATTACH DATABASE 'stolen.db' AS s", "not authorized"),
        ("VACUUM INTO 'stolen.db'", "authorization denied"),
        ("PRAGMA writable_schema = 1", "not authorized"),
        ("SELECT load_extension('x')", "not authorized"),
        ("SELECT zeroblob(2000000000)", "too big"),
        (ENDLESS, "interrupted"),
    ],
)
def test_a_query_can_only_read_and_not_for_long(
    query: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_query(BOATS, "SELECT 1", 0, query)
    assert isinstance(found, str)
    assert words in found
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tables", ["ATTACH DATABASE 'stolen.db' AS s", "VACUUM INTO 'stolen.db'", ENDLESS])
def test_the_tables_of_a_data_set_reach_no_file_either(
    tables: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(run_query(tables, "SELECT 1", 0, "SELECT 1"), str)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("def f(x):\n    return x + 1", 1),
        ("Here it is:\n```python\nprint('\\d')\n```\nIt prints.", 1),
        ("def f(x)\n    return x", 0),
        ("Here is a function.", 0),
        ("", 0),
        ("(" * 10_000, 0),
        ("x = '\0'", 0),
    ],
)
def test_python_is_what_parses(output: str, right: int) -> None:
    assert value("python_parses", output, "anything") == right
