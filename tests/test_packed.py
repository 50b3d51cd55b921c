"""Packed weights change no product, and are used for nothing but answering."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from breakeven.harness.engines import _packed

NEEDED = pytest.mark.skipif(not _packed.works(), reason="this CPU or this torch multiplies no packed weights")


def layers(bias: bool = False, dtype: torch.dtype = torch.bfloat16) -> torch.nn.Sequential:
    torch.manual_seed(0)
    made = torch.nn.Sequential(torch.nn.Linear(96, 160, bias=bias), torch.nn.Linear(160, 32, bias=bias))
    return made.to(dtype).requires_grad_(False)


def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of the inputs that were multiplied with packed weights."""
    rows: list[int] = []
    real = _packed._product

    def counting(x: torch.Tensor, *given: object) -> torch.Tensor:
        rows.append(x[..., 0].numel())
        found: torch.Tensor = real(x, *given)
        return found

    monkeypatch.setattr(_packed, "_product", counting)
    return rows


@NEEDED
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 96), (1, 1, 96), (24, 1, 96), (3, 17, 96), (301, 96)])
def test_products_are_the_same_to_the_bit(
    shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = layers(bias)
    x = torch.randn(shape).bfloat16()
    expected = model(x)
    assert _packed.pack(model) == 2 * (96 * 160 + 160 * 32)
    used = seen(monkeypatch)
    with torch.inference_mode():
        assert torch.equal(model(x), expected)
    assert used == [shape.numel() // 96 for shape in (x.shape, x.shape)]


@NEEDED
def test_training_uses_the_plain_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layers()
    _packed.pack(model)
    used = seen(monkeypatch)
    x = torch.randn(4, 96).bfloat16().requires_grad_()
    model(x).float().sum().backward()
    assert x.grad is not None
    assert used == []


@NEEDED
def test_weights_that_were_changed_are_read_anew() -> None:
    model, x = layers(), torch.randn(4, 96).bfloat16()
    _packed.pack(model)
    model[0].weight.mul_(2)
    with torch.inference_mode():
        assert torch.equal(model[0](x), linear(x, model[0].weight))
        assert not torch.equal(model[0](x), linear(x, model[0].weight / 2))


def test_what_is_not_in_bfloat16_or_does_not_fit_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _packed.pack(layers(dtype=torch.float32)) == 0
    monkeypatch.setattr(_packed.hardware, "available_memory", lambda device: 1000)
    model = layers()
    assert _packed.pack(model) == 0
    assert "forward" not in vars(model[0])
