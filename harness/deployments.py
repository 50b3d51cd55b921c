"""Deployments that are billed by the hour: written down before they are made, deleted whatever happens.

The control plane of Azure: PUT makes one, GET says how far it is, DELETE stops the clock. Every deployment
has a row in the run's `hosting.json` before it is asked for, so that a run that was killed finds and
deletes it at its next start; a row without `deleted` is an alarm, on the terminal and in the report.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from breakeven.harness import store
from breakeven.harness.errors import UserError
from breakeven.harness.prices import Price, PriceBook

FILE = "hosting.json"
CONTROL_URL = "https://management.azure.com"
#: A token that ends sooner than this could make a deployment and not delete it.
LEAST_TOKEN_SECONDS = 900.0
#: Ends what is said of a failure that may pass.
AGAIN = "; try again"


@dataclass(frozen=True, slots=True)
class Plan:
    """One deployment, so that anybody can make or delete it again.

    Attributes:
        name: of the deployment; requests ask for it as `model`.
        model: the tuned model's id.
        sku: as Azure spells it: "standard", "GlobalStandard", "DeveloperTier".
        hour: the price book's name of its hour ("azure/standard").
        token_env: the environment variable with a token for the control plane; without it the package
            azure-identity is asked, if it is installed.
        patience: seconds to wait until it serves.
    """

    subscription: str
    resource_group: str
    resource: str
    name: str
    model: str
    sku: str = "standard"
    capacity: int = 1
    hour: str = "azure/standard"
    version: str = "1"
    api_version: str = "2024-10-01"
    control_url: str = CONTROL_URL
    token_env: str = "AZURE_MANAGEMENT_TOKEN"
    patience: float = 3600.0

    @property
    def url(self) -> str:
        return (
            f"{self.control_url.rstrip('/')}/subscriptions/{self.subscription}/resourceGroups/"
            f"{self.resource_group}/providers/Microsoft.CognitiveServices/accounts/{self.resource}/"
            f"deployments/{self.name}?api-version={self.api_version}"
        )

    @property
    def host(self) -> str:
        url = httpx.URL(self.control_url)
        return url.host if url.port is None else f"{url.host}:{url.port}"

    @property
    def body(self) -> dict[str, Any]:
        return {
            "sku": {"name": self.sku, "capacity": self.capacity},
            "properties": {"model": {"format": "OpenAI", "name": self.model, "version": self.version}},
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Plan:
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in row.items() if k in known})


def pause(seconds: float) -> None:
    """Wait between two looks at the control plane."""
    time.sleep(seconds)


class Record:
    """The run's deployments in a file: what was asked for, by which cell, until when.

    `file=None` remembers them in memory only.
    """

    def __init__(self, file: Path | None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._rows: list[dict[str, Any]] = store.read_json(file, []) if file is not None else []

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self._rows]

    def open(self, plan: Plan, owner: str) -> int:
        """Written before the deployment is asked for; returns the number of its row."""
        with self._lock:
            self._rows.append(
                {"plan": asdict(plan), "owner": owner, "asked": _now(), "deleted": None, "why": ""}
            )
            self._save()
            return len(self._rows) - 1

    def close(self, number: int) -> None:
        with self._lock:
            self._rows[number].update(deleted=_now(), why="")
            self._save()

    def failed(self, number: int, why: str) -> None:
        with self._lock:
            self._rows[number]["why"] = why
            self._save()

    def still_there(self) -> list[int]:
        return [n for n, row in enumerate(self._rows) if row["deleted"] is None]

    def seconds(self, owner: str) -> float:
        """How long the deployments of `owner` existed, those still there up to now."""
        return sum(seconds_of(row) for row in self._rows if row["owner"] == owner)

    def _save(self) -> None:
        if self._file is not None:
            store.write_json(self._file, self._rows)


class Deployment:
    """A plan that can be carried out: there while it is needed, and no longer."""

    def __init__(self, plan: Plan, record: Record, book: PriceBook) -> None:
        self.plan, self.record, self._book = plan, record, book
        self._number: int | None = None
        self._lock = threading.Lock()

    def ensure(self, owner: str) -> None:
        """Have it serving; nothing happens when it already does.

        Raises:
            UserError: the control plane refuses, or the deployment fails. Nothing is left behind then.
        """
        with self._lock:
            if self._number is not None:
                return
            check_token(self.plan)
            number = self.record.open(self.plan, owner)  # before it is made: a kill from here on is mended
            self._number = number
            try:
                self._put()
                self._wait()
            except BaseException:
                self.delete()
                raise

    def delete(self) -> None:
        """Stop the clock. Where that fails it says so as loudly as it can, and the row stays open."""
        if self._number is None:
            return
        number, self._number = self._number, None
        remove(self.record, number, self._book.hosting_hour(self.plan.hour))

    def _put(self) -> None:
        """Asked again while the one of the same name that a cell before had is still being deleted."""
        for seconds in (2.0, 8.0, 30.0, None):
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
            state, said = _state(call("GET", self.plan))
            if state == "succeeded":
                return
            if state in ("failed", "canceled", "disabled"):
                raise UserError(
                    f"the deployment of '{self.plan.model}' {state}: {said or 'no reason was given'}",
                    field="weights.deployment",
                )
            if time.monotonic() - began > self.plan.patience:
                raise UserError(
                    f"the deployment of '{self.plan.model}' does not serve after {self.plan.patience:.0f} s "
                    f"({state or 'no state'}); it was deleted",
                    field="weights.deployment",
                    hint="raise patience, or look at it in the portal",
                )
            pause(seconds)
            seconds = min(seconds * 1.5, 30.0)


def remove(record: Record, number: int, hour: Price | None) -> bool:
    """Delete the deployment of a row, and say whether it is gone; loud where it is not."""
    plan = Plan.of(record.rows[number]["plan"])
    why = ""
    for attempt in range(4):
        if attempt:
            pause(2.0**attempt)
        try:
            reply = call("DELETE", plan, missing_is_fine=True)
        except UserError as error:
            why = error.what
            if not why.endswith(AGAIN):  # refused for good: a token that has ended, a right that is not given
                break
            continue
        if reply.status_code in (200, 202, 204, 404):
            record.close(number)
            return True
    record.failed(number, why or "no answer")
    sys.stderr.write(f"\n{'!' * 4} {alarm(record.rows[number], hour)}\n\n")
    return False


def sweep(folder: Path, book: PriceBook, say: Callable[[str], None]) -> None:
    """Delete what an earlier process of this run left behind."""
    record = Record(folder / FILE)
    for number in record.still_there():
        plan = Plan.of(record.rows[number]["plan"])
        if remove(record, number, book.hosting_hour(plan.hour)):
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


# --- the control plane -----------------------------------------------------------------------


def check_token(plan: Plan) -> None:
    """Raises UserError when there is no token, or one that ends before a deployment could be deleted."""
    left = _seconds_left(_token(plan))
    if left is not None and left < LEAST_TOKEN_SECONDS:
        raise UserError(
            f"the token in {plan.token_env} ends in {max(left, 0) / 60:.0f} minutes: a deployment made with "
            "it "
            "could not be deleted",
            field="weights.deployment.token_env",
            hint="az account get-access-token --resource https://management.azure.com gives a new one",
        )


def call(method: str, plan: Plan, body: Any = None, *, missing_is_fine: bool = False) -> httpx.Response:
    """One request to the control plane. Raises UserError in words, without the token."""
    token = _token(plan)
    url = httpx.URL(plan.control_url)
    local = url.host in ("localhost", "127.0.0.1", "::1")
    if url.scheme != "https" and not local:
        raise UserError(f"'{plan.control_url}' would send the token unencrypted", field="weights.deployment")
    try:
        reply = httpx.request(
            method,
            plan.url,
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60.0,
            trust_env=not local,
        )
    except httpx.RequestError as error:
        kind = type(error).__name__
        reply = None
    if reply is None:
        raise UserError(f"{plan.host} cannot be reached ({kind}){AGAIN}", field="weights.deployment")
    if reply.is_success or (reply.status_code == 404 and missing_is_fine):
        return reply
    said = _message(reply).replace(token, "[token]")
    if reply.status_code in (401, 403):
        raise UserError(
            f"{plan.host} refuses the token in {plan.token_env} ({reply.status_code} {said})",
            field="weights.deployment.token_env",
            hint="az account get-access-token --resource https://management.azure.com gives a new one; it "
            "needs "
            "the role Cognitive Services Contributor",
        )
    again = AGAIN if reply.status_code in (408, 409, 429) or reply.status_code >= 500 else ""
    raise UserError(
        f"{plan.host} refuses {method} of deployment '{plan.name}' ({reply.status_code} {said}){again}",
        field="weights.deployment",
    )


def _token(plan: Plan) -> str:
    token = os.environ.get(plan.token_env, "").strip()
    if token:
        return token
    with contextlib.suppress(ImportError):
        import importlib

        identity = importlib.import_module("azure.identity")
        return str(identity.DefaultAzureCredential().get_token(f"{plan.control_url}/.default").token)
    raise UserError(
        f"the environment variable {plan.token_env} is not set, and a fine-tuned model on Azure must be "
        "deployed "
        "to be asked",
        field="weights.deployment.token_env",
        hint="az account get-access-token --resource https://management.azure.com gives a token; or install "
        "azure-identity",
    )


def _seconds_left(token: str) -> float | None:
    """How long a token lasts, where it says so itself (a JWT's `exp`)."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"]) - time.time()
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None


def _state(reply: httpx.Response) -> tuple[str, str]:
    try:
        row = reply.json()
        state = str((row.get("properties") or {}).get("provisioningState") or "").lower()
        return state, str((row.get("error") or {}).get("message") or "")
    except (ValueError, AttributeError):
        return "", ""


def _message(reply: httpx.Response) -> str:
    try:
        return " ".join(str(reply.json()["error"]["message"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return reply.reason_phrase


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
