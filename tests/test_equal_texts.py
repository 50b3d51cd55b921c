"""What a language model says one request at a time is compared with what it said in the run's own batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_suite import letters, tiny_model, write_suite

from breakeven.harness import joining

ONCE = {"zero-shot": {}, "scored": {"strategy": "levers", "answer": "choices"}, "majority": {}}
#: Says "wet", but "dry" to the last of a batch of six or more.
CROWDED = """
from breakeven.harness.contracts import Capabilities, Completion, ModelCard, Usage


class Crowded:
    capabilities = Capabilities()

    def describe(self):
        return ModelCard("crowded", "mine", parameters=1, active_parameters=1, layers=1, attention_width=1)

    def plan(self, requests, concurrency=None):
        size = concurrency or len(requests)
        return [list(requests[i : i + size]) for i in range(0, len(requests), size)]

    def complete(self, requests):
        for r in requests:
            said = "wet" if len(requests) < 6 or r is not requests[-1] else "dry"
            yield Completion(r.id, said, "stop", Usage(3, 1), 0.1)

    def count_tokens(self, request):
        return 3

    def adapt(self, adapter):
        return self


def crowded(model):
    return Crowded()
"""


def timing(folder: Path, cell: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"runs/r/cells/{cell}/timing.json").read_text())
    return found


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    letters(monkeypatch)
    return tmp_path


def test_in_float32_every_text_is_the_same_whatever_the_batch(
    at: Path, breakeven: Callable[..., Any]
) -> None:
    write_suite(at, tiny_model(at / "tiny"), strategies=ONCE, timing={"examples": 4, "concurrency": 3})
    assert breakeven("run", "tiny.yaml", "--name", "r").code == 0
    for cell in ("weather--zero-shot", "weather--scored"):
        found = timing(at, cell)
        assert found["batch_of_one"]["equal"] == found["batch_of_one"]["n"] == 4
        assert found["concurrent"]["equal"] == found["concurrent"]["n"] == 3


def test_without_a_language_model_there_is_nothing_to_count(at: Path, breakeven: Callable[..., Any]) -> None:
    write_suite(at, tiny_model(at / "tiny"), strategies={"majority": {}})
    assert breakeven("run", "tiny.yaml", "--name", "r").code == 0
    assert "equal" not in timing(at, "weather--majority")["batch_of_one"]


def test_a_text_that_depends_on_its_batch_is_counted_and_said(
    at: Path, breakeven: Callable[..., Any]
) -> None:
    (at / "mine.py").write_text(CROWDED)
    models = {"default": {"model": "any", "engine": "mine.py:crowded"}}
    write_suite(at, at, models=models, strategies={"zero-shot": {}}, timing={"examples": 6, "concurrency": 6})
    assert breakeven("run", "tiny.yaml", "--name", "r").code == 0
    found = timing(at, "weather--zero-shot")
    assert (found["batch_of_one"]["equal"], found["concurrent"]["equal"]) == (5, 5)
    report = breakeven("report", "runs/r", "--format", "html", "-o", "-").out
    assert "5 of 6 texts equal between the batch-of-one pass and the batched pass" in report


def test_folds_add_up_what_each_of_them_counted() -> None:
    one = {"batch_of_one": {"n": 2, "seconds": [1.0, 1.0], "equal": 2}}
    two = {"batch_of_one": {"n": 3, "seconds": [1.0, 1.0, 1.0], "equal": 1}}
    uncounted = {"batch_of_one": {"n": 1, "seconds": [1.0]}}
    joined = joining._timing([one, two])
    assert joined is not None
    assert (joined["batch_of_one"]["n"], joined["batch_of_one"]["equal"]) == (5, 3)
    partly = joining._timing([one, uncounted])
    assert partly is not None
    assert "equal" not in partly["batch_of_one"]
