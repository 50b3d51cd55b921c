"""What `breakeven run` last said of a run, kept beside everything that it was made from.

A finished suite that is run again has nothing new to say: its tables are printed and its report is left as
they were, if all that they are made from is what it was then. That is every file of the run but the settled
ones (`SETTLED`), the program's own sources, the packages that compute and draw, the day (token prices
have one) and the terminal's width and colours. The report must also be the file that was written then:
`breakeven report --set ...` writes another one to the same place.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rich.console import Console

from breakeven.harness import registry, store

FILE = "shown.json"
#: What computes and draws, beside the program's own sources.
PACKAGES = ("numpy", "scipy", "jinja2", "markupsafe", "pydantic", "pyyaml", "rich", "genai-prices")
#: In a run and in a cell: what no report reads, or what is addressed by its content in a file that one reads.
SETTLED = frozenset({"artifacts", "before"})
SETTLED_IN_CELLS = frozenset({"scratch", "predictor", "predictor.partial"})


def said(folder: Path, made_from: str | None) -> str | None:
    """The text that was printed when the run was last shown; None where it has to be made again."""
    if made_from is None:
        return None
    try:
        kept = store.read_json(folder / FILE, {})
        report = (folder / "report.html").read_bytes()
    except (OSError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("made_from") != made_from:
        return None
    text = kept.get("said")
    return text if isinstance(text, str) and kept.get("report") == _sha256(report) else None


def keep(folder: Path, made_from: str | None, text: str) -> None:
    """Remember that `text` was printed and the report written, both from what `made_from` stands for."""
    if made_from is None:
        return
    report = _sha256((folder / "report.html").read_bytes())
    store.write_json(folder / FILE, {"made_from": made_from, "report": report, "said": text})


def made_from(folder: Path, console: Console) -> str | None:
    """Hash of everything that the tables on this console and the report of this run are made from.

    None where some of it cannot be read: then nothing is remembered.
    """
    total = hashlib.sha256()
    look = [console.width, console.color_system, console.no_color, console.is_terminal, console.encoding]
    versions = [platform.python_version(), *(_version(package) for package in PACKAGES)]
    for part in (str(folder.resolve()), look, _day(), versions):
        total.update(f"{part!r}\n".encode())
    try:
        for file in (*_sources(), *files(folder)):
            content = file.read_bytes()
            total.update(f"{str(file)!r} {len(content)}\n".encode())
            total.update(content)
    except OSError:
        return None
    return total.hexdigest()


def _sources() -> list[Path]:
    """Everything between a run's files and its report: the harness and all installed reporters."""
    ours = sorted(Path(__file__).parent.parent.rglob("*"))
    found = [*ours, *registry.data_files("reporters", "**/*")]
    return [file for file in found if file.is_file() and "__pycache__" not in file.parts]


def files(folder: Path) -> Iterator[Path]:
    """The files of a run but the settled ones, journals, locks and what was made for readers."""
    for file in sorted(folder.rglob("*")):
        if not _left_out(file.relative_to(folder).parts) and file.is_file():
            yield file


def _left_out(inside: Sequence[str]) -> bool:
    name = inside[-1]
    if inside[0] in SETTLED or name.startswith("."):  # a lock, a file that is being written
        return True
    if inside[0] == "cells" and len(inside) > 2:
        return inside[2] in SETTLED_IN_CELLS or name.startswith("journal")
    return len(inside) == 1 and (name == FILE or name.startswith("report."))


def _day() -> str:
    return datetime.now(UTC).date().isoformat()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "?"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
