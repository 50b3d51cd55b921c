"""Unit vectors, searched by inner product (FAISS): exactly while that is quick, in cells where it is not.

Few vectors are compared one by one (`flat`). Beyond `Recipe.flat_values` they are sorted into cells by
k-means, and a question is compared with those in the cells nearest to it (`ivf-flat`, inverted file: Jegou,
Douze and Schmid 2011). How many cells is found when the index is built, against exact search, and so is
what share of the true neighbours that finds. What the rows are is left to their owner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

Allowed = Callable[[int, int], bool]

#: How many neighbours recall is measured over.
DEPTH = 10
#: Rows beyond those asked for, so that rows as near as the last one come in their order.
SPARE = 8
#: Questions searched at a time.
AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides an index beside its vectors; part of the key of what is made with it.

    Attributes:
        flat_values: most numbers (rows x dimension) that are searched exactly: 20 million take about 3 ms a
            question on one core, see benchmarks/retrieval.py.
        recall: the share of the ten nearest rows that approximate search must find.
        queries: how many questions that is found with, and how many others it is measured on.
        likeness: cosine between such a question and the row it is made from; the rest is another row and
            noise, in equal parts. 0.6 is about what a question and the passage that answers it have.
        most_cells: share of the cells beyond which a question is compared with all rows: little is saved.
        seed: of k-means and of these questions.
    """

    flat_values: int = 20_000_000
    recall: float = 0.95
    queries: int = 256
    likeness: float = 0.6
    most_cells: float = 0.3
    seed: int = 0


