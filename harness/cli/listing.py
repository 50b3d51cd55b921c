"""`breakeven list`: what is installed, with one line on each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from breakeven.harness import registry
from breakeven.harness.errors import UserError


def listing(what: str) -> None:
    """Print a table of tasks, strategies, models or suites. Imports none of them."""
    rows = {"tasks": _tasks, "strategies": _strategies, "models": _models, "suites": _suites}.get(what)
    if rows is None:
        raise UserError(f"cannot list '{what}'", hint="tasks, strategies, models or suites")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True)
    table.add_column("what it is", ratio=1)
    table.add_column("run with" if what == "suites" else "from", no_wrap=True)
    for name, text, source in rows():
        table.add_row(name, text, source)
    Console().print(table, highlight=False)


def _tasks() -> Iterator[tuple[str, str, str]]:
    for name, provider in registry.providers("tasks").items():
        yield name, _first_line(provider), provider.distribution


def _strategies() -> Iterator[tuple[str, str, str]]:
    from breakeven.harness import suite

    for name, settings in suite.presets().items():
        yield name, str(settings.get("description", "")), "named setting"
    for name, provider in registry.providers("strategies").items():
        yield name, _first_line(provider), provider.distribution


def _models() -> Iterator[tuple[str, str, str]]:
    from breakeven.harness import models

    for known in models.KNOWN:
        where = "in the cache" if models.is_cached(known.name) else "fetched when first used"
        yield known.name, f"{known.what} ({known.licence})", where
    yield "FOLDER or Hub id", "any causal language model of transformers", "engine local"
    yield "any name", "served behind an OpenAI-compatible API", "engine openai"


def _suites() -> Iterator[tuple[str, str, str]]:
    import yaml

    from breakeven.harness import suite

    for name, path in sorted(suite.shipped().items()):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield name, str(data.get("description", "")), "breakeven run " + name


def _first_line(provider: registry.Provider) -> str:
    """First line of the module's docstring, read from the source so that nothing heavy is imported."""
    if provider.file is not None:
        return f"YAML task {provider.file}"
    import importlib.util

    try:
        spec = importlib.util.find_spec(provider.target.partition(":")[0])
        tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8")) if spec and spec.origin else None
    except (ImportError, OSError, SyntaxError):
        return ""
    return (ast.get_docstring(tree) or "").partition("\n")[0] if tree is not None else ""
