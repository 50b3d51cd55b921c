"""Settings of the deployment: what is assumed, what --set changes, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from breakeven.harness import economics, suite
from breakeven.harness.economics import Economics
from breakeven.harness.errors import UserError


def test_a_default_is_assumed_and_a_given_value_is_not() -> None:
    given = Economics.model_validate({"margin": 0.02, "people": {"hourly_rate": 60}})

    assert not given.assumed("margin")
    assert given.assumed("horizon_months")
    assert not given.assumed("people.hourly_rate")
    assert given.assumed("people.deploy_hours")


def test_what_nobody_gave_is_still_assumed_after_a_suite_was_frozen_into_a_run(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "suite: mine\ntasks: [support_intents]\nstrategies: [zero-shot]\neconomics: {horizon_months: 12}\n"
    )
    frozen = tmp_path / "frozen.yaml"
    frozen.write_text(suite.load(mine).to_yaml())

    again = suite.load(frozen).economics

    assert not again.assumed("horizon_months")
    assert again.assumed("utilisation")


def test_set_takes_numbers_as_people_write_them_nested_keys_and_prices() -> None:
    changed, prices = economics.changed(
        Economics(), ["requests_per_month=2e6", "people.hourly_rate=80", "gpu_hour=1.8", "api_price=0.5"]
    )

    assert changed.requests_per_month == 2_000_000
    assert changed.people.hourly_rate == 80
    assert prices == {"machine_hour": 1.8, "api_price": 0.5}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("request_per_month=5", "no setting 'request_per_month'"),
        ("requests_per_month", "is no change"),
        ("requests_per_month=many", "requests_per_month"),
        ("requests_per_month=-1", "greater than 0"),
        ("people.hourly_rates=3", "did you mean hourly_rate"),
        ("gpu_hour=cheap", "no price"),
        ("gpu_hour=-1", "no price"),
        ("margin.x=1", "margin"),
        ("horizon_months=[", "not a YAML value"),
    ],
)
def test_a_wrong_change_is_said_in_one_sentence(change: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        economics.changed(Economics(), [change])

    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_volume_grows_from_month_to_month() -> None:
    grows = Economics(growth_per_month=0.1)  # type: ignore[call-arg]

    assert [round(grows.requests(m, 100.0)) for m in range(3)] == [100, 110, 121]


@pytest.mark.parametrize(("every", "months", "times"), [(None, 12, 0), (6, 12, 1), (6, 13, 2), (12, 12, 0)])
def test_a_model_is_retrained_while_it_is_needed_and_not_at_the_end(
    every: int | None, months: int, times: int
) -> None:
    assert Economics(retrain_every_months=every).retrainings(months) == times  # type: ignore[call-arg]
