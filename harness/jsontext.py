"""JSON out of text exactly as it stands there, or refused: nothing is dropped or bent silently.

Python's `json` takes the last of two equal keys, reads NaN and 1e999 as numbers, gives up on deep nesting
with an error of its own, and lets half a character pass. Here each of these is a sentence.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from breakeven.harness.errors import UserError

#: Lists and objects within each other: no data are so deep, and whatever follows may recurse.
DEEPEST = 100

_SPACE = re.compile(r"[ \t\r\n]*")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: when it is none.
        UserError: without file and line, for a key that stands there twice, a number that is none or too
            long, half a character, or nesting deeper than `DEEPEST`.
    """
    value, end = _value(text, _after_space(text, 0))
    if (rest := _after_space(text, end)) != len(text):
        raise json.JSONDecodeError("Extra data", text, rest)
    return value


def lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL text by line. Raises UserError with the line of one that is none."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = loads(line)
        except json.JSONDecodeError as e:
            raise UserError(
                f"is not JSON: {e.msg.lower()} at character {e.pos + 1}",
                file=path,
                line=number,
                hint="a JSONL file holds one JSON object a line",
            ) from e
        except UserError as e:
            raise _in_line(e, path, number) from e
        if not isinstance(record, dict):
            raise UserError(
                f"holds {_kind(record)} where an object is wanted",
                file=path,
                line=number,
                hint='for example {"text": "..."}',
            )
        yield number, record


def items(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON list by the line that each begins on. Raises UserError with the line at fault."""
    at = _after_space(text, 0)
    try:
        if not text.startswith("[", at):
            raise UserError(f"holds {_kind(loads(text))} where a list of objects is wanted")
        line, counted, number = 1, 0, 0
        at = _after_space(text, at + 1)
        more = not text.startswith("]", at)
        while more:
            line, counted, number = line + text.count("\n", counted, at), at, number + 1
            try:
                record, end = _value(text, at)
            except UserError as e:
                raise _in_line(e, path, line) from e
            if not isinstance(record, dict):
                what = f"item {number} is {_kind(record)} where an object is wanted"
                raise UserError(what, file=path, line=line)
            yield line, record
            at = _after_space(text, end)
            if more := text.startswith(",", at):
                at = _after_space(text, at + 1)
        if not text.startswith("]", at):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        if (rest := _after_space(text, at + 1)) != len(text):
            raise json.JSONDecodeError("Extra data", text, rest)
    except json.JSONDecodeError as e:
        hint = "One JSON object a line is JSONL: name the file .jsonl" if e.msg == "Extra data" else None
        raise UserError(f"is not JSON: {e.msg.lower()}", file=path, line=e.lineno, hint=hint) from e
    except UserError as e:
        if e.file is not None:
            raise
        raise _in_line(e, path, None) from e


def lone_surrogate(text: str) -> int | None:
    """Position of the first lone surrogate (half an emoji), which no UTF-8 file can hold; None if sound."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return error.start
    return None


def check_characters(value: Any) -> None:
    """Raises UserError, with the key it stands under, for half a character anywhere in a value."""
    stack: list[tuple[str | None, Any]] = [(None, value)]
    while stack:
        key, part = stack.pop()
        if isinstance(part, str) and not _is_whole(part):
            raise UserError(
                "holds half of a character (a lone surrogate)",
                field=key,
                hint="something cut an emoji in two; mend or drop the row",
            )
        if isinstance(part, list):
            stack += [(key, item) for item in part]
        elif isinstance(part, dict):
            for name, item in part.items():
                if not _is_whole(name):
                    raise UserError(
                        f"the key {json.dumps(name)[:60]} holds half of a character (a lone surrogate)",
                        field=key,
                        hint="something cut an emoji in two; mend or drop the row",
                    )
                stack.append((name if key is None else key, item))


def _value(text: str, start: int) -> tuple[Any, int]:
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError:
        raise
    except RecursionError as e:
        raise _too_deep() from e
    except ValueError as e:  # Python turns no number of more than 4,300 digits into a text again
        raise UserError("holds a whole number of thousands of digits", hint="write it as a text") from e
    if text.count("[", start, end) + text.count("{", start, end) > DEEPEST and _is_deep(value):
        raise _too_deep()
    if _HALF_CHARACTER.search(text, start, end):
        check_characters(value)
    return value, end


def _too_deep() -> UserError:
    return UserError(f"holds lists or objects nested more than {DEEPEST} deep")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for part in level
            if isinstance(part, list | dict)
            for inner in (part.values() if isinstance(part, dict) else part)
        ]
    return bool(level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        shown = json.dumps(twice, ensure_ascii=not _is_whole(twice))[:60]
        raise UserError(f"the key {shown} stands twice in one object", hint="only one of them would be read")
    return made


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise UserError(f"holds the number {text[:40]}, which is too large", hint="write it as a text")
    return value


def _no_number(name: str) -> float:
    raise UserError(f"holds {name}, which is no number of JSON", hint="write null where there is none")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_no_number)


def _after_space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _is_whole(text: str) -> bool:
    return text.isascii() or lone_surrogate(text) is None


def _in_line(error: UserError, path: Path, line: int | None) -> UserError:
    return UserError(error.what, file=path, line=line, field=error.field, hint=error.hint)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
