"""What is sent for a fine-tuning job: its files and the job itself, each once, and taken back afterwards.

Everything is written down before it is asked for (`job.json`), under a mark that no other upload or job
has, so that whoever is killed between asking and noting the answer finds it again at the server. Nothing
without that mark is ever deleted.
"""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from breakeven.baselines.trainers._asking import Asking, HostedFailure
from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._protocol import client, rows, status_of
from breakeven.harness import store
from breakeven.harness.errors import BreakevenError, UserError
from breakeven.harness.hosted import Endpoint
from breakeven.harness.training import TrainingPair

Progress = Callable[[float, float, str], None]

#: Statuses after which nothing more happens.
ENDED = ("succeeded", "failed", "cancelled")
#: How a server says that a file it has just been given is not there yet.
_NOT_READY = re.compile(
    r"not ready|not yet|being processed|still processing|pending|not found|does not exist", re.I
)
_NOT_READY_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 60.0, 60.0, 60.0)


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
    """What is known of a job across processes. `asked` holds what was asked for and may not be noted yet.

    `trainer`, `server`, `asks` (the model that the engine asks by) and `keeps` (its files) are for whoever
    finds a job that no cell wants any more.
    """

    nonce: str
    files: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    job: str = ""
    began: str = ""
    ended: str = ""
    trainer: str = ""
    server: str = ""
    asks: str = ""
    keeps: bool = False

    @classmethod
    def read(cls, file: Path) -> State:
        row = store.read_json(file)
        if row is None:
            return cls(uuid.uuid4().hex[:16])
        return cls(**{f.name: row[f.name] for f in fields(cls) if f.name in row})


