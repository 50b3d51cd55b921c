"""The in-process LoRA trainer on a tiny random Llama: what it learns, and what it leaves alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_tiny as tiny
from peft import PeftModel
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel

from breakeven.baselines.trainers import _lora, _model
from breakeven.baselines.trainers._examples import encode
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness.errors import OutOfMemory, UserError

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def weights(model: Any) -> dict[str, bytes]:
    tensors = model.state_dict().items()
    return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in tensors}


def greedy(model: Any, prompt: str, limit: int = 8) -> list[int]:
    ids = [*tiny.ids(prompt + ">")]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + limit and (len(ids) == start or ids[-1] != tiny.END):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[start:]


# --- learning ----------------------------------------------------------------------------------


@DTYPES
def test_the_loss_falls(tmp_path: Path, dtype: torch.dtype) -> None:
    result = tiny.train(tmp_path, base=tiny.model(dtype))
    assert result.losses[-1][1] < 0.2 * result.losses[0][1]


def test_the_tuned_model_answers_and_stops_although_padding_is_the_end_token(tmp_path: Path) -> None:
    base = tiny.model()
    tiny.train(tmp_path, base=base, epochs=10)
    tuned = PeftModel.from_pretrained(base, tmp_path).eval()
    assert greedy(tuned, "aaax") == [*tiny.ids("yes"), tiny.END]
    assert greedy(tuned, "bbbbby") == [*tiny.ids("no"), tiny.END]


def test_the_loss_is_that_of_the_answer_tokens_alone(tmp_path: Path) -> None:
    base, examples = tiny.model(), encode(tiny.pairs(5), tiny.tunable(), 128).examples
    expected = 0.0
    for example in examples:
        labels = torch.tensor([[-100] * len(example.prompt) + list(example.answer)])
        mean = base(torch.tensor([[*example.prompt, *example.answer]]), labels=labels).loss
        expected += mean.item() * len(example.answer)
    with _model.adapted(tiny.tunable(base), Settings(), 0) as model:
        found = _model.Forward(model, tiny.tunable(base), Settings()).loss(examples)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_a_step_is_the_mean_over_the_answer_tokens_of_its_batch(tmp_path: Path) -> None:
    data = [pair for pair in tiny.pairs() if pair.answer == "no"]
    base = tiny.model()
    losses = []
    for pair in data:
        prompt, answer = tiny.encode(pair.messages, pair.answer)
        labels = torch.tensor([[-100] * len(prompt) + answer])
        losses.append(base(torch.tensor([prompt + answer]), labels=labels).loss.item())
    result = tiny.train(tmp_path, base=base, data=data, batch_size=len(data), epochs=1)
    assert result.losses[0][1] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_logits_are_computed_for_answer_tokens_only(tmp_path: Path) -> None:
    base, seen = tiny.model(), []
    base.lm_head.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[:-1].numel()))
    result = tiny.train(tmp_path, base=base, epochs=1)
    assert result.settings["logits"] == "answer tokens"
    assert sum(seen[5:]) == result.answer_tokens  # the first five calls try what works


def test_a_model_that_cannot_choose_its_logits_is_trained_all_the_same(tmp_path: Path) -> None:
    class Plain(type(tiny.model())):  # type: ignore[misc]
        def forward(self, **given: Any) -> Any:
            if "logits_to_keep" in given:
                raise TypeError("forward() got an unexpected keyword argument 'logits_to_keep'")
            return super().forward(**given)

    plain = Plain(tiny.model().config).eval().requires_grad_(False)
    plain.load_state_dict(tiny.model().state_dict())
    result = tiny.train(tmp_path / "plain", base=plain)
    usual = tiny.train(tmp_path / "usual")
    assert result.settings["logits"] == "all tokens"
    assert result.losses[-1][1] == pytest.approx(usual.losses[-1][1], abs=1e-3)


def test_another_architecture_needs_no_settings_of_its_own(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=64, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4)
    base = GPT2LMHeadModel(config).eval().requires_grad_(False)
    result = tiny.train(tmp_path, base=base)
    assert result.losses[-1][1] < 0.5 * result.losses[0][1]


def test_a_batch_split_for_memory_trains_the_same(tmp_path: Path) -> None:
    whole = tiny.train(tmp_path / "whole", epochs=1, schedule="constant", lr=1e-3)
    split = tiny.train(tmp_path / "split", epochs=1, schedule="constant", lr=1e-3, tokens_per_pass=32)
    assert [loss for _, loss in split.losses] == pytest.approx([loss for _, loss in whole.losses], rel=1e-4)


def test_gradient_checkpointing_trains_the_same(tmp_path: Path) -> None:
    kept = tiny.train(tmp_path / "kept", epochs=1)
    computed_again = tiny.train(tmp_path / "again", epochs=1, gradient_checkpointing=True)
    assert [l for _, l in computed_again.losses] == pytest.approx([l for _, l in kept.losses], rel=1e-4)  # noqa: E741


@pytest.mark.parametrize("variant", ["use_dora", "use_rslora"])
@DTYPES
def test_variants_of_lora_are_passed_through(tmp_path: Path, variant: str, dtype: torch.dtype) -> None:
    result = tiny.train(tmp_path, base=tiny.model(dtype), **{variant: True})
    assert result.losses[-1][1] < result.losses[0][1]
    assert json.loads((tmp_path / "adapter_config.json").read_text())[variant] is True


def test_validation_loss_is_taken_after_every_epoch(tmp_path: Path) -> None:
    result = tiny.train(tmp_path, validation=tiny.pairs(30)[24:], epochs=3)
    assert [step for step, _ in result.validation_losses] == [3, 6, 9]
    assert result.validation_losses[-1][1] < result.validation_losses[0][1]


def test_validation_does_not_change_the_adapter(tmp_path: Path) -> None:
    tiny.train(tmp_path / "without", dropout=0.1)
    tiny.train(tmp_path / "with", dropout=0.1, validation=tiny.pairs(30)[24:])
    assert tiny.adapter(tmp_path / "with") == tiny.adapter(tmp_path / "without")


# --- what is counted ---------------------------------------------------------------------------


def test_tokens_are_counted_without_padding_over_all_epochs(tmp_path: Path) -> None:
    data = tiny.pairs(10)
    result = tiny.train(tmp_path, data=data, epochs=3)
    lengths = [sum(map(len, tiny.encode(p.messages, p.answer))) for p in data]
    assert result.training_tokens == 3 * sum(lengths)
    assert result.answer_tokens == 3 * sum(len(p.answer) + 1 for p in data)


def test_a_cap_on_tokens_shortens_the_epochs_and_says_so(tmp_path: Path) -> None:
    result = tiny.train(tmp_path, epochs=50, max_tokens_total=900)
    assert result.training_tokens <= 900
    assert 0 < result.epochs < 50
    assert result.settings["epochs_shortened_by_max_tokens_total"] is True


def test_truncated_and_dropped_examples_are_counted(tmp_path: Path) -> None:
    data = [*tiny.pairs(4), tiny.TrainingPair("long", ({"role": "user", "content": "a" * 40},), "yes")]
    data.append(tiny.TrainingPair("endless", ({"role": "user", "content": "a"},), "y" * 40))
    result = tiny.train(tmp_path, data=data, max_length=32)
    assert (result.examples, result.truncated, result.dropped) == (5, 1, 1)


def test_no_usable_example_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the 24 training examples can be used"):
        tiny.train(tmp_path, max_length=2)


# --- what is left behind -----------------------------------------------------------------------


@DTYPES
def test_the_base_model_is_byte_identical_afterwards(tmp_path: Path, dtype: torch.dtype) -> None:
    base = tiny.model(dtype)
    before, modules = weights(base), [name for name, _ in base.named_modules()]
    tiny.train(tmp_path, base=base)
    assert weights(base) == before
    assert [name for name, _ in base.named_modules()] == modules


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_base_model_is_unwrapped_when_training_breaks_off(tmp_path: Path, error: Any) -> None:
    def stop(done: float, total: float, what: str) -> None:
        raise error

    base = tiny.model()
    before = weights(base)
    with pytest.raises(error):
        tiny.train(tmp_path, base=base, progress=stop)
    assert weights(base) == before
    assert not base.training
    assert not any(p.requires_grad or p.grad is not None for p in base.parameters())


def test_the_random_numbers_of_the_program_are_left_alone(tmp_path: Path) -> None:
    base = tiny.model()
    before = torch.random.get_rng_state()
    tiny.train(tmp_path, base=base, dropout=0.1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_saved_adapter_is_the_trained_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {}
    save = _lora.save_adapter

    def spy(model: Any, *rest: Any) -> None:
        with torch.no_grad():
            trained["logits"] = model.eval()(torch.tensor([tiny.ids("aaax>")])).logits
        save(model, *rest)

    monkeypatch.setattr(_lora, "save_adapter", spy)
    base = tiny.model()
    tiny.train(tmp_path, base=base)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(loaded(torch.tensor([tiny.ids("aaax>")])).logits, trained["logits"])


def test_the_adapter_sits_on_all_linear_layers_but_the_output_projection(tmp_path: Path) -> None:
    tiny.train(tmp_path, epochs=1)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * 7  # A and B, layers, linear layers of each
    assert not any("lm_head" in name for name in tensors)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_the_configuration_lists_layers_in_a_fixed_order(tmp_path: Path) -> None:
    tiny.train(tmp_path, epochs=1)
    names = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert names == sorted(names)


def test_targets_can_be_named(tmp_path: Path) -> None:
    tiny.train(tmp_path, epochs=1, targets=["q_proj", "v_proj"])
    assert len(load_file(tmp_path / "adapter_model.safetensors")) == 2 * 2 * 2


def test_targets_that_are_not_there_are_an_error_with_the_field(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="field 'targets'"):
        tiny.train(tmp_path, targets=["no_such_layer"])


def test_the_adapter_tells_what_made_it(tmp_path: Path) -> None:
    result = tiny.train(tmp_path, seed=5)
    made = json.loads((tmp_path / "breakeven.json").read_text())
    assert made["seed"] == 5
    assert made["model"]["digest"] == "tiny-1"
    assert made["settings"]["lr"] == 3e-2
    assert made["losses"] == [list(pair) for pair in result.losses]
    assert {"torch", "peft", "transformers", "breakeven"} <= made["versions"].keys()
    assert len(made["pairs"]) == 64


def test_no_path_of_this_machine_gets_into_the_adapter_configuration(tmp_path: Path) -> None:
    tiny.train(tmp_path, epochs=1)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


# --- seeds -------------------------------------------------------------------------------------


@DTYPES
def test_the_same_seed_gives_the_same_adapter_to_the_byte(tmp_path: Path, dtype: torch.dtype) -> None:
    for number, name in enumerate(("one", "two")):
        base = tiny.model(dtype)
        torch.manual_seed(number)  # what the program did before does not matter
        tiny.train(tmp_path / name, base=base, dropout=0.1, seed=3)
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_another_seed_gives_another_adapter(tmp_path: Path) -> None:
    tiny.train(tmp_path / "one", seed=0)
    tiny.train(tmp_path / "two", seed=1)
    assert tiny.adapter(tmp_path / "one") != tiny.adapter(tmp_path / "two")


# --- trouble -----------------------------------------------------------------------------------


def test_divergence_stops_the_training_and_suggests_a_learning_rate(tmp_path: Path) -> None:
    tiny.train(tmp_path / "first", base=(base := tiny.model()))
    knowing = PeftModel.from_pretrained(base, tmp_path / "first").merge_and_unload()
    with pytest.raises(UserError, match=r"field 'lr': training diverged at step \d+ of 60.*Try 6e\+01"):
        tiny.train(tmp_path / "second", base=knowing, lr=300.0, epochs=20, schedule="constant")


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path) -> None:
    base = tiny.model()
    base.model.norm.weight.data.fill_(math.nan)
    with pytest.raises(UserError, match=r"diverged at step 1 of 12.*the loss is nan"):
        tiny.train(tmp_path, base=base)


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A model whose memory ends at `most` padded tokens."""
    loss = _model.Forward.loss

    def limited(self: Any, part: Any) -> Any:
        if len(part) * max(map(len, part)) > most:
            raise torch.OutOfMemoryError("no memory left")
        return loss(self, part)

    monkeypatch.setattr(_model.Forward, "loss", limited)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny.train(tmp_path / "whole", epochs=1)
    short_of_memory(monkeypatch, 60)
    split = tiny.train(tmp_path / "split", epochs=1)
    assert [loss for _, loss in split.losses] == pytest.approx([loss for _, loss in whole.losses], rel=1e-3)


def test_memory_that_runs_out_between_two_passes_counts_no_gradient_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.train(tmp_path / "smooth", epochs=1, tokens_per_pass=64, max_grad_norm=1e9)
    loss, calls = _model.Forward.loss, []

    def failing_once(self: Any, part: Any) -> Any:
        calls.append(part)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("no memory left")
        return loss(self, part)

    monkeypatch.setattr(_model.Forward, "loss", failing_once)
    tiny.train(tmp_path / "rough", epochs=1, tokens_per_pass=64, max_grad_norm=1e9)
    smooth, rough = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("smooth", "rough"))
    torch.testing.assert_close(rough, smooth, rtol=1e-3, atol=1e-4)


def test_an_example_that_does_not_fit_alone_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_of_memory(monkeypatch, 10)
    with pytest.raises(OutOfMemory, match="a training example of"):
        tiny.train(tmp_path)
