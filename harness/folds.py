"""Rows in folds, each scored by a fit that has not seen it; and training sets that grow.

A group or a cluster of near duplicates (as `breakeven.harness.splits` defines them) is never divided between
a fold and what its fit sees. What is cut here is run by `runner` and joined again by `joining`; what shared
training rows do to an interval is `crossfit`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from breakeven.harness.contracts import Example, Json, Task
from breakeven.harness.errors import UserError
from breakeven.harness.splits import clusters_of, filled, label_of


@dataclass(frozen=True, slots=True)
class CrossfitTask(Task):
    """A task of which every row is scored out of fold.

    `test` holds the rows that are scored, in the order train, validation, test of the task it was made from;
    `train` and `validation` are empty: whoever answers all rows may learn from none. `folds` are the tasks
    that are fitted, each with those rows of the fold as `test` that are scored.
    """

    folds: tuple[Task, ...] = ()

    @property
    def used(self) -> tuple[int, ...]:
        """The numbers of the folds, from 1, in which some row is scored."""
        return tuple(n for n, fold in enumerate(self.folds, 1) if fold.test)

    @property
    def rows(self) -> tuple[Example, ...]:
        """All labelled rows, those too that are fitted on and not scored."""
        splits = (s for fold in self.folds for s in (fold.test, fold.train, fold.validation))
        return tuple({e.id: e for split in splits for e in split}.values())

    @property
    def fold_of(self) -> dict[str, int]:
        """Example id -> number of its fold, from 1."""
        return {e.id: n for n, fold in enumerate(self.folds, 1) for e in fold.test}

    @property
    def sizes(self) -> dict[str, int]:
        """Of the splits: mean training and validation rows of a fold, and the rows that are scored."""
        train, validation = (
            round(sum(len(getattr(fold, split)) for fold in self.folds) / len(self.folds))
            for split in ("train", "validation")
        )
        return {"train": train, "validation": validation, "test": len(self.test)}


def crossfitted(task: Task, count: int, examples: int | None = None, seed: int = 0) -> CrossfitTask:
    """All labelled rows of a task in `count` folds, each with the share of validation that the task had.

    Args:
        examples: score at most so many rows, about as many of each fold. Training rows do not become fewer.

    Raises:
        UserError: when the rows cannot be cut into so many folds.
    """
    rows = (*task.train, *task.validation, *task.test)
    share = len(task.validation) / max(len(task.train) + len(task.validation), 1)
    made = fold_cut(rows, count, validation=share, seed=seed, stratify=task.choices is not None)
    scored = {e.id for e in rows} if examples is None else interleaved([f.test for f in made.folds], examples)
    folds = tuple(
        replace(
            task,
            train=fold.train,
            validation=fold.validation,
            test=tuple(e for e in fold.test if e.id in scored),
        )
        for fold in made.folds
    )
    known = {f.name: getattr(task, f.name) for f in fields(task)}
    note = {k: v for k, v in task.cut.items() if k == "from"}
    changes = {
        "train": (),
        "validation": (),
        "test": tuple(e for e in rows if e.id in scored),
        "cut": {**note, **made.to_json(), "rows": len(rows)},
    }
    return CrossfitTask(**{**known, **changes}, folds=folds)


# --- cutting ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fold:
    """What is scored together (`test`), and what its fit may see."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class FoldCut:
    """The folds, every example in the `test` of one of them; the other fields are those of `Cut`."""

    folds: tuple[Fold, ...]
    seed: int
    by_group: bool
    stratified: bool
    clusters: int

    def to_json(self) -> dict[str, Json]:
        return {
            "crossfit": len(self.folds),
            "seed": self.seed,
            "by_group": self.by_group,
            "stratified": self.stratified,
            "near_duplicate_clusters": self.clusters,
        }


