"""What rows look like: which columns could be input and answer, and what kind of answer it is.

Guesses for `breakeven init`, each of which the person can change in the file that is written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from breakeven.harness.contracts import Json
from breakeven.harness.readers import SPLIT_NAMES, Row

Kind = Literal["choices", "list", "fields", "number", "short text", "long text"]

_INPUTS = ("text", "question", "input", "message", "query", "prompt", "body", "utterance", "title", "content")
_ANSWERS = ("label", "answer", "answers", "reference", "references", "intent", "category", "class", "target",
            "output", "completion", "response", "summary", "tags")  # fmt: skip
_SEVERAL = ("answers", "references", "targets")
MAX_CHOICES = 200
ROWS_PER_CHOICE = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """The kind of answer a column holds and what follows from it for a task.

    `column` may reach into a nested value ("answers.text"); `several` says that its lists hold acceptable
    answers, one of which is enough.
    """

    kind: Kind
    column: str
    several: bool
    choices: tuple[str, ...]
    metrics: tuple[str, ...]
    max_tokens: int
    instructions: str


@dataclass(frozen=True, slots=True)
class Formatted:
    """Rows in a format of training data, as a task has them; whether they bring system messages along."""

    format: str
    rows: list[Row]
    instructed: bool


def formatted(rows: Sequence[Row]) -> Formatted | None:
    """None where the columns tell no format that a task can be made of.

    Raises:
        UserError: with file and line, for a row at fault.
    """
    from breakeven.harness.rows import conversations, detect
    from breakeven.harness.rows.task import task_rows

    format = detect(rows)
    if format is None or format == "text":
        return None
    read = list(zip(rows, conversations(rows, format), strict=True))
    made = task_rows({"": read})
    instructed = any(conversation.turns[0].role == "system" for _, conversation in read)
    return Formatted(format, list(made.splits[""]), instructed)


def columns_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows[:1000] for name in row.values))


def likely(columns: Sequence[str], kind: Literal["input", "reference"]) -> str | None:
    """The column whose name gives it away, None when none does."""
    names = _INPUTS if kind == "input" else _ANSWERS
    lower = {column.lower(): column for column in columns}
    return next((lower[name] for name in names if name in lower), None)


def id_column(rows: Sequence[Row], taken: Sequence[str]) -> str | None:
    """A column called id (or so) whose values are all there and all different."""
    for column in columns_of(rows):
        if column.lower() in ("id", "_id", "uid", "uuid") and column not in taken:
            values = [row.values.get(column) for row in rows]
            if None not in values and "" not in values and len({str(v) for v in values}) == len(rows):
                return column
    return None


def split_column(rows: Sequence[Row]) -> str | None:
    """A column called split whose values all name one."""
    for column in columns_of(rows):
        if column.lower() in ("split", "partition", "fold"):
            values = {str(row.values.get(column)).lower() for row in rows}
            if values <= set(SPLIT_NAMES):
                return column
    return None


def shape(rows: Sequence[Row], column: str, several: bool | None = None) -> Shape:
    """What kind of answer the column holds.

    Closed choices when answers are short texts that repeat: at most 200 different ones, each three times on
    average. Answers of up to eight words count as short text.

    Args:
        several: whether a list holds several acceptable answers; guessed from the column's name if None.
    """
    values = [row.values.get(column) for row in rows if row.values.get(column) is not None]
    if values and all(isinstance(v, dict) and isinstance(v.get("text"), list) for v in values):
        return shape([_inside(row, column) for row in rows], f"{column}.text", True)  # the layout of SQuAD
    lists = bool(values) and all(isinstance(v, list) for v in values)
    if several is None:
        several = lists and column.lower().split(".")[0] in _SEVERAL
    if lists and several:
        values = [answer for v in values if isinstance(v, list) for answer in v]
    kind = _kind(values)
    named = (text for text in map(_text, values) if text.strip())  # a row without an answer is no choice
    choices = tuple(sorted(set(named))) if kind == "choices" else ()
    metrics, instructions = _DEFAULTS[kind]
    longest = max((len(_text(v)) for v in values), default=16)
    return Shape(kind, column, bool(lists and several), choices, metrics, _room(longest, kind), instructions)


_DEFAULTS: dict[Kind, tuple[tuple[str, ...], str]] = {
    "choices": (("accuracy", "macro_f1"), "Name the one label that fits. Answer with the label only."),
    "list": (("set_f1", "exact_match"), "List what is asked for, separated by commas, and nothing else."),
    "fields": (("json_field_f1", "exact_match"), "Answer with one JSON object and nothing else."),
    "number": (("numeric_match", "exact_match"), "Answer with the number only."),
    "short text": (
        ("token_f1", "normalised_match"),
        "Answer as briefly as possible, without a sentence around the answer.",
    ),
    "long text": (("rouge_l", "chrf"), "Write the answer."),
}


def _kind(values: Sequence[Json]) -> Kind:
    if not values:
        return "short text"
    if all(isinstance(v, list) for v in values):
        return "list"
    if all(isinstance(v, dict) or _is_json_object(v) for v in values):
        return "fields"
    texts = [_text(v) for v in values]
    different = len(set(texts))
    repeats = different <= MAX_CHOICES and len(texts) >= ROWS_PER_CHOICE * different and different > 1
    if repeats and max(map(len, texts)) <= 60:
        return "choices"
    if all(_is_number(t) for t in texts):
        return "number"
    words = sorted(len(t.split()) for t in texts)
    return "short text" if words[len(words) // 2] <= 8 else "long text"


def _inside(row: Row, column: str) -> Row:
    value = row.values.get(column)
    inner = value.get("text") if isinstance(value, dict) else None
    return Row({**row.values, f"{column}.text": inner}, row.file, row.line)


def _room(characters: int, kind: Kind) -> int:
    """Tokens for an answer of so many characters, generously: two a token, one and a bit for numbers."""
    needed = characters / 1.2 if kind == "number" else characters / 2
    return max(8 if kind == "choices" else 16, 8 * math.ceil((needed + 2) / 8))


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_json_object(value: Json) -> bool:
    if not isinstance(value, str) or not value.strip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except json.JSONDecodeError:
        return False


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?", text, re.IGNORECASE) is not None
