"""What `breakeven estimate` says before anything runs, and what the run then takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_tiny as tiny
from openai_server import KEY, OpenAIServer
from strategy_fakes import World, brief, examples
from tiny_suite import letters, tiny_model, write_suite

from breakeven.baselines.levers import levers
from breakeven.baselines.trainers.peft import peft
from breakeven.harness import _forecast, _foresee, progress, results
from breakeven.harness import run as runs
from breakeven.harness import suite as suites
from breakeven.harness._savings import savings
from breakeven.harness.contracts import Completion, Document, Input, Request, Usage
from breakeven.harness.errors import NotApplicable, OutOfMemory, UserError
from breakeven.harness.estimate import CellEstimate, Estimate, Seconds, estimate
from breakeven.harness.predicted import predicted_against_actual
from breakeven.harness.previews import PreviewedTrainer, TrainingOutlook


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def both(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Estimate, results.Results]:
    """An estimate of the tiny suite, two seeds, and the run of it afterwards."""
    from rich.console import Console

    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        letters(patch)
        suite = suites.load(write_suite(folder, model, seeds=[0, 1]))
        foreseen = estimate(suite, seconds=60)
        outcome = runs.start(suite, folder / "r", runs.Options(), progress.PlainDisplay(Console(quiet=True)))
    assert outcome.exit_code == 0
    return foreseen, results.load(folder / "r")


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    letters(monkeypatch)
    return tmp_path


# --- beside the run --------------------------------------------------------------------------


def test_every_cell_of_the_run_is_in_the_estimate(both: tuple[Estimate, results.Results]) -> None:
    foreseen, run = both
    assert [c.id for c in foreseen.cells] == list(run.cells)
    assert {c.state for c in foreseen.cells} == {"runs"}


def test_tokens_read_and_trained_are_those_of_the_run(both: tuple[Estimate, results.Results]) -> None:
    foreseen, run = both
    for c in foreseen.cells:
        actual = run.cells[c.id]
        assert c.input_tokens == sum(p.usage.input_tokens for p in actual.predictions), c.id
        assert c.training_tokens == (actual.ledger.total("training_tokens", "train").value or 0), c.id


def test_an_untuned_model_asked_everything_beforehand_writes_as_many_tokens_in_the_run(
    both: tuple[Estimate, results.Results],
) -> None:
    foreseen, run = both
    asked = [c for c in foreseen.cells if c.output_from == "6 real answers" and c.seed in (None, 0)]
    assert {c.strategy for c in asked} == {"zero-shot", "few-shot", "few-shot-similar", "scored", "rag"}
    for c in asked:
        assert c.output_tokens == pytest.approx(
            sum(p.usage.output_tokens for p in run.cells[c.id].predictions)
        ), c.id


def test_a_tuned_model_is_expected_to_answer_as_it_was_taught(
    both: tuple[Estimate, results.Results],
) -> None:
    tuned = next(c for c in both[0].cells if c.strategy == "lora")
    assert tuned.output_from == "training answers"
    assert 3 <= tuned.output_tokens / tuned.examples <= 4  # "wet", "dry", "grey", a letter a token


def test_trainings_are_known_by_the_address_that_the_run_gives_them(
    both: tuple[Estimate, results.Results],
) -> None:
    foreseen, run = both
    keys = {f"adapter-{c.training_key}" for c in foreseen.cells if c.training_key}
    assert keys == {p.name for p in (run.folder / "artifacts").glob("adapter-*")}
    assert foreseen.totals().trainings == 4


def test_every_part_of_the_time_is_foreseen(both: tuple[Estimate, results.Results]) -> None:
    for c in both[0].cells:
        assert c.seconds is not None
        if c.model is not None:
            assert c.seconds.answering > 0
            assert c.seconds.timing > 0
        assert (c.seconds.training > 0) == (c.strategy in ("lora", "rag+lora"))
    assert both[0].loading_seconds > 0


def test_memory_is_that_of_the_cell_that_needs_most(both: tuple[Estimate, results.Results]) -> None:
    foreseen, run = both
    peaks = {c.strategy: c.peak_bytes for c in foreseen.cells}
    assert foreseen.peak_bytes == max(p for p in peaks.values() if p is not None)
    measured = max(c.training["peak_bytes"] for c in run.cells.values() if c.training)
    assert foreseen.peak_bytes == pytest.approx(measured, rel=0.5)  # most of it is Python itself
    assert peaks["majority"] is None


def test_predicted_stands_beside_actual_for_every_task_and_strategy(
    both: tuple[Estimate, results.Results],
) -> None:
    foreseen, run = both
    rows = predicted_against_actual(foreseen, run)
    assert len(rows) == len(run.suite["strategies"]) + 1
    by_name = {r.strategy: r for r in rows}
    assert by_name["few-shot"].cells == 2
    assert by_name["few-shot"].input_tokens[0] == by_name["few-shot"].input_tokens[1] > 0
    assert all(s is not None and s > 0 for r in rows if r.strategy != "majority" for s in r.seconds)


def test_the_whole_run_counts_a_shared_training_once(both: tuple[Estimate, results.Results]) -> None:
    foreseen, run = both
    twice = replace(foreseen, cells=tuple(c for c in foreseen.cells if c.strategy in ("lora", "rag+lora")))
    whole = predicted_against_actual(twice, run)[-1]
    assert whole.training_tokens[0] == whole.training_tokens[1]
    copied = replace(run, cells={**run.cells, "again": run.cells["weather--lora--s0"]})
    again = replace(twice, cells=(*twice.cells, replace(twice.cells[0], id="again")))
    assert predicted_against_actual(again, copied)[-1].training_tokens == whole.training_tokens


def test_the_seconds_of_a_resumed_run_are_not_compared(
    both: tuple[Estimate, results.Results], tmp_path: Path
) -> None:
    foreseen, run = both
    import shutil

    folder = shutil.copytree(run.folder, tmp_path / "r")
    status = folder / "cells" / "weather--rag" / "status.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "attempts": 2}))
    assert predicted_against_actual(foreseen, results.load(folder))[-1].seconds[1] is None


def test_training_memory_is_foretold_by_the_trainer_itself(model: Path) -> None:
    foreseen = outlook(batch_size=4)
    assert foreseen.held_bytes is not None
    held = foreseen.held_bytes()
    assert held is not None
    assert foreseen.trainable_parameters is not None
    assert held > 16 * foreseen.trainable_parameters
    more = outlook(batch_size=24).held_bytes
    assert more is not None
    assert (more() or 0) > held


def test_what_would_not_fit_is_said_with_what_would_help() -> None:
    from breakeven.harness.contracts import ModelCard
    from breakeven.harness.estimate import _too_large

    here = _forecast.Measured(ModelCard("m", "local", device="cpu"), room_bytes=5_000_000_000)
    lora = cell("lora", 0, key="x", peak_bytes=9_000_000_000)
    (said,) = _too_large([cell("zero-shot"), lora], {"default": here})
    assert "lora would hold up to 9.0 GB" in said
    assert "room for 5.0 GB" in said
    assert "tokens_per_pass" in said
    assert "stop the run" in said
    (said,) = _too_large([cell("long", peak_bytes=6_000_000_000)], {"default": here})
    assert said.endswith("set a lower batch_tokens")
    assert list(_too_large([cell("zero-shot")], {"default": here})) == []


def test_nothing_is_compared_with_a_run_of_other_cells(both: tuple[Estimate, results.Results]) -> None:
    foreseen, run = both
    assert predicted_against_actual(foreseen, replace(run, cells={})) == ()


def test_an_estimate_survives_its_file(both: tuple[Estimate, results.Results], tmp_path: Path) -> None:
    both[0].save(tmp_path / "e.json")
    assert Estimate.load(tmp_path / "e.json") == both[0]


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"suite": "s"}'])
def test_a_file_without_an_estimate_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "e.json").write_text(content)
    with pytest.raises(UserError, match=r"e\.json"):
        Estimate.load(tmp_path / "e.json")


# --- what cannot be known --------------------------------------------------------------------

OWN = """
class Own:
    varies_with = frozenset()

    def fit(self, brief, train, validation, services): ...

    def load(self, folder, brief, services): ...
