"""How a machine's speeds are found, kept, and used for a run that was made elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from openai_server import KEY, OpenAIServer
from run_fixture import write_run
from tiny_suite import tiny_model

from breakeven.baselines.trainers.peft import peft
from breakeven.harness import _probes, results
from breakeven.harness import probe as probes
from breakeven.harness._probes import Batch, Speeds, TrainingSpeeds, nonnegative
from breakeven.harness.contracts import Request
from breakeven.harness.engines._decoding import KEEP
from breakeven.harness.engines.local import local
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.previews import Steps, TrainingSample
from breakeven.harness.probe import Probe, scale, scale_one_off

# --- the model of time -----------------------------------------------------------------------


def decoded(batch: Batch) -> tuple[float, float, float]:
    """(passes after the first, rows in them, tokens in their caches), pass by pass as decoding does."""
    slots, cached, total, rows = len(batch.passes), max(batch.prompts), 0, 0
    caches = 0
    for number in range(2, max(batch.passes) + 1):
        left = sum(p >= number for p in batch.passes)
        slots = left if left <= KEEP * slots else slots
        cached += 1
        total, rows, caches = total + 1, rows + slots, caches + slots * cached
    return float(total), float(rows), float(caches)


@pytest.mark.parametrize("seed", range(20))
def test_writing_is_counted_as_decoding_does_it(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rows = int(draw.integers(1, 9))
    batch = Batch(
        tuple(int(n) for n in draw.integers(1, 50, rows)), tuple(int(n) for n in draw.integers(1, 20, rows))
    )
    assert batch.writing == decoded(batch)


def test_reading_counts_padding_and_pairs() -> None:
    assert Batch((3, 5), (1, 1)).reading == (1.0, 10.0, 50.0)
    assert Batch((3, 5), (1, 1)).writing == (0.0, 0.0, 0.0)


TRUE = Speeds(batch=0.02, token=4e-4, pair=1e-7, step=0.03, row=1e-3, cached=2e-6)


def batches(speeds: Speeds, noise: float = 0.0) -> list[Batch]:
    draw = np.random.default_rng(1)
    made = []
    for _ in range(16):
        rows = int(draw.integers(1, 12))
        prompts = tuple(int(n) for n in draw.integers(20, 600, rows))
        passes = tuple(int(n) for n in draw.integers(1, 60, rows))
        seconds = speeds.seconds(Batch(prompts, passes)) * float(np.exp(draw.normal(0, noise)))
        made.append(Batch(prompts, passes, seconds))
    return made


def test_speeds_are_found_again_from_the_batches_that_they_make() -> None:
    found = Speeds.fitted(batches(TRUE))
    for batch in ([1], [400]), ([300] * 4, [30, 2, 9, 64]):
        wanted = Batch(tuple(batch[0]), tuple(batch[1]))
        assert found.seconds(wanted) == pytest.approx(TRUE.seconds(wanted), rel=1e-4)


def test_noise_of_a_tenth_leaves_predictions_within_a_tenth() -> None:
    found = Speeds.fitted(batches(TRUE, noise=0.1))
    for batch in batches(TRUE)[:8]:
        assert found.seconds(batch) == pytest.approx(batch.seconds, rel=0.1)


def test_the_first_batches_alone_tell_a_pass_from_a_batch_and_a_row_from_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def timed(engine: Any, requests: Any) -> tuple[Batch, list[Any]]:
        made = Batch(tuple(len(r.id) for r in requests), tuple(r.max_tokens for r in requests))
        return replace(made, seconds=TRUE.seconds(made)), []

    monkeypatch.setattr(_probes, "timed", timed)
    sizes = (60, 90, 150, 180, 200, 230, 540)
    bench = _probes.Bench(tuple(Request("x" * n, (), max_tokens=64) for n in sizes), sizes)
    found = Speeds.fitted(_probes.base_batches(cast(Any, None), bench))
    assert found.step == pytest.approx(TRUE.step, rel=0.2)
    for wanted in (Batch((300,) * 8, (40,) * 8), Batch((60,), (64,)), Batch((200,) * 20, (3,) * 20)):
        assert found.seconds(wanted) == pytest.approx(TRUE.seconds(wanted), rel=0.1)


def test_no_rate_is_below_zero() -> None:
    rates = nonnegative([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], [3.0, 2.0, 1.0])
    assert min(rates) >= 0


def test_an_adapter_slows_reading_and_writing_each_by_its_own_factor() -> None:
    slower = replace(TRUE, adapted_reading=1.2, adapted_writing=1.7)
    read, wrote = Batch((100,) * 4, (1,) * 4), Batch((30,), (20,))
    seen = [replace(b, seconds=slower.seconds(b, adapted=True)) for b in (read, wrote)]
    found = TRUE.with_adapter(0.5, *seen)
    assert found.adapted_reading == pytest.approx(1.2)
    assert found.adapted_writing == pytest.approx(1.7)
    assert found.adapter_load == 0.5
    assert found.seconds(wrote) == TRUE.seconds(wrote)


def sampled(*steps: tuple[int, int], factor: float = 1.0) -> TrainingSample:
    """Steps of so many rows of such a width, at 0.1 s a step, 1 ms a token and 1 us a pair."""
    made = tuple(
        Steps(1, r * w, r * w * w, factor * (0.1 + 1e-3 * r * w + 1e-6 * r * w * w)) for r, w in steps
    )
    return TrainingSample(made, Steps(0, 100, 1000, 0.04), 2.0, 10, 1000, 3000, 100)


def test_training_is_predicted_from_a_few_steps_of_other_lengths() -> None:
    found = TrainingSpeeds.fitted({"a": sampled((8, 20), (8, 60)), "b": sampled((8, 200), (4, 90))})
    work = Steps(30, 30 * 800, 30 * 80_000)
    assert found.seconds("c", work, None) == pytest.approx(2.0 + 30 * (0.1 + 0.8 + 0.08), rel=1e-3)
    assert found.seconds("c", work, Steps(0, 1000, 0)) == pytest.approx(
        found.seconds("c", work, None) + 0.4, rel=1e-3
    )
    assert found.bytes_per_token == 20


def test_steps_of_one_size_are_carried_over_by_their_tokens() -> None:
    """Where time was for a step or two, a training of shorter rows must not take as long for each step."""
    for steps in ([(8, 150)], [(8, 150), (8, 160), (7, 150)]):
        found = TrainingSpeeds.fitted({"a": sampled(*steps)})
        short, long = (found.seconds("b", Steps(10, 10 * 8 * w, 10 * 8 * w * w), None) for w in (40, 300))
        assert long - 2.0 == pytest.approx(7.5 * (short - 2.0))
        assert found.seconds("a", Steps(1, 1200, 180_000), None) == pytest.approx(
            2.0 + 0.1 + 1.2 + 0.18, rel=0.1
        )


def test_a_training_that_was_tried_itself_keeps_its_own_pace() -> None:
    found = TrainingSpeeds.fitted({"a": sampled((8, 20), (8, 60), (8, 200)), "b": sampled((8, 60), factor=2)})
    work = Steps(10, 4800, 10 * 8 * 3600)
    slow, plain = found.seconds("b", work, None), found.seconds("c", work, None)
    assert slow == pytest.approx(2.0 + 2 * 10 * (0.1 + 0.48 + 0.0288), rel=0.05)
    assert plain < slow


# --- using one -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> results.Results:
    return results.load(write_run(tmp_path_factory.mktemp("run") / "r", failing=False))


def probe_of(run: results.Results, **changes: Any) -> Probe:
    card = run.info["models"]["default"]
    made = Probe(
        model=card["name"], digest=card["digest"], dtype="bfloat16", device="cuda", machine="l4",
        hardware={"cpu": "x", "physical_cores": 2, "gpus": [{"name": "NVIDIA L4"}]}, versions={"torch": "2"},
        created="2026-01-01T00:00:00+00:00", reading=1000.0, writing={1: 30.0, 8: 200.0}, training=500.0,
        embedding=2000.0, embedder="letters", speeds=TRUE,
        training_speeds=TrainingSpeeds(0.1, 1e-3, 0.0, 4e-4, 2.0, 10.0, {}),
    )  # fmt: skip
    return replace(made, **changes)


def cell_of(run: results.Results, name: str, **booked: Any) -> results.CellResult:
    found = next(c for c in run.cells.values() if c.strategy == name and c.predictions)
    ledger = Ledger([e for e in found.ledger.entries if e.quantity != "embedded_tokens"])
    for phase, tokens in booked.items():
        ledger.book(phase, "embedded_tokens", tokens, source="counted", model="letters")  # type: ignore[arg-type]
    return replace(found, ledger=ledger)


def test_seconds_on_another_machine_come_from_the_tokens_of_the_run(run: results.Results) -> None:
    cell, probe = cell_of(run, "zero-shot"), probe_of(run)
    read, written = (round(n) for n in cell.mean_usage)
    alone = scale(run, cell, probe)
    assert alone.value == pytest.approx(TRUE.seconds(Batch((read,), (written + 1,))))
    assert alone.status == "measured"
    together = scale(run, cell, probe, 8)
    assert together.value == pytest.approx(TRUE.seconds(Batch((read,) * 8, (written + 1,) * 8)) / 8)
    assert together.value < alone.value  # type: ignore[operator]


def test_beyond_the_concurrency_that_was_measured_seconds_are_estimated(run: results.Results) -> None:
    assert scale(run, cell_of(run, "zero-shot"), probe_of(run), 9).status == "estimated"


def test_a_tuned_model_is_scaled_with_its_adapter(run: results.Results) -> None:
    probe = probe_of(run, speeds=replace(TRUE, adapted_reading=2.0, adapted_writing=2.0))
    cell = cell_of(run, "lora")
    assert cell.training is not None
    plain = scale(run, replace(cell, training=None), probe).value
    assert plain is not None
    assert scale(run, cell, probe).value == pytest.approx(2 * plain)


def test_another_model_than_the_probes_is_unknown(run: results.Results) -> None:
    other = probe_of(run, digest="another")
    assert scale(run, cell_of(run, "zero-shot"), other).value is None
    assert scale_one_off(run, cell_of(run, "lora"), other).value is None


def test_embedding_takes_its_own_time(run: results.Results) -> None:
    cell = cell_of(run, "zero-shot", serve=4000)
    without = scale(run, cell_of(run, "zero-shot"), probe_of(run)).value
    assert without is not None
    assert scale(run, cell, probe_of(run)).value == pytest.approx(without + 2.0 / len(cell.predictions))
    assert scale(run, cell, probe_of(run, embedder="another")).value is None
    assert scale(run, cell, probe_of(run, embedding=None)).value is None


def test_training_and_indexing_are_scaled_too(run: results.Results) -> None:
    cell = cell_of(run, "lora", index=1000)
    trained = cell.ledger.total("training_tokens", "train").value
    assert trained
    assert scale_one_off(run, cell, probe_of(run)).value == pytest.approx(trained / 500 + 0.5)
    assert scale_one_off(run, cell_of(run, "zero-shot"), probe_of(run)).value == 0
    assert scale_one_off(run, cell, probe_of(run, training=None)).value is None


def test_a_probe_survives_its_file(run: results.Results, tmp_path: Path) -> None:
    for made in (probe_of(run), probe_of(run, training_speeds=None, training=None)):
        made.save(tmp_path / "p.json")
        assert Probe.load(tmp_path / "p.json") == made


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"model": "m"}'])
def test_a_file_without_a_probe_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "p.json").write_text(content)
    with pytest.raises(UserError, match=r"p\.json"):
        Probe.load(tmp_path / "p.json")


# --- measuring -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def no_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_embedding", lambda: ("letters", 100.0))
    monkeypatch.setattr(probes, "SENTENCES", (2, 8))  # the tiny model reads letters


def test_a_model_is_measured_reading_writing_and_training(model: Path, no_embedding: None) -> None:
    engine = local(str(model), dtype="float32", device="cpu", threads=1)
    found = probes.measure(engine, machine="cpu-2", trainer=peft(rank=2), seconds=0.1)
    assert found.reading > 0
    assert set(found.writing) == {1, 8}
    assert min(found.writing.values()) > 0
    assert found.training is not None
    assert found.training > 0
    assert found.training_speeds is not None
    assert (found.machine, found.embedding) == ("cpu-2", 100.0)
    assert found.digest == engine.describe().digest
    assert found.speeds.adapted_writing >= 1


def test_training_may_be_left_out(model: Path, no_embedding: None) -> None:
    found = probes.measure(local(str(model), dtype="float32", device="cpu", threads=1))
    assert found.training is None
    assert found.training_speeds is None


def test_a_model_that_somebody_else_serves_cannot_be_measured(
    serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    from breakeven.harness.engines.openai import openai

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    with pytest.raises(UserError, match="on this machine"):
        probes.measure(openai("any", base_url=server.url, allow_unpriced=True))
    assert server.got == []


def test_the_command_prints_the_speeds_and_writes_them(
    model: Path, no_embedding: None, tmp_path: Path, breakeven: Callable[..., Any]
) -> None:
    file = tmp_path / "p.json"
    said = breakeven("probe", model, "--trainer", "", "--machine", "cpu-2", "-o", file, "--set", "threads=1")
    assert said.code == 0
    assert "tokens/s with 8 at once" in said.out
    assert json.loads(file.read_text())["machine"] == "cpu-2"
    assert Probe.load(file).machine_name


def test_the_command_refuses_a_machine_without_a_price_and_a_model_that_is_not_there(
    breakeven: Callable[..., Any], tmp_path: Path
) -> None:
    said = breakeven("probe", tmp_path, "--machine", "cpu-3000")
    assert said.code == 2
    assert "--machine" in said.err
    assert breakeven("probe", tmp_path / "nothing").code == 2
