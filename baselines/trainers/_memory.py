"""Bytes that training takes, from a model's configuration alone: no weights are needed.

What a pass keeps for its gradients is linear in the widths of a layer. The rates are not written down but
counted: the trainer's own forward pass runs over small models of the same architecture whose widths are
varied one by one. So they follow the trainer, whatever it learns to keep or to compute again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from breakeven.baselines.trainers._blocks import PLAIN
from breakeven.baselines.trainers._examples import Batch, Tokens
from breakeven.baselines.trainers._layout import Costs, is_one_row, shared
from breakeven.baselines.trainers._layout import size as layout_size
from breakeven.baselines.trainers._model import PLAIN_ATTENTION, Forward, adapted
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness.contracts import ModelCard
from breakeven.harness.training import Tunable

#: Bytes of a trained parameter: itself, its gradient and AdamW's two moments, all float32.
TRAINED = 4 * 4
#: Bytes of an answer token's scores, each, that the first backward step adds to what is kept: the gradient
#: in float32, and again in the type of the product.
SCORES_BACK = 4 + 2
#: Bytes of a base weight's copy in bfloat16, kept for its product's backward half.
CAST = 2
#: Tokens of a pass that small models are run on; a larger pass is taken to be like its first examples.
MOST_TOKENS = 4096
#: Share by which rates may miss a small model that they were not made from.
TOLERANCE = 0.02

BEGINNING, FIRST, OTHERS, ANSWER, END = 3, 4, 5, 6, 2


@dataclass(frozen=True, slots=True)
class Widths:
    """What the bytes of a pass depend on. `queries` and `keys` are heads x their size, of all heads."""

    layers: int
    hidden: int
    heads: int
    queries: int
    keys: int
    inner: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Widths | None:
        """None where the configuration names them otherwise, or has experts."""
        text = config.get_text_config(decoder=True)
        hidden, heads = getattr(text, "hidden_size", None), getattr(text, "num_attention_heads", None)
        inner = getattr(text, "intermediate_size", None)
        mixed = ("num_local_experts", "num_experts", "n_routed_experts")
        if not hidden or not heads or not inner or any(getattr(text, key, None) for key in mixed):
            return None
        head = getattr(text, "head_dim", None) or hidden // heads
        keys = getattr(text, "num_key_value_heads", None) or heads
        return cls(text.num_hidden_layers, hidden, heads, heads * head, keys * head, inner, text.vocab_size)

    @property
    def in_layer(self) -> tuple[int, ...]:
        """What one layer's bytes are linear in."""
        return 1, self.hidden, self.heads, self.queries, self.keys, self.inner

    @property
    def outside(self) -> tuple[float, ...]:
        """What the bytes outside of the layers are linear in; positions are turned by a head's size."""
        return 1, self.hidden, self.queries / self.heads, self.vocabulary


@dataclass(frozen=True)
class Held:
    """Bytes that training holds on top of the base weights.

    `adapter` with gradients and moments; `kept` for the backward half of the largest pass, `scores` of its
    answer tokens on the way back.
    """

    adapter: int
    kept: int
    scores: int

    @property
    def total(self) -> int:
        return self.adapter + self.kept + self.scores


def held(
    config: Any, dtype: str, settings: Settings, part: Batch, costs: Costs, trained: int, linear: int = 0
) -> Held | None:
    """What a training holds whose largest pass is `part`; None for an architecture that does not fit this.

    Args:
        config: of the real model; `dtype` the type it is stored in ("bfloat16", "float32").
        costs: of the real model, by which passes are laid out.
        trained: parameters of the adapter.
        linear: those of the base's linear layers, whose products may be of another type than they are.
    """
    widths = Widths.of(config)
    if widths is None:
        return None
    rates, counted_on = _known(config, dtype, settings, part, costs)
    if rates is None:
        return None
    answers = sum(len(example.answer) for example in part)
    cast = linear * CAST if settings.precision == "bfloat16" and dtype == "float32" else 0
    return Held(
        adapter=trained * TRAINED,
        kept=round(rates.kept(widths) * layout_size(part, costs)[0] / counted_on) + cast,
        scores=answers * widths.vocabulary * SCORES_BACK,
    )


_counts: dict[tuple[Any, ...], tuple[Rates | None, int]] = {}


def _known(
    config: Any, dtype: str, settings: Settings, part: Batch, costs: Costs
) -> tuple[Rates | None, int]:
    """(rates, tokens they were counted on): counted once for passes that are laid out alike.

    Those are in rows, or in one row, with about as many pairs in attention for each token (within a fifth).
    """
    fitting = _fitting(part)
    tokens, pairs = layout_size(fitting, costs)
    key = (
        config.to_json_string(),
        dtype,
        repr(settings.what_matters()),
        is_one_row(fitting, costs),
        _is_plain(fitting, costs),
        round(4 * math.log2(pairs / tokens)),
    )
    if key not in _counts:
        _counts[key] = Rates.counted(config, dtype, settings, fitting, costs), tokens
    return _counts[key]


def _is_plain(part: Batch, costs: Costs) -> bool:
    """Whether a CPU computes attention by plain products, which keep a number for each pair of tokens."""
    if is_one_row(part, costs):
        return max(map(len, part)) - 1 <= PLAIN
    return max(map(len, part)) - 1 <= PLAIN_ATTENTION


