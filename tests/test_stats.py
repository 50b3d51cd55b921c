"""Intervals and paired differences: hand-checked cases, and coverage by simulation."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from breakeven.harness import stats


def test_wilson_takes_an_effective_sample_size_that_is_not_whole() -> None:
    # by hand, 3.5 of 10.5, z = 1.96: centre 0.37797, half width 0.24803
    interval = stats.wilson(3.5, 10.5)
    assert (interval.low, interval.high) == pytest.approx((0.1300, 0.6260), abs=1e-4)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    names = ", ".join(f"breakeven.harness.{module}" for module in ("stats", "power", "curves", "cli.app"))
    code = f"import sys, {names}; print({{'statsmodels', 'scipy', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


# --- one mean --------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_forty_eight_equal_answers_still_leave_room_for_error(score: float) -> None:
    interval = stats.mean_interval([score] * 48)
    assert interval.high - interval.low == pytest.approx(0.0741, abs=1e-4)  # Wilson: z^2 / (n + z^2)
    assert interval.low <= score <= interval.high


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_more_seeds_of_the_same_48_items_do_not_pretend_to_more_items(score: float) -> None:
    interval = stats.mean_interval(np.full((3, 48), score))
    assert interval.high - interval.low == pytest.approx(0.0741, abs=1e-4)


def test_equal_graded_scores_get_the_width_of_the_range_not_zero() -> None:
    interval = stats.mean_interval([0.5] * 48)
    assert (interval.low, interval.high) == pytest.approx((0.3639, 0.6361), abs=1e-3)
    assert "equal" in interval.note


def test_one_seed_of_zeros_and_ones_is_wilson() -> None:
    interval = stats.mean_interval([1.0] * 81 + [0.0] * 182)
    expected = stats.wilson(81, 263)
    assert (interval.low, interval.high) == (expected.low, expected.high)


def test_one_seed_says_that_seed_variance_is_missing() -> None:
    assert "excludes seed variance" in stats.mean_interval([0.0, 1.0, 1.0]).note


def test_two_seeds_do_not_say_that_seed_variance_is_missing() -> None:
    assert "seed" not in stats.mean_interval([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]).note


def test_a_strategy_without_chance_misses_no_seed_variance() -> None:
    assert stats.mean_interval([0.0, 1.0, 1.0], varies_with_seed=False).note == ""


def test_graded_scores_get_students_t() -> None:
    scores = [0.2, 0.4, 0.6, 0.8]  # mean 0.5, sd 0.2582, t(3) = 3.1824
    interval = stats.mean_interval(scores)
    assert (interval.low, interval.high) == pytest.approx((0.0892, 0.9108), abs=1e-4)


def skewed(n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Scores as token F1 gives them: mostly 0, a few 1, some between; 0.15 is expected."""
    u = rng.random(n)
    return np.where(u < 0.8, 0.0, np.where(u < 0.9, 1.0, rng.beta(2, 2, n)))


def test_graded_scores_of_many_items_get_bca_which_follows_their_skewness() -> None:
    scores = skewed(100, np.random.default_rng(1))
    interval = stats.mean_interval(scores)
    assert interval.method == "BCa bootstrap"
    assert interval.high - scores.mean() > 1.1 * (scores.mean() - interval.low)
    assert interval.note == "excludes seed variance"


def test_bca_is_the_same_for_the_same_scores() -> None:
    scores = skewed(60, np.random.default_rng(2))
    assert stats.mean_interval(scores) == stats.mean_interval(scores)


def test_bca_covers_skewed_scores_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    intervals = [stats.mean_interval(skewed(50, rng)) for _ in range(150)]
    assert 0.91 <= np.mean([i.low <= 0.15 <= i.high for i in intervals]) <= 0.98


def test_graded_scores_of_several_seeds_or_in_groups_keep_the_clustered_variance() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random((2, 40))
    assert stats.mean_interval(scores).method == "t"
    assert stats.mean_interval(scores[0], np.repeat(np.arange(20), 2)).method == "t"


def test_open_scores_get_bca_too() -> None:
    assert stats.mean_interval(skewed(60, np.random.default_rng(5)), bounds=None).method == "BCa bootstrap"


def test_where_bca_is_not_defined_t_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "bca", lambda *_: None)
    interval = stats.mean_interval(skewed(60, np.random.default_rng(6)))
    assert interval.method == "t"
    assert "BCa cannot be computed" in interval.note


