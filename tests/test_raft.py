"""RAFT: training prompts with the passage that answers among distractors, or without it; serving as ever."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from strategy_fakes import NotingTrainer, World, brief, examples
from tiny_suite import letters, tiny_model, write_suite

from breakeven.baselines import _weights
from breakeven.baselines.levers import levers
from breakeven.harness import results, single
from breakeven.harness.cli import preflight
from breakeven.harness.contracts import Document, Example
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.single import Single
from breakeven.harness.training import TrainingPair

#: Nine documents; the first sentence of each is in its first passage, the second in another.
THINGS = ("tomato", "sky", "rose", "sea", "blood", "sapphire", "engine", "violet", "cherry")
PADDING = " and much more is told about it in the long pages that follow here" * 2
DOCUMENTS = tuple(
    Document(
        thing,
        f"The {thing} of the {n} garden has a colour{PADDING}.\n\n"
        f"The owner of the {thing} is called {thing}man.",
    )
    for n, thing in enumerate(THINGS)
)
TRAIN = examples(*[(f"which colour has the {thing} of the garden", "red", thing) for thing in THINGS])
CONTEXT = {"k": 3, "chunk_tokens": 40, "chunk_overlap": 0}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A trainer under every name; the list holds what it was given, call by call."""
    seen: list[Any] = []
    monkeypatch.setattr(_weights, "find", lambda kind, name: lambda **s: NotingTrainer(s, seen))
    return seen


def settings(context: dict[str, Any] = CONTEXT, **raft: Any) -> dict[str, Any]:
    return {"context": context, "weights": {"raft": raft}}


def trained(
    world: World, train: Sequence[Example] = TRAIN, given: dict[str, Any] | None = None, seed: int = 0
) -> list[TrainingPair]:
    """What the trainer would get."""
    made = levers(**(given or settings(without_gold=0)))
    pairs, _ = made.training_pairs(brief(documents=DOCUMENTS), train, [], world.services(seed=seed))
    return list(pairs)


def shown(pair: TrainingPair) -> list[str]:
    """The documents whose passages a prompt shows, in their order."""
    passages, _, _ = pair.messages[-1]["content"].rpartition("Text: ")
    return re.findall(r"^The (?:owner of the )?(\w+) (?:of the|is called)", passages, re.MULTILINE)


def many(number: int) -> list[Example]:
    things = [THINGS[n % 9] for n in range(number)]
    return examples(*[(f"which colour has the {thing} {n}", "red", thing) for n, thing in enumerate(things)])


# --- what is shown ---------------------------------------------------------------------------


def test_the_passage_that_answers_stands_among_distractors_of_other_documents(world: World) -> None:
    for pair, thing in zip(trained(world), THINGS, strict=True):
        assert len(shown(pair)) == 3
        assert shown(pair).count(thing) == 1


def test_as_many_distractors_are_shown_as_asked(world: World) -> None:
    counts = {len(shown(pair)) for pair in trained(world, given=settings(distractors=5, without_gold=0))}
    assert counts == {6}
    (one, *_) = trained(world, given=settings(distractors=0, without_gold=0))
    assert shown(one) == ["tomato"]


def test_in_a_share_of_the_rows_a_distractor_takes_its_place(world: World) -> None:
    pairs = trained(world, many(300), settings(distractors=2, without_gold=0.3))
    without = [p for n, p in enumerate(pairs) if THINGS[n % 9] not in shown(p)]
    assert 0.2 < len(without) / 300 < 0.4  # 0.3, within four standard errors
    assert {len(shown(p)) for p in pairs} == {3}


def test_the_distractors_are_those_that_would_be_retrieved_first(world: World) -> None:
    given = settings({**CONTEXT, "k": 4}, without_gold=0)
    served = levers(context={**CONTEXT, "k": 9}, weights={})
    task = brief(documents=DOCUMENTS)
    retrieved, _ = served.training_pairs(task, TRAIN, [], world.services())
    for pair, as_served, thing in zip(trained(world, given=given), retrieved, THINGS, strict=True):
        others = [t for t in shown(as_served) if t != thing]
        assert sorted(t for t in shown(pair) if t != thing) == sorted(others[:3])