def kept_bytes(forward: Forward, part: Batch) -> int:
    """Bytes that the loss of a pass keeps for its gradients: each storage once, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in forward.model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward.loss(part)
    del loss
    return sum(seen.values())


@dataclass(frozen=True)
class Rates:
    """Bytes of one pass: of each layer by its widths, and outside of the layers."""

    layer: tuple[float, ...]
    outside: tuple[float, ...]
    recomputed: tuple[float, ...] = ()

    def kept(self, widths: Widths) -> float:
        per_layer = sum(a * b for a, b in zip(self.layer, widths.in_layer, strict=True))
        once = sum(a * b for a, b in zip(self.recomputed, widths.in_layer, strict=False))
        outside = sum(a * b for a, b in zip(self.outside, widths.outside, strict=True))
        return widths.layers * per_layer + once + outside

    @classmethod
    def counted(cls, config: Any, dtype: str, settings: Settings, part: Batch, costs: Costs) -> Rates | None:
        """From small models of the architecture; None where what they keep is not linear in these widths."""
        if settings.gradient_checkpointing:
            whole = cls.counted(config, dtype, replace(settings, gradient_checkpointing=False), part, costs)
            ends = _counted(config, dtype, settings, part, costs)
            return None if whole is None or ends is None else replace(ends, recomputed=whole.layer)
        return _counted(config, dtype, settings, part, costs)


#: Widths of the small models: (hidden, heads, size of a head, key heads, inner), each but the first varying
#: something. Keys have two heads at least: one alone is shared without being copied.
SMALL = (
    (32, 4, 8, 2, 48),
    (64, 4, 8, 2, 48),
    (32, 8, 4, 2, 48),
    (32, 8, 4, 4, 48),
    (32, 4, 16, 2, 48),
    (32, 4, 8, 2, 96),
)
#: Widths of the model that is not fitted but foretold: where it is missed, nothing is said.
CHECK = (64, 8, 8, 4, 80)
VOCABULARY = 64


def _counted(config: Any, dtype: str, settings: Settings, part: Batch, costs: Costs) -> Rates | None:
    import numpy as np

    alike = _alike(part)

    def count(shape: Sequence[int], layers: int, vocabulary: int = VOCABULARY) -> tuple[Widths, int]:
        small = _small(config, shape, layers, vocabulary)
        widths = Widths.of(small)
        assert widths is not None
        return widths, _kept_by(small, dtype, settings, alike, costs)

    one, two = ([count(shape, layers) for shape in SMALL] for layers in (1, 2))
    rows = np.array([widths.in_layer for widths, _ in one], dtype=float)
    layer = _solved(rows, np.array([b - a for (_, a), (_, b) in zip(one, two, strict=True)], dtype=float))
    ends = [*one, count(SMALL[0], 1, 2 * VOCABULARY)]
    rest = np.array([kept - np.dot(layer, widths.in_layer) for widths, kept in ends])
    outside = _solved(np.array([widths.outside for widths, _ in ends], dtype=float), rest)
    found = Rates(tuple(layer), tuple(outside))
    checked, kept = count(CHECK, 3, 3 * VOCABULARY)
    return found if abs(found.kept(checked) - kept) <= TOLERANCE * kept else None


def _solved(rows: Any, wanted: Any) -> list[float]:
    """The smallest rates with which `rows @ rates` comes nearest to `wanted`.

    Widths that always go together in an architecture share a rate, which is all the same.
    """
    import numpy as np

    size = np.abs(rows).max(axis=0)
    rates, *_ = np.linalg.lstsq(rows / size, wanted, rcond=1e-9)
    return [float(rate) for rate in rates / size]


def _small(config: Any, shape: Sequence[int], layers: int, vocabulary: int) -> Any:
    """The configuration with other widths; whether keys have heads of their own stays as it is."""
    hidden, heads, head, keys, inner = shape
    small = copy.deepcopy(config)
    text = small.get_text_config(decoder=True)
    own = text.num_attention_heads
    grouped = (getattr(text, "num_key_value_heads", None) or own) != own
    wanted: Mapping[str, Any] = {
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": keys if grouped else heads,
        "head_dim": head,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": END,
    }
    for name, value in wanted.items():
        if hasattr(text, name):
            setattr(text, name, value)
    if getattr(text, "layer_types", None):
        text.layer_types = list(text.layer_types[:1]) * layers
    return small


def _kept_by(config: Any, dtype: str, settings: Settings, part: Batch, costs: Costs) -> int:
    """What a pass keeps in a random model of this configuration."""
    from transformers import AutoModelForCausalLM

    from breakeven.harness._quiet import quiet

    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=getattr(torch, dtype))
        model = model.eval().requires_grad_(False)
    longest = max(map(len, part))
    card = ModelCard("small", "memory", parameters=1, context=longest)
    given = Tunable(model, _never, 0, END, longest, "cpu", card)
    with adapted(given, settings, seed=0) as wrapped:
        forward = Forward(wrapped, given, settings)
        forward.costs = costs
        return kept_bytes(forward, part)


def _never(messages: Sequence[Any], answer: str) -> tuple[list[int], list[int]]:
    raise AssertionError("nothing is encoded to count bytes")


def _fitting(part: Batch) -> Batch:
    """As many of a pass's examples as `MOST_TOKENS` takes, one at least."""
    widest = max(map(len, part))
    return part[: max(1, MOST_TOKENS // widest)]


def _alike(part: Batch) -> Batch:
    """A pass of the same lengths and the same shared beginning, in words that a small vocabulary has."""
    begins = shared(part)
    made = []
    for number, example in enumerate(part):
        own = (FIRST if number == 0 else OTHERS,) * (len(example.prompt) - begins)
        made.append(Tokens((BEGINNING,) * begins + own, (ANSWER,) * (len(example.answer) - 1) + (END,)))
    return tuple(made)
