"""An OpenAI-compatible server for tests: answers by a function or a real engine, and fails on order.

    with OpenAIServer(says("yes")) as server:
        openai("any", base_url=server.url, ...)

Standard library only. Counts what it gets, so that a test can say what was sent and what was not.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from breakeven.harness.contracts import Completion, Engine, Request, Usage
from breakeven.harness.engines.openai import OpenAIEngine, openai

Answer = Callable[[Mapping[str, Any]], Completion]


@dataclass(frozen=True)
class Fault:
    """What to do to one request instead of answering it.

    `status` with `code` and `message` in an error body, or with that `body`; or `raw`, sent as it is with
    status 200; or the answer without its usage; or `drop`, hanging up; each after `delay` seconds.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    message: str = "no"
    raw: str | None = None
    body: str | None = None
    without_usage: bool = False
    drop: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class Got:
    """A request as it arrived."""

    path: str
    body: Mapping[str, Any]
    key: str | None


class OpenAIServer:
    """Serves /v1/chat/completions, /v1/completions and /v1/models on a free port while the `with` lasts.

    Args:
        answer: from a request's body to a completion (its id does not matter).
        key: the only key that is let in; None lets everybody in.
        faults: for the first requests, in order of arrival; None in between answers as usual.
        delay: seconds before each answer.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        key: str | None = None,
        faults: Iterable[Fault | None] = (),
        delay: float = 0.0,
    ) -> None:
        self.answer, self.key, self.delay = answer, key, delay
        self.faults = deque(faults)
        self.got: list[Got] = []
        self.most_at_once = 0
        self.lock = threading.Lock()
        self._now = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def arrived(self, got: Got) -> Fault | None:
        with self.lock:
            self.got.append(got)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            return self.faults.popleft() if self.faults else None

    def left(self) -> None:
        with self.lock:
            self._now -= 1


def says(
    text: str | Callable[[Mapping[str, Any]], str], input_tokens: int = 10, output_tokens: int = 2
) -> Answer:
    """Always the same answer and usage, or one made from the request."""

    def answer(body: Mapping[str, Any]) -> Completion:
        said = text if isinstance(text, str) else text(body)
        return Completion("", said, "stop", Usage(input_tokens, output_tokens), 0.0)

    return answer


def serves(engine: Engine) -> Answer:
    """The answers of a real engine, one request at a time."""
    lock = threading.Lock()

    def answer(body: Mapping[str, Any]) -> Completion:
        request = Request(
            id="served",
            messages=tuple(body.get("messages") or ()),
            text=body.get("prompt"),
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 16,
            stop=tuple(body.get("stop") or ()),
            temperature=body.get("temperature", 1.0),
            seed=body.get("seed", 0),
        )
        with lock:
            return next(iter(engine.complete([request])))

    return answer


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "served", "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            header = self.headers.get("Authorization")
            got = Got(self.path, body, header.removeprefix("Bearer ") if header else None)
            fault = server.arrived(got)
            try:
                self._answer(got, fault)
            finally:
                server.left()

        def _answer(self, got: Got, fault: Fault | None) -> None:
            time.sleep(server.delay + (fault.delay if fault else 0.0))
            if server.key is not None and got.key != server.key:
                # the real one quotes what it was given, too
                return self._error(401, "invalid_api_key", f"Incorrect API key provided: {got.key}.")
            if fault is not None and fault.drop:
                self.close_connection = True
                return None
            if fault is not None and fault.body is not None:
                return self._send(fault.status, fault.body, fault.headers)
            if fault is not None and fault.status != 200:
                return self._error(fault.status, fault.code, fault.message, fault.headers)
            if fault is not None and fault.raw is not None:
                return self._send(200, fault.raw, fault.headers)
            if got.path not in ("/v1/chat/completions", "/v1/completions"):
                return self._error(404, "not_found", f"no such path: {got.path}")
            return self._send(200, _body(got, server.answer(got.body), fault))

        def _error(
            self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
        ) -> None:
            self._send(status, {"error": {"code": code or None, "message": message}}, headers)

        def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            try:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client did not wait

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _body(got: Got, completion: Completion, fault: Fault | None) -> dict[str, Any]:
    usage = completion.usage
    if got.path == "/v1/completions":
        said: dict[str, Any] = {"text": completion.text}
    else:
        said = {"message": {"role": "assistant", "content": completion.text}}
    body: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "model": got.body.get("model"),
        "choices": [{"index": 0, **said, "finish_reason": completion.finish_reason}],
    }
    if fault is None or not fault.without_usage:
        body["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        }
    return body


# --- asking it -------------------------------------------------------------------------------

KEY = "sk-test-3f9c1b7a5e"  # what TEST_KEY holds


def engine_for(server: OpenAIServer, naps: list[float] | None = None, **settings: Any) -> OpenAIEngine:
    """An engine that only notes how long it would have waited."""
    made = openai(
        "small",
        base_url=server.url,
        api_key_env="TEST_KEY",
        **{"allow_unpriced": "price_as" not in settings, **settings},
    )
    made.sleep = (naps if naps is not None else []).append
    return made


def chat(name: str = "a", content: str = "Is water wet?", **settings: Any) -> Request:
    return Request(name, messages=({"role": "user", "content": content},), **settings)


def many(n: int, content: str = "Is water wet?") -> list[Request]:
    return [chat(str(i), content) for i in range(n)]


def ask(engine: OpenAIEngine, *requests: Request) -> dict[str, Completion]:
    return {c.id: c for c in engine.complete(requests or [chat()])}
