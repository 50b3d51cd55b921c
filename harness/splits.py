"""Exact and near duplicates, and a cut into train, validation and test that keeps them on one side.

The cut is reproducible and steady: every cluster of examples (same group, or near duplicates of each other)
gets a place from a hash of its content and the seed, so new rows hardly move the old ones. Folds and training
sizes are `breakeven.harness.folds`.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from breakeven.harness import models
from breakeven.harness.contracts import Example, Json, Task
from breakeven.harness.errors import UserError

#: Cosine of two texts' TF-IDF over character 3- to 5-grams inside words from which they are near duplicates.
NEAR = 0.9
#: The splits in the order in which they are filled; train without a size takes what is left.
ORDER = ("test", "validation", "train")
DEFAULT_SIZES: Mapping[str, float] = {"train": 0.6, "validation": 0.1, "test": 0.3}
MOST_REMEMBERED = 100_000  # pairs in a file of the cache
_BLOCK = 512  # rows of the similarity matrix held at once


def text_of(fields: Mapping[str, Json]) -> str:
    """All of an input's text, as one normalised string: case, accents' encoding and spacing do not count."""
    parts = (v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in fields.values())
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", " \n ".join(parts))).strip().casefold()


def near_pairs(
    texts: Sequence[str], others: Sequence[str] | None = None, threshold: float = NEAR
) -> Iterator[tuple[int, int, float]]:
    """Pairs of near duplicates: (index in texts, index in others, cosine), exact ones included.

    Without `others` each pair within `texts` comes once, with i < j. Weights come from all texts together
    (TF-IDF over character n-grams inside word boundaries, scikit-learn); memory stays at a block of rows
    against everything, 13,000 short texts take some seconds.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    everything = [*texts, *(others or ())]
    if not any(t.strip() for t in everything) or not texts or (others is not None and not others):
        return
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32)
    matrix = vectorizer.fit_transform(everything)
    left, right = matrix[: len(texts)], matrix[len(texts) :] if others is not None else matrix
    columns = right.T.tocsr()
    for start in range(0, left.shape[0], _BLOCK):
        block = left[start : start + _BLOCK] @ columns
        block.data[block.data < threshold - 1e-6] = 0
        block.eliminate_zeros()
        found = block.tocoo()
        for i, j, cosine in sorted(zip(found.row + start, found.col, found.data, strict=True)):
            if others is not None or i < j:
                yield int(i), int(j), float(cosine)


# --- leakage ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leakage:
    """Test examples that fit has seen, or nearly.

    `exact` and `near` count test examples whose input is also in train or validation (after
    normalisation), or nearly so; no example counts twice. `pairs` holds (test id, other id, cosine).
    """

    exact: int
    near: int
    pairs: tuple[tuple[str, str, float], ...] = ()

    def to_json(self) -> dict[str, Json]:
        return {"exact": self.exact, "near": self.near}


def leakage(task: Task) -> Leakage:
    """Duplicates between a task's test split and what fit may see of it."""
    return leaks(task.test, (*task.train, *task.validation))


def leaks(test: Sequence[Example], seen: Sequence[Example]) -> Leakage:
    """Duplicates of test examples among the seen ones; for each test example its nearest one."""
    tests, others = [text_of(e.input) for e in test], [text_of(e.input) for e in seen]
    nearest: dict[int, tuple[float, int]] = {}
    for i, j, cosine in near_pairs(tests, others):
        score = 2.0 if tests[i] == others[j] else cosine
        if i not in nearest or score > nearest[i][0]:
            nearest[i] = (score, j)
    exact = sum(score == 2.0 for score, _ in nearest.values())
    pairs = tuple((test[i].id, seen[j].id, min(s, 1.0)) for i, (s, j) in sorted(nearest.items()))
    return Leakage(exact, len(nearest) - exact, pairs)


# --- cutting ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """The splits and what the cut had to respect.

    `clusters` counts near-duplicate clusters of two or more that were kept together; `left_out` the examples
    that fit into no split because sizes were given.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    seed: int
    by_group: bool
    stratified: bool
    clusters: int
    left_out: int

    def to_json(self) -> dict[str, Json]:
        return {
            "seed": self.seed,
            "by_group": self.by_group,
            "stratified": self.stratified,
            "near_duplicate_clusters": self.clusters,
            "left_out": self.left_out,
        }


def cut(
    examples: Sequence[Example],
    sizes: Mapping[str, float | int] | None = None,
    seed: int = 0,
    *,
    stratify: bool = False,
    splits: Sequence[str] = ORDER,
) -> Cut:
    """Cut examples into the given splits; a group or a cluster of near duplicates is never divided.

    Args:
        sizes: numbers of examples (int) or shares of them (float below or equal to 1) by split;
            `DEFAULT_SIZES` where nothing is said. A split called train without a size takes the rest.
        stratify: give each split its share of every label (the first reference), as far as clusters allow.
        splits: which splits to make; the others stay empty.

    Raises:
        UserError: when the sizes ask for more than there is, or a split that should be there stays empty.
    """
    ordered = [s for s in ORDER if s in splits]
    wanted = _counts(sizes or {}, len(examples), ordered)
    clusters, duplicates = clusters_of(examples, seed)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for members in clusters:
        strata[label_of(examples, members) if stratify else ""].append(members)
    side: dict[int, str] = {}
    open_clusters = clusters
    for split in ordered:
        rest = split == "train" and (sizes or {}).get("train") is None
        chosen = open_clusters if rest else filled(open_clusters, strata, wanted[split])
        side.update((i, split) for members in chosen for i in members)
        open_clusters = [m for m in open_clusters if m[0] not in side]
        strata = {k: [m for m in v if m[0] not in side] for k, v in strata.items()}
    result = {s: tuple(examples[i] for m in clusters for i in m if side.get(i) == s) for s in ORDER}
    for split in ordered:
        if wanted[split] and not result[split]:
            raise UserError(
                f"the {split} split stays empty: {len(examples)} examples in {len(clusters)} groups or "
                "clusters of near duplicates are too few",
                field=f"sizes.{split}",
                hint="give more rows, or other sizes",
            )
    return Cut(
        result["train"],
        result["validation"],
        result["test"],
        seed=seed,
        by_group=any(e.group is not None for e in examples),
        stratified=stratify,
        clusters=duplicates,
        left_out=len(examples) - len(side),
    )


