"""Prompting, retrieval and tuning as levers on one prompt, on a scripted engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from strategy_fakes import NotingTrainer, ScriptedSession, World, brief, examples

from breakeven.baselines import _weights
from breakeven.baselines._guard import Guard
from breakeven.baselines._predictor import LeversPredictor
from breakeven.baselines.levers import levers
from breakeven.harness.contracts import Brief, Capabilities, Document, Example, Input, Prediction
from breakeven.harness.errors import NotApplicable, UserError

TRAIN = examples(
    ("a ripe tomato", "red"), ("the summer sky", "blue"), ("an old rose", "red"), ("the deep sea", "blue"),
    ("fresh blood", "red"), ("a sapphire ring", "blue"), ("a fire engine", "red"), ("forget me not", "blue"),
)  # fmt: skip
VALIDATION = examples(("a cherry", "red"), ("the ocean", "blue"), prefix="v")
SKY = Input("q", {"text": "the winter sky"})
DOCUMENTS = (Document("sky", "the winter sky is blue"), Document("rose", "an old rose is red"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A trainer under every name; the list holds what it was given, call by call."""
    seen: list[Any] = []
    monkeypatch.setattr(_weights, "find", lambda kind, name: lambda **s: NotingTrainer(s, seen))
    return seen


def fitted(
    world: World, settings: dict[str, Any], task: Brief | None = None, train: Sequence[Example] = TRAIN,
    **services: Any,
) -> LeversPredictor:  # fmt: skip
    return levers(**settings).fit(task or brief(), train, VALIDATION, world.services(**services))


def answer(predictor: LeversPredictor, *asked: Input) -> Prediction:
    return next(iter(predictor.predict(asked or (SKY,))))


def shown(predictor: LeversPredictor, *asked: Input) -> list[Any]:
    return list(answer(predictor, *asked).meta["demonstrations"])  # type: ignore[arg-type]


# --- prompting -------------------------------------------------------------------------------


def test_zero_shot_asks_the_instructions_and_the_question(world: World) -> None:
    assert answer(fitted(world, {})).output == "yes"
    (request,) = world.engine.asked
    assert [m["role"] for m in request.messages] == ["system", "user"]
    assert request.max_tokens == 8


def test_everything_is_asked_in_one_call(world: World) -> None:
    list(fitted(world, {}).predict([SKY, Input("q2", {"text": "x"})]))
    assert len(world.engine.calls) == 1


def test_k_demonstrations_are_shown_with_their_answers(world: World) -> None:
    predictor = fitted(world, {"demonstrations": {"k": 3, "select": "fixed"}})
    answer(predictor)
    roles = [m["role"] for m in world.engine.asked[0].messages]
    assert roles == ["system", *["user", "assistant"] * 3, "user"]


def test_fixed_demonstrations_do_not_depend_on_the_seed(world: World) -> None:
    setting = {"demonstrations": {"k": 3, "select": "fixed"}}
    draws = {tuple(shown(fitted(world, setting, seed=seed))) for seed in range(5)}
    assert len(draws) == 1


def test_random_demonstrations_are_another_draw_for_another_seed(world: World) -> None:
    setting = {"demonstrations": {"k": 3, "select": "random"}}
    draws = {tuple(shown(fitted(world, setting, seed=seed))) for seed in range(5)}
    assert len(draws) > 1


def test_random_demonstrations_are_the_same_for_every_question(world: World) -> None:
    predictor = fitted(world, {"demonstrations": {"k": 3, "select": "random"}})
    given = list(predictor.predict([SKY, Input("q2", {"text": "the moon"})]))
    assert given[0].meta["demonstrations"] == given[1].meta["demonstrations"]


@pytest.mark.parametrize("seed", range(5))
def test_balanced_demonstrations_show_every_choice_equally_often(world: World, seed: int) -> None:
    lopsided = [*TRAIN, *examples(*[(f"red thing {n}", "red") for n in range(40)], prefix="r")]
    chosen = shown(fitted(world, {"demonstrations": {"k": 4}}, train=lopsided, seed=seed))
    answers = {e.id: e.references[0] for e in lopsided}
    assert sorted(answers[i] for i in chosen) == ["blue", "blue", "red", "red"]


