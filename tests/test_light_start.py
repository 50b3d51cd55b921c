"""Asking for help loads no library that computes: what is not imported takes no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_fixture import write_run

#: Each takes from a tenth of a second to several seconds to import.
HEAVY = (
    "torch", "transformers", "peft", "accelerate", "sentence_transformers", "faiss", "datasets", "evaluate",
    "pyarrow", "pandas", "numpy", "scipy", "statsmodels", "sklearn", "jinja2", "httpx", "gguf",
    "genai_prices",
)  # fmt: skip
LOOK = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
from breakeven.harness.cli import main
main()
"""


def imported_by(*arguments: str) -> set[str]:
    """Top-level modules that a command has imported by its end, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["report", "--help"],
        ["--version"],
        ["list", "tasks"],
        ["list", "strategies"],
        ["list", "suites"],
    ],
    ids=" ".join,
)
def test_what_computes_nothing_imports_nothing_that_computes(arguments: list[str]) -> None:
    assert imported_by(*arguments).isdisjoint(HEAVY)


def test_the_packages_looked_for_are_there_to_be_imported() -> None:
    """Else the test above could not fail."""
    from importlib.util import find_spec

    assert [name for name in HEAVY if find_spec(name) is None] == []


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"]], ids=" ".join)
def test_help_is_printed_without_the_library_that_checks_settings(command: list[str]) -> None:
    assert "pydantic" not in imported_by(*command)


def test_what_a_command_imports_late_is_seen(tmp_path: Path) -> None:
    """A report computes, and imports what it computes with once it was chosen."""
    run = write_run(tmp_path / "run", tasks=["support_intents"], examples=12)
    assert "numpy" in imported_by("report", str(run), "--format", "json", "-o", "-")
