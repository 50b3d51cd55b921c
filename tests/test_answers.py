"""How references become text and outputs are read back."""

from __future__ import annotations

import pytest

from breakeven.harness._answers import first_object, last_number
from breakeven.harness.contracts import Json
from breakeven.harness.metrics import answer_text, match_choice, parse_list

# --- writing references ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (" as it is ", " as it is "),
        (["salt", "olive oil"], "salt, olive oil"),
        (["salt, fine", "oil"], '["salt, fine","oil"]'),
        ([], "[]"),
        (["none"], '["none"]'),
        (["oil", "and so on"], '["oil","and so on"]'),
        ({"name": "Zoë", "tags": [1, None]}, '{"name":"Zoë","tags":[1,null]}'),
        (3, "3"),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_a_reference_is_written_as(reference: Json, text: str) -> None:
    assert answer_text(reference) == text


# --- choices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "choices", "matched"),
    [
        ("refund", ["refund", "Refund"], "refund"),  # the very choice first
        ("  Card Arrival.\n", ["card_arrival", "card_lost"], "card_arrival"),
        ("The intent is card-lost, I think", ["card_arrival", "card_lost"], "card_lost"),
        ("lost card", ["card", "lost card"], "lost card"),
        ("It is about a lost card", ["card", "lost card"], "lost card"),
        ("a lost card and a card", ["card", "lost card"], None),  # both are named
        ("refund or exchange", ["refund", "exchange"], None),
        ("refunded", ["refund", "exchange"], None),  # no whole word
        ("\nrefund\nexchange", ["refund", "exchange"], "refund"),  # the first line decides
        ("I cannot say.\nrefund", ["refund", "exchange"], None),
        ("C++", ["C", "C++"], "C++"),
        ("c", ["C", "C++"], None),  # the two differ in punctuation only
        ("-", ["+", "-"], "-"),
        ("возврат.", ["Возврат", "Обмен"], "Возврат"),
        ("", ["refund"], None),
    ],
)
def test_an_output_names_a_choice(output: str, choices: list[str], matched: str | None) -> None:
    assert match_choice(output, choices) == matched


# --- lists -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "items"),
    [
        ('["salt", "oil"]', ["salt", "oil"]),
        ("['salt', 'oil']", ["salt", "oil"]),
        ('```json\n["salt"]\n```', ["salt"]),
        ('{"ingredients": ["salt", "oil"]}', ["salt", "oil"]),
        ("The ingredients are: ['salt', 'oil'].", ["salt", "oil"]),
        ("salt, oil; pepper", ["salt", "oil", "pepper"]),
        ("salt, oil, and pepper", ["salt", "oil", "pepper"]),
        ("Ingredients: salt, oil", ["salt", "oil"]),
        ("salt\noil", ["salt", "oil"]),
        ("Here you are:\n- salt\n* oil\n• pepper, black\nEnjoy!", ["salt", "oil", "pepper, black"]),
        ("1. salt\n2) oil", ["salt", "oil"]),
        ('["salt", "oil", "pep', ["salt", "oil", "pep"]),  # cut short
        ("salt [1], oil [2]", ["salt [1]", "oil [2]"]),  # notes are no list
        ("salt", ["salt"]),
        ("", []),
        ("None.", []),
        ("[]", []),
    ],
)
def test_an_output_lists(output: str, items: list[str]) -> None:
    assert parse_list(output) == items


# --- objects ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ('Sure! {"a": {"b": "}"}} and {"c": 1}', {"a": {"b": "}"}}),
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        ('{not json} {"a": 1}', {"a": 1}),
        ("{" * 3000, None),
        ("nothing", None),
    ],
)
def test_the_first_object_in_an_output(output: str, found: Json) -> None:
    assert first_object(output) == found


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("3 apples and 4 pears make 7.", (7.0, False)),
        ("$1,234.50", (1234.5, False)),
        ("1'000'000", (1e6, False)),
        ("12\u202f345", (12345.0, False)),
        ("about 12 %", (12.0, True)),
        ("-5", (-5.0, False)),
        ("−5", (-5.0, False)),
        ("-$5", (-5.0, False)),
        ("7-8", (8.0, False)),  # a range, not minus eight
        ("- 5 apples", (5.0, False)),  # a bullet, not a sign
        ("1e-07", (1e-07, False)),
        (".5", (0.5, False)),
        ("none", None),
    ],
)
def test_the_last_number_in_an_output(output: str, number: tuple[float, bool] | None) -> None:
    assert last_number(output) == number


def test_a_decimal_comma_is_read_where_it_is_asked_for() -> None:
    assert last_number("1.234,5 Euro", decimal=",") == (1234.5, False)
