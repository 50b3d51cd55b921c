"""The price book: what a token, an hour, a kilowatt-hour costs, since when, and who says so.

Token prices come from genai-prices (offline, with history), everything else from `prices.yaml` beside this
file; a file of the user's own replaces entries of both. Whatever was looked up is remembered, so that a run
carries its prices with it. What things cost together is `breakeven.harness.costs`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from breakeven.harness.contracts import Usage
from breakeven.harness.errors import UserError
from breakeven.harness.yamlfile import YamlFile, validated

Kind = Literal["exchange", "machine_hours", "electricity", "training_tokens", "hosting_hours", "batches"]
UNITS: Mapping[Kind, str] = {
    "exchange": "unit of currency",
    "machine_hours": "hour",
    "electricity": "kWh",
    "training_tokens": "million training tokens",
    "hosting_hours": "hour",
    "batches": "unit of the token price",
}
#: Before a model's name: its tokens in the provider's batch mode.
_BATCH = "batch/"
SHIPPED = Path(__file__).with_name("prices.yaml")
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Price:
    """`price` in `currency` per `unit`. `checked` is False when the source is not the seller's own page."""

    kind: Kind
    name: str
    price: float
    currency: str
    date: date
    source: str
    checked: bool = True
    note: str = ""

    @property
    def unit(self) -> str:
        return UNITS[self.kind]

    def __str__(self) -> str:
        return f"{self.price:g} {self.currency} per {self.unit} ({self.name}, {self.date})"


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of a request whose whole input is longer than `above` tokens: they hold for all its tokens."""

    above: int
    input: float
    output: float
    cached_input: float | None = None


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Prices per million tokens, and `per_request` where a provider asks for that too.

    `cached_input=None`: no discount. `matched` is what the price list calls the model, `context` its window.
    """

    name: str
    input: float
    output: float
    currency: str
    date: date
    source: str
    cached_input: float | None = None
    per_request: float = 0.0
    tiers: tuple[Tier, ...] = ()
    matched: str = ""
    checked: bool = True
    note: str = ""
    context: int | None = None

    def cost(self, usage: Usage, *, cached_discount: bool = False) -> float:
        """What one request costs. The provider's discount on cached input counts only if asked for."""
        rate: Tier | TokenPrice = self
        for tier in self.tiers:  # in ascending order
            if usage.input_tokens > tier.above:
                rate = tier
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        if not cached_discount or rate.cached_input is None:
            cached = 0
        money = (usage.input_tokens - cached) * rate.input + usage.output_tokens * rate.output
        if rate.cached_input is not None:
            money += cached * rate.cached_input
        return money / MILLION + self.per_request

    def times(self, factor: float, currency: str) -> TokenPrice:
        """The same in another currency."""

        def f(value: float | None) -> float | None:
            return None if value is None else value * factor

        tiers = tuple(
            Tier(t.above, t.input * factor, t.output * factor, f(t.cached_input)) for t in self.tiers
        )
        return replace(
            self,
            input=self.input * factor,
            output=self.output * factor,
            cached_input=f(self.cached_input),
            per_request=self.per_request * factor,
            tiers=tiers,
            currency=currency,
        )


# --- the file, as people type it -------------------------------------------------------------

Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    currency: str = Field(pattern="^[A-Z]{3}$")
    date: date
    source: str = Field(min_length=1)
    checked: bool = True
    note: str = ""


class _Plain(_Entry):
    price: Money


class _Tier(BaseModel):
    model_config = ConfigDict(extra="forbid")

    above: int
    input: Money
    output: Money
    cached_input: Money | None = None


class _Tokens(_Entry):
    input: Money
    output: Money
    cached_input: Money | None = None
    per_request: Money = 0.0
    tiers: list[_Tier] = []
    matched: str = ""
    context: int | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    exchange: dict[str, _Plain] = {}
    machine_hours: dict[str, _Plain] = {}
    electricity: dict[str, _Plain] = {}
    training_tokens: dict[str, _Plain] = {}
    hosting_hours: dict[str, _Plain] = {}
    batches: dict[str, _Plain] = {}
    tokens: dict[str, _Tokens] = {}


