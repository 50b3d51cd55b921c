"""Memory is foretold from a configuration: held against bytes counted while the same is really done."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from live_bytes import LiveBytes
from test_local_engine import EXACT, SHAPES, write_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, MixtralConfig, Qwen2Config

from breakeven.baselines.trainers import _memory as training
from breakeven.baselines.trainers._examples import Batch, Tokens
from breakeven.baselines.trainers._layout import is_one_row
from breakeven.baselines.trainers._model import Forward, adapted, costs_of
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness import models
from breakeven.harness.contracts import ModelCard
from breakeven.harness.engines import _memory, _weights
from breakeven.harness.engines._cache import growing_cache
from breakeven.harness.engines.local import local
from breakeven.harness.errors import UserError
from breakeven.harness.training import Tunable

#: What the issue allows between foretold and counted.
ALLOWED = 0.15
END = 2
SIZES: dict[str, Any] = {
    "vocab_size": 4000, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 3, "max_position_embeddings": 2048, "eos_token_id": END,
}  # fmt: skip
LLAMA = LlamaConfig(**SIZES)
CONFIGS = {
    "grouped": LLAMA,
    "every head its keys": LlamaConfig(**{**SIZES, "num_key_value_heads": 6}),
    "narrow heads": LlamaConfig(**SIZES, head_dim=16),
    "with biases, tied": Qwen2Config(**SIZES, tie_word_embeddings=True),
}
LARGE = LlamaConfig(
    vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=8, max_position_embeddings=8192,
)  # fmt: skip


def examples(rows: int, begin: int, own: int, answer: int) -> Batch:
    return tuple(Tokens((7,) * begin + (10 + i,) * own, (9,) * (answer - 1) + (END,)) for i in range(rows))


ROWS, NARROW, ONE_ROW = examples(3, 0, 180, 6), examples(6, 0, 60, 3), examples(6, 60, 20, 5)


def made(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)


def counted(model: Any, settings: Settings, part: Batch) -> tuple[int, int]:
    """(bytes kept for the backward half, most bytes alive in a pass that adds to gradients there before)."""
    given = Tunable(model, lambda *_: ([], []), 0, END, 2048, "cpu", ModelCard("m", "e", parameters=1))
    with adapted(given, settings, 0) as wrapped:
        forward = Forward(wrapped, given, settings)
        forward.costs = costs_of(model)
        kept = training.kept_bytes(forward, part)
        forward.loss(part).backward()  # type: ignore[no-untyped-call]
        gc.collect()
        with LiveBytes() as live:
            forward.loss(part).backward()  # type: ignore[no-untyped-call]
    return kept, live.peak


def foretold(model: Any, settings: Settings, part: Batch) -> training.Held:
    dtype = str(model.dtype).removeprefix("torch.")
    number = trained(model, settings)
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    found = training.held(model.config, dtype, settings, part, costs_of(model), number, linear)
    assert found is not None
    return found


def trained(model: Any, settings: Settings) -> int:
    from breakeven.baselines.trainers._outlook import _adapter_size

    return _adapter_size(model, settings)


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [ROWS, NARROW, ONE_ROW], ids=["rows", "narrow rows", "one row"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_a_pass_keeps_is_foretold_from_the_configuration(name: str, part: Batch) -> None:
    model = made(CONFIGS[name])
    assert is_one_row(part, costs_of(model)) == (part is ONE_ROW)
    kept, _ = counted(model, Settings(), part)
    assert foretold(model, Settings(), part).kept == pytest.approx(kept, rel=0.03)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(rank=64, dropout=0.1),
        Settings(precision="bfloat16"),
        Settings(gradient_checkpointing=True),
    ],
    ids=["plain", "rank 64 and dropout", "products in bfloat16", "checkpointed"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_of_a_pass_is_within_what_is_allowed(settings: Settings, dtype: torch.dtype) -> None:
    model = made(LLAMA, dtype)
    _, peak = counted(model, settings, ROWS)
    found = foretold(model, settings, ROWS)
    assert found.kept + found.scores == pytest.approx(peak, rel=ALLOWED)


def test_an_adapter_counts_with_its_gradients_and_moments() -> None:
    model = made(LLAMA)
    number = trained(model, Settings(rank=8))
    assert foretold(model, Settings(rank=8), ROWS).adapter == 16 * number


def test_checkpointing_is_foretold_to_need_a_fraction() -> None:
    model = made(LLAMA)
    plain, again = (foretold(model, Settings(gradient_checkpointing=on), ROWS).kept for on in (False, True))
    assert again < plain / 3


def test_passes_that_are_laid_out_alike_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, times = made(LLAMA), []
    count = training.Rates.counted
    monkeypatch.setattr(training, "_counts", {})
    monkeypatch.setattr(training.Rates, "counted", classmethod(lambda cls, *a: times.append(a) or count(*a)))
    small, large = (foretold(model, Settings(), examples(n, 0, 180, 6)).kept for n in (2, 4))
    assert len(times) == 1
    assert large == pytest.approx(2 * small, rel=0.02)


@pytest.mark.parametrize(
    "config",
    [SHAPES["gpt2"], MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)],
    ids=["gpt2", "mixture of experts"],
)
def test_of_an_architecture_that_does_not_fit_nothing_is_said(config: Any) -> None:
    assert training.held(config, "float32", Settings(), ROWS, costs_of(made(config)), 1) is None


def test_where_small_models_are_not_like_one_another_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = training._kept_by

    def product(config: Any) -> int:
        return 1000 * int(config.num_hidden_layers * config.hidden_size * config.intermediate_size)

    monkeypatch.setattr(training, "_counts", {})
    monkeypatch.setattr(training, "_kept_by", lambda config, *a: kept(config, *a) + product(config))
    model = made(LLAMA)
    assert training.held(LLAMA, "float32", Settings(), ROWS, costs_of(model), 1) is None


@pytest.mark.model
def test_what_the_default_model_keeps_is_foretold() -> None:
    folder = models.resolve("smollm2-135m-instruct")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval().requires_grad_(False)
    part = examples(2, 0, 20, 4)
    kept, peak = counted(model, Settings(), part)
    found = foretold(model, Settings(), part)
    assert found.kept == pytest.approx(kept, rel=0.03)
    assert found.kept + found.scores == pytest.approx(peak, rel=ALLOWED)


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_take_the_bytes_of_the_parameters(name: str) -> None:
    model = made(CONFIGS[name])
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    assert _memory.weights(CONFIGS[name], "float32") == held
    assert _memory.weights(CONFIGS[name], "bfloat16") == held // 2


def test_four_bits_are_for_linear_layers_and_not_for_tables_and_the_head() -> None:
    model = made(LLAMA)
    packed = sum(
        m.weight.numel()
        for name, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and name != "lm_head"
    )
    rest = sum(p.numel() for p in model.parameters()) - packed
    found = _memory.weights(LLAMA, "nf4")
    assert found == pytest.approx(packed * (4 + 0.127) / 8 + rest * 2, rel=1e-3)  # 0.127: QLoRA, section 3


def test_eight_billion_parameters_train_in_24_gb_with_a_4_bit_base_and_in_48_gb_in_bfloat16() -> None:
    part = examples(4, 0, 496, 16)  # 2,048 tokens a pass
    model = _memory.meta(LARGE)
    number = trained(model, Settings())
    held = training.held(LARGE, "bfloat16", Settings(), part, costs_of(model), number)
    assert held is not None
    for dtype, card in (("nf4", 24e9), ("bfloat16", 48e9)):
        weights = _memory.weights(LARGE, dtype)
        assert weights is not None
        unpacked = _memory.unpacked(LARGE) if dtype == "nf4" else 0
        assert weights + unpacked + held.total + _memory.CUDA_CONTEXT < card
    assert _memory.weights(LARGE, "bfloat16") == 2 * 8_030_261_248


# --- answering -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "prompt", "new"), [(4, 200, 12), (16, 40, 24), (1, 400, 4)])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_answering_a_batch_holds_is_foretold(name: str, rows: int, prompt: int, new: int) -> None:
    config = CONFIGS[name]
    shared = _weights.SharedModel(made(config))
    gc.collect()
    with LiveBytes() as live:
        cache, read = growing_cache(config), 0
        for width in (prompt, *[1] * new):
            read += width
            shared.forward(
                None,
                input_ids=torch.full((rows, width), 5),
                attention_mask=torch.ones((rows, read), dtype=torch.long),
                position_ids=torch.arange(read - width, read).expand(rows, -1),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
    assert _memory.answering(config, 4, rows, prompt, new) == pytest.approx(live.peak, rel=ALLOWED)


# --- what would not fit --------------------------------------------------------------------------


def test_weights_that_cannot_fit_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "llama", SHAPES["llama"])
    config = AutoConfig.from_pretrained(folder)
    needed = _memory.weights(config, "float32")
    assert needed is not None
    monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device: needed - 1)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("was read"))
    _weights.release()
    with pytest.raises(UserError, match=r"llama take 0\.0 GB in float32.*dtype: bfloat16 would take"):
        local(str(folder), **EXACT).warm_up()


def test_a_folder_that_is_quantised_itself_is_not_held_against_its_unpacked_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = LlamaConfig(**SIZES)
    packed.quantization_config = {"quant_method": "awq", "bits": 4}
    monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device: 1)
    assert _memory.weights(packed, "float16") is None
    _memory.check_loading(packed, "float16", "cuda", "packed", tmp_path)


def test_only_a_gpu_is_offered_four_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = _memory.weights(LLAMA, "bfloat16")
    assert needed is not None
    monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device: needed - 1)
    for device, offered in (("cuda", True), ("cpu", False)):
        with pytest.raises(UserError) as told:
            _memory.check_loading(LLAMA, "bfloat16", device, "llama", tmp_path)
        assert ("load_in_4bit" in str(told.value)) == offered
    monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device: needed)
    _memory.check_loading(LLAMA, "bfloat16", "cpu", "llama", tmp_path)
