"""The named settings that suites start from."""

from __future__ import annotations

from typing import Any

import pytest

from breakeven.harness import registry
from breakeven.harness.plan import make_strategy
from breakeven.harness.suite import presets

NAMED = [
    "zero-shot",
    "few-shot",
    "few-shot-similar",
    "rag",
    "lora",
    "lora+few-shot",
    "rag+lora",
    "raft",
    "documents",
]


def test_the_settings_that_the_documentation_names_are_there() -> None:
    assert set(presets()) >= set(NAMED)


@pytest.mark.parametrize(("name", "preset"), presets().items())
def test_a_preset_makes_a_strategy(name: str, preset: dict[str, Any]) -> None:
    settings = {k: v for k, v in preset.items() if k not in ("strategy", "description")}
    assert "model" in make_strategy(name, preset["strategy"], settings).varies_with


@pytest.mark.parametrize(("name", "preset"), presets().items())
def test_a_preset_pulls_the_levers_that_its_name_says(name: str, preset: dict[str, Any]) -> None:
    levers = {
        "few-shot": {"demonstrations"},
        "rag": {"context"},
        "lora": {"weights"},
        "raft": {"context", "weights"},
        "documents": {"weights"},
    }
    named = {lever for word, those in levers.items() if word in name for lever in those}
    assert named == set(preset) & {"demonstrations", "context", "weights"}


@pytest.mark.parametrize("name", NAMED)
def test_a_preset_says_in_one_line_what_it_does(name: str) -> None:
    description = presets()[name]["description"]
    assert description.endswith(".")
    assert "\n" not in description


def test_no_preset_has_the_name_of_a_strategy() -> None:
    assert set(presets()) & set(registry.providers("strategies")) == set()
