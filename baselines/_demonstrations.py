"""Which training examples are shown, answered, before a question, in which order of preference."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.baselines._guard import Guard
from breakeven.baselines._prompt import Demonstration, Passage, answer
from breakeven.baselines._settings import Select
from breakeven.baselines._vectors import VectorIndex
from breakeven.harness.contracts import Example, Input

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Candidate:
    """A training example that may be shown."""

    shown: Demonstration
    group: str | None


@dataclass(frozen=True)
class Pool:
    """Candidates in their order of preference, or with the vectors to order them by for each question."""

    candidates: tuple[Candidate, ...]
    index: VectorIndex | None = None

    def choose(
        self, asked: Sequence[Input], vectors: np.ndarray | None, k: int, guard: Guard
    ) -> list[tuple[Demonstration, ...]]:
        """For each input at most `k` demonstrations, most wanted first.

        Args:
            vectors: (inputs, dimension), needed when the pool is ordered by similarity.
        """

        def allowed(number: int, row: int) -> bool:
            candidate = self.candidates[row]
            return guard.example_allowed(asked[number], candidate.shown.id, candidate.group)

        if self.index is None:
            everything = range(len(self.candidates))
            rows = [[r for r in everything if allowed(n, r)][:k] for n in range(len(asked))]
        else:
            assert vectors is not None
            rows = self.index.nearest(vectors, k, allowed)
        return [tuple(self.candidates[row].shown for row in chosen) for chosen in rows]

    def write(self, path: Path) -> None:
        lines = (json.dumps(asdict(c), ensure_ascii=False) for c in self.candidates)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @classmethod
    def read(cls, path: Path, index: VectorIndex | None) -> Pool:
        with path.open(encoding="utf-8") as file:
            return cls(tuple(_candidate(json.loads(line)) for line in file), index)


def draw(train: Sequence[Example], select: Select, seed: int) -> list[Example]:
    """Training examples in the order in which they are preferred as demonstrations.

    "fixed": by a hash of their ids, so that the seed plays no part and a smaller training set keeps its
    order; "random": shuffled by the seed; "balanced": shuffled by the seed, then one of each answer in turn
    (with free answers, all different, this is "random"); "similar": as they come.
    """
    if select == "similar":
        return list(train)
    if select == "fixed":
        return sorted(train, key=lambda e: hashlib.sha256(e.id.encode()).digest())
    shuffled = list(train)
    random.Random(seed).shuffle(shuffled)
    return list(_in_turn(shuffled)) if select == "balanced" else shuffled


def _in_turn(examples: Iterable[Example]) -> Iterable[Example]:
    """The first example of each answer, then the second of each, and so on."""
    rounds: list[list[Example]] = []
    seen: dict[str, int] = {}
    for example in examples:
        text = answer(example)
        turn = seen.get(text, 0)
        seen[text] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(example)
    for turn_examples in rounds:
        yield from turn_examples


def _candidate(row: dict[str, Any]) -> Candidate:
    shown = row["shown"]
    passages = tuple(Passage(**p) for p in shown.pop("passages"))
    return Candidate(Demonstration(**shown, passages=passages), row["group"])
