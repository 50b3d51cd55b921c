"""An OpenAI-compatible server with batch mode for tests: files, batches, answers by a function."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = Callable[[Mapping[str, Any]], tuple[int, Mapping[str, Any]]]


class BatchServer:
    """Serves while the `with` lasts.

    Args:
        answer: from a request's body to (status, body).
        looks: looks at a batch that find it in progress.
        leaves_out: custom ids that the batch never answers; it then ends "expired".
        loses: POST paths whose first answer is lost on the way.
        offered: False: there is no batch mode here.
        late: lists of batches that do not show the newest one yet.
        page: rows to a page of a list.
        halves: files of answers that are sent by half.
        fails: the error that every batch fails with as a whole, before any request is tried.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        looks: int = 0,
        leaves_out: set[str] | None = None,
        loses: set[str] | None = None,
        offered: bool = True,
        late: int = 0,
        page: int = 100,
        halves: int = 0,
        fails: Mapping[str, Any] | None = None,
    ) -> None:
        self.fails = fails
        self.late, self.page, self.halves = late, page, halves
        self.offered = offered
        self.answer, self.looks = answer, looks
        self.leaves_out, self.loses = leaves_out or set(), set(loses or ())
        self.files: dict[str, tuple[str, bytes]] = {}
        self.uploads: list[bytes] = []
        self.batches: dict[str, dict[str, Any]] = {}
        self.got: list[tuple[str, str]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> BatchServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def reply(self, method: str, path: str, raw: bytes) -> tuple[int, Any]:
        if not self.offered:
            return 404, {"error": {"message": "no such path"}}
        path, _, query = path.partition("?")
        match [method, *path.removeprefix("/v1/").split("/")]:
            case ["POST", "files"]:
                name = re.search(rb'filename="([^"]*)"', raw)
                assert name is not None
                content = raw.partition(name[0])[2].partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
                file = f"file-{len(self.uploads)}"
                self.uploads.append(content)
                self.files[file] = (name[1].decode(), content)
                return 200, {"id": file, "filename": name[1].decode()}
            case ["GET", "files"]:
                return 200, self._page([{"id": i, "filename": n} for i, (n, _) in self.files.items()], query)
            case ["GET", "files", name, "content"]:
                content = self.files[name][1]
                if self.halves:
                    self.halves, content = self.halves - 1, content[: len(content) // 2]
                return 200, content
            case ["DELETE", "files", name]:
                return 200, {"id": self.files.pop(name) and name, "deleted": True}
            case ["POST", "batches"]:
                asked = json.loads(raw)
                batch = {"id": f"batch-{len(self.batches)}", "status": "validating", "looks": 0, **asked}
                self.batches[batch["id"]] = batch
                return 200, batch
            case ["GET", "batches"]:
                rows = list(self.batches.values())
                if self.late:
                    self.late, rows = self.late - 1, rows[:-1]
                return 200, self._page(rows, query)
            case ["POST", "batches", name, "cancel"]:
                self.batches[name]["status"] = "cancelled"
                return 200, self.batches[name]
            case ["GET", "batches", name]:
                return 200, self._looked(self.batches[name])
        return 404, {"error": {"message": "no such path"}}

    def _page(self, rows: list[Any], query: str) -> dict[str, Any]:
        """Newest first, behind `after`."""
        newest = rows[::-1]
        after = parse_qs(query).get("after", [""])[0]
        start = next((n + 1 for n, row in enumerate(newest) if row["id"] == after), 0)
        return {"data": newest[start : start + self.page], "has_more": len(newest) > start + self.page}

    def _looked(self, batch: dict[str, Any]) -> dict[str, Any]:
        if batch["status"] == "cancelled":
            return batch
        batch["looks"] += 1
        if batch["looks"] <= self.looks:
            return {**batch, "status": "in_progress"}
        if self.fails is not None:
            return {**batch, "status": "failed", "errors": {"object": "list", "data": [self.fails]}}
        lines = []
        for line in reversed(self.files[batch["input_file_id"]][1].splitlines()):  # any order will do
            row = json.loads(line)
            assert (row["method"], row["url"]) == ("POST", batch["endpoint"])
            if row["custom_id"] not in self.leaves_out:
                status, body = self.answer(row["body"])
                lines.append(
                    {"custom_id": row["custom_id"], "response": {"status_code": status, "body": body}}
                )
        output = f"{batch['id']}-output"
        self.files[output] = (output, "\n".join(map(json.dumps, lines)).encode())
        status = "expired" if self.leaves_out else "completed"
        return {**batch, "status": status, "output_file_id": output}


def _handler(server: BatchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            server.got.append((self.command, self.path))
            status, body = server.reply(self.command, self.path, raw)
            if self.command == "POST" and self.path in server.loses:
                server.loses.remove(self.path)
                return
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _do

        def log_message(self, *_: object) -> None:
            pass

    return Handler
