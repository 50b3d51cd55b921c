"""SetFit on a random encoder of two layers: what it learns, what it leaves alone, what it bills."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from strategy_fakes import World, brief, examples
from tiny_encoder import tiny_encoder

from breakeven.baselines import _contrastive
from breakeven.baselines._contrastive import Recipe, batches, pair_loss
from breakeven.baselines.setfit import SetFitPredictor, setfit
from breakeven.harness import plan, pool, progress, results
from breakeven.harness import run as runs
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Example, Input, Services
from breakeven.harness.embedding import SentenceEmbedder
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.estimate import estimate
from breakeven.harness.families import family, labelled_examples
from breakeven.harness.summary import table

TRAIN = examples(
    ("the summer sky", "blue"), ("a ripe tomato", "red"), ("an old rose", "red"), ("the winter sky", "blue"),
    ("a red rose", "red"), ("the blue evening", "blue"),
)  # fmt: skip
SKY, ROSE = Input("s", {"text": "the evening sky"}), Input("r", {"text": "a wild rose"})
#: As large a learning rate as a model needs that knows nothing.
QUICK: dict[str, Any] = {"epochs": 8, "lr": 0.01, "batch_size": 6}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, engine=None)


def services(world: World, encoder: Path, **changes: Any) -> Services:
    embedder = SentenceEmbedder(world.ledger, model=str(encoder), device="cpu")
    return world.services(embedder=lambda: embedder, **changes)


def fitted(
    world: World, encoder: Path, train: Sequence[Example] = TRAIN, seed: int = 0, **settings: Any
) -> SetFitPredictor:
    strategy = setfit(**{**QUICK, **settings})
    return strategy.fit(brief(), train, [], services(world, encoder, seed=seed))


def outputs(predictor: SetFitPredictor, *asked: Input) -> list[str]:
    return [p.output for p in predictor.predict(asked)]


def weights(predictor: SetFitPredictor) -> dict[str, torch.Tensor]:
    return load_file(predictor.encoder / "encoder" / "model.safetensors")


# --- what it learns --------------------------------------------------------------------------


def test_new_texts_of_one_class_come_together_and_those_of_others_apart(world: World, encoder: Path) -> None:
    texts = ["a wild rose", "the red tomato", "the evening sky"]

    def gap(embedder: Any) -> float:
        rose, tomato, sky = embedder.encode(texts, phase="serve")
        return float(rose @ tomato - rose @ sky)

    predictor = fitted(world, encoder)
    assert gap(predictor.linear.services.embedder()) > gap(services(world, encoder).embedder()) + 0.5  # type: ignore[misc]
    assert outputs(predictor, SKY, ROSE) == ["blue", "red"]
    losses = [loss for _, loss in predictor.training["losses"]]
    assert losses[-1] < losses[0] / 2


def test_the_loss_is_that_of_sentence_transformers_over_all_pairs_each_kind_weighing_half() -> None:
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    vectors, codes = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)), [0, 1, 0, 2, 1, 0, 2]
    theirs = CosineSimilarityLoss(torch.nn.Identity())  # type: ignore[arg-type]
    pairs = [(i, j) for i in range(7) for j in range(i)]
    kinds = []
    for same in (True, False):
        some = [(i, j) for i, j in pairs if (codes[i] == codes[j]) is same]
        sides = [vectors[[pair[side] for pair in some]] for side in (0, 1)]
        labels = torch.full((len(some),), float(same))
        kinds.append(theirs.compute_loss_from_embeddings(sides, labels))
    assert pair_loss(vectors, torch.tensor(codes)) == pytest.approx(float(sum(kinds)) / 2)


@pytest.mark.parametrize(
    ("train", "said"), [(TRAIN[1:3], ["red", "red"]), (TRAIN[:2], ["blue", "red"]), (TRAIN[:1], ["blue"] * 2)]
)
def test_one_class_only_or_one_example_of_each_can_be_learned(
    world: World, encoder: Path, train: Sequence[Example], said: list[str]
) -> None:
    predictor = fitted(world, encoder, train)
    assert all(np.isfinite(loss) for _, loss in predictor.training["losses"])
    asked = [Input(str(n), TRAIN[n].input) for n in range(2)]
    assert outputs(predictor, *asked) == said


# --- what it leaves alone --------------------------------------------------------------------


def test_the_encoder_that_other_strategies_share_stays_as_it_is(world: World, encoder: Path) -> None:
    shared = services(world, encoder).embedder
    assert shared is not None
    before = shared().encode(["the red rose"], phase="serve")
    fitted(world, encoder)
    fresh = SentenceEmbedder(world.ledger, model=str(encoder), device="cpu", fresh=True)
    np.testing.assert_array_equal(fresh.encode(["the red rose"], phase="serve"), before)


def test_torchs_random_numbers_threads_and_gradients_stay_as_they_are(world: World, encoder: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    fitted(world, encoder)
    after = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_words_that_are_looked_up_keep_their_vectors(world: World, encoder: Path) -> None:
    before, after = load_file(encoder / "model.safetensors"), weights(fitted(world, encoder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not {name for name in changed if "embeddings.word" in name or "embeddings.position" in name}


# --- seeds and resuming ----------------------------------------------------------------------


def test_one_seed_makes_the_same_encoder_to_the_bit_and_another_seed_another(
    tmp_path: Path, encoder: Path
) -> None:
    made = [
        weights(fitted(World(tmp_path / str(n), engine=None), encoder, seed=seed, batch_size=3))
        for n, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert any(not torch.equal(made[0][name], made[2][name]) for name in made[0])


def test_a_second_cell_takes_the_encoder_of_the_first_and_is_billed_for_it(
    world: World, encoder: Path
) -> None:
    told: list[str] = []
    first = setfit(**QUICK).fit(
        brief(), TRAIN, [], services(world, encoder, progress=lambda d, t, what: told.append(what))
    )
    other, steps = World(world.folder, engine=None), len(told)
    second = setfit(**QUICK, C=1.0).fit(
        brief(), TRAIN, [], services(other, encoder, progress=lambda d, t, what: told.append(what))
    )
    assert second.encoder == first.encoder
    assert len(told) == steps == first.training["steps"]
    trained = [ledger.total("training_tokens", "train") for ledger in (world.ledger, other.ledger)]
    assert trained[0] == trained[1] != 0


def test_a_loaded_one_answers_as_the_saved_one_also_in_a_run_folder_that_was_moved(
    world: World, encoder: Path
) -> None:
    predictor = fitted(world, encoder)
    predictor.save(world.folder / "cells" / "predictor")
    moved = shutil.copytree(world.folder, world.folder.with_name("moved"))
    shutil.rmtree(world.folder / "artifacts")
    loaded = setfit(**QUICK).load(moved / "cells" / "predictor", brief(), services(world, encoder))
    assert outputs(loaded, SKY, ROSE) == ["blue", "red"]
    np.testing.assert_array_equal(loaded.linear.weights, predictor.linear.weights)
    assert loaded.notes["epochs"] == 8


# --- batches ---------------------------------------------------------------------------------

LABELS = [label for label, n in {"many": 11, "few": 3, "one": 1, "some": 6}.items() for _ in range(n)]


def test_every_row_is_read_once_an_epoch() -> None:
    made = batches(LABELS, [1] * len(LABELS), Recipe(3, 7, 4, 1e-4, None), seed=1)
    read = [row for batch in made for row in batch]
    assert len(made) == 9
    for epoch in range(3):
        assert sorted(read[epoch * 21 : (epoch + 1) * 21]) == list(range(21))


def test_most_rows_meet_another_of_their_class_in_their_batch() -> None:
    labels = [f"class{n % 20}" for n in range(300)]
    made = batches(labels, [1] * 300, Recipe(1, 32, 4, 1e-4, None), seed=0)
    alone = sum([labels[other] for other in batch].count(labels[row]) == 1 for batch in made for row in batch)
    assert alone < 15


def test_a_cap_on_tokens_shortens_the_epochs_and_the_notes_say_so(world: World, encoder: Path) -> None:
    predictor = fitted(world, encoder, max_tokens_total=70)  # 30 an epoch, two around each text included
    assert predictor.training["epochs"] == 2
    assert predictor.training["training_tokens"] == 60
    assert "2.0 of 8 epochs" in predictor.notes["remarks"][0]  # type: ignore[index]


def test_passes_of_a_batch_hold_texts_of_similar_lengths_and_nothing_is_lost() -> None:
    lengths = [3, 40, 4, 3, 4, 41, 3, 3, 4, 3, 39, 5]
    made = _contrastive.Plan([[0] * n for n in lengths], [0] * 12, [])
    passes = made.passes(range(12))
    assert sorted(row for rows in passes for row in rows) == list(range(12))
    assert [max(lengths[r] for r in rows) for rows in passes] == [4, 41]


# --- bills -----------------------------------------------------------------------------------


def test_training_is_billed_in_tokens_seconds_operations_and_memory(world: World, encoder: Path) -> None:
    predictor = fitted(world, encoder)
    count = SentenceEmbedder(model=str(encoder), device="cpu").count_tokens
    tokens = 8 * sum(n + 2 for n in count([str(e.input["text"]) for e in TRAIN]))
    booked = {e.quantity: e for e in world.ledger.select("train") if e.model == str(encoder)}
    assert booked["training_tokens"].amount.value == tokens
    weights_used = predictor.training["trainable_parameters"]
    flops = booked["flops"].amount
    assert flops.status == "estimated"
    assert flops.value is not None
    assert 6 * weights_used * tokens < flops.value < 6.5 * weights_used * tokens
    assert booked["seconds"].hardware
    assert booked["bytes"].amount.value


def test_examples_and_questions_are_billed_as_those_of_the_other_classifiers(
    world: World, encoder: Path
) -> None:
    list(fitted(world, encoder).predict([SKY]))
    assert world.ledger.total("embedded_tokens", "index").value == 30
    assert world.ledger.total("embedded_tokens", "serve").value == 5


# --- where it does not apply, and wrong settings ---------------------------------------------


def test_it_does_not_apply_without_choices_or_examples_or_weights_to_tune(
    world: World, encoder: Path
) -> None:
    lent = services(world, encoder)
    for told, train, given, reason in (
        (brief(choices=None), TRAIN, lent, "no choices"),
        (brief(), [], lent, "no training examples"),
        (brief(), TRAIN, world.services(embedder=None), "no embedding model"),
        (brief(), TRAIN, world.services(), "letters cannot be fine-tuned"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            setfit().fit(told, train, [], given)


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 0}, {"lr": "fast"}, {"lr": float("nan")}, {"batch_size": 1}, {"per_class": True},
     {"max_tokens_total": 0}, {"C": -1}, {"pairs": 20}],
)  # fmt: skip
def test_a_setting_that_is_wrong_or_unknown_is_named(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        plan.make_strategy("mine", "setfit", settings)
    assert (error.value.field or "").endswith(next(iter(settings)))


# --- in a run --------------------------------------------------------------------------------


def test_a_run_and_its_estimate_agree_on_the_training(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        pool.Engines, "embedder",
        lambda self, ledger, fresh=False: SentenceEmbedder(
            ledger, model=str(encoder), device="cpu", fresh=fresh
        ),
    )  # fmt: skip
    monkeypatch.setattr(pool.Engines, "embedder_digest", lambda self: "tiny")
    rows = [{"text": e.input["text"], "colour": e.references[0]} for e in TRAIN * 4]
    for n, row in enumerate(rows):
        row["text"] = f"{row['text']} {n}"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "colours.yaml").write_text(
        "name: colours\ninstructions: Say the colour.\ninput_template: '{{ text }}'\ndata: rows.jsonl\n"
        "columns: {input: text, reference: colour}\nchoices: from data\nmetrics: [accuracy]\n"
        "sizes: {train: 12, validation: 0, test: 6}\n"
    )
    suite = {
        "suite": "small", "tasks": {"colours": {"task": "colours.yaml"}}, "seeds": [0, 1],
        "strategies": {"majority": {}, "setfit": {"epochs": 2}}, "reference": "majority",
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(json.dumps(suite))
    loaded = suites.load(tmp_path / "small.yaml")
    foreseen = estimate(loaded, seconds=1)
    runs.start(loaded, tmp_path / "r", runs.Options(), progress.PlainDisplay(Console(quiet=True)))
    run = results.load(tmp_path / "r")
    told = {c.id: c for c in foreseen.cells if c.strategy == "setfit"}
    assert sorted(told) == ["colours--setfit--s0", "colours--setfit--s1"]
    assert {f"encoder-{c.training_key}" for c in told.values()} == {
        p.name for p in (tmp_path / "r" / "artifacts").glob("encoder-*")
    }
    for id, cell in told.items():
        done = run.cells[id]
        assert done.state == "done", done.reason
        assert cell.training_tokens == done.ledger.total("training_tokens", "train").value
        assert cell.seconds is not None
        assert cell.seconds.training > 0
        assert done.training is not None
        assert done.training["stop_rate"] is None
    (row,) = (r for r in table(run, "colours") if r.strategy == "setfit")
    assert row.training_seconds is not None
    assert family(row) == "no-model"
    assert labelled_examples(row) == 12
