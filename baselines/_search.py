"""Settings of the weights lever chosen by validation examples: candidates trained, judged, one kept.

Each candidate is tuned as if it were asked for alone, so its adapter is an artifact like any other. What the
one that is kept took to train is training; all else is booked under `search`. What the run keeps of it is a
`harness.trials.Search`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from breakeven.baselines import _weights
from breakeven.baselines._settings import SearchSettings, WeightSettings
from breakeven.baselines._weights import Adapter, make_trainer, tune
from breakeven.baselines.trainers._divergence import Diverged
from breakeven.baselines.trainers.imported import Imported
from breakeven.harness.contracts import Brief, EngineSession, Example, Prediction, Services, take
from breakeven.harness.errors import NotApplicable, Pending, UserError
from breakeven.harness.hosted import HostedModel
from breakeven.harness.previews import TrainingOutlook
from breakeven.harness.store import digest, read_json, write_json
from breakeven.harness.training import TrainingPair, TrainingResult
from breakeven.harness.trials import Search, Trial, said

FIELD = "weights.search"
#: Asks the validation examples of a strategy that has this adapter.
Answer = Callable[[Adapter, Sequence[Example]], Iterable[Prediction]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What sets it apart from the others, and the whole of its settings, without a search."""

    apart: dict[str, object]
    weights: WeightSettings


def candidates(weights: WeightSettings) -> list[Candidate]:
    """Every combination of the settings that are searched, in the order written.

    Raises:
        UserError: naming the field, for what the trainer does not take, two candidates that are the same, and
            weights that are not trained here.
    """
    search = weights.search
    if search is None:
        return [Candidate({}, weights)]
    made: list[Candidate] = []
    seen: dict[str, str] = {}
    for values in product(*search.settings.values()):
        apart = dict(zip(search.settings, values, strict=True))
        whole = WeightSettings(**{**weights.model_dump(exclude={"search"}), **apart})
        trainer, filled = _checked(whole, apart)
        if isinstance(trainer, Imported):
            raise UserError("imported weights are not trained here: there is nothing to choose", field=FIELD)
        same = seen.setdefault(digest(dict(filled)), said(apart))
        if same != said(apart) or any(c.apart == apart for c in made):
            raise UserError(
                f"{said(apart)} is tried already{f', as {same}' if same != said(apart) else ''}",
                field=f"{FIELD}.settings",
                hint="name each value once",
            )
        made.append(Candidate(apart, whole))
    return made


def _checked(weights: WeightSettings, apart: dict[str, object]) -> tuple[object, dict[str, object]]:
    """The trainer of a candidate and its complete settings; errors name the field of the search."""
    try:
        trainer, filled = make_trainer(weights)
    except UserError as error:
        name = (error.field or "").removeprefix("weights.").split(".")[0]
        if name not in apart:
            raise
        raise UserError(error.what, field=f"{FIELD}.settings.{name}", hint=error.hint) from error
    return trainer, dict(filled)


def affordable(tokens: Sequence[int], budget: int | None) -> list[int]:
    """Positions of the candidates that are tried: in order, each that still fits into the budget.

    Args:
        tokens: training tokens of each.

    Raises:
        UserError: when none does.
    """
    if budget is None:
        return list(range(len(tokens)))
    kept, spent = [], 0
    for position, needed in enumerate(tokens):
        if spent + needed <= budget:
            kept.append(position)
            spent += needed
    if not kept:
        raise UserError(
            f"no candidate can be trained with {budget:,} tokens; the cheapest takes {min(tokens):,}",
            field=f"{FIELD}.budget",
            hint="raise it, or leave it out",
        )
    return kept


def foresee(
    weights: WeightSettings,
    pairs: Sequence[TrainingPair],
    checks: Sequence[TrainingPair],
    validation: int,
    engine: EngineSession,
    services: Services,
) -> tuple[TrainingOutlook, tuple[TrainingOutlook, ...], int]:
    """(outlook of the first candidate, those of the others, validation examples each answers).

    Args:
        validation: how many validation examples there are.

    Raises as `search` does for what is known before anything runs.
    """
    found = [_weights.foresee(c.weights, pairs, checks, engine, services) for c in candidates(weights)]
    if weights.search is None:
        return found[0], (), 0
    _require(validation)
    first, *others = (found[i] for i in affordable([o.training_tokens for o in found], weights.search.budget))
    return first, tuple(others), _judged_on(weights.search, validation)


