"""Retrieval over many passages: how long an index takes to build, a question to answer, and what it finds.

    python benchmarks/retrieval.py --rows 1000000

Vectors are synthetic, of the length that the default embedding model gives. *mixture*: many topics of unequal
size and width within a few themes, directions of unequal weight, as embeddings of texts have; a question is
a row moved in the data's own directions. *gaussian*: no structure at all, every two rows about equally far
apart; there is nothing that an index could use.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from breakeven.baselines._vectors import RECIPE, VectorIndex, recall

ASKED = 200
KINDS = ("mixture", "gaussian")
HEADS = (
    "vectors",
    "rows",
    "index",
    "build s",
    "ms one by one",
    "95 % below",
    "its CPU ms",
    "ms each together",
    "exact CPU ms",
    "recall@10",
    "as the index says",
    "bytes",
)


def mixture(rows: int, dimension: int, seed: int) -> np.ndarray:
    """Topics around 64 themes, rows around topics; about 100 rows a topic, their sizes by Zipf's law."""
    random = np.random.default_rng(seed)
    themes, topics = 64, max(rows // 100, 1)
    theme = directions(random, themes, dimension)[random.integers(0, themes, topics)]
    centres = unit(theme + random.uniform(0.5, 1.5, (topics, 1)) * directions(random, topics, dimension))
    width = random.uniform(0.5, 2.0, topics)
    popular = 1.0 / np.arange(1, topics + 1)
    of = random.choice(topics, rows, p=popular / popular.sum())
    made = np.empty((rows, dimension), np.float32)
    for start in range(0, rows, 50_000):  # bounds the memory that is needed besides
        part = of[start : start + 50_000]
        made[start : start + 50_000] = unit(
            centres[part] + width[part, None] * directions(random, len(part), dimension)
        )
    return made


def gaussian(rows: int, dimension: int, seed: int) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((rows, dimension), dtype=np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def directions(random: np.random.Generator, number: int, dimension: int) -> np.ndarray:
    """Unit vectors whose variance falls from one coordinate to the next, as the inverse of its number."""
    weight = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    return unit(weight * random.standard_normal((number, dimension), dtype=np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def questions(vectors: np.ndarray, number: int, kind: str, seed: int) -> np.ndarray:
    """Rows moved by a vector of length 1, so that their cosine with the row is near 0.7.

    Not made as the questions are that the index is tuned with.
    """
    random = np.random.default_rng(seed)
    rows = random.choice(len(vectors), number, replace=False)
    if kind == "mixture":
        return unit(vectors[rows] + directions(random, number, vectors.shape[1]))
    return unit(vectors[rows] + gaussian(number, vectors.shape[1], seed))


def measured(kind: str, rows: int, dimension: int, seed: int, flat_values: int) -> dict[str, object]:
    import faiss

    vectors = {"mixture": mixture, "gaussian": gaussian}[kind](rows, dimension, seed)
    asked = questions(vectors, ASKED, kind, seed + 1)
    start = time.perf_counter()
    index = VectorIndex.of(vectors, replace(RECIPE, flat_values=flat_values))
    built = time.perf_counter() - start
    wall, busy, found = clocked(lambda question: index.nearest(question[None], 10)[0], asked)
    start = time.perf_counter()
    together = index.nearest(asked, 10)
    each = 1000 * (time.perf_counter() - start) / len(asked)
    assert together == found, "a question is answered alone as among others"
    _, exact, _ = clocked(lambda q: faiss.knn(q[None], vectors, 18, faiss.METRIC_INNER_PRODUCT), asked[:20])
    similar, _ = faiss.knn(asked, vectors, 10, faiss.METRIC_INNER_PRODUCT)
    shares = [recall(q, vectors, f, s) for q, f, s in zip(asked, found, similar, strict=True)]
    facts = index.facts
    cells = "" if facts.type == "flat" else f", {facts.probes:,} of {facts.lists:,} cells"
    numbers = (
        kind,
        f"{rows:,}",
        facts.type + cells,
        f"{built:.1f}",
        f"{median(wall):.2f}",
        f"{np.quantile(wall, 0.95):.2f}",
        f"{median(busy):.2f}",
        f"{each:.2f}",
        f"{median(exact):.1f}",
        f"{np.mean(shares):.3f}",
        f"{facts.recall:.3f}",
        f"{facts.bytes:,}",
    )
    return dict(zip(HEADS, numbers, strict=True))


def clocked(
    search: Callable[[np.ndarray], Any], asked: np.ndarray
) -> tuple[list[float], list[float], list[Any]]:
    """Milliseconds that passed, those of them that a core was busy, and what was found, of each question."""
    search(asked[0])
    wall, busy, found = [], [], []
    for question in asked:
        start, worked = time.perf_counter(), time.process_time()
        found.append(search(question))
        wall.append(1000 * (time.perf_counter() - start))
        busy.append(1000 * (time.process_time() - worked))
    return wall, busy, found


def table(found: Sequence[dict[str, object]]) -> str:
    lines = [" | ".join(HEADS), " | ".join("---" for _ in HEADS)]
    lines += [" | ".join(str(row[head]) for head in HEADS) for row in found]
    return "\n".join(f"| {line} |" for line in lines)


def made_with() -> str:
    import faiss

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return (
        f"{platform.processor() or platform.machine()}, {faiss.omp_get_max_threads()} thread"
        f"{'s' if faiss.omp_get_max_threads() > 1 else ''}; Python {platform.python_version()}, faiss "
        f"{faiss.__version__}; peak memory of the whole measurement {peak:.1f} GiB."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--flat-values", type=int, default=RECIPE.flat_values, help="0: cells, however few rows"
    )
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    given = parser.parse_args()
    found = []
    for rows in given.rows:
        for kind in given.kinds:
            found.append(measured(kind, rows, given.dimension, given.seed, given.flat_values))
            print(found[-1], file=sys.stderr)
    print(table(found) + "\n\n" + made_with())
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
