"""Settings of the weights lever chosen on validation: what is tried, what wins, how it is booked and told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hosted_world
import pytest
from strategy_fakes import NotingTrainer, ScriptedSession, World, brief, examples
from tiny_suite import letters, tiny_model, write_suite

from breakeven.baselines import _search, _weights
from breakeven.baselines._predictor import LeversPredictor
from breakeven.baselines._settings import WeightSettings
from breakeven.baselines.levers import levers
from breakeven.baselines.trainers._divergence import Diverged
from breakeven.harness import progress, results, store, trials
from breakeven.harness import run as runs
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Completion, Input, Prediction, Request
from breakeven.harness.errors import NotApplicable, Pending, UserError
from breakeven.harness.estimate import Estimate, estimate
from breakeven.harness.families import labelled_examples
from breakeven.harness.predicted import predicted_against_actual
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import MetricInfo
from breakeven.harness.session import Session
from breakeven.harness.training import ExportTarget, TrainingResult
from breakeven.harness.trials import Search, Trial
from breakeven.reports._provenance import ledger_of_run
from breakeven.reports.html import html
from breakeven.reports.md import md

TRAIN = examples(("a ripe tomato", "red"), ("the summer sky", "blue"), ("an old rose", "red"))
VALIDATION = examples(
    ("a cherry", "red"), ("the ocean", "blue"), ("a ruby", "red"), ("ice", "blue"), prefix="v"
)
ACCURACY = MetricInfo("accuracy", (0.0, 1.0), True, True)


@dataclass
class Rated(NotingTrainer):
    """Writes what it was told into the adapter; its validation loss is 1 + lr, its tokens 10 an epoch."""

    beyond: float = 1e9  # learning rates from which it diverges
    losses: bool = True

    def train(self, *given: Any) -> TrainingResult:
        lr, epochs = self.settings.get("lr") or 0.5, self.settings.get("epochs", 1)
        if lr >= self.beyond:
            self.seen.append(([], [], lr))
            raise Diverged(f"training diverged with {lr}", field="lr")
        made = super().train(*given)
        folder: Path = given[3]
        (folder / "adapter_model.safetensors").write_text(json.dumps({"lr": lr, "epochs": epochs}))
        checked = ((2, 1.0 + lr),) if self.losses else ()
        return replace(
            made, training_tokens=10 * epochs, validation_losses=checked, validation_tokens=7,
            validation_seconds=0.25,
        )  # fmt: skip


@dataclass
class Learned(ScriptedSession):
    """Right on as many of the validation examples as `right` says of the adapter's learning rate."""

    right: Any = None

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        answers = {e.id: str(e.references[0]) for e in VALIDATION}
        known = json.loads((self.adapter / "adapter_model.safetensors").read_text()) if self.adapter else {}
        asked = sorted(requests, key=lambda r: r.id)
        good = {r.id for r in asked[: self.right.get(known.get("lr"), 0)]}
        self.script = lambda r: answers[r.id] if r.id in good else "neither"
        yield from super().complete(asked)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, Learned(right={0.1: 1, 0.2: 3, 0.3: 2}))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A trainer under every name; the list holds what it was given, call by call."""
    calls: list[Any] = []
    use(monkeypatch, calls)
    return calls


def use(monkeypatch: pytest.MonkeyPatch, seen: list[Any], **how: Any) -> None:
    monkeypatch.setattr(_weights, "find", lambda kind, name: lambda **s: Rated(s, seen, **how))


def share(predictions: Iterable[Prediction]) -> float:
    given = list(predictions)
    answers = {e.id: e.references[0] for e in VALIDATION}
    return sum(p.output == answers[p.id] for p in given) / len(given)


def fitted(world: World, found: dict[str, Any], task: Any = None, **services: Any) -> LeversPredictor:
    """A strategy that searches as said."""
    lent = world.services(**{"score": share, **services})
    return levers(weights={"search": found}).fit(task or brief(), TRAIN, VALIDATION, lent)


def record(predictor: LeversPredictor) -> Search:
    return Search.from_json(predictor.notes["search"])


LRS = {"settings": {"lr": [0.1, 0.2, 0.3]}}
TWO = {"settings": {"lr": [0.1, 1]}}

# --- what is tried ---------------------------------------------------------------------------


def test_every_combination_is_a_candidate_and_the_last_setting_changes_fastest() -> None:
    wanted = {"rank": 4, "search": {"settings": {"lr": [0.1, 0.2], "epochs": [1, 2]}}}
    found = _search.candidates(WeightSettings(**wanted))
    assert [c.apart for c in found] == [
        {"lr": lr, "epochs": epochs} for lr in (0.1, 0.2) for epochs in (1, 2)
    ]
    assert found[1].weights.settings == {"rank": 4, "lr": 0.1, "epochs": 2}


def test_values_that_are_searched_take_the_place_of_the_levers_own() -> None:
    found = _search.candidates(WeightSettings(epochs=3, search={"settings": {"epochs": [1, 2]}}))
    assert [c.weights.settings for c in found] == [{"epochs": 1}, {"epochs": 2}]


@pytest.mark.parametrize(
    ("weights", "field", "words"),
    [
        ({"search": {"settings": {"lr": [0.1, -1]}}}, "weights.search.settings.lr", "-1 is not a number"),
        ({"search": {"settings": {"lrr": [0.1, 1]}}}, "weights.search.settings.lrr", "unknown setting"),
        ({"search": {"settings": {"lr": [0.1]}}}, "weights.search", "one candidate"),
        ({"search": {"settings": {"lr": []}}}, "weights.search", "names no value"),
        ({"search": {"settings": {}}}, "weights.search.settings", "at least 1"),
        ({"search": {"settings": {"trainer": ["peft", "trl"]}}}, "weights.search", "no setting of a trainer"),
        ({"search": {"settings": {"lr": [0.1, 0.1]}}}, "weights.search.settings", "tried already"),
        ({"search": {**TWO, "by": "loss", "examples": 3}}, "weights.search", "are answered"),
        ({"search": {**TWO, "budget": 0}}, "weights.search.budget", "greater than"),
        (
            {"trainer": "openai", "search": {"settings": {"learning_rate_multiplier": [1, -2]}}},
            "weights.search.settings.learning_rate_multiplier",
            "above 0",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_told_before_anything_runs(weights: Any, field: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        levers(weights=weights)
    assert told.value.field == field


def test_without_validation_examples_there_is_nothing_to_choose_by(world: World, seen: list[Any]) -> None:
    with pytest.raises(NotApplicable, match="no validation examples"):
        levers(weights={"search": LRS}).fit(brief(), TRAIN, (), world.services(score=share))
    assert seen == []


def test_a_budget_leaves_out_what_no_longer_fits(world: World, seen: list[Any]) -> None:
    one = levers(weights={"epochs": 1}).preview(brief(), TRAIN, VALIDATION, world.services(), 9).training
    budget = one.training_tokens * 7 // 2  # room for 1 and 2 epochs, not for 1 and 3
    tried = record(fitted(world, {"settings": {"epochs": [1, 3, 2]}, "budget": budget}))
    assert [t.state for t in tried.trials] == ["tried", "left out", "tried"]
    assert len(seen) == 2


def test_a_budget_that_is_too_small_for_any_says_what_the_cheapest_takes(
    world: World, seen: list[Any]
) -> None:
    with pytest.raises(UserError, match="the cheapest takes"):
        fitted(world, {**LRS, "budget": 1})
    assert seen == []


# --- what wins -------------------------------------------------------------------------------


def test_the_best_score_on_validation_wins_and_serves(world: World, seen: list[Any]) -> None:
    predictor = fitted(world, LRS)
    assert record(predictor).winner.settings == {"lr": 0.2}
    assert [t.score for t in record(predictor).trials] == [0.25, 0.75, 0.5]
    adapter = predictor.adapter.folder / "adapter_model.safetensors"
    assert json.loads(adapter.read_text())["lr"] == 0.2


def test_the_lowest_score_wins_where_less_is_better(world: World, seen: list[Any]) -> None:
    predictor = fitted(world, LRS, brief(higher_is_better=False))
    assert record(predictor).winner.settings == {"lr": 0.1}


def test_equal_scores_are_decided_by_the_loss_and_then_by_the_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.engine.right = {0.1: 2, 0.2: 2, 0.3: 2}
    use(monkeypatch, [])
    backwards = {"settings": {"lr": [0.3, 0.2, 0.1]}}
    assert record(fitted(world, backwards)).winner.settings == {"lr": 0.1}
    use(monkeypatch, [], losses=False)
    other = World(world.folder / "other", world.engine)
    other.folder.mkdir()
    assert record(fitted(other, backwards)).winner.settings == {"lr": 0.3}


def test_by_loss_nothing_is_asked_and_the_trainers_reading_is_booked(world: World, seen: list[Any]) -> None:
    predictor = fitted(world, {**LRS, "by": "loss"}, score=None)
    assert record(predictor).winner.settings == {"lr": 0.1}
    assert world.engine.asked == []
    assert world.ledger.total("input_tokens", "search").value == 3 * 7
    assert world.ledger.total("seconds", "search").value == pytest.approx(3 * 0.25 + 2 * 1.5)


def test_by_loss_is_refused_where_the_trainer_reports_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    use(monkeypatch, seen, losses=False)
    with pytest.raises(UserError, match="reports no validation loss"):
        fitted(world, {**LRS, "by": "loss"})
    assert len(seen) == 1


def test_every_candidate_answers_the_same_few_examples(world: World, seen: list[Any]) -> None:
    fitted(world, {**LRS, "examples": 2})
    asked = [sorted(r.id for r in call) for call in world.engine.calls]
    assert len(asked) == 3
    assert len(asked[0]) == 2
    assert asked[0] == asked[1] == asked[2]


def test_a_candidate_that_diverges_loses_and_is_not_trained_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    use(monkeypatch, seen, beyond=0.3)
    first = record(fitted(world, LRS))
    assert [t.state for t in first.trials] == ["tried", "tried", "diverged"]
    assert len(seen) == 3
    again = record(fitted(world, LRS))  # a resumed run: adapters and what diverged are found
    assert len(seen) == 3
    assert again == first
    assert world.ledger.total("training_tokens", "search").value is None  # of it nobody knows how many


def test_nothing_is_chosen_where_every_candidate_diverges(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, [], beyond=0.0)
    with pytest.raises(UserError, match="every candidate diverged"):
        fitted(world, LRS)


# --- how it is booked ------------------------------------------------------------------------


def test_training_is_that_of_the_winner_and_all_else_is_search(world: World, seen: list[Any]) -> None:
    predictor = fitted(world, LRS)
    ledger = world.ledger
    assert ledger.total("training_tokens", "train").value == 10
    assert ledger.total("training_tokens", "search").value == 20
    assert {e.artifact for e in ledger.select("train")} == {predictor.adapter.folder.name}
    assert len({e.artifact for e in ledger.select("search")}) == 2


def test_each_adapter_is_the_one_that_was_asked_for_alone(world: World, seen: list[Any]) -> None:
    chosen = fitted(world, LRS).adapter
    plain = levers(weights={"lr": 0.2}).fit(brief(), TRAIN, VALIDATION, world.services())
    assert plain.adapter.folder == chosen.folder
    assert len(seen) == 3


def test_a_saved_search_is_loaded_with_its_adapter(world: World, seen: list[Any], tmp_path: Path) -> None:
    predictor = fitted(world, LRS)
    predictor.save(tmp_path / "saved")
    strategy = levers(weights={"search": LRS})
    loaded = strategy.load(tmp_path / "saved", brief(), world.services())
    assert loaded.adapter.folder.resolve() == predictor.adapter.folder.resolve()
    assert loaded.notes == predictor.notes


def test_all_jobs_are_started_before_any_is_waited_for(
    world: World, seen: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def tune(settings: WeightSettings, *rest: Any) -> Any:
        begun.append(settings.settings["lr"])
        later = datetime(2026, 11, 28, tzinfo=UTC) + timedelta(minutes=len(begun))
        raise Pending({"job": len(begun)}, later)

    monkeypatch.setattr(_search, "tune", tune)
    with pytest.raises(Pending) as waits:
        fitted(world, LRS)
    assert begun == [0.1, 0.2, 0.3]
    assert waits.value.state == {"trials": [{"job": 1}, {"job": 2}, {"job": 3}]}
    assert waits.value.check_after.minute == 3


def test_an_export_is_one_training_and_a_search_is_refused(world: World) -> None:
    strategy = levers(weights={"search": LRS})
    with pytest.raises(UserError, match="several trainings"):
        strategy.export(brief(), TRAIN, VALIDATION, world.services(), ExportTarget("trl"))


# --- what is said of it ----------------------------------------------------------------------


def told(search: Search) -> str:
    cell = _cell(search)
    return " | ".join(trials.sentences(_row(cell), ACCURACY))


def _cell(search: Search, seed: int = 0) -> Any:
    return type(
        "Cell", (), {"parts": (), "fit_notes": {"search": search.to_json()}, "seed": seed, "fold": None}
    )


def _row(*cells: Any) -> Any:
    return type("Row", (), {"cells": cells})


def searched(*scores: float | None, chosen: int = 0, **changes: Any) -> Search:
    made = tuple(
        Trial({"lr": lr}, "tried" if score is not None else "diverged", score=score)
        for lr, score in zip((0.001, 0.002, 0.003), scores, strict=False)
    )
    return Search(**{"by": "score", "metric": "accuracy", "examples": 100, "budget": None, "chosen": chosen,
                     "trials": made, **changes})  # fmt: skip


def test_the_choice_is_told_with_its_examples_and_that_it_is_optimistic() -> None:
    said = told(searched(0.5, 0.87, 0.6, chosen=1))
    assert said.startswith(
        "lr 0.002 chosen from 3 on 100 validation examples by accuracy; its accuracy 0.870"
    )
    assert "optimistic" in said
    assert "was tried" not in said  # no edge


def test_how_equals_were_told_apart_is_told() -> None:
    assert "of 3 equals by their order" in told(searched(0.5, 0.5, 0.5))
    made = [replace(t, loss=loss) for t, loss in zip(searched(0.5, 0.5, 0.1).trials, (2, 1, 3), strict=True)]
    assert "of 2 equals by validation loss" in told(searched(chosen=1, trials=tuple(made)))
    assert "equals" not in told(searched(0.5, 0.6, 0.5, chosen=1))


@pytest.mark.parametrize(("chosen", "edge"), [(0, "smallest"), (2, "largest")])
def test_a_winner_at_the_edge_of_what_was_tried_is_told(chosen: int, edge: str) -> None:
    assert f"is the {edge} that was tried" in told(searched(0.5, 0.5, 0.5, chosen=chosen))


def test_no_edge_is_told_where_what_lies_beyond_it_diverged() -> None:
    assert "largest" not in told(searched(0.5, 0.6, None, chosen=1))


def test_choices_of_several_seeds_are_told_together() -> None:
    row = _row(_cell(searched(0.9, 0.5, 0.6)), _cell(searched(0.5, 0.9, 0.6, chosen=1), seed=1))
    assert "lr 0.001 by seed 0; lr 0.002 by seed 1" in trials.sentences(row, ACCURACY)[0]


def test_another_note_of_that_name_is_no_search() -> None:
    for note in ("dense", {"by": "hand"}, {"trials": 3}):
        cell = type("Cell", (), {"parts": (), "fit_notes": {"search": note}, "seed": 0, "fold": None})
        assert trials.of_cell(cell) == []


# --- a whole run -----------------------------------------------------------------------------

SEARCH = {"settings": {"lr": [1e-4, 3e-2]}, "examples": 3}
STRATEGIES = {
    "zero-shot": {},
    "searched": {"weights": {"epochs": 2, "rank": 4, "search": SEARCH}},
    "alone": {"strategy": "levers", "weights": {"trainer": "peft", "epochs": 2, "rank": 4, "lr": 1e-4}},
    "rag+searched": {"context": {"k": 1}, "weights": {"epochs": 1, "rank": 4, "search": SEARCH}},
}
TIMING = {"examples": 1, "concurrency": 1}
STRATEGIES = {n: {"strategy": "levers", **s} for n, s in STRATEGIES.items()}


class Killed(BaseException):
    """Ends a run where it stands, as SIGKILL does."""


def start(suite: suites.Suite, folder: Path) -> None:
    from rich.console import Console

    shown = progress.PlainDisplay(Console(quiet=True))
    outcome = runs.start(suite, folder, runs.Options(), shown)
    assert outcome.exit_code == 0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def both(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Estimate, results.Results]:
    """An estimate of a suite with searches, and the run of it."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        letters(patch)
        suite = suites.load(write_suite(folder, model, strategies=STRATEGIES, timing=TIMING))
        foreseen = estimate(suite, seconds=1)
        start(suite, folder / "r")
    return foreseen, results.load(folder / "r")


