"""Attention by blocks is attention under a mask: the same values and gradients, in every shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from breakeven.baselines.trainers import _blocks
from breakeven.baselines.trainers._blocks import Blocks, attend, pairs

Found = tuple[torch.Tensor, list[torch.Tensor]]
SHAPES = [  # (shared tokens, own tokens of each example)
    (5, [3, 3, 3]),
    (5, [4, 1, 2]),
    (0, [3, 2]),
    (1, [1]),
    (7, [6, 6, 6, 6, 2]),
]


def tensors(tokens: int, heads: int, key_heads: int) -> list[torch.Tensor]:
    torch.manual_seed(tokens)
    shapes = [(1, n, tokens, 8) for n in (heads, key_heads, key_heads)]
    return [torch.randn(shape, dtype=torch.float32).requires_grad_() for shape in shapes]


def mask(begins: int, lengths: list[int]) -> torch.Tensor:
    tokens = begins + sum(lengths)
    sees = torch.zeros(tokens, tokens, dtype=torch.bool)
    sees[:, :begins] = True
    start = begins
    for length in lengths:
        sees[start : start + length, start : start + length] = True
        start += length
    return sees.tril()


def gradients(out: torch.Tensor, given: list[torch.Tensor]) -> Found:
    torch.manual_seed(1)
    return out, list(torch.autograd.grad(out, given, torch.randn(out.shape).to(out.dtype)))


def by_mask(begins: int, lengths: list[int], given: list[torch.Tensor]) -> Found:
    out = scaled_dot_product_attention(
        *given, attn_mask=mask(begins, lengths), scale=0.3, enable_gqa=True
    ).transpose(1, 2)
    return gradients(out, given)


def by_blocks(begins: int, lengths: list[int], given: list[torch.Tensor]) -> Found:
    blocks = Blocks.of(begins, lengths)
    out, _ = attend(torch.nn.Module(), *given, None, scaling=0.3, blocks=blocks)
    return gradients(out, given)


def assert_alike(some: Found, others: Found, tolerance: float) -> None:
    for a, b in zip((some[0], *some[1]), (others[0], *others[1]), strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=tolerance)


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plain", [True, False], ids=["plain products", "torch's attention"])
def test_values_and_gradients_are_those_under_a_mask(
    shape: tuple[int, list[int]], heads: tuple[int, int], plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not plain:
        monkeypatch.setattr(_blocks, "PLAIN", 0)
    begins, lengths = shape
    given = tensors(begins + sum(lengths), *heads)
    assert_alike(by_blocks(*shape, given), by_mask(*shape, given), 1e-5)


def test_in_bfloat16_nothing_is_lost_but_the_rounding_of_what_goes_in_and_out() -> None:
    shape = 5, [4, 1, 2]
    exact = [x.detach().bfloat16().float().requires_grad_() for x in tensors(12, 6, 2)]
    rounded = [x.detach().bfloat16().requires_grad_() for x in exact]
    out, found = by_blocks(*shape, rounded)
    expected, wanted = by_mask(*shape, exact)
    for a, b in zip((out, *found), (expected, *wanted), strict=True):
        assert a.dtype == torch.bfloat16
        assert torch.allclose(a.float(), b, rtol=2**-8, atol=2**-6)


def test_autocast_does_not_round_the_scores() -> None:
    given = tensors(12, 4, 4)
    alone = by_blocks(5, [4, 1, 2], given)
    with torch.autocast("cpu", torch.bfloat16):
        within = by_blocks(5, [4, 1, 2], given)
    assert_alike(alone, within, 0)


@pytest.mark.parametrize("more", [{"softcap": 30.0}, {"position_bias": torch.zeros(1)}, {"dropout": 0.1}])
def test_what_blocks_do_not_cover_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(NotImplementedError, match="blocks"):
        attend(torch.nn.Module(), *tensors(12, 4, 4), None, blocks=Blocks.of(5, [4, 1, 2]), **more)


def test_pairs_are_those_computed() -> None:
    assert pairs(5, 3, 4) == 5 * 5 + 3 * 4 * (5 + 4)