def test_two_seeds_get_satterthwaites_degrees_of_freedom() -> None:
    # by hand: item means 0.1 0.4 0.6, variance 0.02111 on 2 df; seed means 0.2 0.5333, variance 0.02778 on 1;
    # together 0.04889 on 2.4035 df, t = 3.6795
    interval = stats.mean_interval([[0.0, 0.2, 0.4], [0.2, 0.6, 0.8]], bounds=None)
    assert (interval.low, interval.high) == pytest.approx((-0.4469, 1.1802), abs=1e-3)


def test_a_t_interval_is_clipped_to_the_bounds() -> None:
    interval = stats.mean_interval([0.0, 0.1, 0.9, 1.0])
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_open_scores_are_not_clipped() -> None:
    assert stats.mean_interval([-3.0, 40.0, 2.0], bounds=None).low < -3.0


def test_bounds_other_than_zero_and_one_scale_the_interval() -> None:
    scores = np.random.default_rng(2).integers(0, 2, 48).astype(float)
    unit, percent = stats.mean_interval(scores), stats.mean_interval(100 * scores, bounds=(0.0, 100.0))
    assert (percent.low, percent.high) == pytest.approx((100 * unit.low, 100 * unit.high))


def test_a_score_outside_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the bounds"):
        stats.mean_interval([0.5, 1.5])


def test_a_missing_score_is_refused_rather_than_averaged() -> None:
    with pytest.raises(ValueError, match="finite"):
        stats.mean_interval([0.5, float("nan")])


def test_dependent_items_widen_the_interval() -> None:
    scores = np.repeat([0.0, 1.0] * 12, 4)
    grouped, naive = stats.mean_interval(scores, np.repeat(np.arange(24), 4)), stats.mean_interval(scores)
    assert (grouped.high - grouped.low) / (naive.high - naive.low) == pytest.approx(2.0, abs=0.1)


def test_groups_of_one_change_nothing() -> None:
    scores = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert stats.mean_interval(scores, ["a", "b", "c", "d", "e"]) == stats.mean_interval(scores)


def test_items_without_a_group_are_alone() -> None:
    scores = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert stats.mean_interval(scores, [None] * 5) == stats.mean_interval(scores)


def test_a_single_group_says_almost_nothing() -> None:
    interval = stats.mean_interval([1.0] * 40 + [0.0] * 8, ["book"] * 48)
    assert interval.high - interval.low > 0.7


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(3)
    agree = (rng.random((3, 100)) < 0.5).astype(float)
    disagree = (rng.random((3, 100)) < np.array([[0.2], [0.5], [0.8]])).astype(float)
    a, d = stats.mean_interval(agree), stats.mean_interval(disagree)
    assert d.high - d.low > 2 * (a.high - a.low)


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(seeds: int, share: float) -> None:
    rng = np.random.default_rng(4)
    covered, trials, items, spread = 0, 300, 60, 1.0 if seeds > 1 else 0.0
    logit = np.log(share / (1 - share))
    truth = np.mean(1 / (1 + np.exp(-logit - rng.normal(0, np.hypot(1.0, spread / 3), 200_000))))
    for _ in range(trials):
        item, seed = rng.normal(0, 1.0, items), rng.normal(0, spread / 3, (seeds, 1))
        scores = (rng.random((seeds, items)) < 1 / (1 + np.exp(-logit - item - seed))).astype(float)
        interval = stats.mean_interval(scores)
        covered += interval.low <= truth <= interval.high
    assert 0.90 <= covered / trials <= 0.995  # 95 %, give or take


def test_the_clustered_interval_covers_where_the_naive_one_does_not() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(20), 6)
    hits = {"clustered": 0, "naive": 0}
    for _ in range(200):
        chance = np.repeat(rng.beta(0.5, 0.5, 20), 6)
        scores = (rng.random(120) < chance).astype(float)
        for name, labels in (("clustered", groups), ("naive", None)):
            interval = stats.mean_interval(scores, labels)
            hits[name] += interval.low <= 0.5 <= interval.high
    assert hits["naive"] / 200 < 0.80 < 0.89 < hits["clustered"] / 200


# --- aggregates that are no mean -------------------------------------------------------------


