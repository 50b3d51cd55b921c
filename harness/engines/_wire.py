"""What goes over the wire to an OpenAI-compatible server, what comes back, and what a refusal means.

Nothing here holds a key: `Server` knows the name of the environment variable and reads it when a request
leaves; no message quotes what a server says before the key is cut out of it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from breakeven.harness import egress
from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.errors import BreakevenError, UserError

#: Fields that decide what is asked and what it may cost; not to be set through `body`.
_OWN_FIELDS = frozenset(
    {"model", "messages", "prompt", "max_tokens", "max_completion_tokens"}
    | {"n", "best_of", "stream", "stop", "echo", "logprobs"}
)
#: Refusals for now that no provider bills. Others of 408 and 500 up (a gateway's timeout) may come after a
#: model has answered.
_UNBILLED = frozenset({429, 500, 503, 529})
#: How a server says that a prompt is too long.
_TOO_LONG = re.compile(r"context (length|size|window)|prompt is too long", re.I)
#: Names of the room for an answer: the one that most servers know, and the one that newer models want.
OLDER, NEWER = "max_tokens", "max_completion_tokens"
#: 429 that no waiting mends.
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


class ProviderError(BreakevenError):
    """A server does not answer; nobody's mistake that anyone knows of."""


class TryAgain(Exception):
    """An attempt failed in a way that may pass; the provider may have billed it."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(reason)


class NotBilled(Exception):
    """Mixed into failures that cost nothing: the request never arrived, or was refused."""


class NotSent(TryAgain, NotBilled):
    """The request never arrived."""


class Busy(TryAgain, NotBilled):
    """The server refused for now: 429, 503."""


class OtherRoom(TryAgain, NotBilled):
    """The server wants the room of an answer by the newer name."""


class Refused(UserError, NotBilled):
    """The server refuses what it was asked and would do so again."""


class Server(httpx.Auth):
    """Where requests go. Signs each one with the key that the environment holds at that moment."""

    def __init__(
        self,
        base_url: str,
        api_key_env: str,
        *,
        allow_http: bool,
        auth: Literal["bearer", "api-key"] = "bearer",
    ) -> None:
        self.base_url, self.api_key_env = base_url.rstrip("/"), api_key_env
        if auth not in ("bearer", "api-key"):
            raise UserError(f"'{auth}' is not bearer or api-key", field="auth")
        self._header = "Authorization" if auth == "bearer" else "api-key"
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            raise UserError("is no URL", field="base_url", hint="it looks like https://host/v1") from None
        if url.userinfo or url.query or url.fragment:
            raise UserError(
                "should hold no user, password or query",
                field="base_url",
                hint="it looks like https://host/v1; the key belongs into the environment variable that "
                "api_key_env names",
            )
        if url.scheme not in ("http", "https") or not url.host:
            raise UserError(
                f"'{base_url}' is no http(s) URL", field="base_url", hint="it looks like https://host/v1"
            )
        self.host = egress.address(url.host, url.port)
        self.is_loopback = _is_loopback(url.host)
        if url.scheme == "http" and not self.is_loopback and not allow_http:
            raise UserError(
                f"'{base_url}' would send data and key unencrypted",
                field="base_url",
                hint="use https, or set allow_http: true if that is what you want",
            )

    def url(self, request: Request) -> str:
        return self.base_url + ("/completions" if request.text is not None else "/chat/completions")

    def price_name(self, model: str) -> str:
        """The model's name in the price book: with its provider, or with the server that nobody knows."""
        from breakeven.harness._genai import provider_of

        return f"{provider_of(self.base_url) or self.host}/{model}"

    def check_key(self) -> None:
        """Raises UserError when there is no usable key and the server will want one."""
        if self._key() is None and self.api_key_env and not self.is_loopback:
            raise UserError(
                f"the environment variable {self.api_key_env} is not set",
                field="api_key_env",
                hint=f"it should hold the key for {self.host}; the key is never written anywhere",
            )

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]
        key = self._key()
        request.headers.pop("Authorization", None)  # what a client library put there is no key of ours
        if key is not None:
            request.headers[self._header] = f"Bearer {key}" if self._header == "Authorization" else key
        yield request

    def clean(self, text: str) -> str:
        """A server's own words on one short line, without anything that may be a key."""
        key = self._key()
        if key:
            text = text.replace(key, "[key]")
        text = re.sub(r"\b(?:sk|pk|gsk)[-_][\w*.-]{6,}|\bBearer\s+\S+", "[key]", text)
        return " ".join(text.split())[:300]

    def _key(self) -> str | None:
        key = os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise UserError(
                f"the environment variable {self.api_key_env} holds characters that no key has",
                field="api_key_env",
                hint="was it copied whole, and nothing else with it?",
            )
        return key or None


