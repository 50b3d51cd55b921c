"""Weights trained on the task's documents as plain text: what is learned, by whom, and who refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_tiny as tiny
from peft import PeftModel
from strategy_fakes import NotingTrainer, World, brief, examples
from tiny_suite import letters, tiny_model, write_suite

from breakeven.baselines import _weights
from breakeven.baselines.levers import levers
from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._protocol import check_pairs
from breakeven.harness import results
from breakeven.harness.contracts import Document, Message
from breakeven.harness.engines.local import LocalEngine, local
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.estimate import Estimate, estimate
from breakeven.harness.families import labelled_examples
from breakeven.harness.results import Results
from breakeven.harness.session import Journal, Session
from breakeven.harness.training import TrainingPair, Tunable

DOCUMENTS = (
    Document("a", "One line about apples.\n\n" + "Apples are eaten. " * 20, title="Apples"),
    Document("b", "# Pears\n\nPears are eaten too.", title="Pears"),
)
TRAIN = examples(("what is eaten", "red"), ("what is not", "blue"))
VALIDATION = examples(("what else is eaten", "red"), prefix="v")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A trainer under every name; the list holds what it was given, call by call."""
    seen: list[Any] = []
    monkeypatch.setattr(_weights, "find", lambda kind, name: lambda **s: NotingTrainer(s, seen))
    return seen


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def engine(model: Path) -> LocalEngine:
    return local(str(model), dtype="float32", device="cpu", threads=1)


def texts(world: World, engine: LocalEngine, **weights: Any) -> list[TrainingPair]:
    """The pairs of a training on documents, counted by a real tokenizer: a token is a character."""
    session = Session(engine, Journal(None), world.ledger, "train")
    made = levers(weights={"data": "documents", **weights})
    return made.training_pairs(brief(documents=DOCUMENTS), TRAIN, [], world.services(engine=session))[0]


# --- the texts -------------------------------------------------------------------------------


def test_every_sentence_of_the_documents_is_there_once(world: World, engine: LocalEngine) -> None:
    found = texts(world, engine, document_tokens=100)
    assert all(pair.is_text for pair in found)
    apples = [p.answer for p in found if p.id.startswith("document:a#")]
    assert sum(text.count("Apples are eaten.") for text in apples) == 20
    assert sum(text.count("One line about apples.") for text in apples) == 1
    assert len(apples) > 1


def test_every_passage_stands_under_the_title_of_its_document(world: World, engine: LocalEngine) -> None:
    found = texts(world, engine, document_tokens=100)
    assert {p.answer.partition("\n")[0] for p in found} == {"Apples", "# Pears"}
    assert all(p.answer.count("Pears\n") <= 1 for p in found)


def test_passages_have_about_as_many_tokens_as_asked(world: World, engine: LocalEngine) -> None:
    lengths = [len(p.answer) for p in texts(world, engine, document_tokens=100)]
    assert max(lengths) <= 100 + 16
    assert max(len(p.answer) for p in texts(world, engine)) > 116


def test_passages_are_shorter_where_an_example_may_be(world: World, engine: LocalEngine) -> None:
    found = texts(world, engine, max_length=80)
    tunable = engine.tunable()
    assert max(sum(map(len, tunable.encode(p.messages, p.answer))) for p in found) <= 80


# --- the tokens ------------------------------------------------------------------------------


def test_all_of_a_text_is_learned_but_its_first_token_and_no_template_stands_around_it(
    engine: LocalEngine,
) -> None:
    prompt, answer = engine.encode((), "Pears are eaten.")
    assert engine.spelled(prompt) == "P"
    assert engine.spelled(answer[:-1]) == "ears are eaten."
    assert answer[-1] == engine.end_id


def test_a_text_begins_and_ends_as_the_tokenizer_has_it(engine: LocalEngine) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = engine._tokens.tokenizer
    (begin, end), ids = (96, 97), ("<|im_start|>", "<|im_end|>")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single=f"{ids[0]} $A {ids[1]}", special_tokens=[(ids[0], begin), (ids[1], end)]
    )
    prompt, answer = engine.encode((), "Pears")
    assert prompt == [begin]
    assert engine.spelled(answer[:-1]) == "Pears"
    assert answer.count(end) == 1


# --- the strategy ----------------------------------------------------------------------------


def given(world: World, trainer: list[Any], data: str, **more: Any) -> list[str]:
    """Ids of what the trainer got."""
    made = levers(weights={"data": data}, **more)
    made.fit(brief(documents=DOCUMENTS), TRAIN, VALIDATION, world.services())
    return [p.id for p in trainer[-1][0]]


def test_documents_examples_or_both_are_trained_on(world: World, trainer: list[Any]) -> None:
    assert given(world, trainer, "examples") == ["t0", "t1"]
    assert given(world, trainer, "documents") == ["document:a#0", "document:b#0"]
    assert given(world, trainer, "both") == ["t0", "t1", "document:a#0", "document:b#0"]


