"""An engine as strategies see it: journalled, resumable, billed.

A strategy calls `complete(requests)` with everything it wants to know. The session asks the engine for a
plan of batches, writes the plan down, then runs batch after batch and writes each completion down before
handing it out. Called again after a crash with the same requests, it replays what is written and runs the
rest in the batches of the stored plan, because bf16 answers depend on their batch. Tokens are booked once,
when a completion is handed out, whether it was just made or replayed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from breakeven.harness import hosted
from breakeven.harness.contracts import Capabilities, Completion, Engine, ModelCard, Request, Usage
from breakeven.harness.errors import OutOfMemory, UserError
from breakeven.harness.ledger import Ledger, Phase, Quantity, Status
from breakeven.harness.store import append_line, digest, read_journal

OnCompletion = Callable[[Completion], None]


class Journal:
    """The log of one cell's engine calls in one phase, in the order they were made.

    Lines: {"call", "key", "plan"} opens a call or supersedes its plan; {"call", "done": completion} each
    completion. `path=None` keeps nothing (timing passes).
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._calls = 0
        self._plans: dict[int, tuple[str, list[list[str]]]] = {}
        self._done: dict[int, dict[str, Completion]] = {}
        for line in read_journal(path) if path else ():
            if "plan" in line:
                known = self._plans.get(line["call"])
                if known is not None and known[0] != line["key"]:
                    self._done.pop(line["call"], None)  # the call changed: what was stored answers another
                self._plans[line["call"]] = (line["key"], line["plan"])
            else:
                completion = _completion(line["done"])
                self._done.setdefault(line["call"], {})[completion.id] = completion

    def open(self, key: str) -> tuple[int, list[list[str]] | None, dict[str, Completion]]:
        """(number of this call, stored plan if the call is the same as then, stored completions)."""
        call, self._calls = self._calls, self._calls + 1
        stored_key, plan = self._plans.get(call, ("", []))
        if stored_key != key:
            return call, None, {}
        return call, plan, self._done.get(call, {})

    def plan(self, call: int, key: str, plan: list[list[str]]) -> None:
        self._write({"call": call, "key": key, "plan": plan})

    def done(self, call: int, completion: Completion) -> None:
        self._write({"call": call, "done": asdict(completion)})

    def _write(self, line: dict[str, Any]) -> None:
        if self._path is not None:
            append_line(self._path, line)


def lost_work(path: Path) -> dict[str, float]:
    """Seconds and tokens of stored completions that were asked again, because their batch was broken off."""
    done: dict[tuple[int, str], Completion] = {}
    lost = {"seconds": 0.0, "tokens": 0.0}
    for line in read_journal(path):
        if "plan" in line:
            continue
        completion = _completion(line["done"])
        before = done.get((line["call"], completion.id))
        if before is not None:
            lost["seconds"] += before.seconds or 0.0
            lost["tokens"] += before.usage.input_tokens + before.usage.output_tokens
        done[line["call"], completion.id] = completion
    return lost


