"""The formulas against published numbers and against torch's own count of operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from breakeven.harness import flops
from breakeven.harness.contracts import ModelCard

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))


def published(key: str, start: str) -> Any:
    """The one case of a key in vectors.json whose description begins so."""
    cases = [case for case in VECTORS[key]["cases"] if case["what"].startswith(start)]
    assert len(cases) == 1
    return cases[0]


# --- published numbers ---------------------------------------------------------------------------


def test_training_gpt3_takes_the_published_operations() -> None:
    case = published("flops", "GPT-3 training")
    found = flops.full_training(174.6e9, 0, 0, length=2048, tokens=300e9)
    assert found == pytest.approx(case["value"], rel=case["tol"])


@pytest.mark.parametrize(("start", "layers"), [("PaLM 540B MFU without", 0), ("PaLM 540B MFU with 12", 118)])
def test_palms_utilisation_is_the_published_one(start: str, layers: int) -> None:
    case = published("flops", start)
    a_second = flops.full_training(540.35e9, layers, 48 * 256, length=2048, tokens=238.3e3)
    assert a_second / (6144 * 275e12) == pytest.approx(case["value"], abs=case["tol_abs"])


def test_t_fews_in_context_inference_is_the_published_one() -> None:
    case = published("tfew", "inference FLOPs, GPT-3")
    tokens = VECTORS["tfew"]["shots"] * VECTORS["tfew"]["tokens_per_shot"]
    tokens += VECTORS["tfew"]["tokens_query_and_targets"]
    assert flops.prefill(175e9, 0, 0, tokens) == pytest.approx(case["value"], rel=case["tol"])


def test_an_encoder_decoder_sends_each_token_through_half_of_its_weights() -> None:
    once, in_context = (published("tfew", f"inference FLOPs, {who}") for who in ("T-Few", "T5"))
    training = published("tfew", "training FLOPs, T-Few")
    assert flops.prefill(11e9 / 2, 0, 0, 103) == pytest.approx(once["value"], rel=once["tol"])
    assert flops.prefill(11e9 / 2, 0, 0, 4121) == pytest.approx(in_context["value"], rel=in_context["tol"])
    found = flops.full_training(11e9 / 2, 0, 0, length=103, tokens=1000 * 8 * 103)
    assert found == pytest.approx(training["value"], rel=training["tol"])


@pytest.mark.parametrize(
    ("start", "shapes", "layers", "rank"),
    [
        ("LLaMA-7B (32", [(4096, 4096)] * 2, 32, 8),
        ("LLaMA-7B (mlp", [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)], 32, 16),
        ("GPT-3 175B", [(12288, 12288)] * 2, 96, 4),
    ],
)
def test_a_lora_adapter_has_the_published_parameters(
    start: str, shapes: list[tuple[int, int]], layers: int, rank: int
) -> None:
    assert flops.lora_parameters(shapes * layers, rank) == published("lora_parameters", start)["value"]


@pytest.mark.parametrize(("length", "place"), [(64, 0), (512, 1), (2048, 2)])
def test_lora_saves_what_was_measured_on_a_llama(length: int, place: int) -> None:
    case = published("flops", "LoRA over full training")
    linear = [(1024, 1024)] * 4 + [(1024, 2816)] * 2 + [(2816, 1024)]
    lora = flops.lora_parameters(linear * 8, 8)
    whole = flops.full_training(104_825_856, 8, 1024, length, tokens=length)
    tuned = flops.lora_training(104_825_856, lora, 8, 1024, length, tokens=length)
    assert tuned / whole == pytest.approx(case["value"][place], rel=case["tol"])


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