def test_documents_alone_need_no_training_example(world: World, trainer: list[Any]) -> None:
    levers(weights={"data": "documents"}).fit(brief(documents=DOCUMENTS), [], [], world.services())
    assert len(trainer[-1][0]) == 2
    assert levers(weights={"data": "documents"}).varies_with == {"model", "seed"}
    assert levers(weights={"data": "both"}).varies_with == {"model", "seed", "train_size"}


def test_a_task_without_documents_has_none_to_train_on(world: World, trainer: list[Any]) -> None:
    for data in ("documents", "both"):
        with pytest.raises(NotApplicable, match="no documents"):
            levers(weights={"data": data}).fit(brief(), TRAIN, [], world.services())
    assert trainer == []


def test_the_same_weights_asked_in_two_ways_are_trained_once(world: World, trainer: list[Any]) -> None:
    given(world, trainer, "documents")
    assert [p.messages[-1]["content"] for p in trainer[-1][1]] == ["Text: what else is eaten"]
    given(world, trainer, "documents", context={"k": 1})
    assert len(trainer) == 1


def test_the_report_says_what_was_trained_on(world: World, trainer: list[Any]) -> None:
    made = levers(weights={"data": "documents"})
    predictor = made.fit(brief(documents=DOCUMENTS), TRAIN, VALIDATION, world.services())
    assert predictor.notes["training_prompts"]["documents"]["documents"] == 2
    (remark,) = predictor.notes["remarks"]
    assert remark.startswith("trained on 2 documents as plain text")
    assert remark.endswith("and on no example")
    beside = levers(weights={"data": "both"}).fit(brief(documents=DOCUMENTS), TRAIN, [], world.services())
    assert beside.notes["remarks"][0].endswith("beside 2 examples")


# --- the trainers ----------------------------------------------------------------------------


