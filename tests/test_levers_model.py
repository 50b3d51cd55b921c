"""The levers on the real default models, on a handful of examples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from strategy_fakes import brief, examples

from breakeven.baselines.levers import levers
from breakeven.harness.contracts import Document, Prediction, Services
from breakeven.harness.ledger import Ledger
from breakeven.harness.session import Journal, Session
from breakeven.harness.store import ArtifactStore

pytestmark = pytest.mark.model

TASK = brief(
    instructions="What is the customer's message about?",
    input_template="Message: {{ text }}",
    choices=("parcel", "payment"),
    documents=(
        Document("post", "Parcels leave our depot on Mondays.", "Parcels"),
        Document("bank", "We charge cards when an order is packed.", "Cards"),
    ),
)
TRAIN = examples(
    ("My parcel is late", "parcel"), ("You charged my card twice", "payment"),
    ("The parcel arrived open", "parcel"), ("My card was declined", "payment"),
    ("Where is my parcel now", "parcel"), ("I paid and see no receipt", "payment"),
)  # fmt: skip
TEST = examples(
    ("Has my parcel left the depot", "parcel"), ("Why was my card charged today", "payment"),
    ("The parcel is lost", "parcel"), ("The payment with my card failed", "payment"), prefix="q",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Any:
    from breakeven.harness.engines.local import local

    return local("smollm2-135m-instruct")


@pytest.fixture
def services(engine: Any, tmp_path: Path) -> Services:
    from breakeven.harness.embedding import SentenceEmbedder

    ledger = Ledger()
    return Services(
        seed=0,
        ledger=ledger,
        scratch=tmp_path,
        artifacts=ArtifactStore(tmp_path / "artifacts", ledger),
        engine=Session(engine, Journal(None), ledger, "serve"),
        embedder=lambda: SentenceEmbedder(ledger),
    )


def answers(predictor: Any) -> list[Prediction]:
    found = {p.id: p for p in predictor.predict([e.without_references() for e in TEST])}
    return [found[e.id] for e in TEST]


def right(predictions: list[Prediction]) -> int:
    return sum(p.output.strip() == e.references[0] for p, e in zip(predictions, TEST, strict=True))


def test_the_model_answers_as_similar_demonstrations_do(services: Services) -> None:
    strategy = levers(demonstrations={"k": 3, "select": "similar"})
    assert right(answers(strategy.fit(TASK, TRAIN, [], services))) == len(TEST)


def test_scoring_the_choices_always_answers_with_one_of_them(services: Services) -> None:
    given = answers(levers(answer="choices").fit(TASK, TRAIN, [], services))
    assert {p.output for p in given} <= {"parcel", "payment"}


def test_a_question_finds_the_passage_that_speaks_of_it(services: Services) -> None:
    given = answers(levers(context={"k": 1}).fit(TASK, TRAIN, [], services))
    assert [p.meta["passages"] for p in given[:2]] == [["post"], ["bank"]]


def test_a_tuned_model_learns_to_answer_with_a_choice_that_was_never_listed(services: Services) -> None:
    strategy = levers(weights={"rank": 8, "epochs": 6, "batch_size": 3, "lr": 0.002})
    predictor = strategy.fit(TASK, TRAIN, [], services)
    assert right(answers(predictor)) >= len(TEST) - 1
    assert predictor.training is not None
    assert predictor.training.losses[-1][1] < predictor.training.losses[0][1]


def test_a_tuned_retriever_saved_and_loaded_answers_the_same(services: Services, tmp_path: Path) -> None:
    strategy = levers(context={"k": 1}, weights={"rank": 2, "epochs": 1, "batch_size": 3})
    predictor = strategy.fit(TASK, TRAIN, TRAIN[:2], services)
    predictor.save(tmp_path / "cells" / "predictor")
    loaded = strategy.load(tmp_path / "cells" / "predictor", TASK, services)
    before, after = answers(predictor), answers(loaded)
    untimed = [[dataclasses.replace(p, seconds=None) for p in given] for given in (before, after)]
    assert untimed[0] == untimed[1]
