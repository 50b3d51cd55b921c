"""Models that somebody else tunes and serves: where that happens, and what is kept of it.

The counterpart of a PEFT adapter folder: an artifact with `hosted.json` names a model that a server holds. An
engine lends its `Endpoint` to a hosted trainer and applies a `HostedModel` as it would an adapter. No key is
ever in here, only the name of the variable that holds one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import httpx

from breakeven.harness import store
from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.prices import MILLION, Price, PriceBook
from breakeven.harness.spending import SpendGuard
from breakeven.harness.training import TrainingPair

FILE = "hosted.json"


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A tuned model at a server.

    Attributes:
        model: its id there ("ft:gpt-4o-mini-2024-07-18:org:suffix:id").
        base: what it was tuned from.
        base_url: the server that holds it; nothing else is asked for it.
        price_as: the price book's name for its tokens.
        deployment: settings of `breakeven.harness.deployments.Plan`, where it must be deployed to be asked.
    """

    model: str
    base: str
    base_url: str
    price_as: str
    deployment: Mapping[str, Any] | None = None

    def write(self, folder: Path) -> None:
        store.write_json(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> HostedModel:
        return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))

    @staticmethod
    def is_in(folder: Path) -> bool:
        return (folder / FILE).is_file()


def digest(folder: Path) -> str:
    """Hash of what a hosted model is: what resuming compares, as it does an adapter's weights."""
    model = HostedModel.read(folder)
    return hashlib.sha256(json.dumps([model.base_url, model.model]).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class HostedTraining:
    """What a hosted job says it did; None where it does not say. The names are those of `TrainingResult`.

    `training_tokens` are the provider's billable `trained_tokens`; `seconds` from its creation to its end,
    queue included. `remarks` are shown beside the row of the report.
    """

    job: str
    host: str
    model: str
    examples: int
    training_tokens: int | None
    seconds: float | None
    steps: int | None
    epochs: float | None
    losses: tuple[tuple[int, float], ...]
    validation_losses: tuple[tuple[int, float], ...]
    settings: Mapping[str, Json]
    remarks: tuple[str, ...] = ()
    truncated: int | None = None
    dropped: int | None = None
    trainable_parameters: int | None = None
    peak_bytes: int | None = None
    lost_seconds: float = 0.0


@dataclass(frozen=True)
class Endpoint:
    """A server that an engine asks, as a trainer sees it.

    Attributes:
        model: the name that the engine asks by.
        auth: signs requests with the key that the environment holds at that moment; None of it is kept.
        clean: takes everything that may be a key out of a server's own words.
        price_name: the price book's name of a model at this server.
        price_as: the price book's name of the engine's own model.
        check_host: raises UserError for a host that the suite does not allow.
        batch: whether the engine asks in its provider's batch mode.
        failed: trainings that have failed in this run, by address: another cell does not try them again.
        count: tokens of a training pair by the engine's rule of thumb, as an estimate counts them.
    """

    model: str
    base_url: str
    host: str
    api_key_env: str
    is_loopback: bool
    timeout: float
    auth: httpx.Auth
    clean: Callable[[str], str]
    check_key: Callable[[], None]
    price_name: Callable[[str], str]
    price_as: str
    book: PriceBook
    guard: SpendGuard
    allow_unpriced: bool
    check_host: Callable[[str, str], None] = field(default=lambda host, who: None)
    batch: bool = False
    failed: dict[str, UserError] = field(default_factory=dict)
    count: Callable[[TrainingPair], int] | None = None

    def training_price(self) -> Price | None:
        """Of a million training tokens; None where nobody says."""
        return self.book.training_tokens(self.price_as)

    def training_money(self, tokens: float) -> float | None:
        price = self.training_price()
        return None if price is None else tokens / MILLION * price.price


@runtime_checkable
class HostedTrainer(Protocol):
    """A trainer that sends training pairs elsewhere. Registered under `breakeven.trainers`, like the others.

    `tune` must be resumable, and must not pay twice: called again with the same folder it finds what it has
    uploaded and the job it has created, even where it was killed before it could note their ids. It may have
    `refuses_text`, as a `Trainer` may.

    Where what comes out must be deployed to be asked, it may have `patience`: the seconds until it serves, at
    most.
    """

    @property
    def settings(self) -> Mapping[str, Json]:
        """All that the tuned model depends on."""
        ...

    @property
    def uncounted(self) -> tuple[str, ...]:
        """What an estimate cannot count: the hours of a deployment."""
        ...

    @property
    def hour(self) -> str:
        """The price book's name for the hour of a deployment; "" where nothing must be deployed."""
        ...

    def deployed(self, name: str, model: str) -> Mapping[str, Any] | None:
        """Settings of the deployment of that name (`deployments.Plan`), where there must be one."""
        ...

    def tune(
        self,
        endpoint: Endpoint,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        seed: int,
        progress: Callable[[float, float, str], None],
    ) -> HostedTraining:
        """Writes `hosted.json` into `folder`. Raises Pending while the job runs, UserError when it failed."""
        ...

    def expected_epochs(self, examples: int) -> float:
        """Passes over the examples to count with before a job has said how many it will make."""
        ...

    def tuned_price(self, endpoint: Endpoint) -> str:
        """The price book's name for the tokens of what comes out."""
        ...
