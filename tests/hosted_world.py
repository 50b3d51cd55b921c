"""A run with a hosted training, in miniature: prices, a suite, and what the tests read of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fine_tuning_server import KEY, TOKEN, Azure, FineTuningServer
from tiny_suite import letters, tiny_model, write_suite

from breakeven.harness.ledger import Ledger

PRICES = """
tokens:
  test/tiny: {input: 1.0, output: 2.0, currency: USD, date: 2026-11-01, source: the test}
  test/ft-tiny: {input: 3.0, output: 6.0, currency: USD, date: 2026-11-01, source: the test}
training_tokens:
  test/tiny: {price: 1000.0, currency: USD, date: 2026-11-01, source: the test}
hosting_hours:
  test/hour: {price: 36.0, currency: USD, date: 2026-11-01, source: the test}
"""
CELL = "weather--tuned--s0"


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A random model of two layers that can be tuned in a second."""
    from breakeven.harness.engines.local import local

    folder = tiny_model(tmp_path_factory.mktemp("base") / "tiny")
    return local(str(folder), dtype="float32", device="cpu", threads=1)


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder to run in, with prices, keys and short waits."""
    from breakeven.baselines.trainers import azure, openai
    from breakeven.harness import deployments
    from breakeven.harness.cli import _shown
    from breakeven.harness.cli import run as cli_run

    def nap(seconds: float) -> None:
        threading.Event().wait(min(seconds, 0.02))

    letters(monkeypatch)
    # Tables and reports take longer than the runs: a test that reads them asks for them.
    monkeypatch.setattr(cli_run, "_show", lambda console, folder: "")
    monkeypatch.setattr(_shown, "made_from", lambda folder, console: None)
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("AZURE_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prices.yaml").write_text(PRICES)
    for trainer in (openai.OpenAITrainer, azure.AzureTrainer):
        # The class's attribute would do nothing: a dataclass has taken its default into `__init__`.
        monkeypatch.setattr(trainer.__init__, "__defaults__", (nap,))
    monkeypatch.setattr(deployments, "pause", nap)
    return tmp_path


@pytest.fixture
def tuning() -> Iterator[Callable[..., FineTuningServer]]:
    """Starts servers with the protocol; they stop with the test. `engine=`: really train."""
    running: list[FineTuningServer] = []

    def start(kind: type[FineTuningServer] = FineTuningServer, **settings: Any) -> FineTuningServer:
        running.append(kind(settings.pop("engine", None), **settings).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def suite(server: FineTuningServer, folder: Path, **changes: Any) -> Path:
    """Zero-shot and a hosted training on the model behind the server; `weights` go to the trainer."""
    weights = {"trainer": "openai", "epochs": 2, "wait": 60, "price_as": "test/ft-tiny"}
    model = {"model": server.base, "engine": "openai", "base_url": server.url, "api_key_env": "TEST_KEY",
             "price_as": "test/tiny", "context": 2048, "retries": 1}  # fmt: skip
    if isinstance(server, Azure):
        model["auth"] = "api-key"
        where = {"subscription": "s", "resource_group": "g", "resource": "r", "control_url": server.origin,
                 "token_env": "AZURE_TOKEN", "hour": "test/hour"}  # fmt: skip
        weights |= {"trainer": "azure", "deployment": where}
    weights |= changes.pop("weights", {})
    strategies = changes.pop("strategies", {"zero-shot": {}, "tuned": {"weights": weights}})
    changes["limits"] = {"ask_above": 1000.0, **changes.get("limits", {})}  # the prices here are steep
    return write_suite(folder, Path("unused"), models={"api": model}, strategies=strategies, **changes)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def cell(folder: Path, name: str = CELL) -> Path:
    return folder / "runs/r/cells" / name


def state(folder: Path, name: str = CELL) -> tuple[str, str]:
    """(state, reason) of a cell."""
    status = read(cell(folder, name) / "status.json")
    return status["state"], status["reason"]


def ledger(folder: Path, name: str = CELL) -> Ledger:
    return Ledger.from_json(read(cell(folder, name) / "ledger.json"))
