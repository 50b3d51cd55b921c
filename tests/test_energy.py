"""Meters on counters that the tests write, and published energy and emissions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from breakeven.harness import energy

CASES = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))["energy"]["cases"]


@pytest.mark.parametrize(("case", "hours"), [(CASES[0], 82_432), (CASES[1], 1_022_362)])
def test_training_llama_takes_the_published_energy_and_emissions(
    case: dict[str, list[float]], hours: int
) -> None:
    joules = energy.from_power(hours * 3600, watts=400, overhead=1.1)
    megawatt_hours, tonnes = joules / 3.6e9, energy.emissions(joules, 0.385) / 1000
    assert (megawatt_hours, tonnes) == pytest.approx(case["value"], rel=1e-3)


def rapl(folder: Path, name: str, microjoules: int, wraps_at: int = 10_000_000) -> Path:
    zone = folder / name
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return zone


def test_the_cpu_meter_adds_its_packages_and_leaves_out_their_parts(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        rapl(tmp_path, name, 1_000_000)
    meter = energy.energy_meter("cpu", tmp_path)
    assert meter is not None
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        rapl(tmp_path, name, 3_500_000)
    assert meter.joules() == pytest.approx(5.0)


def test_a_counter_that_wrapped_has_not_gone_backwards(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", 9_000_000)
    meter = energy.energy_meter("cpu", tmp_path)
    assert meter is not None
    rapl(tmp_path, "intel-rapl:0", 1_000_000)
    assert meter.joules() == pytest.approx(2.0)


def test_a_reset_meter_starts_from_zero(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", 0)
    meter = energy.energy_meter("cpu", tmp_path)
    assert meter is not None
    rapl(tmp_path, "intel-rapl:0", 4_000_000)
    meter.reset()
    rapl(tmp_path, "intel-rapl:0", 5_000_000)
    assert meter.joules() == pytest.approx(1.0)


def test_without_a_counter_there_is_no_meter_so_energy_stays_unknown(tmp_path: Path) -> None:
    assert energy.energy_meter("cpu", tmp_path) is None


def test_a_half_readable_counter_is_no_meter(tmp_path: Path) -> None:
    rapl(tmp_path, "intel-rapl:0", 0)
    (rapl(tmp_path, "intel-rapl:1", 0) / "energy_uj").unlink()
    assert energy.energy_meter("cpu", tmp_path) is None
