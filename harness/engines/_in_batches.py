"""Requests answered in a provider's batch mode, and paid: `openai` with `batch: true`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines import _wire
from breakeven.harness.engines._batch import Batches
from breakeven.harness.errors import UserError
from breakeven.harness.prices import TokenPrice
from breakeven.harness.spending import SpendGuard


def in_batches(
    batches: Batches, requests: Sequence[Request], guard: SpendGuard, price: TokenPrice | None
) -> Iterator[Completion]:
    """Answers of the batch that holds the requests, or of a new one.

    What it refuses by the older name of their room is sent once more by the newer one, in a batch that is
    paid for itself. Raises what `Batches.answers` does.
    """
    left = {r.id: r for r in requests}
    while left:
        try:
            for completion in _in_one(batches, list(left.values()), guard, price):
                del left[completion.id]
                yield completion
            return
        except _wire.OtherRoom:  # once: by the newer name it would be refused for good
            pass


def _in_one(
    batches: Batches, requests: Sequence[Request], guard: SpendGuard, price: TokenPrice | None
) -> Iterator[Completion]:
    """Paid before it is sent, at its worst; what it cost less is given back when the answers come."""
    sent, costs = batches.find(requests), list[float]()
    name = f"batch {sent.nonce}"
    if not sent.batch:
        worst = (price.cost(_wire.worst_case(r, batches.shape)) for r in requests) if price else ()
        guard.charge(name, sum(worst, 0.0))

    def paid(usage: Usage) -> None:
        costs.append(price.cost(usage) if price else 0.0)

    try:
        yield from batches.answers(sent, requests, paid)
    except UserError:
        if not sent.batch:  # refused: there is none
            guard.bill(name, 0.0)
        raise
    finally:
        if sent.read:
            guard.bill(name, sum(costs))
            batches.tidy()
