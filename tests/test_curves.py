"""Learning curves: crossings by hand, coverage of a known crossing and a known gain by simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from breakeven.harness import curves, stats

Curve = dict[int, np.ndarray[Any, np.dtype[np.float64]]]
SIZES = (25, 50, 100, 200)


def exactly(means: Mapping[int, float], items: int = 50) -> Curve:
    """Scores of one seed whose mean is just this at every size, and whose items all agree."""
    return {size: np.full((1, items), mean) for size, mean in means.items()}


def shares(right: Mapping[int, float], items: int, seeds: int, rng: np.random.Generator) -> Curve:
    """0/1 scores with these expected shares; items are hard or easy for every size, seeds good or bad."""
    hard = rng.uniform(-0.2, 0.2, items)
    return {
        size: (rng.random((seeds, items)) < share + hard + rng.normal(0, 0.03, (seeds, 1))).astype(float)
        for size, share in right.items()
    }


# --- crossings -------------------------------------------------------------------------------


def test_the_crossing_lies_between_sizes_by_their_logarithms() -> None:
    found = curves.overtaking(exactly({25: 0.4, 100: 0.6}), exactly({0: 0.5}))
    assert found.crossings == (curves.Crossing(pytest.approx(50.0), upward=True),)
    assert found.at == pytest.approx(50.0)  # the geometric mean


def test_a_strategy_with_a_curve_of_its_own_is_overtaken_where_the_lines_meet() -> None:
    a, b = exactly({10: 0.2, 1000: 0.8}), exactly({10: 0.6, 1000: 0.6001})
    assert curves.overtaking(a, b).at == pytest.approx(10 ** (1 + 2 * 0.4 / 0.5999))


def test_several_crossings_are_all_told_and_the_last_one_decides() -> None:
    found = curves.overtaking(exactly({10: 0.4, 40: 0.6, 160: 0.4, 640: 0.6}), exactly({0: 0.5}))
    assert [c.upward for c in found.crossings] == [True, False, True]
    assert [c.size for c in found.crossings] == pytest.approx([20.0, 80.0, 320.0])
    assert (found.at, found.several) == (pytest.approx(320.0), 1.0)


def test_a_strategy_that_is_always_better_overtakes_at_the_smallest_size() -> None:
    found = curves.overtaking(exactly({25: 0.6, 100: 0.7}), exactly({0: 0.5}))
    assert (found.crossings, found.at, found.always, found.never) == ((), 25.0, 1.0, 0.0)
    assert (found.low, found.high) == (None, 25.0)


def test_a_strategy_that_is_never_better_does_not_overtake() -> None:
    found = curves.overtaking(exactly({25: 0.3, 100: 0.4}), exactly({0: 0.5}))
    assert (found.crossings, found.at, found.always, found.never) == ((), None, 0.0, 1.0)
    assert (found.low, found.high) == (100.0, None)


def test_equal_strategies_do_not_overtake_each_other() -> None:
    same = exactly({25: 0.5, 100: 0.5})
    assert curves.overtaking(same, same).at is None


def test_a_lead_that_is_lost_again_is_no_overtaking() -> None:
    found = curves.overtaking(exactly({25: 0.4, 50: 0.6, 100: 0.4}), exactly({0: 0.5}))
    assert [c.upward for c in found.crossings] == [True, False]
    assert (found.at, found.lost_again) == (None, 1.0)


def test_where_lower_is_better_the_falling_curve_overtakes() -> None:
    a, b = exactly({25: 0.6, 100: 0.4}), exactly({0: 0.5})
    assert curves.overtaking(a, b).at is None
    assert curves.overtaking(a, b, higher_is_better=False).at == pytest.approx(50.0)


def test_nothing_is_said_beyond_the_sizes_that_both_have() -> None:
    found = curves.overtaking(exactly({10: 0.2, 100: 0.8, 400: 0.9}), exactly({50: 0.7, 200: 0.7}))
    assert found.sizes == (50, 200)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (exactly({10: 0.2, 20: 0.3}), exactly({50: 0.5, 100: 0.5}), "no size in common"),
        (exactly({10: 0.2}, items=4), exactly({0: 0.5}, items=5), "the same items"),
        (exactly({0: 0.2, 20: 0.3}), exactly({0: 0.5}), "below 1"),
        ({}, exactly({0: 0.5}), "training sizes"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(a: Curve, b: Curve, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        curves.overtaking(a, b)


# --- how sure --------------------------------------------------------------------------------


def test_items_are_drawn_together_so_that_a_steady_lead_is_certain() -> None:
    rng = np.random.default_rng(0)
    b = {size: rng.random((1, 40)) * 0.9 for size in SIZES}
    a = {size: scores + 0.01 for size, scores in b.items()}
    assert curves.overtaking(a, b).always == 1.0


def test_dependent_items_leave_the_crossing_less_certain() -> None:
    rng = np.random.default_rng(1)
    right = {25: 0.3, 50: 0.45, 100: 0.6, 200: 0.75}
    a = {size: np.repeat(scores, 5, axis=1) for size, scores in shares(right, 200, 1, rng).items()}
    b = {0: np.repeat(shares({0: 0.52}, 200, 1, rng)[0], 5, axis=1)}
    alone, grouped = curves.overtaking(a, b), curves.overtaking(a, b, np.repeat(np.arange(200), 5))
    assert alone.low is not None
    assert alone.high is not None
    assert grouped.low is not None
    assert grouped.high is not None
    assert np.log(grouped.high / grouped.low) > 1.5 * np.log(alone.high / alone.low)


def test_seeds_that_disagree_leave_the_crossing_less_certain() -> None:
    right = {25: 0.3, 50: 0.45, 100: 0.6, 200: 0.75}
    steady = shares(right, 2000, 1, np.random.default_rng(2))
    agreeing = {size: np.repeat(y, 2, axis=0) for size, y in steady.items()}
    lucky = np.arange(2000) % 10 > 0  # one seed gets every tenth item wrong, whatever it was taught
    apart = {size: np.vstack([y, y * lucky]) for size, y in steady.items()}
    b = exactly({0: 0.5}, items=2000)
    sure, unsure = curves.overtaking(agreeing, b), curves.overtaking(apart, b)
    assert sure.low is not None
    assert sure.high is not None
    assert unsure.low is not None
    assert unsure.high is not None
    assert np.log(unsure.high / unsure.low) > 2 * np.log(sure.high / sure.low)


def test_one_seed_says_that_seed_variance_is_missing_unless_there_is_none() -> None:
    a, b = exactly({25: 0.4, 100: 0.6}), exactly({0: 0.5})
    assert curves.overtaking(a, b, varies_with_seed=(True, False)).note == stats.WITHOUT_SEEDS
    assert curves.overtaking(a, b, varies_with_seed=(False, False)).note == ""
    several = {size: np.repeat(y, 2, axis=0) for size, y in a.items()}
    assert curves.overtaking(several, b, varies_with_seed=(True, False)).note == ""


def test_the_same_scores_give_the_same_interval_again() -> None:
    rng = np.random.default_rng(3)
    a, b = shares({25: 0.4, 100: 0.6}, 80, 2, rng), shares({0: 0.5}, 80, 1, rng)
    assert curves.overtaking(a, b) == curves.overtaking(a, b)


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_interval_covers_a_known_crossing_about_as_often_as_it_says(seeds: int) -> None:
    rng = np.random.default_rng(4)
    right = {25: 0.3, 50: 0.45, 100: 0.6, 200: 0.75}
    truth = 50 * 2 ** (1 / 3)
    covered, bounded, trials = 0, 0, 100
    for _ in range(trials):
        hard = rng.uniform(-0.2, 0.2, 150)
        a = {
            size: (rng.random((seeds, 150)) < p + hard + rng.normal(0, 0.03, (seeds, 1))).astype(float)
            for size, p in right.items()
        }
        b = {0: (rng.random((1, 150)) < 0.5 + hard).astype(float)}
        found = curves.overtaking(a, b, varies_with_seed=(True, False), count=300)
        covered += (found.low or 0) <= truth <= (found.high or np.inf)
        bounded += found.low is not None and found.high is not None
    assert 0.90 <= covered / trials <= 0.99
    assert bounded / trials > 0.8  # or else covering would be easy


def test_items_scored_out_of_fold_leave_crossing_and_gain_less_certain() -> None:
    rng = np.random.default_rng(7)
    a, b = shares({25: 0.3, 50: 0.45, 100: 0.6, 200: 0.75}, 2000, 1, rng), shares({0: 0.52}, 2000, 1, rng)
    plain, widened = (curves.overtaking(a, b, inflation=factor) for factor in (1.0, 4.0))
    assert plain.low is not None
    assert plain.high is not None
    assert widened.low is not None
    assert widened.high is not None
    width = np.log(plain.high / plain.low)
    assert np.log(widened.high / widened.low) == pytest.approx(2 * width, rel=0.15)
    assert stats.OUT_OF_FOLD in widened.note
    assert stats.OUT_OF_FOLD not in plain.note
    gains = [curves.gain(a, inflation=factor) for factor in (1.0, 4.0)]
    assert gains[0] is not None
    assert gains[1] is not None
    spans = [g.interval.high - g.interval.low for g in gains if g is not None]
    assert spans[1] > 1.3 * spans[0]
    assert stats.OUT_OF_FOLD in gains[1].interval.note


def test_every_size_has_the_interval_of_its_scores() -> None:
    curve = shares({25: 0.4, 100: 0.6}, 80, 2, np.random.default_rng(5))
    first, second = curves.points(curve)
    assert (first.size, second.size) == (25, 100)
    assert first.mean == pytest.approx(curve[25].mean())
    assert second.interval == stats.mean_interval(curve[100])


def test_a_size_without_variance_on_an_open_range_has_no_interval() -> None:
    (point,) = curves.points(exactly({25: 3.0}), bounds=None)
    assert (point.mean, point.interval) == (3.0, None)


# --- what more examples bring ----------------------------------------------------------------


def law(size: float) -> float:
    return 0.9 - 1.5 * size**-0.4


def test_a_curve_that_is_a_power_law_is_continued_by_it() -> None:
    found = curves.gain(exactly({size: law(size) for size in SIZES}), more=200)
    assert found is not None
    assert found.expected == pytest.approx(law(400) - law(200), rel=1e-3)
    assert (found.asymptote, found.exponent) == (pytest.approx(0.9, rel=1e-2), pytest.approx(0.4, rel=1e-2))
    assert found.extrapolated
    assert "beyond the sizes measured" in found.interval.note


def test_within_the_sizes_measured_nothing_is_extrapolated() -> None:
    found = curves.gain(exactly({size: law(size) for size in SIZES}), more=50, size=100)
    assert found is not None
    assert found.expected == pytest.approx(law(150) - law(100), rel=1e-3)
    assert not found.extrapolated
    assert "beyond" not in found.interval.note


def test_a_falling_error_rate_is_a_gain() -> None:
    found = curves.gain(exactly({size: 1 - law(size) for size in SIZES}), higher_is_better=False)
    assert found is not None
    assert found.expected == pytest.approx(law(400) - law(200), rel=1e-3)
    assert found.asymptote == pytest.approx(0.1, abs=0.01)


def test_a_flat_curve_promises_nothing() -> None:
    found = curves.gain(exactly(dict.fromkeys(SIZES, 0.7)))
    assert found is not None
    assert found.expected == pytest.approx(0.0, abs=1e-6)


def test_a_falling_curve_promises_nothing_either() -> None:
    found = curves.gain(exactly({25: 0.8, 50: 0.7, 100: 0.65, 200: 0.6}))
    assert found is not None
    assert found.expected == pytest.approx(0.0, abs=1e-3)


def test_no_curve_rises_above_the_best_possible_score() -> None:
    found = curves.gain(exactly({25: 0.2, 50: 0.5, 100: 0.8, 200: 0.99}), more=100_000)
    assert found is not None
    assert found.asymptote <= 1.0
    assert found.interval.high <= 0.2


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_the_power_law_is_the_one_with_the_least_squares(noise: float) -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(8)
    sizes = np.array([25, 50, 100, 200, 400])
    y = np.array([law(size) for size in sizes]) + rng.normal(0, noise, len(sizes))

    def squares(given: Any) -> float:
        a, b, c = given
        return float(np.square(y - a + b * (sizes / 400) ** -c).sum())

    bounds = [(-5, 1.0), (0.0, 5.0), (0.01, 2.0)]
    least = min(minimize(squares, (0.9, 0.1, c), bounds=bounds).fun for c in (0.1, 0.5, 1.0, 1.9))
    found = [float(x[0]) for x in curves._power_laws(sizes, y[None, :], 1.0)]
    assert squares(found) <= least + 1e-6


def test_two_sizes_do_not_make_a_power_law() -> None:
    assert curves.gain(exactly({25: 0.4, 100: 0.6})) is None


def test_a_size_of_nothing_has_no_power_law() -> None:
    with pytest.raises(ValueError, match="below 1"):
        curves.gain(exactly({0: 0.1, 100: 0.5, 200: 0.6}))


def test_the_interval_covers_a_known_gain_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    sizes, covered, trials = (25, 50, 100, 200, 400), 0, 40
    for _ in range(trials):
        curve = shares({size: law(size) for size in sizes}, 300, 3, rng)
        found = curves.gain(curve, more=200, count=40)
        assert found is not None
        covered += found.interval.low <= law(600) - law(400) <= found.interval.high
    assert covered / trials >= 0.85
