"""What many tests need: an offline environment, the command line in process, small run folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

sys.path.insert(0, str(Path(__file__).parent))  # helpers beside the tests: openai_server, run_fixture

import own_cores  # noqa: F401 - before torch counts them
from browsing import browser  # noqa: F401 - a fixture
from hosted_world import hosted, tiny_engine, tuning  # noqa: F401 - fixtures

# The same cases every time, and nothing is timed.
hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
)
hypothesis.settings.load_profile("repeatable")


@dataclass(frozen=True)
class Said:
    """What a command line call printed and returned."""

    code: int
    out: str
    err: str


@pytest.fixture
def breakeven(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """`breakeven("run", "suite.yaml")` in this process."""
    from breakeven.harness.cli import main

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["breakeven", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts OpenAI-compatible servers that stop with the test."""
    from openai_server import OpenAIServer, says

    running: list[OpenAIServer] = []

    def start(answer: Any = None, **settings: Any) -> OpenAIServer:
        server = OpenAIServer(answer or says("yes"), **settings)
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__()
