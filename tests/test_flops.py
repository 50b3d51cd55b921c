"""The formulas against torch's own count of operations; published numbers are in test_vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from breakeven.harness import flops
from breakeven.harness.contracts import ModelCard

# --- torch's own count ---------------------------------------------------------------------------

CONFIG = LlamaConfig(
    vocab_size=500,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    attn_implementation="eager",  # its matrix products are all counted
)
LAYERS, WIDTH = 4, 128
LENGTH = 96


def counted(model: Any, train: bool) -> int:
    ids = torch.randint(0, 500, (1, LENGTH))
    with FlopCounterMode(display=False) as counter:
        loss = model(input_ids=ids, labels=ids).loss
        if train:
            loss.backward()
    return counter.get_total_flops()


@pytest.fixture
def model() -> LlamaForCausalLM:
    return LlamaForCausalLM(CONFIG)


@pytest.fixture
def multiplied(model: LlamaForCausalLM) -> int:
    return sum(p.numel() for p in model.parameters() if p.ndim == 2) - 500 * WIDTH


def test_reading_a_prompt_takes_what_torch_counts(model: LlamaForCausalLM, multiplied: int) -> None:
    with torch.no_grad():
        found = counted(model, train=False)
    assert flops.prefill(multiplied, LAYERS, WIDTH, LENGTH) == pytest.approx(found, rel=1e-4)


def test_full_training_takes_what_torch_counts(model: LlamaForCausalLM, multiplied: int) -> None:
    assert flops.full_training(multiplied, LAYERS, WIDTH, LENGTH, LENGTH) == pytest.approx(
        counted(model, train=True), rel=1e-4
    )


def test_lora_training_takes_what_torch_counts(model: LlamaForCausalLM, multiplied: int) -> None:
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    lora = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    formula = flops.lora_training(multiplied, lora, LAYERS, WIDTH, LENGTH, LENGTH)
    # The gradients of the first layer's inputs are not needed: a share that shrinks with more layers than 4.
    assert formula == pytest.approx(counted(tuned, train=True), rel=0.03)


def test_lora_parameters_are_those_peft_trains(model: LlamaForCausalLM) -> None:
    linear = [
        m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "lm_head" not in name
    ]
    shapes = [(m.in_features, m.out_features) for m in linear]
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    trained = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    assert flops.lora_parameters(shapes, 4) == trained


# --- a request -----------------------------------------------------------------------------------


def test_writing_tokens_one_by_one_adds_up_to_attention_over_all_before() -> None:
    one_by_one = sum(flops.decode(1e6, 2, 64, past, 1) for past in range(10, 15))
    assert flops.decode(1e6, 2, 64, 10, 5) == pytest.approx(one_by_one)


def test_a_request_costs_its_prompt_and_each_token_after_the_first() -> None:
    card = ModelCard("m", "local", active_parameters=1000, layers=1, attention_width=0)
    assert flops.inference_flops(card, 10, 4) == 2 * 1000 * (10 + 3)


def test_operations_of_an_unknown_model_are_unknown() -> None:
    assert flops.inference_flops(ModelCard("gpt-4o-mini", "openai"), 10, 4) is None
    assert flops.lora_training_flops(ModelCard("gpt-4o-mini", "openai"), 10, 1, 4) is None


def test_an_adapters_training_counts_all_epochs_at_the_mean_length() -> None:
    card = ModelCard("m", "local", active_parameters=1000, layers=2, attention_width=8)
    once = flops.lora_training(1000, 10, 2, 8, length=50, tokens=50)
    assert flops.lora_training_flops(card, 50 * 6, 6, 10) == pytest.approx(6 * once)


# --- what they are used for ----------------------------------------------------------------------


def test_a_call_that_is_no_cheaper_never_repays_anything() -> None:
    assert flops.repaying_calls(100.0, before=1.0, after=1.0) == float("inf")
    assert flops.repaying_calls(100.0, before=1.0, after=0.5) == 200.0