def _judged_on(search: SearchSettings, validation: int) -> int:
    """Validation examples that each candidate answers."""
    if search.by == "loss":
        return 0
    return validation if search.examples is None else min(search.examples, validation)


def _require(validation: int) -> None:
    if not validation:
        raise NotApplicable("no validation examples to choose settings by (weights.search)")


@dataclass
class _Tried:
    """A trained candidate, and where its entries stand in the ledger."""

    adapter: Adapter
    entries: range


def search(
    weights: WeightSettings,
    pairs: Sequence[TrainingPair],
    checks: Sequence[TrainingPair],
    validation: Sequence[Example],
    brief: Brief,
    engine: EngineSession,
    services: Services,
    answer: Answer,
) -> tuple[Adapter, Search]:
    """The adapter of the best candidate, and what is known of all.

    Args:
        pairs, checks: rendered training and validation examples, the latter for the trainer's losses.
        validation: the same examples as `checks`, to be answered.
        answer: asks them of a strategy with a candidate's adapter; what that takes is booked under `search`.

    Raises:
        NotApplicable: without validation examples.
        Pending: while hosted jobs run; all are started before the first is waited for again.
        UserError: the budget is too small for any candidate, the trainer reports no loss to choose by, or all
            diverged; and what `tune` raises.
    """
    assert weights.search is not None
    wanted = weights.search
    _require(len(validation))
    found = candidates(weights)
    kept = list(range(len(found)))
    if wanted.budget is not None:
        outlooks = [_weights.foresee(c.weights, pairs, checks, engine, services) for c in found]
        kept = affordable([o.training_tokens for o in outlooks], wanted.budget)
    trials = [
        Trial(c.apart, "left out", reason="beyond the budget") if i not in kept else Trial(c.apart)
        for i, c in enumerate(found)
    ]
    tried: dict[int, _Tried] = {}
    waiting: list[Pending] = []
    for number, i in enumerate(kept, 1):
        start = len(services.ledger.entries)
        told = _telling(services, f"trial {number} of {len(kept)}")
        try:
            adapter = _tuned(found[i], pairs, checks, engine, told)
        except Pending as pending:
            waiting.append(pending)
            continue
        except Diverged as error:
            trials[i] = replace(trials[i], state="diverged", reason=error.what)
            continue
        tried[i] = _Tried(adapter, range(start, len(services.ledger.entries)))
        trials[i] = _trained(trials[i], adapter, engine)
        if wanted.by == "loss" and trials[i].loss is None:
            raise UserError(
                f"the trainer '{weights.trainer}' reports no validation loss",
                field=f"{FIELD}.by",
                hint="by: score asks the validation examples instead",
            )
    if waiting:
        states = [pending.state for pending in waiting]
        raise Pending({"trials": states}, max(pending.check_after for pending in waiting))
    if not tried:
        reasons = "; ".join(trials[i].reason for i in kept)
        raise UserError(f"every candidate diverged: {reasons}", field=f"{FIELD}.settings")
    examples = take(validation, _judged_on(wanted, len(validation)))
    for i, one in tried.items():
        if wanted.by == "score":
            trials[i] = _judged(trials[i], one.adapter, examples, services, answer)
        else:
            _book_reading(one.adapter, engine, services)
    chosen = min(tried, key=lambda i: _rank(trials[i], i, wanted.by, brief.higher_is_better))
    for i, one in tried.items():
        if i != chosen:
            _book_as_search(services, one.entries)
    judged_on = len(examples) if wanted.by == "score" else len(checks)
    record = Search(wanted.by, brief.primary, judged_on, wanted.budget, chosen, tuple(trials))
    return tried[chosen].adapter, record


