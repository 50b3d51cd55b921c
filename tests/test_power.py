"""Sample sizes and detectable differences, against the numbers their papers print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakeven.harness import power

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())["statistics"]


def published(words: str) -> dict[str, Any]:
    (case,) = [c for c in VECTORS["cases"] if words in c["what"]]
    return dict(case)


def test_sample_size_is_the_papers() -> None:
    assert power.sample_size(0.03, 1 / 9) == published("sample size")["value"]


def test_minimum_detectable_effect_is_the_papers() -> None:
    case = published("minimum detectable effect")
    found = [
        power.minimum_detectable_effect(198, 1 / 9, resampling=(1 / 6, 1 / 6), samples=(k, k))
        for k in (1, 10)
    ]
    assert found == pytest.approx(case["value"], rel=case["tol"])


def test_power_and_size_for_discordant_pairs_are_the_published_ones() -> None:
    case = published("power of a 3-point difference")
    found = [
        power.discordant_power(0.03, 0.10, 100),
        power.sample_size(0.03, power.discordant_variance(0.03, 0.10)),
    ]
    assert found == pytest.approx(case["value"], rel=case["tol"])


def test_sample_size_and_detectable_effect_are_inverse() -> None:
    n = power.sample_size(0.05, 0.2, resampling=(0.1, 0.0), samples=(3, 1))
    assert power.minimum_detectable_effect(n, 0.2, resampling=(0.1, 0.0), samples=(3, 1)) == pytest.approx(
        0.05, abs=1e-4
    )


def test_power_is_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    d = rng.choice([1.0, -1.0, 0.0], p=[0.15, 0.05, 0.8], size=(4000, 100))
    found = np.mean(np.abs(d.mean(1)) / (d.std(1) / 10) > 1.96)
    assert power.discordant_power(0.1, 0.2, 100) == pytest.approx(found, abs=0.04)


def test_a_difference_larger_than_the_disagreement_is_impossible() -> None:
    with pytest.raises(ValueError, match="discordant"):
        power.discordant_power(0.2, 0.1, 100)


def test_no_sample_shows_a_difference_of_nothing() -> None:
    with pytest.raises(ValueError, match="difference of 0"):
        power.sample_size(0.0, 0.1)
