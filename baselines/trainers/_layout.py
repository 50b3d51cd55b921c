"""How the examples of a pass lie before the model: rows padded on the right, or all of them in one row.

In one row, what all prompts begin with stands once, and nothing is padded; a mask keeps the examples apart,
and each token has the position that it would have had alone. Loss and gradients are the same. What is quicker
is decided by counting: one row has fewer tokens, but its attention looks at all pairs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from breakeven.baselines.trainers._examples import Batch, Tokens

#: What a pair of tokens costs in attention beside its share of the FLOPs: short products run slower.
SLOWER = 4.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors of a pass: all (rows, width) but `labels` (answer tokens,), in the order of `predicts`.

    `predicts` are the positions whose next token is one of an answer. `sees` is None where a row is causal
    from its first token, else (1, 1, width, width); `real` is 0 on padding.
    """

    ids: torch.Tensor
    real: torch.Tensor
    predicts: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor | None = None
    sees: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """Of a model: `pair`, what a pair of tokens in attention costs, as a share of what a token costs.

    `one_row` tells whether it takes several examples in one row.
    """

    pair: float
    one_row: bool

    @classmethod
    def of(cls, parameters: int, width: int, layers: int, *, one_row: bool) -> Costs:
        """Of a model with so many parameters in its layers.

        A token takes 2 FLOPs for each of them, a pair of tokens 4 x width in each layer.
        """
        return cls(SLOWER * 4 * width * layers / (2 * max(parameters, 1)), one_row)

    def of_rows(self, part: Batch) -> float:
        width = max(map(len, part))
        return len(part) * (width + self.pair * width**2)

    def of_one_row(self, part: Batch) -> float:
        width = _one_row_width(part, shared(part))
        return width + self.pair * width**2


def is_one_row(part: Batch, costs: Costs) -> bool:
    """Whether a part is quicker in one row."""
    return costs.one_row and len(part) > 1 and costs.of_one_row(part) < costs.of_rows(part)


def size(part: Batch, costs: Costs) -> tuple[int, int]:
    """(tokens computed, pairs of them in attention) of a part as it is laid out."""
    if is_one_row(part, costs):
        width = _one_row_width(part, shared(part))
        return width, width**2
    width = max(map(len, part))
    return len(part) * width, len(part) * width**2


def shared(part: Batch) -> int:
    """Tokens that all prompts begin with; the last one of each prompt, which predicts, stays its own."""
    first, last = (f(example.prompt for example in part) for f in (min, max))  # all others lie in between
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(same, min(len(example.prompt) for example in part) - 1)


def _one_row_width(part: Batch, begins: int) -> int:
    return begins + sum(len(example) - begins for example in part)


def in_rows(part: Batch, pad_id: int) -> Layout:
    """Each example a row, padded on the right, where causal attention of the real tokens never looks."""
    shape = len(part), max(map(len, part))
    ids = torch.full(shape, pad_id)
    real = torch.zeros(shape, dtype=torch.long)
    predicts = torch.zeros(shape, dtype=torch.bool)
    for row, example in enumerate(part):
        ids[row, : len(example)] = torch.tensor([*example.prompt, *example.answer])
        real[row, : len(example)] = 1
        predicts[row, len(example.prompt) - 1 : len(example) - 1] = True
    return Layout(ids, real, predicts, _labels(part))


def in_one_row(part: Batch) -> Layout:
    """What all prompts begin with, then what each example has of its own, one after the other."""
    begins = shared(part)
    own = [[*example.prompt[begins:], *example.answer] for example in part]
    starts = list(accumulate(map(len, own), initial=begins))
    width = starts[-1]
    ids = torch.tensor([[*part[0].prompt[:begins], *(token for tokens in own for token in tokens)]])
    sees = torch.zeros((width, width), dtype=torch.bool)
    sees[:, :begins] = True
    predicts = torch.zeros((1, width), dtype=torch.bool)
    places = torch.arange(width)
    for example, tokens, start in zip(part, own, starts, strict=False):
        end = start + len(tokens)
        sees[start:end, start:end] = True
        places[start:end] = begins + torch.arange(len(tokens))
        predicts[0, start + len(example.prompt) - begins - 1 : end - 1] = True
    sees = sees.tril()
    return Layout(ids, torch.ones_like(ids), predicts, _labels(part), places[None], sees[None, None])


def _labels(part: Sequence[Tokens]) -> torch.Tensor:
    return torch.tensor([token for example in part for token in example.answer])
