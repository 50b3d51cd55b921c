"""Metrics of code: SQL by its text and by what it returns, Python by whether it is Python."""

from __future__ import annotations

import ast
import random
import re
import sqlite3
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from breakeven.harness._answers import answer_text
from breakeven.harness._metric_parts import Judged, best, right_or_wrong
from breakeven.harness.contracts import Example, Json, Metric, Prediction, Score, Services
from breakeven.harness.errors import UserError

_FENCED = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
_SQL_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\w+|[^\w\s]")


def code(output: str) -> str:
    """The code of an answer: what stands in its first fence, else all of it."""
    fenced = _FENCED.search(output)
    return (fenced[1] if fenced else output).strip()


# --- SQL by its text -------------------------------------------------------------------------


def sql_match() -> Metric:
    """1 if two SQL statements have the same tokens, whatever case, spacing and kind of quotes they are in."""

    def compare(output: str, reference: Json) -> Score:
        return right_or_wrong(sql_tokens(output) == sql_tokens(answer_text(reference)))

    return Judged("sql_match", best(compare), binary=True)


def statement(output: str) -> str:
    """The first SQL statement of an answer, without its semicolon."""
    for found in _SQL_TOKEN.finditer(text := code(output)):
        if found[0] == ";":
            return text[: found.start()].strip()
    return text


def sql_tokens(output: str) -> tuple[str, ...]:
    """Tokens of the first statement; those outside of quotes in lower case."""
    tokens = []
    for token in _SQL_TOKEN.findall(statement(output)):
        if token[0] in "'\"":
            tokens.append(f"'{token[1:-1]}'")
        else:
            tokens.append(token.lower())
    return tuple(tokens)


# --- SQL by what it returns ------------------------------------------------------------------