class PriceBook:
    """Prices by name, in one currency. Every price handed out is remembered (`used`).

    Args:
        entries: (kind or "tokens", name) -> price.
        currency: what prices are converted into, by the book's own dated exchange rates.
        on: the day whose token prices count; today unless told.
        lists: whether genai-prices is asked for what `entries` does not have.
    """

    def __init__(
        self,
        entries: Mapping[tuple[str, str], Price | TokenPrice],
        *,
        currency: str = "USD",
        on: date | None = None,
        lists: bool = True,
    ) -> None:
        self.currency, self.on = currency, on or datetime.now(UTC).date()
        self._entries, self._lists = dict(entries), lists
        self._used: dict[tuple[str, str], Price | TokenPrice] = {}

    @classmethod
    def load(
        cls, override: Path | str | None = None, *, currency: str = "USD", on: date | None = None
    ) -> PriceBook:
        """The shipped prices, and over them the user's own file.

        Raises:
            UserError: the file has a mistake, or there is no exchange rate into `currency`.
        """
        shipped = YamlFile(SHIPPED)
        entries = dict(_entries(validated(_File, shipped.data, shipped)))
        source = YamlFile(Path(override)) if override is not None else None
        own = dict(_entries(validated(_File, source.data, source))) if source is not None else {}
        book = cls({**entries, **own}, currency=currency, on=on)
        for (kind, name), entry in own.items():
            if kind != "exchange":
                _locate(source, kind, name, lambda entry=entry: book._rate(entry.currency))
        book._rate("USD")  # what genai-prices speaks
        book._used.clear()
        return book

    @classmethod
    def recorded(cls, used: Mapping[str, Any], *, currency: str = "USD", on: date | None = None) -> PriceBook:
        """The book of a finished run: what `used` returned then, and nothing else."""
        return cls(dict(_entries(validated(_File, used))), currency=currency, on=on, lists=False)

    def token_price(
        self, model: str, provider: str | None = None, on: date | None = None
    ) -> TokenPrice | None:
        """Price of a model's tokens on a day, or None where nobody says.

        Args:
            model: "gpt-4o-mini", or with its provider or server: "azure/gpt-4o-mini", "127.0.0.1/my-model".
            provider: as in genai-prices ("openai", "azure", "together", ...), or a server of your own, whose
                models are only found in price files.
        """
        name = f"{provider}/{model}" if provider else model
        found = self._find("tokens", name)
        if found is None and name.startswith(_BATCH):
            return self._batch_price(name, on)
        if found is None and self._lists:
            from breakeven.harness import _genai

            found = _genai.token_price(name, on or self.on)
        if not isinstance(found, TokenPrice):
            return None
        self._used["tokens", name] = replace(found, name=name)
        rate = self._rate(found.currency)
        return found if rate == 1.0 else found.times(rate, self.currency)

    def _batch_price(self, name: str, on: date | None) -> TokenPrice | None:
        """The plain price times the provider's factor; None where it states none. Its discounts do not add
        up."""
        plain, factor = (
            self.token_price(name.removeprefix(_BATCH), on=on),
            self._find("batches", name.removeprefix(_BATCH)),
        )
        if plain is None or not isinstance(factor, Price):
            return None
        made = replace(
            plain.times(factor.price, plain.currency),
            name=name,
            cached_input=None,
            checked=plain.checked and factor.checked,
            note="; ".join(
                n for n in (plain.note, f"batch mode, {factor.price:g} of the price ({factor.source})") if n
            ),
        )
        self._used["tokens", name] = made
        return made

    def machine_hour(self, name: str) -> Price | None:
        """Price of a machine for an hour, e.g. "cpu-2", "l4"."""
        return self._price("machine_hours", name)

    def training_tokens(self, model: str) -> Price | None:
        """Price of a million training tokens (tokens of the file x epochs) at a fine-tuning service."""
        return self._price("training_tokens", model.removeprefix(_BATCH))

    def hosting_hour(self, name: str) -> Price | None:
        """Price of an hour of a dedicated deployment, e.g. "azure/standard"."""
        return self._price("hosting_hours", name)

    def electricity(self, name: str) -> Price | None:
        """Price of a kilowatt-hour, e.g. "us-business"."""
        return self._price("electricity", name)

    def names(self, kind: Kind) -> list[str]:
        return sorted(n for k, n in self._entries if k == kind)

    def check(self, kind: Kind, name: str, *, field: str | None = None) -> None:
        """Raises UserError when the book has no such price, with the names it has."""
        if self._find(kind, name) is None:
            known = self.names(kind)
            close = difflib.get_close_matches(name, known, n=2)
            raise UserError(
                f"there is no price of '{name}' per {UNITS[kind]}",
                field=field,
                hint=f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}",
            )

    def used(self) -> dict[str, Any]:
        """Every price handed out so far, as JSON of the same shape as a price file."""
        made: dict[str, Any] = {}
        for (kind, name), entry in sorted(self._used.items()):
            row = {k: v for k, v in asdict(entry).items() if k not in ("kind", "name")}
            made.setdefault(kind, {})[name] = {**row, "date": entry.date.isoformat()}
        return made

    def _price(self, kind: Kind, name: str) -> Price | None:
        found = self._find(kind, name)
        if not isinstance(found, Price):
            return None
        self._used[kind, name] = replace(found, name=name)
        rate = self._rate(found.currency)
        return replace(found, name=name, price=found.price * rate, currency=self.currency)

    def _find(self, kind: str, name: str) -> Price | TokenPrice | None:
        """The entry of that name, else the one with the longest pattern `beginning*` that fits."""
        names = _spellings(name) if kind in ("tokens", "training_tokens", "batches") else (name,)
        for spelling in names:
            if (kind, spelling) in self._entries:
                return self._entries[kind, spelling]
        patterns = [n for k, n in self._entries if k == kind and n.endswith("*")]
        fitting = [p for p in patterns if any(s.startswith(p[:-1]) for s in names)]
        return self._entries[kind, max(fitting, key=len)] if fitting else None

    def _rate(self, currency: str) -> float:
        """How much of the book's currency one unit of `currency` is."""
        if currency == self.currency:
            return 1.0
        for a, b, inverse in ((currency, self.currency, False), (self.currency, currency, True)):
            entry = self._entries.get(("exchange", a))
            if isinstance(entry, Price) and entry.currency == b and entry.price > 0:
                self._used["exchange", a] = entry
                return 1 / entry.price if inverse else entry.price
        if "USD" not in (currency, self.currency):
            return self._via_dollar(currency)
        raise UserError(
            f"there is no exchange rate between {currency} and {self.currency}",
            field="exchange",
            hint=f"add it to your price file: exchange: {{{currency}: {{price: ..., "
            f"currency: {self.currency}, date: ..., source: ...}}}}",
        )

    def _via_dollar(self, currency: str) -> float:
        dollars = PriceBook(self._entries, currency="USD", on=self.on)
        rate = dollars._rate(currency) / dollars._rate(self.currency)
        self._used.update(dollars._used)
        return rate


