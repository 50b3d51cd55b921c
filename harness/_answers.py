"""Answers as text, both ways: how a reference is written down, and how an output is read.

Pure functions; what a reading is worth is decided by the metrics.
"""

from __future__ import annotations

import ast
import json
import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from breakeven.harness.contracts import Json

# --- writing ---------------------------------------------------------------------------------


def answer_text(reference: Json) -> str:
    """A reference as the answer that demonstrations show and training teaches.

    A string as it is; a list joined by ", ", or as JSON where that would not read back as the same list
    (an item with a comma, an empty list); an object as compact JSON; numbers, true, false and null plainly.
    """
    if isinstance(reference, str):
        return reference
    if isinstance(reference, list):
        plain = ", ".join(answer_text(item) for item in reference)
        return plain if _reads_back(plain, reference) else _compact(reference)
    return _compact(reference)


def _reads_back(plain: str, items: list[Any]) -> bool:
    read = parse_list(plain)
    return len(read) == len(items) > 0 and all(
        not isinstance(item, list | dict) and answer_text(item) == back
        for item, back in zip(items, read, strict=True)
    )


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- normal forms ----------------------------------------------------------------------------

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normal(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra white space.

    `normalize_answer` of the official SQuAD evaluation script (Rajpurkar et al. 2016).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def word_normal(text: str) -> str:
    """Case-folded words of letters, marks and digits, one space between; all else separates words.

    So "card_arrival", "Card arrival." and "card-arrival" are the same. Works for any script.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split())


def loose_normal(text: str) -> str:
    """Case-folded, with single spaces: two spellings of one value."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


# --- choices ---------------------------------------------------------------------------------


def match_choice(output: str, choices: Sequence[str]) -> str | None:
    """The choice that an output names, or None.

    Tried in this order, on the whole output and then on its first line that is not empty: the very choice;
    the choice but for case, white space and punctuation; the one choice contained as whole words in that
    first line. A choice inside a longer one that is named ("card" in "lost card") does not count.
    Choices that differ only in punctuation ("C", "C++") are told apart by the first rule alone.
    """
    return _match_choice(output, tuple(choices))


@lru_cache(maxsize=65536)  # an aggregate is taken over many resamples of the same outputs
def _match_choice(output: str, choices: tuple[str, ...]) -> str | None:
    line = first_line(output)
    for text in (output.strip(), line):
        if text in choices:
            return text
    normal = _normal_choices(choices)
    for text in (word_normal(output), word_normal(line)):
        if text in normal:
            return normal[text]
    rest = f" {word_normal(line)} "
    named = []
    for words in sorted(normal, key=len, reverse=True):
        if f" {words} " in rest:
            named.append(normal[words])
            rest = rest.replace(f" {words} ", " | ").replace(f" {words} ", " | ")
    return named[0] if len(named) == 1 else None


def first_line(text: str) -> str:
    """The first line that is not empty, without surrounding white space."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


@lru_cache(maxsize=64)
def _normal_choices(choices: tuple[str, ...]) -> dict[str, str]:
    """Normal form to choice; forms that are empty or shared are left out."""
    found: dict[str, str | None] = {}
    for choice in dict.fromkeys(choices):
        form = word_normal(choice)
        found[form] = None if form in found else choice
    return {form: choice for form, choice in found.items() if form and choice is not None}


# --- lists -----------------------------------------------------------------------------------

_FENCE = re.compile(r"```[\w-]*\n?(.*?)(?:```|\Z)", re.DOTALL)
_BULLET = re.compile(r"^\s*(?:[-*•–·]|\d{1,3}[.)])\s+")
_SEPARATOR = re.compile(r"[,;\n]")
_OPENING = re.compile(r"(?:^|[:\n])\s*\[")
_INTRODUCTION = re.compile(r"\A[^,;\n\[]*:\s+")
_QUOTES = "\"'“”‘’`"


def parse_list(text: str) -> list[str]:
    """The items that a text lists, in order.

    A JSON or Python list, if the text is one, or has one after a colon or at the start of a line; else the
    bulleted or numbered lines, if there are any; else what commas, semicolons and line breaks separate,
    after an introduction that ends in a colon.
    "None" or nothing at all is the empty list.
    """
    fenced = _FENCE.search(text)
    body = (fenced.group(1) if fenced else text).strip()
    literal = _literal_list(body)
    if literal is not None:
        return [answer_text(item) for item in literal]
    if body.rstrip(".").casefold() in ("", "none", "null"):
        return []
    lines = body.splitlines()
    bulleted = [_BULLET.sub("", line) for line in lines if _BULLET.match(line)]
    if bulleted:
        return [item for line in bulleted if (item := _bare(line))]
    body = _INTRODUCTION.sub("", body)
    if body.startswith("["):  # a list cut short, or of bare words
        body = body[1:].removesuffix("]")
    parts = _SEPARATOR.split(body)
    items = [item for part in parts if (item := _bare(part))]
    if len(items) > 1:
        items[-1] = re.sub(r"\A(?:and|or)\s+", "", items[-1])
    return items


def item_key(item: str) -> str:
    """What makes two list items the same: case, white space, quotes and final punctuation aside."""
    return loose_normal(item).strip(_QUOTES + ".:!?* ") or loose_normal(item)


def _bare(text: str) -> str:
    return text.strip().strip(_QUOTES).strip()


def _literal_list(text: str) -> list[Any] | None:
    for opening in _OPENING.finditer(text):
        value = _read_literal(text, opening.end() - 1)
        if isinstance(value, list):
            return value
    return None


# --- objects ---------------------------------------------------------------------------------


def first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text (or Python dict of plain values), or None."""
    for brace in re.finditer(r"\{", text):
        value = _read_literal(text, brace.start())
        if isinstance(value, dict):
            return value
    return None


def fields(value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, value) of every leaf; items of a list share a path, null is as good as absent."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from fields(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, path)
    elif value is not None:
        yield path, _leaf(value)


def _leaf(value: str | int | float) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return loose_normal(value if isinstance(value, str) else _compact(value))


def _read_literal(text: str, start: int) -> Any:
    """The JSON (else Python) list or object that opens at `start`, or None."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        pass
    depth = 0
    for bracket in re.compile(r"[\[\]{}]").finditer(text, start):
        depth += 1 if bracket.group() in "[{" else -1
        if depth == 0:
            try:
                value = ast.literal_eval(text[start : bracket.end()])
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return None
            return value if _is_json(value) else None
    return None


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_json(v) for k, v in value.items())
    if isinstance(value, list):
        return all(_is_json(v) for v in value)
    return value is None or isinstance(value, str | int | float)


# --- numbers ---------------------------------------------------------------------------------

_SPACES = "\u00a0\u202f'’_"


def last_number(text: str, decimal: str = ".") -> tuple[float, bool] | None:
    """The last number in a text and whether a percent sign follows it, or None.

    Reads signs (also a true minus, not the hyphen of "7-8" or "x-2"), thousands separators (the other one
    of "." and ",", apostrophe, underscore, no-break space), exponents, and currency signs in between.
    """
    comma = "," if decimal == "." else "."
    found = _number_pattern(decimal, comma).findall(text)
    if not found:
        return None
    sign, digits, percent = found[-1]
    plain = re.sub(f"[{re.escape(comma + _SPACES)}]", "", digits).replace(decimal, ".")
    return float(plain) * (-1 if sign in ("-", "−") else 1), bool(percent)


@lru_cache(maxsize=2)
def _number_pattern(decimal: str, comma: str) -> re.Pattern[str]:
    point, between = re.escape(decimal), f"[{re.escape(comma + _SPACES)}]"
    whole = rf"(?:\d{{1,3}}(?:{between}\d{{3}})+(?!\d)|\d+)"
    digits = rf"(?:{whole}(?:{point}\d+)?|{point}\d+)(?:[eE][-+]?\d+)?"
    return re.compile(rf"(?:(?<![\w.,)%])([-+−]))?[$€£¥]?({digits})\s?(%)?")