def test_similar_demonstrations_are_the_nearest_and_the_nearest_stands_last(world: World) -> None:
    predictor = fitted(world, {"demonstrations": {"k": 2, "select": "similar"}})
    assert shown(predictor)[0] == "t1"
    assert world.engine.asked[0].messages[-3]["content"] == "Text: the summer sky"


def test_examples_are_embedded_once_for_indexing_and_questions_for_serving(world: World) -> None:
    answer(fitted(world, {"demonstrations": {"k": 2, "select": "similar"}}))
    assert [(phase, len(texts)) for phase, texts in world.embedded] == [("index", 8), ("serve", 1)]


def test_demonstrations_need_training_examples(world: World) -> None:
    with pytest.raises(NotApplicable, match="no training examples"):
        fitted(world, {"demonstrations": {"k": 2}}, train=[])


def test_fewer_demonstrations_are_shown_when_the_context_is_too_short(world: World) -> None:
    world.engine.card = dataclasses.replace(world.engine.card, context=40)
    predictor = fitted(world, {"demonstrations": {"k": 6, "select": "fixed"}})
    used = answer(predictor).meta["k_used"]
    assert 0 < used < 6
    assert world.engine.count_tokens(world.engine.asked[0]) + 8 <= 40


def test_the_report_is_told_how_many_demonstrations_fitted(world: World) -> None:
    world.engine.card = dataclasses.replace(world.engine.card, context=40)
    predictor = fitted(world, {"demonstrations": {"k": 6, "select": "fixed"}})
    used = answer(predictor).meta["k_used"]
    assert predictor.notes["remarks"] == [f"6 demonstrations asked, {used:.1f} fitted"]


def test_fewer_examples_than_asked_is_not_mistaken_for_a_context_too_short(world: World) -> None:
    predictor = fitted(world, {"demonstrations": {"k": 10, "select": "fixed"}})
    answer(predictor)
    assert predictor.notes["remarks"] == ["10 demonstrations asked, there are 8"]


def test_an_embedding_model_that_does_not_know_the_language_is_remarked_on(world: World) -> None:
    world.embedder_name = "all-minilm-l6-v2"
    predictor = fitted(world, {"context": {"k": 1}}, brief(documents=DOCUMENTS, language="de"))
    assert "German" in predictor.notes["remarks"][0]


def test_nothing_is_remarked_when_all_fitted(world: World) -> None:
    predictor = fitted(world, {"demonstrations": {"k": 6, "select": "fixed"}})
    answer(predictor)
    assert predictor.notes["remarks"] == []


def test_a_question_too_long_for_the_model_is_named_before_anything_is_asked(world: World) -> None:
    world.engine.card = dataclasses.replace(world.engine.card, context=30)
    with pytest.raises(UserError, match="'long' takes 5"):
        answer(fitted(world, {}), Input("long", {"text": "word " * 40}))
    assert world.engine.calls == []


def test_prompts_are_kept_only_on_request(world: World) -> None:
    assert answer(fitted(world, {})).prompt is None
    assert answer(fitted(world, {}, keep_prompts=True)).prompt == world.engine.asked[0].messages


def test_without_a_language_model_it_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no language model"):
        fitted(World(tmp_path, engine=None), {})


# --- what must not be shown ------------------------------------------------------------------


def prompts_of_training(
    world: World, seen: list[Any], settings: dict[str, Any], **more: Any
) -> dict[str, str]:
    """Training id -> everything its prompt shows."""
    fitted(world, {**settings, "weights": {}}, **more)
    pairs, _, _ = seen[-1]
    return {p.id: "\n".join(m["content"] for m in p.messages[:-1]) for p in pairs}


@pytest.mark.parametrize("select", ["fixed", "random", "similar", "balanced"])
def test_a_training_example_is_never_its_own_demonstration(
    world: World, trainer: list[Any], select: str
) -> None:
    shown = prompts_of_training(world, trainer, {"demonstrations": {"k": 4, "select": select}})
    assert [e.id for e in TRAIN if e.input["text"] in shown[e.id]] == []