@dataclass(frozen=True, slots=True)
class Shape:
    """How a request of ours becomes a body: the model's name, the room for answers, further fields."""

    model: str
    base_url: str
    reasoning_tokens: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    room_as: str = OLDER  # as soon as a server has said so, NEWER

    def __post_init__(self) -> None:
        taken = sorted(_OWN_FIELDS & self.extra.keys())
        if taken:
            raise UserError(
                "is set by Breakeven itself", field=f"body.{taken[0]}", hint="use it for other fields only"
            )

    @property
    def fingerprint(self) -> list[Any]:
        return [self.model, self.reasoning_tokens, dict(self.extra)]

    def room(self, request: Request) -> int:
        return request.max_tokens + self.reasoning_tokens

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON to send. OpenAI's own chat models want `max_completion_tokens`, others `max_tokens`."""
        made: dict[str, Any] = {"model": self.model, "temperature": request.temperature, "seed": request.seed}
        if request.text is not None:
            made |= {"prompt": request.text, OLDER: self.room(request)}
        else:
            name = NEWER if "//api.openai.com" in self.base_url else self.room_as
            made |= {"messages": [dict(m) for m in request.messages], name: self.room(request)}
        if request.stop:
            made["stop"] = list(request.stop)
        made |= self.extra
        return {k: v for k, v in made.items() if v is not None}


# --- answers ---------------------------------------------------------------------------------


def read(
    reply: httpx.Response, request: Request, seconds: float, server: Server, *, appears: bool = False
) -> Completion:
    """A reply as a completion; `appears`: of a deployment just made, which may not be known at once.

    Raises:
        TryAgain: it is broken, or the server is busy.
        Refused: asking again would not help.
    """
    if reply.status_code != 200:
        return _refusal(reply.status_code, reply, request, seconds, server, appears)
    try:
        data = reply.json()
        if not data.get("choices") and data.get("error"):
            return _error_in_place(reply, request, seconds, server)
        choice = data["choices"][0]
        reason = str(choice.get("finish_reason") or "unknown")
        if reason == "error" or choice.get("error"):
            raise TryAgain("the answer broke off with an error")
        text = _text(choice["text"]) if request.text is not None else _text(choice["message"].get("content"))
        said = "" if request.text is not None else choice["message"].get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError):
        page = "html" in reply.headers.get("content-type", "")
        what = f"a web page; is base_url right, {server.base_url}?" if page else "not what the protocol says"
        raise TryAgain(f"the answer was {what}") from None
    if not text and isinstance(said, str) and said:
        text, reason = said, "refusal"
    usage = _usage(data.get("usage"), text) or _estimate(request, text)
    return Completion(request.id, text, reason, usage, seconds)


