"""What would spoil a training, found before it: the mask, the end token, the room, the provider's rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_suite import letters, tiny_model, write_suite

from breakeven.harness import single
from breakeven.harness.cli.preflight import Looked, examine, providers_rules, show
from breakeven.harness.cli.validate import Finding
from breakeven.harness.training import TrainingPair


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def look(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Looked]:
    """What is found of a strategy with these settings."""
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)

    def call(rows: list[dict[str, str]] | None = None, **settings: Any) -> Looked:
        suite = write_suite(tmp_path, model, strategies={"tuned": {"weights": {"rank": 4}, **settings}})
        if rows is not None:
            (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with single.single(single.as_suite(str(suite), "tuned"), "tuned") as one:
            return examine(one)

    return call


def said(looked: Looked, check: str) -> Finding:
    (found,) = [finding for finding in looked.findings if finding.check == check]
    return found


def test_a_sound_training_passes_and_shows_what_is_learned(look: Callable[..., Looked]) -> None:
    looked = look()
    assert not looked.fails
    assert said(looked, "end").what == "every answer ends in the end token, which is learned"
    assert said(looked, "prompt").what == "training prompts are what serving sends (8 of 10 compared)"
    (prompt, shown), (answer, learned) = looked.mask
    assert (shown, learned) == (False, True)
    assert "Say what the weather was." in prompt
    assert answer.startswith(("wet", "dry", "grey"))
    assert len(answer) > 4  # its end token stands behind it


def test_with_demonstrations_only_the_last_answer_is_learned(look: Callable[..., Looked]) -> None:
    looked = look(demonstrations={"k": 2, "select": "fixed"})
    assert not looked.fails
    (prompt, _), (answer, _) = looked.mask
    assert sum(prompt.count(sky) for sky in ("wet", "dry", "grey")) >= 2
    assert answer.startswith(("wet", "dry", "grey"))


def test_a_trainer_without_a_loss_mask_learns_the_prompts_and_that_is_said(
    look: Callable[..., Looked],
) -> None:
    looked = look(weights={"rank": 4, "trainer": "autotrain"})
    found = said(looked, "mask")
    assert found.level == "warning"
    assert "no loss mask" in found.what
    assert all(learned for _, learned in looked.mask)


def test_prompts_that_lose_their_beginning_are_counted(look: Callable[..., Looked]) -> None:
    found = said(look(weights={"rank": 4, "max_length": 40}), "length")
    assert found.level == "warning"
    assert found.what.startswith("10 of 10 examples lose the beginning")


def test_of_several_lengths_that_are_tried_the_shortest_counts(look: Callable[..., Looked]) -> None:
    searched = {"rank": 4, "max_length": 1000, "search": {"settings": {"max_length": [500, 40]}}}
    assert said(look(weights=searched), "length") == said(
        look(weights={"rank": 4, "max_length": 40}), "length"
    )


def test_answers_that_fill_all_the_room_are_counted(look: Callable[..., Looked]) -> None:
    looked = look(weights={"rank": 4, "max_length": 3})
    assert looked.fails
    assert said(looked, "length").what.startswith("10 examples are dropped")


def test_test_inputs_among_the_rows_are_told(look: Callable[..., Looked]) -> None:
    assert said(look(), "duplicates").level == "ok"
    task = Path("weather.yaml").read_text()
    task = task.replace("data: rows.jsonl", "data: {train: a.jsonl, test: b.jsonl}")
    skies = ("wet", "dry")
    rows = [{"text": f"{n} sheep in the {n}. meadow of {n}", "sky": skies[n % 2]} for n in range(12)]
    for name, some in (("a", rows), ("b", rows[:3])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    Path("weather.yaml").write_text(task)
    with single.single(single.as_suite("tiny.yaml", "tuned"), "tuned") as one:
        found = said(examine(one), "duplicates")
    assert found.level == "warning"
    assert found.what.startswith("3 test inputs are in train or validation too")


def test_what_is_learned_is_marked_without_colours_too() -> None:
    console = Console(record=True, width=100, force_terminal=False)
    show(
        Looked("t--lora--s0", (Finding("ok", "end", "fine"),), (("Question: ", False), ("wet", True))),
        console,
    )
    assert "Question: ⟦wet⟧" in console.export_text()


def test_a_cost_above_the_limit_wants_to_be_accepted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    suite = write_suite(tmp_path, model, strategies={"lora": {"weights": {"rank": 4, "epochs": 1}}})
    refused = breakeven("preflight", str(suite), "--set", "limits.ask_above=0")
    assert refused.code == 2
    assert "--yes" in refused.err
    accepted = breakeven("preflight", str(suite), "--max-money", "0", "--yes")
    assert accepted.code == 0, accepted.err
    assert "training tokens in 1 trainings" in accepted.out
    free = breakeven("preflight", str(suite), "--no-cost")
    assert free.code == 0
    assert "predicted" not in free.out


def test_a_suite_that_tunes_nothing_has_nothing_to_look_at(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    letters(monkeypatch)
    suite = write_suite(tmp_path, model, strategies={"majority": {}})
    assert "nothing would be trained" in breakeven("preflight", str(suite)).err


def test_a_provider_wants_ten_examples_that_are_not_too_long() -> None:
    pairs = [TrainingPair(str(i), ({"role": "user", "content": "a"},), "b") for i in range(9)]
    (found,) = providers_rules(pairs, [10] * 9, "api.example.com")
    assert (found.level, found.what) == ("error", "api.example.com wants 10 examples, there are 9")
    found, *_ = providers_rules([*pairs, pairs[0]], [70_000, *[10] * 9], "api.example.com")
    assert found.level == "warning"
    assert "65,536" in found.what


def test_a_providers_room_is_for_prompt_and_answer_and_as_the_settings_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    weights = {"trainer": "openai", "max_example_tokens": 400}
    api = {"model": "m", "engine": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "",
           "allow_unpriced": True}  # fmt: skip
    file = write_suite(
        tmp_path, Path("unused"), models={"api": api}, strategies={"tuned": {"weights": weights}}
    )
    task = tmp_path / "weather.yaml"
    open_ended = task.read_text().replace("choices: from data\n", "").replace("accuracy", "exact_match")
    task.write_text(open_ended)  # long answers, short prompts
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    def found() -> Finding:
        with single.single(single.as_suite(str(file), "tuned"), "tuned") as one:
            return said(examine(one), "provider")

    assert found().level == "ok"
    for row in lines:
        row["sky"] += " " + "rain " * 1000
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    assert found().level == "warning"
    assert "10 examples of more than 400 tokens" in found().what


def test_a_model_behind_an_api_is_held_against_its_providers_rules(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Any]
) -> None:
    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    server = serve()
    api = {"model": "small", "engine": "openai", "base_url": server.url, "price_as": "gpt-4o-mini"}
    suite = write_suite(tmp_path, model, models={"api": api}, strategies={"tuned": {"weights": {"rank": 4}}})
    with single.single(single.as_suite(str(suite), "tuned"), "tuned") as one:
        looked = examine(one)
    assert not looked.fails
    assert "10 examples" in said(looked, "provider").what
    assert looked.mask[-1][1]
    assert not any(learned for _, learned in looked.mask[:-1])
    assert not server.got  # nothing was asked
