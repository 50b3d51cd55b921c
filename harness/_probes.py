"""How fast a model on this machine reads, writes and trains: measured on a few real batches, then fitted.

The model of a batch's time is additive: so much for the batch, for each token that is read (padding
included), for each pair of tokens in a row's attention, for each pass that writes, each row in it and each
token in the cache. Nonnegative least squares on relative errors find the seconds of each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from breakeven.harness.contracts import Completion, Engine, Request
from breakeven.harness.engines._decoding import KEEP
from breakeven.harness.previews import Steps, TrainingSample

#: Tokens written to learn what a pass takes: enough for one to be long beside the clock.
WRITTEN = 12
#: Padded tokens that are read together, likewise.
READ = 1024
#: Steps tell the time of a step from that of its tokens only if the largest is so many times the smallest.
APART = 1.5


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was, or will be, computed: prompt tokens and passes of each row.

    A row takes one pass for each token it writes, and one more to see that it has ended, unless it is cut
    off; the first pass reads the prompt. `seconds` is the wall time of the whole batch, if it was measured.
    """

    prompts: tuple[int, ...]
    passes: tuple[int, ...]
    seconds: float = 0.0

    @property
    def reading(self) -> tuple[float, ...]:
        rows, width = len(self.prompts), max(self.prompts)
        return 1.0, float(rows * width), float(rows * width**2)

    @property
    def writing(self) -> tuple[float, ...]:
        """(passes after the first, rows in them, tokens in their caches); rows as decoding keeps them."""
        width, slots, done = max(self.prompts), len(self.passes), 1
        total = rows = cached = 0.0
        for ends in sorted(set(self.passes)):
            more = max(ends - done, 0)
            total += more
            rows += more * slots
            cached += slots * (more * width + (ends * (ends - 1) - done * (done - 1)) / 2)
            done = max(ends, done)
            left = sum(p > ends for p in self.passes)
            slots = left if left <= KEEP * slots else slots
        return total, rows, cached


@dataclass(frozen=True, slots=True)
class Speeds:
    """Seconds of each part of a batch's time; `adapted_*` are factors while an adapter is applied."""

    batch: float
    token: float
    pair: float
    step: float
    row: float
    cached: float
    adapted_reading: float = 1.0
    adapted_writing: float = 1.0
    adapter_load: float = 0.0

    def seconds(self, batch: Batch, *, adapted: bool = False) -> float:
        """Predicted wall time of a batch, an adapter's loading left out."""
        reading, writing = self._reading(batch), self._writing(batch)
        if not adapted:
            return reading + writing
        return reading * self.adapted_reading + writing * self.adapted_writing

    def _reading(self, batch: Batch) -> float:
        return float(np.dot((self.batch, self.token, self.pair), batch.reading))

    def _writing(self, batch: Batch) -> float:
        return float(np.dot((self.step, self.row, self.cached), batch.writing))

    @classmethod
    def fitted(cls, batches: Sequence[Batch]) -> Self:
        """From measured batches."""
        return cls(*nonnegative([(*b.reading, *b.writing) for b in batches], [b.seconds for b in batches]))

    def with_adapter(self, load: float, read: Batch, wrote: Batch) -> Self:
        """With what an adapter adds: `read` and `wrote` are batches that were measured with one applied."""
        reading = read.seconds / max(self.seconds(read), 1e-9)
        writing = (wrote.seconds - reading * self._reading(wrote)) / max(self._writing(wrote), 1e-9)
        return replace(
            self, adapted_reading=max(reading, 1.0), adapted_writing=max(writing, 1.0), adapter_load=load
        )


@dataclass(frozen=True, slots=True)
class TrainingSpeeds:
    """Seconds of each part of training, `validating` of a padded token read without gradients.

    `factors` say how much slower than that a training was that was tried itself, by its key.
    """

    step: float
    token: float
    pair: float
    validating: float
    setup: float
    bytes_per_token: float | None = None
    factors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def fitted(cls, samples: Mapping[str, TrainingSample]) -> Self:
        steps = [s for sample in samples.values() for s in sample.steps]
        took, sizes = [s.seconds for s in steps], [s.padded for s in steps]
        if max(sizes) < APART * min(sizes):  # steps of one size cannot say what a step takes by itself
            step, (token,), pair = 0.0, nonnegative([(float(size),) for size in sizes], took), 0.0
        else:
            step, token, pair = nonnegative([_parts(s) for s in steps], took)
        rates = (step, token, pair)
        checks = [s.validating for s in samples.values() if s.validating is not None]
        padded = sum(c.padded for c in checks)
        held = [
            (s.peak_bytes - s.resting_bytes) / s.pass_tokens
            for s in samples.values()
            if s.peak_bytes is not None and s.resting_bytes is not None
        ]
        return cls(
            step,
            token,
            pair,
            validating=sum(c.seconds for c in checks) / padded if padded else token,
            setup=float(np.mean([s.setup_seconds for s in samples.values()])),
            bytes_per_token=max(held) if held else None,
            factors={
                key: sum(s.seconds for s in sample.steps)
                / max(float(sum(np.dot(rates, _parts(s)) for s in sample.steps)), 1e-9)
                for key, sample in samples.items()
            },
        )

    def seconds(self, key: str, work: Steps, validating: Steps | None) -> float:
        """Predicted wall time of a training, validation and the adapter's making and saving included."""
        checks = validating.padded * self.validating if validating is not None else 0.0
        own = self.factors.get(key, 1.0)
        return own * float(np.dot((self.step, self.token, self.pair), _parts(work))) + checks + self.setup


