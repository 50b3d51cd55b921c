"""Several data sets as one, in stated ratios. Nothing is repeated and nothing is drawn by chance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TypeVar

from breakeven.harness.errors import UserError

T = TypeVar("T")


def mixed(
    parts: Sequence[tuple[str, Sequence[T]]],
    ratios: Sequence[float] | None,
    most: int | None,
    content: Callable[[T], str],
) -> list[T]:
    """The rows of all parts, each part in its order, in the ratios given.

    Which rows of a part are taken depends on their content alone, not on their order: those whose hashes are
    smallest, so that a smaller mixture is a subset of a larger one.

    Args:
        parts: names and rows.
        ratios: shares in any unit (7 and 3, 0.7 and 0.3); None takes everything.
        most: rows of the mixture; None: as many as the scarcest part allows.
        content: what a row is hashed by.

    Raises:
        UserError: a ratio that is not above 0; a part with no rows, or too few for `most`.
    """
    sizes = [len(rows) for _, rows in parts]
    if ratios is None and most is None:
        return [row for _, rows in parts for row in rows]
    if ratios is not None and not all(ratio > 0 and math.isfinite(ratio) for ratio in ratios):
        raise UserError("a ratio should be above 0", field="ratio", hint="leave the data set out instead")
    if ratios is not None and 0 in sizes:
        raise UserError(
            f"{parts[sizes.index(0)][0]} has no rows, so that nothing can be mixed with it",
            field="ratio",
            hint="leave the data set out instead",
        )
    weights = _whole(sizes if ratios is None else ratios)
    total = sum(weights)
    if not total:
        return []
    scarcest = min((i for i, w in enumerate(weights) if w), key=lambda i: Fraction(sizes[i], weights[i]))
    largest = sizes[scarcest] * total // weights[scarcest]
    wanted = largest if most is None else most
    if wanted > largest:
        (name, rows), share = parts[scarcest], weights[scarcest] / total
        raise UserError(
            f"{name} has {len(rows):,} rows, and {share:.0%} of {wanted:,} are {math.ceil(wanted * share):,}",
            field="examples",
            hint=f"at most {largest:,} examples can be mixed in these ratios",
        )
    counts = apportioned(wanted, weights)
    return [
        row for (_, rows), count in zip(parts, counts, strict=True) for row in _first(rows, count, content)
    ]


def apportioned(n: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `n`, in the shares given, none of which shrinks as `n` grows.

    Each is its exact share rounded up or down. The largest remainders would be so too, but take from one to
    give to others as `n` grows (the Alabama paradox). This is the quota method of Balinski and Young ("The
    quota method of apportionment", American Mathematical Monthly 82, 1975): one after the other goes to whom
    it leaves with most share for each, among those who stay below their share rounded up.
    """
    weights = _whole(shares)
    total = sum(weights)
    counts = [0] * len(weights)
    for size in range(1, n + 1):
        best = -1
        for i, weight in enumerate(weights):
            if counts[i] * total >= size * weight:
                continue
            if best < 0 or weight * (counts[best] + 1) > weights[best] * (counts[i] + 1):
                best = i
        counts[best] += 1
    return counts


def _whole(shares: Sequence[float]) -> list[int]:
    """Whole numbers in the same ratios, as those are written: 0.7 and 0.3 are 7 and 3, and not about so."""
    exact = [Fraction(str(share)) for share in shares]
    unit = math.lcm(*(share.denominator for share in exact))
    whole = [int(share * unit) for share in exact]
    common = math.gcd(*whole) or 1
    return [share // common for share in whole]


def _first(rows: Sequence[T], count: int, content: Callable[[T], str]) -> list[T]:
    if count >= len(rows):
        return list(rows)
    hashes = [hashlib.sha256(content(row).encode("utf-8", "surrogatepass")).digest() for row in rows]
    chosen = sorted(range(len(rows)), key=lambda i: (hashes[i], i))[:count]
    return [rows[i] for i in sorted(chosen)]