@pytest.mark.parametrize("select", ["fixed", "similar"])
def test_training_examples_get_as_many_demonstrations_as_questions_do(
    world: World, trainer: list[Any], select: str
) -> None:
    fitted(world, {"demonstrations": {"k": 4, "select": select}, "weights": {}})
    assert {len(p.messages) for p in trainer[-1][0]} == {1 + 2 * 4 + 1}


def test_a_near_duplicate_is_never_a_demonstration_of_the_other(world: World, trainer: list[Any]) -> None:
    twins = examples(("please tell me where my card is today", "red"),
                     ("please tell me where my card is today!", "red"), prefix="w")  # fmt: skip
    settings = {"demonstrations": {"k": 9, "select": "similar"}}
    shown = prompts_of_training(world, trainer, settings, train=[*TRAIN, *twins])
    assert "my card" not in shown["w0"]
    assert "my card" not in shown["w1"]


def test_an_example_of_the_same_group_is_never_a_demonstration(world: World, trainer: list[Any]) -> None:
    family = examples(("first of the family", "red", "g"), ("another one", "blue", "g"), prefix="g")
    settings = {"demonstrations": {"k": 9, "select": "similar"}}
    shown = prompts_of_training(world, trainer, settings, train=[*TRAIN, *family])
    assert "another one" not in shown["g0"]


def test_an_example_without_any_text_is_not_its_own_demonstration_either() -> None:
    (blank,) = examples(("", "red"))
    assert not Guard.of([blank], [blank], []).example_allowed(blank.without_references(), blank.id, None)


def test_a_validation_example_sees_no_near_duplicate_of_itself(world: World) -> None:
    train = [*TRAIN, *examples(("a cherry", "red"), prefix="c")]
    predictor = fitted(world, {"demonstrations": {"k": 9, "select": "similar"}}, train=train)
    assert "c0" not in shown(predictor, VALIDATION[0].without_references())
    assert "c0" in shown(predictor, Input("q", {"text": "a cherry"}))


def test_a_training_example_sees_the_passage_of_its_own_group(world: World, trainer: list[Any]) -> None:
    train = examples(("which colour is an old rose", "red", "rose"))
    fitted(world, {"context": {"k": 1}, "weights": {}}, brief(documents=DOCUMENTS), train)
    assert "an old rose is red" in trainer[-1][0][0].messages[-1]["content"]


# --- retrieval -------------------------------------------------------------------------------


def test_the_nearest_passages_are_shown_and_named(world: World) -> None:
    given = answer(fitted(world, {"context": {"k": 1}}, brief(documents=DOCUMENTS)))
    assert "the winter sky is blue" in world.engine.asked[0].messages[-1]["content"]
    assert (given.meta["passages"], given.meta["chunks"]) == (["sky"], ["sky#0"])


def test_retrieval_without_documents_does_not_apply(world: World) -> None:
    with pytest.raises(NotApplicable, match="no documents"):
        fitted(world, {"context": {"k": 1}})


def test_demonstrations_show_passages_as_the_question_does(world: World) -> None:
    settings = {"context": {"k": 1}, "demonstrations": {"k": 1, "select": "fixed"}}
    answer(fitted(world, settings, brief(documents=DOCUMENTS)))
    assert world.engine.asked[0].messages[1]["content"].startswith("Passages that may help")


def test_demonstrations_show_no_passages_when_told_so(world: World) -> None:
    settings = {"context": {"k": 1}, "demonstrations": {"k": 1, "select": "fixed", "with_context": False}}
    answer(fitted(world, settings, brief(documents=DOCUMENTS)))
    assert world.engine.asked[0].messages[1]["content"].startswith("Text:")


# --- answers over the choices ----------------------------------------------------------------


def test_the_choice_with_the_highest_score_is_the_answer(tmp_path: Path) -> None:
    world = World(tmp_path, ScriptedSession(lambda request: (-5.0, -1.0)))
    assert answer(fitted(world, {"answer": "choices"})).output == "blue"
    assert world.engine.asked[0].choices == ("red", "blue")


def test_long_choices_are_not_at_a_disadvantage_when_scores_are_normalised(tmp_path: Path) -> None:
    world = World(tmp_path, ScriptedSession(lambda request: (-3.0, -4.0)))
    task = brief(choices=("red", "a very light blue"))
    assert answer(fitted(world, {"answer": "choices"}, task)).output == "red"
    normalised = fitted(world, {"answer": "choices", "length_normalise": True}, task)
    assert answer(normalised).output == "a very light blue"


