"""A provider's batch mode: many requests in one file, answered within a day, at its lower price.

The protocol is OpenAI's: the file up, a batch made, looked at, its answers read. Like a fine-tuning job a
batch is written down before it is asked for, under a mark of ours, and found again at the server by
whoever was killed.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from breakeven.harness import store
from breakeven.harness.contracts import Completion, Request
from breakeven.harness.engines import _wire
from breakeven.harness.errors import Pending, UserError

FILE = "batches.json"
#: Requests that OpenAI takes in one batch.
MOST = 50_000
_OVER = ("completed", "failed", "expired", "cancelled")
_PAUSES = (0.5, 1.0, 2.0, 4.0, None)


class Batches:
    """The batches of an engine.

    Args:
        file: where they are written down between processes; None: nowhere.
        wait: seconds to look at a batch before Pending is raised; `minutes`: when to look again then.
        sleep: waits.
    """

    def __init__(
        self,
        http: httpx.Client,
        server: _wire.Server,
        shape: _wire.Shape,
        *,
        file: Path | None,
        wait: float,
        minutes: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http, self._server, self._shape = http, server, shape
        self._file, self._wait, self._minutes, self._sleep = file, wait, minutes, sleep
        self._known: dict[str, dict[str, Any]] = store.read_json(file, {}) if file is not None else {}

    def is_new(self, requests: Sequence[Request]) -> bool:
        """Whether these requests were not yet sent."""
        return not self._known.get(self._key(requests), {}).get("batch")

    def answers(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """The answers once they are there; nobody waited for one alone, so they have no seconds.

        Raises:
            Pending: while the batch is under way.
            ProviderError: it ended without all answers; those there are were handed out before.
        """
        key = self._key(requests)
        state = self._known.setdefault(
            key, {"nonce": uuid.uuid4().hex[:16], "file": "", "batch": "", "asked": []}
        )
        batch = self._look(state["batch"]) if state["batch"] else self._made(requests, state)
        began = time.monotonic()
        while batch["status"] not in _OVER:
            if time.monotonic() - began >= self._wait:
                again = datetime.now(UTC) + timedelta(minutes=self._minutes)
                raise Pending(
                    {"batch": batch["id"], "host": self._server.host, "status": batch["status"]}, again
                )
            self._sleep(min(5.0, max(self._wait / 10, 0.05)))
            batch = self._look(state["batch"])
        yield from self._read(batch, requests, key)

    def _key(self, requests: Sequence[Request]) -> str:
        return store.digest([self._server.base_url, [[r.id, self._shape.body(r)] for r in requests]])

    # --- up ----------------------------------------------------------------------------------

    def _made(self, requests: Sequence[Request], state: dict[str, Any]) -> Mapping[str, Any]:
        name = f"breakeven-{state['nonce']}-batch.jsonl"
        if not state["file"]:
            found = self._found("/files", lambda row: row.get("filename") == name) if state["asked"] else None
            state["asked"] = ["file"]
            self._save()
            sent = found or self._ask(
                "POST",
                "/files",
                lambda: self._found("/files", lambda row: row.get("filename") == name),
                data={"purpose": "batch"},
                files={"file": (name, self._lines(requests), "application/jsonl")},
            )
            state["file"] = sent["id"]
            self._save()

        def ours(row: Mapping[str, Any]) -> bool:
            return bool(row.get("input_file_id") == state["file"])

        found = self._found("/batches", ours) if "batch" in state["asked"] else None
        state["asked"] = ["file", "batch"]
        self._save()
        path = httpx.URL(self._server.url(requests[0])).path
        made = found or self._ask(
            "POST",
            "/batches",
            lambda: self._found("/batches", ours),
            json={
                "input_file_id": state["file"],
                "endpoint": path[path.rindex("/v1/") :] if "/v1/" in path else path,
                "completion_window": "24h",
                "metadata": {"breakeven": state["nonce"]},
            },
        )
        state["batch"] = made["id"]
        self._save()
        return dict(made)

    def _lines(self, requests: Sequence[Request]) -> bytes:
        made = []
        for number, request in enumerate(requests):
            path = httpx.URL(self._server.url(request)).path
            url = path[path.rindex("/v1/") :] if "/v1/" in path else path
            row = {"custom_id": str(number), "method": "POST", "url": url, "body": self._shape.body(request)}
            made.append(json.dumps(row, ensure_ascii=False) + "\n")
        return "".join(made).encode("utf-8", "replace")

    # --- down --------------------------------------------------------------------------------

    def _look(self, batch: str) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self._ask("GET", f"/batches/{batch}")
        return row

    def _read(self, batch: Mapping[str, Any], requests: Sequence[Request], key: str) -> Iterator[Completion]:
        reasons: dict[int, str] = {}
        answered: set[int] = set()
        for file in (batch.get("output_file_id"), batch.get("error_file_id")):
            for row in self._rows(file) if file else ():
                number = int(row["custom_id"])
                try:
                    yield self._completion(row, requests[number])
                    answered.add(number)
                except (_wire.TryAgain, UserError) as error:
                    reasons[number] = str(error)
        missing = [n for n in range(len(requests)) if n not in answered]
        if missing or batch["status"] == "failed":
            del self._known[key]
            self._save()
            errors = (batch.get("errors") or {}).get("data") or [{}]
            why = reasons.get(missing[0], "") if missing else ""
            why = why or self._server.clean(str(errors[0].get("message") or batch["status"]))
            raise _wire.ProviderError(
                f"batch {batch['id']} at {self._server.host} {batch['status']} with {len(missing)} of "
                f"{len(requests)} requests unanswered: {why}; --resume sends those again"
            )

    def _completion(self, row: Mapping[str, Any], request: Request) -> Completion:
        reply = row.get("response") or {}
        body = reply.get("body") if reply else {"error": row.get("error") or {"message": "no answer"}}
        made = httpx.Response(int(reply.get("status_code") or 500), json=body)
        return replace(_wire.read(made, request, 0.0, self._server), seconds=None)

    def _rows(self, file: str) -> Iterator[Mapping[str, Any]]:
        content = self._ask("GET", f"/files/{file}/content", raw=True)
        for line in str(content).splitlines():
            if line.strip():
                yield json.loads(line)

    # --- asking ------------------------------------------------------------------------------

    def _found(self, path: str, fits: Callable[[Mapping[str, Any]], bool]) -> Any:
        rows = self._ask("GET", path).get("data") or []
        return next((row for row in rows if fits(row)), None)

    def _ask(
        self, method: str, path: str, find: Callable[[], Any] | None = None, *, raw: bool = False, **more: Any
    ) -> Any:
        """A JSON answer (`raw`: text), asked again while the server is busy; see `_jobs` for `find`."""
        reason = ""
        for pause in _PAUSES:
            try:
                reply = self._http.request(method, self._server.base_url + path, auth=self._server, **more)
                if reply.is_success:
                    return reply.text if raw else reply.json()
                if reply.status_code not in (408, 409, 429) and reply.status_code < 500:
                    said = self._server.clean(reply.text)
                    raise UserError(
                        f"{self._server.host} refuses its batch mode ({reply.status_code} {said})",
                        field="batch",
                        hint="set batch: false where a server has none",
                    )
                reason = str(reply.status_code)
            except httpx.RequestError as error:
                reason = type(error).__name__
            if find is not None and (there := find()) is not None:
                return there
            if pause is not None:
                self._sleep(pause)
        raise _wire.ProviderError(f"{self._server.host} gives no answer about its batches; at last: {reason}")

    def _save(self) -> None:
        if self._file is not None:
            store.write_json(self._file, self._known)
