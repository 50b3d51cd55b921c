"""The rule: what is chosen, when it is decided, what would overturn it."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decision_cases import case, economics, name, owned, right_answers

from breakeven.harness import decision, draws
from breakeven.harness.contracts import Usage
from breakeven.harness.costs import hosting_cost
from breakeven.harness.decision import choose, decide, thresholds, worth_of_testing, worth_that_overturns
from breakeven.harness.ledger import Amount
from breakeven.harness.ownership import Bill, Knobs
from breakeven.harness.prices import PriceBook, TokenPrice

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
PUBLISHED = VECTORS["decision"]["cases"]

N = 400
GOOD, FAIR, POOR = (right_answers(share, N, seed) for seed, share in enumerate((0.9, 0.7, 0.5)))


# --- published numbers -----------------------------------------------------------------------


def normal(mean: float, sd: float, n: int = 400_000) -> np.ndarray:
    """Quantiles of a normal distribution: draws without sampling noise."""
    exact = statistics.NormalDist(mean, sd)
    return np.array([exact.inv_cdf((i + 0.5) / n) for i in range(n)])


def test_the_worth_of_testing_two_options_is_the_published_one() -> None:
    benefits = np.array([np.zeros(400_000), normal(1, 2)])

    assert worth_of_testing(benefits) == pytest.approx(PUBLISHED[0]["value"], abs=PUBLISHED[0]["tol_abs"])


def test_the_probability_of_being_best_is_the_published_one() -> None:
    drawn = normal(1, 2)
    both = np.zeros((2, len(drawn))), np.array([np.zeros(len(drawn)), drawn])
    found = case({"a": np.zeros((1, 1)), "b": np.zeros((1, 1))}, settings=economics(value_per_correct=1.0))
    # one request in one month, so that the benefit of a draw is the worth of its answer
    found = replace(
        found,
        draws=replace(found.draws, score=both[1], worth=both[1], tokens=both[0], seconds=both[0]),
        knobs=Knobs(1.0, 1, 1.0),
        economics=economics(value_per_correct=1.0, horizon_months=1),
    )

    verdict = decide(found)

    assert verdict.best[1] == pytest.approx(PUBLISHED[1]["value"], abs=PUBLISHED[1]["tol_abs"])


def test_a_hosted_fine_tune_ties_where_its_price_doubles_and_its_prompt_shrinks_enough() -> None:
    base = TokenPrice("m", 0.15, 0.60, "USD", PriceBook({}).on, "published")
    tuned = base.times(2, "USD")

    calls = base.cost(Usage(240, 10)) * 1e6, tuned.cost(Usage(100, 10)) * 1e6

    assert calls == pytest.approx(PUBLISHED[2]["value"], rel=PUBLISHED[2]["tol"])


def test_the_worked_example_of_a_hosted_deployment_adds_up() -> None:
    book = PriceBook.load()
    price, hour = book.token_price("o4-mini"), book.hosting_hour("azure/standard")
    assert price is not None
    assert hour is not None
    # a month of 20M tokens in and 40M out, and 720 hours of hosting
    tokens = price.cost(Usage(20_000_000, 40_000_000))
    hosting = hosting_cost(hour, 720).value
    assert hosting is not None
    month = replace(owned(), monthly=Bill(machine=hosting), request=Bill(tokens=tokens))

    found = month.month(economics(), Knobs(1, 12, None))

    assert found == pytest.approx(PUBLISHED[3]["value"], rel=PUBLISHED[3]["tol"])


@pytest.mark.parametrize("replayed", VECTORS["replay"]["cases"], ids=lambda c: c["source"].split(",")[0])
def test_published_comparisons_at_equal_cost_are_decided_as_published(replayed: dict) -> None:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    scores = {k: (rng.random((1, 1000)) < share).astype(float) for k, share in replayed["scores"].items()}
    found = case(scores, settings=economics(value_per_correct=1.0))

    verdict = decide(found)

    assert verdict.decided
    assert name(found, verdict.choice) == replayed["winner"]


def test_every_published_decision_is_checked() -> None:
    assert len(PUBLISHED) == 5  # the fifth, "never", is checked with the break-even volumes


# --- the rule --------------------------------------------------------------------------------


def test_with_a_value_the_highest_net_benefit_wins_though_it_costs_more() -> None:
    costs = {"good": owned(request=0.05), "poor": owned(request=0.001)}
    found = case({"good": GOOD, "poor": POOR}, costs, settings=economics(value_per_correct=1.0))

    verdict = decide(found)

    assert (verdict.kind, name(found, verdict.choice), verdict.mode) == ("choose", "good", "value")


def test_with_a_small_value_the_cheaper_one_wins_though_it_is_worse() -> None:
    costs = {"good": owned(request=0.05), "poor": owned(request=0.001)}
    found = case({"good": GOOD, "poor": POOR}, costs, settings=economics(value_per_correct=0.01))

    assert name(found, decide(found).choice) == "poor"


def test_without_a_value_the_cheapest_of_those_not_worse_than_the_incumbent_wins() -> None:
    costs = {"today": owned(request=0.05), "same": owned(request=0.01), "poor": owned(request=0.001)}
    found = case({"today": GOOD, "same": GOOD, "poor": POOR}, costs, incumbent="today")

    verdict = decide(found)

    assert (verdict.kind, name(found, verdict.choice), verdict.mode) == ("choose", "same", "cost")


def test_without_a_value_and_an_incumbent_the_reference_is_the_best_of_each_draw() -> None:
    costs = {"good": owned(request=0.05), "fair": owned(request=0.01)}
    found = case({"good": GOOD, "fair": FAIR}, costs)

    assert name(found, decide(found).choice) == "good"


def test_the_incumbent_stays_when_it_is_the_choice() -> None:
    costs = {"today": owned(request=0.01), "dear": owned(request=0.05)}
    found = case({"today": GOOD, "dear": GOOD}, costs, incumbent="today")

    assert decide(found).kind == "stay"


def test_two_that_are_alike_but_not_the_same_leave_it_undecided() -> None:
    a, b = right_answers(0.62, 60, 1), right_answers(0.60, 60, 2)
    found = case({"a": a, "b": b}, settings=economics(value_per_correct=1.0))

    verdict = decide(found)

    assert verdict.kind == "undecided"
    assert name(found, verdict.choice) == "a"
    assert name(found, verdict.rival) == "b"
    assert 0.05 < verdict.confidence < 0.95


def test_within_the_margin_is_decided_although_neither_is_surely_best() -> None:
    a = right_answers(0.9, 2000, 1)
    b = a.copy()
    b[0, :6] = 1 - b[0, :6]
    found = case({"a": a, "b": b}, settings=economics(value_per_correct=1.0, margin=0.02))

    verdict = decide(found)

    assert verdict.kind == "choose"
    assert max(verdict.best) < 0.999


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"quality_floor": 0.95}, "floor"),
        ({"latency_ceiling": 0.5}, "latency"),
        ({"exclude_hosts": ["api.example.com"]}, "host"),
    ],
)
def test_what_misses_floor_ceiling_or_host_is_dropped_with_its_reason(settings: dict, why: str) -> None:  # type: ignore[type-arg]
    perfect = np.ones((1, N))
    found = case(
        {"good": GOOD, "perfect": perfect},
        {"perfect": owned(request=9.0)},
        settings=economics(value_per_correct=0.01, **settings),
        p95={"good": 2.0, "perfect": 0.2},
        hosts={"good": "api.example.com"},
    )

    assert found.dropped == {0: (why,)}
    assert name(found, decide(found).choice) == "perfect"


def test_a_strategy_whose_cost_is_unknown_is_not_free() -> None:
    found = case(
        {"good": GOOD, "poor": POOR},
        {"good": owned(missing=("tokens of m",)), "poor": owned(request=1.0)},
        settings=economics(value_per_correct=100.0),
    )

    assert found.dropped == {0: ("cost",)}
    assert name(found, decide(found).choice) == "poor"


def test_when_nothing_reaches_the_floor_nothing_is_chosen() -> None:
    found = case({"good": GOOD, "poor": POOR}, settings=economics(quality_floor=0.99))

    verdict = decide(found)

    assert (verdict.kind, verdict.choice) == ("nothing", None)
    assert thresholds_of(found) == []


def thresholds_of(found: decision.Case) -> list[decision.Threshold]:
    choice = decide(found).choice
    return [] if choice is None else thresholds(found, choice)


def test_a_choice_that_only_just_reaches_the_floor_is_undecided() -> None:
    found = case({"good": GOOD}, settings=economics(value_per_correct=1.0, quality_floor=0.899))

    assert decide(found).kind == "undecided"


def test_where_lower_is_better_the_lower_score_wins() -> None:
    found = case({"many": GOOD, "few": POOR})
    found = replace(found, higher_is_better=False)

    assert name(found, decide(found).choice) == "few"


def test_the_winner_of_many_equals_is_found_to_look_too_good() -> None:
    rng = np.random.default_rng(3)
    equals = {f"s{i}": (rng.random((1, 100)) < 0.7).astype(float) for i in range(8)}
    found = case(equals, settings=economics(value_per_correct=1.0))

    verdict = decide(found)

    assert 0.02 < verdict.optimism < 0.07


def test_a_single_candidate_needs_no_correction() -> None:
    verdict = decide(case({"only": GOOD}, settings=economics(value_per_correct=1.0)))

    assert verdict.optimism == pytest.approx(0, abs=0.005)
    assert verdict.rival is None
    assert verdict.worth_of_testing == pytest.approx(0, abs=1e-9)


def test_seeds_that_differ_make_the_verdict_less_sure() -> None:
    base, rival = right_answers(0.80, N, 1), right_answers(0.75, N, 2)
    steady = np.vstack([base, base, base])
    shaky = np.vstack([right_answers(s, N, k) for k, s in enumerate((0.70, 0.80, 0.90), 5)])
    value = economics(value_per_correct=1.0)

    sure = decide(case({"a": steady, "b": rival}, settings=value)).confidence
    unsure = decide(case({"a": shaky, "b": rival}, settings=value)).confidence

    assert unsure < sure


# --- what would overturn it ------------------------------------------------------------------


def test_the_threshold_of_the_volume_is_where_net_benefits_meet() -> None:
    costs = {"tuned": owned(up_front=1200), "prompt": owned()}
    found = case({"tuned": GOOD, "prompt": FAIR}, costs, settings=economics(value_per_correct=0.1))

    below = next(t for t in thresholds(found, 0) if (t.knob, t.side) == ("requests", "below"))

    # 0.2 more correct answers a request x 0.1 = 0.02 a request for 100 a month
    assert below.at == pytest.approx(5000, rel=1e-9)
    assert name(found, below.to) == "prompt"
    assert below.low is not None
    assert below.high is not None
    assert below.low < 5000 < below.high


def test_the_threshold_of_the_value_is_the_price_of_one_more_correct_answer() -> None:
    costs = {"tuned": owned(request=0.01), "prompt": owned()}
    found = case({"tuned": GOOD, "prompt": FAIR}, costs, settings=economics(value_per_correct=1.0))

    below = next(t for t in thresholds(found, 0) if (t.knob, t.side) == ("value", "below"))

    assert below.at == pytest.approx(0.05, rel=1e-9)


def test_the_interval_of_a_threshold_is_open_where_many_draws_have_none() -> None:
    close = {"dear": right_answers(0.52, N, 1), "cheap": right_answers(0.50, N, 2)}
    found = case(
        close, {"dear": owned(request=0.01), "cheap": owned()}, settings=economics(value_per_correct=1.0)
    )

    below = next(t for t in thresholds(found, 0) if (t.knob, t.side) == ("value", "below"))

    # 0.01 buys 0.02 more correct answers; in many draws it buys none at any value
    assert below.at == pytest.approx(0.5, rel=1e-9)
    assert below.low is not None
    assert below.low < below.at
    assert below.high is None
    assert 0.1 < below.never < 0.5


def test_the_worth_that_overturns_is_where_the_other_overtakes_whoever_stands_below_it() -> None:
    # by cost alone "ahead" leads; at no value it pays, as "both" is cheaper and more often right
    scores = {"ahead": GOOD, "cheap": POOR, "both": GOOD}
    costs = {"ahead": owned(request=0.02), "cheap": owned(), "both": owned(request=0.01)}
    found = case(scores, costs)
    worth = found.draws.worth_mean.copy()
    worth[0] -= 0.1
    less = found.draws.worth.copy()
    less[0] -= 0.1
    found = replace(found, draws=replace(found.draws, worth=less, worth_mean=worth))

    turn = worth_that_overturns(found, 0)

    assert turn is not None
    assert name(found, turn.to) == "both"
    assert turn.low is not None
    assert turn.high is not None
    assert turn.low < turn.at < turn.high
    assert turn.never == 0


@pytest.mark.parametrize("knob", ["machine", "tokens"])
def test_the_threshold_of_a_price_is_a_factor_on_it(knob: str) -> None:
    costs = {"a": owned(**{knob: 0.01}), "b": owned(request=0.03)}
    found = case({"a": GOOD, "b": GOOD}, costs)

    above = next(t for t in thresholds(found, 0) if (t.knob, t.side) == (knob, "above"))

    assert above.at == pytest.approx(3.0, rel=1e-9)
    assert name(found, above.to) == "b"


def test_beyond_a_threshold_the_rule_really_chooses_the_other() -> None:
    costs = {"a": owned(up_front=500, request=0.001), "b": owned(request=0.02), "c": owned(tokens=0.01)}
    scores = {"a": GOOD, "b": FAIR, "c": POOR}
    found = case(scores, costs, settings=economics(value_per_correct=0.03))
    choice = choose(found, found.knobs)

    for t in thresholds(found, choice):
        for factor in (0.999, 1.001):
            turned = decision.turned(found.knobs, t.knob, t.at * factor)
            overturned = (factor > 1) == (t.side == "above")
            assert choose(found, turned) == (t.to if overturned else choice), t


def test_what_no_price_overturns_has_no_threshold() -> None:
    found = case({"a": GOOD, "b": POOR}, {"b": owned(request=1.0)}, settings=economics(value_per_correct=1.0))

    assert thresholds(found, 0) == []


def test_without_a_value_the_worth_that_would_overturn_the_choice_is_named() -> None:
    costs = {"today": owned(), "better": owned(request=0.01)}
    found = case({"today": FAIR, "better": GOOD}, costs, incumbent="today")

    overturned = worth_that_overturns(found, 0)

    assert overturned is not None
    assert overturned.at == pytest.approx(0.05, rel=1e-9)
    assert name(found, overturned.to) == "better"


def test_the_probability_of_being_best_moves_to_the_better_one_as_answers_are_worth_more() -> None:
    costs = {"cheap": owned(), "good": owned(request=0.01)}
    found = case({"cheap": FAIR, "good": GOOD}, costs)

    best = decision.best_by_worth(found, [0.0, 0.05, 10.0])

    assert best[0].tolist() == [1, 0]
    assert 0.2 < best[1][1] < 0.8
    assert best[2].tolist() == [0, 1]


# --- draws -----------------------------------------------------------------------------------


def test_draws_spread_as_the_interval_of_the_mean_does() -> None:
    from breakeven.harness.stats import mean_interval

    for scores in (GOOD, np.vstack([right_answers(0.7, 150, s) for s in range(3)]), np.zeros((1, 50))):
        items = draws.resampled(scores.shape[1], draws=20_000)
        drawn = draws.spread(scores, items, np.random.default_rng(0).standard_normal(20_000), (0, 1), True)
        expected = mean_interval(scores)

        assert np.quantile(drawn, 0.975) == pytest.approx(expected.high, abs=0.03)
        assert np.quantile(drawn, 0.025) == pytest.approx(expected.low, abs=0.03)


def test_draws_of_items_of_one_group_move_together() -> None:
    scores = np.repeat(right_answers(0.5, 25, 0), 4, axis=1)
    groups = [str(i // 4) for i in range(100)]
    noise = np.zeros(5000)

    alone = draws.spread(scores, draws.resampled(100, draws=5000), noise, (0, 1), False)
    grouped = draws.spread(scores, draws.resampled(100, groups, draws=5000), noise, (0, 1), False)

    assert grouped.std() == pytest.approx(2 * alone.std(), rel=0.1)


def test_rounded_draws_are_the_same_when_rounded_again() -> None:
    values = np.random.default_rng(0).random(1000)
    once = draws.rounded(values)

    assert np.abs(once - values).max() < 1e-5
    assert np.allclose(draws.rounded(once), once, rtol=0, atol=1e-15)


def test_a_busy_machine_is_counted_for_every_month_of_growth() -> None:
    settings = economics(serving="dedicated", growth_per_month=1.0, peak_per_second=1.0, utilisation=1.0)
    own = owned(replica=10.0, seconds=1.0)

    assert own.total(settings, Knobs(1000, 3, None)) == (1 + 2 + 4) * 10.0


def test_payback_is_the_first_month_that_has_cost_no_more() -> None:
    tuned, prompt = owned(up_front=250, request=0.01), owned(request=0.02)
    knobs = Knobs(10_000, 12, None)

    assert tuned.payback_month(prompt, economics(), knobs) == 3
    assert owned(up_front=2500).payback_month(owned(), economics(), knobs) is None


def test_an_amount_that_was_not_measured_leaves_the_whole_unknown() -> None:
    from breakeven.harness.costs import seconds_cost

    assert seconds_cost(Amount(None, "unknown"), None).value is None
