"""A server with OpenAI's fine-tuning protocol that really trains, and answers with what it trained.

    with FineTuningServer(local(tiny_model)) as server:
        ...base_url=server.url, model=server.base

Jobs train a LoRA with the package's own `peft` trainer on the model it was given; chat completions for the
tuned id are answered by that adapter. `Azure` is the same server with Azure's differences and its control
plane for deployments. Everything that arrives is kept, so that a test can say what was sent, and how often.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.training import TrainingPair

KEY = "sk-test-8c1d2e3f4a5b"


@dataclass(frozen=True)
class Got:
    """A request as it arrived, without its body where that is a file."""

    method: str
    path: str
    body: Any
    headers: Mapping[str, str]


@dataclass
class Trained:
    """A job as the server knows it."""

    row: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Pretended:
    """What a training would tell that did not happen; the second epoch is the best."""

    losses: tuple[tuple[int, float], ...]
    validation_losses: tuple[tuple[int, float], ...]
    training_tokens: int


@dataclass(frozen=True)
class Lost:
    """One request whose answer is lost: done as asked, but the connection breaks before it is told; or it is
    told by "half" a body, a "page" of HTML, or a gateway's "500"."""

    method: str
    path: str
    how: str = "hangs up"


class FineTuningServer:
    """See the module; serves while the `with` lasts.

    Args:
        engine: a local engine on a model that can be tuned; jobs train it, chats ask it. None: for tests that
            are not about learning, losses fall by a formula and every answer is the same.
        key: the only key that is let in.
        unready: creations of a job that are refused because "the file is not ready".
        queued: looks at a job that find it queued, before it runs.
        hold: jobs do not end before this is set.
        fails: message of a job's failure.
        lose: requests whose answers are lost, in order.
        shutdown: model -> day, as the list of models tells it.
        trains: settings of the LoRA training.
        trained_tokens: False: the job never says how many it bills.
        result_file: losses are told by a CSV file instead of events.
        late: lists of jobs that do not show the newest one yet.
        keeps_files: deletions of files are refused.
        chooses: passes that the job says it will make, where it may choose.
        trained_before: tokens that a failed job says it trained.
        broke: the account has no credit left.
        clock: seconds that the server's clock is off.
        judges: False: checkpoints have no validation losses.
        moved: where everything is redirected to.
    """

    base = "tiny-2026-01-01"
    prefix = "/v1"

    def __init__(
        self,
        engine: Any,
        *,
        key: str = KEY,
        unready: int = 0,
        queued: int = 0,
        hold: threading.Event | None = None,
        fails: str = "",
        lose: Iterable[Lost] = (),
        shutdown: Mapping[str, Any] | None = None,
        trains: Mapping[str, Any] | None = None,
        trained_tokens: bool = True,
        result_file: bool = False,
        late: int = 0,
        keeps_files: bool = False,
        chooses: int = 3,
        trained_before: int | None = None,
        broke: bool = False,
        clock: float = 0.0,
        judges: bool = True,
        moved: str = "",
    ) -> None:
        self.moved = moved
        self.late, self.keeps_files, self.chooses = late, keeps_files, chooses
        self.trained_before, self.broke, self.clock, self.judges = trained_before, broke, clock, judges
        self.engine, self.key, self.hold, self.fails = engine, key, hold, fails
        self.unready, self.queued = unready, queued
        self.lose, self.shutdown, self.trained_tokens = deque(lose), dict(shutdown or {}), trained_tokens
        self.trains = {"rank": 4, "lr": 2e-2, "batch_size": 4, **(trains or {})}
        self.result_file = result_file
        self.got: list[Got] = []
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.jobs: dict[str, Trained] = {}
        self.models: dict[str, Path | None] = {self.base: None}
        self.errors: list[str] = []
        self.lock, self._one = threading.RLock(), threading.Lock()
        self._folder = tempfile.TemporaryDirectory()
        self._threads: list[threading.Thread] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Any:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.hold is not None:
            self.hold.set()
        for thread in self._threads:
            thread.join(timeout=60)
        self._http.shutdown()
        self._http.server_close()
        self._folder.cleanup()
        assert not self.errors, self.errors[0]

    def arrived(self, method: str, pattern: str) -> list[Got]:
        """Requests of that method whose path fits the pattern whole."""
        return [g for g in self.got if g.method == method and re.fullmatch(pattern, g.path)]

    def run_job(self) -> None:
        """Until all jobs have ended."""
        for thread in list(self._threads):
            thread.join(timeout=120)

    # --- what the protocol offers ------------------------------------------------------------

    def answer(self, got: Got, raw: bytes) -> tuple[int, Any]:
        """(status, body) of a request; bytes are sent as they are."""
        path, query = urlsplit(got.path).path.removeprefix(self.prefix), parse_qs(urlsplit(got.path).query)
        if not self.lets_in(got):
            sent = got.headers.get("authorization", "")
            return _error(401, "invalid_api_key", f"Incorrect API key provided: {sent}.")
        if self.broke and got.method == "POST":
            return _error(429, "insufficient_quota", "You exceeded your current quota")
        match [got.method, *path.strip("/").split("/")]:
            case ["DELETE", "files", _] if self.keeps_files:
                return _error(403, "forbidden", "not allowed")
            case ["POST", "files"]:
                return 200, self._upload(got, raw)
            case ["GET", "files"]:
                return 200, _list([row for row, _ in self.files.values()])
            case ["DELETE", "files", name]:
                self.files.pop(name, None)
                return 200, {"id": name, "object": "file", "deleted": True}
            case ["GET", "files", name, "content"]:
                return 200, base64.b64encode(self.files[name][1])
            case ["POST", "fine_tuning", "jobs"]:
                return self._create(got.body)
            case ["GET", "fine_tuning", "jobs"]:
                jobs = [self._shown(t) for t in reversed(self.jobs.values())]
                if self.late:
                    self.late, jobs = self.late - 1, jobs[1:]
                return 200, _list(_after(jobs, query))
            case ["GET", "fine_tuning", "jobs", name]:
                return 200, self._shown(self.jobs[name])
            case ["GET", "fine_tuning", "jobs", name, "events"]:
                return 200, _list(_after(list(reversed(self.jobs[name].events)), query))
            case ["GET", "fine_tuning", "jobs", name, "checkpoints"]:
                return 200, _list(_after(self.jobs[name].checkpoints, query))
            case ["POST", "fine_tuning", "jobs", name, "cancel"]:
                self.jobs[name].row["status"] = "cancelled"
                return 200, self._shown(self.jobs[name])
            case ["GET", "models"]:
                rows = [{"id": m, "object": "model", "created": 0, "owned_by": "test"} for m in self.models]
                return 200, _list([{**r, "shutdown_date": self.shutdown.get(r["id"])} for r in rows])
            case ["POST", "chat", "completions"]:
                return self._chat(got.body)
        return _error(404, "not_found", f"no such path: {got.path}")

    def lets_in(self, got: Got) -> bool:
        return got.headers.get("authorization") == f"Bearer {self.key}"

    def _upload(self, got: Got, raw: bytes) -> dict[str, Any]:
        name, content = _multipart(got.headers["content-type"], raw)
        row = {
            "id": f"file-{len(self.files) + 1:04d}{len(self.got)}", "object": "file", "bytes": len(content),
            "created_at": int(time.time()), "filename": name, "purpose": "fine-tune", "status": "processed",
        }  # fmt: skip
        self.files[row["id"]] = (row, content)
        return row

    def _create(self, body: Any) -> tuple[int, Any]:
        if self.unready:
            self.unready -= 1
            return self.not_ready(body["training_file"])
        if body["training_file"] not in self.files:
            return _error(404, "not_found", f"No such file object: {body['training_file']}")
        if body["model"] != self.base:
            return _error(400, "model_not_available", f"{body['model']} is not available for fine-tuning")
        name = f"ftjob-{len(self.jobs) + 1:04d}"
        row = {
            "id": name, "object": "fine_tuning.job", "created_at": int(time.time() + self.clock),
            "finished_at": None,
            "error": None, "fine_tuned_model": None, "model": body["model"], "organization_id": "org-1",
            "result_files": [], "seed": body.get("seed", 0), "status": self.first_status,
            "trained_tokens": None, "training_file": body["training_file"], "metadata": body.get("metadata"),
            "validation_file": body.get("validation_file"), "method": body["method"],
            "hyperparameters": body["method"]["supervised"]["hyperparameters"],
        }  # fmt: skip
        job = self.jobs[name] = Trained(row)
        job.row["looks"] = 0
        self.event(job, f"Created fine-tuning job: {name}")
        thread = threading.Thread(target=self._work, args=(job, body), daemon=True)
        self._threads.append(thread)
        thread.start()
        return 200, self._shown(job)

    first_status = "validating_files"

    def not_ready(self, file: str) -> tuple[int, Any]:
        return _error(
            400, "invalid_request_error", f"File '{file}' is still being processed and is not ready"
        )

    def _shown(self, job: Trained) -> dict[str, Any]:
        job.row["looks"] += 1
        row = {k: v for k, v in job.row.items() if k != "looks"}
        if row["status"] not in ("succeeded", "failed", "cancelled"):
            row["status"] = self.first_status if job.row["looks"] <= 1 else row["status"]
            if 1 < job.row["looks"] <= 1 + self.queued:
                row["status"] = "queued"
        elif job.row["looks"] <= 1 + self.queued:  # too quick for the queue it is meant to have
            row |= {"status": "queued", "fine_tuned_model": None, "trained_tokens": None}
        return self.spelled(row)

    def spelled(self, row: dict[str, Any]) -> dict[str, Any]:
        """As this provider writes a job."""
        return row

    def event(self, job: Trained, message: str, data: Any = None) -> None:
        number = len(job.events)
        kind = "metrics" if data else "message"
        job.events.append(
            {
                "object": "fine_tuning.job.event", "id": f"ftevent-{number:05d}", "level": "info",
                "created_at": int(time.time()), "message": message, "type": kind, "data": data or {},
            }
        )  # fmt: skip

    # --- the work ----------------------------------------------------------------------------

    def _work(self, job: Trained, body: Any) -> None:
        try:
            lines = self.files[body["training_file"]][1].splitlines()
            pairs = _learned_turns(lines)
            held = self.files.get(body.get("validation_file") or "", (None, b""))[1]
            checks = _learned_turns(held.splitlines())
            self.event(job, "Fine-tuning job started")
            job.row["status"] = "running"
            asked = body["method"]["supervised"]["hyperparameters"]
            if asked["n_epochs"] == "auto":
                told = {**asked, "n_epochs": self.chooses}
                job.row |= {"method": {"type": "supervised", "supervised": {"hyperparameters": told}}}
            if self.hold is not None:
                self.hold.wait()
            if job.row["status"] == "cancelled":
                return
            if self.fails or len(lines) < 10:
                said = self.fails or f"Training file has {len(lines)} example(s), but must have at least 10"
                error = {"code": "invalid_training_file", "message": said, "param": "training_file"}
                job.row |= {"error": error, "status": "failed", "finished_at": int(time.time())}
                job.row["trained_tokens"] = self.trained_before
                return
            self._train(job, body, pairs, checks)
        except Exception:
            self.errors.append(traceback.format_exc())
            job.row |= {"status": "failed", "error": {"code": "internal", "message": "oops", "param": None}}

    def _train(
        self, job: Trained, body: Any, pairs: Sequence[TrainingPair], checks: Sequence[TrainingPair]
    ) -> None:
        asked = body["method"]["supervised"]["hyperparameters"]
        epochs = self.chooses if asked["n_epochs"] == "auto" else asked["n_epochs"]
        settings = {**self.trains, "epochs": epochs}
        if asked["batch_size"] != "auto":
            settings["batch_size"] = asked["batch_size"]
        if asked["learning_rate_multiplier"] != "auto":
            settings["lr"] = settings["lr"] * asked["learning_rate_multiplier"]
        folder = Path(self._folder.name) / job.row["id"]
        folder.mkdir()
        result = self._learned(settings, pairs, checks, folder, body.get("seed", 0))
        if self.result_file:
            lines = ["step,train_loss,full_valid_loss", *(f"{step},{loss}," for step, loss in result.losses)]
            self.files["file-results"] = ({"id": "file-results", "filename": "r"}, "\n".join(lines).encode())
            job.row["result_files"] = ["file-results"]
        for step, loss in () if self.result_file else result.losses:
            self.event(job, f"Step {step}", {"step": step, "train_loss": loss})
        for number, (step, loss) in enumerate(result.validation_losses):
            if not self.result_file:
                self.event(job, f"Step {step}", {"step": step, "full_valid_loss": loss})
            job.checkpoints.append(self._checkpoint(job, number, step, loss))
        name = self.tuned_name(job, body)
        with self.lock:
            self.models[name] = folder
            for c in job.checkpoints:
                self.models[c["fine_tuned_model_checkpoint"]] = folder
        self.event(job, "The job has successfully completed")
        used = {**asked, "n_epochs": epochs}
        told = result.training_tokens if self.trained_tokens else None
        job.row |= {
            "fine_tuned_model": name, "trained_tokens": told, "finished_at": int(time.time()),
            "status": "succeeded",
            "hyperparameters": used,
            "method": {"type": "supervised", "supervised": {"hyperparameters": used}},
        }  # fmt: skip

    def _learned(
        self,
        settings: Mapping[str, Any],
        pairs: Sequence[TrainingPair],
        checks: Sequence[TrainingPair],
        folder: Path,
        seed: int,
    ) -> Any:
        if self.engine is None:
            steps = range(1, settings["epochs"] * 3 + 1)
            words = sum(len(m["content"].split()) for p in pairs for m in p.messages)
            return Pretended(
                tuple((n, 2.0 / n) for n in steps),
                tuple((3 * n, 1.0 + (n - 2) ** 2) for n in range(1, settings["epochs"] + 1) if checks),
                words * settings["epochs"],
            )
        from breakeven.baselines.trainers.peft import peft

        with self._one:
            return peft(**settings).train(
                self.engine.tunable(), pairs, checks, folder, folder / "scratch", seed, {},
                lambda done, total, what: None,
            )  # fmt: skip

    def tuned_name(self, job: Trained, body: Any) -> str:
        return f"ft:{self.base}:personal:{body.get('suffix')}:{job.row['id'][-4:]}"

    def _checkpoint(self, job: Trained, number: int, step: int, loss: float) -> dict[str, Any]:
        return {
            "object": "fine_tuning.job.checkpoint", "id": f"ftckpt-{number}", "created_at": int(time.time()),
            "fine_tuned_model_checkpoint": f"ft:{self.base}:personal::{job.row['id'][-4:]}:ckpt-step-{step}",
            "fine_tuning_job_id": job.row["id"], "step_number": step,
            "metrics": {"step": step, "full_valid_loss": loss if self.judges else None},
        }  # fmt: skip

    def adapter_of(self, model: str) -> tuple[bool, Path | None]:
        """(whether this name may be asked, its adapter)."""
        return model in self.models, self.models.get(model)

    def _chat(self, body: Any) -> tuple[int, Any]:
        known, adapter = self.adapter_of(body["model"])
        if not known:
            return _error(404, self.unknown_model, f"The model {body['model']} does not exist")
        request = Request(
            id="served",
            messages=tuple(body["messages"]),
            max_tokens=body.get("max_tokens") or body.get("max_completion_tokens") or 16,
            stop=tuple(body.get("stop") or ()),
            seed=body.get("seed", 0),
        )
        completion = self._said(request, adapter)
        usage = completion.usage
        return 200, {
            "id": "x", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": completion.finish_reason,
                         "message": {"role": "assistant", "content": completion.text}}],
            "usage": {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
                      "total_tokens": usage.input_tokens + usage.output_tokens},
        }  # fmt: skip

    def _said(self, request: Request, adapter: Path | None) -> Completion:
        if self.engine is None:
            words = sum(len(m["content"].split()) for m in request.messages)
            return Completion("", "wet" if adapter else "dry", "stop", Usage(words, 1), 0.0)
        with self._one:
            said: Completion = next(iter(self.engine.adapt(adapter).complete([request])))
        return said

    unknown_model = "model_not_found"


