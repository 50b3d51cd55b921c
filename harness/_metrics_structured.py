"""Metrics that read something out of the output: a list, an object, a number, a pattern."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from breakeven.harness._answers import answer_text, fields, first_object, item_key, last_number, parse_list
from breakeven.harness._metric_parts import Judged, best, f1, right_or_wrong
from breakeven.harness.contracts import Json, Metric, Score
from breakeven.harness.errors import UserError

Tolerance = Annotated[float, Field(ge=0)]


def set_f1() -> Metric:
    """F1 of the set of items listed (`parse_list`), case aside; duplicates count once, empty equals empty."""

    def compare(output: str, reference: Json) -> Score:
        if isinstance(reference, list):
            items = [answer_text(item) for item in reference]
        else:
            items = parse_list(answer_text(reference))
        wanted = {item_key(i): i for i in items}
        given = {item_key(i): i for i in parse_list(output)}
        missing = [item for key, item in wanted.items() if key not in given]
        extra = [item for key, item in given.items() if key not in wanted]
        detail: dict[str, Json] = {"missing": missing, "extra": extra} if missing or extra else {}
        return Score(f1(Counter(list(given)), Counter(list(wanted))), detail)

    return Judged("set_f1", best(compare))


def json_field_f1(*, only: list[str] | None = None) -> Metric:
    """F1 over the (dotted path, value) pairs of the first JSON object in the output.

    Values are compared as text, case and spacing aside; the items of a list share a path and count in any
    order; null is as good as absent (as in Donut, Kim et al. 2022, `JSONParseEvaluator.cal_f1`).
    `only` restricts it to these paths and what is below them.
    """

    def pairs(value: Json) -> Counter[str]:
        kept = (
            (path, leaf)
            for path, leaf in fields(value)
            if only is None or any(path == p or path.startswith(f"{p}.") for p in only)
        )
        return Counter(f"{path}: {leaf}" for path, leaf in kept)

    def compare(output: str, reference: Json) -> Score:
        expected = reference if isinstance(reference, dict) else first_object(answer_text(reference))
        if expected is None:
            raise UserError(
                f"the reference '{answer_text(reference)[:40]}' is no JSON object",
                hint='json_field_f1 needs references like {"name": "value"}',
            )
        found = first_object(output)
        if found is None:
            return right_or_wrong(False, why="no JSON object in the output")
        given, wanted = pairs(found), pairs(expected)
        missing, extra = sorted((wanted - given).elements()), sorted((given - wanted).elements())
        detail: dict[str, Json] = {"missing": missing, "extra": extra} if missing or extra else {}
        return Score(f1(given, wanted), detail)

    return Judged("json_field_f1", best(compare))


def numeric_match(*, rel: Tolerance = 1e-9, abs: Tolerance = 0.0, decimal: Literal[".", ","] = ".") -> Metric:
    """1 if the last number in the output is the reference: |difference| <= max(rel * |reference|, abs).

    Where only one of the two has a percent sign, 12 % is both 12 and 0.12. `decimal: ","` reads 1.234,5.
    """
    absolute = abs

    def close(given: float, wanted: float) -> bool:
        gap = given - wanted if given >= wanted else wanted - given
        size = wanted if wanted >= 0 else -wanted
        return gap <= max(rel * size, absolute)

    def compare(output: str, reference: Json) -> Score:
        is_number = isinstance(reference, int | float) and not isinstance(reference, bool)
        # a number's own text always has a decimal point, whatever the language of the outputs
        wanted = last_number(answer_text(reference), "." if is_number else decimal)
        if wanted is None or isinstance(reference, bool):
            raise UserError(f"the reference '{answer_text(reference)}' is no number")
        given = last_number(output, decimal)
        if given is None:
            return right_or_wrong(False, why="no number in the output")
        (value, percent), (target, target_percent) = given, wanted
        readings = {value}
        if percent != target_percent:
            readings.add(value / 100 if percent else value * 100)
        return right_or_wrong(any(close(r, target) for r in readings), read=value)

    return Judged("numeric_match", best(compare), binary=True)


def regex_match(*, pattern: str | None = None, ignore_case: bool = False, full: bool = False) -> Metric:
    """1 if the pattern is found in the output; without `pattern`, each reference is one (the best counts).

    Python's `re`; `full` asks that the whole output, white space around it aside, matches.
    """

    def compiled(text: str, what: str) -> re.Pattern[str]:
        try:
            return re.compile(text, re.IGNORECASE if ignore_case else 0)
        except re.error as error:
            raise UserError(
                f"{what} '{text}' is no regular expression: {error}", field="pattern" if pattern else None
            ) from error

    def found(regex: re.Pattern[str], output: str) -> bool:
        return bool(regex.fullmatch(output.strip()) if full else regex.search(output))

    fixed = compiled(pattern, "pattern") if pattern is not None else None

    def judge(output: str, references: Sequence[Json]) -> Score:
        patterns = [fixed] if fixed else [compiled(answer_text(r), "the reference") for r in references]
        return right_or_wrong(any(found(p, output) for p in patterns))

    return Judged("regex_match", judge, binary=True)
