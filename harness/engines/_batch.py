"""A provider's batch mode: many requests in one file, answered within a day, at its lower price.

The protocol is OpenAI's: the file up, a batch made, looked at, its answers read, its files deleted. Like a
fine-tuning job a batch is written down before it is asked for, under a mark of ours, and found again at the
server by whoever was killed. It is known by its requests one by one, so that whoever was killed while
reading the answers reads the rest and does not send them again.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from breakeven.harness import store
from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines import _wire
from breakeven.harness.errors import Pending, UserError

FILE = "batches.json"
#: What OpenAI takes in one batch, by its documentation of the Batch API: requests, and 200 MB of file.
MOST, MOST_BYTES = 50_000, 200_000_000
_OVER = ("completed", "failed", "expired", "cancelled")
#: Parts of the codes of a batch that failed as a whole, without a request of it having been tried, that time
#: or money mends; one without a code may be anything.
_PASSES = ("token_limit", "rate_limit", "quota", "billing", "internal", "server")
_PAUSES = (0.5, 1.0, 2.0, 4.0, None)
#: A server that asks for a longer pause than this is not waited for.
_LONGEST = 60.0
_PAGES = 20
#: This process, among those that work on a run one after the other.
PROCESS = uuid.uuid4().hex[:16]


class Over(_wire.ProviderError):
    """A batch has ended, and not answered everything; what it answered was handed out."""


@dataclass
class Sent:
    """A batch as it is written down.

    `requests` are digests of its requests in their order; `asked` what was asked for and may not be noted
    yet; `read` says that all its answers were handed out; `outputs` are the files that it made; `room_as` is
    the name that its file gives the room for an answer. `server` is where it was sent, `price_as` what the
    price book calls its tokens, `process` who asked for it last.
    """

    nonce: str
    requests: list[str]
    file: str = ""
    batch: str = ""
    asked: list[str] = field(default_factory=list)
    read: bool = False
    outputs: list[str] = field(default_factory=list)
    room_as: str = _wire.OLDER
    server: str = ""
    price_as: str = ""
    process: str = ""


def groups(
    requests: Sequence[Request], server: _wire.Server, shape: _wire.Shape, most: int | None = None
) -> list[list[Request]]:
    """The requests in their order, cut where a batch would grow beyond `most` (as many as a provider takes,
    unless told) or a file beyond its bytes, whichever name it gives the room."""
    made: list[list[Request]] = []
    longest, filled = replace(shape, room_as=_wire.NEWER), 0
    for request in requests:
        size = len(_line(MOST, request, server, longest))
        if not made or len(made[-1]) == (most or MOST) or filled + size > MOST_BYTES:
            made.append([])
            filled = 0
        made[-1].append(request)
        filled += size
    return made


def _line(number: int, request: Request, server: _wire.Server, shape: _wire.Shape) -> bytes:
    """A request in the file of a batch."""
    row = {
        "custom_id": str(number),
        "method": "POST",
        "url": _path(request, server),
        "body": shape.body(request),
    }
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _path(request: Request, server: _wire.Server) -> str:
    path = httpx.URL(server.url(request)).path
    return path[path.rindex("/v1/") :] if "/v1/" in path else path


def _name(sent: Sent) -> str:
    return f"breakeven-{sent.nonce}-batch.jsonl"


class Batches:
    """The batches of an engine.

    Args:
        file: where they are written down between processes; None: nowhere.
        wait: seconds to look at a batch before Pending is raised; `minutes`: when to look again then.
        sleep: waits.

    `shape` is that of the next request: the newer name of the room is learned from a batch that was refused,
    and written down with it, so that not every process has to send, and wait for, another one to learn it.
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
        self._http, self._server, self.shape = http, server, shape
        self._file, self._wait, self._minutes, self._sleep = file, wait, minutes, sleep
        kept = (store.read_json(file) if file is not None else None) or {"batches": [], "newer": []}
        if isinstance(kept, list):  # of a run that began when batches were all that was kept
            kept = {"batches": kept, "newer": []}
        self._known = [Sent(**row) for row in kept["batches"]]
        self._newer: list[list[str]] = kept["newer"]  # servers and models that want the newer name
        if self._model in self._newer:
            self.shape = replace(shape, room_as=_wire.NEWER)

    @property
    def host(self) -> str:
        return self._server.host

    @property
    def _model(self) -> list[str]:
        return [self._server.base_url, self.shape.model]

    def find(self, requests: Sequence[Request], price_as: str = "") -> Sent:
        """The batch under way that holds these requests, else a new one, of which nothing was asked yet."""
        wanted = [self._digest(r) for r in requests]
        for sent in self._known:
            if not sent.read and set(wanted) <= set(sent.requests):
                sent.process = PROCESS
                self._save()
                return sent
        return Sent(
            uuid.uuid4().hex[:16], wanted, server=self._server.base_url, price_as=price_as, process=PROCESS
        )

    def orphans(self) -> list[Sent]:
        """Batches at this server that an earlier process sent and this one did not ask for.

        Once all cells of a run have had their turn nobody will: their prompts are other ones now, or their
        answers were written down just before the process that read them was killed.
        """
        here = [s for s in self._known if s.server == self._server.base_url]
        return [s for s in here if not s.read and s.process != PROCESS]

    def close(self, sent: Sent, paid: Callable[[Usage], None]) -> bool:
        """Cancel a batch whose answers nobody wants. Whether it is over, and `paid` has heard what it used;
        to cancel one may take minutes.

        Raises what `answers` does, of the server.
        """
        if not sent.file and sent.asked:
            sent.file = next((row["id"] for row in self._uploads(sent)), "")
        if not sent.batch and "batch" in sent.asked:
            sent.batch = next((row["id"] for row in self._ours(sent)), "")
        if not sent.batch:
            sent.read = True
            self._save()
            return True
        batch = self._look(sent.batch)
        if batch.get("status") not in (*_OVER, "cancelling"):
            self._ask("POST", f"/batches/{sent.batch}/cancel")
            batch = self._look(sent.batch)
        if batch.get("status") not in _OVER:
            return False
        for _ in self._read(batch, [], sent, paid):
            pass
        return True

    def answers(
        self, sent: Sent, requests: Sequence[Request], paid: Callable[[Usage], None]
    ) -> Iterator[Completion]:
        """The answers once they are there; nobody waited for one alone, so they have no seconds. `paid`
        hears what each request of the batch used, also those that are not asked for any more.

        Raises:
            Pending: while the batch is under way.
            OtherRoom: it is over and refused requests by the older name of their room: send them again.
            Refused: it is over and refused requests, as it would again.
            Over: it is over without all answers.
            ProviderError: the server does not answer, or not in its protocol; the batch stays known.

        Of a batch that is over, `sent.read`, the answers there are were handed out before.
        """
        batch = self._look(sent.batch) if sent.batch else self._made(requests, sent)
        began = time.monotonic()
        while batch.get("status") not in _OVER:
            if time.monotonic() - began >= self._wait:
                again = datetime.now(UTC) + timedelta(minutes=self._minutes)
                raise Pending(
                    {"batch": sent.batch, "host": self._server.host, "status": batch.get("status")}, again
                )
            self._sleep(min(5.0, max(self._wait / 10, 0.05)))
            batch = self._look(sent.batch)
        yield from self._read(batch, requests, sent, paid)

    def tidy(self) -> None:
        """Delete the files of batches that have been read: the provider keeps no examples."""
        for sent in [s for s in self._known if s.read]:
            left = [f for f in (sent.file, *sent.outputs) if f and not self._delete(f)]
            self._known.remove(sent)
            if left:
                sys.stderr.write(
                    f"\n!!!! {self._server.host} does not delete the files of a batch, {', '.join(left)}: "
                    "delete them there\n\n"
                )
        self._save()

    def _digest(self, request: Request) -> str:
        """The same by either name of the room, which may be learned while a batch is under way."""
        body = replace(self.shape, room_as=_wire.OLDER).body(request)
        return store.digest([self._server.base_url, request.id, body])

    # --- up ----------------------------------------------------------------------------------

    def _made(self, requests: Sequence[Request], sent: Sent) -> Mapping[str, Any]:
        if sent not in self._known:
            self._known.append(sent)
        if not sent.file:

            def uploads() -> list[Any]:
                return self._uploads(sent)

            found = uploads() if sent.asked else []
            sent.asked = ["file"]
            sent.room_as = sent.room_as if found else self.shape.room_as
            self._save()
            made = (
                found[0]
                if found
                else self._ask(
                    "POST",
                    "/files",
                    uploads,
                    data={"purpose": "batch"},
                    files={"file": (_name(sent), self._lines(requests), "application/jsonl")},
                )
            )
            sent.file = made["id"]
            self._save()

        def ours() -> list[Any]:
            return self._ours(sent)

        there = ours() if "batch" in sent.asked else []
        again = bool(there) or "batch" in sent.asked
        sent.asked = ["file", "batch"]
        self._save()
        path = _path(requests[0], self._server)
        asked = {
            "input_file_id": sent.file,
            "endpoint": path,
            "completion_window": "24h",
            "metadata": {"breakeven": sent.nonce},
        }
        losses = self._lost
        batch = there[0] if there else self._ask("POST", "/batches", ours, json=asked)
        sent.batch = batch["id"]
        self._save()
        if again or self._lost != losses:  # an answer was lost: was it made twice?
            for twin in ours():
                if twin["id"] != sent.batch and twin.get("status") not in _OVER:
                    self._ask("POST", f"/batches/{twin['id']}/cancel")
        return dict(batch)

    def _uploads(self, sent: Sent) -> list[Any]:
        return self._found("/files", lambda row: row.get("filename") == _name(sent))

    def _ours(self, sent: Sent) -> list[Any]:
        return self._found("/batches", lambda row: row.get("input_file_id") == sent.file)

    def _lines(self, requests: Sequence[Request]) -> bytes:
        return b"".join(_line(n, r, self._server, self.shape) for n, r in enumerate(requests))

    # --- down --------------------------------------------------------------------------------

    def _look(self, batch: str) -> Mapping[str, Any]:
        row: Mapping[str, Any] = self._ask("GET", f"/batches/{batch}")
        return row

    def _read(
        self,
        batch: Mapping[str, Any],
        requests: Sequence[Request],
        sent: Sent,
        paid: Callable[[Usage], None],
    ) -> Iterator[Completion]:
        sent.outputs = [f for f in (batch.get("output_file_id"), batch.get("error_file_id")) if f]
        if batch["status"] == "completed" and not sent.outputs:
            raise _wire.ProviderError(
                f"batch {sent.batch} at {self._server.host} is completed and names no answers; --resume "
                "looks again"
            )
        wanted = {self._digest(r): r for r in requests}
        missing, reasons = set(wanted), dict[str, _wire.TryAgain | UserError]()
        for file in sent.outputs:
            for row in self._rows(file, sent):
                key = sent.requests[row["number"]]
                try:
                    completion = self._completion(row, wanted.get(key) or Request(key))
                except (_wire.TryAgain, UserError) as error:
                    by_both = isinstance(error, _wire.OtherRoom) and sent.room_as != _wire.OLDER
                    reasons[key] = _wire.Refused(str(error)) if by_both else error
                    continue
                paid(completion.usage)
                if key in missing:
                    missing.discard(key)
                    yield completion
        unanswered = {key: reasons.get(key) for key in sent.requests if key in missing}
        if any(isinstance(error, _wire.OtherRoom) for error in unanswered.values()):
            self._learn()
        sent.read = True
        self._save()
        if unanswered:
            raise self._failure(batch, sent, list(unanswered.values()), len(wanted))

    def _learn(self) -> None:
        """From now on the room has its newer name."""
        self.shape = replace(self.shape, room_as=_wire.NEWER)
        if self._model not in self._newer:
            self._newer.append(self._model)

    def _failure(
        self,
        batch: Mapping[str, Any],
        sent: Sent,
        unanswered: Sequence[_wire.TryAgain | UserError | None],
        asked: int,
    ) -> Exception:
        """What to raise for requests without an answer, each with its reason where the batch says one.

        A refusal for good comes first: to send it again, with or without the others, mends nothing.
        """
        told = f"batch {sent.batch} at {self._server.host} {batch['status']} with"
        refused = [error for error in unanswered if isinstance(error, UserError)]
        if refused:
            return _wire.Refused(
                f"{told} {len(refused)} of {asked} requests refused: {refused[0].what}",
                field=refused[0].field,
                hint=refused[0].hint,
            )
        known = [error for error in unanswered if error is not None]
        for error in known:
            if isinstance(error, _wire.OtherRoom):
                return error
        errors = (batch.get("errors") or {}).get("data") or [{}]
        why = str(known[0]) if known else self._server.clean(str(errors[0].get("message") or batch["status"]))
        code = str(errors[0].get("code") or "")
        if batch["status"] == "failed" and not known and code and not any(part in code for part in _PASSES):
            line = errors[0].get("line")
            return _wire.Refused(
                f"{told} its file refused{f' at line {line}' if line else ''}: {why}",
                field="batch",
                hint="sent again it would fail again: mend what it names, or set batch: false",
            )
        return Over(
            f"{told} {len(unanswered)} of {asked} requests unanswered: {why}; --resume sends those again"
        )

    def _completion(self, row: Mapping[str, Any], request: Request) -> Completion:
        reply = row.get("response") or {}
        body = reply.get("body") if reply else {"error": row.get("error") or {"message": "no answer"}}
        made = httpx.Response(int(reply.get("status_code") or 500), json=body)
        return replace(_wire.read(made, request, 0.0, self._server), seconds=None)

    def _rows(self, file: str, sent: Sent) -> list[dict[str, Any]]:
        """The rows of a file, each with the `number` of its request.

        Raises ProviderError for one that is not whole: nothing that is paid for may be taken as unanswered.
        """
        content = str(self._ask("GET", f"/files/{file}/content", raw=True))
        try:
            rows = [json.loads(line) for line in content.split("\n") if line.strip()]
            numbered = [{**row, "number": int(row["custom_id"])} for row in rows]
        except (ValueError, KeyError, TypeError):
            numbered = [{"number": -1}]
        if any(not 0 <= row["number"] < len(sent.requests) for row in numbered):
            raise _wire.ProviderError(
                f"{self._server.host} gave file {file} of batch {sent.batch} broken; --resume reads it again"
            )
        return numbered

    # --- asking ------------------------------------------------------------------------------

    _lost = 0  # answers that may have been lost on the way

    def _found(self, path: str, fits: Callable[[Mapping[str, Any]], bool]) -> list[Any]:
        """All rows of a list that fit, newest first as the protocol gives them."""
        found: list[Any] = []
        query = {"limit": "100"}
        for _ in range(_PAGES):
            page = self._ask("GET", path, params=query)
            rows = page.get("data") or []
            found += [row for row in rows if fits(row)]
            if not page.get("has_more") or not rows or query.get("after") == rows[-1]["id"]:
                break
            query = {"limit": "100", "after": rows[-1]["id"]}
        return found

    def _delete(self, file: str) -> bool:
        """Whether a file of ours is gone."""
        try:
            self._ask("DELETE", f"/files/{file}")
        except UserError as error:
            return "(404 " in error.what
        except _wire.ProviderError:
            return False
        return True

    def _ask(
        self,
        method: str,
        path: str,
        find: Callable[[], list[Any]] | None = None,
        *,
        raw: bool = False,
        **more: Any,
    ) -> Any:
        """A JSON answer (`raw`: text), asked again while the server is busy.

        Where an answer is lost on the way, `find` looks whether what was asked for is there all the same.
        """
        reason = ""
        for pause in _PAUSES:
            asked = None
            try:
                reply = self._http.request(method, self._server.base_url + path, auth=self._server, **more)
                if reply.is_success:
                    return reply.text if raw else reply.json()
                said = self._server.clean(reply.text)
                busy = reply.status_code in (408, 409, 429) or reply.status_code >= 500
                if not busy or _wire.no_credit(reply.status_code, said, said):
                    raise UserError(
                        f"{self._server.host} refuses its batch mode ({reply.status_code} {said})",
                        field="batch",
                        hint="set batch: false where a server has none",
                    )
                reason, asked = str(reply.status_code), _wire.retry_after(reply)
            except httpx.RequestError as error:
                reason = type(error).__name__
            except ValueError:
                reason = "an answer that is no JSON"
            if pause is not None:
                self._sleep(max(pause, min(asked or 0.0, _LONGEST)))
            if find is not None:
                self._lost += 1
                if there := find():
                    return there[0]
        raise _wire.ProviderError(f"{self._server.host} gives no answer about its batches; at last: {reason}")

    def _save(self) -> None:
        if self._file is not None:
            store.write_json(self._file, {"batches": self._known, "newer": self._newer})
