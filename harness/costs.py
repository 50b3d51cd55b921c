"""What things cost: tokens, seconds and hours times the prices of the price book.

A cost is as well known as the worst amount in it: measured, estimated, or unknown; a sum over something
unpriced is unknown and says "7 of 8 priced". What costs decide is another module's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from breakeven.harness.contracts import Usage
from breakeven.harness.ledger import Amount, Entry, Ledger, Phase, Status
from breakeven.harness.prices import MILLION, Price, PriceBook, TokenPrice

#: What has to be spent before the first request is served.
ONE_OFF: tuple[Phase, ...] = ("label", "index", "search", "train")
HOURS_PER_MONTH = 730.0
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Cost:
    """Money in the price book's currency. `value` is None exactly when something in it is unknown.

    `priced` of `of` components have a price; `missing` names those without, `remarks` what else to know.
    """

    value: float | None
    status: Status
    remarks: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    priced: int = 0
    of: int = 0

    @property
    def note(self) -> str:
        """One line for a report."""
        parts = list(self.remarks)
        if self.missing:
            parts.insert(0, f"{self.priced} of {self.of} priced; no price for {', '.join(self.missing)}")
        return "; ".join(parts)

    def __add__(self, other: Cost) -> Cost:
        unknown = self.value is None or other.value is None
        estimated = "estimated" in (self.status, other.status)
        return Cost(
            None if unknown else (self.value or 0.0) + (other.value or 0.0),
            "unknown" if unknown else "estimated" if estimated else "measured",
            _merged(self.remarks, other.remarks),
            _merged(self.missing, other.missing),
            self.priced + other.priced,
            self.of + other.of,
        )

    def __mul__(self, factor: float) -> Cost:
        value = None if self.value is None else self.value * factor
        return Cost(value, self.status, self.remarks, self.missing, self.priced, self.of)

    __rmul__ = __mul__


NOTHING = Cost(0.0, "measured")


def unpriced(what: str) -> Cost:
    """The cost of something nobody names a price for."""
    return Cost(None, "unknown", missing=(what,), of=1)


def tokens_cost(
    usages: Sequence[Usage], price: TokenPrice | None, *, model: str = "", cached_discount: bool = False
) -> Cost:
    """Mean cost of a request from what each one used. Estimated where a provider reported no usage."""
    if not usages or not any(u.input_tokens or u.output_tokens for u in usages):
        return NOTHING
    if price is None:
        return unpriced(f"tokens of {model}" if model else "tokens")
    money = sum(price.cost(u, cached_discount=cached_discount) for u in usages) / len(usages)
    guessed = sum(u.estimated for u in usages)
    remarks = (f"{guessed} of {len(usages)} responses came without usage",) if guessed else ()
    return Cost(money, "estimated" if guessed else "measured", remarks, priced=1, of=1)


def seconds_cost(
    seconds: Amount, machine: Price | None, *, utilisation: float = 1.0, projected: bool = False
) -> Cost:
    """Cost of machine time: seconds x price of an hour / share of the hour that is used.

    Args:
        seconds: busy time per request (batch of one, or a stated concurrency), or of one-off work.
        utilisation: 0 to 1; an idle hour is paid as well.
        projected: the seconds were measured on other hardware than `machine`; the cost is then estimated.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation {utilisation} is not in (0, 1]")
    if seconds.value is None:
        return unpriced("machine time, which was not measured")
    if seconds.value == 0:
        return NOTHING
    if machine is None:
        return unpriced("machine time")
    status: Status = "estimated" if projected else seconds.status
    remarks = (f"projected to {machine.name}",) if projected else ()
    return Cost(seconds.value / 3600 * machine.price / utilisation, status, remarks, priced=1, of=1)


def hosting_cost(hour: Price | None, hours: float = HOURS_PER_MONTH) -> Cost:
    """Cost of keeping a deployment or machine for so many hours, asked or not."""
    if hour is None:
        return unpriced("hosting")
    return Cost(hour.price * hours, "measured", priced=1, of=1)


