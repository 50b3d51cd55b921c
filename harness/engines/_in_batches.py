"""Requests answered in a provider's batch mode, and paid: `openai` with `batch: true`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines import _wire
from breakeven.harness.engines._batch import Batches, Sent
from breakeven.harness.errors import UserError
from breakeven.harness.prices import TokenPrice
from breakeven.harness.spending import SpendGuard


def in_batches(
    batches: Batches,
    requests: Sequence[Request],
    guard: SpendGuard,
    price: TokenPrice | None,
    price_as: str = "",
) -> Iterator[Completion]:
    """Answers of the batch that holds the requests, or of a new one.

    What it refuses by the older name of their room is sent once more by the newer one, in a batch that is
    paid for itself. Raises what `Batches.answers` does.
    """
    left = {r.id: r for r in requests}
    while left:
        try:
            for completion in _in_one(batches, list(left.values()), guard, price, price_as):
                del left[completion.id]
                yield completion
            return
        except _wire.OtherRoom:  # once: by the newer name it would be refused for good
            pass


def _in_one(
    batches: Batches,
    requests: Sequence[Request],
    guard: SpendGuard,
    price: TokenPrice | None,
    price_as: str,
) -> Iterator[Completion]:
    """Paid before it is sent, at its worst; what it cost less is given back when the answers come."""
    sent, costs = batches.find(requests, price_as), list[float]()
    name = _charge(sent)
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


def close_orphans(
    batches: Batches, guard: SpendGuard, price_of: Callable[[str], TokenPrice | None]
) -> list[str]:
    """Cancel, settle and delete what nobody asks for any more (`Batches.orphans`): a sentence on each."""
    told = []
    for sent in batches.orphans():
        price, used = price_of(sent.price_as), list[Usage]()
        what = f"batch {sent.batch or sent.nonce} at {batches.host}, which no cell asks for any more,"
        held = f"{guard.charged(_charge(sent)):.6g} {guard.currency} stay set aside for it"
        try:
            over = batches.close(sent, used.append)
        except (UserError, _wire.ProviderError) as error:
            told.append(f"{what} could not be closed, and may be billed; {held}: {error}")
            continue
        if not over:
            told.append(f"{what} is being cancelled; {held} until a --resume finds it over")
            continue
        if price is not None:
            guard.bill(_charge(sent), sum(map(price.cost, used)))
        told.append(f"{what} is closed; {len(used)} of its answers were billed")
    batches.tidy()
    return told


def _charge(sent: Sent) -> str:
    """The name of a batch in the purse."""
    return f"batch {sent.nonce}"
