"""`breakeven doctor`: every trainer is told with whether it is usable, and with why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breakeven.baselines.trainers import _hosted_here
from breakeven.harness.cli import doctor
from breakeven.harness.errors import UserError
from breakeven.harness.registry import Provider, providers
from breakeven.harness.training import Usability


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


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_MANAGEMENT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    versions = {"openai": "3.1.4"}
    monkeypatch.setattr(_hosted_here, "installed", lambda package: versions.get(package, ""))
    return monkeypatch


def test_trainers_that_cannot_be_made_without_settings_are_asked_all_the_same(
    keyless: pytest.MonkeyPatch,
) -> None:
    found = doctor.trainers()
    for name in ("openai", "azure", "imported"):
        assert "cannot be loaded" not in doctor.said(found[name])
        assert "no check of its own" not in doctor.said(found[name])
    assert found["imported"].usable
    assert "adapter" in found["imported"].what


def test_hosted_trainers_name_the_variables_that_are_missing(keyless: pytest.MonkeyPatch) -> None:
    found = doctor.trainers()
    assert not found["openai"].usable
    assert "openai 3.1.4" in found["openai"].what
    assert found["openai"].why_not == "OPENAI_API_KEY is not set"
    assert found["azure"].why_not == (
        "AZURE_OPENAI_API_KEY or OPENAI_API_KEY and AZURE_MANAGEMENT_TOKEN are not set"
    )
    assert "every hour" in found["azure"].note


def test_a_key_makes_them_usable_and_is_never_told(keyless: pytest.MonkeyPatch) -> None:
    keyless.setenv("OPENAI_API_KEY", "sk-secret")
    keyless.setenv("AZURE_MANAGEMENT_TOKEN", "token-secret")
    found = doctor.trainers()
    for name in ("openai", "azure"):
        assert found[name].usable
        assert "OPENAI_API_KEY" in found[name].what
        assert "secret" not in doctor.said(found[name])


def test_without_the_package_they_say_what_installs_it(keyless: pytest.MonkeyPatch) -> None:
    keyless.setattr(_hosted_here, "installed", lambda package: "")
    found = doctor.trainers()["openai"]
    assert not found.usable
    assert "the package openai is not installed" in found.why_not
    assert found.remedy == "pip install 'breakeven[hosted]'"