def cell(run: results.Results, strategy: str) -> results.CellResult:
    return next(c for c in run.cells.values() if c.strategy == strategy)


def test_answers_to_validation_are_search_and_never_serving(
    both: tuple[Estimate, results.Results],
) -> None:
    for name in ("searched", "rag+searched"):
        found = cell(both[1], name)
        ((_, search),) = trials.of_cell(found)
        asked = sum(t.input_tokens for t in search.trials)
        assert asked > 0
        assert found.ledger.total("input_tokens", "search").value == asked
        assert found.ledger.total("input_tokens", "serve").value == sum(
            p.usage.input_tokens for p in found.predictions
        )
        assert found.ledger.total("seconds", "search").value > 0
    # the questions that are embedded: ten for training, three twice for the trials; six for serving
    rag = cell(both[1], "rag+searched").ledger
    assert rag.total("embedded_tokens", "search").value > 0
    text = [str(e.input["text"]) for e in both[1].tasks["weather"].test]
    assert rag.total("embedded_tokens", "serve").value == sum(len(t.split()) for t in text)


def test_a_training_shared_by_a_search_and_a_strategy_counts_once_in_the_run(
    both: tuple[Estimate, results.Results],
) -> None:
    run = both[1]
    made = sorted(
        p.name for p in (run.folder / "artifacts").glob("adapter-*") if not p.name.endswith("partial")
    )
    assert len(made) == 4  # two of each search; "alone" wants one that is there
    once = sum(
        row["amount"]["value"]
        for name in made
        for row in store.read_json(run.folder / "artifacts" / name / "ledger.json")
        if row["quantity"] == "training_tokens"
    )
    table = ledger_of_run(run)
    column = table.columns.index("training tokens")
    shown = [float(x.replace(" k", "")) for line in table.lines if (x := line.amounts[column])]
    assert sum(shown) == pytest.approx(once / 1000, abs=0.01)
    by_cell = [c.ledger.total("training_tokens", ("train", "search")).value for c in run.cells.values()]
    assert sum(by_cell) > once  # each strategy is billed in full


