"""The card of a model folder: its size, shape, context and licence, read without loading the weights.

Counting the parameters takes torch and transformers some seconds to import. What they say of a configuration
is remembered in the cache folder by its content and their versions, so that a run whose cells are all done
needs neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from breakeven.harness import models
from breakeven.harness.contracts import ModelCard
from breakeven.harness.engines import _memory
from breakeven.harness.errors import UserError

SHAPE = ("parameters", "active_parameters", "layers", "attention_width", "context")


def read(name: str, folder: Path, *, dtype: str, device: str, chat_template: str | None = None) -> ModelCard:
    """Describe the causal language model in `folder`; `dtype` and `device` are where it will run.

    A chat template that is not the folder's own is part of the digest: the same weights read other prompts.
    """
    shape = _remembered(folder)
    return ModelCard(
        name=name,
        engine="local",
        parameters=shape["parameters"],
        active_parameters=shape["active_parameters"],
        layers=shape["layers"],
        attention_width=shape["attention_width"],
        context=shape["context"],
        licence=models.licence(name, folder),
        dtype=dtype,
        device=device,
        digest=_digest(folder, chat_template),
    )


def _digest(folder: Path, chat_template: str | None) -> str:
    weights = models.digest(folder)
    if chat_template is None:
        return weights
    return hashlib.sha256(f"{weights}\0{chat_template}".encode()).hexdigest()


def _remembered(folder: Path) -> Mapping[str, int | None]:
    """`_shape` of the configuration: computed once for its content, this file and the libraries' versions."""
    known = hashlib.sha256(Path(__file__).read_bytes())
    try:
        known.update((folder / "config.json").read_bytes())
        for library in ("torch", "transformers"):
            known.update(f"\0{library} {metadata.version(library)}".encode())
    except (OSError, metadata.PackageNotFoundError):  # no file, or a library that nobody can tell the next of
        return _shape(folder)
    memo = models.cache_folder() / "cards" / f"{known.hexdigest()[:24]}.json"
    try:
        kept = json.loads(memo.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and kept.keys() == set(SHAPE):
            return kept
    except (OSError, ValueError):
        pass
    shape = _shape(folder)
    models.write_atomically(memo, json.dumps(shape))
    return shape


def _shape(folder: Path) -> dict[str, int | None]:
    """The fields of a card that transformers tells from the configuration alone."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError) as error:
        raise UserError(f"the model's configuration cannot be read: {error}", file=folder) from error
    parameters, active = _count(config)
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_attention_heads", None)
    width = getattr(text, "hidden_size", None)
    head = getattr(text, "head_dim", None) or (width // heads if heads and width else None)
    found = (
        parameters,
        active,
        getattr(text, "num_hidden_layers", None),
        heads * head if heads and head else None,
        getattr(text, "max_position_embeddings", None),
    )
    return dict(zip(SHAPE, found, strict=True))


def _count(config: Any) -> tuple[int | None, int | None]:
    """(all weights, weights multiplied per token) of the architecture, counted on a model without storage."""
    model = _memory.meta(config)
    return (None, None) if model is None else count_parameters(model)


def count_parameters(model: Any) -> tuple[int, int]:
    """(all weights, weights multiplied per token) of a torch model.

    Looked-up tables (token and position embeddings) are not multiplied, but a token embedding tied to the
    output head is, once. Of a mixture's experts only the share that a token is sent to counts.
    """
    import torch

    total = sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    tied = id(head.weight) if head is not None else None
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    active = total - sum(size for key, size in tables.items() if key != tied)
    text = model.config.get_text_config(decoder=True)
    used = getattr(text, "num_experts_per_tok", None)
    experts = next(
        (
            n
            for key in ("num_local_experts", "num_experts", "n_routed_experts")
            if (n := getattr(text, key, None))
        ),
        None,
    )
    if used and experts:
        routed = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
        active -= round(routed * (1 - used / experts))
    return total, active
