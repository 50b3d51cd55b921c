"""The run folder on disk: atomic writes, append-only journals, one writer at a time.

A file is either absent, or whole: everything is written beside its place and renamed. Only journals grow
in place; a torn last line (the process was killed while writing) is ignored when read.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from breakeven.harness.contracts import ArtifactBuild
from breakeven.harness.energy import EnergyMeter
from breakeven.harness.errors import DiskError, UserError
from breakeven.harness.ledger import Entry, Ledger


def digest(value: Any) -> str:
    """16 hex digits of the SHA-256 of a JSON value (keys sorted): the address of a specification."""
    return hashlib.sha256(dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def dumps(value: Any, **options: Any) -> str:
    """JSON that UTF-8 can hold: readable, but with lone surrogates (broken emoji) escaped."""
    text = json.dumps(value, ensure_ascii=False, default=_default, **options)
    if any("\ud800" <= c <= "\udfff" for c in text):
        return json.dumps(value, ensure_ascii=True, default=_default, **options)
    return text


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 file or nothing; a lone surrogate becomes "?". Raises DiskError."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or nothing. Raises DiskError when the disk is full or cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    write_text(path, dumps(value, indent=1) + "\n")


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    write_text(path, "".join(_line(row) for row in rows))


def read_json(path: Path, default: Any = None) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a whole JSONL file; none if it is absent."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def append_line(path: Path, value: Any) -> None:
    """Add one line to a journal and have it on disk before returning."""
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(_line(value))
        file.flush()
        os.fsync(file.fileno())


def read_journal(path: Path) -> list[Any]:
    """The whole lines of a journal. A torn last line is cut off, so that what follows starts afresh."""
    if not path.exists():
        return []
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end < len(data):
        with path.open("r+b") as file:
            file.truncate(end)
    return [json.loads(line) for line in data[:end].splitlines() if line.strip()]


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError("no space left on the disk", file=path, hint="free some and run again") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise DiskError(f"cannot be written: {error.strerror}", file=path) from error
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process. Raises UserError when another one works in it."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("another breakeven process is working in this run", file=folder) from None
        yield


class ArtifactStore:
    """Content-addressed folders of one run; billed in full to each cell that needs them.

    While `build` runs, whatever is booked on the cell's ledger (also by an embedder it calls) belongs to the
    artifact: it is stored with it, and booked again, marked with the artifact's address, for later cells.

    Args:
        meter: makes a meter of the machine's energy for each artifact that is built; for whoever builds
            outside of a cell, whose own meter would count it.
    """

    def __init__(
        self, root: Path, ledger: Ledger, meter: Callable[[], EnergyMeter | None] = lambda: None
    ) -> None:
        self._root, self._ledger, self._meter = root, ledger, meter
        self._built: set[str] = set()
        self.reused = (
            False  # whether an artifact was found that no meter of its cell or its own has seen made
        )

    def get(self, kind: str, spec: Mapping[str, Any], build: ArtifactBuild) -> Path:
        address = f"{kind}-{digest(spec)}"
        folder, partial = self._root / address, self._root / f"{address}.partial"
        if not folder.exists():
            with disk_errors(partial):
                partial.mkdir(parents=True, exist_ok=True)
                start, meter = len(self._ledger.entries), self._meter()
                build(partial, self._ledger)
                if meter is not None:
                    self._ledger.book("index", "joules", meter.joules(), source=meter.name)
                booked = self._ledger.entries[start:]
                del self._ledger.entries[start:]
            write_json(partial / "meta.json", {"kind": kind, "spec": spec})
            write_json(partial / "ledger.json", [e.to_json() for e in booked])
            partial.rename(folder)
            self._built.add(address)
        rows = read_json(folder / "ledger.json", [])
        metered = address in self._built or any(row["quantity"] == "joules" for row in rows)
        self.reused = self.reused or not metered
        for row in rows:
            self._ledger.entries.append(Entry.from_json({**row, "artifact": address}))
        return folder


def as_dict(value: Any) -> dict[str, Any]:
    """A dataclass as plain JSON."""
    result: dict[str, Any] = json.loads(dumps(value))
    return result


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _line(value: Any) -> str:
    return dumps(value) + "\n"


def _default(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):  # numpy scalar
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