def test_an_engine_without_log_probabilities_generates_and_says_so(tmp_path: Path) -> None:
    world = World(tmp_path, ScriptedSession(capabilities=Capabilities()))
    predictor = fitted(world, {"answer": "choices"})
    assert answer(predictor).output == "yes"
    assert "no log-probabilities" in predictor.notes["remarks"][0]


def test_scoring_choices_does_not_apply_where_there_are_none(world: World) -> None:
    with pytest.raises(NotApplicable, match="no choices"):
        fitted(world, {"answer": "choices"}, brief(choices=None))


# --- weights ---------------------------------------------------------------------------------


def test_a_tuned_model_is_trained_on_exactly_what_it_is_asked(world: World, trainer: list[Any]) -> None:
    settings = {"context": {"k": 1}, "demonstrations": {"k": 2, "select": "random"}, "weights": {}}
    predictor = fitted(world, settings, brief(documents=DOCUMENTS))
    pairs = trainer[0][0]
    asked = [e.without_references() for e in TRAIN]
    list(predictor.predict(asked))
    assert [r.messages for r in world.engine.asked] == [p.messages for p in pairs]


def test_training_wants_the_reference_as_the_answer(world: World, trainer: list[Any]) -> None:
    fitted(world, {"weights": {}})
    assert [p.answer for p in trainer[0][0]] == [e.references[0] for e in TRAIN]


def test_choices_are_not_listed_to_a_tuned_model_unless_asked_for(world: World, trainer: list[Any]) -> None:
    fitted(world, {"weights": {}})
    fitted(world, {"weights": {}, "list_choices": True})
    listed = ["- red" in seen[0][0].messages[0]["content"] for seen in trainer]
    assert listed == [False, True]


def test_the_engine_answers_with_the_adapter(world: World, trainer: list[Any]) -> None:
    predictor = fitted(world, {"weights": {}})
    used: list[Any] = []
    world.engine.script = lambda request: "yes"
    original = ScriptedSession.complete

    def noting(self: ScriptedSession, requests: Any) -> Any:
        used.append(self.adapter)
        return original(self, requests)

    ScriptedSession.complete = noting  # type: ignore[method-assign]
    try:
        answer(predictor)
    finally:
        ScriptedSession.complete = original  # type: ignore[method-assign]
    assert [(folder / "adapter_model.safetensors").exists() for folder in used] == [True]


def test_equal_cells_share_one_adapter_and_are_both_billed(world: World, trainer: list[Any]) -> None:
    other = World(world.folder)
    fitted(world, {"weights": {}})
    fitted(other, {"weights": {}})
    assert len(trainer) == 1
    assert other.ledger.total("training_tokens", "train").value == 40


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"settings": {"weights": {"rank": 4}}}, {"train": TRAIN[:4]},
               {"settings": {"weights": {}, "list_choices": True}}]
)  # fmt: skip
def test_whatever_changes_an_adapter_makes_another_one(
    world: World, trainer: list[Any], change: dict[str, Any]
) -> None:
    fitted(world, {"weights": {}})
    fitted(world, **{"settings": {"weights": {}}, **change})
    assert len(trainer) == 2


def test_training_is_booked_with_tokens_seconds_operations_and_memory(
    world: World, trainer: list[Any]
) -> None:
    fitted(world, {"weights": {}})
    booked = {e.quantity: e.amount for e in world.ledger.select("train")}
    assert booked["training_tokens"].value == 40
    assert booked["seconds"].value == 1.5
    assert booked["bytes"].value == 1000
    assert booked["flops"].status == "estimated"


def test_the_predictor_says_what_training_did(world: World, trainer: list[Any]) -> None:
    predictor = fitted(world, {"weights": {}})
    assert predictor.training is not None
    assert predictor.training.losses == ((1, 2.0), (2, 1.0))


def test_checkpoints_are_gone_when_training_is_done(world: World, trainer: list[Any]) -> None:
    predictor = fitted(world, {"weights": {}})
    assert predictor.adapter is not None
    assert not (predictor.adapter.folder / "checkpoints").exists()


