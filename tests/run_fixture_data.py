"""Texts and strategies of the fixture run: what `run_fixture` draws inputs, answers and settings from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: What a hostile data set would try: run a script, break out of an attribute, turn the text around,
#: close the data block, ring the bell, break the encoding.
HOSTILE = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>",
    "\" onmouseover=\"window.hacked = 3\" ' autofocus onfocus='window.hacked = 4'",
    "invoice \u202etxt.exe\u202c and \u2066isolated",
    "</script></noscript><script>window.hacked = 5</script><!-- <script>",
    "{{ 7 * 7 }} {% raw %} ${window.hacked = 6} | a | b |\n|---|\n\x00\x07\x1b[31m",
    "broken \ud800 surrogate and \u2028 separator",
)

INTENTS = (
    "refund", "invoice", "change_address", "cancel_order", "track_parcel", "reset_password", "opening_hours",
    "damaged_item", "wrong_item", "loyalty_points", "payment_failed", "delete_account", "gift_card",
    "delivery_slot", "complaint", "other",
)  # fmt: skip
MESSAGES = (
    "hi, parcel says deliverd but nothing here??",
    "Wie kann ich meine Lieferadresse ändern? order 55821",
    "you charged me twice!! want the money back and also a new invoice pls",
    "cant log in since the update, the reset mail never comes",
    "the mug arrived in three pieces. photos attached",
    "do my points expire at the end of the year",
    "is the shop in Ghent open on sunday",
    "please delete everything you have about me",
)
QUESTIONS = (
    "How many days in advance must I announce parental leave?",
    "Who signs off travel above 1,500 euros?",
    "Which meeting room has the hearing loop?",
    "What is the door code procedure after 20:00?",
    "Up to which amount may I buy software without asking?",
)
ANSWERS = ("eight weeks", "the head of finance", "room Alder", "call the night desk", "90 euros a month")
RECIPES = ("Lentil soup", "Shakshuka", "Lemon tart", "Miso aubergine", "Potato gratin")
INGREDIENTS = (
    "lentils",
    "onion",
    "garlic",
    "cumin",
    "lemon",
    "egg",
    "flour",
    "butter",
    "miso",
    "potato",
    "cream",
)


@dataclass(frozen=True)
class Plan:
    """A strategy of the fixture: its settings, what it costs in tokens and seconds, how often it is right."""

    settings: Mapping[str, Any]
    tokens: tuple[int, int] = (0, 0)
    seconds: float = 0.002
    quality: Mapping[str, float] | None = None
    training: bool = False
    passages: int = 0


STRATEGIES: dict[str, Plan] = {
    "majority": Plan({"strategy": "majority"}, quality={"support_intents": 0.12}),
    "nearest-neighbour": Plan(
        {"strategy": "nearest-neighbour"},
        seconds=0.011,
        quality={"support_intents": 0.77, "handbook_qa": 0.06, "recipe_ingredients": 0.42},
    ),
    "logistic-regression": Plan(
        {"strategy": "logistic-regression"}, seconds=0.012, quality={"support_intents": 0.86}
    ),
    "zero-shot": Plan(
        {"strategy": "levers"},
        (212, 9),
        0.45,
        {"support_intents": 0.2, "handbook_qa": 0.05, "recipe_ingredients": 0.3},
    ),
    "few-shot-similar": Plan(
        {"strategy": "levers", "demonstrations": {"k": 8, "select": "similar"}},
        (611, 8),
        0.82,
        {"support_intents": 0.83, "handbook_qa": 0.08, "recipe_ingredients": 0.55},
    ),
    "rag": Plan(
        {"strategy": "levers", "context": {"k": 3}},
        (702, 14),
        0.97,
        {"handbook_qa": 0.5},
        passages=3,
    ),
    "lora": Plan(
        {"strategy": "levers", "weights": {"trainer": "peft", "rank": 16}},
        (96, 6),
        0.31,
        {"support_intents": 0.75, "handbook_qa": 0.1, "recipe_ingredients": 0.72},
        training=True,
    ),
    "rag+lora": Plan(
        {"strategy": "levers", "context": {"k": 3}, "weights": {"trainer": "peft", "rank": 16}},
        (590, 7),
        0.78,
        {"handbook_qa": 0.66},
        training=True,
        passages=3,
    ),
}
