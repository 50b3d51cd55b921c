"""Whether models fit is read off the headers of their weight files, and a dry run says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_local_engine import SHAPES, write_model
from tiny_suite import tiny_model, write_suite
from transformers import AutoConfig

from breakeven.harness import fitting
from breakeven.harness.engines import _memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "llama", SHAPES["llama"])


def entry(folder: Path, **settings: Any) -> SimpleNamespace:
    return SimpleNamespace(engine="local", model=str(folder), settings=settings)


def fit(folder: Path, **settings: Any) -> fitting.Fit:
    (found,) = fitting.of_models({"small": entry(folder, **settings)}, ["small", None, "small"])
    return found


def test_the_bytes_are_those_that_the_engine_counts_from_the_architecture(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    for dtype in ("float32", "bfloat16"):
        assert fit(folder, dtype=dtype, device="cpu").weights == _memory.weights(config, dtype)
    packed = fit(folder, load_in_4bit=True, device="cpu")
    assert packed.dtype == "nf4"
    assert packed.weights == pytest.approx(_memory.weights(config, "nf4"), rel=1e-3)


def test_a_short_name_of_a_type_is_the_type(folder: Path) -> None:
    assert fit(folder, dtype="bf16", device="cpu").dtype == "bfloat16"


def test_what_fits_not_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = fit(folder, dtype="float32", device="cpu").weights
    for free, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device, free=free: free)
        found = fit(folder, dtype="float32", device="cpu")
        assert found.fits == fits
        assert found.sentence().endswith("does not fit") == (not fits)


def test_models_served_elsewhere_or_not_here_are_left_out(folder: Path, tmp_path: Path) -> None:
    entries = {
        "api": SimpleNamespace(engine="openai", model="m", settings={}),
        "absent": entry(tmp_path / "none"),
    }
    assert list(fitting.of_models(entries, ["api", "absent"])) == []


def test_a_weight_file_that_is_none_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 40)
    assert fitting.parameters(tmp_path) is None


def test_of_packed_weights_nothing_is_said(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"layer.weight": torch.zeros((4, 4))}, tmp_path / "model.safetensors")
    assert fitting.parameters(tmp_path) == (16, 0)
    save_file({"layer.qweight": torch.zeros((4, 4), dtype=torch.int32)}, tmp_path / "more.safetensors")
    assert fitting.parameters(tmp_path) is None


def test_a_dry_run_says_whether_its_models_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_suite(tmp_path, tiny_model(tmp_path / "tiny"), strategies={"zero-shot": {}, "majority": {}})
    said = breakeven("run", "tiny.yaml", "--dry-run")
    assert said.code == 0
    assert "its weights take 0.0 GB in float32" in said.out
    monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device: 1000)
    assert "it does not fit" in breakeven("run", "tiny.yaml", "--dry-run").out


def test_a_dry_run_shows_settings_as_the_suite_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = {"rank": 4, "targets": ["q_proj", "v_proj"]}
    write_suite(tmp_path, tiny_model(tmp_path / "tiny"), strategies={"lora": {"weights": weights}})
    said = breakeven("run", "tiny.yaml", "--dry-run")
    assert said.code == 0, said.err
    assert "targets: [q_proj, v_proj]" in said.out


def test_looking_loads_nothing_heavy(folder: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from breakeven.harness import fitting; "
        f"assert fitting.parameters(Path({str(folder)!r})); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
