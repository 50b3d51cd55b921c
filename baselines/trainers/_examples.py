"""From training pairs to the batches of every step: encoding, truncation, order. No tensors yet.

The plan is a pure function of examples, settings and seed, so a resumed run need not store it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from breakeven.harness.errors import BreakevenError
from breakeven.harness.training import TrainingPair, Tunable

#: Batches that examples are sorted by length within: small enough to stay a random sample.
POOL = 32


@dataclass(frozen=True, slots=True)
class Tokens:
    """One example as token ids. `answer` ends in the end token; only `answer` is learned."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


Batch = tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """The usable examples, and how many lost the beginning of their prompt or did not fit at all."""

    examples: tuple[Tokens, ...]
    truncated: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The batch of every optimizer step, the steps that end an epoch, and whether a cap cut it short."""

    batches: tuple[Batch, ...]
    epoch_ends: frozenset[int]
    capped: bool


def encode(pairs: Sequence[TrainingPair], tunable: Tunable, max_length: int) -> Encoded:
    """Tokenise; cut prompts from the left where an example exceeds `max_length` tokens, never answers.

    An example whose answer leaves no room for a single token of prompt is dropped.

    Raises:
        BreakevenError: an answer does not end in the token that generation stops at; a model tuned on it
            would never stop.
    """
    examples: list[Tokens] = []
    truncated = dropped = 0
    for pair in pairs:
        prompt, answer = tunable.encode(pair.messages, pair.answer)
        if not answer or answer[-1] != tunable.end_id:
            raise BreakevenError(
                f"training example {pair.id!r}: the answer does not end in the end token {tunable.end_id}, "
                "so the tuned model would never stop; the engine's encode() must append it"
            )
        room = max_length - len(answer)
        if room < 1 or not prompt:
            dropped += 1
            continue
        if len(prompt) > room:
            truncated += 1
            prompt = prompt[-room:]
        examples.append(Tokens(tuple(prompt), tuple(answer)))
    return Encoded(tuple(examples), truncated, dropped)


def plan(
    examples: Sequence[Tokens], *, epochs: float, batch_size: int, max_tokens: int | None, seed: int
) -> Plan:
    """Which examples each step sees: shuffled anew per epoch, similar lengths together.

    `max_tokens` caps the tokens over all steps; at least one step remains.
    """
    per_epoch = -(-len(examples) // batch_size)
    wanted = max(1, round(epochs * per_epoch))
    batches: list[Batch] = []
    epoch = tokens = 0
    while len(batches) < wanted:
        for batch in _epoch(examples, batch_size, random.Random(f"{seed}/{epoch}"))[: wanted - len(batches)]:
            tokens += count(batch)
            if max_tokens is not None and tokens > max_tokens and batches:
                return Plan(tuple(batches), _ends(len(batches), per_epoch), capped=True)
            batches.append(batch)
        epoch += 1
    return Plan(tuple(batches), _ends(len(batches), per_epoch), capped=False)


def passes(batch: Sequence[Tokens], tokens_per_pass: int) -> list[Batch]:
    """Split a batch so that no part, padded to its longest example, exceeds `tokens_per_pass`.

    An example longer than that makes a part of its own.
    """
    parts: list[list[Tokens]] = []
    for example in sorted(batch, key=len, reverse=True):  # the first of a part is its longest
        if not parts or len(parts[-1][0]) * (len(parts[-1]) + 1) > tokens_per_pass:
            parts.append([])
        parts[-1].append(example)
    return [tuple(part) for part in parts]


def count(batch: Sequence[Tokens]) -> int:
    """Tokens of a batch without padding."""
    return sum(len(example) for example in batch)


def _epoch(examples: Sequence[Tokens], batch_size: int, rng: random.Random) -> list[Batch]:
    order = list(examples)
    rng.shuffle(order)
    batches: list[Batch] = []
    for start in range(0, len(order), batch_size * POOL):
        pool = sorted(order[start : start + batch_size * POOL], key=len)
        batches += [tuple(pool[i : i + batch_size]) for i in range(0, len(pool), batch_size)]
    rng.shuffle(batches)
    return batches


def _ends(steps: int, per_epoch: int) -> frozenset[int]:
    return frozenset([*range(per_epoch, steps + 1, per_epoch), steps])
