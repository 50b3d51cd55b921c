"""Settings of the LoRA trainer, and the defaults that follow from the model."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from breakeven.baselines._tuning import adapter_spec, default_lr
from breakeven.baselines.trainers._settings import learning_rate
from breakeven.baselines.trainers.peft import peft
from breakeven.harness.cell import stop_rate
from breakeven.harness.contracts import ModelCard
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

CARD = ModelCard(name="m", engine="local", parameters=135_000_000, digest="abc")
PAIR = TrainingPair("1", ({"role": "user", "content": "hello"},), "greeting")


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"field 'epoch'.*Did you mean 'epochs'"):
        peft(epoch=3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("rank", 2.5),
        ("rank", True),
        ("lr", 0),
        ("lr", "fast"),
        ("epochs", float("nan")),
        ("dropout", 1.0),
        ("warmup", -0.1),
        ("schedule", "step"),
        ("targets", []),
        ("max_tokens_total", 0),
        ("use_dora", "yes"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_field(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"field '{name}'"):
        peft(**{name: value})


def test_settings_are_checked_without_loading_torch() -> None:
    code = "import sys; from breakeven.baselines.trainers.peft import peft; peft()\n"
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_complete_settings_tell_everything_the_adapter_depends_on() -> None:
    settings: Any = peft(rank=8)
    assert settings.settings["rank"] == 8
    assert settings.settings["epochs"] > 0
    assert "checkpoint_seconds" not in settings.settings


def test_the_learning_rate_rises_to_its_peak_within_the_warm_up() -> None:
    rates = [learning_rate(step, 100, 1.0, "linear", 0.1) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert rates[:11] == sorted(rates[:11])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_falls_towards_zero(schedule: Any) -> None:
    rates = [learning_rate(step, 50, 1.0, schedule, 0.0) for step in range(50)]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.03


def test_a_training_of_one_step_learns_at_the_peak() -> None:
    assert learning_rate(0, 1, 1e-3, "cosine", 0.1) == 1e-3


@pytest.mark.parametrize(
    ("parameters", "lr"),
    [(135e6, 1e-3), (1.2e9, 2e-4), (7e9, 2e-4), (70e9, 1e-4), (10e6, 1e-3), (None, 2e-4)],
)
def test_the_default_learning_rate_falls_with_the_size_of_the_model(parameters: Any, lr: float) -> None:
    assert default_lr(parameters) == lr


def test_models_between_the_anchors_get_rates_between_them() -> None:
    assert 2e-4 < default_lr(500_000_000) < default_lr(360_000_000) < 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"settings": {"rank": 8}},
        {"pairs": [PAIR, PAIR]},
        {"pairs": [TrainingPair("1", PAIR.messages, "farewell")]},
        {"validation": [PAIR]},
        {"card": ModelCard(name="m", engine="local", digest="other")},
        {"card": ModelCard(name="m", engine="local", digest="abc", dtype="float32")},
        {"trainer": "mine.py:other"},
    ],
)
def test_whatever_changes_an_adapter_changes_its_specification(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {
        "trainer": "peft",
        "settings": {"rank": 16},
        "seed": 0,
        "card": CARD,
        "pairs": [PAIR],
    }
    assert adapter_spec(**given) != adapter_spec(**{**given, **change})


def test_the_stop_rate_counts_generated_answers_only() -> None:
    assert stop_rate(["stop", "length", "choices", "stop"]) == pytest.approx(2 / 3)


def test_there_is_no_stop_rate_where_nothing_was_generated() -> None:
    assert stop_rate(["choices", "choices"]) is None
