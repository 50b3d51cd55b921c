"""Fused LoRA layers compute what PEFT computes, and are left as they were."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from breakeven.baselines.trainers._fused import fused


def model(
    bias: bool = False, dropout: float = 0.0, dtype: torch.dtype = torch.float32, dora: bool = False
) -> PeftModel:
    """Two layers behind one another, with an adapter that is not the identity."""
    torch.manual_seed(0)
    base = torch.nn.Sequential()
    base.add_module("one", torch.nn.Linear(12, 20, bias=bias))
    base.add_module("two", torch.nn.Linear(20, 6, bias=bias))
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["one", "two"], lora_dropout=dropout, use_dora=dora)
    made = get_peft_model(base.to(dtype), config)  # type: ignore[arg-type]
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    assert isinstance(made, PeftModel)
    return made.train()


def gradients(made: PeftModel, x: torch.Tensor) -> list[torch.Tensor]:
    """What comes out, and the gradients of the input and of all that is trained."""
    torch.manual_seed(2)
    given = x.clone().requires_grad_()
    out = made.base_model.model(given)
    out.backward(torch.randn(out.shape).to(out.dtype))
    trained = [p for p in made.parameters() if p.requires_grad]
    grads = [p.grad for p in trained if p.grad is not None]
    assert given.grad is not None
    assert len(grads) == len(trained) == 4 + sum("magnitude" in n for n, _ in made.named_parameters())
    for p in trained:
        p.grad = None
    return [out.detach(), given.grad, *grads]


def largest_difference(some: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    """Relative to the largest value of each."""
    assert [a.dtype for a in some] == [b.dtype for b in others]
    return max(
        float((a - b).float().abs().max() / b.float().abs().max()) for a, b in zip(some, others, strict=True)
    )


@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_peft(shape: tuple[int, ...], bias: bool) -> None:
    made, x = model(bias), torch.randn(shape)
    expected = gradients(made, x)
    with fused(made):
        found = gradients(made, x)
    assert largest_difference(found, expected) < 1e-6


def test_in_bfloat16_they_differ_by_rounding_and_are_no_further_from_the_exact_ones() -> None:
    x = torch.randn(50, 12).bfloat16()
    made = model(dtype=torch.bfloat16)
    exact = model()
    exact.load_state_dict({k: v.float() for k, v in made.state_dict().items()})
    wanted = gradients(exact, x.float())
    with torch.autocast("cpu", torch.bfloat16):
        of_peft = [a.float() for a in gradients(made, x)]
        with fused(made):
            found = [a.float() for a in gradients(made, x)]
    assert largest_difference(found, wanted) < 1.2 * largest_difference(of_peft, wanted) < 0.05


def test_only_plain_layers_are_fused() -> None:
    for made in (model(dropout=0.5), model(dora=True)):
        with fused(made):
            assert not any("forward" in vars(layer) for layer in made.modules())


def test_layers_run_as_before_afterwards() -> None:
    made = model()
    with fused(made):
        assert sum("forward" in vars(layer) for layer in made.modules()) == 2
    assert not any("forward" in vars(layer) for layer in made.modules())


def test_a_disabled_adapter_stays_disabled() -> None:
    made, x = model(), torch.randn(3, 12)
    with made.disable_adapter():
        plain = made(x)
        with fused(made):
            assert torch.equal(made(x), plain)
