"""The LoRA trainer on the real default model, through the local engine: from pairs to a tuned engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from peft.tuners.lora import Linear as LoraLinear

from breakeven.baselines.trainers._model import Forward, adapted
from breakeven.baselines.trainers._settings import Settings
from breakeven.baselines.trainers.peft import peft
from breakeven.harness.contracts import Completion, Request
from breakeven.harness.engines.local import LocalEngine, local
from breakeven.harness.training import TrainingPair, TrainingResult

pytestmark = pytest.mark.model

SAID = {
    "I want my money back": "refund",
    "My parcel never came": "delivery",
    "Please return what I paid": "refund",
    "Where is my package?": "delivery",
    "You charged me, give it back": "refund",
    "The box has not arrived yet": "delivery",
    "Can I get a reimbursement?": "refund",
    "The courier is a week late": "delivery",
}


def messages(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": f"What is this about? {text}"},)


PAIRS = [TrainingPair(text, messages(text), answer) for text, answer in SAID.items()]


@dataclass(frozen=True)
class Tuned:
    """The engine before and after, what it answered to the training prompts, and the base weights' hashes."""

    engine: LocalEngine
    folder: Path
    result: TrainingResult
    before: dict[str, Completion]
    hashes: tuple[str, str]


def answers(engine: Any) -> dict[str, Completion]:
    requests = [Request(text, messages=messages(text), max_tokens=8) for text in SAID]
    return {done.id: done for batch in engine.plan(requests) for done in engine.complete(batch)}


def fingerprint(model: Any) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("adapter")
    engine = local("smollm2-135m-instruct")
    before = answers(engine)
    model = engine.tunable().model
    first = fingerprint(model)
    trainer = peft(epochs=6, batch_size=4, lr=2e-3)
    result = trainer.train(
        engine.tunable(), PAIRS, PAIRS[:2], folder, folder / "scratch", 0, {}, lambda done, total, what: None
    )
    return Tuned(engine, folder, result, before, (first, fingerprint(model)))


def test_the_loss_falls_to_a_fraction(tuned: Tuned) -> None:
    assert tuned.result.losses[-1][1] < 0.2 * tuned.result.losses[0][1]


def test_the_tuned_engine_answers_in_the_words_it_was_taught_and_stops(tuned: Tuned) -> None:
    after = answers(tuned.engine.adapt(tuned.folder))
    assert {done.text for done in after.values()} <= {"refund", "delivery"}
    assert {done.finish_reason for done in after.values()} == {"stop"}


def test_the_base_model_is_byte_identical_and_answers_as_before(tuned: Tuned) -> None:
    assert tuned.hashes[0] == tuned.hashes[1]
    texts = {key: done.text for key, done in answers(tuned.engine).items()}
    assert texts == {key: done.text for key, done in tuned.before.items()}


def test_transformers_and_peft_alone_load_the_adapter_and_answer_the_same(tuned: Tuned) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from breakeven.harness.models import resolve

    place = resolve("smollm2-135m-instruct")
    dtype = getattr(torch, tuned.engine.describe().dtype)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(place, dtype=dtype), tuned.folder)
    tokenizer = AutoTokenizer.from_pretrained(place)
    served = answers(tuned.engine.adapt(tuned.folder))
    for text in SAID:
        chat = tokenizer.apply_chat_template(messages(text), add_generation_prompt=True, return_tensors="pt")
        ids = model.generate(**chat, max_new_tokens=8, do_sample=False)[0, chat["input_ids"].shape[1] :]
        assert tokenizer.decode(ids, skip_special_tokens=True) == served[text].text
        assert int(ids[-1]) == tuned.engine.tunable().end_id


def test_the_logits_of_answer_tokens_alone_are_computed(tuned: Tuned) -> None:
    assert tuned.result.settings["logits"] == "answer tokens"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_trained_the_quick_way(dtype: str) -> None:
    """Whether a model takes examples in one row is tried on it; rounding must not be mistaken for a no."""
    given = local("smollm2-135m-instruct", dtype=dtype).tunable()
    with adapted(given, Settings(), seed=0) as model:
        forward = Forward(model, given, Settings())
        assert forward.costs.one_row
        assert forward.answers_only
        assert all("forward" in vars(m) for m in model.modules() if isinstance(m, LoraLinear))
