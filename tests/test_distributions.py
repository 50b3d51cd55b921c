"""What reports compute without scipy.stats and statsmodels is what those compute."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from breakeven.harness import _distributions as ours
from breakeven.harness import _intervals, _variance, stats

SHARES = [1e-12, 0.001, 0.025, 0.05, 0.31, 0.5, 0.8, 0.975, 0.999]
POINTS = [-6.0, -1.96, -0.1, 0.0, 0.7, 3.0, 9.0]
DF = [1.0, 1.7, 4.0, 39.0, 1e4, float("inf")]


def test_the_normal_distribution_is_scipys() -> None:
    assert [ours.normal_quantile(q) for q in SHARES] == list(scipy_stats.norm.ppf(SHARES))
    assert [ours.normal_tail(z) for z in POINTS] == list(scipy_stats.norm.sf(POINTS))
    assert list(ours.normal_cdf(np.array(POINTS))) == list(scipy_stats.norm.cdf(POINTS))


@pytest.mark.parametrize("df", DF)
def test_students_t_is_scipys(df: float) -> None:
    assert ours.t_quantile(np.array(SHARES), df) == pytest.approx(scipy_stats.t.ppf(SHARES, df), rel=1e-12)
    assert [ours.t_tail(t, df) for t in POINTS] == pytest.approx(scipy_stats.t.sf(POINTS, df), rel=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0.5, 40.5), (20.5, 0.5), (3.2, 7.9)])
def test_the_beta_distribution_is_scipys(a: float, b: float) -> None:
    wanted = scipy_stats.beta.ppf(SHARES, a, b)
    assert ours.beta_quantile(np.array(SHARES), a, b) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.95, 0.1])
def test_counts_of_a_binomial_are_scipys(share: float) -> None:
    for n in (1, 2, 7, 8, 40, 333, 5000):
        for level in (0.025, 0.2, 0.51, 0.975):
            assert ours.binomial_quantile(level, n, share) == int(scipy_stats.binom.ppf(level, n, share))


def test_mcnemars_test_is_statsmodels() -> None:
    for won, lost in [(0, 1), (1, 0), (3, 3), (10, 2), (57, 91), (400, 30), (0, 60), (1500, 1480)]:
        found, table = stats.mcnemar(won, lost), [[0, won], [lost, 0]]
        chi2 = mcnemar(table, exact=False, correction=False)
        assert found.statistic == pytest.approx(chi2.statistic, rel=1e-12)
        assert found.p_chi2 == pytest.approx(chi2.pvalue, rel=1e-9)
        assert found.p_exact == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_wilsons_interval_is_statsmodels() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        n = float(rng.choice([1, 5.5, 40, 333, 1e5]))
        share, critical = float(rng.choice([0, 1, rng.random()])), float(rng.choice([1.96, 2.2, 12.7, 50]))
        alpha = 2 * scipy_stats.norm.sf(min(critical, 37.0))
        low, high = proportion_confint(share * n, n, alpha=alpha, method="wilson")
        wanted = (0.0 if share == 0 else low), (1.0 if share == 1 else high)
        assert _intervals.wilson_bounds(share, n, critical) == pytest.approx(wanted, rel=1e-13, abs=1e-15)


def test_holms_adjustment_is_statsmodels() -> None:
    rng = np.random.default_rng(3)
    assert stats.holm([]) == []
    for count in (1, 2, 3, 9, 40):
        ps = rng.choice([*rng.random(5) ** 4, 0.04, 1.0, 0.0], size=count)
        assert stats.holm(list(ps)) == list(multipletests(ps, method="holm")[1])


@pytest.mark.parametrize("groups", [2, 3, 8, 13, 14, 15, 60, 333, 2000])
def test_random_signs_are_scipys_permutations_to_the_last_draw(groups: int) -> None:
    rng = np.random.default_rng(groups)
    for sums in (
        rng.normal(0.05, 1, groups),
        rng.choice([-1.0, 1.0], groups),
        rng.integers(1, 4, groups) / 3,
        rng.choice([-2 / 7, 1 / 7, 3 / 7], groups),
    ):
        wanted = scipy_stats.permutation_test(
            (sums,), np.sum, permutation_type="samples", vectorized=True, n_resamples=9999,
            batch=max(1, 1_000_000 // groups), axis=-1, rng=np.random.default_rng(0),
        )  # fmt: skip
        assert _intervals.sign_flip_p(sums) == float(wanted.pvalue)


def test_one_group_that_differs_shows_nothing() -> None:
    assert _intervals.sign_flip_p(np.array([0.0, 0.4, 0.0])) == 1.0


@pytest.mark.parametrize("n", [20, 21, 60, 333, 1500])
@pytest.mark.parametrize("kept", [True, False])
def test_a_bca_interval_is_scipys(n: int, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_intervals, "KEPT", 128_000_000 if kept else 0)
    rng = np.random.default_rng(n)
    for y in (
        rng.random(n), (rng.random(n) < 0.3) * rng.random(n), np.r_[np.ones(n - 1), 0.5],
        rng.integers(0, 4, n) / 3,
    ):  # fmt: skip
        wanted = _scipys_bca(y)
        found = _intervals.bca(y, 0.95)
        assert found == wanted if wanted is None else found == pytest.approx(wanted, rel=1e-12)


def _scipys_bca(y: np.ndarray) -> tuple[float, float] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scipy_stats.bootstrap(
            (y,), np.mean, method="BCa", vectorized=True, n_resamples=4999, batch=max(1, 1_000_000 // len(y)),
            axis=-1, confidence_level=0.95, rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
    return (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None


def test_scores_that_are_all_alike_have_no_bca_interval() -> None:
    assert _intervals.bca(np.ones(40), 0.95) is None


def test_items_alone_are_groups_of_one() -> None:
    """Sums without a loop are those with one."""
    rng = np.random.default_rng(5)
    for items in (1, 2, 30, 500):
        y, each = rng.normal(size=items), [np.array([i]) for i in range(items)]
        alone = _variance.cluster_positions(None, items)
        assert [list(c) for c in alone] == [list(c) for c in each]
        assert [list(alone[i]) for i in range(items)] == [list(c) for c in each]
        assert list(_variance.cluster_sums(y, alone)) == [y[c].sum() for c in each]
        for small in (True, False) if items > 1 else (False,):
            found = _variance.clustered_variance(y, alone, small)
            assert found == pytest.approx(_variance.clustered_variance(y, each, small), rel=1e-12)


def test_a_difference_without_a_test_is_the_same_difference() -> None:
    rng = np.random.default_rng(6)
    groups = [f"g{i // 3}" for i in range(30)]
    for a, b in ((rng.random(30), rng.random(30)), (rng.random(30) < 0.5, rng.random(30) < 0.3)):
        for grouped in (None, groups):
            tested = stats.paired_difference(a, b, grouped)
            plain = stats.paired_difference(a, b, grouped, tested=False)
            assert (plain.value, plain.interval, plain.won, plain.lost) == (
                tested.value, tested.interval, tested.won, tested.lost,
            )  # fmt: skip
            assert (plain.p, plain.test) == (None, "")
            assert tested.p is not None