def _rank(trial: Trial, position: int, by: str, higher_is_better: bool) -> tuple[float, float, int]:
    """The smaller the better: by score, of equals by loss, of equals the first."""
    loss = trial.loss if trial.loss is not None and not math.isnan(trial.loss) else math.inf
    if by == "loss":
        return loss, 0.0, position
    score = trial.score if trial.score is not None else math.nan
    return math.inf if math.isnan(score) else -score if higher_is_better else score, loss, position


# --- training --------------------------------------------------------------------------------


def _telling(services: Services, trial: str) -> Services:
    return replace(
        services, progress=lambda done, total, what: services.progress(done, total, f"{trial}: {what}")
    )


def _tuned(
    candidate: Candidate,
    pairs: Sequence[TrainingPair],
    checks: Sequence[TrainingPair],
    engine: EngineSession,
    services: Services,
) -> Adapter:
    """As `tune`. That a training diverged is written down, so that a resumed run does not repeat it.

    Raises Diverged also where an earlier attempt of the cell saw it; its wall seconds are booked as search.
    """
    file = _file_of(candidate, services)
    known = read_json(file)
    if known is None:
        start = time.perf_counter()
        try:
            return tune(candidate.weights, pairs, checks, engine, services)
        except Diverged as error:
            known = {"what": error.what, "seconds": time.perf_counter() - start}
            write_json(file, known)
    from breakeven.harness.hardware import name

    model, where = engine.describe().name, "a training that diverged"
    services.ledger.book(
        "search", "seconds", known["seconds"], source=f"wall time of {where}", model=model, hardware=name()
    )
    services.ledger.book("search", "training_tokens", None, source=where, model=model)
    raise Diverged(known["what"], field=FIELD)


def _file_of(candidate: Candidate, services: Services) -> Path:
    _, filled = make_trainer(candidate.weights)
    return services.scratch / f"diverged-{digest([candidate.weights.trainer, dict(filled)])}.json"


def _trained(trial: Trial, adapter: Adapter, engine: EngineSession) -> Trial:
    """With what is known of its training."""
    training = adapter.training
    hosted = HostedModel.is_in(adapter.folder)
    card = engine.adapt(adapter.folder).describe() if hosted else None
    losses = training.validation_losses
    return replace(
        trial,
        loss=losses[-1][1] if losses else None,
        training_tokens=training.training_tokens,
        training_seconds=training.seconds,
        lost_seconds=training.lost_seconds,
        artifact=adapter.folder.name,
        model=card.name if card is not None else "",
        price_as=(card.price_as or card.name) if card is not None else "",
    )


def _book_as_search(services: Services, entries: range) -> None:
    """What a training consumed that nobody will serve."""
    ledger = services.ledger.entries
    for n in entries:
        if ledger[n].phase == "train":
            ledger[n] = replace(ledger[n], phase="search")


# --- judging ---------------------------------------------------------------------------------


def _judged(
    trial: Trial, adapter: Adapter, examples: Sequence[Example], services: Services, answer: Answer
) -> Trial:
    """With its score, and what its answers took."""
    if services.score is None:
        raise NotApplicable("nothing judges answers to validation examples here")
    answers = list(answer(adapter, examples))
    usage = [prediction.usage for prediction in answers]
    return replace(
        trial,
        score=services.score(answers),
        input_tokens=sum(u.input_tokens for u in usage),
        output_tokens=sum(u.output_tokens for u in usage),
        answer_seconds=sum(prediction.seconds or 0.0 for prediction in answers),
    )


def _book_reading(adapter: Adapter, engine: EngineSession, services: Services) -> None:
    """The trainer's passes over validation examples, where they are what decides."""
    training = adapter.training
    if not isinstance(training, TrainingResult) or not training.validation_tokens:
        return
    from breakeven.harness.hardware import name

    source, model, artifact = "read while training", engine.describe().name, adapter.folder.name
    book = partial(services.ledger.book, "search", model=model, artifact=artifact)
    book("input_tokens", training.validation_tokens, source=f"validation examples {source}")
    seconds = training.validation_seconds
    book("seconds", seconds, source=f"wall time of validation examples {source}", hardware=name())
