"""Attention of a CPU model in bfloat16, by torch's matrix products.

torch's own kernel multiplies at float32's rate there, has keys copied for each query head that shares them,
and computes what a mask hides. Here scores are products in float32, as in that kernel, and probabilities meet
the values in bfloat16. Single tokens behind few others, gradients and all else are left to it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from breakeven.harness import attention

#: Tokens of a row, and scores, that are computed at once: what is still in the processor's cache when read.
TOKENS, SCORES = 128, 1_000_000
#: Keys of a batch up to which torch's kernel is quicker for single tokens.
FEW = 512
#: Stands for what may not be seen. Finite, so that padding, which may see nothing, gets a number too.
HIDDEN = -1e30
#: Arguments that change attention in ways not written down here.
OTHER = ("softcap", "position_bias", "s_aux", "cache", "output_attentions")


def use(model: Any) -> None:
    """Let a model on a CPU, in bfloat16 and with torch's attention, attend as described here."""
    import torch

    kind = model.device.type, model.dtype, model.config._attn_implementation
    if kind == ("cpu", torch.bfloat16, "sdpa"):
        _register()
        model.set_attn_implementation(attention.ON_CPU)


@cache
def _register() -> None:
    """With transformers, on first use, because it takes seconds to import."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(attention.ON_CPU, attend)
    AttentionMaskInterface.register(attention.ON_CPU, sdpa_mask)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Any, None]:
    """An attention function of transformers: (batch, heads, tokens, size) -> (batch, tokens, heads, size)."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    plain = (
        query.dtype == torch.bfloat16
        and torch.is_inference_mode_enabled()
        and not dropout
        and not any(more.get(name) is not None for name in OTHER)
        and (getattr(module, "is_causal", False) if attention_mask is None else attention_mask.shape[1] == 1)
    )
    if not plain:
        found: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return found
    scale = scaling or query.shape[3] ** -0.5
    if query.shape[2] == 1 and key.shape[0] * key.shape[2] <= FEW:
        return _of_single(query, key, value, attention_mask, scale), None
    return attended(query, key, value, attention_mask, scale), None


def _of_single(query: Any, key: Any, value: Any, mask: Any, scale: float) -> Any:
    """By torch's kernel, which takes heads that share keys for tokens that do: several times as fast."""
    from torch.nn.functional import scaled_dot_product_attention

    batch, heads, _, size = query.shape
    q = query.reshape(batch, key.shape[1], heads // key.shape[1], size)
    found = scaled_dot_product_attention(q, key, value, attn_mask=mask, scale=scale)
    return found.reshape(batch, 1, heads, size)


def attended(query: Any, key: Any, value: Any, mask: Any, scale: float) -> Any:
    """Softmax attention without gradients.

    Args:
        query: (batch, heads, tokens, size).
        key, value: (batch, key heads, all tokens, size); each for `heads / key heads` heads in a row.
        mask: (batch, 1, tokens, all tokens), true or 0 where something is seen, false or very negative where
            not; None where a token sees itself and all that came before.

    Returns:
        (batch, tokens, heads, size).
    """
    import torch

    batch, heads, tokens, size = query.shape
    key_heads, width = key.shape[1], key.shape[2]
    out = query.new_empty((batch, tokens, key_heads, heads // key_heads, size))
    step = min(tokens, TOKENS)
    together = max(1, SCORES // (heads * step * width))
    for first in range(0, batch, together):
        rows = slice(first, first + together)
        keys = key[rows].float().transpose(2, 3)
        for start in range(0, tokens, step):
            part = slice(start, min(start + step, tokens))
            hidden, seen = _hidden(mask, rows, part, tokens, width)
            q = query[rows, :, part].unflatten(1, (key_heads, -1)).float()
            shape = q.shape
            q = q.flatten(2, 3)  # (rows, key heads, heads of each x tokens, size)
            scores = torch.matmul(q, keys[..., :seen]).view(*shape[:-1], seen)
            scores = torch.softmax(scores.mul_(scale).add_(hidden), -1).to(value.dtype)
            found = torch.matmul(scores.flatten(2, 3), value[rows, :, :seen])
            out[rows, part] = found.view(shape).permute(0, 3, 1, 2, 4)
    return out.flatten(2, 3)


def _hidden(mask: Any, rows: slice, part: slice, tokens: int, width: int) -> tuple[Any, int]:
    """(what is added to scores, keys that any of these tokens sees)."""
    import torch

    if mask is None:
        past = width - tokens
        seen = past + part.stop
        later = torch.ones(part.stop - part.start, seen, dtype=torch.bool).triu(past + part.start + 1)
        return torch.zeros(later.shape).masked_fill_(later, HIDDEN), seen
    of = mask[rows, :, part]
    if of.dtype != torch.bool:
        of = of >= HIDDEN / 2
    seen = width
    if part.stop < tokens:
        seen = int(of.any(dim=2).any(dim=0)[0].nonzero()[-1]) + 1
    of = of[..., :seen]
    return torch.zeros(of.shape).masked_fill_(~of, HIDDEN)[:, :, None], seen