@dataclass(frozen=True)
class Session:
    """See the module. `adapt` gives a session on the same journal with an adapter applied."""

    engine: Engine
    journal: Journal
    ledger: Ledger
    phase: Phase
    concurrency: int | None = None
    on_completion: OnCompletion = lambda completion: None
    adapter: Path | None = None

    @property
    def raw(self) -> Engine:
        return self.engine

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    def describe(self) -> ModelCard:
        return self.engine.describe()

    def count_tokens(self, request: Request) -> int:
        return self.engine.count_tokens(request)

    def adapt(self, adapter: Path | None) -> Session:
        return replace(self, engine=self.engine.adapt(adapter), adapter=adapter)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion per request, in the order they finish."""
        wanted = list(requests)
        by_id = {r.id: r for r in wanted}
        if len(by_id) != len(wanted):
            raise UserError("two requests of one call have the same id", hint="ids must be unique")
        key = self._key(wanted)
        call, stored_plan, stored = self.journal.open(key)
        plan = [[by_id[i] for i in ids] for ids in stored_plan] if stored_plan is not None else None
        if plan is None:
            plan = self.engine.plan(wanted, self.concurrency)
            self.journal.plan(call, key, _ids(plan))
        queue = list(plan)
        finished: list[list[Request]] = []
        while queue:
            batch = queue.pop(0)
            given: set[str] = set()  # handed out before memory ran out: answered, billed, not asked again
            try:
                for completion in self._run(call, batch, stored):
                    given.add(completion.id)
                    yield completion
            except OutOfMemory:
                if given:
                    finished.append([r for r in batch if r.id in given])
                    batch = [r for r in batch if r.id not in given]
                if len(batch) == 1 and not given:
                    raise UserError(
                        f"request '{batch[0].id}' alone does not fit into memory",
                        hint="use a smaller model, load_in_4bit on a GPU, or shorter prompts",
                    ) from None
                half = (len(batch) + 1) // 2
                queue[:0] = [part for part in (batch[:half], batch[half:]) if part]
                self.journal.plan(call, key, _ids([*finished, *queue]))
            else:
                finished.append(batch)

    def _run(
        self, call: int, batch: Sequence[Request], stored: dict[str, Completion]
    ) -> Iterator[Completion]:
        missing = [r for r in batch if r.id not in stored]
        if missing and self.capabilities.batch_dependent:
            missing = list(batch)  # the whole batch again, or its answers would differ
        again = {r.id for r in missing}
        for request in batch:
            if request.id not in again:
                yield self._hand_out(stored[request.id])
        if missing:
            for completion in self.engine.complete(missing):
                self.journal.done(call, completion)
                yield self._hand_out(completion)

    def _hand_out(self, completion: Completion) -> Completion:
        """Book what the request consumed; same bookings for a fresh and a replayed completion."""
        from breakeven.harness import flops

        card, usage = self.describe(), completion.usage
        local = card.data_goes_to == "this machine"
        status: Status = "estimated" if usage.estimated else "measured"
        source = "counted by the tokenizer" if local else "usage of the response"
        if usage.estimated:
            source = "rule of thumb: the server reported no usage"

        def book(quantity: Quantity, value: float | None, source: str, status: Status | None = None) -> None:
            self.ledger.book(self.phase, quantity, value, source=source, status=status, model=card.name)

        book("input_tokens", usage.input_tokens, source, status)
        book("output_tokens", usage.output_tokens, source, status)
        if local:
            book("seconds", completion.seconds, "share of the batch's wall time")
            operations = flops.inference_flops(card, usage.input_tokens, usage.output_tokens)
            known: Status | None = "estimated" if operations is not None else None
            book("flops", operations, "2N per token + attention", known)
        self.on_completion(completion)
        return completion

    def _key(self, requests: Sequence[Request]) -> str:
        """Everything that changes the answers: model, weights, dtype, adapter, prompts, decoding."""
        card = self.describe()
        return digest(
            {
                "model": [card.name, card.engine, card.digest, card.dtype, card.device],
                "adapter": adapter_digest(self.adapter),
                "concurrency": self.concurrency,
                "requests": [asdict(r) for r in requests],
            }
        )


def adapter_digest(folder: Path | None) -> str:
    """Hash of an adapter's weights, or of what a hosted model is; "" for the base model."""
    if folder is None:
        return ""
    if hosted.HostedModel.is_in(folder):
        return hosted.digest(folder)
    weights = folder / "adapter_model.safetensors"
    found = weights.stat()
    return _file_digest(weights.resolve(), found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _file_digest(path: Path, changed: int, size: int) -> str:
    """Hashed once, as long as the file stays as it is: it must not count as a timed request's time."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _ids(plan: Sequence[Sequence[Request]]) -> list[list[str]]:
    return [[r.id for r in batch] for batch in plan]


def _completion(row: dict[str, Any]) -> Completion:
    logprobs = row.get("choice_logprobs")
    return Completion(
        **{
            **row,
            "usage": Usage(**row["usage"]),
            "choice_logprobs": tuple(logprobs) if logprobs is not None else None,
        }
    )
