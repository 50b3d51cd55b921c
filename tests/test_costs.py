"""What a request and its preparation cost: nothing is paid twice, and unknown is not zero."""

from __future__ import annotations

from datetime import date

import pytest

from breakeven.harness.contracts import Usage
from breakeven.harness.costs import (
    NOTHING,
    energy_cost,
    hosting_cost,
    ledger_cost,
    seconds_cost,
    tokens_cost,
    unpriced,
)
from breakeven.harness.ledger import UNKNOWN, Amount, Ledger
from breakeven.harness.prices import Price, PriceBook, TokenPrice

DAY = date(2026, 11, 1)
TOKENS = TokenPrice("m", 1.0, 4.0, "USD", DAY, "test", cached_input=0.5)
HOUR = Price("machine_hours", "box", 3.6, "USD", DAY, "test")
TRAINING = Price("training_tokens", "openai/m", 3.0, "USD", DAY, "test")
BOOK = PriceBook({("tokens", "openai/m"): TOKENS, ("training_tokens", "openai/m"): TRAINING}, lists=False)


# --- per request -----------------------------------------------------------------------------


def test_a_request_costs_the_mean_of_what_requests_cost() -> None:
    cost = tokens_cost([Usage(1000, 100), Usage(3000, 100)], TOKENS)
    assert cost.value == pytest.approx((2000 * 1.0 + 100 * 4.0) / 1e6)
    assert (cost.status, cost.priced, cost.of) == ("measured", 1, 1)


def test_the_cache_discount_must_be_switched_on() -> None:
    usage = [Usage(1000, 0, 1000)]
    assert tokens_cost(usage, TOKENS).value == pytest.approx(0.001)
    assert tokens_cost(usage, TOKENS, cached_discount=True).value == pytest.approx(0.0005)


def test_a_cost_from_guessed_usage_is_estimated_and_says_how_much_was_guessed() -> None:
    cost = tokens_cost([Usage(10, 1), Usage(10, 1, estimated=True)], TOKENS)
    assert cost.status == "estimated"
    assert "1 of 2 responses" in cost.note


def test_tokens_without_a_price_cost_an_unknown_amount() -> None:
    cost = tokens_cost([Usage(10, 1)], None, model="m")
    assert (cost.value, cost.status) == (None, "unknown")
    assert "0 of 1 priced; no price for tokens of m" in cost.note


def test_no_tokens_cost_nothing_even_without_a_price() -> None:
    assert tokens_cost([Usage(), Usage()], None) == NOTHING


def test_idle_hours_are_paid_by_the_requests_that_come() -> None:
    assert seconds_cost(Amount(2.0), HOUR, utilisation=0.5).value == pytest.approx(2 * 0.001 / 0.5)


def test_seconds_measured_elsewhere_are_estimated_and_shown_as_projected() -> None:
    cost = seconds_cost(Amount(2.0), HOUR, projected=True)
    assert cost.status == "estimated"
    assert "projected to box" in cost.note


@pytest.mark.parametrize(("seconds", "machine"), [(UNKNOWN, HOUR), (Amount(1.0), None)])
def test_seconds_nobody_measured_or_priced_cost_an_unknown_amount(
    seconds: Amount, machine: Price | None
) -> None:
    assert seconds_cost(seconds, machine).value is None


def test_a_utilisation_of_zero_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="utilisation"):
        seconds_cost(Amount(1.0), HOUR, utilisation=0)


def test_a_sum_over_something_unpriced_is_unknown_and_says_how_much_is_priced() -> None:
    total = tokens_cost([Usage(10, 1)], TOKENS) + seconds_cost(Amount(1.0), HOUR) + unpriced("hosting")
    assert total.value is None
    assert total.note == "2 of 3 priced; no price for hosting"


def test_a_sum_is_as_well_known_as_its_worst_part() -> None:
    total = seconds_cost(Amount(1.0), HOUR) + seconds_cost(Amount(1.0, "estimated"), HOUR)
    assert total.status == "estimated"


def test_a_thousand_requests_cost_a_thousand_times_one() -> None:
    assert (tokens_cost([Usage(1000, 0)], TOKENS) * 1000).value == pytest.approx(1.0)


def test_a_deployment_costs_its_hours_used_or_not() -> None:
    assert hosting_cost(HOUR, 720).value == pytest.approx(2592)
    assert hosting_cost(None).value is None


def test_electricity_is_priced_by_the_kilowatt_hour() -> None:
    kwh = Price("electricity", "home", 0.2, "USD", DAY, "test")
    assert energy_cost(Amount(7.2e6), kwh).value == pytest.approx(0.4)
    assert energy_cost(UNKNOWN, kwh).value is None


# --- one-off ---------------------------------------------------------------------------------


def booked() -> Ledger:
    """A hosted teacher labels, this machine indexes and trains, and then the task is served."""
    ledger = Ledger()
    ledger.book("label", "input_tokens", 2_000_000, source="usage", model="m")
    ledger.book("label", "output_tokens", 500_000, source="usage", model="m")
    ledger.book("label", "seconds", 900, source="waiting", model="m")
    ledger.book("index", "seconds", 10, source="clock", model="minilm")
    ledger.book("train", "training_tokens", 50_000, source="counted", model="smol")
    ledger.book("train", "seconds", 90, source="clock", model="smol")
    ledger.book("train", "flops", 1e12, source="formula", model="smol")
    ledger.book("serve", "seconds", 1000, source="clock", model="smol")
    return ledger


def test_provider_tokens_and_own_seconds_are_paid_and_nothing_twice() -> None:
    cost = ledger_cost(booked(), BOOK, machine=HOUR, hosted={"m": "openai/m"})
    assert cost.value == pytest.approx(2.0 + 2.0 + (10 + 90) * 0.001)
    assert cost.status == "measured"


def test_serving_is_no_one_off_cost() -> None:
    cost = ledger_cost(booked(), BOOK, machine=HOUR, phases=("serve",))
    assert cost.value == pytest.approx(1.0)


def test_training_at_a_service_is_paid_by_its_tokens() -> None:
    ledger = Ledger()
    ledger.book("train", "training_tokens", 2_000_000, source="trained_tokens of the job", model="m")
    cost = ledger_cost(ledger, BOOK, machine=None, hosted={"m": "openai/m"})
    assert cost.value == pytest.approx(6.0)


def test_an_amount_billed_as_money_is_taken_as_it_is() -> None:
    ledger = Ledger()
    ledger.book("train", "money", 12.5, source="invoice")
    ledger.book("train", "money", None, source="job not finished")
    assert ledger_cost(ledger, BOOK, machine=None).value is None
    assert ledger_cost(Ledger(ledger.entries[:1]), BOOK, machine=None).value == 12.5


def test_one_unpriced_part_makes_the_whole_unknown_and_is_named() -> None:
    cost = ledger_cost(booked(), BOOK, machine=HOUR, hosted={"m": "acme/m"})
    assert cost.value is None
    assert cost.note == "2 of 4 priced; no price for tokens of acme/m"


def test_a_ledger_with_nothing_to_pay_costs_nothing() -> None:
    assert ledger_cost(Ledger(), BOOK, machine=None) == NOTHING


def test_tokens_that_were_not_counted_cost_an_unknown_amount() -> None:
    ledger = Ledger()
    ledger.book("search", "input_tokens", None, source="server said nothing", model="m")
    cost = ledger_cost(ledger, BOOK, machine=None, hosted={"m": "openai/m"})
    assert cost.value is None
