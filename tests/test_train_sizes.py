"""Training sizes: each holds the smaller ones, choices in proportion, the same rows for every strategy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness.contracts import Example, take
from breakeven.harness.folds import nested

SIZES = (5, 12, 25, 50, 100)


def rows(counts: dict[str, int]) -> list[Example]:
    labels = [label for label, n in counts.items() for _ in range(n)]
    return [Example(f"e{i}", {"text": f"row {i}"}, (label,)) for i, label in enumerate(labels)]


def ids(examples: tuple[Example, ...]) -> list[str]:
    return [e.id for e in examples]


EVEN = rows({f"label{i}": 10 for i in range(20)})
UNEVEN = rows({"common": 120, "half": 60, "rare": 20})


@pytest.mark.parametrize("stratify", [False, True])
def test_each_size_holds_the_smaller_ones_in_their_order(stratify: bool) -> None:
    found = [ids(nested(UNEVEN, n, stratify=stratify)) for n in SIZES]
    assert [len(f) for f in found] == list(SIZES)
    for small, large in pairwise([*found, [e.id for e in UNEVEN]]):
        assert [i for i in large if i in small] == small


def test_each_choice_comes_once_before_any_comes_twice() -> None:
    for n in SIZES:
        counts = Counter(e.references[0] for e in nested(EVEN, n, stratify=True))
        assert set(counts.values()) <= {n // 20, -(-n // 20)}
        assert len(counts) == min(n, 20)


@pytest.mark.parametrize("n", [10, 20, 50, 150])
def test_choices_keep_their_proportions(n: int) -> None:
    counts = Counter(e.references[0] for e in nested(UNEVEN, n, stratify=True))
    assert counts == {"common": n * 0.6, "half": n * 0.3, "rare": n * 0.1}


def test_without_choices_they_are_the_rows_that_a_limit_takes() -> None:
    assert nested(UNEVEN, 25) == take(UNEVEN, 25)


def test_rows_do_not_depend_on_the_order_of_the_data() -> None:
    turned = nested(UNEVEN[::-1], 25, stratify=True)
    assert ids(turned)[::-1] == ids(nested(UNEVEN, 25, stratify=True))


def test_another_salt_gives_other_rows() -> None:
    first, second = (set(ids(nested(EVEN, 50, stratify=True, salt=s))) for s in ("fold 1", "fold 2"))
    assert len(first & second) < 30


def test_all_and_none_are_sizes_too() -> None:
    assert nested(EVEN, 500) == tuple(EVEN)
    assert nested(EVEN, 0) == ()


# --- in a run --------------------------------------------------------------------------------

STRATEGIES = '''
import json

from breakeven.harness.contracts import Prediction


class Noting:
    """Notes the rows it is fitted on."""

    varies_with = frozenset({"train_size"})

    def fit(self, brief, train, validation, services):
        self.seen = [e.id for e in train]
        return self

    def load(self, folder, brief, services):
        return self

    def save(self, folder):
        (folder / "seen.json").write_text(json.dumps(self.seen))

    def predict(self, inputs):
        return (Prediction(x.id, "even") for x in inputs)


class Drawing(Noting):
    varies_with = frozenset({"train_size", "seed"})
'''
TASK = """name: parity
instructions: Even or odd?
input_template: "{{ text }}"
data: rows.jsonl
columns: {input: text, reference: parity, group: page}
choices: from data
metrics: accuracy
sizes: {train: 60, validation: 0, test: 20}
"""
WORDS = ["river", "stone", "lamp", "winter", "paper", "engine", "coffee", "tower", "garden", "mirror"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    texts = [f"{WORDS[i % 10]} {i * 7919} {WORDS[i // 10]}" for i in range(80)]
    lines = [{"text": t, "parity": ("even", "odd")[i % 2], "page": f"p{i // 4}"} for i, t in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "parity.yaml").write_text(TASK)
    (tmp_path / "mine.py").write_text(STRATEGIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path, breakeven: Callable, **more: Any) -> dict[str, list[str]]:
    """Cell -> the rows it was fitted on."""
    suite = {
        "suite": "s",
        "tasks": {"parity": {"task": "parity.yaml"}},
        "strategies": {"noting": {"strategy": "mine.py:Noting"}, "drawing": {"strategy": "mine.py:Drawing"}},
        "train_sizes": [10, 20, "all"],
        "seeds": [0, 1],
        **more,
    }
    (folder / "s.yaml").write_text(json.dumps(suite))
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    seen = (folder / "runs/r/cells").glob("*/predictor/seen.json")
    return {p.parents[1].name: json.loads(p.read_text()) for p in seen}


def test_every_strategy_and_seed_is_fitted_on_the_same_rows(folder: Path, breakeven: Callable) -> None:
    seen = run(folder, breakeven)
    assert len(seen) == 3 + 3 * 2
    for n in (10, 20, 60):
        small = seen[f"parity--noting--n{n}"]
        assert len(small) == n
        assert seen[f"parity--drawing--n{n}--s0"] == seen[f"parity--drawing--n{n}--s1"] == small
    assert set(seen["parity--noting--n10"]) < set(seen["parity--noting--n20"])


def test_every_fold_grows_its_own_rows_outside_of_the_groups_it_is_scored_on(
    folder: Path, breakeven: Callable
) -> None:
    from breakeven.harness import results

    seen = run(folder, breakeven, evaluate={"crossfit": 4}, strategies={"a": {"strategy": "mine.py:Noting"}})
    found = results.load(folder / "runs/r")
    page = {e.id: e.group for e in found.tasks["parity"].test}
    for n in (1, 2, 3, 4):
        sizes = [seen[f"parity--a--n{size}--f{n}"] for size in (10, 20, 60)]
        assert [len(rows) for rows in sizes] == [10, 20, 60]
        assert set(sizes[0]) < set(sizes[1]) < set(sizes[2])
        scored = {e.group for e in found.tasks["parity"].test if e.fold == n}
        assert not scored & {page[i] for i in sizes[2]}
    assert len(set(seen["parity--a--n10--f1"]) & set(seen["parity--a--n10--f2"])) < 8
    assert [row.train_size for row in found.tables["parity"]] == [10, 20, 60]


def test_folds_of_unequal_groups_train_on_all_rows_outside_of_them(folder: Path, breakeven: Callable) -> None:
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    for i, line in enumerate(lines):
        line["page"] = "large" if i < 40 else f"p{i}"
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shares = TASK.replace("train: 60", "train: 0.75").replace("test: 20", "test: 0.25")
    (folder / "parity.yaml").write_text(shares)
    seen = run(folder, breakeven, evaluate={"crossfit": 4}, strategies={"a": {"strategy": "mine.py:Noting"}})
    assert sorted(len(rows) for cell, rows in seen.items() if "--n60--" in cell) == [40, 66, 67, 67]
