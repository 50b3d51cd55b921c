"""A fine-tuning job at a server that speaks OpenAI's protocol: files up, a job made, followed, and read.

Everything is written down before it is asked for (`job.json`), under a name that no other upload or job
has, so that whoever is killed between asking and noting the answer finds it again at the server: nothing
is uploaded or created twice. What is asked goes over the `openai` package; what differs between servers is
in `Dialect`.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import math
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._protocol import (
    check_pairs,
    client,
    epochs_of,
    expected_epochs,
    number,
    rows,
    said_by,
    shutdown_date,
)
from breakeven.harness import store
from breakeven.harness.contracts import TrainingPair
from breakeven.harness.errors import BreakevenError, Pending, UserError
from breakeven.harness.hosted import Endpoint, HostedModel, HostedTraining

Progress = Callable[[float, float, str], None]

#: Statuses after which nothing more happens.
ENDED = ("succeeded", "failed", "cancelled")
#: How a server says that a file it has just been given is not there yet.
_NOT_READY = re.compile(
    r"not ready|not yet|being processed|still processing|pending|not found|does not exist", re.I
)
_NOT_READY_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 60.0, 60.0, 60.0)


class HostedFailure(BreakevenError):
    """A server does not answer as the protocol says; nobody's mistake that anyone knows of."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one provider does in its own way.

    Attributes:
        suffix: characters that the name of a tuned model may be given.
        keeps_metadata: whether a job can be given a mark of ours to find it again by; its file's id serves
        too.
    """

    name: str
    suffix: int = 64
    keeps_metadata: bool = True


@dataclass
class State:
    """What is known of a job across processes. `asked` holds what was asked for and not yet noted."""

    nonce: str
    files: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    job: str = ""
    paid: float = 0.0
    began: str = ""

    @classmethod
    def read(cls, file: Path) -> State:
        row = store.read_json(file)
        return cls(**row) if row is not None else cls(uuid.uuid4().hex[:16])


class Job:
    """One training, from pairs to a model id.

    Args:
        folder: survives a crash; `job.json`, `events.jsonl` and `checkpoints.json` are kept in it.
        sleep: waits; tests only note how long.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: JobSettings,
        dialect: Dialect,
        folder: Path,
        seed: int,
        progress: Progress,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint, self.settings, self.dialect = endpoint, settings, dialect
        self.folder, self.seed, self.progress, self.sleep = folder, seed, progress, sleep
        self.base = settings.model or endpoint.model
        self._file = folder / "job.json"
        self.state = State.read(self._file)
        self._client = client(endpoint)

    def run(
        self, pairs: Sequence[TrainingPair], validation: Sequence[TrainingPair]
    ) -> tuple[Any, HostedTraining]:
        """(the job as the server tells it, what it did).

        Raises:
            UserError: the pairs, the server or the job refuse; nothing is uploaded where the pairs do.
            Pending: the job is under way after `wait` seconds.
        """
        check_pairs(pairs, validation, self.settings)
        self._save()
        if not self.state.job:
            self._pay(pairs)
            self._upload("train", pairs)
            if validation:
                self._upload("validation", validation)
            self._create()
        job = self._follow()
        if job.status != "succeeded":
            self._give_up(job)
        result = self._read(job, len(pairs))
        self._settle(result)
        self._tidy()
        return job, result

    def _save(self) -> None:
        store.write_json(self._file, store.as_dict(self.state))

    # --- up ----------------------------------------------------------------------------------

    def _upload(self, part: str, pairs: Sequence[TrainingPair]) -> None:
        """The file of a part, sent once: found by its name where an earlier process was killed after
        sending it."""
        if part in self.state.files:
            return
        name = f"breakeven-{self.state.nonce}-{part}.jsonl"
        content = rows(pairs)
        sent = self._find_file(name, len(content)) if part in self.state.asked else None
        if sent is None:
            self._ask(part)
            self.progress(0.0, 1.0, f"sending {part} examples to {self.endpoint.host}")
            sent = self._call(
                lambda: self._client.files.create(
                    file=(name, content, "application/jsonl"), purpose="fine-tune"
                ),
                lambda: self._find_file(name, len(content)),
            )
        self.state.files[part] = sent.id
        self._save()

    def _ask(self, what: str) -> None:
        if what not in self.state.asked:
            self.state.asked.append(what)
            self._save()

    def _find_file(self, name: str, size: int) -> Any:
        """An upload of that name, if it arrived whole."""
        found = [
            f
            for f in self._call(lambda: list(self._client.files.list(purpose="fine-tune")))
            if f.filename == name
        ]
        return next((f for f in found if f.bytes in (None, size)), None)

    def _create(self) -> None:
        """The job, made once; a file that the server has not digested yet is waited for."""
        job = self._find_job() if "job" in self.state.asked else None
        waits = iter(_NOT_READY_WAITS)
        while job is None:
            self._ask("job")
            try:
                job = self._call(
                    lambda: self._client.fine_tuning.jobs.create(**self._request()), self._find_job
                )
            except UserError as error:
                pause = next(waits, None)
                if pause is None or not _NOT_READY.search(error.what) or "file" not in error.what.lower():
                    raise
                self.progress(0.0, 1.0, f"{self.endpoint.host} is reading the file")
                self.sleep(pause)
        self.state.job = job.id
        self.state.began = _now()
        self._save()

    def _request(self) -> dict[str, Any]:
        settings = self.settings
        suffix = (settings.suffix or f"be-{self.state.nonce[:8]}")[: self.dialect.suffix]
        wanted = {
            "n_epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate_multiplier": settings.learning_rate_multiplier,
        }
        made: dict[str, Any] = {
            "model": self.base,
            "training_file": self.state.files["train"],
            "suffix": suffix,
            "seed": self.seed,
            "method": {"type": "supervised", "supervised": {"hyperparameters": wanted}},
        }
        if "validation" in self.state.files:
            made["validation_file"] = self.state.files["validation"]
        if self.dialect.keeps_metadata:
            made["metadata"] = {"breakeven": self.state.nonce}
        if settings.body:
            made["extra_body"] = dict(settings.body)
        return made

    def _find_job(self) -> Any:
        """The job that was made of our file: no other job has it."""
        file = self.state.files.get("train")
        for job in self._call(lambda: self._listed(self._client.fine_tuning.jobs.list(limit=100))):
            if job.training_file == file or (job.metadata or {}).get("breakeven") == self.state.nonce:
                return job
        return None

    def _listed(self, page: Any) -> list[Any]:
        return [item for _, item in zip(range(1001), page, strict=False)]

    # --- money -------------------------------------------------------------------------------

    def _pay(self, pairs: Sequence[TrainingPair]) -> None:
        """Take what the training may cost from the run's purse. Raises SpendingLimitReached; sends
        nothing."""
        if self.state.paid:
            return
        tokens = sum(math.ceil(len(row) / 3) for row in rows(pairs).splitlines())
        money = self.endpoint.training_money(tokens * expected_epochs(self.settings.epochs, len(pairs)))
        if money:
            guard = self.endpoint.guard
            guard.settle(guard.reserve(money), money)
            self.state.paid = money
            self._save()

    def _settle(self, result: HostedTraining) -> None:
        """Correct what was taken beforehand by what was billed."""
        billed = (
            self.endpoint.training_money(result.training_tokens)
            if result.training_tokens is not None
            else None
        )
        if self.state.paid and billed is not None:
            guard = self.endpoint.guard
            guard.settle(guard.reserve(0.0), billed - self.state.paid)
            self.state.paid = 0.0
            self._save()

    # --- following ---------------------------------------------------------------------------

    def _follow(self) -> Any:
        """The job once it has ended. Raises Pending while it has not, after `wait` seconds."""
        settings, began, pause = self.settings, time.monotonic(), 1.0
        while True:
            job = self._call(lambda: self._client.fine_tuning.jobs.retrieve(self.state.job))
            said = self._note_events()
            if job.status in ENDED:
                return job
            hours = (time.time() - job.created_at) / 3600
            if hours > settings.max_hours:
                self._cancel(f"it was not ready after {settings.max_hours:g} h")
            self.progress(0.0, 1.0, f"{job.status} at {self.endpoint.host}{f': {said}' if said else ''}")
            if time.monotonic() - began >= settings.wait:
                raise Pending(
                    {"job": job.id, "host": self.endpoint.host, "status": job.status, "model": self.base},
                    self._check_after(job),
                )
            self.sleep(min(pause, max(settings.wait - (time.monotonic() - began), 0.05)))
            pause = min(pause * 1.5, 30.0)

    def _check_after(self, job: Any) -> datetime:
        soon = datetime.now(UTC) + timedelta(minutes=self.settings.check_minutes)
        promised = getattr(job, "estimated_finish", None)
        return max(soon, datetime.fromtimestamp(promised, UTC)) if promised else soon

    def _cancel(self, why: str) -> None:
        self._call(lambda: self._client.fine_tuning.jobs.cancel(self.state.job))
        job = self.state.job
        self._forget()
        raise UserError(
            f"job {job} at {self.endpoint.host} was cancelled: {why}",
            field="weights.max_hours",
            hint="what it trained until then may be billed; run the cell again for a new job",
        )

    def _give_up(self, job: Any) -> None:
        """A failed or cancelled job: its own words, and a clean slate for the next attempt."""
        error = job.error
        said = self.endpoint.clean(str(getattr(error, "message", "") or "")) if error is not None else ""
        code = f" ({error.code})" if error is not None and getattr(error, "code", None) else ""
        guard = self.endpoint.guard
        if job.status == "failed" and self.state.paid:
            guard.settle(guard.reserve(0.0), -self.state.paid)  # a failed job is not billed
        last = "" if said else self._last_event()
        self._forget()
        if job.status == "failed":
            raise UserError(
                f"job {job.id} at {self.endpoint.host} failed{code}: {said or last or 'it gives no reason'}",
                field="weights",
                hint="mend that and resume: a new job is made then",
            )
        raise UserError(
            f"job {job.id} at {self.endpoint.host} was cancelled there{f': {said}' if said else ''}",
            field="weights",
            hint="resume to make a new one; what it trained until then may be billed",
        )

    def _forget(self) -> None:
        """Keep the state of what has ended beside, and start the next attempt from nothing."""
        self._tidy()
        earlier = len(list(self.folder.glob("job-*.json")))
        self._file.rename(self.folder / f"job-{earlier + 1}.json")
        self.state = State.read(self._file)

    def _note_events(self) -> str:
        """Add new events to `events.jsonl`; returns the last message."""
        file = self.folder / "events.jsonl"
        known = {row["id"] for row in store.read_journal(file)}
        events = self._call(
            lambda: self._listed(self._client.fine_tuning.jobs.list_events(self.state.job, limit=100)),
            optional=True,
        )
        new = [e for e in events or [] if e.id not in known]
        new.reverse()  # they come newest first
        for event in sorted(new, key=lambda e: e.created_at):
            row = {
                "id": event.id,
                "job": self.state.job,
                "at": event.created_at,
                "level": event.level,
                "message": self.endpoint.clean(event.message or ""),
                "type": getattr(event, "type", None) or "message",
                "data": event.data if isinstance(event.data, dict) else None,
            }
            store.append_line(file, row)
        return self._last_event()

    def _last_event(self) -> str:
        events = [e for e in self._events() if e["type"] == "message"]
        return str(events[-1]["message"]) if events else ""

    def _events(self) -> list[dict[str, Any]]:
        return [e for e in store.read_journal(self.folder / "events.jsonl") if e["job"] == self.state.job]

    # --- what came of it ---------------------------------------------------------------------

    def _read(self, job: Any, examples: int) -> HostedTraining:
        losses, validation = self._losses(job)
        remarks = [f"trained by job {job.id} at {self.endpoint.host}"]
        if (ends := shutdown_date(self._models(), self.base, job.fine_tuned_model or "")) is not None:
            remarks.append(f"{self.endpoint.host} shuts {ends[0]} down on {ends[1]}")
        if job.trained_tokens is None:
            remarks.append("the provider does not say how many tokens it bills for the training")
        return HostedTraining(
            job=job.id,
            host=self.endpoint.host,
            model=job.fine_tuned_model or "",
            examples=examples,
            training_tokens=job.trained_tokens,
            seconds=float(job.finished_at - job.created_at) if job.finished_at else None,
            steps=max((step for step, _ in losses), default=None),
            epochs=epochs_of(job),
            losses=tuple(losses),
            validation_losses=tuple(validation),
            settings=self.settings.what_matters(),
            remarks=tuple(remarks),
        )

    def chosen(self, job: Any) -> str:
        """The model id to serve: the job's last one, or that of the checkpoint with the least validation
        loss."""
        found = self._call(
            lambda: self._listed(self._client.fine_tuning.jobs.checkpoints.list(job.id, limit=100)),
            optional=True,
        )
        made = [
            {
                "id": c.id,
                "model": c.fine_tuned_model_checkpoint,
                "step": c.step_number,
                "valid_loss": number(getattr(c.metrics, "full_valid_loss", None))
                or number(getattr(c.metrics, "valid_loss", None)),
            }
            for c in found or []
        ]
        store.write_json(self.folder / "checkpoints.json", made)
        judged = [r for r in made if r["valid_loss"] is not None]
        if self.settings.checkpoint == "best" and judged:
            return str(min(judged, key=lambda r: float(r["valid_loss"]))["model"])
        return str(job.fine_tuned_model)

    def _losses(self, job: Any) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """Training and validation losses by step: of the events, else of the result file."""
        told = [e["data"] for e in self._events() if e["type"] == "metrics" and e["data"]]
        if not told:
            told = list(self._results(job))
        train = {int(r["step"]): loss for r in told if (loss := number(r.get("train_loss"))) is not None}
        valid: dict[int, float] = {}
        for r in told:
            loss = number(r.get("full_valid_loss"))
            loss = number(r.get("valid_loss")) if loss is None else loss
            if loss is not None:
                valid[int(r["step"])] = loss
        return sorted(train.items()), sorted(valid.items())

    def _results(self, job: Any) -> Iterator[Mapping[str, Any]]:
        """Rows of the result CSV; none where a provider gives none. OpenAI sends it in base64."""
        for file in job.result_files or []:
            content = self._call(partial(self._content, file), optional=True)
            if content is None:
                continue
            try:
                text = base64.b64decode(content, validate=True).decode()
            except (binascii.Error, ValueError):
                text = content.decode("utf-8", "replace")
            for row in csv.DictReader(io.StringIO(text)):
                if (row.get("step") or "").isdigit():
                    yield row

    def _content(self, file: str) -> bytes:
        content: bytes = self._client.files.content(file).read()
        return content

    def _models(self) -> list[Any]:
        return self._call(lambda: self._listed(self._client.models.list()), optional=True) or []

    def _tidy(self) -> None:
        """Take our files back, unless they are to stay. Not being able to is no failure."""
        if self.settings.keep_files:
            return
        for part, name in list(self.state.files.items()):
            self._call(partial(self._client.files.delete, name), optional=True)
            del self.state.files[part]
        self._save()

    # --- asking ------------------------------------------------------------------------------

    def _call(
        self, ask: Callable[[], Any], find: Callable[[], Any] | None = None, *, optional: bool = False
    ) -> Any:
        """What the server answers, asked again while it is busy.

        Where an answer is lost on the way, `find` looks whether what was asked for is there all the same.
        `optional` gives None for what a server does not offer.
        """
        import openai

        reason = ""
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, None):
            try:
                return ask()
            except openai.APIStatusError as error:
                if error.status_code not in (408, 409, 429) and error.status_code < 500:
                    if optional:
                        return None
                    refusal = self._refusal(error)
                    raise refusal from None  # its traceback would drag the request and its key along
                reason = f"{error.status_code} {self.endpoint.clean(said_by(error))}".strip()
            except openai.APIConnectionError as error:
                if isinstance(error.__cause__, UserError):
                    raise error.__cause__ from None
                reason = type(error.__cause__ or error).__name__
            if find is not None and (there := find()) is not None:
                return there
            if pause is not None:
                self.sleep(pause)
        if optional:
            return None
        raise HostedFailure(f"{self.endpoint.host} gives no answer about fine-tuning; at last: {reason}")

    def _refusal(self, error: Any) -> UserError:
        endpoint, status = self.endpoint, error.status_code
        said = endpoint.clean(said_by(error))
        if status in (401, 403):
            key = endpoint.api_key_env or "no variable"
            return UserError(
                f"{endpoint.host} refuses fine-tuning with the key in {key} ({status} {said})",
                field="api_key_env",
                hint="may the account fine-tune this model? OpenAI takes no new ones since May 2026",
            )
        if status == 404 and "file" not in said.lower():
            return UserError(
                f"{endpoint.host} offers no fine-tuning at {endpoint.base_url} (404 {said})", field="base_url"
            )
        return UserError(f"{endpoint.host} refuses the training ({status} {said})", field="weights")


def finished(
    job: Job, done: Any, result: HostedTraining, price_as: str, plan: Mapping[str, Any] | None
) -> HostedTraining:
    """Write `hosted.json`, last of all: the artifact is there."""
    model = job.chosen(done)
    HostedModel(model, job.base, job.endpoint.base_url, price_as, plan).write(job.folder)
    return replace(result, model=model)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