def fold_cut(
    examples: Sequence[Example],
    count: int,
    *,
    validation: float = 0.0,
    seed: int = 0,
    stratify: bool = False,
) -> FoldCut:
    """Cut examples into `count` folds of about the same size; groups and near duplicates stay in one fold.

    Args:
        validation: share of the rows outside a fold that is kept from its training rows, as a cut into splits
            would choose them.
        stratify: give each fold its share of every label (the first reference), as far as clusters allow.

    Raises:
        UserError: when there are fewer clusters than folds, or a fold is left without training rows.
    """
    clusters, duplicates = clusters_of(examples, seed)
    if len(clusters) < count:
        raise UserError(
            f"{count} folds need as many groups or clusters of near duplicates, and {len(examples)} examples "
            f"make {len(clusters)}",
            field="evaluate.crossfit",
            hint="take fewer folds, or give more rows",
        )
    labels = [label_of(examples, [i]) if stratify else "" for i in range(len(examples))]
    sides = _dealt(clusters, labels, count)
    folds = []
    for number in range(count):
        outside = [m for m, side in zip(clusters, sides, strict=True) if side != number]
        strata: dict[str, list[list[int]]] = defaultdict(list)
        for members in outside:
            strata[label_of(examples, members) if stratify else ""].append(members)
        rows = sum(map(len, outside))
        wanted = max(round(validation * rows), 1) if validation else 0
        # a cluster larger than the share is better than no validation
        chosen = (filled(outside, strata, wanted) or [min(outside, key=len)]) if wanted else []
        kept = {i for members in chosen for i in members}
        tests = {i for m, side in zip(clusters, sides, strict=True) if side == number for i in m}
        train = tuple(e for i, e in enumerate(examples) if i not in tests and i not in kept)
        if not train:
            raise UserError(
                f"a fold is left without training rows: {rows} rows are outside it and {len(kept)} of them "
                "are kept for validation",
                field="evaluate.crossfit",
                hint="give more rows, or a task without a validation split",
            )
        fold = Fold(
            train,
            tuple(e for i, e in enumerate(examples) if i in kept),
            tuple(e for i, e in enumerate(examples) if i in tests),
        )
        folds.append(fold)
    return FoldCut(
        tuple(folds), seed, any(e.group is not None for e in examples), stratify, clusters=duplicates
    )


def _dealt(clusters: Sequence[list[int]], labels: Sequence[str], count: int) -> list[int]:
    """A fold for each cluster: large ones first, each to where its labels are rarest, then the smallest.

    Those of one label come one after another, so that the folds' sizes differ by no more than they must.
    """
    totals = Counter(labels)
    held: list[Counter[str]] = [Counter() for _ in range(count)]
    sides = [0] * len(clusters)
    for number in sorted(range(len(clusters)), key=lambda n: (-len(clusters[n]), labels[clusters[n][0]])):
        ours = Counter(labels[i] for i in clusters[number])

        def crowded(fold: int, ours: Counter[str] = ours) -> tuple[float, int, int]:
            alike = sum(n * held[fold][label] / totals[label] for label, n in ours.items())
            return alike, held[fold].total(), fold

        sides[number] = min(range(count), key=crowded)
        held[sides[number]].update(ours)
    return sides


def interleaved(parts: Sequence[Sequence[Example]], n: int) -> set[str]:
    """Ids of `n` examples, about as many of each part; a smaller `n` gives some of a larger one's.

    Within a part they are those that `take` takes.
    """
    ranked = [
        (rank, number, example.id)
        for number, part in enumerate(parts)
        for rank, example in enumerate(sorted(part, key=lambda e: _hashed(e.id)))
    ]
    return {id for _, _, id in sorted(ranked)[:n]}


# --- training sizes --------------------------------------------------------------------------


def nested(
    examples: Sequence[Example], size: int, *, stratify: bool = False, salt: str = ""
) -> tuple[Example, ...]:
    """`size` training examples, in their order: the same ones every time, among those of every larger size.

    Groups may be taken in part: whatever is taken, all of a group is on the side of training.

    Args:
        stratify: take of every label (the first reference) in proportion to how often it occurs, rounded as
            Sainte-Lague's divisors do, so that each label comes once before the commonest comes often.
        salt: another text gives other examples; without one and without strata they are those of `take`.
    """
    if size >= len(examples):
        return tuple(examples)
    members: dict[str, list[int]] = defaultdict(list)
    keys = [_hashed(f"{salt}\n{e.id}" if salt else e.id) for e in examples]
    for i in sorted(range(len(examples)), key=keys.__getitem__):
        members[label_of(examples, [i]) if stratify else ""].append(i)
    place = {i: (rank + 0.5) / len(m) for m in members.values() for rank, i in enumerate(m)}
    chosen = set(sorted(place, key=lambda i: (place[i], keys[i]))[:size])
    return tuple(e for i, e in enumerate(examples) if i in chosen)


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
