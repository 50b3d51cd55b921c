"""Strategies without a language model: majority class, nearest neighbour, logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from strategy_fakes import World, brief, examples

from breakeven.baselines.logistic_regression import logistic_regression
from breakeven.baselines.majority import majority
from breakeven.baselines.nearest_neighbour import nearest_neighbour
from breakeven.harness.contracts import Example, Input
from breakeven.harness.errors import NotApplicable, UserError

TRAIN = examples(
    ("the summer sky", "blue"), ("a ripe tomato", "red"), ("an old rose", "red"), ("the winter sky", "blue"),
    ("a red rose", "red"),
)  # fmt: skip
SKY, ROSE = Input("s", {"text": "the evening sky"}), Input("r", {"text": "a wild rose"})
ALL = [majority, nearest_neighbour, logistic_regression]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, engine=None)


def answers(world: World, strategy: Any, *asked: Input, train: Sequence[Example] = TRAIN) -> list[str]:
    predictor = strategy.fit(brief(), train, [], world.services())
    return [p.output for p in predictor.predict(asked)]


def test_majority_answers_the_commonest_answer_whatever_is_asked(world: World) -> None:
    assert answers(world, majority(), SKY, ROSE) == ["red", "red"]


def test_majority_of_equally_common_answers_is_the_first_choice(world: World) -> None:
    assert answers(world, majority(), SKY, train=TRAIN[:4]) == ["red"]


def test_nearest_neighbour_repeats_the_answer_of_the_nearest_example(world: World) -> None:
    assert answers(world, nearest_neighbour(), SKY, ROSE) == ["blue", "red"]


def test_nearest_neighbour_names_its_neighbours(world: World) -> None:
    predictor = nearest_neighbour().fit(brief(), TRAIN, [], world.services())
    (given,) = predictor.predict([Input("x", {"text": "an old rose"})])
    assert given.meta["neighbours"] == ["t2"]


def test_k_neighbours_vote(world: World) -> None:
    assert answers(world, nearest_neighbour(k=5), SKY) == ["red"]


def test_of_equally_many_votes_the_nearest_neighbours_answer_wins(world: World) -> None:
    assert answers(world, nearest_neighbour(k=4), SKY, train=TRAIN[:4]) == ["blue"]


def test_logistic_regression_separates_the_choices(world: World) -> None:
    assert answers(world, logistic_regression(), SKY, ROSE) == ["blue", "red"]


def test_logistic_regression_with_three_choices_separates_them_too(world: World) -> None:
    train = [*TRAIN, *examples(("fresh grass", "green"), ("green grass", "green"), prefix="g")]
    asked = Input("g", {"text": "long grass"})
    assert answers(world, logistic_regression(), SKY, ROSE, asked, train=train) == ["blue", "red", "green"]


def test_logistic_regression_that_saw_one_answer_gives_it(world: World) -> None:
    assert answers(world, logistic_regression(), SKY, train=TRAIN[1:3]) == ["red"]


def test_logistic_regression_that_did_not_converge_says_so(world: World) -> None:
    predictor = logistic_regression(max_iter=1).fit(brief(), TRAIN, [], world.services())
    assert "converged" in predictor.notes["remarks"][0]  # type: ignore[index]


@pytest.mark.parametrize("make", ALL)
def test_they_do_not_apply_where_any_answer_is_possible(world: World, make: Any) -> None:
    with pytest.raises(NotApplicable, match="no choices"):
        make().fit(brief(choices=None), TRAIN, [], world.services())


@pytest.mark.parametrize("make", ALL)
def test_they_do_not_apply_without_training_examples(world: World, make: Any) -> None:
    with pytest.raises(NotApplicable, match="no training examples"):
        make().fit(brief(), [], [], world.services())


@pytest.mark.parametrize("make", ALL)
def test_they_need_no_model_and_no_seed(make: Any) -> None:
    assert make().varies_with == {"train_size"}


@pytest.mark.parametrize("make", ALL)
def test_a_loaded_strategy_answers_as_the_saved_one(world: World, make: Any) -> None:
    predictor = make().fit(brief(), TRAIN, [], world.services())
    predictor.save(world.folder / "cells" / "predictor")
    loaded = make().load(world.folder / "cells" / "predictor", brief(), world.services())
    before, after = ([(p.id, p.output, p.meta) for p in x.predict([SKY, ROSE])] for x in (predictor, loaded))
    assert before == after
    assert loaded.notes == predictor.notes


@pytest.mark.parametrize("make", ALL)
def test_one_input_alone_is_answered_as_among_others(world: World, make: Any) -> None:
    assert answers(world, make(), ROSE) == answers(world, make(), SKY, ROSE)[1:]


@pytest.mark.parametrize("make", [nearest_neighbour, logistic_regression])
def test_examples_are_billed_once_and_questions_when_served(world: World, make: Any) -> None:
    predictor = make().fit(brief(), TRAIN, [], world.services())
    list(predictor.predict([SKY]))
    assert world.ledger.total("embedded_tokens", "index").value == 15
    assert world.ledger.total("embedded_tokens", "serve").value == 3


def test_both_embedding_strategies_share_the_vectors_of_the_examples(world: World) -> None:
    nearest_neighbour().fit(brief(), TRAIN, [], world.services())
    logistic_regression().fit(brief(), TRAIN, [], world.services())
    assert [phase for phase, _ in world.embedded] == ["index"]


@pytest.mark.parametrize(
    ("make", "settings"),
    [(nearest_neighbour, {"k": 0}), (logistic_regression, {"C": 0}), (logistic_regression, {"max_iter": 0})],
)
def test_a_setting_out_of_range_is_named(make: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        make(**settings)
    assert error.value.field in settings
