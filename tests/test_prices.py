"""The price book: published prices come out, every price has a date and a source, unknown stays unknown."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from breakeven.harness.contracts import Usage
from breakeven.harness.errors import UserError
from breakeven.harness.prices import SHIPPED, UNITS, PriceBook, Tier, TokenPrice

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
PUBLISHED = [c["value"] for c in VECTORS["prices"]["cases"]]
MILLION = 1_000_000


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load()


def price(book: PriceBook, *args: Any, **kwargs: Any) -> TokenPrice:
    found = book.token_price(*args, **kwargs)
    assert found is not None
    return found


# --- published numbers -----------------------------------------------------------------------


def test_gpt_4o_costs_what_is_published(book: PriceBook) -> None:
    assert price(book, "gpt-4o").cost(Usage(MILLION, MILLION)) == pytest.approx(PUBLISHED[0])


def test_cached_input_is_cheaper_only_when_the_discount_is_switched_on(book: PriceBook) -> None:
    usage = Usage(MILLION, 0, MILLION // 2)
    assert price(book, "gpt-4o").cost(usage, cached_discount=True) == pytest.approx(PUBLISHED[1])
    assert price(book, "gpt-4o").cost(usage) == pytest.approx(2.5)


def test_the_price_is_the_one_of_the_day(book: PriceBook) -> None:
    days = (date(2025, 5, 1), date(2025, 8, 1))
    costs = [price(book, "o3", on=day).cost(Usage(MILLION, MILLION)) for day in days]
    assert costs == pytest.approx(PUBLISHED[2])


def test_a_tuned_model_that_saves_140_prompt_tokens_just_breaks_even(book: PriceBook) -> None:
    base, tuned = price(book, "gpt-4o-mini"), price(book, "ft:gpt-4o-mini-2024-07-18:me::1")
    case = next(c for c in VECTORS["decision"]["cases"] if "hosted fine-tune tie" in c["what"])
    costs = [base.cost(Usage(240, 10)) * 1e6, tuned.cost(Usage(100, 10)) * 1e6]
    assert costs == pytest.approx(case["value"], rel=case["tol"])


def test_a_tuned_deployment_on_azure_costs_its_hours_too(book: PriceBook) -> None:
    case = next(c for c in VECTORS["decision"]["cases"] if "Azure" in c["what"])
    hour = book.hosting_hour("azure/standard")
    assert hour is not None
    month = price(book, "azure/o4-mini").cost(Usage(20 * MILLION, 40 * MILLION)) + 720 * hour.price
    assert month == pytest.approx(case["value"], rel=case["tol"])


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["smollm2-135m-instruct", "127.0.0.1:8000/gpt-4o", "localhost/o3", "openai.acme.example/gpt-4o"]
)
def test_a_model_nobody_lists_has_no_price(book: PriceBook, name: str) -> None:
    assert book.token_price(name) is None


def test_a_provider_may_stand_before_the_model_or_beside_it(book: PriceBook) -> None:
    assert price(book, "openai/gpt-4o-mini").input == price(book, "gpt-4o-mini", "openai").input == 0.15


def test_the_longest_pattern_that_fits_counts(book: PriceBook) -> None:
    assert price(book, "ft:gpt-4.1-2025-04-14:me::1").input == 3.0
    assert price(book, "ft:gpt-4.1-mini-2025-04-14:me::1").input == 0.8


def test_training_tokens_are_found_by_the_models_name(book: PriceBook) -> None:
    mini = book.training_tokens("openai/gpt-4o-mini-2024-07-18")
    full = book.training_tokens("gpt-4o-2024-08-06")
    assert mini is not None
    assert full is not None
    assert (mini.price, full.price) == (3.0, 25.0)
    assert book.training_tokens("smollm2-135m-instruct") is None


def test_a_long_request_pays_the_long_rate_for_all_its_tokens() -> None:
    tiered = TokenPrice("m", 1.0, 4.0, "USD", date(2026, 1, 1), "s", tiers=(Tier(1000, 2.0, 6.0),))
    assert tiered.cost(Usage(1000, 10)) * 1e6 == pytest.approx(1000 + 40)
    assert tiered.cost(Usage(1001, 10)) * 1e6 == pytest.approx(2002 + 60)


def test_the_list_of_tiers_is_read(book: PriceBook) -> None:
    long = price(book, "gemini-2.5-pro", "google")
    assert long.cost(Usage(300_000, 0)) == pytest.approx(300_000 * 2.5 / 1e6)


def test_a_price_that_varies_over_the_day_is_the_dearest_and_says_so(book: PriceBook) -> None:
    varying = price(book, "deepseek-chat", "deepseek", on=date(2025, 6, 1))
    assert "dearest hour" in varying.note


def test_a_misspelt_machine_is_told_with_its_neighbours(book: PriceBook) -> None:
    with pytest.raises(UserError, match=r"economics\.hardware.*'cpu2'.*did you mean cpu-2"):
        book.check("machine_hours", "cpu2", field="economics.hardware")


# --- dates and sources -----------------------------------------------------------------------


def shipped() -> list[Any]:
    parts = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return [pytest.param(kind, name, row, id=name) for kind in parts for name, row in parts[kind].items()]


@pytest.mark.parametrize(("kind", "name", "row"), shipped())
def test_every_shipped_price_has_a_past_date_a_source_and_a_currency(
    kind: str, name: str, row: dict[str, Any]
) -> None:
    assert kind == "tokens" or kind in UNITS
    assert date(2025, 1, 1) < row["date"] <= date.today()
    assert row["source"].startswith(("https://", "project survey"))
    assert len(row["currency"]) == 3


def test_a_listed_price_is_never_dated_after_the_list(book: PriceBook) -> None:
    found = price(book, "gpt-4o", on=date(2099, 1, 1))
    assert found.date <= date.today()
    assert found.source.startswith("genai-prices 0.")
    assert found.matched == "openai/gpt-4o"


# --- the user's own file ---------------------------------------------------------------------


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def entry(name: str, amount: float, currency: str = "USD") -> str:
    return f"  {name}: {{price: {amount}, currency: {currency}, date: 2026-11-01, source: our contract}}\n"


def test_an_own_price_replaces_the_shipped_one_and_leaves_the_others(tmp_path: Path) -> None:
    mine = PriceBook.load(own(tmp_path, "machine_hours:\n" + entry("l4", 0.5)))
    changed, kept = mine.machine_hour("l4"), mine.machine_hour("a10g")
    assert changed is not None
    assert (changed.price, changed.source) == (0.5, "our contract")
    assert kept is not None
    assert kept.price == 1.006


def test_an_own_token_price_comes_before_the_published_one(tmp_path: Path) -> None:
    text = "tokens:\n  gpt-4o: {input: 1, output: 2, currency: USD, date: 2026-11-01, source: our contract}\n"
    mine = PriceBook.load(own(tmp_path, text))
    assert price(mine, "openai/gpt-4o").input == 1.0


def test_a_server_of_ones_own_can_be_priced(tmp_path: Path) -> None:
    row = "{input: 0, output: 0, currency: USD, date: 2026-11-01, source: free}"
    text = f"tokens:\n  llm.acme.example/fast: {row}\n"
    mine = PriceBook.load(own(tmp_path, text))
    assert price(mine, "llm.acme.example/fast").cost(Usage(100, 100)) == 0.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("machine_hour: {}", r"mine\.yaml:1.*machine_hour.*unknown key.*did you mean machine_hours"),
        ("machine_hours:\n  x: {price: 1, currency: USD}", r"mine\.yaml:2.*machine_hours\.x\.date.*required"),
        ("machine_hours:\n" + entry("x", -1), r"mine\.yaml:2.*greater than or equal to 0"),
        ("machine_hours:\n" + entry("x", 1, "dollars"), r"mine\.yaml:2.*currency"),
        ("machine_hours:\n" + entry("x", 1, "JPY"), r"mine\.yaml:2.*no exchange rate between JPY and USD"),
    ],
)
def test_a_mistake_in_the_own_file_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        PriceBook.load(own(tmp_path, text))


# --- currencies ------------------------------------------------------------------------------


def test_prices_are_converted_by_a_dated_rate_that_is_recorded_with_them() -> None:
    euros, dollars = PriceBook.load(currency="EUR"), PriceBook.load()
    a, b = euros.machine_hour("cpu-2"), dollars.machine_hour("cpu-2")
    assert a is not None
    assert b is not None
    assert (a.currency, b.currency) == ("EUR", "USD")
    assert b.price / a.price == pytest.approx(1.1133)
    assert dollars.used()["exchange"]["EUR"]["date"] == "2026-10-28"
    assert price(euros, "gpt-4o").input == pytest.approx(2.5 / 1.1133)


def test_a_currency_without_a_rate_is_refused() -> None:
    with pytest.raises(UserError, match="no exchange rate between USD and CHF"):
        PriceBook.load(currency="CHF")


def test_two_rates_lead_from_one_currency_to_another(tmp_path: Path) -> None:
    text = "exchange:\n" + entry("CHF", 1.25) + "machine_hours:\n" + entry("x", 2, "EUR")
    francs = PriceBook.load(own(tmp_path, text), currency="CHF")
    hour = francs.machine_hour("x")
    assert hour is not None
    assert hour.price == pytest.approx(2 * 1.1133 / 1.25)


# --- what a run keeps ------------------------------------------------------------------------


def test_only_prices_that_were_used_are_recorded() -> None:
    book = PriceBook.load()
    book.machine_hour("l4")
    book.machine_hour("no-such-machine")
    book.token_price("gpt-4o-mini")
    assert {k: list(v) for k, v in book.used().items()} == {
        "machine_hours": ["l4"],
        "tokens": ["gpt-4o-mini"],
    }


def test_a_finished_run_is_priced_again_from_what_it_recorded() -> None:
    book = PriceBook.load(on=date(2025, 5, 1))
    old, hour = price(book, "o3"), book.machine_hour("cpu-2")
    kept = PriceBook.recorded(json.loads(json.dumps(book.used())))
    assert price(kept, "o3").cost(Usage(1000, 1000)) == old.cost(Usage(1000, 1000))
    assert kept.machine_hour("cpu-2") == hour
    assert kept.token_price("gpt-4o") is None


def test_what_a_run_recorded_is_itself_a_price_file(tmp_path: Path) -> None:
    book = PriceBook.load()
    book.token_price("gemini-2.5-pro")
    book.machine_hour("cpu-2")
    again = PriceBook.load(own(tmp_path, yaml.safe_dump(book.used())))
    assert price(again, "gemini-2.5-pro").tiers == price(book, "gemini-2.5-pro").tiers


def test_no_price_is_negative_or_infinite(book: PriceBook) -> None:
    for name in book.names("machine_hours"):
        hour = book.machine_hour(name)
        assert hour is not None
        assert math.isfinite(hour.price)
        assert 0 < hour.price < 100
