"""Deployments that are billed by the hour: written down before they are made, deleted whatever happens.

Every deployment has a row in the run's `hosting.json` before it is asked for, so that a run that was killed
finds and deletes it at its next start; a row without `deleted` is an alarm, on the terminal and in the
report. Its hours are taken from the run's purse before they begin.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from breakeven.harness import store
from breakeven.harness._control import (
    AGAIN,
    CONTROL_URL,
    Plan,
    Unreached,
    call,
    check_token,
    given_token_ends_within,
    state,
)
from breakeven.harness.errors import UserError
from breakeven.harness.prices import Price, PriceBook
from breakeven.harness.spending import SpendGuard

__all__ = ["CONTROL_URL", "FILE", "Deployment", "Plan", "Record", "check_token", "serving", "sweep"]

FILE = "hosting.json"
#: While a deployment is asked its token must last so long, or there is none left to delete it with.
LAST_TOKEN_SECONDS = 300.0
#: An hour is paid so many seconds before it begins.
_AHEAD = 60.0
_WAITS = (2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
#: One process writes a run's file, but from several threads and for several models.
_writing = threading.RLock()


def pause(seconds: float) -> None:
    """Wait between two looks at the control plane."""
    time.sleep(seconds)


class Record:
    """The run's deployments in a file: what was asked for, by which cell, until when.

    Read anew each time, since every model of a run has a record of its own on the same file. Rows are never
    taken away, so that a row's number stays. `file=None` remembers them in memory only.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []

    @property
    def rows(self) -> list[dict[str, Any]]:
        with _writing:
            if self._file is not None:
                self._rows = store.read_json(self._file, [])
            return [dict(row) for row in self._rows]

    def open(self, plan: Plan, owner: str) -> int:
        """Written before the deployment is asked for; returns the number of its row."""
        with _writing:
            rows = self.rows
            row = {"plan": asdict(plan), "owner": owner, "asked": _now(), "deleted": None, "why": ""}
            self._save([*rows, row])
            return len(rows)

    def close(self, number: int) -> None:
        self._change(number, deleted=_now(), why="")

    def failed(self, number: int, why: str) -> None:
        self._change(number, why=why)

    def still_there(self) -> list[int]:
        return [n for n, row in enumerate(self.rows) if row["deleted"] is None]

    def seconds(self, owner: str) -> float:
        """How long the deployments of `owner` existed, those still there up to now."""
        return sum(seconds_of(row) for row in self.rows if row["owner"] == owner)

    def _change(self, number: int, **values: Any) -> None:
        with _writing:
            rows = self.rows
            rows[number].update(values)
            self._save(rows)

    def _save(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        if self._file is not None:
            store.write_json(self._file, rows)


class Deployment:
    """A plan that can be carried out: there while it is needed, and no longer."""

    def __init__(self, plan: Plan, record: Record, book: PriceBook, guard: SpendGuard) -> None:
        self.plan, self.record, self._book, self._guard = plan, record, book, guard
        self._number: int | None = None
        self._lock = threading.Lock()
        self._looked = 0.0

    def ensure(self, owner: str) -> None:
        """Have it serving; nothing happens when it already does.

        Raises:
            UserError: the control plane refuses, or the deployment fails. Nothing is left behind then.
            SpendingLimitReached: there is no room for an hour of it.
        """
        with self._lock:
            if self._number is not None:
                return
            check_token(self.plan)
            number = len(self.record.rows)
            _pay(self._guard, number, self._hour, 1)
            # before it is made: a kill from here on is mended
            self._number = self.record.open(self.plan, owner)
            try:
                self._put()
                self._wait()
            except BaseException as error:
                self._remove(unsure=isinstance(error, Unreached))
                raise

    def keep(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """To be said before each request: pays the next hour, and looks whether it can still be deleted.

        Raises:
            SpendingLimitReached: there is no room for another hour.
            UserError: the token is about to end.
        """
        number = self._number
        if number is None or time.monotonic() - self._looked < 1.0:
            return
        self._looked = time.monotonic()
        seconds = seconds_of(self.record.rows[number]) + _AHEAD
        _pay(self._guard, number, self._hour, math.ceil(seconds / 3600), stopped)
        if given_token_ends_within(self.plan, LAST_TOKEN_SECONDS):
            raise UserError(
                f"the token in {self.plan.token_env} is about to end, and the deployment is deleted while it "
                "still can be",
                field="weights.deployment.token_env",
                hint="set a new one and resume the run: it goes on where it stopped",
            )

    def delete(self) -> None:
        """Stop the clock. Where that fails it says so as loudly as it can, and the row stays open."""
        self._remove(unsure=False)

    def _remove(self, unsure: bool) -> None:
        if self._number is None:
            return
        number, self._number = self._number, None
        remove(self.record, number, self._hour, self._guard, unsure=unsure)

    @property
    def _hour(self) -> Price | None:
        return self._book.hosting_hour(self.plan.hour)

    def _put(self) -> None:
        """Asked again while the one of the same name that a cell before had is still being deleted."""
        for seconds in (2.0, 8.0, 30.0, 60.0, None):
            try:
                call("PUT", self.plan, self.plan.body)
                return
            except UserError as error:
                if seconds is None or not error.what.endswith(AGAIN):
                    raise
            pause(seconds)

    def _wait(self) -> None:
        began = time.monotonic()
        seconds = 1.0
        while True:
            try:
                found, said = state(call("GET", self.plan))
            except UserError as error:
                if not error.what.endswith(AGAIN):
                    raise
                found, said = "", error.what
            if found == "succeeded":
                return
            if found in ("failed", "canceled", "disabled", "deleting"):
                raise UserError(
                    f"the deployment of '{self.plan.model}' {found}: {said or 'no reason was given'}",
                    field="weights.deployment",
                )
            if time.monotonic() - began > self.plan.patience:
                raise UserError(
                    f"the deployment of '{self.plan.model}' does not serve after {self.plan.patience:.0f} s "
                    f"({found or said or 'no state'}); it was deleted",
                    field="weights.deployment",
                    hint="raise patience, or look at it in the portal",
                )
            self.keep()
            pause(seconds)
            seconds = min(seconds * 1.5, 30.0)


def remove(
    record: Record, number: int, hour: Price | None, guard: SpendGuard | None = None, *, unsure: bool = False
) -> bool:
    """Delete the deployment of a row, and say whether it is gone; loud where it is not.

    Gone is what the control plane does not find any more, not what it has promised to delete. `unsure`: it
    may still be about to appear, so that not finding it once says nothing.
    """
    plan = Plan.of(record.rows[number]["plan"])
    why, missing = "", 0
    for seconds in (*_WAITS, None):
        try:
            reply = call("DELETE", plan, missing_is_fine=True)
            if reply.status_code != 404:
                reply = call("GET", plan, missing_is_fine=True)
            missing = missing + 1 if reply.status_code == 404 else 0
            if missing > int(unsure):
                record.close(number)
                if guard is not None:
                    hours = math.ceil(seconds_of(record.rows[number]) / 3600)
                    guard.bill(_charge(number), hours * hour.price if hour is not None else 0.0)
                return True
            why = "it was to be deleted, and is still there"
        except UserError as error:
            why = error.what
            if not why.endswith(AGAIN):  # refused for good: a token that has ended, a right that is not given
                break
        if seconds is not None:
            pause(seconds)
    record.failed(number, why)
    sys.stderr.write(f"\n{'!' * 4} {alarm(record.rows[number], hour)}\n\n")
    return False


def sweep(folder: Path, book: PriceBook, say: Callable[[str], None], guard: SpendGuard | None = None) -> None:
    """Delete what an earlier process of this run left behind."""
    record = Record(folder / FILE)
    for number in record.still_there():
        plan = Plan.of(record.rows[number]["plan"])
        if remove(record, number, book.hosting_hour(plan.hour), guard):
            hours = seconds_of(record.rows[number]) / 3600
            say(f"deployment {plan.name} was left by a stopped run and is deleted now, after {hours:.1f} h")


def alarms(folder: Path, book: PriceBook) -> list[str]:
    """A sentence for every deployment that is still billed."""
    record = Record(folder / FILE)
    return [
        alarm(record.rows[n], book.hosting_hour(Plan.of(record.rows[n]["plan"]).hour))
        for n in record.still_there()
    ]


def alarm(row: Mapping[str, Any], hour: Price | None) -> str:
    plan = Plan.of(row["plan"])
    rate = (
        f"{hour.price:g} {hour.currency} an hour"
        if hour is not None
        else "a price per hour that nobody knows"
    )
    why = f" ({row['why']})" if row.get("why") else ""
    return (
        f"DEPLOYMENT {plan.name} ON {plan.resource} IS STILL THERE AND COSTS {rate}, since "
        f"{row['asked']}{why}. "
        "Delete it in the portal, or resume the run with a valid token"
    )


def seconds_of(row: Mapping[str, Any]) -> float:
    """From asking for a deployment until it was deleted, or until now."""
    end = datetime.fromisoformat(row["deleted"]) if row.get("deleted") else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(row["asked"])).total_seconds())


@contextlib.contextmanager
def serving(engine: Any, ledger: Any, owner: str) -> Iterator[None]:
    """While this lasts, an engine's deployment may be there; afterwards it is not, and its hours are
    booked."""
    raw = getattr(engine, "raw", engine)
    deployment: Deployment | None = getattr(raw, "deployment", None)
    if deployment is None:
        yield
        return
    raw.owner = owner
    try:
        yield
    finally:
        deployment.delete()
        seconds = deployment.record.seconds(owner)
        if seconds:
            ledger.book(
                "host",
                "seconds",
                seconds,
                source="from asking for the deployment until it was deleted",
                model=engine.describe().name,
                hardware=deployment.plan.hour,
            )


def _pay(
    guard: SpendGuard,
    number: int,
    hour: Price | None,
    hours: int,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Take so many hours from the purse; a started one counts whole."""
    if hour is not None:
        guard.charge(_charge(number), max(hours, 1) * hour.price, stopped)


def _charge(number: int) -> str:
    return f"deployment {number + 1}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
