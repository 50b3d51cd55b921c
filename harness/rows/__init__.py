"""Rows of training data in all common formats, read into conversations and written from them.

`conversations` reads, `written` writes; a row that a format cannot hold without loss is refused with file,
line, field and a reason. What is inside is a `Conversation`; `rows.task` makes a task's rows of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows.chat import Messages, OpenAI, PromptCompletion
from breakeven.harness.rows.conversation import Conversation as Conversation
from breakeven.harness.rows.conversation import Turn as Turn
from breakeven.harness.rows.fields import without_none
from breakeven.harness.rows.instructions import Alpaca, ShareGPT, Text, Vicuna


class Format(Protocol):
    """A format of rows: `parse` and `render` are pure and inverse, but for spellings that mean the same.

    Attributes:
        name: as files and options call it.
        keys: the row's own fields; every other one is carried along.
        fields: what a row of it must have, in words.
    """

    @property
    def name(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]: ...

    @property
    def fields(self) -> str: ...

    def parse(self, row: Mapping[str, Json]) -> Conversation:
        """Raises UserError with the field at fault."""
        ...

    def render(self, conversation: Conversation) -> dict[str, Json]:
        """Raises UserError where the format cannot hold the conversation."""
        ...


_ALL: tuple[Format, ...] = (Messages(), OpenAI(), PromptCompletion(), Alpaca(), ShareGPT(), Vicuna(), Text())
FORMATS: dict[str, Format] = {known.name: known for known in _ALL}


def named(name: str, field: str = "format") -> Format:
    """The format of a name. Raises UserError for one that is not known."""
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(FORMATS)}"
        raise UserError(f"there is no format '{name}'", field=field, hint=hint)
    return FORMATS[name]


def detect(rows: Sequence[Row]) -> str | None:
    """The format that the columns give away; None where they fit none, or more than one.

    Messages with weights are OpenAI's. Conversations are ShareGPT's, as which all of FastChat's can be read.
    """
    columns = {key for row in rows[:1000] for key, value in row.values.items() if value is not None}
    found = []
    if "messages" in columns:
        found.append("openai" if _weighted(rows[:1000]) else "messages")
    if "conversations" in columns:
        found.append("sharegpt")
    if {"prompt", "completion"} <= columns:
        found.append("prompt-completion")
    if {"instruction", "output"} <= columns:
        found.append("alpaca")
    if columns == {"text"}:
        found.append("text")
    return found[0] if len(found) == 1 else None


def _weighted(rows: Iterable[Row]) -> bool:
    lists = (row.values.get("messages") for row in rows)
    turns = (turn for turns in lists if isinstance(turns, list) for turn in turns)
    return any(isinstance(turn, dict) and turn.get("weight") is not None for turn in turns)


def conversations(rows: Iterable[Row], format: str) -> list[Conversation]:
    """One conversation a row. Raises UserError with the file and line of the first row at fault."""
    known = named(format)
    return [_at(row, known.parse, _unpadded(row, known.keys)) for row in rows]


def _unpadded(row: Row, keys: Sequence[str]) -> Mapping[str, Json]:
    """Values, the format's own without the empty keys that a table put there; in JSON a null is a null."""
    if not row.padded:
        return row.values
    return {key: without_none(value) if key in keys else value for key, value in row.values.items()}


def written(rows: Iterable[tuple[Row, Conversation]], format: str) -> Iterator[dict[str, Json]]:
    """Conversations as rows of a format. Raises UserError with the file and line that one came from."""
    known = named(format)
    for row, conversation in rows:
        yield _at(row, known.render, conversation)


def _at(row: Row, call: Callable[[Any], Any], given: Any) -> Any:
    try:
        return call(given)
    except UserError as error:
        raise UserError(
            error.what, file=row.file, line=row.line, field=error.field, hint=error.hint
        ) from error
