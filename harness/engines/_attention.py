"""Attention of a CPU model by torch's kernel, in the shapes that it is quick at; values are the same.

transformers copies the keys and values that several heads share for each of these heads. torch's kernel can
do without, and for single tokens it is several times as fast if the heads are given to it as tokens.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from breakeven.harness import attention

#: Arguments that change attention in ways not written down here.
OTHER = ("softcap", "position_bias", "s_aux", "cache", "output_attentions")


def use(model: Any) -> None:
    """Let a model on a CPU with torch's attention attend as described here."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
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
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    batch, heads, tokens, size = query.shape
    shared = heads // key.shape[1]
    of_all_heads = attention_mask is None or attention_mask.shape[1] == 1
    if (
        shared == 1
        or not of_all_heads
        or not torch.is_inference_mode_enabled()
        or dropout
        or any(more.get(name) is not None for name in OTHER)
        or (tokens > 1 and attention_mask is None)
    ):
        found: tuple[Any, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return found
    if tokens == 1:
        query = query.reshape(batch, key.shape[1], shared, size)
    out = scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=tokens > 1
    )
    return (out.reshape(batch, 1, heads, size) if tokens == 1 else out.transpose(1, 2)), None
