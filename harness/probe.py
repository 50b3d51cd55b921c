"""The speeds of a model on a machine, measured there once and used wherever a run is looked at.

`measure` writes them down; `scale` says how long a cell's requests would take on that machine, from the
tokens that were counted in the run, so that projected seconds need not be guessed.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from breakeven.harness import _probes, hardware, store
from breakeven.harness._probes import Batch, Speeds, TrainingSpeeds
from breakeven.harness.contracts import Engine, Request
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import UNKNOWN, Amount, Ledger, Phase
from breakeven.harness.previews import PreviewedTrainer
from breakeven.harness.results import CellResult, Results
from breakeven.harness.training import TrainingPair

#: Requests at once that writing is measured at.
CONCURRENCY = (1, 8)
#: Sentences of the shortest and the longest prompt that is measured.
SENTENCES = (2, 40)
#: Tokens written by each request, so that all of a batch write for the whole time.
WRITTEN = 24
PAIRS = 16
SENTENCE = "The ferry to the outer islands left the old harbour shortly after seven in the morning."


@dataclass(frozen=True, slots=True)
class Probe:
    """Speeds of one model on one machine. Tokens per second are for people; `speeds` are calculated with.

    `machine` is the name the price book knows the machine by, "" if none was given; `reading` tokens of
    prompts per second, `writing` requests at once -> tokens per second of all of them; `training` tokens
    per second without padding, None where it cannot be tuned; `embedding` of the embedding model.
    """

    model: str
    digest: str
    dtype: str
    device: str
    machine: str
    hardware: Mapping[str, Any]
    versions: Mapping[str, str]
    created: str
    reading: float
    writing: Mapping[int, float]
    training: float | None
    embedding: float | None
    embedder: str
    speeds: Speeds
    training_speeds: TrainingSpeeds | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        tuned = row["training_speeds"]
        return cls(
            **{
                **row,
                "writing": {int(k): v for k, v in row["writing"].items()},
                "speeds": Speeds(**row["speeds"]),
                "training_speeds": TrainingSpeeds(**tuned) if tuned is not None else None,
            }
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        """Raises UserError when there is no probe in the file."""
        try:
            return cls.from_json(json.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError("no such file", file=file, field="--probe") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                "holds no probe", file=file, hint="make one with: breakeven probe -o probe.json"
            ) from error

    def save(self, file: Path) -> None:
        store.write_json(file, self.to_json())

    @property
    def machine_name(self) -> str:
        """What computes there, for people."""
        gpus = self.hardware.get("gpus") or []
        return (
            str(gpus[0]["name"])
            if gpus
            else f"{self.hardware['cpu']}, {self.hardware['physical_cores']} cores"
        )


# --- measuring -------------------------------------------------------------------------------


def measure(
    engine: Engine,
    *,
    machine: str = "",
    trainer: Any = None,
    seconds: float = 20.0,
    say: Callable[[str], None] = lambda text: None,
) -> Probe:
    """Measure a local model's speeds on this machine.

    Args:
        trainer: what trains it (`previews.PreviewedTrainer`); None leaves training out.
        seconds: how long training is tried at most, beyond its first step.

    Raises:
        UserError: the model is served by somebody else, whose machine this is not.
    """
    card = engine.describe()
    if card.data_goes_to != "this machine":
        raise UserError(
            f"'{card.name}' is served by {card.data_goes_to}: a probe is of a model on this machine",
            field="model",
        )
    say(f"loading {card.name}")
    _probes.warmed_up(engine)
    say("reading and writing")
    batches: list[Batch] = []
    rates: dict[int, float] = {}
    prompts = [_prompt(n, i) for i, n in enumerate(_spread(*SENTENCES, max(CONCURRENCY)))]
    bench = _probes.Bench.of(engine, prompts)
    batches += _probes.base_batches(engine, bench, _probes.READ)
    alike = _probes.Bench.of(engine, [_prompt(SENTENCES[0] * 4, i) for i in range(max(CONCURRENCY))])
    for rows in CONCURRENCY:
        asked = [replace(r, max_tokens=WRITTEN) for r in alike.requests[:rows]]
        _probes.read(engine, asked)  # the kernels of this shape are made once
        reading, (both, _) = _probes.read(engine, asked), _probes.timed(engine, asked)
        written = sum(p - 1 for p in both.passes)
        rates[rows] = written / max(both.seconds - reading.seconds, 1e-9)
        batches += [reading, both]
    speeds = Speeds.fitted(batches)
    several = max(batches, key=lambda b: b.reading[1] if max(b.passes) == 1 else 0.0)
    tuned, per_second = None, None
    if isinstance(trainer, PreviewedTrainer) and engine.capabilities.train:
        say("training")
        with tempfile.TemporaryDirectory() as folder:
            tuned, per_second, adapter = _trained(engine, trainer, Path(folder), seconds)
            speeds = _probes.with_adapter(speeds, engine, adapter, bench)
    embedder, embedding = _embedding()
    return Probe(
        model=card.name,
        digest=card.digest,
        dtype=card.dtype,
        device=card.device,
        machine=machine,
        hardware=dict(hardware.describe()),
        versions=hardware.versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        reading=sum(several.prompts) / several.seconds,
        writing=rates,
        training=per_second,
        embedding=embedding,
        embedder=embedder,
        speeds=speeds,
        training_speeds=tuned,
    )


def _spread(least: int, most: int, n: int) -> list[int]:
    return [least + (most - least) * i // (n - 1) for i in range(n)]


def _prompt(sentences: int, number: int) -> Request:
    text = f"Go on with story {number} at length, for many pages. " + " ".join([SENTENCE] * sentences)
    return Request(f"{number}", messages=({"role": "user", "content": text},))


def _trained(
    engine: Any, trainer: PreviewedTrainer, folder: Path, seconds: float
) -> tuple[TrainingSpeeds, float, Path]:
    """(speeds, tokens per second, the adapter that was made)."""
    pairs = [
        TrainingPair(str(i), _prompt(SENTENCES[0] * (2 + i % 4), i).messages, SENTENCE) for i in range(PAIRS)
    ]
    outlook = trainer.outlook(engine.tunable(), pairs, (), 0, {})
    if outlook.sample is None or outlook.work is None:
        raise NotApplicable("this trainer cannot be tried")
    made = outlook.sample(folder, seconds / 4)
    speeds = TrainingSpeeds.fitted({"": made})
    real = outlook.training_tokens / outlook.work.padded  # of the padded ones
    rate = real * sum(s.padded for s in made.steps) / sum(s.seconds for s in made.steps)
    return replace(speeds, factors={}), rate, folder


def _embedding() -> tuple[str, float | None]:
    """(name of the embedding model, tokens per second on texts of about a passage's length)."""
    from breakeven.harness.embedding import SentenceEmbedder

    embedder = SentenceEmbedder(fresh=True)
    texts = [f"{i} {SENTENCE * 8}" for i in range(32)]
    embedder.encode(texts[:1], phase="index")
    start = time.perf_counter()
    embedder.encode(texts, phase="index")
    return embedder.name, sum(embedder.count_tokens(texts)) / (time.perf_counter() - start)


# --- using -----------------------------------------------------------------------------------


def scale(results: Results, cell: CellResult, probe: Probe, concurrency: int = 1) -> Amount:
    """Seconds per request that a cell would take on the probe's machine, so many requests at once.

    From the tokens counted in the run, at the mean lengths of prompts and answers. Measured where the speeds
    were measured at this concurrency or beyond, and with an adapter where the cell has one; else estimated.
    Without a language model it is the embedding's time, estimated, since what else is computed is not in it.
    Unknown for another model than the probe's, where text is embedded and the probe knows no speed of that,
    and where there is neither a model nor a text to embed.
    """
    embedded = _embedded(cell, probe, ("serve",))
    if embedded.value is None:
        return UNKNOWN
    per_request = embedded.value / max(len(cell.predictions), 1)
    if cell.model is None:
        return Amount(per_request, "estimated") if per_request else UNKNOWN
    if not _is_of(results, cell, probe):
        return UNKNOWN
    read, written = (round(n) for n in cell.mean_usage)
    batch = Batch((max(read, 1),) * concurrency, (max(written + 1, 1),) * concurrency)
    adapted = cell.training is not None
    asked = probe.speeds.seconds(batch, adapted=adapted) / concurrency
    known = concurrency <= max(probe.writing) and (probe.training_speeds is not None or not adapted)
    return Amount(asked, "measured" if known else "estimated") + Amount(per_request, embedded.status)


def scale_one_off(results: Results, cell: CellResult, probe: Probe) -> Amount:
    """Seconds of training and indexing on the probe's machine, from the tokens counted in the run.

    Unknown as soon as seconds were spent on something that the probe has no speed of.
    """
    phases: tuple[Phase, ...] = ("index", "train", "search")
    counted = ("seconds", "embedded_tokens", "training_tokens")
    parts = {(e.phase, e.model) for e in cell.ledger.select(phases) if e.quantity in counted}
    total = Amount(0.0)
    for phase, model in sorted(parts, key=str):
        total = total + scale_part(results, cell, probe, phase, model)
    return total


def scale_part(results: Results, cell: CellResult, probe: Probe, phase: Phase, model: str | None) -> Amount:
    """Seconds on the probe's machine of what one model, or none (a solver), did in one phase."""
    booked = Ledger([e for e in cell.ledger.select(phase) if e.model == model])
    trained, embedded = (booked.total(q, phase) for q in ("training_tokens", "embedded_tokens"))
    if trained.value is None or embedded.value is None or bool(trained.value) == bool(embedded.value):
        return UNKNOWN  # neither is counted here, or the seconds cannot be told apart
    if embedded.value:
        return _embedded(cell, probe, (phase,))
    asked = booked.total("input_tokens", phase).value != 0  # the model answered in this phase too
    if asked or probe.training is None or not _is_of(results, cell, probe):
        return UNKNOWN
    return Amount(trained.value / probe.training, trained.status)


def _is_of(results: Results, cell: CellResult, probe: Probe) -> bool:
    cards: Mapping[str, Any] = results.info.get("models") or {}
    return bool(cards.get(cell.model or "", {}).get("digest") == probe.digest)


def _embedded(cell: CellResult, probe: Probe, phases: Sequence[Any]) -> Amount:
    tokens = cell.ledger.total("embedded_tokens", phases)
    if not tokens.value:
        return tokens
    known = {e.model for e in cell.ledger.select(phases, "embedded_tokens")} <= {probe.embedder}
    if probe.embedding is None or not known:
        return UNKNOWN
    return Amount(tokens.value / probe.embedding, tokens.status)
