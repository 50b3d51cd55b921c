"""The third lever where somebody else tunes: one job for all cells that ask for the same model, booked as
billed.

What is sent and how a job is followed is left to the trainer; this finds the server, and keeps the result
as the artifact that an adapter would be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from breakeven.baselines._tuning import pairs_digest
from breakeven.harness.contracts import EngineSession, Json, ModelCard, Request, Services
from breakeven.harness.errors import DiskError, NotApplicable, UserError
from breakeven.harness.hosted import Endpoint, HostedModel, HostedTrainer, HostedTraining
from breakeven.harness.ledger import Ledger
from breakeven.harness.previews import TrainingOutlook
from breakeven.harness.prices import batch_name
from breakeven.harness.registry import source_hash
from breakeven.harness.store import digest, write_text
from breakeven.harness.training import TrainingPair


def endpoint_of(engine: EngineSession, trainer: str) -> Endpoint:
    """The server behind an engine. Raises NotApplicable when there is none."""
    find: Any = getattr(engine.raw, "endpoint", None)
    if find is None:
        card = engine.describe()
        raise NotApplicable(
            f"the trainer '{trainer}' tunes models behind a server; {card.name} runs behind the "
            f"{card.engine} engine"
        )
    endpoint: Endpoint = find()
    return replace(endpoint, count=lambda pair: pair.tokens(engine.count_tokens))


def tune(
    trainer: HostedTrainer,
    name: str,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    engine: EngineSession,
    services: Services,
) -> Path:
    """The folder with `hosted.json` and `training.json`. Raises what `HostedTrainer.tune` raises.

    A job that has failed in this run is not tried again for another cell: that would be paid as well.
    """
    endpoint, card = endpoint_of(engine, name), engine.describe()
    if endpoint.batch and trainer.hour:
        raise NotApplicable("a batch may take a day, and a deployment is billed all the while")
    check_prices(trainer, endpoint)
    spec = _spec(trainer, name, pairs, validation, endpoint, services.seed)
    if (before := endpoint.failed.get(digest(spec))) is not None:
        raise UserError(before.what, file=before.file, field=before.field, hint=before.hint)

    def build(folder: Path, ledger: Ledger) -> None:
        if not (folder / "training.json").exists():  # else a crash came after the job had ended
            result = trainer.tune(endpoint, pairs, validation, folder, services.seed, services.progress)
            write_text(folder / "training.json", json.dumps(asdict(result), indent=1))
        row = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        _book(HostedTraining(**row), card, ledger)

    try:
        folder = services.artifacts.get("hosted", spec, build)
    except DiskError:
        raise
    except UserError as error:
        endpoint.failed[digest(spec)] = error
        raise
    _as_set_now(folder, trainer, endpoint)
    return folder


def _as_set_now(folder: Path, trainer: HostedTrainer, endpoint: Endpoint) -> None:
    """What is not of the training (the price of the tokens, where it is deployed) is as the settings say
    now, not as they said when it was trained."""
    held = HostedModel.read(folder)
    deployment = trainer.deployed(held.deployment["name"], held.model) if held.deployment else None
    made = replace(held, price_as=trainer.tuned_price(endpoint), deployment=deployment)
    if made != held:
        made.write(folder)


def foresee(
    trainer: HostedTrainer,
    name: str,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    engine: EngineSession,
    services: Services,
) -> TrainingOutlook:
    """What `tune` would be billed for, counted by the engine's rule of thumb; nothing is sent."""
    endpoint = endpoint_of(engine, name)
    key = digest(_spec(trainer, name, pairs, validation, endpoint, services.seed))
    answers = tuple(engine.count_tokens(Request(p.id, text=p.answer)) for p in pairs)
    prompts = sum(engine.count_tokens(Request(p.id, p.messages)) for p in pairs)
    tokens = round((prompts + sum(answers)) * trainer.expected_epochs(len(pairs)))
    price = endpoint.training_price()
    return TrainingOutlook(
        key,
        tokens,
        answers,
        exact=False,
        billed=True,
        money=endpoint.training_money(tokens),
        unpriced=(*([f"training of {endpoint.price_as}"] if price is None else []), *trainer.uncounted),
        served_as=trainer.tuned_price(endpoint),
        hosting=trainer.hour,
        hosting_patience=getattr(trainer, "patience", 0.0),
    )


def check_prices(trainer: HostedTrainer, endpoint: Endpoint) -> None:
    """Raises UserError when training, deploying, or asking what comes out of it, has no price and may not go
    without. A limit on spending holds for nothing that has no price, so that the first two then need one."""
    limit = endpoint.guard.limit
    if endpoint.allow_unpriced and limit is None:
        return
    hint = "or set allow_unpriced: true and get unknown costs"
    if endpoint.allow_unpriced:
        hint = f"or leave limits.spend out: {limit:g} {endpoint.guard.currency} could not be kept to"
    if endpoint.training_price() is None:
        raise UserError(
            f"nobody knows what training '{endpoint.price_as}' costs",
            field="weights",
            hint=f"put '{endpoint.price_as}' under `training_tokens` of a price file, {hint}",
        )
    if trainer.hour and endpoint.book.hosting_hour(trainer.hour) is None:
        raise UserError(
            f"nobody knows what an hour of the deployment '{trainer.hour}' costs",
            field="weights.deployment.hour",
            hint=f"put '{trainer.hour}' under `hosting_hours` of a price file, {hint}",
        )
    if endpoint.allow_unpriced:
        return
    tuned = trainer.tuned_price(endpoint)
    tuned = batch_name(tuned) if endpoint.batch else tuned
    if endpoint.book.token_price(tuned) is None:
        raise UserError(
            f"nobody knows what asking the tuned '{endpoint.model}' will cost",
            field="weights.price_as",
            hint=f"put '{tuned}' under `tokens` of a price file, or set price_as to a model of the same "
            "price",
        )


def _spec(
    trainer: HostedTrainer,
    name: str,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    endpoint: Endpoint,
    seed: int,
) -> Mapping[str, Json]:
    """All that decides what a provider makes; no version of a package on this machine does."""
    return {
        "trainer": name,
        "source": source_hash(name),
        "settings": dict(trainer.settings),
        "seed": seed,
        "model": [endpoint.base_url, endpoint.model],
        "pairs": pairs_digest(pairs),
        "validation": pairs_digest(validation),
        **({"learned": "the last answer"} if _shows_answers([*pairs, *validation]) else {}),
    }


def _shows_answers(pairs: Sequence[TrainingPair]) -> bool:
    """Whether prompts hold answers. Earlier versions let providers learn those too: what they made then is
    not what is made now. Where there are none it is, and nothing is paid for again."""
    return any(m["role"] == "assistant" for pair in pairs for m in pair.messages)


def _book(result: HostedTraining, card: ModelCard, ledger: Ledger) -> None:
    book = partial(ledger.book, "train", model=card.name)
    book("training_tokens", result.training_tokens, source=f"trained_tokens of job {result.job}")
    book("seconds", result.seconds, source=f"job {result.job} at {result.host}, queue included")
    book("flops", None, source=f"spent at {result.host}")
