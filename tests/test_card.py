"""What a configuration says is asked of transformers once, and again when anything about it is another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_suite import tiny_model

from breakeven.harness.contracts import ModelCard
from breakeven.harness.engines import _card


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path / "cache"))
    return tiny_model(tmp_path / "model")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that transformers was asked about."""
    folders: list[Path] = []
    real = _card._shape

    def shape(folder: Path) -> dict[str, int | None]:
        folders.append(folder)
        return real(folder)

    monkeypatch.setattr(_card, "_shape", shape)
    return folders


def read(model: Path) -> ModelCard:
    return _card.read("tiny", model, dtype="float32", device="cpu")


def test_a_card_is_the_same_when_it_was_remembered(model: Path, asked: list[Path]) -> None:
    first = read(model)
    assert first.parameters
    assert first.context == 2048
    assert read(model) == first
    assert asked == [model]


def test_another_configuration_is_another_card(model: Path, asked: list[Path]) -> None:
    first = read(model)
    config = json.loads((model / "config.json").read_text())
    config["max_position_embeddings"] = 1024
    (model / "config.json").write_text(json.dumps(config))
    assert read(model).context == 1024 != first.context
    assert len(asked) == 2


def test_other_weights_are_another_digest_of_the_same_configuration(model: Path, asked: list[Path]) -> None:
    first = read(model)
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert read(model).digest != first.digest
    assert len(asked) == 1


def test_another_version_of_the_libraries_is_asked_again(
    model: Path, asked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(model)
    monkeypatch.setattr(_card.metadata, "version", lambda library: "99.0")
    read(model)
    assert len(asked) == 2


@pytest.mark.parametrize("left", ["", "{", "[]", '{"parameters": 1}'])
def test_a_damaged_memory_is_asked_again(model: Path, asked: list[Path], left: str, tmp_path: Path) -> None:
    first = read(model)
    for memo in (tmp_path / "cache" / "cards").iterdir():
        memo.write_text(left)
    assert read(model) == first
    assert len(asked) == 2
