"""Attention of examples in one row, where each sees what all begin with and itself: computed block by block.

Under a mask over the whole row, nearly all pairs of tokens would be computed and thrown away. Here the own
tokens of an example meet the shared beginning and one another only. On a CPU, short blocks are plain products
in float32, with a backward pass written out; elsewhere they go to torch's own attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: Under this name transformers finds `attend`.
NAME = "breakeven_blocks"
#: Most keys of a block for which a CPU computes attention faster by plain products than by its flash kernel.
PLAIN = 256
#: Arguments that change attention in ways not written down here.
OTHER = ("softcap", "position_bias", "s_aux", "cache", "output_attentions")


@dataclass(frozen=True, slots=True)
class Blocks:
    """A row of `begins` shared tokens, then the own tokens of each example, one after the other.

    `own` (examples x width,) says which token of the row is which own token of which example, example by
    example; those shorter than the widest have any token there. `rows` (own tokens,) says where each is found
    in `own`.
    """

    begins: int
    examples: int
    width: int
    own: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def of(cls, begins: int, lengths: Sequence[int]) -> Blocks:
        """Of examples with so many own tokens."""
        width = max(lengths)
        place = torch.arange(width).expand(len(lengths), width)
        real = place < torch.tensor(lengths)[:, None]
        own = torch.zeros(real.shape, dtype=torch.long)
        own[real] = begins + torch.arange(sum(lengths))
        rows = real.flatten().nonzero().flatten()
        return cls(begins, len(lengths), width, own.flatten(), rows)

    def to(self, device: torch.device) -> Blocks:
        return replace(self, own=self.own.to(device), rows=self.rows.to(device))


def pairs(begins: int, examples: int, width: int) -> int:
    """Pairs of tokens that are computed for examples of at most `width` own tokens."""
    return examples * width * (begins + width) + begins**2


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    blocks: Blocks | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: (1, heads, tokens, size) -> (1, tokens, heads, size).

    Without `blocks` it is transformers' own with torch's attention.

    Raises:
        NotImplementedError: the model's attention has something that blocks do not cover.
    """
    if blocks is None:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return found
    if dropout or any(more.get(name) is not None for name in OTHER):
        raise NotImplementedError("attention by blocks with dropout, or with one of " + ", ".join(OTHER))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cpu" and blocks.begins + blocks.width <= PLAIN:
        out: torch.Tensor = _Plain.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
        return out, None
    return _by_torch(query, key, value, blocks, scale), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _by_torch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Blocks, scale: float
) -> torch.Tensor:
    """By torch's attention: the beginning by itself, the examples as a batch."""
    begins = blocks.begins
    q, k, v = (x[:, :, :begins] for x in (query, key, value))
    first = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    q, k, v = (_by_example(x, blocks) for x in (query, key, value))
    k, v = (
        torch.cat([x[:, :, :begins].expand(blocks.examples, -1, -1, -1), own], 2)
        for x, own in ((key, k), (value, v))
    )
    sees = torch.ones(blocks.width, k.shape[2], dtype=torch.bool, device=q.device).tril(begins)
    own = scaled_dot_product_attention(q, k, v, attn_mask=sees, scale=scale, enable_gqa=True)
    own = own.transpose(1, 2).flatten(0, 1).index_select(0, blocks.rows)
    return torch.cat([first[0].transpose(0, 1), own])[None]


def _by_example(x: torch.Tensor, blocks: Blocks) -> torch.Tensor:
    """(1, heads, tokens, size) -> (examples, heads, width, size)."""
    own = x[0].transpose(0, 1).index_select(0, blocks.own)
    return own.view(blocks.examples, blocks.width, *own.shape[1:]).transpose(1, 2)


# --- plain products --------------------------------------------------------------------------
#
# As (examples, key heads, rows, size). Query heads that share a key head are rows of one product: row
# i x groups + g is token i of head g of a group. Scores, probabilities and their gradients are in float32,
# rounded to the type of the model only to be multiplied with another tensor of it, as in the flash kernel.


