"""Weights that were tuned elsewhere: what is known of how, and how that is booked.

Nobody measured here what the training took. What the user states is booked as estimated with that source;
what nobody states is unknown, never nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.baselines._tuning import pairs_digest
from breakeven.harness.contracts import Json, ModelCard
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.training import TrainingPair

RECORD = "breakeven-import.json"
STATED = "stated by the user"


@dataclass(frozen=True, slots=True)
class ImportedTraining:
    """What is known of a training that was done elsewhere; None where nobody says. Names as `TrainingResult`.

    `hosted_model` is the id of a model that stays at a provider, "" where an adapter came back.
    """

    imported_from: str
    hosted_model: str
    steps: int | None
    epochs: float | None
    examples: int | None
    training_tokens: int | None
    seconds: float | None
    money: float | None
    currency: str
    hardware: str
    trainable_parameters: int | None
    settings: Mapping[str, Json]
    remarks: tuple[str, ...] = ()
    losses: tuple[tuple[int, float], ...] = ()
    validation_losses: tuple[tuple[int, float], ...] = ()
    truncated: int | None = None
    dropped: int | None = None
    peak_bytes: int | None = None
    lost_seconds: float = 0.0

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ImportedTraining:
        curves = {
            name: tuple((int(step), float(loss)) for step, loss in row.get(name, ()))
            for name in ("losses", "validation_losses")
        }
        return cls(**{**row, **curves, "remarks": tuple(row.get("remarks", ()))})

    def book(self, card: ModelCard, ledger: Ledger) -> None:
        """Into the ledger, phase `train`.

        Seconds on somebody else's machine are not booked: they would be priced as ours. They are shown with
        the training.
        """
        from breakeven.harness.flops import lora_training_flops

        tokens = self.training_tokens
        counted = "counted in the exported rows, over all epochs" if tokens is not None else "not known"

        def book(quantity: Any, value: float | None, source: str) -> None:
            status: Any = "estimated" if value is not None else None
            ledger.book("train", quantity, value, source=source, status=status, model=card.name)

        local = not self.hosted_model
        if local:
            book("training_tokens", tokens, counted)
        flops = None
        if local and None not in (tokens, self.examples, self.epochs, self.trainable_parameters):
            sequences = float(self.examples or 0) * float(self.epochs or 0)
            flops = lora_training_flops(
                card, float(tokens or 0), sequences, int(self.trainable_parameters or 0)
            )
        book("flops", flops, "4N + 12LTd + 6N_lora per token" if flops is not None else "trained elsewhere")
        book("money", self.money, STATED if self.money is not None else "nobody states what training cost")
        book("joules", None, "trained elsewhere")


def read_record(folder: Path) -> dict[str, Any]:
    """The record that `breakeven import-adapter` wrote. Raises UserError where there is none."""
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "nothing says what this adapter was trained on and what it cost",
            file=folder,
            field="weights.adapter",
            hint=f"breakeven import-adapter {folder}",
        ) from None
    except ValueError as error:
        raise UserError(f"not JSON: {error}", file=path) from error
    return record


def check_same(record: Mapping[str, Any], pairs: Sequence[TrainingPair], seed: int) -> tuple[str, ...]:
    """Remarks, if the weights may stand for a training on these pairs.

    Raises:
        NotApplicable: they were trained with another seed.
        UserError: they were trained on other rows than these, so perhaps on test examples.
    """
    export = record.get("export") or {}
    if not export:
        return (
            "nothing says which rows these weights were tuned on; they may have seen the test examples",
        )  # the import asked for this to be accepted
    if export["seed"] != seed:
        raise NotApplicable(f"imported: tuned elsewhere with seed {export['seed']}, not {seed}")
    if export["rows"]["pairs"] != pairs_digest(pairs):
        if record.get("unchecked"):
            return ("tuned on other rows than this strategy renders; they may hold test examples",)
        raise UserError(
            "these weights were tuned on other rows than this strategy renders now",
            field="weights",
            hint="the task, the split or the strategy changed since the export; export and train again",
        )
    left_out = export["rows"]["left_out"]
    return (f"{left_out} examples were too long and left out of the training",) if left_out else ()
