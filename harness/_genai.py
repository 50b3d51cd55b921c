"""Token prices of the genai-prices package: offline, dated, with history.

Knows how that package names providers and models; everything else about prices is `breakeven.harness.prices`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Any

from breakeven.harness.prices import Tier, TokenPrice


def split(name: str) -> tuple[str | None, str]:
    """("azure", "gpt-4o") of "azure/gpt-4o"; (None, "org/model") where the first part is no provider."""
    first, slash, rest = name.partition("/")
    if slash and (first in _providers() or "." in first or ":" in first or first == "localhost"):
        return first, rest
    return None, name


@cache
def _providers() -> frozenset[str]:
    from genai_prices import data_snapshot

    return frozenset(p.id for p in data_snapshot.get_snapshot().providers)


def provider_of(base_url: str) -> str | None:
    """The provider that genai-prices knows behind a base URL, e.g. "openai"; None for any other server."""
    from genai_prices import data_snapshot

    for provider in data_snapshot.get_snapshot().providers:
        if re.match(provider.api_pattern, base_url):
            return str(provider.id)
    return None


def token_price(name: str, on: date) -> TokenPrice | None:
    """The price that genai-prices gives for a model on a day; the dearest hour of that day."""
    from genai_prices import data_snapshot

    provider_id, model_name = split(name)
    if provider_id is None and model_name.startswith("ft:"):
        provider_id = "openai"
    if provider_id is not None and provider_id not in _providers():
        return None
    snapshot = data_snapshot.get_snapshot()
    try:
        provider, model = snapshot.find_provider_model(model_name, None, provider_id, None)
    except LookupError:
        return None
    hours = [model.get_prices(datetime.combine(on, time(h), tzinfo=UTC)) for h in range(24)]
    known = [p for p in hours if p.input_mtok is not None and p.output_mtok is not None]
    if len(known) < len(hours):
        return None
    dearest = max(known, key=lambda p: (_base(p.input_mtok), _base(p.output_mtok)))
    notes = ["dearest hour of a price that varies over the day"] if any(p != dearest for p in known) else []
    if provider.id not in ("openai", "azure") and any("write" in k for k in dearest.__dict__):
        notes.append("writing to the prompt cache costs extra, not counted")
    return TokenPrice(
        name=name,
        input=_base(dearest.input_mtok),
        output=_base(dearest.output_mtok),
        cached_input=_base(dearest.cache_read_mtok) if dearest.cache_read_mtok is not None else None,
        per_request=_base(dearest.requests_kcount) / 1000 if dearest.requests_kcount is not None else 0.0,
        tiers=_tiers(dearest),
        currency="USD",
        date=min(on, _list_date()),
        source=f"genai-prices {_version()}: {(provider.pricing_urls or [provider.id])[0]}",
        matched=f"{provider.id}/{model.id}",
        note="; ".join(notes),
        context=model.context_window,
    )


def _base(price: Any) -> float:
    return float(getattr(price, "base", price))


def _tiers(price: Any) -> tuple[Tier, ...]:
    """The tiers of input, output and cached input, brought together."""

    def at(value: Any, start: int) -> float:
        tiers = [t for t in getattr(value, "tiers", []) if t.start <= start]
        return float(max(tiers, key=lambda t: t.start).price) if tiers else _base(value)

    fields = [v for v in (price.input_mtok, price.output_mtok, price.cache_read_mtok) if v is not None]
    starts = sorted({t.start for v in fields for t in getattr(v, "tiers", [])})
    cached = price.cache_read_mtok
    return tuple(
        Tier(
            above=start,
            input=at(price.input_mtok, start),
            output=at(price.output_mtok, start),
            cached_input=at(cached, start) if cached is not None else None,
        )
        for start in starts
    )


def _version() -> str:
    from importlib.metadata import version

    return version("genai-prices")


@cache
def _list_date() -> date:
    """The latest past day that the price list mentions: it cannot know what changed later."""
    from genai_prices import data_snapshot

    today, latest = datetime.now(UTC).date(), date(2024, 1, 1)
    for provider in data_snapshot.get_snapshot().providers:
        for text in (provider.price_comments, *(m.price_comments for m in provider.models)):
            for found in re.findall(r"\b20\d\d-[01]\d-[0-3]\d\b", text or ""):
                try:
                    day = date.fromisoformat(found)
                except ValueError:
                    continue
                if latest < day <= today:
                    latest = day
    return latest
