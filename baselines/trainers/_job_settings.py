"""Settings of hosted trainers: names, defaults, checks. Loads nothing heavy and asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from breakeven.harness.contracts import Json

#: Why documents cannot be sent to such a job; see `breakeven.harness.training.Trainer`.
REFUSES_TEXT = "a provider's job takes chats that end in an answer, and a document is none"
#: What decides where and when a job runs, and not what comes out of it.
_AROUND = frozenset(
    {"suffix", "wait", "check_minutes", "max_hours", "max_example_tokens", "keep_files", "price_as"}
)
_OWN = frozenset({"model", "training_file", "validation_file", "suffix", "seed", "method", "metadata"})


class JobSettings(BaseModel):
    """How a hosted job trains, and how long it is waited for.

    Attributes:
        model: what is tuned, where the engine asks by another name (a deployment's).
        epochs, batch_size, learning_rate_multiplier: numbers, or "auto": the provider chooses by the data.
        checkpoint: the "last" model, or the "best" of the job's checkpoints by validation loss.
        body: further fields of the job's creation, sent as they are.
        suffix: part of the tuned model's name; one of our own unless given.
        price_as: the price book's name for the tokens of the tuned model, where its own says nothing.
        wait: seconds to follow the job before other cells go on; `run --resume` looks again later.
        check_minutes: when to look again, where the provider does not say when it will be ready.
        max_hours: a job that is not ready by then is cancelled.
        max_example_tokens: what the provider takes of one example.
        keep_files: leave the uploaded examples with the provider; they are deleted when the job has ended.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    epochs: int | Literal["auto"] = "auto"
    batch_size: int | Literal["auto"] = "auto"
    learning_rate_multiplier: float | Literal["auto"] = "auto"
    checkpoint: Literal["last", "best"] = "last"
    body: dict[str, Any] = {}
    suffix: str = Field("", max_length=64)
    price_as: str = ""
    wait: float = Field(30.0, ge=0)
    check_minutes: float = Field(10.0, gt=0)
    max_hours: float = Field(72.0, gt=0)
    max_example_tokens: int = Field(65_536, ge=1)
    keep_files: bool = False

    @field_validator("epochs", "batch_size", "learning_rate_multiplier", mode="before")
    @classmethod
    def _above_zero(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, int | float) and value <= 0):
            raise ValueError(f"{value!r} is not auto or a number above 0")
        return value

    @field_validator("body")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(_OWN & value.keys()):
            raise ValueError(f"'{taken[0]}' is set by Breakeven itself; use body for other fields only")
        return value

    def what_matters(self) -> Mapping[str, Json]:
        """All settings that the tuned model depends on."""
        return {k: v for k, v in self.model_dump(mode="json").items() if k not in _AROUND}