def test_of_several_passages_of_a_document_the_one_nearest_to_the_question_is_shown(world: World) -> None:
    asked = examples(("the owner of the rose is called", "red", "rose"))
    (pair,) = trained(world, asked)
    assert "The owner of the rose is called" in pair.messages[-1]["content"]
    assert "The rose of the" not in pair.messages[-1]["content"]


def test_a_passage_that_repeats_the_question_is_never_shown(world: World) -> None:
    asked = examples(("The owner of the rose is called roseman.", "red", "rose"))
    (pair,) = trained(world, asked)
    passages, _, _ = pair.messages[-1]["content"].rpartition("Text: ")
    assert "roseman" not in passages
    assert shown(pair).count("rose") == 1  # its document has another one


def test_a_passage_without_a_word_of_the_question_is_found_all_the_same(world: World) -> None:
    asked = examples(("welches Rot", "red", "rose"))
    (pair,) = trained(world, asked, settings({**CONTEXT, "retriever": "lexical"}, without_gold=0))
    assert shown(pair) == ["rose"]


def test_the_place_of_the_passage_that_answers_tells_nothing(world: World) -> None:
    pairs = trained(world, many(60), settings(without_gold=0))
    places = {shown(pair).index(THINGS[n % 9]) for n, pair in enumerate(pairs)}
    assert places == {0, 1, 2}


def test_where_room_is_short_distractors_are_given_up_first(world: World) -> None:
    world.engine.card = dataclasses.replace(world.engine.card, context=90)
    pairs = trained(world)
    assert all(len(shown(pair)) < 3 for pair in pairs)
    assert [shown(pair).count(thing) for pair, thing in zip(pairs, THINGS, strict=True)] == [1] * 9


# --- drawn from seed and id ------------------------------------------------------------------


def test_the_draw_follows_from_seed_and_id_alone(world: World) -> None:
    rows = many(40)
    given = settings(without_gold=0.5)
    whole = {p.id: p.messages for p in trained(world, rows, given)}
    half = {p.id: p.messages for p in trained(world, rows[::-2], given)}
    assert half == {id: whole[id] for id in half}
    other = {p.id: p.messages for p in trained(world, rows, given, seed=1)}
    assert other != whole


def test_serving_and_validation_show_what_is_retrieved(world: World, trainer: list[Any]) -> None:
    checks = examples(*[(f"what colour is the {thing}", "red", thing) for thing in THINGS[:4]], prefix="v")
    task, raft = brief(documents=DOCUMENTS), levers(**settings(without_gold=0.9))
    plain = levers(context=CONTEXT, weights={})
    inputs = [e.without_references() for e in checks]
    asked = [made.requests(task, TRAIN, checks, world.services(), inputs) for made in (raft, plain)]
    assert asked[0] == asked[1]
    raft.fit(task, TRAIN, checks, world.services())
    assert [p.messages for p in trainer[-1][1]] == [r.messages for r in asked[0]]


# --- who is told which document answers ------------------------------------------------------


def test_without_any_group_that_is_a_document_it_does_not_apply(world: World, trainer: list[Any]) -> None:
    with pytest.raises(NotApplicable, match="no training example's group is a document's id"):
        levers(**settings()).fit(
            brief(documents=DOCUMENTS), examples(("a", "red", "nowhere")), [], world.services()
        )
    assert trainer == []


def test_examples_that_do_not_say_it_are_trained_as_retrieved_and_told(
    world: World, trainer: list[Any]
) -> None:
    rows = [*TRAIN, *examples(("what colour has the sea", "blue"), ("and the rose", "red", "?"), prefix="u")]
    task = brief(documents=DOCUMENTS)
    predictor = levers(**settings(distractors=1, without_gold=0)).fit(task, rows, [], world.services())
    plain, _ = levers(context=CONTEXT, weights={}).training_pairs(task, rows, [], world.services())
    got = {p.id: p for p in trainer[-1][0]}
    assert {i: got[i].messages for i in ("u0", "u1")} == {
        p.id: p.messages for p in plain if p.id in ("u0", "u1")
    }
    counted = predictor.notes["training_prompts"]["raft"]
    assert counted == {"with_gold": 9, "without_gold": 0, "distractors": 1.0, "as_retrieved": 2}
    assert any(r.startswith("2 training examples do not say") for r in predictor.notes["remarks"])


