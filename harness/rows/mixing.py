"""Several data sets as one, in stated ratios. Nothing is repeated and nothing is drawn by chance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
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
        UserError: a ratio that is not above 0; a part with too few rows for `most`.
    """
    sizes = [len(rows) for _, rows in parts]
    if ratios is not None and not all(ratio > 0 and math.isfinite(ratio) for ratio in ratios):
        raise UserError("a ratio should be above 0", field="ratio", hint="leave the data set out instead")
    weights = [float(size) for size in sizes] if ratios is None else list(ratios)
    total = sum(weights)
    if not total:
        return []
    shares = [weight / total for weight in weights]
    largest = min(size / share for size, share in zip(sizes, shares, strict=True) if share)
    wanted = math.floor(largest + 1e-9) if most is None else most
    counts = apportioned(wanted, shares)
    for (name, rows), count, share in zip(parts, counts, shares, strict=True):
        if count > len(rows):
            raise UserError(
                f"{name} has {len(rows):,} rows, and {share:.0%} of {wanted:,} are {count:,}",
                field="examples",
                hint=f"at most {math.floor(largest):,} examples can be mixed in these ratios",
            )
    return [
        row for (_, rows), count in zip(parts, counts, strict=True) for row in _first(rows, count, content)
    ]


def apportioned(n: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers that sum to `n`, in the shares given: those rounded down most get one more (Hamilton)."""
    exact = [n * share for share in shares]
    counts = [math.floor(x + 1e-9) for x in exact]
    by_rest = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_rest[: n - sum(counts)]:
        counts[i] += 1
    return counts


def _first(rows: Sequence[T], count: int, content: Callable[[T], str]) -> list[T]:
    if count >= len(rows):
        return list(rows)
    hashes = [hashlib.sha256(content(row).encode("utf-8", "surrogatepass")).digest() for row in rows]
    chosen = sorted(range(len(rows)), key=lambda i: (hashes[i], i))[:count]
    return [rows[i] for i in sorted(chosen)]