"""


def test_a_strategy_that_says_nothing_beforehand_is_unknown_and_said_to_be(at: Path, model: Path) -> None:
    (at / "own.py").write_text(OWN)
    file = write_suite(at, model, strategies={"mine": {"strategy": "own.py:Own"}, "majority": {}})
    found = estimate(suites.load(file))
    assert found.cells[0].state == "unknown"
    assert found.totals().untimed == 1
    assert any("weather--mine" in note for note in found.notes)


def test_a_strategy_that_does_not_apply_takes_nothing_and_says_why(at: Path, model: Path) -> None:
    file = write_suite(at, model, strategies={"rag": {}, "majority": {}})
    (at / "weather.yaml").write_text(
        (at / "weather.yaml").read_text().replace("documents: pages.jsonl\n", "")
    )
    found = estimate(suites.load(file))
    assert found.cells[0].state == "not-applicable"
    assert found.totals().cells == 1
    assert any("no documents" in note for note in found.notes)


def test_of_many_test_examples_some_are_rendered_and_stand_for_all(
    at: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_foresee, "ALL_RENDERED", 5)
    monkeypatch.setattr(_foresee, "RENDERED", 3)
    file = write_suite(at, model, strategies={"zero-shot": {}})
    some = estimate(suites.load(file), seconds=1)
    assert some.cells[0].rendered == 3
    assert any("rendered for 3 of up to 6" in note for note in some.notes)
    monkeypatch.setattr(_foresee, "ALL_RENDERED", 6)
    all_of_them = estimate(suites.load(file), seconds=1)
    assert some.cells[0].input_tokens == pytest.approx(all_of_them.cells[0].input_tokens, rel=0.1)
    assert some.cells[0].input_tokens != all_of_them.cells[0].input_tokens


def test_a_machine_with_no_time_is_asked_three_answers_all_the_same(at: Path, model: Path) -> None:
    file = write_suite(at, model, strategies={"zero-shot": {}})
    assert [c.output_from for c in estimate(suites.load(file), seconds=0).cells] == ["3 real answers"]


def test_in_a_large_suite_further_seeds_are_taken_to_be_like_the_first(
    at: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_suite(at, model, strategies={"lora": {"weights": {"epochs": 1, "rank": 2}}}, seeds=[0, 1, 2])
    monkeypatch.setattr(_foresee, "ALL_SEEDS", 2)
    found = estimate(suites.load(file), seconds=1)
    assert len({c.training_tokens for c in found.cells}) == 1
    assert found.totals().trainings == 3


def test_only_and_limit_are_those_of_a_run(at: Path, model: Path) -> None:
    file = write_suite(at, model)
    found = estimate(suites.load(file), only=["zero*"], limit=2, seconds=1)
    assert [(c.id, c.examples) for c in found.cells] == [("weather--zero-shot", 2)]


@dataclass
class Cramped:
    """An engine with room for two rows at once."""

    asked: list[int] = field(default_factory=list)

    def plan(self, requests: Sequence[Request], concurrency: int | None = None) -> list[list[Request]]:
        return [list(requests)]

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        self.asked.append(len(requests))
        if len(requests) > 2:
            raise OutOfMemory("too many")
        yield from (Completion(r.id, "", "stop", Usage(3, 1), 0.1) for r in requests)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    engine: Any = Cramped()
    answered = list(_forecast._answered(engine, [Request(str(i)) for i in range(5)]))
    assert [c.id for _, _, said in answered for c in said] == list("01234")
    assert engine.asked == [5, 3, 2, 1, 2]


# --- models that others serve ----------------------------------------------------------------

PRICES = """tokens:
  hosted: {input: 1.0, output: 10.0, currency: USD, date: 2026-01-01, source: test}