# --- parts -----------------------------------------------------------------------------------


def _counts(sizes: Mapping[str, float | int], total: int, splits: Sequence[str]) -> dict[str, int]:
    """Examples wanted by split. Shares are of all examples; train without a size takes what is left."""
    counts: dict[str, int] = {}
    for split in splits:
        size = sizes.get(split)
        if size is None:
            if split == "train":
                continue
            size = DEFAULT_SIZES[split]
        counts[split] = round(size * total) if isinstance(size, float) and size <= 1 else int(size)
        if size and not counts[split]:
            counts[split] = 1
    if "train" in splits and "train" not in counts:
        counts["train"] = max(total - sum(counts.values()), 0)
    if sum(counts.values()) > total + len(counts):  # rounding may ask for one too many
        asked = ", ".join(f"{split} {n}" for split, n in counts.items())
        raise UserError(f"the splits ask for more examples ({asked}) than there are ({total})", field="sizes")
    return counts


def filled(
    clusters: Sequence[list[int]], strata: Mapping[str, Sequence[list[int]]], size: int
) -> list[list[int]]:
    """Clusters for one split of `size` examples: each stratum's share first, then whatever still fits."""
    chosen: list[list[int]] = []
    taken: set[int] = set()
    room = size
    available = sum(map(len, clusters))
    shares = _apportion({k: sum(map(len, v)) for k, v in strata.items()}, min(size, available))
    for name, quota in shares.items():
        for members in strata[name]:
            if len(members) <= quota:
                chosen.append(members)
                taken.add(members[0])
                quota -= len(members)
                room -= len(members)
    for members in clusters:
        if members[0] not in taken and len(members) <= room:
            chosen.append(members)
            room -= len(members)
    return chosen


def _apportion(weights: Mapping[str, int], seats: int) -> dict[str, int]:
    """`seats` shared out in proportion to `weights`, the largest remainders rounded up."""
    total = sum(weights.values())
    if not total:
        return {}
    exact = {name: seats * weight / total for name, weight in weights.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: seats - sum(shares.values())]:
        shares[name] += 1
    return shares


def label_of(examples: Sequence[Example], members: Iterable[int]) -> str:
    """The commonest first reference of a cluster."""
    counts = Counter(json.dumps(examples[i].references[:1], sort_keys=True) for i in members)
    return min(counts, key=lambda label: (-counts[label], label))


def clusters_of(examples: Sequence[Example], seed: int) -> tuple[list[list[int]], int]:
    """Indices that must stay together, in the order of their hashes; and how many duplicates' clusters."""
    texts = [text_of(e.input) for e in examples]
    parent = list(range(len(examples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in _duplicates(texts):
        parent[root(j)] = root(i)
    duplicates = sum(n > 1 for n in Counter(map(root, range(len(examples)))).values())
    first: dict[str, int] = {}
    for i, example in enumerate(examples):
        if example.group is not None:
            parent[root(i)] = root(first.setdefault(example.group, i))
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(examples)):
        members[root(i)].append(i)
    keys = [_place(seed, e.group if e.group is not None else t) for e, t in zip(examples, texts, strict=True)]
    ordered = sorted(members.values(), key=lambda m: (min(keys[i] for i in m), m[0]))
    return [sorted(m, key=lambda i: (keys[i], i)) for m in ordered], duplicates


def _duplicates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Index pairs of near duplicates, remembered in the cache folder.

    A task whose splits are cut is cut again whenever a run of it goes on, and what finds them takes a second
    to import. What is remembered is addressed by the texts, this file and the version of scikit-learn.
    """
    try:
        version = metadata.version("scikit-learn")
    except metadata.PackageNotFoundError:  # put there by hand: nobody can tell it from the next
        return [(i, j) for i, j, _ in near_pairs(texts)]
    known = hashlib.sha256(json.dumps([version, *texts]).encode())
    known.update(Path(__file__).read_bytes())
    memo = models.cache_folder() / "duplicates" / f"{known.hexdigest()[:24]}.json"
    try:
        kept = json.loads(memo.read_text(encoding="utf-8"))
        if isinstance(kept, list):
            return [(int(i), int(j)) for i, j in kept]
    except (OSError, ValueError, TypeError):
        pass
    found = [(i, j) for i, j, _ in near_pairs(texts)]
    if len(found) <= MOST_REMEMBERED:
        models.write_atomically(memo, json.dumps(found))
    return found


def _place(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}\n{text}".encode()).hexdigest()
