"""Customer messages to one of 16 intents, with typos, mixed languages and messages that mention two of them.

900 messages to an invented coffee shop. What each intent means is in data/support_intents/README.md.
"""

from __future__ import annotations

from pathlib import Path

from breakeven.harness.contracts import Task
from breakeven.harness.taskfile import make_task

DATA = Path(__file__).parent / "data" / "support_intents" / "messages.jsonl"

INTENTS = (
    "order_status",
    "delivery_problem",
    "change_address",
    "cancel_order",
    "change_order",
    "return_request",
    "refund_status",
    "damaged_or_wrong_item",
    "payment_failed",
    "unexpected_charge",
    "invoice_request",
    "pause_subscription",
    "cancel_subscription",
    "account_access",
    "promo_or_gift_card",
    "product_question",
)

INSTRUCTIONS = """\
You sort messages that customers write to an online coffee shop. Name the one intent that says what the \
customer wants done now, not what happened before. Answer with the name of the intent only."""


def support_intents() -> Task:
    """450 messages to learn from, 100 to choose settings with, 350 to test; every intent in proportion."""
    return make_task(
        "support_intents",
        description="Customer messages of an online coffee shop to one of 16 intents",
        licence="Apache-2.0",
        instructions=INSTRUCTIONS,
        input_template="{{ text }}",
        data=DATA,
        columns={"input": "text", "reference": "intent", "id": "id", "split": "split", "meta": "tags"},
        choices=INTENTS,
        metrics=["accuracy", "macro_f1"],
        max_tokens=12,
    )
