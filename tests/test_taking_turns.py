"""The embedding model and the language model share the cores: they compute in turns, never side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strategy_fakes import LetterEmbedder
from tiny_suite import letters, tiny_model, write_suite

from breakeven.harness.engines.local import LocalEngine

Event = tuple[str, int]


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]) -> list[Event]:
    """(what began or ended, in which thread), while a suite runs that retrieves and answers."""
    monkeypatch.chdir(tmp_path)
    letters(monkeypatch)
    seen: list[Event] = []

    def told(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def telling(*arguments: Any, **settings: Any) -> Any:
            seen.append((f"{name} begins", threading.get_ident()))
            try:
                return function(*arguments, **settings)
            finally:
                seen.append((f"{name} ends", threading.get_ident()))

        return telling

    monkeypatch.setattr(LetterEmbedder, "encode", told("embedding", LetterEmbedder.encode))
    monkeypatch.setattr(LocalEngine, "_forward", told("answering", LocalEngine._forward))
    strategies = {"rag": {"context": {"k": 1}}, "few-shot-similar": {"demonstrations": {"k": 2}}}
    write_suite(tmp_path, tiny_model(tmp_path / "tiny"), strategies=strategies)
    assert breakeven("run", "tiny.yaml", "--name", "r").code == 0
    return seen


def test_they_never_compute_side_by_side(events: list[Event]) -> None:
    names = [name for name, _ in events]
    assert {"embedding begins", "answering begins"} <= set(names)
    for begins, ends in zip(names[::2], names[1::2], strict=True):
        assert (begins.split()[0], begins.split()[1], ends.split()[1]) == (ends.split()[0], "begins", "ends")
    assert len({thread for _, thread in events}) == 1