def test_tuning_a_model_that_cannot_be_tuned_does_not_apply(tmp_path: Path, trainer: list[Any]) -> None:
    world = World(tmp_path, ScriptedSession(capabilities=Capabilities(logprobs=True)))
    with pytest.raises(NotApplicable, match="no trainer: tiny"):
        fitted(world, {"weights": {}})


def test_nothing_is_indexed_for_a_model_that_cannot_be_tuned(tmp_path: Path, trainer: list[Any]) -> None:
    world = World(tmp_path, ScriptedSession(capabilities=Capabilities()))
    with pytest.raises(NotApplicable):
        fitted(world, {"weights": {}, "context": {"k": 1}}, brief(documents=DOCUMENTS))
    assert world.embedded == []


# --- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "varies"),
    [
        ({}, {"model"}),
        ({"context": {"k": 2}}, {"model"}),
        ({"demonstrations": {"select": "fixed"}}, {"model", "train_size"}),
        ({"demonstrations": {"select": "similar"}}, {"model", "train_size"}),
        ({"demonstrations": {"select": "random"}}, {"model", "train_size", "seed"}),
        ({"demonstrations": {"select": "balanced"}}, {"model", "train_size", "seed"}),
        ({"weights": {}}, {"model", "train_size", "seed"}),
    ],
)
def test_a_strategy_varies_with_what_its_levers_depend_on(
    trainer: list[Any], settings: dict[str, Any], varies: set[str]
) -> None:
    assert levers(**settings).varies_with == varies


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"demonstration": {"k": 4}}, "demonstration"),
        ({"demonstrations": {"k": 0}}, "demonstrations.k"),
        ({"demonstrations": {"select": "best"}}, "demonstrations.select"),
        ({"context": {"chunk_overlap": 150}}, "context"),
        ({"answer": "guess"}, "answer"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as error:
        levers(**settings)
    assert error.value.field == field


# --- on disk ---------------------------------------------------------------------------------

EVERYTHING = [
    {},
    {"demonstrations": {"k": 3, "select": "random"}},
    {"demonstrations": {"k": 3, "select": "similar"}},
    {"context": {"k": 2}},
    {"context": {"k": 1}, "demonstrations": {"k": 2, "select": "similar"}},
    {"weights": {}},
    {"context": {"k": 1}, "demonstrations": {"k": 2}, "weights": {}},
]


@pytest.mark.parametrize("settings", EVERYTHING)
def test_a_loaded_strategy_asks_exactly_what_the_saved_one_does(
    world: World, trainer: list[Any], settings: dict[str, Any]
) -> None:
    task = brief(documents=DOCUMENTS)
    predictor = fitted(world, settings, task)
    predictor.save(world.folder / "cells" / "c" / "predictor")
    loaded = levers(**settings).load(world.folder / "cells" / "c" / "predictor", task, world.services())
    asked = [SKY, *(e.without_references() for e in (*TRAIN, *VALIDATION))]
    before, after = list(predictor.predict(asked)), list(loaded.predict(asked))
    assert world.engine.calls[0] == world.engine.calls[1]
    assert before == after
    assert (loaded.training, loaded.notes) == (predictor.training, predictor.notes)


def test_a_run_folder_can_be_moved(world: World, trainer: list[Any], tmp_path: Path) -> None:
    settings, task = EVERYTHING[-1], brief(documents=DOCUMENTS)
    run = tmp_path / "run"
    inside = World(run)
    fitted(inside, settings, task).save(run / "cells" / "predictor")
    run.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    predictor = levers(**settings).load(moved / "cells" / "predictor", task, World(moved).services())
    assert answer(predictor).meta["passages"] == ["sky"]


def test_a_crash_between_training_and_keeping_the_adapter_trains_nothing_twice(
    world: World, trainer: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crash:
        crash.setattr(_weights, "_book", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fitted(world, {"weights": {}})
    world.ledger.entries.clear()
    predictor = fitted(world, {"weights": {}})
    assert len(trainer) == 1
    assert predictor.training is not None
    assert predictor.training.steps == 2
    assert world.ledger.total("training_tokens").value == 40
