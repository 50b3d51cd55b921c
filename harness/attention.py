"""What kind of attention a model's layers have, read off its configuration."""

from __future__ import annotations

from typing import Any


def is_full(config: Any) -> bool:
    """Whether every layer sees all that was read before: no sliding windows, no recurrent states.

    Only then may tokens be laid out in another order than they are read, with a mask to say who sees whom.
    """
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not getattr(text, "sliding_window", None)