def batch_name(model: str) -> str:
    """The book's name for a model's tokens in its provider's batch mode."""
    return _BATCH + model


def _spellings(name: str) -> tuple[str, ...]:
    """A model's name with and without its provider; one without belongs to OpenAI, if to anybody."""
    from breakeven.harness._genai import split

    provider, model = split(name)
    return (name, model) if provider else (name, f"openai/{name}")


def _entries(file: _File) -> Iterator[tuple[tuple[str, str], Price | TokenPrice]]:
    for kind in UNITS:
        for name, plain in getattr(file, kind).items():
            yield (kind, name), Price(kind=kind, name=name, **plain.model_dump())
    for name, tokens in file.tokens.items():
        row = tokens.model_dump()
        row["tiers"] = tuple(Tier(**t) for t in sorted(row["tiers"], key=lambda t: t["above"]))
        yield ("tokens", name), TokenPrice(name=name, **row)


def _locate(source: YamlFile | None, kind: str, name: str, check: Any) -> None:
    """Run `check`; its UserError gets the place in the user's file."""
    try:
        check()
    except UserError as error:
        where = (kind, name, "currency")
        raise UserError(
            error.what,
            file=source.path if source else None,
            line=source.line(where) if source else None,
            field=".".join(where),
            hint=error.hint,
        ) from None
