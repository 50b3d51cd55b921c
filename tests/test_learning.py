"""Learning curves of a run: which strategies make one, which pairs are compared, and the words for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_fixture import write_run

from breakeven.harness import cases, evidence, learning, learning_words
from breakeven.harness.curves import Crossing, Overtaking
from breakeven.harness.evidence import text
from breakeven.harness.learning import Learning, Line, Meeting
from breakeven.harness.results import Results, load

TASK = "support_intents"
SIZES = (20, 40, 80, 160)


def run(folder: Path, **options: Any) -> Results:
    return load(write_run(folder, **{"tasks": [TASK], "failing": False, "train_sizes": SIZES, **options}))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("run")
    return run(folder, tasks=(TASK, "handbook_qa"), examples=100, economics={"value_per_correct": 0.01})


def learned(results: Results, task: str = TASK) -> Learning:
    found = learning.of_task(results, task)
    assert found is not None
    return found


def lines(results: Results, task: str = TASK) -> dict[str, Line]:
    return {line.label: line for line in learned(results, task).lines}


def said(results: Results, task: str = TASK) -> str:
    found = learned(results, task)
    made = learning_words.sentences(found, results.tasks[task].primary, results.economics)
    return "\n".join(text(s) for s in made)


# --- which curves ----------------------------------------------------------------------------


def test_a_strategy_run_at_several_sizes_is_a_curve_under_its_own_name(results: Results) -> None:
    line = lines(results)["lora"]
    assert line.kind == "curve"
    rows = [row for row in results.tables[TASK] if row.strategy == "lora"]
    assert [(p.size, p.mean, p.interval) for p in line.points] == [
        (row.train_size, row.quality, row.interval) for row in rows
    ]


def test_a_strategy_that_uses_no_rows_is_flat(results: Results) -> None:
    assert lines(results)["zero-shot"].kind == "flat"
    assert learned(results).sizes == SIZES


def test_a_strategy_left_with_one_size_is_not_taken_for_flat(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", tasks=[TASK], failing=False, train_sizes=SIZES)
    for file in folder.glob("cells/*--lora--*/status.json"):
        if "--n160" not in file.parent.name:
            file.write_text(json.dumps({"state": "failed", "reason": "out of memory"}))
    found = learned(load(folder))
    lora = next(line for line in found.lines if line.label == "lora")
    assert lora.kind == "lone"
    assert lora not in [line for m in found.meetings for line in (m.learner, m.other)]


def test_a_strategy_of_which_only_one_size_was_begun_is_not_taken_for_flat(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", tasks=[TASK], failing=False, train_sizes=SIZES)
    for file in folder.glob("cells/*--lora--*/cell.json"):
        if "--n20" not in file.parent.name:
            file.unlink()
    assert lines(load(folder))["lora"].kind == "lone"


def test_with_one_training_size_there_are_no_curves(tmp_path: Path) -> None:
    assert learning.of_task(run(tmp_path, train_sizes=(160,)), TASK) is None


def test_smaller_sizes_are_left_out_of_the_ranking_in_one_sentence(results: Results) -> None:
    case = cases.of_task(results, TASK)
    assert case is not None
    found = [text(s) for s in evidence.of_task(results, TASK, case).left_out]
    assert [s for s in found if "not ranked" in s] == [
        "Smaller training sizes (n=20, n=40 and n=80) are not ranked: each strategy is judged at its "
        "largest; they are in the learning curves."
    ]


# --- which pairs -----------------------------------------------------------------------------


def pairs(results: Results, task: str = TASK) -> dict[tuple[str, str], str]:
    return {(m.learner.label, m.other.label): m.picked for m in learned(results, task).meetings}


def test_the_best_tuned_meets_the_best_prompt_and_the_best_without_a_model(results: Results) -> None:
    assert pairs(results)["lora", "few-shot-similar"] == "examples"
    assert pairs(results)["lora", "logistic-regression"] == "examples"
    assert pairs(results)["logistic-regression", "few-shot-similar"] == "examples"


def test_tuned_and_untuned_are_a_pair_by_settings_whatever_their_scores(tmp_path: Path) -> None:
    for i, (tuned, untuned) in enumerate([(0.9, 0.1), (0.1, 0.9)]):
        quality = {"lora": {TASK: tuned}, "zero-shot": {TASK: untuned}}
        assert pairs(run(tmp_path / str(i), quality=quality))["lora", "zero-shot"] == "settings"


def test_retrieval_with_tuning_meets_the_same_retrieval_without(results: Results) -> None:
    found = pairs(results, "handbook_qa")
    assert found["rag+lora", "rag"] == "settings"
    assert found["lora", "zero-shot"] == "settings"
    assert ("lora", "rag") not in found


def test_the_only_ones_of_their_kind_were_not_picked(tmp_path: Path) -> None:
    found = run(tmp_path, strategies=("logistic-regression", "zero-shot"))
    assert pairs(found) == {("logistic-regression", "zero-shot"): "only"}


def test_a_pair_picked_on_these_examples_says_so(results: Results) -> None:
    for line in said(results).splitlines():
        if line.startswith("lora is ahead of few-shot-similar") or line.startswith("lora overtakes few-shot"):
            assert line.endswith("; each the best of its kind, picked on these examples.")
            return
    pytest.fail("lora and few-shot-similar are no pair")


def test_a_metric_that_is_no_mean_is_not_compared(results: Results) -> None:
    task = results.tasks[TASK]
    metrics = (replace(task.primary, additive=False), *task.metrics[1:])
    changed = replace(results, tasks={**results.tasks, TASK: replace(task, metrics=metrics)})
    vars(changed)["tables"] = results.tables
    found = learned(changed)
    assert (found.meetings, found.more) == ((), ())
    assert "accuracy is no mean over examples" in said(changed)


def test_scores_out_of_fold_widen_the_crossing(results: Results) -> None:
    task, found = results.tasks["handbook_qa"], learned(results, "handbook_qa")
    meeting = next(m for m in found.meetings if (m.learner.label, m.other.label) == ("rag+lora", "rag"))
    assert meeting.found is not None
    learner, other = (folded(line) for line in (meeting.learner, meeting.other))
    wider = learning._met(task, learner, other, "only").found
    assert wider is not None
    assert "out of fold" in wider.note
    assert wider.always + wider.never + wider.lost_again >= meeting.found.always + meeting.found.never


def folded(line: Line) -> Line:
    """The strategy as if its examples had been scored in five folds."""
    fold_of = tuple(1 + i % 5 for i in range(100))
    outside = dict.fromkeys(range(1, 6), 80)
    return replace(
        line,
        rows=tuple(
            replace(r, cells=tuple(replace(c, fold_of=fold_of, outside=outside) for c in r.cells))
            for r in line.rows
        ),
    )


# --- what more labels bring ------------------------------------------------------------------


def test_more_labels_are_worth_their_correct_answers_times_the_requests_of_the_horizon(
    results: Results,
) -> None:
    more = next(m for m in learned(results).more if m.line.label == "lora")
    assert more.gain is not None
    assert more.worth is not None
    each = 0.01 * 50_000 * 12
    assert more.worth == pytest.approx(
        (more.gain.expected * each, more.gain.interval.low * each, more.gain.interval.high * each)
    )
    assert (more.hours, more.cost) == (pytest.approx(200 * 0.5 / 60), pytest.approx(100.0))


def test_partly_right_answers_are_worth_what_counts_as_correct(results: Results) -> None:
    more = next(m for m in learned(results, "handbook_qa").more if m.line.label == "rag+lora")
    assert more.gain is not None
    assert more.worth is not None
    assert more.worth[0] != pytest.approx(more.gain.expected * 0.01 * 50_000 * 12, rel=1e-3)


@pytest.mark.parametrize(
    ("economics", "words"),
    [
        ({"value_per_correct": 10.0}, "$100 (assumed): it pays."),
        ({"value_per_correct": 0.00001}, "$100 (assumed): it does not pay."),
        ({}, "whether it pays needs the value of a correct answer."),
        (
            {"value_per_correct": 10.0, "people": {"label_minutes": 3, "hourly_rate": 30}},
            "against 10.0 hours of labelling, $300: it pays.",
        ),
    ],
)
def test_labels_are_weighed_against_the_hours_they_take(
    tmp_path: Path, economics: Mapping[str, Any], words: str
) -> None:
    found = run(tmp_path, strategies=("zero-shot", "lora"), examples=100, economics=economics)
    line = next(x for x in said(found).splitlines() if x.startswith("lora: 200 labelled examples more"))
    assert words in line


def test_what_lies_beyond_the_sizes_measured_is_marked(results: Results) -> None:
    assert "estimated by a power law, beyond the sizes measured" in said(results)


def test_two_sizes_are_too_few_to_say_what_more_would_bring(tmp_path: Path) -> None:
    found = run(tmp_path, strategies=("zero-shot", "lora"), train_sizes=(40, 160))
    assert (
        "What more labelled examples would bring lora cannot be said: it was measured at 2 training sizes, "
        "and 3 are needed."
    ) in said(found)


# --- words -----------------------------------------------------------------------------------

NEVER = Overtaking((25, 200), (), None, 200.0, None, 0.0, 0.9, 0.02, 0.01)


def crossed(*sizes: float, upward: bool = True) -> tuple[Crossing, ...]:
    return tuple(Crossing(size, upward == (i % 2 == 0)) for i, size in enumerate(sizes))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (NEVER, "a is ahead of b at no size measured, up to 200 labelled examples (so in 90 % of draws)"),
        (
            replace(NEVER, at=25.0, low=None, high=25.0, always=0.97, never=0.0),
            "a is ahead of b at every size measured, from 25 labelled examples on (so in 97 % of draws)",
        ),
        (
            replace(NEVER, crossings=crossed(63.4), at=63.4, low=40.2, high=110.7),
            "a overtakes b at about 63 labelled examples (95 %: 40 to 111)",
        ),
        (
            replace(NEVER, crossings=crossed(63.4), at=63.4, low=None, high=110.7),
            "a overtakes b at about 63 labelled examples (95 %: 111 or fewer)",
        ),
        (
            replace(NEVER, crossings=crossed(63.4), at=63.4, low=40.2, never=0.05, lost_again=0.01),
            "a overtakes b at about 63 labelled examples (95 %: 40 or more; in 6 % of draws not ahead at "
            "200)",
        ),
        (
            replace(NEVER, crossings=crossed(63.4), at=63.4, low=None, never=0.2),
            "a overtakes b at about 63 labelled examples (95 %: from 25 or fewer to beyond 200; in 22 % of "
            "draws not ahead at 200)",
        ),
        (
            replace(NEVER, crossings=crossed(30, 60, 120), at=120.0, low=90.0, high=180.0),
            "a and b cross at about 30, 60 and 120 labelled examples; from 120 on a is ahead (95 %: 90 "
            "to 180)",
        ),
        (
            replace(NEVER, crossings=crossed(30, 60)),
            "a is ahead of b from about 30 to about 60, and no longer at 200 labelled examples",
        ),
        (
            replace(NEVER, crossings=crossed(30, upward=False)),
            "a is ahead of b up to about 30, and no longer at 200 labelled examples",
        ),
        (
            replace(NEVER, crossings=crossed(63.4), at=63.4, low=40.2, high=110.7, several=0.12),
            "a overtakes b at about 63 labelled examples (95 %: 40 to 111); in 12 % of draws they cross more "
            "than once",
        ),
        (None, "a and b were measured at no training size in common"),
    ],
)
def test_every_way_of_crossing_has_its_words(found: Overtaking | None, words: str) -> None:
    a, b = Line("a", "tuned", "curve", ()), Line("b", "prompting", "flat", ())
    assert text(learning_words.overtaking(Meeting(a, b, "only", found))) == f"{words}."