def test_a_search_is_part_of_the_one_off_cost_and_not_of_training_again(
    both: tuple[Estimate, results.Results],
) -> None:
    pricing, found = Pricing(both[1]), cell(both[1], "searched")
    whole, search, train = (pricing.one_off(found, *p).value for p in ((), (("search",),), (("train",),)))
    assert search > 0
    assert whole == pytest.approx(search + train)


def test_the_examples_that_decided_had_to_be_labelled(both: tuple[Estimate, results.Results]) -> None:
    rows = {r.strategy: r for r in both[1].tables["weather"]}
    assert labelled_examples(rows["searched"]) == labelled_examples(rows["alone"]) + 3


def test_the_estimate_counts_every_trial_and_what_it_answers(
    both: tuple[Estimate, results.Results],
) -> None:
    foreseen, run = both
    predicted = next(c for c in foreseen.cells if c.strategy == "searched")
    ((_, search),) = trials.of_cell(cell(run, "searched"))
    assert sum(t.tokens for t in predicted.trainings) == sum(t.training_tokens or 0 for t in search.trials)
    assert predicted.search_input_tokens == pytest.approx(sum(t.input_tokens for t in search.trials), rel=0.1)
    assert {f"adapter-{t.key}" for t in predicted.trainings} == {t.artifact for t in search.trials}
    assert foreseen.totals().trainings == 4
    rows = predicted_against_actual(foreseen, run)
    for row in rows:
        assert row.training_tokens[0] == row.training_tokens[1], row.strategy
    assert any("searches for its settings" in note for note in foreseen.notes)
    assert Estimate.from_json(json.loads(json.dumps(foreseen.to_json()))) == foreseen


