"""Numbers and texts as a reader sees them: one function for each kind of quantity.

Units are chosen here and nowhere else, so that every report says the same number in the same way. Texts
from data or a model pass through `clean`, which leaves nothing that could not be written as UTF-8. What the
page of a report says again when its reader turns a knob (money, volumes, shares, ratios) has its twin in
reports/templates/wording.js.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from breakeven.harness.results import MetricInfo

MINUS = "−"
DASH = "–"
UNKNOWN = "unknown"
SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}

#: Control characters, what UTF-8 cannot carry, and the two marks that force a direction on everything after
#: them ("txt.exe" shown as "exe.txt"); other direction marks do no harm once isolated.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e\ud800-\udfff\ufffe\uffff]")
_UNENCODABLE = re.compile("[\ud800-\udfff]")


# --- texts -----------------------------------------------------------------------------------


def clean(text: str) -> str:
    """The text for a reader: control characters and direction overrides visible, line ends as LF."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub(_visible, text) if _UNPRINTABLE.search(text) else text


def all_clean(texts: Sequence[str]) -> Sequence[str]:
    """`clean` of each, by one look at all of them together where there is nothing to clean."""
    together = "\n".join(texts)
    if "\r" in together or _UNPRINTABLE.search(together):
        return [clean(text) for text in texts]
    return texts


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code in (0x202D, 0x202E):
        return f"⟨U+{code:X}⟩"
    return "\u2421" if code == 0x7F else "\ufffd"


def encodable(text: str) -> str:
    """The text as it is, but for lone surrogates, which no UTF-8 file can hold."""
    return _UNENCODABLE.sub("\ufffd", text)


def plain(value: Any) -> str:
    """A JSON value as text: strings as they are, long lists an item a line, chat messages as `role: text`."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        if value and all(isinstance(m, Mapping) and set(m) == {"role", "content"} for m in value):
            return clean("\n".join(f"{m['role']}: {m['content']}" for m in value))
        items = [plain(v) for v in value]
        long = any(len(i) > 24 or "," in i or "\n" in i for i in items)
        return ("\n" if long else ", ").join(items)
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return clean(json.dumps(value, ensure_ascii=False))


def names(items: list[str], last: str = "and") -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}" if items else ""


def plural(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def date(iso: Any) -> str:
    """`20 Nov 2026, 09:05 UTC` of an ISO time; other values as they are."""
    try:
        when = datetime.fromisoformat(str(iso))
    except ValueError:
        return str(iso)
    day = f"{when.day} {when:%b %Y}"
    return f"{day}, {when:%H:%M} {when.tzname() or ''}".rstrip() if "T" in str(iso) else day


# --- quality ---------------------------------------------------------------------------------


def decimals(metric: MetricInfo) -> int:
    """3 for scores up to 1, 1 for scores up to 100 and open ranges."""
    return 3 if metric.range is not None and metric.range[1] - metric.range[0] <= 2 else 1


def quality(value: float | None, metric: MetricInfo) -> str:
    return UNKNOWN if value is None else _signless(f"{value:.{decimals(metric)}f}")


def interval(low: float, high: float, metric: MetricInfo) -> str:
    join = DASH if low >= 0 else " to "
    return f"{quality(low, metric)}{join}{quality(high, metric)}"


def signed(value: float, metric: MetricInfo) -> str:
    text = f"{value:+.{decimals(metric)}f}"
    return _signless(text) if float(text) == 0 else text.replace("-", MINUS)


def signed_interval(low: float, high: float, metric: MetricInfo) -> str:
    return f"{signed(low, metric)} to {signed(high, metric)}"


def _signless(text: str) -> str:
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


# --- consumption -----------------------------------------------------------------------------


def money(value: float | None, currency: str) -> str:
    """At least two digits that matter, cents below 100: `$0.00034`, `$0.12`, `$12.30`, `$243`, `$1,847`."""
    if value is None:
        return UNKNOWN
    symbol, unit = SYMBOLS.get(currency, ""), "" if currency in SYMBOLS else f" {currency}"
    amount = abs(value)
    if amount == 0:
        digits = "0"
    elif amount >= 99.995:
        digits = f"{amount:,.0f}"
    elif amount >= 1:
        digits = f"{amount:.2f}"
    elif amount < 5e-7:
        return f"under {symbol}0.000001{unit}"
    else:
        digits = f"{amount:.{1 - exponent(amount)}f}"
        if float(digits) >= 1:
            digits = "1.00"
    return f"{MINUS if value < 0 else ''}{symbol}{digits}{unit}"


def seconds(value: float | None) -> str:
    """`0.4 ms`, `12 ms`, `0.45 s`, `8.2 s`, `81 s`, `4 min 12 s`, `2 h 5 min`."""
    if value is None:
        return UNKNOWN
    if value <= 0:
        return "0 s"
    if value < 0.0095:
        return f"{value * 1000:.1f} ms"
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 0.995:
        return f"{value:.2f} s"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 119.5:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60:,} h {minutes % 60} min"


#: Minutes below this are not told apart.
LEAST_MINUTES = 0.1


def minutes(seconds: float | None) -> str:
    """Minutes with as many digits as are worth reading, `<0.1` for less than `LEAST_MINUTES`."""
    if seconds is None:
        return UNKNOWN
    value = seconds / 60
    if value < LEAST_MINUTES:
        return f"<{LEAST_MINUTES:g}" if value else "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def count(value: float | None) -> str:
    """Whole numbers with thousands; below 10 one decimal where there is a fraction."""
    if value is None:
        return UNKNOWN
    if value < 10 and value != int(value):
        return f"{value:.1f}"
    return f"{value:,.0f}"


def large(value: float | None, unit: str = "") -> str:
    """`7.9 T` of FLOPs, `2.1 G` of bytes: three digits and a decimal prefix."""
    if value is None:
        return UNKNOWN
    scaled = value
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if scaled < 999.5 or prefix == "E":
            break
        scaled /= 1000
    digits = f"{scaled:.3g}" if scaled < 1e4 else f"{scaled:.0f}"
    return f"{digits} {prefix}{unit}".rstrip()


def share(value: float) -> str:
    return f"{100 * value:.3g} %"


def percent(value: float) -> str:
    """A share to a tenth of a percent: `98 %`, `66.1 %`."""
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def p_value(p: float) -> str:
    """Two digits, as far as they are worth reading: `<0.001`, `0.0042`, `0.031`, `0.42`."""
    return "<0.001" if p < 0.001 else _digits(p, 2)


def times(ratio: float) -> str:
    """How many times, to two digits: `0.031`, `1.8`, `40`, `1,200`."""
    if ratio < 1:
        return _digits(ratio, 2)
    if ratio < 10:
        return f"{ratio:.1f}"
    return f"{_significant(ratio, 2):,.0f}"


def volume(value: float) -> str:
    """A number of requests to three digits: `13,200`, `1,330,000`."""
    if value < 100:
        return _digits(value, 2) if value < 10 else f"{value:.0f}"
    return f"{_significant(value, 3):,.0f}"


def exponent(value: float) -> int:
    """The power of ten of a number's first digit, as it is written."""
    return Decimal(repr(float(value))).adjusted() if value else 0


def _significant(value: float, digits: int) -> float:
    """Rounded, half up, to so many digits before the point; `value` has more of them."""
    scale = float(f"1e{max(0, exponent(value) - digits + 1)}")
    return math.floor(value / scale + 0.5) * scale


def _digits(value: float, digits: int) -> str:
    """With so many digits that matter, of a value below 10 or so."""
    return f"{value:.{max(0, digits - 1 - exponent(value))}f}"
