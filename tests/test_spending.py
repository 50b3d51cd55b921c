"""The purse of a run: reservations keep the limit from being crossed, whoever asks and whatever breaks."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from breakeven.harness.errors import SpendingLimitReached, UserError
from breakeven.harness.spending import SpendGuard, Standing, standing


def test_a_reservation_counts_until_it_is_settled_with_what_was_spent() -> None:
    guard = SpendGuard(10.0)
    first = guard.reserve(8.0)
    assert (guard.spent, guard.reserved) == (0.0, 8.0)
    guard.settle(first, 3.0)
    assert (guard.spent, guard.reserved) == (3.0, 0.0)


def test_what_cannot_fit_is_refused_at_once_and_reserves_nothing() -> None:
    guard = SpendGuard(1.0)
    with pytest.raises(SpendingLimitReached, match=r"limit of 1 EUR|limit of 1 USD"):
        guard.reserve(1.5)
    assert guard.reserved == 0.0


def test_exactly_the_limit_may_be_spent() -> None:
    guard = SpendGuard(0.3)
    for _ in range(3):
        guard.settle(guard.reserve(0.1), 0.1)
    assert guard.spent == pytest.approx(0.3)


def test_it_waits_while_a_request_under_way_may_still_make_room() -> None:
    guard = SpendGuard(1.0)
    first = guard.reserve(0.9)
    threading.Timer(0.05, guard.settle, (first, 0.1)).start()
    guard.settle(guard.reserve(0.8), 0.8)
    assert guard.spent == pytest.approx(0.9)


def test_waiting_ends_when_the_caller_is_told_to_stop() -> None:
    guard = SpendGuard(1.0)
    guard.reserve(0.9)
    with pytest.raises(SpendingLimitReached):
        guard.reserve(0.5, cancelled=lambda: True)


def test_many_threads_together_never_cross_the_limit() -> None:
    guard, over = SpendGuard(5.0), []

    def spend() -> None:
        while True:
            try:
                reservation = guard.reserve(0.05)
            except SpendingLimitReached:
                return
            if guard.spent + guard.reserved > 5.0 + 1e-9:
                over.append(guard.spent)
            guard.settle(reservation, 0.04)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not over
    assert 4.9 < guard.spent <= 5.0


def test_without_a_limit_it_only_counts() -> None:
    guard = SpendGuard(None)
    guard.settle(guard.reserve(1e9), 1e9)
    assert guard.spent == 1e9


def test_a_charge_said_twice_counts_once(tmp_path: Path) -> None:
    """Whoever was killed between paying and noting it pays again under the same name."""
    file = tmp_path / "spending.json"
    for _ in range(2):
        guard = SpendGuard(10.0, file=file)
        guard.charge("job a", 6.0)
    assert guard.spent == 6.0
    for _ in range(2):
        guard = SpendGuard(10.0, file=file)
        guard.bill("job a", 2.0)
    assert SpendGuard(10.0, file=file).spent == 2.0


def test_a_charge_beyond_the_limit_is_refused_and_leaves_what_stood() -> None:
    guard = SpendGuard(10.0)
    guard.charge("job a", 6.0)
    with pytest.raises(SpendingLimitReached):
        guard.charge("job b", 5.0)
    with pytest.raises(SpendingLimitReached):
        guard.charge("job a", 11.0)
    guard.charge("job a", 3.0)  # less than stands already
    assert guard.spent == 6.0


def test_what_was_billed_counts_even_beyond_the_limit() -> None:
    guard = SpendGuard(10.0)
    guard.charge("job a", 6.0)
    guard.bill("job a", 12.0)
    with pytest.raises(SpendingLimitReached):
        guard.reserve(0.01)
    assert guard.spent == 12.0


def test_money_of_another_currency_is_not_counted_as_this_one(tmp_path: Path) -> None:
    SpendGuard(10.0, file=tmp_path / "spending.json").charge("job a", 6.0)
    with pytest.raises(UserError, match="has spent USD"):
        SpendGuard(10.0, currency="EUR", file=tmp_path / "spending.json")


def test_after_a_crash_what_was_under_way_counts_as_spent(tmp_path: Path) -> None:
    before = SpendGuard(10.0, file=tmp_path / "spending.json")
    before.settle(before.reserve(2.0), 1.5)
    before.reserve(4.0)  # and then the process dies
    assert SpendGuard(10.0, file=tmp_path / "spending.json").spent == 5.5


def test_what_is_set_aside_is_told_apart_from_what_was_billed(tmp_path: Path) -> None:
    file = tmp_path / "spending.json"
    assert standing(file) == Standing()
    guard = SpendGuard(10.0, file=file)
    guard.charge("job a", 6.0, likely=2.0)
    guard.charge("job b", 1.0)
    guard.bill("job b", 1.0)  # as much as was set aside, and billed all the same
    guard.reserve(0.5)  # and then the process dies
    after = SpendGuard(10.0, file=file)
    assert after.standing() == standing(file) == Standing(1.0, {"job a": 2.0}, 0.5)
    assert after.spent == 7.5  # what the limit is held against
    with pytest.raises(SpendingLimitReached, match=r"1 spent and 6.5 set aside"):
        after.charge("job c", 5.0)
    after.bill("job a", 3.0)
    assert standing(file) == Standing(4.0, {}, 0.5)


def test_a_purse_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    file = tmp_path / "spending.json"
    file.write_text('{"spent": 3.0, "reserved": 1.0, "charges": {"job a": 2.0}, "currency": "EUR"}')
    assert standing(file) == Standing(3.0, {}, 1.0)