def test_reports_show_every_candidate_and_that_trials_were_unequal(
    both: tuple[Estimate, results.Results],
) -> None:
    run = both[1]
    text = md(run)
    assert text.count("**chosen**") == 2
    assert "lr 0.0001" in text
    assert "optimistic" in text
    unequal = "unequal numbers of validation trials: searched and rag+searched had 2, zero-shot and alone 1"
    assert unequal in text.replace("\\", "").lower()
    page = html(run)
    assert "2 more in the search for settings" in page
    assert "Settings chosen on validation" in page
    rows = {r.strategy: r for r in run.tables["weather"]}
    assert any("unequal" in n for n in rows["searched"].notes)
    assert not any("unequal" in n for n in rows["alone"].notes)


def test_killed_while_a_candidate_is_judged_a_run_goes_on_without_asking_or_training_again(
    both: tuple[Estimate, results.Results], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from breakeven.harness.engines import local

    monkeypatch.chdir(tmp_path)
    letters(monkeypatch)
    suite = suites.load(write_suite(tmp_path, model, strategies={"searched": STRATEGIES["searched"]}))
    calls, asked = 0, Session.complete

    def dies(self: Session, requests: Iterable[Request]) -> Iterator[Completion]:
        nonlocal calls
        calls += 1
        for completion in asked(self, requests):
            if calls == 2:
                raise Killed
            yield completion

    with monkeypatch.context() as patch:
        patch.setattr(Session, "complete", dies)
        with pytest.raises(Killed):
            start(suite, tmp_path / "r")
    assert len(list((tmp_path / "r/artifacts").glob("adapter-*"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(local.LocalEngine, "tunable", lambda self: pytest.fail("it trains again"))
        shown = progress.PlainDisplay(Console(quiet=True))
        assert runs.resume(tmp_path / "r", runs.Options(), shown).exit_code == 0
    unbroken, resumed = cell(both[1], "searched"), cell(results.load(tmp_path / "r"), "searched")
    assert [p.output for p in resumed.predictions] == [p.output for p in unbroken.predictions]
    ((_, one),), ((_, other),) = trials.of_cell(unbroken), trials.of_cell(resumed)
    assert [(t.settings, t.score, t.loss, t.artifact) for t in one.trials] == [
        (t.settings, t.score, t.loss, t.artifact) for t in other.trials
    ]
    for phase in ("train", "search"):
        for quantity in ("training_tokens", "input_tokens", "output_tokens"):
            both_sums = [c.ledger.total(quantity, phase).value for c in (unbroken, resumed)]
            assert both_sums[0] == both_sums[1], (phase, quantity)


def test_asking_about_an_input_needs_no_search(world: World) -> None:
    strategy = levers(weights={"search": LRS})
    (request,) = strategy.requests(
        brief(), TRAIN, VALIDATION, world.services(), [Input("q", {"text": "a rose"})]
    )
    assert request.id == "q"


# --- at a provider ---------------------------------------------------------------------------


def test_jobs_of_a_search_run_side_by_side_and_every_trial_is_billed(
    tuning: Any, hosted: Path, breakeven: Any
) -> None:
    hold = threading.Event()
    server = tuning(hold=hold)
    found = {"settings": {"learning_rate_multiplier": [1, 2]}}
    weights = {"wait": 0, "epochs": 2, "search": found}
    path = hosted_world.suite(server, hosted, weights=weights)
    assert breakeven("run", path, "--name", "r", "--prices", "prices.yaml").code == 3
    assert len(server.jobs) == 2
    assert hosted_world.state(hosted)[0] == "pending"
    hold.set()
    server.run_job()
    server.run_job()
    said = breakeven("run", "--resume", hosted / "runs/r")
    assert said.code == 0, said.out + said.err
    assert len(server.jobs) == 2
    run = results.load(hosted / "runs/r", prices=hosted / "prices.yaml")
    tuned = cell(run, "tuned")
    ((_, search),) = trials.of_cell(tuned)
    assert len({t.model for t in search.trials}) == 2
    trained = sum(t.training_tokens or 0 for t in search.trials) * 1000.0
    asked = sum(t.input_tokens * 3.0 + t.output_tokens * 6.0 for t in search.trials)
    assert asked > 0
    assert Pricing(run).one_off(tuned).value == pytest.approx((trained + asked) / 1e6)
