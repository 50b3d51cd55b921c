"""Prices applied to the cells of a run: what a request, a training, an hour of its machine costs.

Between the price book and the result tables; re-pricing a run changes what is here and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from breakeven.harness import costs, probed, trials
from breakeven.harness.ledger import Amount, Phase
from breakeven.harness.prices import Price, PriceBook, TokenPrice
from breakeven.harness.probed import Spent
from breakeven.harness.results import CellResult, Results

if TYPE_CHECKING:
    import numpy.typing as npt

HERE = "this machine"


class Pricing:
    """Prices of a run: as its suite's economics say, and if given the user's own price file and changes.

    With probes, seconds are those of the probes' machine as far as they know them.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self.economics = results.economics
        currency = self.economics.currency
        recorded = results.info.get("price_book")
        if results.prices is None and recorded is not None:
            self.book = PriceBook.recorded(recorded, currency=currency)
        else:
            self.book = PriceBook.load(results.prices, currency=currency)
        self._changes = results.price_changes
        self._cards: Mapping[str, Any] = results.info.get("models") or {}
        self._fallback: PriceBook | None = None
        #: Name of the machine that serves models of one's own, where a strategy has none for itself.
        self.machine_name = probed.machine(results) or self.economics.hardware
        self.machine: Price | None = self.machine_of("")

    @property
    def api_factor(self) -> float:
        """What token prices are multiplied by."""
        return self._changes.get("api_price", 1.0)

    def machine_of(self, strategy: str) -> Price | None:
        """An hour of the machine that serves a strategy, if it is served by one of our own."""
        own = self._own_machine(strategy)
        name = own or self.machine_name
        price = self.book.machine_hour(name) or self._today().machine_hour(name)
        if own is None and "machine_hour" in self._changes:
            hour = self._changes["machine_hour"]
            if price is None:
                self.check_machine(name, field="economics.hardware")
                return None
            return replace(price, price=hour, source="given with --set", checked=True, note="")
        return price

    def _own_machine(self, strategy: str) -> str | None:
        """A strategy's machine where it is another than everybody's."""
        name = self.economics.machines.get(strategy)
        return None if name == self.machine_name else name

    def check_machine(self, name: str, *, field: str) -> None:
        """Raises UserError when neither the run's prices nor the shipped ones have this machine."""
        if self.book.machine_hour(name) is None:
            self._today().check("machine_hours", name, field=field)

    def deployment_name(self, strategy: str, cells: Sequence[CellResult] = ()) -> str | None:
        """The price book's name for the hour of a strategy's hosted deployment: as the economics say, else
        as its cells were served. None where it needs none."""
        served = [str(c.served["hosting"]) for c in cells if c.served and c.served.get("hosting")]
        return self.economics.deployments.get(strategy) or next(iter(served), None)

    def deployment_of(self, name: str) -> Price | None:
        """An hour of a hosted deployment; None where nobody says what it costs."""
        return self.book.hosting_hour(name) or self._today().hosting_hour(name)

    def _today(self) -> PriceBook:
        """The shipped book, for names that the run itself never asked for."""
        if self._fallback is None:
            self._fallback = PriceBook.load(currency=self.economics.currency)
        return self._fallback

    def used(self) -> dict[str, Any]:
        """Every price handed out so far, those of today's book among them."""
        found: dict[str, Any] = {}
        for book in (self._fallback, self.book):
            for kind, named in book.used().items() if book is not None else ():
                found[kind] = {**found.get(kind, {}), **named}
        return found

    # --- a request ---------------------------------------------------------------------------

    def per_1000(self, cell: CellResult) -> costs.Cost:
        """Cost of 1,000 requests: tokens where a provider bills them, else priced seconds.

        Priced seconds are those at the stated concurrency, from a pass without sharing between requests;
        without such a pass, those of one request at a time.
        """
        return 1000 * (self.tokens(cell) + self.machine_time(cell) + self.fees(cell))

    def fees(self, cell: CellResult) -> costs.Cost:
        """Money of a request that was booked as money: a service's fee, what a suite states."""
        booked = list(cell.ledger.select("serve", "money"))
        if not booked:
            return costs.NOTHING
        total = cell.ledger.total("money", "serve")
        if total.value is None:
            return costs.unpriced("a fee, which was not stated")
        return costs.Cost(total.value / max(len(cell.predictions), 1), total.status, priced=1, of=1)

    def tokens(self, cell: CellResult) -> costs.Cost:
        """Cost of a request's tokens, where a provider bills them; nothing for a model of one's own."""
        hosted = self.hosted(cell)
        if hosted is None:
            return costs.NOTHING
        usages = [p.usage for p in cell.predictions]
        discount = self.economics.cached_discount
        price = self.book.token_price(hosted)
        return self.api_factor * costs.tokens_cost(usages, price, model=hosted, cached_discount=discount)

    def tokens_by_example(self, cell: CellResult) -> npt.NDArray[np.float64] | None:
        """(items,) money of each request's tokens; None where nobody bills them or nobody names a price."""
        hosted = self.hosted(cell)
        price: TokenPrice | None = self.book.token_price(hosted) if hosted else None
        if price is None:
            return None
        discount = self.economics.cached_discount
        return self.api_factor * np.array(
            [price.cost(p.usage, cached_discount=discount) for p in cell.predictions], dtype=np.float64
        )

    def machine_time(self, cell: CellResult) -> costs.Cost:
        """Cost of a request's seconds on our own machine: all of it, or retrieval's part of a hosted one."""
        busy = self.busy(cell)
        return costs.seconds_cost(
            busy.seconds,
            self.machine_of(cell.strategy),
            utilisation=self.economics.utilisation,
            projected=self._projected(cell, busy),
        )

    def busy_seconds(self, cell: CellResult) -> Amount:
        """Seconds that a request keeps our own machine busy."""
        return self.busy(cell).seconds

    def busy(self, cell: CellResult) -> Spent:
        """The same, and where they come from."""
        if cell.model is None and any(cell.ledger.select("serve", "money")):
            return Spent(Amount(0.0))  # answered elsewhere; its price is a fee
        use = self._probed(cell.strategy)
        if self.hosted(cell) is None:
            own = priced_seconds(cell)
            return probed.request(self._results, cell, own) if use else Spent(own, of_run=True)
        spent = probed.spent(self._results, cell, ("serve",), use=use)
        if spent.seconds.value is None:
            return spent
        each = spent.seconds.value / max(len(cell.predictions), 1)
        return replace(spent, seconds=Amount(each, spent.seconds.status))

    def measured_by(self, spent: Sequence[Spent]) -> str:
        """` by a probe of l4 (2026-01-01)`, ` in part by ...`; nothing where all seconds are the run's."""
        if not any(s.probed for s in spent):
            return ""
        partly = " in part" if any(s.of_run for s in spent) else ""
        return f"{partly} by {probed.said(self._results.probes)}"

    def _probed(self, strategy: str) -> bool:
        """Whether probes count for a strategy: those of its machine."""
        return bool(self._results.probes) and self._own_machine(strategy) is None

    def _projected(self, cell: CellResult, spent: Spent) -> bool:
        """Whether seconds of the run are priced on another machine than they were measured on."""
        moved = self._own_machine(cell.strategy) is None and self.machine_name != self.economics.hardware
        return spent.of_run and (self.economics.projected or moved)

    # --- once --------------------------------------------------------------------------------

    def one_off(self, cell: CellResult, phases: Sequence[Phase] = costs.ONE_OFF) -> costs.Cost:
        """Cost of what a cell's ledger holds before serving: our machine's seconds and a provider's bills."""
        return self.one_off_machine(cell, phases) + self.one_off_billed(cell, phases)

    def one_off_machine(self, cell: CellResult, phases: Sequence[Phase] = costs.ONE_OFF) -> costs.Cost:
        spent = self.one_off_seconds(cell, phases)
        machine = self.machine_of(cell.strategy)
        return costs.seconds_cost(spent.seconds, machine, projected=self._projected(cell, spent))

    def one_off_seconds(self, cell: CellResult, phases: Sequence[Phase] = costs.ONE_OFF) -> Spent:
        """Seconds of our own machine in what a cell's ledger holds before serving."""
        name = self._cards.get(cell.model or "", {}).get("name")
        without = str(name) if self.hosted(cell) is not None and name else None
        return probed.spent(self._results, cell, phases, use=self._probed(cell.strategy), without=without)

    def one_off_billed(self, cell: CellResult, phases: Sequence[Phase] = costs.ONE_OFF) -> costs.Cost:
        hosted = self.hosted(cell)
        base = self._cards.get(cell.model or "", {})
        asked = {str(c.get("name", "")): price_name(c) for c in (base, cell.served or base)}
        asked |= trials.models(cell)
        without_time = [e for e in cell.ledger.entries if e.quantity != "seconds"]
        return self.api_factor * costs.ledger_cost(
            type(cell.ledger)(without_time),
            self.book,
            machine=None,
            phases=phases,
            hosted=asked if hosted else None,
        )

    # --- who serves --------------------------------------------------------------------------

    def hosted(self, cell: CellResult) -> str | None:
        """Name in the price book of a model that somebody else serves; None for one of our own."""
        card = self.card(cell)
        return None if card.get("data_goes_to", HERE) == HERE else price_name(card)

    def host(self, cell: CellResult) -> str:
        """Where a request's data goes."""
        return str(self.card(cell).get("data_goes_to", HERE))

    def card(self, cell: CellResult) -> Mapping[str, Any]:
        """Of the model that answered: the suite's, or what tuning made of it at a provider."""
        card: Mapping[str, Any] = cell.served or self._cards.get(cell.model or "", {})
        return card


def price_name(card: Mapping[str, Any]) -> str:
    """The price book's name for the tokens of a hosted model."""
    return str(card.get("price_as") or card.get("name"))


def priced_seconds(cell: CellResult) -> Amount:
    timing = cell.timing or {}
    if "concurrent" in timing:
        return Amount(float(timing["concurrent"]["seconds_per_request"]))
    seconds = timing.get("batch_of_one", {}).get("seconds") or []
    return Amount(float(np.mean(seconds))) if seconds else Amount(None, "unknown")


def mean_cost(found: Sequence[costs.Cost]) -> costs.Cost:
    """The mean over the seeds of a row; unknown if one of them is."""
    total = found[0]
    for cost in found[1:]:
        total = total + cost
    return total * (1 / len(found))
