"""`breakeven doctor`: every trainer is told with whether it is usable, and with why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness.cli import doctor
from breakeven.harness.contracts import Usability
from breakeven.harness.errors import UserError
from breakeven.harness.registry import Provider, providers


class Loads(Provider):
    """A provider of `thing`, whatever that does when it is called."""

    def load(self) -> Any:
        return thing[self.name]


class Able:
    def usable(self) -> Usability:
        return Usability(True, "able 1.0, in this process")


def broken() -> None:
    raise UserError("its licence file is missing", field="licence")


def absent() -> None:
    raise ImportError("No module named 'numb'")


thing: dict[str, Any] = {"able": Able, "broken": broken, "absent": absent, "silent": object}


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: Loads(name, f"acme:{name}", "acme") for name in thing}
    monkeypatch.setattr(doctor.registry, "providers", lambda kind: found)


def test_it_names_every_trainer_and_the_machine(breakeven: Callable[..., Any], tmp_path: Path) -> None:
    said = breakeven("doctor")
    assert said.code == 0
    for name in providers("trainers"):
        assert f"  {name}" in said.out
    for word in ("processor", "memory", "GPU", "cache", "smollm2-135m-instruct"):
        assert word in said.out


@pytest.mark.usefixtures("strangers")
def test_a_trainer_of_somebody_else_is_asked_too() -> None:
    found = doctor.trainers()
    assert found["able"] == Usability(True, "able 1.0, in this process")
    assert found["silent"].usable
    assert "no check of its own" in found["silent"].what


@pytest.mark.usefixtures("strangers")
def test_one_that_cannot_be_loaded_is_not_usable_and_spoils_nothing() -> None:
    found = doctor.trainers()
    assert not found["broken"].usable
    assert "its licence file is missing" in found["broken"].why_not
    assert "No module named 'numb'" in found["absent"].why_not


def test_what_is_missing_comes_with_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    from breakeven.baselines.trainers import trl

    monkeypatch.setattr(trl, "_installed", lambda: None)
    found = trl.trl().usable()  # type: ignore[attr-defined]
    assert not found.usable
    assert doctor.said(found) == "the package trl is not installed; pip install 'breakeven[trl]'"
    nothing: Any = None
    with pytest.raises(UserError, match="needs the package trl"):
        trl.trl().train(nothing, [], [], Path(), Path(), 0, {}, lambda *_: None)
