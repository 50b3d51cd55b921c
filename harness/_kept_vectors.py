"""Vectors of passages, kept between runs: when documents change, only new passages are embedded.

One SQLite file per embedding model (by the hash of its weights and settings) in the cache folder; a passage
is known by the hash of its text, which is not kept itself. A cache that cannot be read or written is no
error.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from breakeven.harness import models

if TYPE_CHECKING:
    import numpy as np

_TABLES = """
create table if not exists vectors (key blob primary key, tokens integer not null, vector blob not null);
create table if not exists speed (hardware text primary key, tokens integer not null, seconds real not null);
"""
#: Keys looked up in one statement; SQLite takes at most 999 in old versions.
_AT_ONCE = 900


@dataclass(frozen=True, slots=True)
class KeptVectors:
    """The vectors of one embedding model.

    Args:
        file: the SQLite file; made when something is first kept.
    """

    file: Path

    @classmethod
    def of(cls, digest: str) -> KeptVectors:
        return cls(models.cache_folder() / "vectors" / f"{digest[:32]}.sqlite")

    def find(self, keys: Sequence[bytes]) -> dict[bytes, tuple[np.ndarray, int]]:
        """(vector, tokens) of those keys that are known."""
        import numpy as np

        found: dict[bytes, tuple[np.ndarray, int]] = {}
        if not self.file.exists():
            return found
        with contextlib.suppress(sqlite3.Error), self._open() as opened:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                for key, tokens, vector in opened.execute(
                    f"select key, tokens, vector from vectors where key in ({marks})", some
                ):
                    found[key] = np.frombuffer(vector, dtype=np.float32), tokens
        return found

    def keep(self, rows: Iterable[tuple[bytes, int, np.ndarray]], seconds: float, hardware: str) -> None:
        """Add (key, tokens, vector) rows that took so long on this hardware to compute."""
        made = [(key, tokens, vector.tobytes()) for key, tokens, vector in rows]
        with contextlib.suppress(sqlite3.Error, OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as opened:
                opened.executemany("insert or replace into vectors values (?, ?, ?)", made)
                opened.execute(
                    "insert into speed values (?, ?, ?) on conflict (hardware) do update set "
                    "tokens = tokens + excluded.tokens, seconds = seconds + excluded.seconds",
                    (hardware, sum(tokens for _, tokens, _ in made), seconds),
                )

    def seconds_a_token(self, hardware: str) -> float | None:
        """As measured when the vectors were computed on this hardware; None where none were."""
        if not self.file.exists():
            return None
        with contextlib.suppress(sqlite3.Error), self._open() as opened:
            row = opened.execute(
                "select tokens, seconds from speed where hardware = ?", (hardware,)
            ).fetchone()
            return float(row[1]) / int(row[0]) if row and row[0] else None
        return None

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        opened = sqlite3.connect(self.file, timeout=30)
        try:
            with opened:  # one transaction
                opened.executescript(_TABLES)
                yield opened
        finally:
            opened.close()