RECIPE = Recipe()


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What an index is and what was measured when it was built; lies beside it as JSON.

    `lists` cells, of which `probes` are searched; `recall` of the ten nearest, the mean over `queries`
    questions that had no part in choosing `probes`. A flat index has no cells and recalls everything.
    `bytes` is what its vectors take.
    """

    type: Literal["flat", "ivf-flat"]
    rows: int
    dimension: int
    bytes: int
    lists: int = 0
    probes: int = 0
    recall: float = 1.0
    queries: int = 0

    @property
    def exact(self) -> bool:
        return self.probes == self.lists


@dataclass(frozen=True)
class VectorIndex:
    """Unit vectors and how they are searched. Rows are whatever their owner numbers."""

    faiss: Any
    facts: IndexFacts

    @classmethod
    def of(cls, vectors: np.ndarray, recipe: Recipe = RECIPE) -> VectorIndex:
        """Deterministic. A million vectors of 384 take minutes on one core, and twice their memory.

        Args:
            vectors: (rows, dimension) float32 of length 1.
        """
        return cls(*_flat(vectors)) if vectors.size <= recipe.flat_values else cls(*_cells(vectors, recipe))

    @classmethod
    def read(cls, path: Path) -> VectorIndex:
        import faiss

        index, facts = faiss.read_index(str(path)), path.with_suffix(".json")
        if facts.exists():
            return cls(index, IndexFacts(**json.loads(facts.read_text(encoding="utf-8"))))
        return cls(index, _facts(index))  # written before there was another type

    def write(self, path: Path) -> None:
        """Two files: `path` and, with the suffix .json, the facts."""
        import faiss

        faiss.write_index(self.faiss, str(path))
        path.with_suffix(".json").write_text(json.dumps(asdict(self.facts), indent=1), encoding="utf-8")

    def __len__(self) -> int:
        return int(self.faiss.ntotal)

    def vectors(self) -> np.ndarray:
        """(rows, dimension), in the order of the rows."""
        stored: np.ndarray = self.faiss.reconstruct_n(0, len(self))
        return stored

    def some(self, rows: Sequence[int]) -> np.ndarray:
        """(len(rows), dimension), the vectors of these rows."""
        import numpy as np

        if self.facts.type != "flat":
            self.faiss.make_direct_map()  # where each row lies; made once
        found = [self.faiss.reconstruct(int(row)) for row in rows]
        return np.stack(found) if found else np.zeros((0, self.facts.dimension), np.float32)

    def nearest(self, vectors: np.ndarray, k: int, allowed: Allowed | None = None) -> list[list[int]]:
        """For each vector the `k` nearest rows, nearest first; rows equally near (to 1e-5) in their order.

        Where too few of the rows that approximate search finds are allowed, the search is exact: there are
        fewer than `k` only where no more are allowed.

        Args:
            vectors: (n, dimension) float32 of length 1.
            allowed: (number of the vector, row) -> whether the row may be returned; all may, by default.
        """
        if self.facts.exact:
            return [self._exactly(vectors[i : i + 1], i, k, allowed) for i in range(len(vectors))]
        found = []
        for number, rows in enumerate(self._probed(vectors, min(k + SPARE, len(self)))):
            chosen = [row for row in rows if allowed is None or allowed(number, row)][:k]
            if len(chosen) < min(k, len(self)):
                chosen = self._exactly(vectors[number : number + 1], number, k, allowed)
            found.append(chosen)
        return found

    def _probed(self, vectors: np.ndarray, width: int) -> Iterator[list[int]]:
        """For each vector at most `width` rows of the cells nearest to it, nearest first.

        Each question's cells are chosen by itself (a matrix product of several would round otherwise), the
        cells are then searched for many at once, on all threads.
        """
        import numpy as np

        for start in range(0, len(vectors), AT_ONCE):
            some = vectors[start : start + AT_ONCE]
            nearby = [self.faiss.quantizer.search(v[None], self.facts.probes) for v in some]
            near, lists = (np.concatenate(parts) for parts in zip(*nearby, strict=True))
            similarities, rows = self.faiss.search_preassigned(some, width, lists, near)
            for i in range(len(some)):
                yield _ordered(similarities[i : i + 1], rows[i : i + 1])

    def _exactly(self, vector: np.ndarray, number: int, k: int, allowed: Allowed | None) -> list[int]:
        width = k + SPARE
        while True:
            rows = _ordered(*self._search(vector, min(width, len(self))))
            chosen = [row for row in rows if allowed is None or allowed(number, row)][:k]
            if len(chosen) == k or width >= len(self):
                return chosen
            width *= 4

    def _search(self, vector: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """(1, width) similarities and rows, exact whatever the index."""
        import faiss

        if self.facts.type == "flat":
            similarities, rows = self.faiss.search(vector, width)
        else:
            everywhere = faiss.SearchParametersIVF()
            everywhere.nprobe = self.facts.lists
            similarities, rows = self.faiss.search(vector, width, params=everywhere)
        return similarities, rows


def _ordered(similarities: np.ndarray, rows: np.ndarray) -> list[int]:
    pairs = zip(similarities[0], rows[0], strict=True)
    return [row for _, row in sorted((-round(float(s), 5), int(row)) for s, row in pairs if row >= 0)]


# --- building --------------------------------------------------------------------------------


def _flat(vectors: np.ndarray) -> tuple[Any, IndexFacts]:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index, _facts(index)


def _facts(flat: Any) -> IndexFacts:
    return IndexFacts("flat", int(flat.ntotal), int(flat.d), int(flat.ntotal) * int(flat.d) * 4)


def _cells(vectors: np.ndarray, recipe: Recipe) -> tuple[Any, IndexFacts]:
    """2 sqrt(rows) cells: then choosing them and comparing within them take about as long."""
    import faiss
    import numpy as np

    rows, dimension = vectors.shape
    lists = max(1, min(round(2 * rows**0.5), rows))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter = recipe.seed + 1, 10
    index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, 40
    index.train(vectors)
    index.add(vectors)
    asked = _questions(vectors, 2 * recipe.queries, recipe)
    similar, nearest = faiss.knn(asked, vectors, min(DEPTH, rows), faiss.METRIC_INNER_PRODUCT)
    half = len(asked) // 2
    needed = _needed(index.quantizer, lists, asked[:half], vectors[nearest[:half]])
    probes = _probes(needed, lists, recipe.recall)
    index.nprobe = probes = probes if probes <= recipe.most_cells * lists else lists
    size = int(vectors.nbytes + index.quantizer.ntotal * dimension * 4 + rows * 8)
    facts = IndexFacts("ivf-flat", rows, dimension, size, lists, probes)
    found = VectorIndex(index, facts).nearest(asked[half:], nearest.shape[1])
    reached = [recall(a, vectors, f, s) for a, f, s in zip(asked[half:], found, similar[half:], strict=True)]
    mean = float(np.mean(reached))
    return index, IndexFacts("ivf-flat", rows, dimension, size, lists, probes, mean, len(reached))


def recall(asked: np.ndarray, vectors: np.ndarray, found: list[int], similar: np.ndarray) -> float:
    """Share of the nearest rows that were found; a row as near as the last of them (to 1e-5) is one of them.

    Args:
        asked: (dimension,); vectors: (rows, dimension).
        similar: similarities of the nearest rows, as exact search finds them.
    """
    near = vectors[found] @ asked >= min(similar) - 1e-5
    return min(int(near.sum()) / len(similar), 1.0)


def _questions(vectors: np.ndarray, number: int, recipe: Recipe) -> np.ndarray:
    """Rows turned towards another row and in a random direction, to a cosine of about `likeness`."""
    import numpy as np

    random = np.random.default_rng(recipe.seed)
    number = min(number, len(vectors))
    rows = random.choice(len(vectors), number, replace=False)
    others = random.integers(0, len(vectors), number)
    away = random.standard_normal((number, vectors.shape[1]), dtype=np.float32)
    away = vectors[others] + away / np.linalg.norm(away, axis=1, keepdims=True)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    mixed = recipe.likeness * vectors[rows] + (1 - recipe.likeness**2) ** 0.5 * away
    mixed /= np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)
    return np.ascontiguousarray(mixed, dtype=np.float32)


def _needed(quantizer: Any, lists: int, asked: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """(questions, neighbours): how many cells, nearest first, must be searched to come to each neighbour.

    Args:
        nearest: (questions, neighbours, dimension).
    """
    import numpy as np

    flat = np.ascontiguousarray(nearest.reshape(-1, nearest.shape[2]))
    (home,) = quantizer.search(flat, 1)[1].T
    order = quantizer.search(asked, lists)[1]
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(lists)[None], axis=1)
    result: np.ndarray = np.take_along_axis(place, home.reshape(nearest.shape[:2]), axis=1) + 1
    return result


def _probes(needed: np.ndarray, lists: int, wanted: float) -> int:
    """The fewest cells whose recall is clearly `wanted`: two standard errors below its mean still are."""

    def clearly(probes: int) -> float:
        shares = (needed <= probes).mean(axis=1)
        return float(shares.mean() - 2 * shares.std() / len(shares) ** 0.5)

    low, high = 1, lists
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if clearly(middle) >= wanted else (middle + 1, high)
    return low
