"""Engine calls are journalled: a broken-off call continues in its stored batches and is billed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from breakeven.harness.contracts import Capabilities, Completion, ModelCard, Request, Usage
from breakeven.harness.errors import OutOfMemory, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.session import Journal, Session, adapter_digest, lost_work


@dataclass
class BatchEcho:
    """An engine whose answer names its batch, as bf16 answers depend on theirs."""

    size: int = 3
    fits: int = 99
    die_after: int = 10**9
    full_after: int = 10**9  # memory runs out after so many answers, once
    calls: list[list[str]] = field(default_factory=list)
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(batch_dependent=True))

    def describe(self) -> ModelCard:
        return ModelCard("echo", "test", active_parameters=10, layers=1, attention_width=2)

    def plan(self, requests: Sequence[Request], concurrency: int | None = None) -> list[list[Request]]:
        return [list(requests[i : i + self.size]) for i in range(0, len(requests), self.size)]

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        if len(requests) > self.fits:
            raise OutOfMemory
        self.calls.append([r.id for r in requests])
        for r in requests:
            if self.die_after == 0:
                raise KeyboardInterrupt
            if self.full_after == 0:
                self.full_after = 10**9
                raise OutOfMemory
            self.full_after -= 1
            self.die_after -= 1
            batch = "+".join(x.id for x in requests)
            yield Completion(r.id, f"{r.id} in {batch}", "stop", Usage(5, 2), 0.5)

    def count_tokens(self, request: Request) -> int:
        return 5

    def adapt(self, adapter: Path | None) -> BatchEcho:
        return self


def requests(n: int = 7) -> list[Request]:
    return [Request(id=str(i), text=f"question {i}") for i in range(n)]


def answers(engine: BatchEcho, journal: Path | None, ledger: Ledger | None = None) -> dict[str, str]:
    session = Session(engine, Journal(journal), ledger if ledger is not None else Ledger(), "serve")
    return {c.id: c.text for c in session.complete(requests())}


@pytest.mark.parametrize("die_after", range(7))
def test_a_call_broken_off_after_any_completion_ends_with_the_answers_of_an_unbroken_one(
    tmp_path: Path, die_after: int
) -> None:
    unbroken = answers(BatchEcho(), None)
    with pytest.raises(KeyboardInterrupt):
        answers(BatchEcho(die_after=die_after), tmp_path / "journal")
    resumed = BatchEcho(size=5)  # would batch otherwise by now
    assert answers(resumed, tmp_path / "journal") == unbroken
    assert len(resumed.calls) == 3 - die_after // 3  # whole finished batches are not asked again


def test_tokens_are_billed_once_however_often_a_call_is_broken_off(tmp_path: Path) -> None:
    for die_after in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            answers(BatchEcho(die_after=die_after), tmp_path / "journal", Ledger())
    ledger = Ledger()
    answers(BatchEcho(), tmp_path / "journal", ledger)
    assert ledger.total("input_tokens").value == 7 * 5
    assert ledger.total("output_tokens").value == 7 * 2
    assert ledger.total("seconds").value == 7 * 0.5


def test_a_torn_last_line_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    unbroken = answers(BatchEcho(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert answers(BatchEcho(), path) == unbroken


def test_a_batch_that_does_not_fit_is_halved_and_the_halves_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = answers(BatchEcho(size=7, fits=4), path)
    assert first["0"] == "0 in 0+1+2+3"
    replay = BatchEcho(size=7)  # memory is free again: still the stored halves
    assert answers(replay, path) == first
    assert replay.calls == []


def test_one_request_that_does_not_fit_alone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="request '0' alone does not fit"):
        answers(BatchEcho(fits=0), None)


def test_stored_answers_to_other_questions_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    answers(BatchEcho(), path)
    engine = BatchEcho()
    session = Session(engine, Journal(path), Ledger(), "serve")
    other = [Request(id=str(i), text=f"another question {i}") for i in range(7)]
    assert len(list(session.complete(other))) == 7
    assert len(engine.calls) == 3


def test_an_engine_whose_answers_stand_alone_is_asked_only_for_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        answers(BatchEcho(size=7, die_after=4, capabilities=Capabilities()), path)
    engine = BatchEcho(size=7, capabilities=Capabilities())
    answers(engine, path)
    assert engine.calls == [["4", "5", "6"]]


@pytest.mark.parametrize("full_after", range(7))
def test_answers_given_before_memory_ran_out_are_neither_asked_nor_billed_again(
    tmp_path: Path, full_after: int
) -> None:
    path, ledger = tmp_path / "journal", Ledger()
    engine = BatchEcho(size=7, full_after=full_after)
    session = Session(engine, Journal(path), ledger, "serve")
    given = list(session.complete(requests()))
    assert sorted(c.id for c in given) == [str(i) for i in range(7)]
    assert ledger.total("output_tokens").value == 7 * 2
    replay, again = BatchEcho(size=7), Ledger()
    assert answers(replay, path, again) == {c.id: c.text for c in given}
    assert replay.calls == []
    assert again.total("output_tokens").value == 7 * 2


def test_work_of_a_batch_that_was_broken_off_is_known_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        answers(BatchEcho(die_after=5), path)  # a batch of three, and two of the next
    assert lost_work(path) == {"seconds": 0.0, "tokens": 0.0}
    answers(BatchEcho(), path)
    assert lost_work(path) == {"seconds": 2 * 0.5, "tokens": 2 * (5 + 2)}


def test_the_hash_of_an_adapter_follows_its_file(tmp_path: Path) -> None:
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"one")
    first = adapter_digest(tmp_path)
    assert adapter_digest(tmp_path) == first
    weights.write_bytes(b"another")
    assert adapter_digest(tmp_path) != first
    assert adapter_digest(None) == ""
