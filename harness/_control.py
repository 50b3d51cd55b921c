"""Azure's control plane: what a deployment is called there, and one request about it, in words.

PUT makes a deployment, GET says how far it is, DELETE stops its clock. The token is read from the
environment when a request leaves and kept nowhere.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import httpx

from breakeven.harness import egress
from breakeven.harness.errors import UserError

CONTROL_URL = "https://management.azure.com"
#: A token that ends sooner than this could make a deployment and not delete it.
LEAST_TOKEN_SECONDS = 900.0
#: Ends what is said of a failure that may pass.
AGAIN = "; try again"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_NEW_TOKEN = "az account get-access-token --resource https://management.azure.com gives a new one"


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
        return egress.address(url.host, url.port)

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


class Unreached(UserError):
    """Nobody knows whether the control plane did what it was asked."""


def call(method: str, plan: Plan, body: Any = None, *, missing_is_fine: bool = False) -> httpx.Response:
    """One request to the control plane. Raises UserError in words, without the token."""
    token = _token(plan)
    url = httpx.URL(plan.control_url)
    local = url.host in _LOCAL
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
        raise Unreached(f"{plan.host} cannot be reached ({kind}){AGAIN}", field="weights.deployment")
    if reply.is_success or (reply.status_code == 404 and missing_is_fine):
        return reply
    said = _message(reply).replace(token, "[token]")
    if reply.status_code in (401, 403):
        raise UserError(
            f"{plan.host} refuses the token in {plan.token_env} ({reply.status_code} {said})",
            field="weights.deployment.token_env",
            hint=f"{_NEW_TOKEN}; it needs the role Cognitive Services Contributor",
        )
    what = f"{plan.host} refuses {method} of deployment '{plan.name}' ({reply.status_code} {said})"
    if reply.status_code == 408 or reply.status_code >= 500:
        raise Unreached(what + AGAIN, field="weights.deployment")
    raise UserError(what + (AGAIN if reply.status_code in (409, 429) else ""), field="weights.deployment")


def check_token(plan: Plan) -> None:
    """Raises UserError when there is no token, or one that ends before a deployment could be deleted."""
    left = _seconds_left(_token(plan))
    if left is not None and left < LEAST_TOKEN_SECONDS:
        raise UserError(
            f"the token in {plan.token_env} ends in {max(left, 0) / 60:.0f} minutes: a deployment made with "
            "it could not be deleted",
            field="weights.deployment.token_env",
            hint=_NEW_TOKEN,
        )


def given_token_ends_within(plan: Plan, seconds: float) -> bool:
    """Whether the token in the environment says that it ends so soon; one that azure-identity gives is
    renewed by it."""
    token = os.environ.get(plan.token_env, "").strip()
    left = _seconds_left(token) if token else None
    return left is not None and left < seconds


def state(reply: httpx.Response) -> tuple[str, str]:
    """(provisioning state in lower case, what is said of it); "" where a reply does not say."""
    try:
        row = reply.json()
        found = str((row.get("properties") or {}).get("provisioningState") or "").lower()
        return found, str((row.get("error") or {}).get("message") or "")
    except (ValueError, AttributeError):
        return "", ""


def _token(plan: Plan) -> str:
    token = os.environ.get(plan.token_env, "").strip()
    if token:
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise UserError(
                f"the environment variable {plan.token_env} holds characters that no token has",
                field="weights.deployment.token_env",
                hint="was it copied whole, and nothing else with it?",
            )
        return token
    try:
        identity = importlib.import_module("azure.identity")
    except ImportError:
        raise UserError(
            f"the environment variable {plan.token_env} is not set, and a fine-tuned model on Azure must be "
            "deployed to be asked",
            field="weights.deployment.token_env",
            hint="az account get-access-token --resource https://management.azure.com gives a token; or "
            "install azure-identity",
        ) from None
    try:
        return str(identity.DefaultAzureCredential().get_token(f"{plan.control_url}/.default").token)
    except Exception as error:  # of many kinds, and their words are long
        kind = type(error).__name__
    raise UserError(
        f"azure-identity gives no token for {plan.host} ({kind})",
        field="weights.deployment.token_env",
        hint=f"sign in with: az login; or set {plan.token_env}",
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


def _message(reply: httpx.Response) -> str:
    try:
        return " ".join(str(reply.json()["error"]["message"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return reply.reason_phrase