class Sending:
    """What lies at the server for one training, and what is known of it here (`state`).

    Args:
        folder: survives a crash; `job.json` is kept in it.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: JobSettings,
        dialect: Dialect,
        folder: Path,
        seed: int,
        progress: Progress,
        sleep: Callable[[float], None],
    ) -> None:
        self.endpoint, self.settings, self._dialect = endpoint, settings, dialect
        self._seed, self._progress, self._sleep = seed, progress, sleep
        self.base = settings.model or endpoint.model
        self.folder, self.file = folder, folder / "job.json"
        self.state = State.read(self.file)
        self.client = client(endpoint)
        self.ask = Asking(endpoint, sleep)

    @property
    def charge(self) -> str:
        """What the training stands under in the run's purse."""
        return f"job {self.state.nonce}"

    def send(self, pairs: Sequence[TrainingPair], validation: Sequence[TrainingPair]) -> None:
        """Files up and a job made, as far as they are not. Raises UserError where the server refuses;
        nothing is left there then."""
        try:
            self._upload("train", pairs)
            if validation:
                self._upload("validation", validation)
            self._create()
        except UserError:
            self._withdraw()
            raise

    def begin(self) -> None:
        """Written before anything is asked for, with what finds it again."""
        self.state.trainer, self.state.keeps = self._dialect.name, self.settings.keep_files
        self.state.server, self.state.asks = self.endpoint.base_url, self.endpoint.model
        self.save()

    def save(self) -> None:
        store.write_json(self.file, store.as_dict(self.state))

    def forget(self, ended: str) -> list[str]:
        """Keep the state of what has ended beside, and start the next attempt from nothing; a sentence for
        each file that could not be deleted."""
        left = self.tidy()
        self.state.ended = ended
        self.save()
        self.file.rename(self.folder / f"job-{len(self.earlier()) + 1}.json")
        self.state = State.read(self.file)
        return left

    def earlier(self) -> list[State]:
        """Attempts that came to nothing."""
        return [State.read(file) for file in sorted(self.folder.glob("job-*.json"))]

    @property
    def _mark(self) -> str:
        """How the names of our uploads begin, and of no others."""
        return f"breakeven-{self.state.nonce}-"

    def _upload(self, part: str, pairs: Sequence[TrainingPair]) -> None:
        """The file of a part, sent once: found by its name where an earlier process was killed after
        sending it."""
        if part in self.state.files:
            return
        name, content = f"{self._mark}{part}.jsonl", rows(pairs)

        def find() -> Any:
            """The upload, if it arrived whole."""
            whole = (None, len(content))
            fitting = (f for f in self._uploads() if f.filename == name and f.bytes in whole)
            return next(fitting, None)

        sent = find() if part in self.state.asked else None
        if sent is None:
            self._note(part)
            self._progress(0.0, 1.0, f"sending {part} examples to {self.endpoint.host}")
            file = (name, content, "application/jsonl")
            sent = self.ask(lambda: self.client.files.create(file=file, purpose="fine-tune"), find)
        self.state.files[part] = sent.id
        self.save()

    def _note(self, what: str) -> None:
        if what not in self.state.asked:
            self.state.asked.append(what)
            self.save()

    def _uploads(self) -> list[Any]:
        """Our files at the server, whole or not."""
        found = self.ask.listed(lambda: self.client.files.list(purpose="fine-tune"))
        return [f for f in found if str(f.filename or "").startswith(self._mark)]

    def _create(self) -> None:
        """The job, made once; a file that the server has not digested yet is waited for."""
        again, lost = "job" in self.state.asked, self.ask.lost
        job = self.find_job() if again else None
        waits = iter(_NOT_READY_WAITS)
        while job is None:
            self._note("job")
            try:
                job = self.ask(lambda: self.client.fine_tuning.jobs.create(**self._request()), self.find_job)
            except UserError as error:
                pause = next(waits, None)
                if pause is None or not _NOT_READY.search(error.what) or "file" not in error.what.lower():
                    raise
                self._progress(0.0, 1.0, f"{self.endpoint.host} is reading the file")
                self._sleep(pause)
        self.state.job = job.id
        self.state.began = now()
        self.save()
        if again or self.ask.lost != lost:  # an answer was lost: was it made twice all the same?
            for twin in self._jobs():
                if twin.id != job.id and status_of(twin) not in ENDED:
                    self.ask.perhaps(partial(self.client.fine_tuning.jobs.cancel, twin.id))

    def _request(self) -> dict[str, Any]:
        settings = self.settings
        suffix = (settings.suffix or f"be-{self.state.nonce[:8]}")[: self._dialect.suffix]
        wanted = {
            "n_epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate_multiplier": settings.learning_rate_multiplier,
        }
        made: dict[str, Any] = {
            "model": self.base,
            "training_file": self.state.files["train"],
            "suffix": suffix,
            "seed": self._seed,
            "method": {"type": "supervised", "supervised": {"hyperparameters": wanted}},
        }
        if "validation" in self.state.files:
            made["validation_file"] = self.state.files["validation"]
        if self._dialect.keeps_metadata:
            made["metadata"] = {"breakeven": self.state.nonce}
        if settings.body:
            made["extra_body"] = dict(settings.body)
        return made

    def _jobs(self) -> list[Any]:
        """The jobs that were made of our file, or carry our mark: one, unless an answer was lost."""
        file, mark = self.state.files.get("train"), self.state.nonce
        found = self.ask.listed(lambda: self.client.fine_tuning.jobs.list(limit=100))
        return [
            job
            for job in found
            if (file and job.training_file == file) or (job.metadata or {}).get("breakeven") == mark
        ]

    def find_job(self) -> Any:
        """Our job, one that may still succeed before others, the oldest first."""
        ours = list(reversed(self._jobs()))
        alive = [job for job in ours if status_of(job) not in ("failed", "cancelled")]
        return next(iter([*alive, *ours]), None)

    def _withdraw(self) -> None:
        """The server refuses the job: what was sent for it is taken back, and the money returned."""
        try:
            if "job" in self.state.asked and self.find_job() is not None:
                return  # it is there all the same: to be found when this is resumed
        except BreakevenError:
            return
        self.endpoint.guard.bill(self.charge, 0.0)
        for sentence in self.tidy():
            sys.stderr.write(f"\n!!!! {sentence}\n\n")
        self.file.unlink(missing_ok=True)

    def tidy(self) -> list[str]:
        """Take our files back, unless they are to stay; a sentence for each that could not be deleted."""
        if self.settings.keep_files or self.state.keeps:
            return []
        try:
            there = [f.id for f in self._uploads()]
        except BreakevenError:
            there = []
        ours = dict.fromkeys([*self.state.files.values(), *there])
        left = [name for name in ours if not self._delete(name)]
        self.state.files = {}
        self.save()
        where = f"could not be deleted at {self.endpoint.host}: delete them there"
        return [f"the examples sent as {name} {where}" for name in left]

    def _delete(self, name: str) -> bool:
        """Whether a file of ours is gone."""
        try:
            self.ask(partial(self.client.files.delete, name))
        except UserError as error:
            return "(404" in error.what
        except HostedFailure:
            return False
        return True


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