def energy_cost(joules: Amount, electricity: Price | None) -> Cost:
    """Cost of electricity, for machines one owns: a rented hour has it in its price."""
    if joules.value is None:
        return unpriced("electricity, which was not measured")
    if electricity is None:
        return unpriced("electricity")
    return Cost(joules.value / JOULES_PER_KWH * electricity.price, joules.status, priced=1, of=1)


def ledger_cost(
    ledger: Ledger,
    book: PriceBook,
    *,
    machine: Price | None,
    phases: Iterable[Phase] = ONE_OFF,
    hosted: Mapping[str, str] | None = None,
    projected: bool = False,
) -> Cost:
    """Cost of what a ledger holds in some phases; by default what it takes before serving starts.

    Tokens cost money where a provider bills them (`hosted`); everywhere else the seconds do, so that nothing
    is paid twice. FLOPs, joules and bytes are not priced here.

    Args:
        machine: whose hours the seconds are.
        hosted: model name in the ledger -> its name in the price book (`ModelCard.price_as`), for models that
            a provider serves.
        projected: see `seconds_cost`.
    """
    total = NOTHING
    for (quantity, model), entries in _grouped(ledger, phases).items():
        price_as = (hosted or {}).get(model or "")
        if quantity == "money":
            total += _money(entries)
        elif quantity == "seconds" and not price_as:
            total += seconds_cost(_sum(entries), machine, projected=projected)
        elif quantity in ("input_tokens", "output_tokens") and price_as:
            total += _tokens(quantity, entries, book.token_price(price_as), price_as)
        elif quantity == "training_tokens" and price_as:
            total += _training(entries, book.training_tokens(price_as), price_as)
    return total


def _grouped(ledger: Ledger, phases: Iterable[Phase]) -> dict[tuple[str, str | None], list[Entry]]:
    groups: dict[tuple[str, str | None], list[Entry]] = {}
    for entry in ledger.select(tuple(phases)):
        groups.setdefault((entry.quantity, entry.model), []).append(entry)
    return groups


def _sum(entries: Iterable[Entry]) -> Amount:
    total = Amount(0.0)
    for entry in entries:
        total = total + entry.amount
    return total


def _money(entries: Sequence[Entry]) -> Cost:
    amount = _sum(entries)
    if amount.value is None:
        return unpriced("an amount billed as money, not known yet")
    return Cost(amount.value, amount.status, priced=1, of=1)


def _tokens(quantity: str, entries: Sequence[Entry], price: TokenPrice | None, name: str) -> Cost:
    """Entries are requests, so that a price that rises with the length of a request is met."""
    amount = _sum(entries)
    if amount.value is None:
        return unpriced(f"tokens of {name}, which were not counted")
    if amount.value == 0:
        return NOTHING
    if price is None:
        return unpriced(f"tokens of {name}")
    is_input = quantity == "input_tokens"
    money = sum(price.cost(u) for u in _usages(entries, is_input))
    money -= 0.0 if is_input else price.per_request * len(entries)  # asked once, with the input
    status: Status = "estimated" if price.tiers and not is_input else amount.status
    return Cost(money, status, priced=1, of=1)


def _usages(entries: Iterable[Entry], is_input: bool) -> Iterator[Usage]:
    for entry in entries:
        n = round(entry.amount.value or 0)
        yield Usage(n, 0) if is_input else Usage(0, n)


def _training(entries: Sequence[Entry], price: Price | None, name: str) -> Cost:
    amount = _sum(entries)
    if amount.value is None:
        return unpriced(f"training tokens of {name}, which were not counted")
    if price is None:
        return unpriced(f"training tokens of {name}")
    return Cost(amount.value / MILLION * price.price, amount.status, priced=1, of=1)


def _merged(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    return a + tuple(x for x in b if x not in a)
