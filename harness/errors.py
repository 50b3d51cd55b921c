"""What can go wrong, said to the person who can mend it.

Every error that a user can cause is a `UserError`: one sentence with what was wrong, where
(file, line, field) and what would be right. The command line prints it without a traceback
and exits with code 2.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any


class BreakevenError(Exception):
    """Base of all errors that Breakeven raises on purpose."""


class UserError(BreakevenError):
    """A mistake in what the user gave: a file, a key, a row, a name.

    Args:
        what: what is wrong, as a sentence without its full stop.
        file: the file it is in, if any.
        line: the 1-based line (or row) in that file.
        field: the key, column or option.
        hint: what would be right.
    """

    def __init__(
        self,
        what: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.file, self.line, self.field, self.hint = what, file, line, field, hint
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        where = []
        if self.file is not None:
            where.append(f"{self.file}:{self.line}" if self.line is not None else str(self.file))
        elif self.line is not None:
            where.append(f"line {self.line}")
        if self.field is not None:
            where.append(f"field '{self.field}'")
        prefix = f"{', '.join(where)}: " if where else ""
        text = f"{prefix}{self.what.rstrip('.')}" + (f"; {self.hint.rstrip('.')}" if self.hint else "")
        return text if text.endswith(("?", "!")) else text + "."


class DiskError(UserError):
    """The disk is full or cannot be written: nothing that follows could be kept, so the run ends."""


class NotApplicable(BreakevenError):
    """A strategy does not fit this task or model; carries the reason. Not a failure."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Pending(BreakevenError):
    """`fit` started something that takes hours elsewhere; call again after `check_after`.

    Args:
        state: JSON-serialisable state, handed back through `Services.pending_state`.
        check_after: earliest sensible time to look again (timezone-aware).
    """

    def __init__(self, state: dict[str, Any], check_after: datetime) -> None:
        self.state, self.check_after = state, check_after
        super().__init__(f"pending until {check_after.isoformat(timespec='minutes')}")


class SpendingLimitReached(BreakevenError):
    """The next request could cross the run's spending limit; nothing of it was sent."""


class OutOfMemory(BreakevenError):
    """A batch did not fit into memory; the caller may try again with half of it."""
