"""Finds tasks, strategies, engines, trainers and reporters by name, without importing what is not asked for.

A name is one of
- `name`, provided by a package registered under the entry-point group `breakeven.<kind>`: the entry point
  names either the thing itself (its own name counts) or a package, whose folder is listed lazily: module
  `some_name.py` provides "some-name" by its attribute `some_name`;
- `file.py:attribute`, a file of the user's own.

What Breakeven ships is found in the same way as what anybody else installs. Two providers of one name are
an error, not a matter of luck.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from breakeven.harness.errors import UserError

Kind = Literal["tasks", "strategies", "engines", "trainers", "reporters"]


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a name comes from: `target` is "module:attribute" or a data file (YAML task)."""

    name: str
    target: str
    distribution: str
    file: Path | None = None

    def load(self) -> Any:
        if self.file is not None:
            return self.file
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


@cache
def providers(kind: Kind) -> dict[str, Provider]:
    """All registered names of a kind. Raises UserError when two packages provide the same name."""
    found: dict[str, Provider] = {}
    for point in metadata.entry_points(group=f"breakeven.{kind}"):
        for provider in _expand(kind, point):
            other = found.setdefault(provider.name, provider)
            if other.target != provider.target:
                raise UserError(
                    f"two packages provide the {kind} name '{provider.name}': "
                    f"{other.distribution} ({other.target}) and {provider.distribution} ({provider.target})",
                    hint="uninstall one, or name it as file.py:attribute",
                )
    return dict(sorted(found.items()))


def find(kind: Kind, name: str, base: Path | None = None) -> Any:
    """The factory called `name`, or the path of a data file for YAML tasks.

    Args:
        base: folder that a relative `file.py:attribute` is looked up in before the current one.
    """
    if ".py:" in name:
        return load_from_file(name, base)
    known = providers(kind)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        what = {"strategies": "strategy"}.get(kind, kind.rstrip("s"))
        raise UserError(
            f"there is no {what} called '{name}'",
            hint=f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}",
        )
    return known[name].load()


def load_from_file(spec: str, base: Path | None = None) -> Any:
    """The attribute of `file.py:attribute`."""
    file_name, _, attribute = spec.rpartition(":")
    path = locate(file_name, base)
    if path is None:
        raise UserError("no such file", file=file_name, hint=f"'{spec}' should name an existing Python file")
    path = path.resolve()
    module_name = f"breakeven_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name not in sys.modules:
        module_spec = importlib.util.spec_from_file_location(module_name, path)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = importlib.util.module_from_spec(module_spec)
        sys.modules[module_name] = module
        try:
            module_spec.loader.exec_module(module)
        except SyntaxError as error:
            del sys.modules[module_name]
            raise UserError(f"not valid Python: {error.msg}", file=path, line=error.lineno) from error
        except ImportError as error:
            del sys.modules[module_name]
            raise UserError(f"cannot be imported: {error}", file=path) from error
        except UserError:
            del sys.modules[module_name]
            raise
        except Exception as error:
            del sys.modules[module_name]  # else the next to ask would find half a module
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
            raise UserError(
                f"cannot be imported: {type(error).__name__}: {error}",
                file=path,
                line=lines[-1] if lines else None,
            ) from error
    module = sys.modules[module_name]
    if not hasattr(module, attribute):
        raise UserError(f"has no '{attribute}'", file=path, hint=f"'{spec}' should name a function in it")
    return getattr(module, attribute)


def locate(name: str, base: Path | None) -> Path | None:
    """An existing path for `name`: absolute, relative to `base`, then to the current folder."""
    path = Path(name).expanduser()
    candidates = [path] if path.is_absolute() else [*([base / path] if base else []), path]
    return next((p for p in candidates if p.exists()), None)


def source_hash(name: str, base: Path | None = None) -> str:
    """Hash of a user's own file behind `file.py:attribute`; "" for registered names."""
    if ".py:" not in name:
        return ""
    path = locate(name.rpartition(":")[0], base)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path else ""


def data_files(kind: Kind, pattern: str) -> list[Path]:
    """Data files that registered packages carry: suites (`suites/*.yaml`), named settings."""
    return [
        path
        for point in metadata.entry_points(group=f"breakeven.{kind}")
        for root in _package_folders(point.value)
        for path in sorted(root.glob(pattern))
    ]


def _package_folders(value: str) -> list[Path]:
    if ":" in value:
        return []
    try:
        spec = importlib.util.find_spec(value)
    except ImportError:
        return []
    return [Path(p) for p in spec.submodule_search_locations or []] if spec else []


def _expand(kind: Kind, point: metadata.EntryPoint) -> Iterator[Provider]:
    distribution = point.dist.name if point.dist else "?"
    folders = _package_folders(point.value)
    if not folders:
        yield Provider(point.name, point.value, distribution)
        return
    for folder in folders:
        for path in sorted(folder.iterdir()):
            stem = path.stem
            if stem.startswith("_") or path.name == "presets.yaml":
                continue
            if path.suffix == ".py":
                name = stem if kind == "tasks" else stem.replace("_", "-")
                yield Provider(name, f"{point.value}.{stem}:{stem}", distribution)
            elif kind == "tasks" and path.suffix in {".yaml", ".yml"}:
                yield Provider(stem.removesuffix(".task"), str(path), distribution, file=path)
