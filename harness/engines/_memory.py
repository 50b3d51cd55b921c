"""Bytes that a model takes to load and to answer, from its configuration alone: no weights are needed.

What training holds on top is the trainer's to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from breakeven.harness import hardware
from breakeven.harness.engines._cache import STEP
from breakeven.harness.errors import UserError

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
#: Bytes of a weight in NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314, section 3): half
#: a byte, one more for the scale of each 64, and four for the scale of each 256 of those.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
#: What else a program holds on a GPU before any tensor: the CUDA context and its libraries, in bytes.
CUDA_CONTEXT = 0.5e9
#: Activations of a layer that are alive together while a prompt is read, in hidden and in inner widths.
PASSING_HIDDEN, PASSING_INNER = 4, 3


def weights(config: Any, dtype: str) -> int | None:
    """Bytes of the weights in memory; None where that cannot be told.

    That is so where the architecture is no causal language model, or where the folder itself is quantised.
    `dtype` "nf4" stores the linear layers in 4 bits, but not the output head; the rest is bfloat16 then.
    """
    import torch

    model = None if getattr(config, "quantization_config", None) else meta(config)
    if model is None:
        return None
    every = sum(p.numel() for p in model.parameters())
    if dtype != "nf4":
        return int(every * BYTES[dtype])
    head = model.get_output_embeddings()
    packed = sum(
        m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head
    )
    return int(packed * NF4 + (every - packed) * BYTES["bfloat16"])


def unpacked(config: Any) -> int:
    """Bytes of the largest linear layer in bfloat16: 4-bit weights are unpacked one layer at a time."""
    import torch

    model = meta(config)
    head = model.get_output_embeddings()
    sizes = [m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return int(max(sizes, default=0) * BYTES["bfloat16"])


def meta(config: Any, dtype: str = "float32") -> Any:
    """The model of a configuration without storage; None where it is no causal language model."""
    import torch
    from transformers import AutoModelForCausalLM

    from breakeven.harness._quiet import quiet

    try:
        with quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, dtype=getattr(torch, dtype)
            )
    except ValueError:  # no causal language model: loading it will say so
        return None
    model.tie_weights()
    return model


def answering(config: Any, size: int, rows: int, prompt: int, new: int) -> int:
    """Bytes that answering a batch takes on top of the weights, at most.

    Counts keys and values with the room they grow into, one layer's activations over the prompts, and the
    scores of a next token.

    Args:
        size: bytes of a number as the model computes.
    """
    text = config.get_text_config(decoder=True)
    width = text.hidden_size
    passing = PASSING_HIDDEN * width
    passing += PASSING_INNER * (getattr(text, "intermediate_size", None) or 4 * width)
    scores = text.vocab_size * (size + 4)
    room = prompt + STEP * (1 + new // STEP)
    return int(rows * (room * cached(config, size) + prompt * passing * size + scores))


def cached(config: Any, size: int) -> int:
    """Bytes of the keys and values of one token."""
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", 1)
    head = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(
        2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * head * size
    )


def check_loading(config: Any, dtype: str, device: str, name: str, folder: Path) -> None:
    """Refuse to load weights that cannot fit, before the system kills the whole program for it.

    Raises:
        UserError: with both sizes, and what would fit.
    """
    needed = weights(config, dtype)
    free = hardware.available_memory(device)
    if needed is None or needed <= free:
        return
    hints = ["use a smaller model"]
    for smaller, how in (("bfloat16", "dtype: bfloat16"), ("nf4", "load_in_4bit: true")):
        less = weights(config, smaller)
        possible = smaller != "nf4" or device.startswith("cuda")
        if possible and less is not None and less < needed and less <= free:
            hints.insert(0, f"{how} would take {less / 1e9:.1f} GB")
    raise UserError(
        f"the weights of {name} take {needed / 1e9:.1f} GB in {dtype}, and {free / 1e9:.1f} GB are free",
        file=folder,
        hint="; ".join(hints),
    )
