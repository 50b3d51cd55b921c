"""Side effects of tuning: what an adapter does to tasks it was not trained for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run

from breakeven.harness import effects, pool, results, transfer
from breakeven.harness.contracts import Capabilities, Completion, ModelCard, Request, Usage
from breakeven.harness.errors import UserError


class Parrot:
    """Knows all answers; tuned, it answers every task with a word of the one it was tuned for."""

    capabilities = Capabilities(logprobs=True, adapters=True)
    asked: list[str]

    def __init__(self, adapter: Path | None = None, asked: list[str] | None = None) -> None:
        self.adapter = adapter
        self.asked = [] if asked is None else asked

    def describe(self) -> ModelCard:
        return ModelCard("parrot", "fake")

    def plan(self, requests: Sequence[Request], concurrency: int | None) -> list[list[Request]]:
        return [list(requests)]

    def adapt(self, adapter: Path | None) -> Parrot:
        return Parrot(adapter, self.asked)

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        for r in requests:
            self.asked.append(f"{self.adapter.name if self.adapter else 'base'} {r.id}")
            wrong = self.adapter is not None
            if r.choices is None:
                yield Completion(r.id, "flour" if wrong else "no idea", "stop", Usage(1, 1), 0.1)
            else:
                # the right answer stands first in the file of questions
                scores = [-9.0 if (i == 0) != wrong else -90.0 for i in range(len(r.choices))]
                by_byte = [s * len(c.encode()) / 10 for s, c in zip(scores, r.choices, strict=True)]
                yield Completion(r.id, "", "choices", Usage(1, 1), 0.1, tuple(by_byte))


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Parrot]:
    """A run with a LoRA adapter for each of two tasks, and the model it is asked of."""
    folder = write_run(
        tmp_path / "r",
        tasks=("support_intents", "recipe_ingredients"),
        strategies=("zero-shot", "lora"),
        failing=False,
        seeds=(0, 1),
    )
    for ledger in folder.glob("cells/*--lora--*/ledger.json"):
        rows: list[dict[str, Any]] = json.loads(ledger.read_text())
        name = f"adapter-{ledger.parent.name}"
        ledger.write_text(json.dumps([{**r, "artifact": name} if r["phase"] == "train" else r for r in rows]))
        weights = folder / "artifacts" / name / "adapter_model.safetensors"
        weights.parent.mkdir(parents=True)
        weights.write_bytes(b"weights")
    parrot = Parrot()
    monkeypatch.setattr(pool.Engines, "get", lambda self, name: parrot)
    return folder, parrot


def test_every_adapter_is_asked_the_other_tasks_and_general_questions(tuned: tuple[Path, Parrot]) -> None:
    found = transfer.measure(tuned[0], 5)

    assert [(e.strategy, e.own, e.on) for e in found] == [
        ("lora", "support_intents", "recipe_ingredients"),
        ("lora", "support_intents", effects.GENERAL),
        ("lora", "recipe_ingredients", "support_intents"),
        ("lora", "recipe_ingredients", effects.GENERAL),
    ]
    assert [len(e.after) for e in found] == [5, 48, 5, 48]


def test_what_was_forgotten_shows_as_a_loss(tuned: tuple[Path, Parrot]) -> None:
    found = transfer.measure(tuned[0], 5)

    general = next(e for e in found if e.on == effects.GENERAL)
    assert set(general.before) == {1.0}
    assert set(general.after) == {0.0}


def test_what_another_task_gained_shows_as_a_gain(tuned: tuple[Path, Parrot]) -> None:
    found = transfer.measure(tuned[0], 200)

    recipes = next(e for e in found if e.on == "recipe_ingredients")
    assert sum(recipes.before) == 0
    assert sum(recipes.after) > 0  # flour is in many recipes


def test_the_base_model_is_asked_once_and_one_adapter_for_each_strategy(tuned: tuple[Path, Parrot]) -> None:
    folder, parrot = tuned

    transfer.measure(folder, 5)

    assert len(parrot.asked) == len(set(parrot.asked))
    assert not any("s1" in x.split()[0] for x in parrot.asked)


def test_the_effects_are_kept_with_the_run(tuned: tuple[Path, Parrot]) -> None:
    assert effects.load(tuned[0]) == []

    found = transfer.measure(tuned[0], 5)

    assert effects.load(tuned[0]) == found


def test_what_was_measured_is_current_for_the_reports_of_the_run(tuned: tuple[Path, Parrot]) -> None:
    transfer.measure(tuned[0], 5)

    known = effects.of_task(results.load(tuned[0]), "support_intents")

    assert [(x.row.label, x.on, x.word) for x in known.found] == [
        ("lora", "recipe_ingredients", "no change shown"),
        ("lora", effects.GENERAL, "forgot"),
    ]
    assert (known.unasked, known.stale) == ((), False)


def test_a_run_without_tuning_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", strategies=("zero-shot",))

    with pytest.raises(UserError, match="has tuned a model"):
        transfer.measure(folder)


def test_an_adapter_that_is_gone_is_named(tuned: tuple[Path, Parrot]) -> None:
    gone = next(tuned[0].glob("artifacts/*lora--s0/adapter_model.safetensors"))
    gone.unlink()

    with pytest.raises(UserError, match="not there any more"):
        transfer.measure(tuned[0])


def test_the_general_questions_are_different_and_their_answers_among_their_choices() -> None:
    asked = transfer.questions()

    assert len({q.question for q in asked}) == len(asked) >= 40
    for q in asked:
        assert q.answer in q.choices
        assert len(set(q.choices)) == len(q.choices) == 4
