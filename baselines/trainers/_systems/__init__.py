"""What other fine-tuning systems want to be told: rows in their format, configuration in their words.

One module a system, each a set of pure functions (`System`): training pairs -> rows, a `Job` -> the text of
its files. Nothing here runs anything or imports the system; trainers that drive one, and `breakeven export`,
take both from here, so that what is exported is what would be trained.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

from breakeven.baselines.trainers._systems._job import Job as Job
from breakeven.baselines.trainers._systems._job import jsonl as jsonl
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

#: In the order of `breakeven export --help`.
SYSTEMS = ("axolotl", "llamafactory", "autotrain", "unsloth", "openai", "trl")


class System(Protocol):
    """What a module of this package offers.

    Attributes:
        TITLE: the system's name as its makers write it.
        VERSION: the version whose options these files use.
        INSTALL: how it is had on another machine.
    """

    TITLE: str
    VERSION: str
    INSTALL: str

    def rows(self, pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
        """One row a pair, in order, in the system's format. Raises UserError where it has no such row."""
        ...

    def files(self, job: Job) -> dict[str, str]:
        """Relative path -> text of the files that configure the training. Raises UserError, naming the
        setting, for one that the system does not have.
        """
        ...

    def command(self, job: Job) -> tuple[str, ...]:
        """What to run in the folder that holds the files."""
        ...

    def adapter(self, job: Job) -> str:
        """Where the adapter lies afterwards, relative to that folder; "" where it stays at a provider."""
        ...

    def remarks(self, job: Job) -> tuple[str, ...]:
        """In what the training differs from that of the in-process trainer, as sentences."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A system that needs something done to the model before it trains elsewhere."""

    def taken_along(self, model: str) -> tuple[str, tuple[str, ...], dict[str, str]]:
        """(what the configuration calls the model, the command that makes it from `model` in the export's
        folder, further files that this takes)."""
        ...


def no_text(title: str) -> str:
    """Why a system cannot train on plain text, as a sentence without its full stop."""
    return f"{title} is given chat messages, which it renders by itself, and a document is none"


def require_chats(pairs: Sequence[TrainingPair], title: str) -> None:
    """Raises UserError for pairs that are plain text: no system has rows for them here."""
    if any(pair.is_text for pair in pairs):
        raise UserError(
            no_text(title), field="weights.data", hint="train on documents with the trainer 'peft' or 'trl'"
        )


def system(name: str) -> System:
    """The module of a system. Raises UserError for a name that is none of `SYSTEMS`."""
    if name not in SYSTEMS:
        near = difflib.get_close_matches(name, SYSTEMS, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"one of {', '.join(SYSTEMS)}"
        raise UserError(f"there is no system called '{name}'", field="--to", hint=hint)
    return cast(System, importlib.import_module(f"{__name__}.{name}"))
