"""The trainer over TRL's SFTTrainer: the same examples, order, seed and settings give what `peft` gives.

In float32 the two compute the same sums in another order: `peft` leaves padding out, takes logits of answer
tokens only and may lay examples into one row, TRL pads and projects in tiles. So losses and weights agree
within what rounding adds up to, and every tolerance below says how much that is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_tiny as tiny
from peft import PeftModel
from safetensors.torch import load_file

from breakeven.baselines.trainers.trl import trl
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair, TrainingResult

pytest.importorskip("trl", reason="trl is not installed: pip install 'breakeven[trl]'")


def train(folder: Path, **changes: Any) -> TrainingResult:
    return tiny.train(folder, trainer=trl, **changes)


def curve(result: TrainingResult) -> list[float]:
    return [loss for _, loss in result.losses]


# --- it agrees with our own trainer --------------------------------------------------------------

SETTINGS = pytest.mark.parametrize(
    "settings",
    [
        {},
        {"schedule": "linear", "warmup": 0.25, "weight_decay": 0.1},
        {"max_grad_norm": 0.05, "batch_size": 5},
        {"use_rslora": True, "alpha": 6},
        {"use_dora": True, "targets": ["q_proj", "v_proj"]},
        {"max_length": 16, "max_tokens_total": 800, "epochs": 3.5},
        {"gradient_checkpointing": True, "schedule": "constant"},
    ],
    ids=lambda settings: ",".join(settings) or "defaults",
)


@SETTINGS
def test_its_losses_are_those_of_peft_at_every_step(tmp_path: Path, settings: dict[str, Any]) -> None:
    """float32 has 7 digits. Seen are differences in the last; a dozen steps of Adam may cost two of them."""
    data = {"validation": tiny.pairs(30)[24:], "lr": 3e-3, **settings}
    ours, theirs = tiny.train(tmp_path / "peft", **data), train(tmp_path / "trl", **data)
    assert curve(theirs) == pytest.approx(curve(ours), rel=1e-5)
    assert [s for s, _ in theirs.validation_losses] == [s for s, _ in ours.validation_losses]
    assert [v for _, v in theirs.validation_losses] == pytest.approx(
        [v for _, v in ours.validation_losses], rel=1e-5
    )
    same = ("steps", "epochs", "examples", "truncated", "dropped", "training_tokens", "answer_tokens")
    assert {k: getattr(theirs, k) for k in same} == {k: getattr(ours, k) for k in same}
    assert theirs.trainable_parameters == ours.trainable_parameters


def test_its_adapter_is_that_of_peft(tmp_path: Path) -> None:
    """12 steps of 3e-3 may move a weight by 0.036; the two differ by a thousandth of that at most."""
    tiny.train(tmp_path / "peft", lr=3e-3)
    train(tmp_path / "trl", lr=3e-3)
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("peft", "trl"))
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 3e-5


def test_another_seed_gives_another_curve(tmp_path: Path) -> None:
    """What the agreement above would miss if it did not depend on order and initialisation."""
    ours, theirs = tiny.train(tmp_path / "peft", seed=0), train(tmp_path / "trl", seed=1)
    assert max(abs(a - b) for a, b in zip(curve(ours), curve(theirs), strict=True)) > 0.05


@pytest.mark.model
def test_on_the_default_model_its_losses_are_those_of_peft(tmp_path: Path) -> None:
    """30 layers add up more rounding than two: seen are 3e-5. A wrong mask or rate leaves far more."""
    from breakeven.harness.engines.local import local

    tunable = local("smollm2-135m-instruct", dtype="float32", device="cpu").tunable()
    words = ["flour", "butter", "two eggs", "a pinch of salt", "brown sugar", "oat milk"]
    data = [
        TrainingPair(
            f"r{i}", ({"role": "user", "content": f"Which is number {i}?\n" + "\n".join(words)},), word
        )
        for i, word in enumerate(words, start=1)
    ]
    settings = {"rank": 8, "lr": 1e-3, "epochs": 2, "batch_size": 2, "given": tunable, "data": data}
    ours, theirs = tiny.train(tmp_path / "peft", **settings), train(tmp_path / "trl", **settings)
    assert len(curve(ours)) == 6
    assert curve(ours)[-1] < 0.8 * curve(ours)[0]
    assert curve(theirs) == pytest.approx(curve(ours), rel=1e-3)


# --- what is left behind -------------------------------------------------------------------------


def test_the_adapter_answers_and_stops(tmp_path: Path) -> None:
    base = tiny.model()
    train(tmp_path, base=base, epochs=10)
    tuned = PeftModel.from_pretrained(base, tmp_path).eval()
    assert tiny.greedy(tuned, "aaax") == [*tiny.ids("yes"), tiny.END]
    assert tiny.greedy(tuned, "bbbbby") == [*tiny.ids("no"), tiny.END]


def test_the_shared_model_is_given_back_as_it_was(tmp_path: Path) -> None:
    base = tiny.model()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    attributes, config = set(vars(base)), base.config.to_dict()
    train(tmp_path, base=base, epochs=1, dropout=0.1)
    assert base.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert set(vars(base)) == attributes
    assert base.config.to_dict() == config
    assert not base.training


def test_the_random_numbers_of_the_program_are_left_alone(tmp_path: Path) -> None:
    import random

    import numpy as np

    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    train(tmp_path, epochs=1, dropout=0.1)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()


def test_the_origin_names_trl_and_its_version(tmp_path: Path) -> None:
    import trl as package

    train(tmp_path, epochs=1)
    origin = json.loads((tmp_path / "breakeven.json").read_text())
    assert origin["trainer"] == "trl"
    assert origin["settings"]["system"] == f"trl {package.__version__}"
    assert origin["versions"]["trl"] == package.__version__


def test_it_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, epochs=1)
    assert capfd.readouterr().out == ""


# --- interrupted ---------------------------------------------------------------------------------


#: By steps only, however slow the machine.
EVERY_4: dict[str, Any] = {"checkpoint_steps": 4, "checkpoint_seconds": 1e9}


class Stopped(Exception):
    pass


def stop_after(step: int) -> Any:
    def progress(done: float, total: float, what: str) -> None:
        if f"step {step}/" in what:
            raise Stopped

    return progress


def test_an_interrupted_training_goes_on_at_its_checkpoint_and_ends_with_the_same_adapter(
    tmp_path: Path,
) -> None:
    settings = {"dropout": 0.1, **EVERY_4}
    whole = train(tmp_path / "whole", **settings)
    with pytest.raises(Stopped):
        train(tmp_path / "torn", progress=stop_after(7), **settings)
    assert not (tmp_path / "torn" / "adapter_model.safetensors").exists()
    seen: list[str] = []
    resumed = train(tmp_path / "torn", progress=lambda done, total, what: seen.append(what), **settings)
    assert seen[0].startswith("training with TRL: step 5/")
    assert resumed.lost_seconds > 0
    assert resumed.losses == whole.losses
    assert tiny.adapter(tmp_path / "torn") == tiny.adapter(tmp_path / "whole")


def test_a_checkpoint_that_was_not_finished_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, progress=stop_after(7), **EVERY_4)
    (tmp_path / "scratch" / "trl" / "checkpoint-4" / "breakeven.json").unlink()
    seen: list[str] = []
    train(tmp_path, progress=lambda done, total, what: seen.append(what), **EVERY_4)
    assert seen[0].startswith("training with TRL: step 1/")


def test_a_checkpoint_of_other_data_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, progress=stop_after(7), **EVERY_4)
    seen: list[str] = []
    train(tmp_path, data=tiny.pairs(26)[2:], progress=lambda done, total, what: seen.append(what))
    assert seen[0].startswith("training with TRL: step 1/")


# --- refused -------------------------------------------------------------------------------------


def test_a_training_that_diverges_ends_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"field 'lr': training diverged at step \d+ of \d+") as refused:
        train(tmp_path, lr=1e6, epochs=20)
    assert refused.value.field == "lr"


def test_what_it_cannot_honour_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="the trainer 'trl' cannot honour it") as refused:
        trl(tokens_per_pass=512)
    assert refused.value.field == "tokens_per_pass"


def test_another_than_the_first_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="first GPU only"):
        train(tmp_path, given=tiny.tunable(device="cuda:1"))
