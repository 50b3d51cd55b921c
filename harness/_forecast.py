"""From cells that were looked at to what each would take: a model is tried on a few of their requests.

`tried` probes one model, `estimated` puts its speeds and answers together with a cell. Adding up, and what a
cheaper plan would save, is `estimate`'s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from breakeven.harness import _probes, costs, hardware, store
from breakeven.harness._foresee import Foreseen, Kind
from breakeven.harness._probes import Answers, Batch, Speeds, TrainingSpeeds
from breakeven.harness.contracts import Completion, Engine, ModelCard, Request, Usage
from breakeven.harness.errors import OutOfMemory, UserError
from breakeven.harness.estimate import CellEstimate, Seconds, Trained
from breakeven.harness.previews import TrainingOutlook, TrainingSample
from breakeven.harness.prices import TokenPrice
from breakeven.harness.suite import Suite

#: Requests whose batches are planned; more take as long in proportion.
PLANNED = 512
#: Real answers asked for, per task and untuned strategy: while there is time for them, and at least.
ASKED, AT_LEAST = 6, 3
#: Bytes that AdamW keeps for each trained parameter in float32: itself, its gradient, two moments.
ADAM = 4 * 4


# --- one model, tried ------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A model's speeds here (None for one that is served elsewhere), and what it answered by kind.

    `resting_bytes` are held once it is loaded, `room_bytes` can be held in all. Of a `projected` one nothing
    was tried (`_projected`); it trains with so many `training_flops` a second.
    """

    card: ModelCard
    speeds: Speeds | None = None
    training: TrainingSpeeds | None = None
    answers: Mapping[Kind, Answers] = field(default_factory=dict)
    resting_bytes: int | None = None
    room_bytes: int | None = None
    training_flops: float | None = None
    projected: bool = False


def loaded(engine: Engine, say: Callable[[str], None]) -> float:
    """Load a local model; the seconds that took."""
    say(f"loading {engine.describe().name}")
    return _probes.warmed_up(engine)


def tried(
    engine: Engine, cells: Sequence[Foreseen], seconds: float, folder: Path, say: Callable[[str], None]
) -> Measured:
    """Probe a local model on the cells' own prompts and training examples, for about `seconds`."""
    card = engine.describe()
    if not any(c.requests for c in cells):
        return Measured(card)
    say("timing a few requests")
    bench = _probes.Bench.of(engine, [r for c in cells for r in c.requests])
    batches = _probes.base_batches(engine, bench)
    first = Speeds.fitted(batches)
    trainings = {t.key: t for c in cells for t in c.trainings if t.sample}
    share = seconds / 3 if trainings else 0.0
    answers, more = asked(engine, first, cells, seconds - share, say)
    speeds, tuned = Speeds.fitted([*batches, *more]), None
    resting = resting_bytes(card)
    room = hardware.available_memory(card.device) + resting if resting is not None else None
    samples = sampled(trainings, share, folder, say)
    if samples:
        tuned = TrainingSpeeds.fitted(samples)
        adapter = folder / next(iter(samples))
        if engine.capabilities.adapters:
            speeds = _probes.with_adapter(speeds, engine, adapter, bench)
    return Measured(card, speeds, tuned, answers, resting, room)


def heard(engine: Engine, cells: Sequence[Foreseen], say: Callable[[str], None]) -> Measured:
    """Ask a model that is served elsewhere a few requests of each kind; this costs money."""
    answers, _ = asked(engine, None, cells, 0.0, say)
    return Measured(engine.describe(), answers=answers)


def asked(
    engine: Engine,
    speeds: Speeds | None,
    cells: Sequence[Foreseen],
    seconds: float,
    say: Callable[[str], None],
) -> tuple[dict[Kind, Answers], list[Batch]]:
    """Real answers to a few requests of each kind, and the batches they were asked in.

    As many of each kind as fit into `seconds` at `speeds`, `AT_LEAST` whatever it takes: of answers of one
    strategy the longest is often several times as long as the shortest. Requests of a task are asked
    together.
    """
    kinds: dict[Kind, Foreseen] = {}
    for cell in cells:
        if cell.is_asked:
            kinds.setdefault(cell.kind, cell)
    if not kinds:
        return {}, []
    number = ASKED
    while speeds is not None and number > AT_LEAST and _asking(engine, speeds, kinds, number) > seconds:
        number -= 1
    answers: dict[Kind, Answers] = {}
    batches: list[Batch] = []
    for task in dict.fromkeys(kind[0] for kind in kinds):
        say(f"asking {number} examples of {task} per strategy")
        chosen = {kind: _spread(kinds[kind], number) for kind in kinds if kind[0] == task}
        owner = {r.id: kind for kind, requests in chosen.items() for r in requests}
        said: dict[Kind, list[Completion]] = {kind: [] for kind in chosen}
        for batch, seen, completions in _answered(engine, [r for rs in chosen.values() for r in rs]):
            if batch[0].choices is None:
                batches.append(seen)
            for completion in completions:
                said[owner[completion.id]].append(completion)
        for kind, requests in chosen.items():
            answers[kind] = Answers.of(engine, requests, said[kind], alone=speeds is None)
    return answers, batches