#: Databases of made-up rows that two queries are compared on, and rows of each of their tables.
DATABASES, ROWS = 5, 40
#: Steps of SQLite's virtual machine, and rows and bytes of a result, beyond which a query is given up.
STEPS, MOST_ROWS, MOST_BYTES = 2_000_000, 10_000, 100_000
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_MAKING = _ALLOWED | {
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_PRAGMA,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_REINDEX,
}
_COMPARED = re.compile(
    r"(\w+)\s*(?:=|!=|<>|<=|>=|<|>|LIKE|BETWEEN|AND)\s*('(?:[^']|'')*'|\"[^\"]*\"|-?\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
_WORDS = ("oak", "elm", "ash", "fir", "yew")
_DATES = ("2019-05-01", "2022-11-30", "2024-02-29", "2024-07-14", "2025-03-08")


def sql_execution(*, schema: str = "context") -> Metric:
    """1 if two queries return the same rows in SQLite, on made-up rows in the tables of the example.

    As in test-suite accuracy (Zhong et al. 2020, arXiv 2010.02840), several databases are filled with values
    that the reference asks about and others; order counts where the reference orders. Two different queries
    can agree on all of them, so it errs on the generous side. Where the reference does not run, or never
    returns anything, `sql_match` decides. Queries run in memory, may only read, and are given up beyond a
    number of steps.

    Args:
        schema: the field of the input that holds the CREATE TABLE statements.
    """
    return _Execution("sql_execution", best(lambda output, reference: Score(0.0)), binary=True, schema=schema)


@dataclass(eq=False)
class _Execution(Judged):
    schema: str = "context"

    def score(self, example: Example, prediction: Prediction, services: Services | None) -> Score:
        tables = example.input.get(self.schema)
        if not isinstance(tables, str):
            raise UserError(
                f"example '{example.id}' has no CREATE TABLE statements",
                field=self.schema,
                hint="say in which field of the input they are: {metric: sql_execution, schema: FIELD}",
            )
        scores = [_compared(tables, prediction.output, answer_text(r)) for r in example.references]
        return max(scores, key=lambda s: s.value)


def _compared(tables: str, output: str, reference: str) -> Score:
    wanted, given = statement(reference), statement(output)
    expected = _expected(tables, wanted)
    if not any(expected):
        same = sql_tokens(output) == sql_tokens(reference)
        return Score(float(same), {"why": "the reference returns nothing in SQLite: compared as text"})
    ordered = bool(re.search(r"\bORDER\s+BY\b", wanted, re.IGNORECASE))
    for number, rows in enumerate(expected):
        found = run_query(tables, wanted, number, given)
        if isinstance(found, str):
            return right_or_wrong(False, why=found)
        if (found if ordered else Counter(found)) != (rows if ordered else Counter(rows or ())):
            return right_or_wrong(False, why="other rows")
    return Score(1.0)


@lru_cache(maxsize=4096)
def _expected(tables: str, reference: str) -> tuple[tuple[Any, ...] | None, ...]:
    """The reference's rows in each database; None where it does not run."""
    found = [run_query(tables, reference, number, reference) for number in range(DATABASES)]
    return tuple(None if isinstance(rows, str) else rows for rows in found)


def run_query(tables: str, reference: str, number: int, query: str) -> tuple[Any, ...] | str:
    """Rows of a query in the database of that number, or why there are none.

    The database holds rows for `reference`, the same for every query that is compared with it.
    """
    connection = sqlite3.connect(":memory:")
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        steps = iter(range(STEPS // 1000))
        connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
        connection.set_authorizer(_only_making)
        connection.executescript(f"{tables};")
        _fill(connection, reference, random.Random(f"{number} {tables}"))
        connection.commit()
        connection.set_authorizer(_only_reading)
        rows = connection.execute(query).fetchmany(MOST_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return "more rows than are compared" if len(rows) > MOST_ROWS else tuple(rows)


def _only_making(action: int, first: str | None, second: str | None, *where: Any) -> int:
    """Tables and rows: the statements of the data set may reach no file either."""
    unsafe = action == sqlite3.SQLITE_PRAGMA and first != "table_info"
    return sqlite3.SQLITE_OK if action in _MAKING and not unsafe else sqlite3.SQLITE_DENY


def _only_reading(action: int, first: str | None, second: str | None, *where: Any) -> int:
    unsafe = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() == "load_extension"
    return sqlite3.SQLITE_OK if action in _ALLOWED and not unsafe else sqlite3.SQLITE_DENY


def _fill(connection: sqlite3.Connection, reference: str, draw: random.Random) -> None:
    """Rows in every table: values that the reference compares a column with, beside others near them."""
    asked: dict[str, list[Any]] = {}
    literals: list[Any] = []
    for column, raw in _COMPARED.findall(reference):
        value = raw[1:-1].replace("''", "'") if raw[0] in "'\"" else float(raw) if "." in raw else int(raw)
        asked.setdefault(column.lower(), []).append(value)
        literals.append(value)
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    ).fetchall()
    for (table,) in tables:
        columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        marks = ", ".join("?" * len(columns))
        rows = [
            tuple(_value(c[1], str(c[2]), n, asked, literals, draw) for c in columns) for n in range(ROWS)
        ]
        connection.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({marks})', rows)


def _value(
    column: str,
    kind: str,
    row: int,
    asked: dict[str, list[Any]],
    literals: Sequence[Any],
    draw: random.Random,
) -> Any:
    name, kind = column.lower(), kind.upper()
    if name == "id":
        return row
    if draw.random() < 0.08:
        return None
    numeric = any(word in kind for word in ("INT", "REAL", "NUM", "FLOAT", "DOUBLE", "DEC"))
    pool = list(asked.get(name, ())) or ([v for v in literals if draw.random() < 0.2] if not numeric else [])
    near = list(_near(pool, numeric, draw))
    if pool and draw.random() < 0.5:
        return draw.choice(pool)
    if near and draw.random() < 0.5:
        return draw.choice(near)
    if numeric:
        return draw.randrange(8) if "INT" in kind else round(draw.uniform(0, 9), 1)
    return draw.choice(_DATES if "DATE" in kind or "TIME" in kind else _WORDS)


def _near(pool: Sequence[Any], numeric: bool, draw: random.Random) -> Iterator[Any]:
    """Values just beside those asked about, which tell < from <= and = from LIKE."""
    for value in pool:
        if isinstance(value, int | float):
            yield value + draw.choice((-1, 1)) * draw.choice((1, 2, 7))
        elif not numeric:
            yield str(value).swapcase()


# --- Python ----------------------------------------------------------------------------------


def python_parses() -> Metric:
    """1 if the code of the answer is Python that parses (`ast`); nothing is run, and the reference is not
    looked at."""

    def judge(output: str, references: Sequence[Json]) -> Score:
        text = code(output)
        if not text:
            return right_or_wrong(False, why="no code")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in strings
                ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return right_or_wrong(False, why=str(error).splitlines()[0] if str(error) else repr(error))
        return Score(1.0)

    return Judged("python_parses", judge, binary=True)
