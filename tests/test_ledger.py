"""Unknown is not zero, and combining lines changes no sum."""

from __future__ import annotations

import pytest

from breakeven.harness.ledger import Amount, Ledger


def ledger() -> Ledger:
    made = Ledger()
    made.book("serve", "input_tokens", 10, source="counted", model="a")
    made.book("serve", "input_tokens", 5, source="counted", model="a")
    made.book("serve", "input_tokens", 2, source="rule of thumb", status="estimated", model="b")
    made.book("train", "bytes", 300, source="peak")
    made.book("train", "bytes", 200, source="peak")
    made.book("train", "joules", None, source="no meter")
    return made


def test_a_sum_over_an_unknown_amount_is_unknown() -> None:
    made = ledger()
    made.book("train", "joules", 7, source="NVML")
    assert made.total("joules") == Amount(None, "unknown")


def test_what_was_never_booked_is_a_measured_zero() -> None:
    assert ledger().total("money") == Amount(0.0, "measured")


def test_a_sum_with_an_estimate_in_it_is_an_estimate() -> None:
    assert ledger().total("input_tokens") == Amount(17, "estimated")
    assert ledger().total("input_tokens", model="a") == Amount(15, "measured")


def test_memory_is_a_peak_not_a_sum() -> None:
    assert ledger().total("bytes") == Amount(300)


def test_combining_lines_and_storing_them_changes_no_sum() -> None:
    made = ledger()
    stored = Ledger.from_json(made.compacted().to_json())
    assert len(stored.entries) == 4
    for quantity in ("input_tokens", "bytes", "joules", "money"):
        assert stored.total(quantity) == made.total(quantity)


def test_an_unknown_amount_cannot_carry_a_value() -> None:
    with pytest.raises(ValueError, match="cannot be 'unknown'"):
        Amount(3.0, "unknown")