def test_the_bootstrap_of_a_mean_agrees_with_the_t_interval() -> None:
    scores = np.random.default_rng(6).random(200)
    boot = stats.bootstrap_interval(lambda at: float(scores[at].mean()), 200)
    t = stats.mean_interval(scores)
    assert (boot.low, boot.high) == pytest.approx((t.low, t.high), abs=0.01)


def test_the_bootstrap_draws_whole_groups() -> None:
    groups = np.repeat(np.arange(10), 5)

    def whole(at: np.ndarray[Any, Any]) -> float:
        return float(all(len(at[at // 5 == g]) % 5 == 0 for g in groups))

    assert stats.bootstrap_interval(whole, 50, groups, draws=50).low == 1.0


def test_seeds_that_disagree_widen_an_aggregate_that_is_no_mean() -> None:
    draws = np.random.default_rng(7).normal(0.5, 0.02, 1000)
    alone = stats.draws_interval(draws, seeds=[[0.5]])
    several = stats.draws_interval(draws, seeds=[[0.46, 0.50, 0.54]])
    # by hand: variances 0.0004 and 0.0016 / 3 on 2 df; together 0.000933 on 6.1 df, t = 2.437
    assert several.high - several.low == pytest.approx(2 * 2.437 * 0.000933**0.5, rel=0.05)
    assert several.high - several.low > 1.8 * (alone.high - alone.low)
    assert (alone.note, several.note) == ("excludes seed variance", "")


def test_a_bootstrap_without_chance_leaves_nothing_out() -> None:
    draws = np.random.default_rng(8).normal(0.5, 0.02, 1000)
    assert stats.draws_interval(draws, varies_with_seed=False).note == ""


def test_p_of_draws_is_twice_the_smaller_side_and_never_nothing() -> None:
    assert stats.draws_p([-1.0] * 19 + [1.0] * 980) == (pytest.approx(2 * 20 / 1000), "bootstrap")
    assert stats.draws_p([1.0] * 999) == (pytest.approx(2 / 1000), "bootstrap")
    assert stats.draws_p([-1.0, 1.0]) == (1.0, "bootstrap")


def test_p_of_draws_counts_the_seeds_of_both_sides() -> None:
    draws = np.random.default_rng(9).normal(0.05, 0.02, 1000)
    agreeing, _ = stats.draws_p(draws, seeds=[[0.5, 0.5], [0.45, 0.45]])
    p, test = stats.draws_p(draws, seeds=[[0.4, 0.6], [0.45, 0.45]])
    assert (test, agreeing < 0.05 < p) == ("t", True)


# --- two strategies --------------------------------------------------------------------------


def test_a_difference_counts_items_won_lost_and_tied() -> None:
    result = stats.paired_difference([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0])
    assert (result.value, result.won, result.lost, result.tied) == (0.0, 1, 1, 2)


def test_zeros_and_ones_are_tested_by_exact_mcnemar() -> None:
    result = stats.paired_difference([1.0] * 10 + [0.0] * 38, [0.0] * 48)
    assert result.test == "exact McNemar"
    assert result.p == pytest.approx(2 / 2**10)


def test_the_interval_of_a_share_difference_is_bonett_and_prices() -> None:
    # 9 won, 3 lost of 28: shares 10/30 and 4/30, difference 0.2, half width 1.96 * sqrt((0.4667 - 0.04) / 30)
    a = [1.0] * 9 + [0.0] * 19
    b = [0.0] * 9 + [1.0] * 3 + [0.0] * 16
    interval = stats.paired_difference(a, b).interval
    assert (interval.low, interval.high) == pytest.approx((-0.0337, 0.4337), abs=1e-4)


def test_two_strategies_that_answer_alike_are_not_proven_equal() -> None:
    result = stats.paired_difference([1.0, 0.0] * 24, [1.0, 0.0] * 24)
    assert (result.interval.low, result.interval.high) == pytest.approx((-0.0554, 0.0554), abs=1e-4)
    assert result.p == 1.0


def test_alike_on_every_seed_is_not_proven_equal_either() -> None:
    scores = np.tile([1.0, 0.0], (3, 24))
    assert stats.paired_difference(scores, scores).interval.high == pytest.approx(0.0554, abs=1e-4)


def test_graded_scores_that_are_all_equal_keep_a_width() -> None:
    interval = stats.paired_difference([0.5] * 48, [0.25] * 48).interval
    assert interval.low < 0.2 < 0.3 < interval.high


def test_graded_differences_are_tested_by_sign_flips() -> None:
    # all six differences positive: 2 of the 2^6 sign patterns are as extreme
    result = stats.paired_difference([0.6, 0.7, 0.8, 0.9, 0.5, 0.4], [0.5, 0.5, 0.5, 0.5, 0.3, 0.1])
    assert result.test == "sign-flip permutation"
    assert result.p == pytest.approx(2 / 64)


def test_dependent_items_are_flipped_together() -> None:
    a, b = [0.9] * 12, [0.1] * 11 + [0.2]
    result = stats.paired_difference(a, b, ["x"] * 6 + ["y"] * 6)
    assert result.p == pytest.approx(2 / 4)


def test_pairing_makes_a_small_steady_gain_visible() -> None:
    base = np.random.default_rng(7).random(100) * 0.8
    gain = np.random.default_rng(8).normal(0.03, 0.02, 100)
    result = stats.paired_difference(np.clip(base + gain, 0, 1), base)
    assert 0.02 < result.interval.low < result.interval.high < 0.04


def test_a_strategy_with_one_row_may_meet_one_with_three_seeds() -> None:
    rng = np.random.default_rng(9)
    result = stats.paired_difference(
        (rng.random((3, 80)) < 0.9).astype(float), np.zeros(80), varies_with_seed=(True, False)
    )
    assert (result.interval.note, result.test, result.p < 0.01) == ("", "t", True)


def test_p_is_adjusted_for_the_number_of_comparisons_by_holm() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.6, 0.7]) == [1.0, 1.0]
    assert stats.holm([]) == []


def test_many_small_differences_are_tested_as_a_normal_sum() -> None:
    rng = np.random.default_rng(12)
    d = rng.normal(0.004, 0.1, 4000)
    found = stats.paired_difference(0.5 + d, np.full(4000, 0.5), bounds=None)
    assert found.test == "sign-flip permutation"
    assert found.p == pytest.approx(2 * norm.sf(abs(d.sum()) / np.sqrt((d**2).sum())))


def test_different_items_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="3 items against 2"):
        stats.paired_difference([1.0, 0.0, 1.0], [1.0, 0.0])


def test_swapping_the_sides_mirrors_the_difference() -> None:
    rng = np.random.default_rng(10)
    a, b = rng.random((2, 40)), rng.random((3, 40))
    there, back = stats.paired_difference(a, b), stats.paired_difference(b, a)
    assert (there.interval.low, there.p, there.won) == pytest.approx((-back.interval.high, back.p, back.lost))


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_two_equal_strategies_are_rarely_told_apart(seeds: int) -> None:
    rng = np.random.default_rng(11)
    false_alarms = covered = 0
    for _ in range(300):
        item = rng.normal(0, 1.5, 60)
        a, b = (
            (rng.random((seeds, 60)) < 1 / (1 + np.exp(-item - rng.normal(0, 0.3 * (seeds > 1), (seeds, 1)))))
            for _ in range(2)
        )
        result = stats.paired_difference(a.astype(float), b.astype(float))
        false_alarms += result.p < 0.05
        covered += result.interval.low <= 0 <= result.interval.high
    assert false_alarms / 300 < 0.09
    assert covered / 300 > 0.91


# --- latency ---------------------------------------------------------------------------------


def test_the_median_of_many_values_has_both_bounds() -> None:
    p50 = stats.percentile(range(1, 101), 50)
    assert (p50.value, p50.low, p50.high) == (50.5, 40.0, 61.0)  # order statistics 40 and 61 of 100


def test_the_95th_percentile_of_eight_values_has_no_upper_bound() -> None:
    p95 = stats.percentile([1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 9.0], 95)
    assert p95.high is None
    assert "72 would" in p95.note  # 0.95^72 < 0.025


def test_seventy_two_values_do_bound_the_95th_percentile() -> None:
    assert stats.percentile(range(72), 95).high == 71.0


def test_a_single_value_is_its_own_percentile_without_bounds() -> None:
    p = stats.percentile([3.0], 50)
    assert (p.value, p.low, p.high) == (3.0, None, None)


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least one"):
        stats.percentile([], 50)