def test_the_report_counts_the_rows_with_and_without_the_passage(world: World, trainer: list[Any]) -> None:
    predictor = levers(**settings(without_gold=0.5)).fit(
        brief(documents=DOCUMENTS), many(40), [], world.services()
    )
    without = sum(THINGS[n % 9] not in shown(p) for n, p in enumerate(trainer[-1][0]))
    counted = predictor.notes["training_prompts"]["raft"]
    assert (counted["with_gold"], counted["without_gold"]) == (40 - without, without)
    assert 0 < without < 40
    assert any(f"{without} do not" in r for r in predictor.notes["remarks"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": {"raft": {}}}, "context: {k: 3}"),
        ({"context": {"retriever": "oracle"}, "weights": {"raft": {}}}, "context.retriever"),
        ({"context": {}, "weights": {"raft": {}, "data": "documents"}}, "weights.data"),
        ({"context": {}, "weights": {"raft": {"distractors": -1}}}, "weights.raft.distractors"),
        ({"context": {}, "weights": {"raft": {"without_gold": 1.0}}}, "weights.raft.without_gold"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        levers(**given)
    assert refused.value.field is not None
    assert refused.value.field.startswith("weights.raft")


# --- before anything is trained --------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the current folder, a suite on a tiny model whose rows say which page answers them."""
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    strategies = {"raft": {"context": {"k": 2}, "weights": {"rank": 4, "raft": {"without_gold": 0.5}}}}
    write_suite(tmp_path, tiny_model(tmp_path / "model"), strategies=strategies)
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    splits = ["train"] * 12 + ["validation"] * 3 + ["test"] * 6
    paged = [{**row, "page": str(n % 4), "split": splits[n]} for n, row in enumerate(rows)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in paged))
    task = (
        Path("weather.yaml")
        .read_text()
        .replace("reference: sky", "reference: sky, group: page, split: split")
    )
    Path("weather.yaml").write_text(task.replace("sizes: {train: 10, validation: 3, test: 6}", ""))


@pytest.fixture
def one(here: None) -> Iterator[Single]:
    with single.single(single.as_suite("tiny.yaml", "raft"), "raft") as found:
        yield found


def test_preflight_tells_what_differs_on_purpose_and_compares_the_rest(one: Single) -> None:
    looked = preflight.examine(one)
    assert not looked.fails
    (said,) = [f.what for f in looked.findings if f.check == "prompt"]
    assert "on purpose" in said
    assert "RAFT" in said
    assert not [f for f in looked.findings if f.check == "template"]


def test_preflight_finds_a_prompt_whose_rest_is_not_what_serving_sends(
    one: Single, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = type(one.strategy)
    ask = strategy.requests

    def another(*given: Any) -> Any:
        made = ask(*given)
        return [
            dataclasses.replace(r, messages=({"role": "system", "content": "Guess."}, *r.messages[1:]))
            for r in made
        ]

    monkeypatch.setattr(strategy, "requests", another)
    looked = preflight.examine(one)
    assert looked.fails
    (said,) = [f for f in looked.findings if f.check == "prompt"]
    assert said.level == "error"


# --- elsewhere -------------------------------------------------------------------------------


def test_weights_tuned_elsewhere_on_its_prompts_come_back_as_what_they_are(
    here: None, breakeven: Callable[..., Any]
) -> None:
    exported = breakeven("export", "tiny.yaml", "--to", "trl", "--strategy", "raft", "--out", "elsewhere")
    assert exported.code == 0, exported.err
    assert breakeven("run", "tiny.yaml", "--out", "runs", "--name", "r").code == 0
    (trained,) = Path("runs/r/artifacts").glob("adapter-*")
    shutil.copytree(trained, "elsewhere/adapter")
    back = breakeven("import-adapter", "elsewhere/adapter", "--into", "runs/r")
    assert back.code == 0, back.err
    breakeven("run", "--resume", "runs/r")
    cells = {c.strategy: c for c in results.load(Path("runs/r")).cells.values()}
    assert cells["raft-trl"].state == "done", cells["raft-trl"].reason
    assert [p.output for p in cells["raft-trl"].predictions] == [p.output for p in cells["raft"].predictions]