def encode(messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    """As engines do: of a text, the first token stands before what is learned."""
    if messages:
        return tiny.encode(messages, answer)
    ids = [*tiny.ids(answer), tiny.END]
    return ids[:1], ids[1:]


def tunable() -> Tunable:
    return tiny.tunable(encode=encode)


PLAIN = [TrainingPair(f"d{i}", (), "abcdefgh"[i % 4 :] + "xyz" * (1 + i % 3)) for i in range(12)]


def test_the_loss_is_the_mean_over_all_tokens_that_something_stands_before(tmp_path: Path) -> None:
    told = tiny.train(tmp_path, data=PLAIN[:3], given=tunable(), batch_size=3, epochs=1)
    rows = [torch.tensor([*tiny.ids(p.answer), tiny.END]) for p in PLAIN[:3]]
    base = tiny.model()
    with torch.no_grad():
        losses = [
            torch.nn.functional.cross_entropy(base(row[None]).logits[0, :-1], row[1:], reduction="sum")
            for row in rows
        ]
    learned = sum(len(row) - 1 for row in rows)
    assert told.losses[0][1] == pytest.approx(float(sum(losses)) / learned, rel=1e-5)
    assert (told.answer_tokens, told.training_tokens) == (learned, learned + 3)


def test_a_model_trained_on_texts_goes_on_as_they_do_and_ends_where_they_end(tmp_path: Path) -> None:
    data = [TrainingPair(f"d{i}", (), "abcdefgh") for i in range(8)]
    tiny.train(tmp_path, data=data, given=tunable(), epochs=12)
    tuned = PeftModel.from_pretrained(tiny.model(), tmp_path)
    written = tiny.ids("a")
    with torch.no_grad():
        while len(written) < 12 and written[-1] != tiny.END:
            written.append(int(tuned(torch.tensor([written])).logits[0, -1].argmax()))
    assert written == [*tiny.ids("abcdefgh"), tiny.END]


def test_trl_learns_the_same_of_texts_as_peft(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'breakeven[trl]'")
    from breakeven.baselines.trainers.trl import trl

    data = [*PLAIN, *tiny.pairs(12)]
    same: Mapping[str, Any] = {"data": data, "given": tunable(), "lr": 3e-3, "epochs": 2, "batch_size": 6}
    ours = tiny.train(tmp_path / "peft", **same)
    theirs = tiny.train(tmp_path / "trl", trainer=trl, **{**same, "given": tunable()})
    assert [v for _, v in theirs.losses] == pytest.approx([v for _, v in ours.losses], rel=1e-5)
    assert theirs.answer_tokens == ours.answer_tokens


DEPLOYMENT = {"subscription": "s", "resource_group": "g", "resource": "r"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("axolotl", {}),
        ("autotrain", {}),
        ("unsloth", {}),
        ("openai", {}),
        ("azure", {"deployment": DEPLOYMENT}),
    ],
)
@pytest.mark.parametrize("data", ["documents", "both"])
def test_a_trainer_that_only_takes_chats_refuses_documents_by_its_name(
    name: str, more: dict[str, Any], data: str
) -> None:
    levers(weights={"trainer": name, **more})
    with pytest.raises(UserError, match=f"'{name}' cannot train on documents") as refused:
        levers(weights={"trainer": name, "data": data, **more})
    assert refused.value.field == "weights.data"


def test_a_provider_is_sent_no_text() -> None:
    with pytest.raises(UserError, match="'d0' is plain text"):
        check_pairs([PLAIN[0]] * 12, [], JobSettings())


# --- a whole run -----------------------------------------------------------------------------

STRATEGIES: dict[str, Any] = {
    "zero-shot": {},
    "read": {"weights": {"data": "documents", "epochs": 1, "rank": 4}},
    "read+rag": {"context": {"k": 1}, "weights": {"data": "documents", "epochs": 1, "rank": 4}},
    "both": {"weights": {"data": "both", "epochs": 1, "rank": 4}},
}


@pytest.fixture(scope="module")
def ran(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Estimate, Results]:
    """The folder of a suite, its estimate, and the run afterwards."""
    from rich.console import Console

    from breakeven.harness import progress
    from breakeven.harness import run as runs
    from breakeven.harness import suite as suites

    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        letters(patch)
        suite = suites.load(write_suite(folder, model, strategies=STRATEGIES, train_sizes=[5, "all"]))
        foreseen = estimate(suite, seconds=5)
        outcome = runs.start(suite, folder / "r", runs.Options(), progress.PlainDisplay(Console(quiet=True)))
    assert outcome.exit_code == 0
    return folder, foreseen, results.load(folder / "r")


def test_the_estimate_counts_the_texts_as_training_does(ran: tuple[Path, Estimate, Results]) -> None:
    _, foreseen, run = ran
    assert len(foreseen.cells) == len(run.cells)
    for c in foreseen.cells:
        took = run.cells[c.id].ledger.total("training_tokens", "train").value or 0
        assert c.training_tokens == took, c.id
    assert {c.strategy: c.training_tokens > 0 for c in foreseen.cells}["read"]


def test_a_model_that_only_read_is_not_expected_to_write_whole_documents(
    ran: tuple[Path, Estimate, Results],
) -> None:
    _, foreseen, _ = ran
    asked = {c.strategy: c for c in foreseen.cells}
    assert asked["read"].output_tokens <= 6 * 6  # max_tokens for each of the six
    assert asked["both"].output_tokens <= 6 * 6


def test_training_on_documents_alone_is_done_once_for_all_training_sizes(
    ran: tuple[Path, Estimate, Results],
) -> None:
    folder, _, run = ran
    cells = {name: [c for c in run.cells.values() if c.strategy == name] for name in STRATEGIES}
    assert [len(cells[name]) for name in ("read", "read+rag", "both")] == [1, 1, 2]
    assert len(list((folder / "r/artifacts").glob("adapter-*"))) == 3


def test_nobody_labels_documents_but_somebody_keeps_them_current(ran: tuple[Path, Estimate, Results]) -> None:
    from breakeven.harness.ownership import of_row
    from breakeven.harness.pricing import Pricing

    _, _, run = ran
    rows = {r.strategy: r for r in run.tables["weather"] if r.train_size == 10}
    assert {name: labelled_examples(rows[name]) for name in ("zero-shot", "read", "both")} == {
        "zero-shot": 0, "read": 0, "both": 10,
    }  # fmt: skip
    paying = {
        name: any("documents current" in line.what for line in of_row(rows[name], Pricing(run)).lines)
        for name in rows
    }
    assert paying == {"zero-shot": False, "read": True, "read+rag": True, "both": True}


def test_preflight_shows_a_text_with_all_of_it_learned(
    ran: tuple[Path, Estimate, Results], monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    folder, _, _ = ran
    letters(monkeypatch)
    monkeypatch.chdir(folder)
    alone = breakeven("preflight", "tiny.yaml", "--only", "read", "--no-cost")
    assert alone.code == 0, alone.out
    assert "T⟦he weather page" in alone.out
    assert "4 texts of documents are trained as they stand, and no prompt" in alone.out
    beside = breakeven("preflight", "tiny.yaml", "--only", "both", "--no-cost")
    assert beside.code == 0, beside.out
    assert "training prompts are what serving sends (8 of 10 compared)" in beside.out
    assert "Say what the weather was." in beside.out
    assert "T⟦he weather page" in beside.out


def test_documents_are_not_exported_to_a_system_that_takes_chats(
    ran: tuple[Path, Estimate, Results], monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    folder, _, _ = ran
    letters(monkeypatch)
    monkeypatch.chdir(folder)
    said = breakeven("export", "tiny.yaml", "--to", "axolotl", "--strategy", "both", "--out", "elsewhere")
    assert said.code == 2
    assert "Axolotl is given chat messages" in said.err
    assert not Path("elsewhere").exists()
