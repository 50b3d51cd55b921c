"""`breakeven report`: a run folder through one of the installed reporters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from breakeven.harness import registry, results, store
from breakeven.harness._garbage import uncollected
from breakeven.harness.errors import UserError
from breakeven.harness.results import Results


def report(
    folder: Path,
    format: str,
    output: Path | None,
    examples: bool,
    prices: Path | None,
    changes: Sequence[str] = (),
    probes: Sequence[Path] = (),
    estimate: Path | None = None,
) -> None:
    """Write the report; `output` "-" prints it, None puts it into the run folder."""
    with uncollected():  # and let go within it, or the first search afterwards goes over everything
        path = write(
            results.load(folder, prices, changes, probes, estimate), format, output, examples=examples
        )
    if path is not None:
        print(path)


def write(found: Results, format: str, output: Path | None, *, examples: bool) -> Path | None:
    reporter = registry.find("reporters", format)
    content: str | bytes = reporter(found, examples=examples)
    if output is not None and str(output) == "-":
        if isinstance(content, bytes):
            sys.stdout.buffer.write(content)
        else:
            print(content)
        return None
    path = output or found.folder / f"report.{format}"
    if path.is_dir():
        raise UserError("is a folder; a file name is needed", file=path, field="--output")
    if isinstance(content, bytes):
        store.write_bytes(path, content)
    else:
        store.write_text(path, content)
    return path
