"""Sample sizes, power and detectable differences; the numbers that papers print are in test_vectors."""

from __future__ import annotations

import numpy as np
import pytest

from breakeven.harness import power


def test_sample_size_and_detectable_effect_are_inverse() -> None:
    n = power.sample_size(0.05, 0.2, resampling=(0.1, 0.0), samples=(3, 1))
    assert power.minimum_detectable_effect(n, 0.2, resampling=(0.1, 0.0), samples=(3, 1)) == pytest.approx(
        0.05, abs=1e-4
    )


def test_power_is_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    d = rng.choice([1.0, -1.0, 0.0], p=[0.15, 0.05, 0.8], size=(4000, 100))
    found = np.mean(np.abs(d.mean(1)) / (d.std(1) / 10) > 1.96)
    assert power.discordant_power(0.1, 0.2, 100) == pytest.approx(found, abs=0.04)


def test_a_difference_larger_than_the_disagreement_is_impossible() -> None:
    with pytest.raises(ValueError, match="discordant"):
        power.discordant_power(0.2, 0.1, 100)


def test_no_sample_shows_a_difference_of_nothing() -> None:
    with pytest.raises(ValueError, match="difference of 0"):
        power.sample_size(0.0, 0.1)


# --- items still needed ----------------------------------------------------------------------


def scored(won: int, lost: int, items: int) -> tuple[list[float], list[float]]:
    rest = items - won - lost
    return [1.0] * won + [0.0] * lost + [0.0] * rest, [0.0] * won + [1.0] * lost + [0.0] * rest


def test_further_items_complete_the_number_that_the_formula_asks_for() -> None:
    a, b = scored(12, 8, 100)
    needed = power.examples_needed(a, b)
    variance = np.subtract(a, b).var(ddof=1)
    assert needed.total == power.sample_size(0.04, variance)
    assert needed.more == needed.total - 100


def test_with_so_many_items_the_difference_is_seen_four_times_in_five() -> None:
    total = power.examples_needed(*scored(14, 6, 100)).total
    assert total is not None
    rng = np.random.default_rng(1)
    d = rng.choice([1.0, -1.0, 0.0], p=[0.14, 0.06, 0.8], size=(4000, total))
    seen = np.abs(d.mean(1)) / (d.std(1) / total**0.5) > 1.96
    assert seen.mean() == pytest.approx(0.8, abs=0.03)


def test_a_difference_seen_well_enough_needs_no_more_items() -> None:
    needed = power.examples_needed(*scored(40, 2, 100))
    assert (needed.more, needed.total, str(needed)) == (0, 100, "no more examples")


def test_a_larger_difference_to_be_seen_needs_fewer_items() -> None:
    a, b = scored(12, 8, 100)
    wide, narrow = power.examples_needed(a, b, difference=0.1), power.examples_needed(a, b, difference=0.03)
    assert wide.more is not None
    assert narrow.more is not None
    assert wide.more < narrow.more


def test_equal_strategies_are_not_told_apart_by_any_number() -> None:
    needed = power.examples_needed(*scored(8, 8, 100))
    assert (needed.more, needed.total) == (None, None)
    assert "no difference was seen" in str(needed)


def test_alike_answers_do_not_make_a_margin_certain() -> None:
    a = [1.0, 0.0] * 10
    assert power.examples_needed(a, a, difference=0.03).more != 0


def test_dependent_items_need_more_of_them() -> None:
    d = np.repeat(np.random.default_rng(2).choice([1.0, 0.0, -1.0], size=25, p=[0.3, 0.6, 0.1]), 4)
    a, b = (d > 0).astype(float), (d < 0).astype(float)
    alone = power.examples_needed(a, b, difference=0.05)
    grouped = power.examples_needed(a, b, np.repeat(np.arange(25), 4), difference=0.05)
    assert alone.total is not None
    assert grouped.total is not None
    assert grouped.total > 3 * alone.total


def test_items_do_not_help_where_seeds_disagree() -> None:
    rng = np.random.default_rng(3)
    a = np.array([rng.random(200) < share for share in (0.4, 0.8)], dtype=float)
    needed = power.examples_needed(a, (rng.random(200) < 0.5).astype(float))
    assert needed.more is None
    assert "more seeds" in str(needed)


def test_a_number_of_examples_is_said_to_two_digits() -> None:
    assert str(power.Needed(0.03, 1386, 1486)) == "about 1,400 more examples"
    assert str(power.Needed(0.03, 7, 107)) == "about 7 more examples"


def test_what_two_disagreeing_strategies_must_differ_by_is_the_inverse_of_the_sample_size() -> None:
    least = power.detectable_discordant(864, 0.1)
    assert least == pytest.approx(0.03, abs=1e-4)
    assert power.detectable_discordant(20, 0.1) is None
