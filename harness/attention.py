"""What kind of attention a model's layers have, read off its configuration."""

from __future__ import annotations

from typing import Any

#: The name of the local engine's own attention; without it, it is torch's.
ON_CPU = "breakeven_cpu"


def is_full(config: Any) -> bool:
    """Whether every layer sees all that was read before: no sliding windows, no recurrent states.

    Only then may tokens be laid out in another order than they are read, with a mask to say who sees whom.
    """
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not getattr(text, "sliding_window", None)


def is_torchs(config: Any) -> bool:
    """Whether attention is torch's, or the local engine's in its place: what our own can stand in for."""
    return config._attn_implementation in ("sdpa", ON_CPU)
