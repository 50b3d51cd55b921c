"""How often verdicts are right: many small samples of a population whose truth is known.

    python benchmarks/decision_study.py runs/banking77-all-1 runs/banking77-all-model-1 \\
        --write docs/decision-study.md

Two populations: the per-example scores of finished runs (all their strategies on the same test examples),
and simulated ones. From each, samples of 100, 400 and 1,000 examples are drawn with replacement and decided
by the program's own rule; the population says what would have been right.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from breakeven.harness import draws, hardware, results, stats
from breakeven.harness.decision import Candidate, Case, decide
from breakeven.harness.economics import Economics
from breakeven.harness.ownership import Bill, Knobs, Ownership
from breakeven.harness.power import minimum_detectable_effect

Floats = npt.NDArray[np.float64]

SIZES = (100, 400, 1000)
MARGIN = 0.02
RULES = {True: "net benefit", False: "cheapest within the margin"}
FREE = Ownership("free", (), Bill(), Bill(), Bill(), Bill())


@dataclass(frozen=True)
class Population:
    """`scores` (strategies, seeds, examples), of which a sample sees `seen` seeds; `name`: where from."""

    name: str
    labels: tuple[str, ...]
    scores: Floats
    seen: int = 1

    @property
    def means(self) -> Floats:
        return np.asarray(self.scores.mean(axis=(1, 2)))


def of_runs(folders: Sequence[Path]) -> Population:
    """The per-example scores of the first task of runs with the same test examples, each strategy once."""
    scores: dict[str, list[float]] = {}
    examples: list[str] = []
    for folder in folders:
        found = results.load(folder)
        name, task = next(iter(found.tasks.items()))
        ids = [e.id for e in task.test]
        if examples and ids != examples:
            raise SystemExit(f"{folder}: '{name}' has other test examples than {folders[0]}")
        examples = ids
        for row in found.tables[name]:
            if row.quality is not None:
                y = row.cells[0].scores(task.primary.name)
                if y not in scores.values():  # majority is the same at every training size
                    scores.setdefault(row.label, y)
    real = np.array([[y] for y in scores.values()], dtype=np.float64)
    return Population(f"{name}, {len(examples):,} examples", tuple(scores), real)


def simulated(rng: np.random.Generator, seen: int, examples: int = 20_000) -> Population:
    """Strategies that share the difficulty of an example, as real ones do, with gaps from 0 to 12 points.

    0/1 scores of a logistic model: the example's difficulty, the strategy's strength, and for each of 60
    seeds a strength of its own (standard deviation 0.1 on the logit scale) and independent noise. Seen once,
    strategies have no seeds.
    """
    seeds = 1 if seen == 1 else 60
    strengths = np.array([0.0, 0.05, 0.2, 0.4, 0.7, 1.0])
    difficulty = rng.normal(0, 2.0, examples)
    shifts = rng.normal(0, 0.1 if seeds > 1 else 0.0, (len(strengths), seeds))
    logit = strengths[:, None, None] + shifts[:, :, None] - difficulty[None, None, :]
    scores = rng.random(logit.shape) < 1 / (1 + np.exp(-2 * logit))
    labels = tuple(f"strength {s:g}" for s in strengths)
    name = f"simulated, {seen} seed{'s' if seen > 1 else ''}"
    return Population(name, labels, scores.astype(np.float64), seen)


@dataclass
class Tally:
    """Counts over repetitions of one sample size."""

    verdicts: int = 0
    decided: int = 0
    wrong: int = 0
    detectable: int = 0
    detected: int = 0
    intervals: int = 0
    covered: int = 0
    too_good: float = 0.0
    corrected: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = asdict(self), asdict(other)
        return Tally(**{k: mine[k] + theirs[k] for k in mine})


def study(
    population: Population, size: int, repetitions: int, rng: np.random.Generator, value: bool
) -> Tally:
    """Samples of one size, each of a random choice of two to all strategies.

    Wrong: decided for a strategy that is in truth worse than the best of its sample's strategies by more than
    the margin. Detectable: the best is in truth better than the next by more than the minimum detectable
    effect (80 % power, from the population's own variance of their difference).
    """
    tally, truth = Tally(), population.means
    strategies, seeds, examples = population.scores.shape
    for _ in range(repetitions):
        chosen = rng.choice(strategies, size=rng.integers(2, strategies + 1), replace=False)
        picked = rng.integers(examples, size=size)
        scores = [
            population.scores[s][rng.choice(seeds, size=population.seen, replace=False)][:, picked]
            for s in chosen
        ]
        case = sampled(population, chosen, scores, int(rng.integers(2**31)), value)
        verdict = decide(case)
        best = chosen[np.argmax(truth[chosen])]
        tally.verdicts += 1
        assert verdict.choice is not None
        named = chosen[verdict.choice]
        tally.too_good += float(case.draws.score_mean[verdict.choice] - truth[named])
        tally.corrected += float(case.draws.score_mean[verdict.choice] - verdict.optimism - truth[named])
        if verdict.decided:
            tally.decided += 1
            tally.wrong += bool(truth[named] < truth[best] - MARGIN)
        if detectable(population, chosen, size):
            tally.detectable += 1
            tally.detected += verdict.decided
        for y, s in zip(scores, chosen, strict=True):
            interval = stats.mean_interval(y, varies_with_seed=population.seen > 1)
            tally.intervals += 1
            tally.covered += interval.low <= truth[s] <= interval.high
    return tally


def sampled(
    population: Population, chosen: Sequence[int], scores: Sequence[Floats], seed: int, value: bool
) -> Case:
    settings = Economics.model_validate({"margin": MARGIN, "value_per_correct": 1.0 if value else None})
    labels = [population.labels[s] for s in chosen]
    items = draws.resampled(scores[0].shape[1], seed=seed)
    return Case(
        population.name,
        tuple(Candidate(x, "prompting", "this machine", None, FREE) for x in labels),
        draws.of_scores(labels, scores, items, seed=seed),
        settings,
        Knobs(settings.requests_per_month, settings.horizon_months, settings.value_per_correct),
    )


def detectable(population: Population, chosen: Sequence[int], size: int) -> bool:
    """Whether the two best differ by more than `size` examples can show, beyond the margin."""
    truth = population.means
    first, second = sorted(chosen, key=lambda s: -truth[s])[:2]
    seen = population.scores[:, : population.seen].mean(axis=1)  # of some seeds, as a sample sees them
    difference = seen[first] - seen[second]
    between = sum(population.scores[s].mean(axis=1).var() / population.seen for s in (first, second))
    effect = minimum_detectable_effect(size, float(difference.var() + size * between))
    return bool(truth[first] - truth[second] > effect)


def lines(populations: Sequence[Population], repetitions: int) -> Iterator[str]:
    yield (
        "| scores | rule | examples | decided | wrong, of all verdicts | decided where detectable | "
        "intervals that cover | winner looks too good by | after correction |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for population in populations:
        whole = Tally()
        for value in (True, False):
            for size in SIZES:
                rng = np.random.default_rng([size, value])
                found = study(population, size, repetitions, rng, value)
                whole += found
                yield line(population.name, RULES[value], f"{size:,}", found)
        yield line(population.name, "both", "all", whole)


def line(name: str, rule: str, size: str, t: Tally) -> str:
    share = f"{t.detected / t.detectable:.1%} of {t.detectable}" if t.detectable else "none was"
    return (
        f"| {name} | {rule} | {size} | {t.decided / t.verdicts:.1%} | {t.wrong / t.verdicts:.1%} | {share} "
        f"| {t.covered / t.intervals:.1%} | {100 * t.too_good / t.verdicts:+.2f} points "
        f"| {100 * t.corrected / t.verdicts:+.2f} points |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs with many test examples, the same")
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--write", type=Path, help="a Markdown file to write the table into")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    populations = [of_runs(given.runs), simulated(rng, 1), simulated(rng, 3)]
    for p in populations:
        print(p.name, dict(zip(p.labels, p.means.round(3).tolist(), strict=True)))
    table = []
    for line in lines(populations, given.repetitions):
        print(line, flush=True)
        table.append(line)
    if given.write:
        write(given.write, table, populations, given)


def write(
    path: Path, table: Sequence[str], populations: Sequence[Population], given: argparse.Namespace
) -> None:
    """The table between the markers of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    head, rest = text.split("<!-- study -->", 1)
    _, tail = rest.split("<!-- /study -->", 1)
    versions = json.dumps(hardware.versions())
    means = "; ".join(
        f"{p.name}: " + ", ".join(f"{x} {m:.3f}" for x, m in zip(p.labels, p.means, strict=True))
        for p in populations
    )
    made = "\n".join(
        [
            "<!-- study -->",
            *table,
            "",
            f"{given.repetitions} samples a line. True means: {means}.",
            "",
            f"Python {platform.python_version()}, {versions}.",
            "<!-- /study -->",
        ]
    )
    path.write_text(head + made + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
