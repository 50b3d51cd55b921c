"""What was made quick for large runs gives what the plain way gives."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_fixture import write_run

from breakeven.harness import draws, results, store
from breakeven.harness import formats as f
from breakeven.harness._garbage import uncollected
from breakeven.reports import _svg


def plain_means(groups: list[str] | None, items: int, count: int, values: np.ndarray) -> np.ndarray:
    """Every draw by itself: whole groups with replacement, and the mean over what was drawn."""
    group_of = groups or [str(i) for i in range(items)]
    members = [[i for i in range(items) if group_of[i] == name] for name in dict.fromkeys(group_of)]
    rng, found = np.random.default_rng(0), []
    for _ in range(count):
        picked = rng.integers(len(members), size=len(members))
        found.append(np.mean([values[i] for k in picked for i in members[k]]))
    return np.array(found)


@pytest.mark.parametrize("groups", [None, [f"g{i // 4}" for i in range(30)]], ids=["alone", "grouped"])
@pytest.mark.parametrize("block", [7, 95, 4_000_000])
def test_means_of_draws_are_those_of_each_draw_by_itself(
    groups: list[str] | None, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draws, "BLOCK", block)
    values = np.random.default_rng(1).random(30)
    items = draws.resampled(30, groups, draws=50)
    assert len(items) == 50
    assert items.means(values) == pytest.approx(plain_means(groups, 30, 50, values), rel=1e-12)


def test_counts_of_draws_take_little_memory() -> None:
    assert draws.resampled(300, draws=10).counts.dtype.itemsize == 2


@pytest.mark.parametrize("block", [1, 100, 4_000_000])
def test_seconds_are_resampled_as_one_by_one(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "BLOCK", block)
    rng = np.random.default_rng(2)
    timed = [list(rng.random(8)), list(rng.random(40)), [], [0.3], list(rng.random(8)), [0.0] * 8]
    found = draws._seconds(timed, 60, 3)
    for seconds, factors in zip(timed, found, strict=True):
        wanted = np.ones(60)
        if len(seconds) > 1 and np.mean(seconds) > 0:
            drawn = np.random.default_rng(3).choice(np.array(seconds), size=(60, len(seconds)))
            wanted = drawn.mean(axis=1) / np.mean(seconds)
        assert list(factors) == list(wanted)


def plain_place(
    label: _svg.Label,
    taken: list[_svg.Box],
    others: list[_svg.Box],
    points: list[tuple[float, float]],
    frame: _svg.Box,
    size: float,
) -> tuple[_svg.Box, bool]:
    """The cheapest of all places, each looked at to the end; of equals the first."""

    def cost(penalty: float, box: _svg.Box) -> float:
        near = box.distance(label.x, label.y) + _svg.CLEAR
        return (
            penalty
            + 100 * box.outside(frame)
            + 2 * sum(box.overlap(o) for o in taken)
            + 8 * sum(box.overlap(o) for o in others)
            + _svg.MISTAKEN * sum(box.distance(*p) < near for p in points)
        )

    places = list(_svg._places(label, size))
    best = min(range(len(places)), key=lambda i: cost(places[i][0], places[i][2]))
    return places[best][2], places[best][1]


def test_labels_go_where_the_look_at_every_place_puts_them() -> None:
    rng = random.Random(7)

    def box() -> _svg.Box:
        x, y = rng.uniform(0, 900), rng.uniform(0, 700)
        return _svg.Box(x, y, x + rng.uniform(4, 90), y + rng.uniform(4, 20))

    frame, moved = _svg.Box(10, 10, 900, 700), 0
    for crowd in (20, 100, 300) * 20:
        label = _svg.Label(rng.uniform(0, 900), rng.uniform(0, 700), "x" * rng.randint(1, 20))
        taken, others = [box() for _ in range(crowd)], [box() for _ in range(crowd)]
        points = [(rng.uniform(0, 900), rng.uniform(0, 700)) for _ in range(crowd)]
        found = _svg._best_place(label, taken, others, points, frame, 12.5)
        assert found == plain_place(label, taken, others, points, frame, 12.5)
        moved += found[1]
    assert moved  # some had to go far


def test_sixteen_directions_go_once_around() -> None:
    angles = [math.atan2(dy, dx) % (2 * math.pi) for dx, dy in _svg.DIRECTIONS]
    assert angles == pytest.approx([2 * math.pi * i / 16 for i in range(16)])


def test_texts_are_cleaned_together_as_alone() -> None:
    clean, odd = ["a", "b\nc", "naïve"], ["a", "b\x07", "c\r\nd", "\ud800", "\u202e"]
    for texts in ([], clean, odd, [*clean, *odd]):
        assert list(f.all_clean(texts)) == [f.clean(text) for text in texts]


def anything(rng: random.Random, depth: int = 0) -> Any:
    texts = ["", "a\nb", "naïve", "😀", "\x00", "\u2028", '"\\', "\ud83d", "x" * 70, "1e5", "NaN"]
    numbers = [0, -1, 2**63, 10**40, 0.1, -0.0, 1e-320, 1e300, 1 / 3, rng.random(), math.inf, math.nan, 5.0]
    kinds = [
        lambda: rng.choice(texts),
        lambda: rng.choice(numbers),
        lambda: rng.choice([True, False, None]),
        lambda: [anything(rng, depth + 1) for _ in range(rng.randrange(4))],
        lambda: {rng.choice(texts): anything(rng, depth + 1) for _ in range(rng.randrange(4))},
    ]
    return rng.choice(kinds if depth < 4 else kinds[:3])()


def test_stored_lines_are_read_as_the_standard_library_reads_them(tmp_path: Path) -> None:
    rng = random.Random(9)
    rows = [{"id": i, "value": anything(rng)} for i in range(800)]
    store.write_lines(tmp_path / "rows.jsonl", rows)
    wanted = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").split("\n") if line]
    assert repr(results._lines(tmp_path / "rows.jsonl")) == repr(wanted)  # 5 is not 5.0, 0.0 not -0.0


def test_garbage_is_searched_for_again_afterwards() -> None:
    seen = []
    with contextlib.suppress(ZeroDivisionError), uncollected():
        seen.append(gc.isenabled())
        raise ZeroDivisionError
    assert (seen, gc.isenabled()) == ([False], True)
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()  # as it was found
    finally:
        gc.enable()


def test_scores_that_were_asked_for_cannot_be_spoilt(tmp_path: Path) -> None:
    run = results.load(write_run(tmp_path / "run", tasks=["support_intents"], examples=8))
    cell = next(c for c in run.cells.values() if c.predictions)
    wanted = [p.score["accuracy"] for p in cell.predictions]
    cell.scores("accuracy").clear()
    assert cell.scores("accuracy") == wanted
