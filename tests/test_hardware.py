"""What the machine says of itself, and the arithmetic it picks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness import hardware


def test_the_machine_is_described_in_json(capsys: Any) -> None:
    seen = json.loads(json.dumps(hardware.describe()))
    assert seen["memory_bytes"] > 10**8
    assert seen["physical_cores"] >= 1
    assert seen["cpu"]


def test_a_containers_cpu_quota_limits_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert hardware._quota(tmp_path / "cpu.max") == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware._quota(tmp_path / "cpu.max") > 1000


def test_versions_name_what_decides_a_result() -> None:
    assert {"python", "torch", "transformers", "peft", "sentence-transformers"} <= set(hardware.versions())


def test_peak_memory_is_in_bytes_and_counts_what_is_held() -> None:
    held = bytearray(30_000_000)
    peak = hardware.peak_memory()
    assert peak is not None
    assert len(held) < peak < 10**12


def test_the_choice_of_arithmetic_is_measured_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path))
    monkeypatch.setattr(hardware, "cpu_bf16", lambda: "avx512_bf16")
    monkeypatch.setattr(hardware, "_bf16_speed_up", lambda: 2.0)
    assert hardware.faster_dtype(2) == "bfloat16"
    monkeypatch.setattr(hardware, "_bf16_speed_up", lambda: 0.5)
    assert hardware.faster_dtype(2) == "bfloat16"  # remembered
    assert hardware.faster_dtype(1) == "float32"  # another number of threads, measured anew


def test_a_cpu_without_bfloat16_instructions_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cpu_bf16", lambda: None)
    assert hardware.faster_dtype() == "float32"