def _parts(work: Steps) -> tuple[float, ...]:
    return float(work.count), float(work.padded), float(work.squared)


def nonnegative(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """The rates, none below zero, with which `rows @ rates` comes nearest to `seconds`, relative to them."""
    from scipy.optimize import nnls

    relative = np.array(rows) / np.array(seconds)[:, None]
    size = np.maximum(np.abs(relative).max(axis=0), 1e-300)  # columns differ by orders of magnitude
    rates, _ = nnls(relative / size, np.ones(len(rows)))
    return [float(rate) for rate in rates / size]


# --- measuring -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model said to a few requests of one kind: the tokens and passes of each answer, by request.

    `extra_input` is billed on top of the prompt where choices are scored; `seconds_each` what one request
    took where it is answered by itself: scored over choices, or by somebody else's machine.
    """

    tokens: Mapping[str, int]
    passes: Mapping[str, int]
    extra_input: int = 0
    seconds_each: float | None = None

    @classmethod
    def of(
        cls, engine: Engine, asked: Sequence[Request], said: Sequence[Completion], *, alone: bool = False
    ) -> Self:
        """Args: alone: each request is answered by itself, whether choices are scored or not."""
        scored = [c for c in said if c.finish_reason == "choices"]
        single = list(said) if alone else scored
        by_id = {r.id: r for r in asked}
        extra = [c.usage.input_tokens - engine.count_tokens(by_id[c.id]) for c in scored]
        return cls(
            {c.id: c.usage.output_tokens for c in said},
            {c.id: passes(c) for c in said},
            extra[0] if extra else 0,
            sum(c.seconds or 0.0 for c in single) / len(single) if single else None,
        )


def passes(said: Completion) -> int:
    """Forward passes that an answer took part in."""
    return max(said.usage.output_tokens + (said.finish_reason == "stop"), 1)


def timed(engine: Engine, requests: Sequence[Request]) -> tuple[Batch, list[Completion]]:
    """Answer one batch, and say how long it took."""
    start = time.perf_counter()
    said = list(engine.complete(requests))
    seconds = time.perf_counter() - start
    return Batch(tuple(c.usage.input_tokens for c in said), tuple(passes(c) for c in said), seconds), said


def read(engine: Engine, requests: Sequence[Request]) -> Batch:
    """Time the reading of a batch: each row writes one token."""
    return timed(engine, [replace(r, max_tokens=1) for r in requests])[0]


def wrote(engine: Engine, request: Request, tokens: int = WRITTEN) -> Batch:
    """Time one request alone."""
    return timed(engine, [replace(request, max_tokens=tokens)])[0]


def warmed_up(engine: Engine) -> float:
    """Load the model and run a few tokens; returns the seconds that took."""
    start = time.perf_counter()
    warm_up: Any = getattr(engine, "warm_up", None)
    if warm_up is not None:
        warm_up()
    else:
        hello = ({"role": "user", "content": "Hello"},)
        list(engine.complete([Request("warm-up", hello, max_tokens=2)]))
    return time.perf_counter() - start


@dataclass(frozen=True, slots=True)
class Bench:
    """Requests to measure with, shortest prompt first, all generated; ids are unique."""

    requests: tuple[Request, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, engine: Engine, requests: Sequence[Request], most: int = 24) -> Self:
        """At most so many of the requests, evenly spread over the lengths of their prompts."""
        sized = sorted(((engine.count_tokens(r), i) for i, r in enumerate(requests)))
        chosen = (
            sized if len(sized) <= most else [sized[i * (len(sized) - 1) // (most - 1)] for i in range(most)]
        )
        made = (replace(requests[i], id=f"{n}", choices=None) for n, (_, i) in enumerate(chosen))
        return cls(tuple(made), tuple(size for size, _ in chosen))

    def together(self, tokens: int) -> tuple[Request, ...]:
        """Neighbours from the middle on, at most so many padded tokens together; one at least."""
        middle = len(self.requests) // 2
        rows = max(1, min(tokens // max(self.sizes[middle], 1), len(self.requests) - middle))
        return self.requests[middle : middle + rows]


def base_batches(engine: Engine, bench: Bench, tokens: int = READ) -> list[Batch]:
    """The first measurements: the shortest and the longest request alone, and several together.

    The shortest, and the several where there are some, are read with one token written and with more: that
    tells the seconds of a pass from those of a batch, and those of a row in a pass from both.
    """
    short, long, several = bench.requests[0], bench.requests[-1], bench.together(tokens)
    for request in (short, long):  # the kernels of these shapes are made once
        wrote(engine, request, 2)
    read(engine, several)  # what they begin with in common is kept, here as among the batches of a run
    batches = [read(engine, (short,)), wrote(engine, short), wrote(engine, long), read(engine, several)]
    if len(several) > 1:
        batches.append(timed(engine, [replace(r, max_tokens=WRITTEN) for r in several])[0])
    return batches


def with_adapter(speeds: Speeds, engine: Engine, adapter: Path, bench: Bench, tokens: int = READ) -> Speeds:
    """`speeds` with what this adapter adds, measured on the shortest request and on several together."""
    adapted, short = engine.adapt(adapter), bench.requests[0]
    first, again = wrote(adapted, short, 2), wrote(adapted, short, 2)
    load = max(0.0, first.seconds - again.seconds)
    return speeds.with_adapter(load, read(adapted, bench.together(tokens)), wrote(adapted, short))
