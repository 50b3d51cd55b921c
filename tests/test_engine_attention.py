"""The engine's own attention in bfloat16 is attention, exact but for rounding, under every mask it meets."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM

from breakeven.harness import attention
from breakeven.harness.engines import _attention
from breakeven.harness.engines._attention import attended

Shape = tuple[int, int, int, int, int]  # batch, heads, key heads, tokens, all tokens
SHAPES: list[Shape] = [
    (2, 6, 2, 1, 30),
    (1, 4, 4, 5, 5),
    (3, 6, 2, 7, 19),
    (2, 3, 1, 300, 300),
    (2, 2, 2, 150, 400),
]


def tensors(shape: Shape) -> list[torch.Tensor]:
    batch, heads, key_heads, tokens, width = shape
    torch.manual_seed(tokens)
    sizes = [(batch, heads, tokens, 16), (batch, key_heads, width, 16), (batch, key_heads, width, 16)]
    return [torch.randn(size).bfloat16() for size in sizes]


def padded_on_the_left(shape: Shape) -> torch.Tensor:
    """Row r begins with r columns that nobody sees; those columns' own tokens see nothing at all."""
    batch, _, _, tokens, width = shape
    sees = torch.ones(batch, 1, tokens, width, dtype=torch.bool).tril(width - tokens)
    for row in range(batch):
        sees[row, ..., :row] = False
    return sees


def of_trees(shape: Shape) -> torch.Tensor:
    """Tokens that see the past, some of the tokens before them and themselves."""
    batch, _, _, tokens, width = shape
    sees = torch.rand(batch, 1, tokens, width) < 0.5
    sees[..., : width - tokens] = True
    columns = torch.arange(tokens)
    sees[..., columns, width - tokens + columns] = True
    return sees.tril(width - tokens)


def exactly(given: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    q, k, v = (x.double() for x in given)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.2, enable_gqa=True).transpose(1, 2)


@pytest.mark.parametrize("small", [False, True], ids=["at once", "in parts"])
@pytest.mark.parametrize("mask_of", [padded_on_the_left, of_trees])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_exact_but_for_rounding(
    shape: Shape, mask_of: object, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(_attention, "TOKENS", 4)
        monkeypatch.setattr(_attention, "SCORES", 50)
    assert callable(mask_of)
    given, mask = tensors(shape), mask_of(shape)
    found = attended(*given, mask, 0.2)
    expected = exactly(given, mask)
    real = mask.any(dim=-1)[:, 0]
    assert found.dtype == torch.bfloat16
    assert found.isfinite().all()  # padding included: what is no number spreads to every later layer
    assert float((found.double() - expected)[real].abs().max()) < 2**-6
    additive = torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(~mask, float("-inf"))
    assert torch.equal(attended(*given, additive, 0.2), found)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_mask_a_token_sees_itself_and_all_before(shape: Shape) -> None:
    _, _, _, tokens, width = shape
    given = tensors(shape)
    causal = torch.ones(1, 1, tokens, width, dtype=torch.bool).tril(width - tokens)
    expected = exactly(given, causal)
    assert float((attended(*given, None, 0.2).double() - expected).abs().max()) < 2**-6


@pytest.mark.parametrize("few", [0, 1000], ids=["by products", "by torch's kernel"])
@pytest.mark.parametrize("masked", [True, False])
def test_a_single_token_sees_all_but_the_padding(
    masked: bool, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_attention, "FEW", few)
    shape = 3, 6, 2, 1, 21
    given = tensors(shape)
    sees = padded_on_the_left(shape) if masked else torch.ones(3, 1, 1, 21, dtype=torch.bool)
    module = torch.nn.Module()
    module.is_causal = True  # type: ignore[assignment]
    with torch.inference_mode():
        found, _ = _attention.attend(module, *given, sees if masked else None, scaling=0.2)
    assert found.shape == (3, 1, 6, 16)
    assert float((found.double() - exactly(given, sees)).abs().max()) < 2**-6


def test_a_model_answers_with_it_and_trains_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).bfloat16().eval()
    ids = torch.randint(0, 60, (3, 11))
    before = model(ids).logits
    _attention.use(model)
    assert attention.is_torchs(model.config)
    calls: list[torch.Size] = []
    real = attended

    def counting(query: torch.Tensor, *given: object) -> torch.Tensor:
        calls.append(query.shape)
        found: torch.Tensor = real(query, *given)  # type: ignore[arg-type]
        return found

    monkeypatch.setattr(_attention, "attended", counting)
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, before, atol=0.05)
    assert calls == [torch.Size([3, 4, 11, 8])] * 2
    model(ids).logits.float().sum().backward()
    assert len(calls) == 2


def test_other_models_keep_the_attention_they_have() -> None:
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    for model in (LlamaForCausalLM(config), LlamaForCausalLM(config).bfloat16()):
        if model.dtype == torch.bfloat16:
            model.set_attn_implementation("eager")
        before = model.config._attn_implementation
        _attention.use(model)
        assert model.config._attn_implementation == before