"""


def hosted(at: Path, model: Path, server: OpenAIServer) -> suites.Suite:
    (at / "prices.yaml").write_text(PRICES)
    served = {"model": "any", "engine": "openai", "base_url": server.url, "price_as": "hosted"}
    return suites.load(write_suite(at, model, models={"api": served}, strategies={"zero-shot": {}}))


def test_a_hosted_model_is_not_asked_and_its_answers_count_at_their_longest(
    at: Path, model: Path, serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    found = estimate(hosted(at, model, server), prices=at / "prices.yaml")
    (cell,) = found.cells
    assert server.got == []
    assert cell.output_tokens == 6 * 6
    assert cell.token_money == pytest.approx((cell.input_tokens * 1 + cell.output_tokens * 10) / 1e6)
    assert cell.seconds is None
    assert found.totals().untimed == 1
    assert any("--ask-hosted" in note for note in found.notes)


def test_a_hosted_model_is_asked_a_few_requests_where_that_is_wanted(
    at: Path, model: Path, serve: Callable[..., OpenAIServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve()
    found = estimate(hosted(at, model, server), prices=at / "prices.yaml", ask_hosted=True)
    (cell,) = found.cells
    assert len(server.got) == 6
    assert cell.output_from == "6 real answers"
    assert cell.output_tokens < 6 * 6
    assert cell.seconds is not None
    assert found.totals().untimed == 0


# --- adding up, and cheaper plans ------------------------------------------------------------


def cell(
    strategy: str, seed: int | None = None, *, task: str = "t", key: str = "", **changes: Any
) -> CellEstimate:
    made = CellEstimate(
        f"{task}--{strategy}--s{seed}", task, strategy, "default", 10, seed, "runs",
        examples=40, rendered=40, input_tokens=1000.0, output_tokens=100.0,
        training_tokens=500.0 if key else 0.0, training_key=key,
        seconds=Seconds(1.0, 50.0 if key else 0.0, 20.0, 5.0), peak_bytes=1000,
    )  # fmt: skip
    return replace(made, **changes)


def whole(*cells: CellEstimate, hour: float | None = 3.6) -> Estimate:
    return Estimate("s", "", "", "cpu", hour, "USD", cells, starting_seconds=2.0, loading_seconds=3.0)


def suite_of(**changes: Any) -> suites.Suite:
    data = {"suite": "s", "tasks": ["t"], "strategies": {"a": {}, "b": {}}, "reference": "a", **changes}
    return suites.Suite.model_validate(data)


def test_a_training_that_cells_share_is_paid_once() -> None:
    made = whole(cell("a", 0, key="x"), cell("b", 0, key="x"), cell("c", 0, key="y"))
    total = made.totals()
    assert total.trainings == 2
    assert total.training_tokens == 1000
    assert total.seconds == 2.0 + 3.0 + 3 * 26 + 2 * 50
    assert total.money == pytest.approx(total.seconds * 0.001)


def test_money_is_unknown_as_soon_as_something_has_no_price() -> None:
    assert whole(cell("a"), cell("b", token_money=None)).totals().money is None
    assert whole(cell("a"), hour=None).totals().money is None


def test_billed_tokens_and_own_seconds_add_up() -> None:
    api = cell("b", token_money=2.0, seconds=None)
    assert whole(cell("a"), api).totals().money == pytest.approx(2.0 + (5 + 26) * 0.001)


def test_cheaper_plans_come_in_the_order_of_what_they_save() -> None:
    made = whole(
        cell("a"), cell("b", 0, key="x"), cell("b", 1, key="y"), cell("c", 0, key="x"), cell("c", 1, key="y")
    )
    found = {s.what: s for s in savings(made, suite_of(seeds=[0, 1], strategies={"a": {}, "b": {}, "c": {}}))}
    saved = [s.seconds for s in found.values()]
    assert saved == sorted(saved, reverse=True)
    assert set(found) == {
        "one seed instead of 2", "at most 20 test examples per task", "without b", "without c",
    }  # fmt: skip
    assert found["one seed instead of 2"].seconds == 2 * 26 + 50
    assert found["one seed instead of 2"].change == "--set 'seeds=[0]'"
    assert found["without b"].seconds == 2 * 26  # c needs the same trainings
    assert found["at most 20 test examples per task"].seconds == 5 * 10


def test_the_change_that_a_cheaper_plan_names_gives_what_it_says(at: Path, model: Path) -> None:
    strategies = {"zero-shot": {}, "few-shot": {"demonstrations": {"k": 2}}}
    file = write_suite(at, model, strategies=strategies, seeds=[0, 1, 2], train_sizes=[4, "all"])
    made = estimate(suites.load(file), seconds=1)
    for saving in made.savings:
        if saving.change.startswith("--set "):
            again = suites.load(file, [saving.change.removeprefix("--set ").strip("'")])
            left = estimate(again, seconds=1)
            assert made.totals().tokens - left.totals().tokens == pytest.approx(saving.tokens, rel=0.3)


def test_dropping_tasks_models_and_training_sizes_is_weighed_too() -> None:
    made = whole(
        cell("a"), cell("a", task="u"), cell("a", model="other", id="o"), cell("a", train_size=5, id="small")
    )
    suite = suite_of(tasks=["t", "u"], train_sizes=[5, "all"])
    named = {s.what for s in savings(made, suite)}
    assert {"without the task t", "without the model other", "the largest training set only"} <= named


# --- previews --------------------------------------------------------------------------------

TRAIN = examples(
    ("a ripe tomato", "red"), ("the summer sky", "blue"), ("an old rose", "red"), ("the deep sea", "blue"),
    ("fresh blood", "red"), ("a sapphire ring", "blue"),
)  # fmt: skip
ASKED = [Input("q1", {"text": "the winter sky"}), Input("q2", {"text": "a red rose"})]
PAGES = (Document("sky", "the winter sky is blue"), Document("rose", "an old rose is red"))
SETTINGS: list[dict[str, Any]] = [
    {},
    {"demonstrations": {"k": 2, "select": "random"}},
    {"demonstrations": {"k": 2, "select": "similar"}},
    {"context": {"k": 1}, "demonstrations": {"k": 1}},
    {"answer": "choices"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_preview_asks_what_serving_asks(tmp_path: Path, settings: dict[str, Any]) -> None:
    world, task = World(tmp_path), brief(documents=PAGES)
    preview = levers(**settings).preview(task, TRAIN, (), world.services(seed=3), 100)
    foreseen = list(preview.requests(ASKED))
    assert world.engine is not None
    assert world.engine.asked == []
    world.engine.script = lambda request: [0.0, -1.0] if request.choices else "red"
    list(levers(**settings).fit(task, TRAIN, (), world.services(seed=3)).predict(ASKED))
    assert foreseen == world.engine.asked


def test_a_preview_of_many_documents_and_examples_looks_at_some(tmp_path: Path) -> None:
    world, task = World(tmp_path), brief(documents=PAGES * 10)
    preview = levers(context={"k": 1}).preview(task, TRAIN, (), world.services(), 4)
    assert preview.scale == 5
    similar = levers(demonstrations={"k": 1, "select": "similar"})
    assert similar.preview(task, TRAIN, (), world.services(), 3).scale == 2
    assert levers().preview(task, TRAIN, (), world.services(), 3).scale == 1


def test_a_preview_does_not_apply_where_fitting_does_not(tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="no documents"):
        levers(context={"k": 1}).preview(brief(), TRAIN, (), World(tmp_path).services(), 10)


# --- training --------------------------------------------------------------------------------


def outlook(**settings: Any) -> TrainingOutlook:
    trainer = peft(**{"rank": 4, "lr": 3e-2, "epochs": 4, **settings})
    assert isinstance(trainer, PreviewedTrainer)
    return trainer.outlook(tiny.tunable(), tiny.pairs(), tiny.pairs(5), 0, {})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"epochs": 1.5},
        {"max_tokens_total": 300},
        {"max_length": 12},
        {"batch_size": 3, "rank": 7},
        {"targets": ["q_proj", "down_proj"]},
        {"tokens_per_pass": 40},
    ],
    ids=str,
)
def test_a_training_is_counted_beforehand_as_afterwards(tmp_path: Path, settings: dict[str, Any]) -> None:
    foreseen = outlook(**settings)
    trained = tiny.train(tmp_path / "a", validation=tiny.pairs(5), **settings)
    assert foreseen.training_tokens == trained.training_tokens
    assert foreseen.trainable_parameters == trained.trainable_parameters
    assert foreseen.work is not None
    assert foreseen.work.count == trained.steps
    assert foreseen.validating is not None
    last_tokens = 5 * len(trained.validation_losses)  # which predict nothing, and are not read
    assert foreseen.validating.padded >= trained.validation_tokens - last_tokens > 0


def test_work_is_every_token_that_predicts_one_and_nothing_padded_in_one_row() -> None:
    found = outlook(batch_size=24)
    assert found.work is not None
    assert found.work.padded == found.training_tokens - 4 * 24  # four epochs, the last token of each example
    assert found.pass_tokens <= 2048
    assert outlook(tokens_per_pass=40).pass_tokens <= 40


def test_a_sample_of_training_leaves_an_adapter_and_the_model_as_it_was(tmp_path: Path) -> None:
    base = tiny.model()
    before = {name: p.clone() for name, p in base.named_parameters()}
    trainer = peft(rank=4, epochs=2)
    assert isinstance(trainer, PreviewedTrainer)
    found = trainer.outlook(tiny.tunable(base), tiny.pairs(), tiny.pairs(4), 0, {})
    assert found.sample is not None
    made = found.sample(tmp_path, 0.0)
    assert len(made.steps) == 1
    assert made.steps[0].seconds > 0
    assert made.validating is not None
    assert (tmp_path / "adapter_model.safetensors").is_file()
    after = dict(base.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], p) for name, p in before.items())


# --- on the command line ---------------------------------------------------------------------


def test_the_command_prints_a_line_for_each_strategy_and_saves_what_it_says(
    at: Path, model: Path, breakeven: Callable[..., Any]
) -> None:
    write_suite(at, model, strategies={"zero-shot": {}, "lora": {"weights": {"epochs": 1, "rank": 2}}})
    said = breakeven("estimate", "tiny.yaml", "--seconds", "1", "--save", "e.json", "--set", "seeds=[0, 1]")
    assert said.code == 0
    rows = {line.split()[0]: line.split() for line in said.out.splitlines() if line.strip()}
    saved = Estimate.load(at / "e.json")
    assert rows["lora"][1:3] == ["2", "2"]
    assert rows["all"][1] == "3"
    assert rows["lora"][5] == f"{sum(c.training_tokens for c in saved.cells):,.0f}"
    assert "one seed instead of 2: saves" in said.out
    assert "memory: about" in said.out
    assert sorted(p.name for p in at.iterdir() if p.is_dir()) == []  # nothing was run


def test_a_mistake_is_told_before_anything_is_tried(
    at: Path, model: Path, breakeven: Callable[..., Any]
) -> None:
    write_suite(at, model)
    said = breakeven("estimate", "tiny.yaml", "--only", "nothing*")
    assert said.code == 2
    assert "no strategy or cell matches" in said.err
    assert breakeven("estimate", "tiny.yaml", "--prices", "none.yaml").code == 2
