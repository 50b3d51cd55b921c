"""What the strategies without a language model share: they need choices, and turn inputs into vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from breakeven.baselines._prompt import answer, query_text
from breakeven.baselines._retrieval import embedder_of, example_index
from breakeven.harness.contracts import Brief, Example, Input, Request, Services, take
from breakeven.harness.errors import NotApplicable
from breakeven.harness.previews import Preview

if TYPE_CHECKING:
    import numpy as np


def labels(brief: Brief, train: Sequence[Example]) -> list[str]:
    """The answer of each training example.

    Raises:
        NotApplicable: when any answer is possible, or there are no examples to learn from.
    """
    if not brief.choices:
        raise NotApplicable("no choices: it can only repeat answers seen in training")
    if not train:
        raise NotApplicable("no training examples to learn from")
    return [answer(example) for example in train]


def texts(brief: Brief, examples: Sequence[Example] | Sequence[Input]) -> list[str]:
    """What is embedded of each example or input: the values of its fields, without the template's words."""
    return [query_text(brief, e.input if isinstance(e, Example) else e.fields) for e in examples]


def embedded(brief: Brief, inputs: Sequence[Input], services: Services) -> np.ndarray:
    """(inputs, dimension) float32, booked under `serve`."""
    return embedder_of(services).encode(texts(brief, inputs), phase="serve")


def preview(brief: Brief, train: Sequence[Example], services: Services, sample: int) -> Preview:
    """What a strategy over vectors does, embedding at most `sample` training examples.

    Raises:
        NotApplicable: as `labels` does.
    """
    labels(brief, train)
    some = take(train, sample)
    example_index(texts(brief, some), services)

    def asks_nobody(inputs: Sequence[Input]) -> Sequence[Request]:
        embedded(brief, inputs, services)
        return ()

    return Preview(asks_nobody, scale=len(train) / len(some))
