"""Makes a finished run of any size, to measure what reads one: reports, tables, comparisons.

    python benchmarks/big_run.py runs/big --predictions 100000

The three tasks that come along, their examples repeated under new ids, answered by strategies that load no
model: each gives the reference as often as its setting says, else part of it and part of another one. The
program's own runner scores, books and writes it all, so the folder is what a real run leaves. Nothing in it
stands for what a model would have said.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

from rich.console import Console

from breakeven.harness import progress, registry, suite
from breakeven.harness import run as runs
from breakeven.harness.contracts import Brief, Example, Input, Prediction, Services, Task, Usage, VariesWith

TASKS = ("support_intents", "recipe_ingredients", "handbook_qa")
HERE = Path(__file__).resolve()


def enlarged(task: str, rows: int) -> Task:
    """The shipped task with `rows` test examples: all that it has, over and over, each with a number."""
    found: Task = registry.find("tasks", task)()
    test = islice(enumerate(cycle((*found.test, *found.train, *found.validation))), rows)
    return replace(found, test=tuple(replace(e, id=f"{n:06d}-{e.id}") for n, e in test))


def guessing(right: float, tokens: int = 0) -> Guessing:
    """Settings of a suite: the share of examples answered in full, and the tokens that each says it read."""
    return Guessing(right, tokens)


@dataclass(frozen=True)
class Guessing:
    right: float
    tokens: int
    varies_with: frozenset[VariesWith] = frozenset()
    #: It looks its answers up, which is no latency of anything.
    timed_elsewhere: bool = True

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> GuessingPredictor:
        return GuessingPredictor(self, brief)

    def load(self, folder: Path, brief: Brief, services: Services) -> GuessingPredictor:
        return GuessingPredictor(self, brief)


@dataclass(frozen=True)
class GuessingPredictor:
    strategy: Guessing
    brief: Brief

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        found: Task = registry.find("tasks", self.brief.name)()
        examples = {e.id: e for e in (*found.test, *found.train, *found.validation)}
        ids, pages = list(examples), [d.id for d in self.brief.documents]
        for asked in inputs:
            rng = random.Random(f"{self.strategy.right} {asked.id}")
            ours, other = _words(examples[asked.id.partition("-")[2]]), _words(examples[rng.choice(ids)])
            words = ours if rng.random() < self.strategy.right else _mixed(ours, other, rng)
            output = ("\n" if isinstance(examples[ids[0]].references[0], list) else " ").join(words)
            meta: Mapping[str, list[str]] = {"passages": rng.sample(pages, 3)} if pages else {}
            usage = Usage(self.strategy.tokens + len(output) // 4, len(output) // 4 + 1)
            yield Prediction(asked.id, output, usage, seconds=rng.random(), finish_reason="stop", meta=meta)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)


def _words(example: Example) -> list[str]:
    """The parts of the first reference: the items of a list, the words of a text."""
    first = example.references[0]
    return [str(part) for part in first] if isinstance(first, list) else str(first).split()


def _mixed(ours: Sequence[str], other: Sequence[str], rng: random.Random) -> list[str]:
    return [w for w in ours if rng.random() < 0.5] + [w for w in other if rng.random() < 0.5]


def write(folder: Path, predictions: int, strategies: int) -> int:
    """Run it into `folder`, which must be new. Returns how many predictions there are, at least as asked."""
    rows = math.ceil(predictions / (len(TASKS) * strategies))
    shares = [(n + 1) / (strategies + 1) for n in range(strategies)]
    chosen = suite.Suite.model_validate(
        {
            "suite": "big",
            "tasks": {t: {"task": f"{HERE}:enlarged", "args": {"task": t, "rows": rows}} for t in TASKS},
            "strategies": {
                f"right-{share:.2f}": {
                    "strategy": f"{HERE}:guessing",
                    "right": share,
                    "tokens": round(100 * (1 + 10 * share)),
                }
                for share in shares
            },
            "reference": f"right-{shares[0]:.2f}",
        }
    )
    with progress.display(Console(stderr=True)) as display:
        outcome = runs.start(chosen, folder, runs.Options(), display)
    if set(outcome.states.values()) != {"done"}:
        raise SystemExit(f"the run in {folder} is not whole: {dict(outcome.states)}")
    return rows * len(TASKS) * strategies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the new run")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--strategies", type=int, default=10)
    given = parser.parse_args()
    made = write(given.folder, given.predictions, given.strategies)
    print(f"{made:,} predictions in {given.folder}")


if __name__ == "__main__":
    main()