TOKEN = "control-plane-token"  # what AZURE_TOKEN holds


class Azure(FineTuningServer):
    """The same server with what Azure does in its own way, and its control plane on the same port.

    Jobs are `pending` at first, hyper-parameters come back as -1, `result_files` and `organization_id` are
    null; a tuned model is asked by the name of its deployment, which must be made first.

    Args:
        slow: looks at a deployment that find it "Creating".
        breaks: provisioning ends in "Failed".
        keeps: deletions that are refused with this status.
        forgets: deletions are promised and not done.
        appears_late: making a deployment breaks off, and it appears when somebody looks for it again.
    """

    prefix = "/openai/v1"
    first_status = "pending"
    unknown_model = "DeploymentNotFound"

    def __init__(
        self,
        engine: Any,
        *,
        slow: int = 0,
        breaks: bool = False,
        keeps: int = 0,
        forgets: bool = False,
        appears_late: bool = False,
        **settings: Any,
    ) -> None:
        self.forgets, self.appears_late = forgets, appears_late
        self._coming: list[str] = []
        super().__init__(engine, **settings)
        self.slow, self.breaks, self.keeps = slow, breaks, keeps
        self.deployments: dict[str, dict[str, Any]] = {}
        self.most = 0
        self.before_put: Callable[[], None] = lambda: None

    def lets_in(self, got: Got) -> bool:
        if got.path.startswith("/subscriptions/"):
            return got.headers.get("authorization") == f"Bearer {TOKEN}"
        return got.headers.get("api-key") == self.key

    def answer(self, got: Got, raw: bytes) -> tuple[int, Any]:
        path = urlsplit(got.path).path
        if not path.startswith("/subscriptions/"):
            return super().answer(got, raw)
        if not self.lets_in(got):
            return _error(401, "InvalidAuthenticationToken", "The access token is expired")
        name = path.rpartition("/")[2]
        match got.method:
            case "PUT":
                self.before_put()
                if self.appears_late:
                    self._coming = [name]
                    return _error(504, "GatewayTimeout", "no answer in time")
                if got.body["properties"]["model"]["name"] not in self.models:
                    return _error(400, "InvalidResourceProperties", "no such model")
                self.deployments[name] = {"model": got.body["properties"]["model"]["name"], "looks": 0}
                self.most = max(self.most, len(self.deployments))
                return 201, self._deployment(name)
            case "GET" if name in self.deployments:
                self.deployments[name]["looks"] += 1
                return 200, self._deployment(name)
            case "DELETE" if self.forgets:
                return 202, {}
            case "DELETE" if self._coming:
                self.deployments[self._coming.pop()] = {"model": self.base, "looks": 0}
                self.most = len(self.deployments)
                return _error(404, "ResourceNotFound", "no such deployment")
            case "DELETE" if self.keeps:
                return _error(self.keeps, "Conflict", "another operation is in progress")
            case "DELETE":
                return (202 if self.deployments.pop(name, None) else 204), {}
        return _error(404, "ResourceNotFound", "no such deployment")

    def _deployment(self, name: str) -> dict[str, Any]:
        looks = self.deployments[name]["looks"]
        state = "Creating" if looks <= self.slow else "Failed" if self.breaks else "Succeeded"
        return {"name": name, "properties": {"provisioningState": state}}

    def spelled(self, row: dict[str, Any]) -> dict[str, Any]:
        unknown = {"n_epochs": -1, "batch_size": -1, "learning_rate_multiplier": -1}
        status = "pending" if row["status"] == "queued" else row["status"]
        nulls = dict.fromkeys(("organization_id", "result_files", "method", "metadata"))
        return {**row, **nulls, "status": status, "hyperparameters": unknown}

    def tuned_name(self, job: Trained, body: Any) -> str:
        return f"{self.base}.ft-{job.row['id'][-4:]}-{body.get('suffix')}"

    def adapter_of(self, model: str) -> tuple[bool, Path | None]:
        if model == self.base:
            return True, None
        there = self.deployments.get(model)
        return (True, self.models[there["model"]]) if there is not None else (False, None)