def _text(content: Any) -> str:
    """What was written; of an answer in parts those that are text. Raises TypeError for anything else."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if part.get("type") == "text")
    if not isinstance(content, str | None):
        raise TypeError
    return content or ""


def _usage(row: Any, text: str) -> Usage | None:
    """What a response says it used; None unless it says so in whole numbers.

    Neither a prompt of no tokens (Ollama, of one that it had cached) nor a text of an unsaid number is taken
    for one that cost nothing.
    """
    if not isinstance(row, dict):
        return None
    details = row.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    said: Any = row.get("completion_tokens", None if text else 0)
    counts: list[Any] = [row.get("prompt_tokens"), said, cached or 0]
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in counts):
        return None
    return Usage(*counts) if counts[0] else None


def _error_in_place(reply: httpx.Response, request: Request, seconds: float, server: Server) -> Completion:
    """An error that comes as 200, as routers send it once a model has begun."""
    code, said = _error(reply, server)
    if code.isdigit() and 400 <= int(code) < 600:
        return _refusal(int(code), reply, request, seconds, server, False)
    raise TryAgain(f"an error came in place of an answer: {said}")


def _refusal(
    status: int, reply: httpx.Response, request: Request, seconds: float, server: Server, appears: bool
) -> Completion:
    code, said = _error(reply, server)
    if no_credit(status, code, said):
        raise Refused(f"the account at {server.host} has no credit left ({status} {code or said})")
    if _TOO_LONG.search(said) or code in ("context_length_exceeded", "exceed_context_size_error"):
        raise Refused(
            f"the prompt of request '{request.id}' is longer than the model's context: {said}",
            hint="use fewer demonstrations or passages, or shorter examples",
        )
    if status in _UNBILLED or (appears and status == 404 and code == "DeploymentNotFound"):
        raise Busy(f"{status} {said}".strip(), retry_after(reply))
    if status == 408 or status >= 500:
        raise TryAgain(f"{status} {said}".strip(), retry_after(reply))
    if status == 400 and code in ("content_filter", "content_policy_violation"):
        return Completion(request.id, "", "content_filter", _estimate(request, ""), seconds)
    if status == 400 and NEWER in said and f"'{OLDER}'" in said:
        raise OtherRoom(said)
    if status in (401, 403):
        held = f"the key in {server.api_key_env}" if server.api_key_env else "a request without a key"
        raise Refused(
            f"{server.host} refuses {held} ({status})",
            field="api_key_env",
            hint="set it to a key that may use this model there",
        )
    if status == 404:
        raise Refused(
            f"{server.host} knows no such model or address (404 {said})",
            field="model",
            hint=f"check the model's name, and base_url, which is {server.base_url} and often ends in /v1",
        )
    if 300 <= status < 400:
        raise Refused(
            f"{server.host} redirects elsewhere ({status}), which is not followed with a key in hand",
            field="base_url",
            hint="name the final address",
        )
    raise Refused(
        f"{server.host} refuses request '{request.id}' ({status} {said})",
        hint="`body` can add fields of a request, or leave one out with null",
    )


def no_credit(status: int, code: str, said: str) -> bool:
    """Whether a refusal is about money or a quota that is used up: no waiting mends it."""
    return status == 402 or (
        status == 429 and (any(word in code for word in _NO_CREDIT) or "check your plan and billing" in said)
    )


def _error(reply: httpx.Response, server: Server) -> tuple[str, str]:
    """(code, message) of an error body, cleaned.

    Under "error" as OpenAI writes it, that being a text (Ollama), or at the top (vLLM, gateways, FastAPI's
    "detail"). A code that is only the status again (llama.cpp) says less than the type.
    """
    try:
        body = reply.json()
        error = body.get("error", body)
        if isinstance(error, str):
            return "", server.clean(error)
        code, kind = (str(error.get(k) or "") for k in ("code", "type"))
        said = error.get("message") or error.get("detail") or reply.reason_phrase
        return kind if kind and code == str(reply.status_code) else code or kind, server.clean(str(said))
    except (ValueError, LookupError, TypeError, AttributeError):
        return "", server.clean(reply.reason_phrase)


def retry_after(reply: httpx.Response) -> float | None:
    """Seconds the server asks to wait, from a number or a date; else until what it says is used up is
    allowed again (`x-ratelimit-*`). A date is counted from the reply's own: the clocks here and there differ.
    """
    asked = reply.headers.get("retry-after-ms")
    scale = 1000.0 if asked else 1.0
    asked = asked or reply.headers.get("retry-after")
    if not asked:
        return _reset_after(reply.headers)
    try:
        return max(0.0, float(asked) / scale)
    except ValueError:
        pass
    until, now = _date(asked), _date(reply.headers.get("date", "")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until is not None else None


def _date(text: str) -> datetime | None:
    """A date of a header, which is in UTC; None where it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _reset_after(headers: httpx.Headers) -> float | None:
    """From `x-ratelimit-reset-requests: 6m0s` and its like, where `remaining` is 0."""
    scales = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    waits = []
    for what in ("requests", "tokens"):
        told = headers.get(f"x-ratelimit-reset-{what}", "")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0" and re.fullmatch(r"([\d.]+(ms|s|m|h))+", told):
            parts = re.findall(r"([\d.]+)(ms|s|m|h)", told)
            waits.append(sum(float(n) * scales[unit] for n, unit in parts))
    return max(waits, default=None)


# --- counting without the tokenizer ----------------------------------------------------------


def worst_case(request: Request, shape: Shape, answered: str = "") -> Usage:
    """No request uses more: a token is at least a byte, a template adds little, an answer fills its room.

    `answered` is a text that the prompt is sent with as its answer.
    """
    texts = [request.text or "", answered, *(m.get("content", "") for m in request.messages)]
    given = sum(len(t.encode("utf-8", "surrogatepass")) for t in texts)
    return Usage(given + 16 * (len(request.messages) + 1) + 128, shape.room(request))


def estimated_input(request: Request) -> int:
    """About how many tokens a prompt has, its chat template included."""
    if request.text is not None:
        return estimated_tokens(request.text)
    return 3 + sum(4 + estimated_tokens(m.get("content", "")) for m in request.messages)


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has: words of up to six letters are one, numbers go by threes."""
    count = 0
    for piece in re.findall(r"\d+|[^\W\d]+|[^\w\s]", text):
        if piece.isdigit():
            count += -(-len(piece) // 3)
        elif piece.isascii():
            count += -(-len(piece) // 6)
        else:
            count += -(-len(piece.encode("utf-8", "surrogatepass")) // 4)
    return count


def _estimate(request: Request, answer: str) -> Usage:
    return Usage(estimated_input(request), estimated_tokens(answer), estimated=True)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
