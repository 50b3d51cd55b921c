"""A fine-tuning job at a server that speaks OpenAI's protocol: paid for, followed, and read.

What it may cost at most stands in the run's purse before anything is sent, under the job's own name. What is
sent, and found again by whoever was killed, is in `_sending`; how the server is asked in `_asking`; what its
answers mean in `_job_result`; what differs between servers in `Dialect`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from breakeven.baselines.trainers import _job_result
from breakeven.baselines.trainers._asking import HostedFailure
from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._protocol import (
    check_pairs,
    epochs_of,
    expected_epochs,
    number,
    rows,
    shutdown_remark,
    status_of,
)
from breakeven.baselines.trainers._sending import ENDED, Dialect, Progress, Sending, State, now
from breakeven.harness import store
from breakeven.harness.errors import Pending, SpendingLimitReached, UserError
from breakeven.harness.hosted import Endpoint, HostedModel, HostedTraining
from breakeven.harness.training import TrainingPair


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
        self.endpoint, self.settings, self.folder = endpoint, settings, folder
        self.progress, self.sleep = progress, sleep
        self.sending = Sending(endpoint, settings, dialect, folder, seed, progress, sleep)
        self.base, self._client, self._ask = self.sending.base, self.sending.client, self.sending.ask

    def run(self, pairs: Sequence[TrainingPair], validation: Sequence[TrainingPair]) -> HostedTraining:
        """What it did.

        Raises:
            UserError: the pairs, the server or the job refuse; nothing is uploaded where the pairs do.
            SpendingLimitReached: it may cost more than is left.
            Pending: the job is under way after `wait` seconds.
        """
        check_pairs(pairs, validation, self.settings)
        self.sending.begin()
        if not self.state.job:
            self._pay(pairs, expected_epochs(self.settings.epochs, len(pairs)))
            self.sending.send(pairs, validation)
        job = self._follow(pairs)
        if status_of(job) != "succeeded":
            self._give_up(job)
        result = self._read(job, len(pairs))
        self._settle(result.training_tokens)
        return result

    def abandon(self) -> str:
        """Give up a job that no cell wants any more: cancelled where it has not ended, its files taken back,
        the purse told what it trained. What has succeeded is kept in mind, for whoever wants it again.

        Raises UserError or HostedFailure where the server refuses or does not answer.
        """
        found = self._look() if self.state.job else self.sending.find_job()
        if found is None:
            self.endpoint.guard.bill(self.sending.charge, 0.0)
            left = self.sending.forget("given up before a job was made")
            sent = f"what was sent to {self.endpoint.host} for a training that no cell wants any more"
            return "; ".join([f"{sent} was taken back", *left])
        self.state.job = found.id
        cancelled = status_of(found) not in ENDED and self._cancel()
        job = self._look()
        ended = "was cancelled" if cancelled else f"has ended there ({status_of(job)})"
        what = f"job {job.id} at {self.endpoint.host} is wanted by no cell any more and {ended}"
        said = [what, self._settled(job)]
        if status_of(job) == "succeeded":
            left = self.sending.tidy()
            self.state.ended = f"{what}, {said[1]}"
            self.sending.save()
        else:
            left = self.sending.forget(f"{what}, {said[1]}")
        return "; ".join([*said, *left])

    def _settled(self, job: Any) -> str:
        """Correct the purse by what a job that is given up says it trained, and say it."""
        tokens, held = number(job.trained_tokens), self.endpoint.guard.charged(self.sending.charge)
        if tokens is None and status_of(job) != "failed":
            return f"it does not say what it trained, so that {held:.4g} stay set aside for it"
        self._settle(tokens or 0.0)
        money = self.endpoint.training_money(tokens or 0.0)
        priced = f", billed {money:.4g} {self.endpoint.book.currency}" if money is not None else ""
        return f"it says it trained {tokens or 0:,.0f} tokens{priced}"

    @property
    def state(self) -> State:
        return self.sending.state

    # --- money -------------------------------------------------------------------------------

    def _pay(self, pairs: Sequence[TrainingPair], epochs: float) -> None:
        """Take what the training may cost at most from the run's purse: a token is a byte at least.

        Raises SpendingLimitReached; sends nothing.
        """
        money, likely = self.endpoint.training_money(len(rows(pairs)) * epochs), None
        if self.endpoint.count is not None:  # as `_hosted.foresee` counts, so that it is what was accepted
            tokens = round(sum(map(self.endpoint.count, pairs)) * epochs)
            likely = self.endpoint.training_money(tokens)
        if money:
            self.endpoint.guard.charge(self.sending.charge, money, likely=likely)

    def _settle(self, tokens: float | None) -> None:
        """Correct what was taken beforehand by what was billed, where that is known."""
        billed = self.endpoint.training_money(tokens) if tokens is not None else None
        if billed is not None:
            self.endpoint.guard.bill(self.sending.charge, billed)

    # --- following ---------------------------------------------------------------------------

    def _follow(self, pairs: Sequence[TrainingPair]) -> Any:
        """The job once it has ended. Raises Pending while it has not, after `wait` seconds."""
        settings, began, pause = self.settings, time.monotonic(), 1.0
        while True:
            job = self._look()
            status = status_of(job)
            said = self._note_events()
            if status in ENDED:
                return job
            if (hours := self._hours()) > settings.max_hours and self._cancel():
                self._forget(job)
                raise UserError(
                    f"job {job.id} at {self.endpoint.host} was cancelled: it was not ready after "
                    f"{hours:.1f} h",
                    field="weights.max_hours",
                    hint="what it trained until then may be billed; run the cell again for a new job",
                )
            self._check_epochs(job, pairs)
            self.progress(0.0, 1.0, f"{status} at {self.endpoint.host}{f': {said}' if said else ''}")
            if time.monotonic() - began >= settings.wait:
                raise Pending(
                    {"job": job.id, "host": self.endpoint.host, "status": status, "model": self.base},
                    self._check_after(job),
                )
            self.sleep(min(pause, max(settings.wait - (time.monotonic() - began), 0.05)))
            pause = min(pause * 1.5, 30.0)

    def _look(self) -> Any:
        try:
            return self._ask(lambda: self._client.fine_tuning.jobs.retrieve(self.state.job))
        except UserError as error:
            if "(404" not in error.what:
                raise
            raise UserError(
                f"{self.endpoint.host} knows no job {self.state.job} (404)",
                file=self.sending.file,
                hint="is the key of another account? To begin anew, delete this file",
            ) from None

    def _hours(self) -> float:
        """How long the job is under way, by this machine's clock alone."""
        if not self.state.began:
            self.state.began = now()
            self.sending.save()
        return (datetime.now(UTC) - datetime.fromisoformat(self.state.began)).total_seconds() / 3600

    def _check_epochs(self, job: Any, pairs: Sequence[TrainingPair]) -> None:
        """Where the provider chooses the passes and says how many, they must fit under the limit too.

        Raises SpendingLimitReached, once the job is cancelled.
        """
        epochs = epochs_of(job)
        if epochs is None:
            return
        try:
            self._pay(pairs, epochs)
        except SpendingLimitReached as reached:
            if not self._cancel():
                return
            self._forget(job)
            raise SpendingLimitReached(
                f"job {job.id} at {self.endpoint.host} was to make {epochs:g} passes and was cancelled: "
                f"{reached}"
            ) from None

    def _check_after(self, job: Any) -> datetime:
        soon = datetime.now(UTC) + timedelta(minutes=self.settings.check_minutes)
        promised = number(getattr(job, "estimated_finish", None)) or 0.0
        latest = soon + timedelta(days=30)  # what lies beyond is no promise, or in milliseconds
        return max(soon, datetime.fromtimestamp(promised, UTC)) if promised < latest.timestamp() else soon

    def _cancel(self) -> bool:
        """Whether the job could be cancelled; not one that has ended meanwhile."""
        try:
            self._ask(lambda: self._client.fine_tuning.jobs.cancel(self.state.job))
        except UserError:
            if status_of(self._look()) in ENDED:
                return False
            raise
        return True

    def _give_up(self, job: Any) -> None:
        """A failed or cancelled job: its own words, and a clean slate for the next attempt."""
        error, tokens = job.error, number(job.trained_tokens)
        said = self.endpoint.clean(str(getattr(error, "message", "") or ""))
        told = [str(getattr(error, name, "") or "") for name in ("code", "param")]
        about = f" ({', '.join(t for t in told if t)})" if any(told) else ""
        failed = status_of(job) == "failed"
        if tokens is not None or failed:  # a failed job is not billed, unless it says that it has trained
            self._settle(tokens or 0.0)
        billed = f"; it says it trained {tokens:,.0f} tokens, which may be billed" if tokens else ""
        last = "" if said else self._last_event()
        left = self._forget(job)
        where = f"job {job.id} at {self.endpoint.host}"
        if failed:
            raise UserError(
                f"{where} failed{about}: {said or last or 'it gives no reason'}{billed}",
                field="weights",
                hint="; ".join(["mend that and resume: a new job is made then", *left]),
            )
        raise UserError(
            f"{where} was cancelled there{f': {said}' if said else ''}{billed}",
            field="weights",
            hint="; ".join(["resume to make a new one; what it trained until then may be billed", *left]),
        )

    def _forget(self, job: Any) -> list[str]:
        tokens = number(job.trained_tokens)
        trained = f", having trained {tokens:,.0f} tokens that are not in this row" if tokens else ""
        return self.sending.forget(f"job {job.id} at {self.endpoint.host} came to nothing before{trained}")

    def _note_events(self) -> str:
        """Add new events to `events.jsonl`; returns the last message."""
        file, job = self.folder / "events.jsonl", self.state.job
        known = {row["id"] for row in store.read_journal(file)}
        found = self._ask.perhaps_listed(
            lambda: self._client.fine_tuning.jobs.list_events(self.state.job, limit=100)
        )
        for row in _job_result.event_rows(found, known, job, self.endpoint.clean):
            store.append_line(file, row)
        return self._last_event()

    def _last_event(self) -> str:
        events = [e for e in self._events() if e["type"] == "message"]
        return str(events[-1]["message"]) if events else ""

    def _events(self) -> list[dict[str, Any]]:
        return [e for e in store.read_journal(self.folder / "events.jsonl") if e["job"] == self.state.job]

    # --- what came of it ---------------------------------------------------------------------

    def _read(self, job: Any, examples: int) -> HostedTraining:
        remarks = [f"trained by job {job.id} at {self.endpoint.host}"]
        model = self._chosen(job, remarks)
        told = [e["data"] for e in self._events() if e["type"] == "metrics" and e["data"]]
        losses, validation = _job_result.losses(told or self._results(job))
        models = self._ask.perhaps_listed(lambda: self._client.models.list())
        remarks += shutdown_remark(self.endpoint.host, models, self.base, model)
        tokens = number(job.trained_tokens)
        if tokens is None:
            remarks.append("the provider does not say how many tokens it bills for the training")
        billed = self.endpoint.training_money(tokens) if tokens is not None else None
        if billed is not None and 0 < (expected := self.endpoint.guard.charged(self.sending.charge)) < billed:
            remarks.append(f"the training was billed {billed:.4g}, and {expected:.4g} was set aside for it")
        remarks += [earlier.ended for earlier in self.sending.earlier() if earlier.ended]
        remarks += self.sending.tidy()
        return HostedTraining(
            job=job.id,
            host=self.endpoint.host,
            model=model,
            examples=examples,
            training_tokens=int(tokens) if tokens is not None else None,
            seconds=_job_result.seconds_of(job),
            steps=max((step for step, _ in losses), default=None),
            epochs=epochs_of(job),
            losses=losses,
            validation_losses=validation,
            settings=self.settings.what_matters(),
            remarks=tuple(remarks),
        )

    def _chosen(self, job: Any, remarks: list[str]) -> str:
        """The model id to serve: the job's last one, or that of the checkpoint with the least validation
        loss."""
        wanted = self.settings.checkpoint == "best"
        try:
            found = self._ask.listed(
                lambda: self._client.fine_tuning.jobs.checkpoints.list(job.id, limit=100)
            )
        except (UserError, HostedFailure) as error:
            if wanted and isinstance(error, HostedFailure):
                raise  # it has them, and will tell when this is resumed
            found = []
        made = _job_result.checkpoint_rows(found)
        store.write_json(self.folder / "checkpoints.json", made)
        best = _job_result.best(made) if wanted else None
        if wanted and best is None:
            remarks.append("no checkpoint has a validation loss: the last model is asked, not the best")
        chosen = best or job.fine_tuned_model
        if not chosen:
            raise HostedFailure(f"job {job.id} at {self.endpoint.host} succeeded and names no model")
        return str(chosen)

    def _results(self, job: Any) -> list[Any]:
        """Rows of the result files; none where a provider gives none."""
        made: list[Any] = []
        for file in job.result_files or []:
            content = self._ask.perhaps(partial(self._content, file))
            made += _job_result.result_rows(content) if content is not None else []
        return made

    def _content(self, file: str) -> bytes:
        content: bytes = self._client.files.content(file).read()
        return content


def finished(job: Job, result: HostedTraining, price_as: str, plan: dict[str, Any] | None) -> HostedTraining:
    """Write `hosted.json`, last of all: the artifact is there."""
    HostedModel(result.model, job.base, job.endpoint.base_url, price_as, plan).write(job.folder)
    return result
