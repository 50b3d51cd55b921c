"""The engine's attention is that of transformers: the same values to the bit, in another shape of call."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from breakeven.harness import attention
from breakeven.harness.engines import _attention

DTYPES = [torch.float32, torch.bfloat16]


class Module(torch.nn.Module):
    is_causal = True
    num_key_value_groups = 3


def tensors(tokens: int, width: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(tokens)
    sizes = [(4, 6, tokens, 16), (4, 2, width, 16), (4, 2, width, 16)]
    return [torch.randn(size).to(dtype) for size in sizes]


def padded_on_the_left(tokens: int, width: int) -> torch.Tensor:
    """Row r begins with r columns that nobody sees."""
    sees = torch.ones(4, 1, tokens, width, dtype=torch.bool).tril(width - tokens)
    for row in range(4):
        sees[row, ..., :row] = False
    columns = torch.arange(tokens)
    sees[:, :, columns, width - tokens + columns] = True
    return sees


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("tokens", "width"), [(1, 21), (7, 19), (12, 12)])
def test_values_are_those_of_transformers(tokens: int, width: int, masked: bool, dtype: torch.dtype) -> None:
    if not masked and width > tokens > 1:
        pytest.skip("several tokens behind others always come with a mask")
    given = tensors(tokens, width, dtype)
    mask = padded_on_the_left(tokens, width) if masked else None
    with torch.inference_mode():
        found, _ = _attention.attend(Module(), *given, mask, scaling=0.2)
        expected, _ = sdpa_attention_forward(Module(), *given, mask, scaling=0.2)
    assert found.shape == expected.shape
    if dtype == torch.bfloat16:
        assert torch.equal(found, expected)
    else:
        assert torch.allclose(found, expected, atol=1e-6)


def test_a_model_answers_with_it_and_trains_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).bfloat16().eval()
    ids, mask = torch.randint(0, 60, (3, 11)), torch.ones(3, 11, dtype=torch.long)
    mask[0, :4] = 0
    before = model(ids, attention_mask=mask).logits
    _attention.use(model)
    assert attention.is_torchs(model.config)
    copied: list[bool] = []

    def counting(*given: object, **more: object) -> tuple[torch.Tensor, None]:
        copied.append(True)
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(*given, **more)
        return found

    monkeypatch.setattr("transformers.integrations.sdpa_attention.sdpa_attention_forward", counting)
    with torch.inference_mode():
        assert torch.equal(model(ids, attention_mask=mask).logits, before)
    assert not copied
    model(ids, attention_mask=mask).logits.float().sum().backward()
    assert len(copied) == 2


def test_other_models_keep_the_attention_they_have() -> None:
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")
    _attention.use(model)
    assert model.config._attn_implementation == "eager"