# --- the wire --------------------------------------------------------------------------------


def _handler(server: FineTuningServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {k.lower(): v for k, v in self.headers.items()}
            is_json = "json" in headers.get("content-type", "")
            body = json.loads(raw) if is_json and raw else None
            got = Got(self.command, self.path, body, headers)
            with server.lock:
                server.got.append(got)
            try:
                if urlsplit(self.path).path.endswith("/chat/completions"):
                    status, told = server.answer(got, raw)
                else:
                    with server.lock:
                        status, told = server.answer(got, raw)
            except Exception:
                server.errors.append(traceback.format_exc())
                status, told = _error(500, "internal", "oops")
            if server.moved:
                status = 307
            kind, data = "application/json", told if isinstance(told, bytes) else json.dumps(told).encode()
            if server.lose and (server.lose[0].method, server.lose[0].path) == (self.command, self.path):
                match server.lose.popleft().how:
                    case "half":
                        data = data[: len(data) // 2]
                    case "page":
                        kind, data = "text/html", b"<html>Sign in</html>"
                    case "500":
                        status, data = 500, b"{}"
                    case _:
                        self.close_connection = True
                        return
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if server.moved:
                    self.send_header("Location", server.moved + self.path.removeprefix(server.prefix))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _do

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _error(status: int, code: str, message: str) -> tuple[int, Any]:
    return status, {
        "error": {"code": code, "message": message, "type": "invalid_request_error", "param": None}
    }


def _list(rows: Sequence[Any]) -> dict[str, Any]:
    return {"object": "list", "data": list(rows), "has_more": False}


def _after(rows: list[Any], query: Mapping[str, list[str]]) -> list[Any]:
    """The page behind `after`, at most `limit` long."""
    ids = [row["id"] for row in rows]
    start = ids.index(query["after"][0]) + 1 if "after" in query else 0
    return rows[start : start + int(query.get("limit", ["20"])[0])]


def _multipart(kind: str, raw: bytes) -> tuple[str, bytes]:
    """(file name, content) of the one file in a form."""
    boundary = kind.partition("boundary=")[2].strip('"').encode()
    for part in raw.split(b"--" + boundary):
        head, _, content = part.partition(b"\r\n\r\n")
        if b"filename=" in head:
            name = re.search(rb'filename="([^"]*)"', head)
            assert name is not None
            return name[1].decode(), content.removesuffix(b"\r\n")
    raise ValueError("no file in the form")


def _learned_turns(lines: Sequence[bytes]) -> list[TrainingPair]:
    """What the rows of a file teach, as the trainer takes it: every turn of the assistant that has no weight
    0, under what stands before it. Anything that the rules forbid is an error of the test."""
    pairs = []
    for number, line in enumerate(lines):
        messages = json.loads(line)["messages"]
        assert messages[-1]["role"] == "assistant"
        assert all(m.get("weight", 1) in (0, 1) for m in messages)
        assert all("weight" not in m for m in messages if m["role"] != "assistant")
        plain = [{k: v for k, v in m.items() if k != "weight"} for m in messages]
        for place, message in enumerate(messages):
            if message["role"] == "assistant" and message.get("weight", 1):
                assert message["content"]
                name = f"{number}.{place}"
                pairs.append(TrainingPair(name, tuple(plain[:place]), message["content"]))
        assert pairs[-1].messages == tuple(plain[:-1]), "the last answer is not learned"
    return pairs