def _answered(
    engine: Engine, requests: Sequence[Request]
) -> Iterator[tuple[Sequence[Request], Batch, list[Completion]]]:
    """Batch after batch; one that does not fit into memory is halved, as a run does. Raises OutOfMemory."""
    queue = engine.plan(requests)
    while queue:
        batch = queue.pop(0)
        try:
            yield batch, *_probes.timed(engine, batch)
        except OutOfMemory:
            if len(batch) == 1:
                raise
            half = (len(batch) + 1) // 2
            queue[:0] = [batch[:half], batch[half:]]


def _spread(cell: Foreseen, number: int) -> list[Request]:
    """Requests of a cell: half of them some that will be timed, the rest spread over the prompts' lengths.

    Ids are unique over cells.
    """
    timed = {r.id for r in cell.timed[: number // 2]}
    order = sorted(range(len(cell.requests)), key=lambda i: cell.sizes[i])
    rest = [i for i in order if cell.requests[i].id not in timed]
    number = min(number - len(timed), len(rest))
    places = [i for i in order if cell.requests[i].id in timed]
    places += [rest[(2 * i + 1) * len(rest) // (2 * number)] for i in range(number)]
    return [replace(cell.requests[p], id=f"{cell.spec.id}/{cell.requests[p].id}") for p in places]


def _asking(engine: Engine, speeds: Speeds, kinds: Mapping[Kind, Foreseen], number: int) -> float:
    """Seconds that asking takes when every answer is as long as it may be."""
    total = 0.0
    for task in dict.fromkeys(kind[0] for kind in kinds):
        requests = [r for kind, cell in kinds.items() if kind[0] == task for r in _spread(cell, number)]
        for batch in engine.plan(requests):
            sizes = tuple(engine.count_tokens(r) for r in batch)
            total += speeds.seconds(Batch(sizes, tuple(r.max_tokens for r in batch)))
    return total


def sampled(
    trainings: Mapping[str, TrainingOutlook], seconds: float, folder: Path, say: Callable[[str], None]
) -> dict[str, TrainingSample]:
    """A few real steps of the training in the middle, of the longest and the shortest, while time lasts.

    One that fails is left out, as its cell would be in a run.
    """
    known = {key: t for key, t in trainings.items() if t.work is not None and t.work.count}
    order = sorted(known, key=lambda key: known[key].work.padded / known[key].work.count)  # type: ignore[union-attr]
    chosen = dict.fromkeys((order[len(order) // 2], order[-1], order[0])) if order else {}
    samples: dict[str, TrainingSample] = {}
    start = time.perf_counter()
    for key in chosen:
        if samples and time.perf_counter() - start > seconds:
            break
        say("training a few steps")
        (folder / key).mkdir(parents=True, exist_ok=True)
        sample = known[key].sample
        assert sample is not None
        try:
            samples[key] = sample(folder / key, seconds / (2 * len(chosen)))
        except (UserError, OutOfMemory) as error:
            say(f"training failed: {error}")
    return samples


def taught(
    cells: Sequence[Foreseen], seconds: float, folder: Path, say: Callable[[str], None]
) -> TrainingSpeeds | None:
    """Speeds of the trainings that have no language model, from a few real steps; None if there are none."""
    own = [c.training for c in cells if c.spec.model is None and c.training is not None and c.training.sample]
    samples = sampled({training.key: training for training in own}, seconds, folder, say)
    return TrainingSpeeds.fitted(samples) if samples else None


def resting_bytes(card: ModelCard) -> int | None:
    """Bytes held now that the model is loaded."""
    if card.device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_allocated(card.device))
    import psutil

    return int(psutil.Process().memory_info().rss)


# --- put together ----------------------------------------------------------------------------


def estimated(
    cell: Foreseen,
    suite: Suite,
    engine: Engine | None,
    found: Measured | None,
    price: TokenPrice | None,
    line: float,
    alone: TrainingSpeeds | None = None,
) -> CellEstimate:
    """What a cell would take.

    Args:
        price: of the tokens of a model that is served elsewhere.
        line: seconds it takes to write an answer into the journal.
        alone: speeds of training without a language model (`taught`).
    """
    spec = cell.spec
    blank = CellEstimate(
        spec.id, spec.task, spec.strategy, spec.model, spec.train_size, spec.seed, cell.state, cell.reason,
        cell.examples, rendered=len(cell.requests),
    )  # fmt: skip
    if cell.state != "runs":
        return blank
    if engine is None or found is None:
        again = _timed_again(suite, cell) * cell.rendering / max(cell.examples, 1)
        if (training := cell.training) is None:
            return replace(blank, seconds=Seconds(cell.fitting, 0.0, cell.rendering, again))
        known = alone is not None and training.work is not None
        spent = alone.seconds(training.key, training.work, None) if known else None  # type: ignore[union-attr, arg-type]
        return replace(
            blank,
            training_tokens=float(training.training_tokens),
            training_key=training.key,
            seconds=Seconds(cell.fitting, spent, cell.rendering, again) if spent is not None else None,
        )
    pool, source = _answers(cell, found)
    answers = [(t, p) for t, p in zip(pool.tokens.values(), pool.passes.values(), strict=True)]
    mean = sum(t for t, _ in answers) / len(answers)
    per_prompt = sum(cell.sizes) / len(cell.sizes) + pool.extra_input
    training = cell.training
    searched = cell.judged_on * len(cell.trainings)  # examples that are answered once by each trial
    blank = replace(
        blank,
        input_tokens=per_prompt * cell.examples,
        output_tokens=mean * cell.examples,
        search_input_tokens=per_prompt * searched,
        search_output_tokens=mean * searched,
        output_from=source,
        training_tokens=float(training.training_tokens) if training is not None else 0.0,
        training_key=training.key if training is not None else "",
        trials=tuple(_trained(t, found) for t in cell.trials),
    )
    if found.card.data_goes_to != "this machine":
        return replace(blank, **_bill(cell, found, pool, answers, price, engine))
    return replace(
        blank, seconds=_seconds(cell, suite, engine, found, pool, line), peak_bytes=_peak(cell, engine, found)
    )


def _trained(training: TrainingOutlook, found: Measured) -> Trained:
    """A training of a search."""
    return Trained(
        training.key,
        float(training.training_tokens),
        0.0 if training.billed else _training_seconds(training, found),
        training.money if training.billed else 0.0,
    )


def _training_seconds(training: TrainingOutlook, found: Measured) -> float | None:
    """None where it cannot be tried; 0 where it was done elsewhere."""
    if not training.training_tokens:
        return 0.0
    if found.training_flops is not None and training.flops is not None:
        return training.flops / found.training_flops
    if found.training is None or training.work is None:
        return None
    return found.training.seconds(training.key, training.work, training.validating)


def _answers(cell: Foreseen, found: Measured) -> tuple[Answers, str]:
    """Tokens and passes of answers to expect, and where they come from."""
    if not cell.is_asked and cell.training is not None and cell.training.answer_lengths:
        lengths = {str(i): n for i, n in enumerate(cell.training.answer_lengths)}
        return Answers(lengths, {i: n + 1 for i, n in lengths.items()}), "training answers"
    if (own := found.answers.get(cell.kind)) is not None:
        return own, f"{len(own.tokens)} real answers"
    longest = {r.id: r.max_tokens if r.choices is None else 0 for r in cell.requests}
    asked = "could be" if found.projected else "was"
    return Answers(longest, longest), f"at most: nothing {asked} asked"


def _bill(
    cell: Foreseen,
    found: Measured,
    pool: Answers,
    answers: Sequence[tuple[int, int]],
    price: TokenPrice | None,
    engine: Engine,
) -> dict[str, Any]:
    """Money, and seconds if it was asked, of a model that somebody else serves."""
    usages = [
        Usage(size + pool.extra_input, answers[i % len(answers)][0], estimated=True)
        for i, size in enumerate(cell.sizes)
    ]
    asked = cell.examples + cell.judged_on * len(cell.trainings)
    cost = asked * costs.tokens_cost(usages, price, model=found.card.price_as or found.card.name)
    told: dict[str, Any] = {"token_money": cost.value, "unpriced": cost.missing}
    if (training := cell.training) is not None and training.billed:
        told["training_money"] = training.money
        told["unpriced"] = (*cost.missing, *training.unpriced)
    if pool.seconds_each is not None:
        together = getattr(engine, "concurrency", 1)
        serving = cell.examples * pool.seconds_each / together + cell.rendering
        searching = (asked - cell.examples) * pool.seconds_each / together
        told["seconds"] = Seconds(cell.fitting, 0.0, serving, 0.0, searching)
    return told


def _timed_again(suite: Suite, cell: Foreseen) -> int:
    """Requests of the timing passes: each of a few alone, the first of them twice, then some together."""
    n = min(suite.timing.examples, cell.examples)
    many = min(suite.timing.concurrency, n)
    return n + 1 + (many if many > 1 else 0) if n else 0


def _seconds(
    cell: Foreseen, suite: Suite, engine: Engine, found: Measured, pool: Answers, line: float
) -> Seconds | None:
    speeds, training = found.speeds, cell.training
    if speeds is None:
        return None
    spent = _training_seconds(training, found) if training is not None else 0.0
    if spent is None:
        return None
    expected = _Expected(cell, pool, speeds, training is not None)
    rows = cell.requests[: min(len(cell.requests), PLANNED)]
    wanted = min(cell.examples, PLANNED)
    repeated = [replace(rows[i % len(rows)], id=f"{i}/{rows[i % len(rows)].id}") for i in range(wanted)]
    each = expected.seconds(engine.plan(repeated)) / wanted + cell.rendering / max(cell.examples, 1) + line
    serving = each * cell.examples + expected.loading
    searching = (each * cell.judged_on + expected.loading * (cell.judged_on > 0)) * len(cell.trainings)
    alone = [[r] for r in [*cell.timed[:1], *cell.timed]]
    many = min(suite.timing.concurrency, len(cell.timed))
    together = engine.plan(cell.timed[:many], many) if many > 1 else []
    again = expected.seconds([*alone, *together])
    again += _timed_again(suite, cell) * cell.rendering / max(cell.examples, 1)
    return Seconds(cell.fitting, spent, serving, again, searching)


class _Expected:
    """Seconds of batches whose answers are drawn from those that are expected."""

    def __init__(self, cell: Foreseen, pool: Answers, speeds: Speeds, adapted: bool) -> None:
        self._sizes = {r.id: size for r, size in zip(cell.requests, cell.sizes, strict=True)}
        self._pool, self._speeds, self._adapted = pool, speeds, adapted
        self._passes = list(pool.passes.values())
        self._own = {i.partition("/")[2]: p for i, p in pool.passes.items()}
        self._random = random.Random(0)
        self.loading = speeds.adapter_load if adapted else 0.0

    def seconds(self, batches: Iterable[Sequence[Request]]) -> float:
        return sum(self._of(batch) for batch in batches)

    def _of(self, batch: Sequence[Request]) -> float:
        if self._pool.seconds_each is not None:
            factor = self._speeds.adapted_reading if self._adapted else 1.0
            return self._pool.seconds_each * factor * len(batch)
        ids = [self._known(r.id) for r in batch]
        lengths = tuple(self._length(i, len(ids)) for i in ids)
        return self._speeds.seconds(Batch(tuple(self._sizes[i] for i in ids), lengths), adapted=self._adapted)

    def _known(self, id: str) -> str:
        return id if id in self._sizes else id.partition("/")[2]

    def _length(self, id: str, rows: int) -> int:
        """Its own passes, if asked; for a row alone the mean; among many, whose longest counts, a draw."""
        if (own := self._own.get(id)) is not None:
            return own
        if rows == 1:
            return round(sum(self._passes) / len(self._passes))
        return self._random.choice(self._passes)


def _peak(cell: Foreseen, engine: Engine, found: Measured) -> int | None:
    """Bytes held at most: what rests, the longest batch, and training.

    Serving by the engine's own formula; training as the trainer foresees it, else by AdamW's four float32
    values a parameter and the activations of a padded token as the tried steps held them. Both count: memory
    of one is not returned before the other. What an allocator keeps beyond that, of blocks of other sizes,
    is left out.
    """
    resting = found.resting_bytes
    if resting is None:
        return None
    weigh: Any = getattr(engine, "batch_bytes", None)
    serving = max(weigh(b) for b in engine.plan(list(cell.requests))) if weigh is not None else 0
    held = [_held(training, found) for training in cell.trainings]
    known = [h for h in held if h is not None]
    return resting + serving + max(known, default=0) if len(known) == len(held) else None


def _held(training: TrainingOutlook, found: Measured) -> int | None:
    """Bytes of training on top of the model."""
    foreseen = training.held_bytes() if training.held_bytes is not None else None
    if foreseen is not None:
        return foreseen
    per_token = found.training.bytes_per_token if found.training is not None else None
    if per_token is None or training.trainable_parameters is None:
        return None
    return round(training.pass_tokens * per_token) + training.trainable_parameters * ADAM


def journal_line(folder: Path) -> float:
    """Seconds it takes to have one more answer on disk."""
    line, times = {"call": 0, "done": {"id": "x" * 16, "text": "x" * 200}}, 8
    start = time.perf_counter()
    for _ in range(times):
        store.append_line(folder / "journal.jsonl", line)
    return (time.perf_counter() - start) / times