class _Plain(torch.autograd.Function):
    """Softmax attention; its probabilities are kept for the backward pass.

    With P = softmax(S), S = scale Q K': dV = P' dO; dP = dO V'; dS = P (dP - sum of P dP over keys);
    dQ = scale dS K; dK = scale dS' Q.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: Blocks, scale: float
    ) -> torch.Tensor:
        groups = query.shape[1] // key.shape[1]
        with torch.autocast("cpu", enabled=False):
            q0, k0, v0 = (_beginning(x, blocks, n) for x, n in ((query, groups), (key, 1), (value, 1)))
            q, k, v = (_each(x, blocks, n) for x, n in ((query, groups), (key, 1), (value, 1)))
            k, v = (
                torch.cat([first.expand(blocks.examples, -1, -1, -1), own], 2)
                for first, own in ((k0, k), (v0, v))
            )
            p0, first = _forward(q0, k0, v0, groups, scale)
            p, each = _forward(q, k, v, groups, scale)
            out = _in_row(first, each, blocks, groups, query.dtype)
        ctx.save_for_backward(q0, k0, v0, p0, q, k, v, p)
        ctx.blocks, ctx.scale, ctx.groups = blocks, scale, groups
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        q0, k0, v0, p0, q, k, v, p = ctx.saved_tensors
        blocks, begins, groups = ctx.blocks, ctx.blocks.begins, ctx.groups
        of_heads = grad.transpose(1, 2)
        with torch.autocast("cpu", enabled=False):
            own = _each(of_heads, blocks, groups)
            if len(blocks.rows) < len(blocks.own):  # what stands where a shorter example has no token
                real = own.new_zeros(len(blocks.own)).index_fill_(0, blocks.rows, 1)
                own *= real.repeat_interleave(groups).view(blocks.examples, 1, -1, 1)
            dq0, dk0, dv0 = _backward(_beginning(of_heads, blocks, groups), q0, k0, v0, p0, ctx.scale)
            dq, dk, dv = _backward(own, q, k, v, p, ctx.scale)
            for first, each in ((dk0, dk), (dv0, dv)):
                first += each[:, :, :begins].sum(0, keepdim=True, dtype=torch.float32)
            found = (
                _in_row(dq0, dq, blocks, groups, grad.dtype),
                _in_row(dk0, dk[:, :, begins:], blocks, 1, grad.dtype),
                _in_row(dv0, dv[:, :, begins:], blocks, 1, grad.dtype),
            )
        return *(x.transpose(1, 2) for x in found), None, None


def _forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, groups: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (examples x key heads, rows, keys), and what is attended to, shaped as `q`."""
    hidden = _hidden(q.shape[2] // groups, k.shape[2], groups)
    keys = k.flatten(0, 1).float().transpose(1, 2)
    p = torch.softmax(torch.baddbmm(hidden, q.flatten(0, 1).float(), keys, alpha=scale), -1)
    return p, torch.bmm(p.to(v.dtype), v.flatten(0, 1)).view(q.shape)


def _backward(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, p: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `q`, `k` and `v`."""
    g = grad.flatten(0, 1)
    dv = torch.bmm(p.transpose(1, 2).to(g.dtype), g).view(v.shape)
    dp = torch.bmm(g.float(), v.flatten(0, 1).float().transpose(1, 2))
    ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype).mul_(scale).to(q.dtype)
    dq = torch.bmm(ds, k.flatten(0, 1)).view(q.shape)
    return dq, torch.bmm(ds.transpose(1, 2), q.flatten(0, 1)).view(k.shape), dv


@lru_cache(maxsize=64)
def _hidden(width: int, keys: int, groups: int) -> torch.Tensor:
    """What is added to scores (width x groups, keys): a token sees `keys - width` and its own past."""
    later = torch.ones(width, keys, dtype=torch.bool).triu(keys - width + 1)
    return torch.zeros(width, keys).masked_fill_(later, -torch.inf).repeat_interleave(groups, 0)


def _beginning(x: torch.Tensor, blocks: Blocks, groups: int) -> torch.Tensor:
    """(1, heads, tokens, size) -> (1, key heads, begins x groups, size)."""
    return _rows(x[:, :, : blocks.begins].transpose(1, 2), groups)


def _each(x: torch.Tensor, blocks: Blocks, groups: int) -> torch.Tensor:
    """(1, heads, tokens, size) -> (examples, key heads, width x groups, size)."""
    own = x[0].transpose(0, 1).index_select(0, blocks.own)
    return _rows(own.view(blocks.examples, blocks.width, *own.shape[1:]), groups)


def _rows(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(examples, width, heads, size) -> (examples, key heads, width x groups, size)."""
    examples, width, heads, size = x.shape
    found = x.reshape(examples, width, heads // groups, groups, size).transpose(1, 2)
    return found.contiguous().flatten(2, 3)


def _in_row(
    first: torch.Tensor, each: torch.Tensor, blocks: Blocks, groups: int, dtype: torch.dtype
) -> torch.Tensor:
    """What `_beginning` and `_each` gave -> (1, tokens, heads, size)."""
    begins, (_, key_heads, _, size) = blocks.begins, first.shape
    out = torch.empty(begins + len(blocks.rows), key_heads, groups, size, dtype=dtype)
    out[:begins].copy_(first.view(key_heads, begins, groups, size).transpose(0, 1))
    own = torch.empty(blocks.examples, blocks.width, key_heads, groups, size, dtype=dtype)
    own.copy_(each.reshape(blocks.examples, key_heads, blocks.width, groups, size).transpose(1, 2))
    torch.index_select(own.flatten(0, 1), 0, blocks.rows, out=out[begins:])
    return out.flatten(1, 2)[None]
