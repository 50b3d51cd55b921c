"""How the examples of a pass lie before the model: rows padded on the right, or all of them in one row.

In one row, what all prompts begin with stands once, and nothing is padded; attention keeps the examples apart
(`_blocks`), and each token has the position that it would have had alone. Loss and gradients are the same.
What is quicker is decided by counting tokens, and pairs of them in attention.

The last token of an example predicts nothing, and is not read at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from breakeven.baselines.trainers._blocks import Blocks, pairs
from breakeven.baselines.trainers._examples import Batch, Tokens

#: What a pair of tokens costs in attention beside its share of the FLOPs: short products run slower.
SLOWER = 4.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors of a pass: all (rows, width) but `labels` (answer tokens,), in the order of `predicts`.

    `predicts` are the positions whose next token is one of an answer. `blocks` say what sees what, None where
    a row is causal from its first token; `real` is 0 on padding.
    """

    ids: torch.Tensor
    real: torch.Tensor
    predicts: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor | None = None
    blocks: Blocks | None = None


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
        tokens, squared = _in_rows(part)
        return tokens + self.pair * squared

    def of_one_row(self, part: Batch) -> float:
        tokens, pairs = _in_one_row(part)
        return tokens + self.pair * pairs


def is_one_row(part: Batch, costs: Costs) -> bool:
    """Whether a part is quicker in one row."""
    return costs.one_row and len(part) > 1 and costs.of_one_row(part) < costs.of_rows(part)


def size(part: Batch, costs: Costs) -> tuple[int, int]:
    """(tokens computed, pairs of them in attention) of a part as it is laid out."""
    if is_one_row(part, costs):
        return _in_one_row(part)
    return _in_rows(part)


def shared(part: Batch) -> int:
    """Tokens that all prompts begin with; the last one of each prompt, which predicts, stays its own."""
    first, last = (f(example.prompt for example in part) for f in (min, max))  # all others lie in between
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return min(same, min(len(example.prompt) for example in part) - 1)


def _in_rows(part: Batch) -> tuple[int, int]:
    width = max(map(len, part)) - 1
    return len(part) * width, len(part) * width**2


def _in_one_row(part: Batch) -> tuple[int, int]:
    begins = shared(part)
    own = [len(example) - 1 - begins for example in part]
    return begins + sum(own), pairs(begins, len(own), max(own))


def in_rows(part: Batch, pad_id: int) -> Layout:
    """Each example a row, padded on the right, where causal attention of the real tokens never looks."""
    shape = len(part), max(map(len, part)) - 1
    ids = torch.full(shape, pad_id)
    real = torch.zeros(shape, dtype=torch.long)
    predicts = torch.zeros(shape, dtype=torch.bool)
    for row, example in enumerate(part):
        ids[row, : len(example) - 1] = torch.tensor([*example.prompt, *example.answer[:-1]])
        real[row, : len(example) - 1] = 1
        predicts[row, len(example.prompt) - 1 : len(example) - 1] = True
    return Layout(ids, real, predicts, _labels(part))


def in_one_row(part: Batch) -> Layout:
    """What all prompts begin with, then what each example has of its own, one after the other."""
    begins = shared(part)
    own = [[*example.prompt[begins:], *example.answer[:-1]] for example in part]
    starts = list(accumulate(map(len, own), initial=begins))
    ids = torch.tensor([[*part[0].prompt[:begins], *(token for tokens in own for token in tokens)]])
    predicts = torch.zeros(ids.shape, dtype=torch.bool)
    places = torch.arange(ids.shape[1])
    for example, tokens, start in zip(part, own, starts, strict=False):
        end = start + len(tokens)
        places[start:end] = begins + torch.arange(len(tokens))
        predicts[0, start + len(example.prompt) - begins - 1 : end] = True
    blocks = Blocks.of(begins, [len(tokens) for tokens in own])
    return Layout(ids, torch.ones_like(ids), predicts, _labels(part), places[None], blocks)


def _labels(part: Sequence[Tokens]) -> torch.Tensor:
    return torch.tensor([token for example in part for token in example.answer])
