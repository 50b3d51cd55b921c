"""Rows scored out of fold: the cut, the run, the cell its folds become, and how sure it is."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from breakeven.harness import folds, results, splits
from breakeven.harness import suite as suites
from breakeven.harness._variance import satterthwaite
from breakeven.harness.contracts import Example, Task
from breakeven.harness.crossfit import Folds, variance_inflation, variance_parts
from breakeven.harness.errors import UserError
from breakeven.reports import _provenance

WORDS = ["river", "stone", "lamp", "winter", "paper", "engine", "coffee", "tower", "garden", "mirror"]


def sentence(seed: object) -> str:
    draw = random.Random(str(seed))
    return " ".join(draw.choice(WORDS) + str(draw.randrange(10_000)) for _ in range(8))


def made(n: int, labels: int = 4, **fixed: Any) -> list[Example]:
    return [Example(f"e{i}", {"text": sentence(i)}, (f"label{i % labels}",), **fixed) for i in range(n)]


def ids(examples: tuple[Example, ...]) -> set[str]:
    return {e.id for e in examples}


def task(examples: list[Example], train: int, validation: int, **changes: Any) -> Task:
    parts = (examples[:train], examples[train : train + validation], examples[train + validation :])
    return Task("t", "", "{{ text }}", *(tuple(p) for p in parts), (), **changes)


# --- the cut ---------------------------------------------------------------------------------


def test_every_row_is_scored_once_and_fitted_on_everywhere_else() -> None:
    found = folds.fold_cut(made(53), 5).folds
    assert sorted(e.id for f in found for e in f.test) == sorted(e.id for e in made(53))
    assert all(ids(f.train) == {e.id for e in made(53)} - ids(f.test) for f in found)
    assert sorted(len(f.test) for f in found) == [10, 10, 11, 11, 11]


def test_each_fold_has_its_share_of_every_choice() -> None:
    uneven = [replace(e, references=("rare" if i % 10 == 0 else "common",)) for i, e in enumerate(made(100))]
    for fold in folds.fold_cut(uneven, 5, stratify=True).folds:
        assert Counter(e.references[0] for e in fold.test) == {"common": 18, "rare": 2}


def test_no_group_is_divided_between_a_fold_and_what_its_fit_sees() -> None:
    grouped = [replace(e, group=f"g{i % 17}") for i, e in enumerate(made(90))]
    for fold in folds.fold_cut(grouped, 4, validation=0.2).folds:
        assert not {e.group for e in fold.test} & {e.group for e in (*fold.train, *fold.validation)}
        assert not {e.group for e in fold.train} & {e.group for e in fold.validation}
        assert 18 <= len(fold.test) <= 27


def test_near_duplicates_are_in_one_fold() -> None:
    twice = [Example(f"{k}{i}", {"text": sentence(i) + k}, ("x",)) for i in range(30) for k in ("", "!")]
    found = folds.fold_cut(twice, 5, validation=0.1)
    assert found.clusters == 30
    for fold in found.folds:
        assert splits.leaks(fold.test, (*fold.train, *fold.validation)).to_json() == {"exact": 0, "near": 0}


def test_the_folds_are_the_same_whatever_the_order_of_the_rows() -> None:
    shuffled = made(60)
    random.Random(1).shuffle(shuffled)
    first, second = (folds.fold_cut(rows, 5, stratify=True) for rows in (made(60), shuffled))
    assert [ids(f.test) for f in first.folds] == [ids(f.test) for f in second.folds]


def test_a_fold_keeps_the_share_of_validation_that_the_task_had() -> None:
    found = folds.crossfitted(task(made(100), train=60, validation=20), 5)
    assert [(len(f.train), len(f.validation), len(f.test)) for f in found.folds] == [(60, 20, 20)] * 5
    assert found.sizes == {"train": 60, "validation": 20, "test": 100}
    none = folds.crossfitted(task(made(100), train=60, validation=0), 5)
    assert all(not f.validation for f in none.folds)


def test_validation_is_not_lost_where_every_group_is_larger_than_its_share() -> None:
    grouped = [replace(e, group=f"g{i % 6}") for i, e in enumerate(made(60))]
    found = folds.crossfitted(task(grouped, train=50, validation=2), 3)
    assert [len(f.validation) for f in found.folds] == [10, 10, 10]


def test_the_task_in_folds_scores_all_rows_in_their_order_and_is_fitted_on_none() -> None:
    whole = folds.crossfitted(task(made(40), train=20, validation=4, choices=("label0", "label1")), 4)
    assert [e.id for e in whole.test] == [e.id for e in made(40)]
    assert whole.train == whole.validation == ()
    assert whole.choices == ("label0", "label1")


def test_a_cap_takes_as_many_rows_of_each_fold_and_no_training_rows_away() -> None:
    capped = [folds.crossfitted(task(made(50), train=30, validation=0), 5, n) for n in (3, 12, 30, 80)]
    assert [len(c.test) for c in capped] == [3, 12, 30, 50]
    assert [c.used for c in capped] == [(1, 2, 3), *[(1, 2, 3, 4, 5)] * 3]
    assert Counter(capped[1].fold_of.values()) == {1: 3, 2: 3, 3: 2, 4: 2, 5: 2}
    assert all(ids(a.test) < ids(b.test) for a, b in pairwise(capped))
    assert all(len(f.train) == 40 for c in capped for f in c.folds)


def test_more_folds_than_groups_are_refused() -> None:
    grouped = [replace(e, group=f"g{i % 3}") for i, e in enumerate(made(30))]
    with pytest.raises(UserError, match=r"5 folds need as many groups .* 30 examples make 3") as caught:
        folds.fold_cut(grouped, 5)
    assert caught.value.field == "evaluate.crossfit"


def test_a_fold_without_training_rows_is_refused() -> None:
    grouped = [replace(e, group=f"g{i % 2}") for i, e in enumerate(made(30))]
    with pytest.raises(UserError, match="left without training rows"):
        folds.fold_cut(grouped, 2, validation=0.5)


# --- runs ------------------------------------------------------------------------------------

ROWS = "".join(
    json.dumps({"text": f"{where} it was {sky}", "sky": sky, "place": where}) + "\n"
    for sky in ("wet", "dry", "grey")
    for where in ("On Monday", "In Leeds", "By the sea", "Up on the moor", "In May", "As ever", "At noon")
)
TASK = """name: weather
instructions: Say what the weather was.
input_template: "{{ text }}"
data: rows.jsonl
columns: {input: text, reference: sky}
choices: from data
metrics: [accuracy, macro_f1]
sizes: {train: 9, validation: 3, test: 9}
"""
STRATEGIES = '''
"""Strategies that note what they were fitted on, and some that break."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from breakeven.harness.contracts import Prediction
from breakeven.harness.errors import Pending


class Blind:
    """Answers the last word, needs no rows."""

    varies_with = frozenset()
    seen = ()

    def fit(self, brief, train, validation, services):
        self.seen = [e.id for e in train], [e.id for e in validation]
        return self

    def load(self, folder, brief, services):
        self.seen = json.loads((folder / "seen.json").read_text())
        self.ledger = services.ledger
        return self

    def save(self, folder):
        (folder / "seen.json").write_text(json.dumps(self.seen))

    def predict(self, inputs):
        for x in inputs:
            assert not any(x.id in part for part in self.seen), "a row was fitted on and asked"
            self.ledger.book("serve", "input_tokens", 2, source="counted")
            yield Prediction(x.id, self.said(x), finish_reason="stop")

    def said(self, x):
        return str(x.fields["text"]).split()[-1]


class Learner(Blind):
    """Mistakes a third of what it says for wet."""

    varies_with = frozenset({"seed", "train_size"})

    def fit(self, brief, train, validation, services):
        services.ledger.book("train", "training_tokens", len(train), source="counted")
        services.ledger.book("train", "bytes", len(train), source="peak")
        return super().fit(brief, train, validation, services)

    def said(self, x):
        word = super().said(x)
        return "wet" if len(str(x.fields["text"])) % 3 == 0 else word


class Breaks(Learner):
    """Breaks in the second fit, unless it was mended; so does its process, if it is to die."""

    def fit(self, brief, train, validation, services):
        count = len(list(Path(services.scratch).parent.parent.glob("*/predictor")))
        if count == 1 and not Path("mended").exists():
            if Path("deadly").exists():
                os.kill(os.getpid(), 9)
            raise ZeroDivisionError("of all things")
        return super().fit(brief, train, validation, services)


class Hosted(Learner):
    def fit(self, brief, train, validation, services):
        if services.pending_state is None:
            raise Pending({"job": train[0].id}, datetime(2030, 1, 1, tzinfo=timezone.utc))
        assert services.pending_state == {"job": train[0].id}
        return super().fit(brief, train, validation, services)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "weather.yaml").write_text(TASK)
    (tmp_path / "mine.py").write_text(STRATEGIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_suite(folder: Path, strategies: dict[str, str], **more: Any) -> None:
    suite = {
        "suite": "s",
        "tasks": {"weather": {"task": "weather.yaml"}},
        "strategies": {n: {"strategy": f"mine.py:{s}"} if s else {} for n, s in strategies.items()},
        "evaluate": {"crossfit": 3},
        **more,
    }
    (folder / "s.yaml").write_text(json.dumps(suite))


def cells(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "runs/r/cells").iterdir())


def read(folder: Path, path: str) -> Any:
    return json.loads((folder / "runs/r" / path).read_text())


def test_all_rows_are_scored_by_fits_that_have_not_seen_them(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"learner": "Learner"})
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 0, said.out
    assert cells(folder) == [f"weather--learner--s0--f{n}" for n in (1, 2, 3)]
    found = results.load(folder / "runs/r")
    cell, weather = found.cells["weather--learner--s0"], found.tasks["weather"]
    assert [p.id for p in cell.predictions] == [e.id for e in weather.test]
    assert len(weather.test) == 21
    assert list(cell.fold_of) == [e.fold for e in weather.test]
    assert Counter(cell.fold_of) == {1: 7, 2: 7, 3: 7}
    for n in (1, 2, 3):
        train, validation = read(folder, f"cells/weather--learner--s0--f{n}/predictor/seen.json")
        fold = {e.id for e in weather.test if e.fold == n}
        assert {*train, *validation} == {e.id for e in weather.test} - fold
        assert len(validation) == round(14 * 3 / 12)
    assert cell.outside == {1: 14, 2: 14, 3: 14}
    assert weather.cut["crossfit"] == 3


def test_what_does_not_learn_from_rows_answers_all_of_them_once_and_is_given_none(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"blind": "Blind", "learner": "Learner"})
    assert breakeven("run", "s.yaml", "--name", "r", "--only", "blind").code == 0
    assert cells(folder) == ["weather--blind"]
    assert read(folder, "cells/weather--blind/predictor/seen.json") == [[], []]
    cell = results.load(folder / "runs/r").cells["weather--blind"]
    assert len(cell.predictions) == 21
    assert (cell.fold_of, cell.parts) == ((), ())


def test_the_folds_are_one_row_of_the_table_with_the_metrics_of_all_rows_together(
    folder: Path, breakeven: Callable
) -> None:
    from sklearn.metrics import f1_score

    write_suite(folder, {"blind": "Blind", "learner": "Learner"}, seeds=[0, 1])
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    found = results.load(folder / "runs/r")
    blind, learner = found.tables["weather"]
    assert [c.id for c in learner.cells] == ["weather--learner--s0", "weather--learner--s1"]
    truth = [e.references[0] for e in found.tasks["weather"].test]
    answers = [p.output for p in learner.cells[0].predictions]
    right = sum(a == t for a, t in zip(answers, truth, strict=True))
    assert learner.quality == right / 21
    assert learner.cells[0].aggregates["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))
    assert (blind.quality, learner.notes) == (1.0, ())
    assert learner.won + learner.lost == 21 - right
    assert "not finished" not in (folder / "runs/r/report.html").read_text()


def test_a_deployment_trains_once_but_the_run_has_trained_each_fold(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"learner": "Learner"})
    (folder / "weather.yaml").write_text(TASK.replace("validation: 3, test: 9", "validation: 0, test: 10"))
    (folder / "rows.jsonl").write_text("".join(ROWS.splitlines(keepends=True)[:20]))
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    found = results.load(folder / "runs/r")
    cell = found.cells["weather--learner--s0"]
    trained = [len(read(folder, f"cells/{p.id}/predictor/seen.json")[0]) for p in cell.parts]
    assert sorted(trained) == [12, 13, 13]
    assert cell.ledger.total("training_tokens", "train").value == pytest.approx(sum(trained) / 3)
    assert cell.ledger.total("bytes").value == max(trained)
    assert cell.ledger.total("input_tokens", "serve").value == 2 * len(cell.predictions)
    table = _provenance.ledger_of_run(found)
    line = next(line for line in table.lines if line.phase == "train")
    assert str(sum(trained)) in " ".join(map(str, line.amounts))


def test_training_and_timing_of_the_folds_are_joined_and_each_is_kept(
    folder: Path, breakeven: Callable
) -> None:
    trained = "self.training = {'seconds': 2.0, 'steps': 2, 'losses': [[1, 2.0], [2, 1.0]]}"
    (folder / "mine.py").write_text(STRATEGIES.replace("self.ledger =", f"{trained}; self.ledger ="))
    write_suite(folder, {"learner": "Learner"}, timing={"examples": 4, "concurrency": 2})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    path = folder / "runs/r/cells/weather--learner--s0--f2/training.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 5.0, "losses": [[1, 5.0]]}))
    cell = results.load(folder / "runs/r").cells["weather--learner--s0"]
    assert cell.training is not None
    assert cell.timing is not None
    assert cell.training["seconds"] == 3.0
    assert cell.training["losses"] == [[1, 3.0]]
    assert [t["seconds"] for t in cell.training["folds"]] == [2.0, 5.0, 2.0]
    assert cell.timing["batch_of_one"]["n"] == len(cell.timing["batch_of_one"]["seconds"]) == 12
    assert (cell.timing["concurrent"]["concurrency"], cell.timing["concurrent"]["n"]) == (2, 6)


def test_a_fold_that_failed_leaves_the_cell_without_a_result_until_it_is_mended(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"breaks": "Breaks"})
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 1
    cell = results.load(folder / "runs/r").cells["weather--breaks--s0"]
    assert (cell.state, cell.predictions) == ("failed", ())
    assert cell.reason.startswith("1 of 3 folds are done; fold 2: ZeroDivisionError: of all things")
    (folder / "mended").touch()
    assert breakeven("run", "--resume", "runs/r").code == 0
    found = results.load(folder / "runs/r")
    assert found.cells["weather--breaks--s0"].state == "done"
    assert [read(folder, f"cells/{c}/status.json")["attempts"] for c in cells(folder)] == [1, 2, 2]


def test_a_run_killed_in_a_fold_goes_on_with_it_and_ends_like_an_unbroken_one(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"breaks": "Breaks"})
    (folder / "deadly").touch()
    command = [sys.executable, "-c", "from breakeven.harness.cli import main; main()"]
    done = subprocess.run([*command, "run", "s.yaml", "--name", "r"], cwd=folder, check=False)
    assert done.returncode == -signal.SIGKILL
    cell = results.load(folder / "runs/r").cells["weather--breaks--s0"]
    assert (cell.state, cell.reason) == ("running", "1 of 3 folds are done")
    (folder / "mended").touch()
    assert breakeven("run", "--resume", "runs/r").code == 0
    assert breakeven("run", "s.yaml", "--name", "unbroken").code == 0
    broken, whole = (results.load(folder / "runs" / name) for name in ("r", "unbroken"))
    for a, b in zip(broken.cells.values(), whole.cells.values(), strict=True):
        assert [(p.id, p.output, p.score) for p in a.predictions] == [
            (p.id, p.output, p.score) for p in b.predictions
        ]
        assert a.aggregates == b.aggregates
        assert a.ledger.total("training_tokens").value == b.ledger.total("training_tokens").value
    assert read(folder, "cells/weather--breaks--s0--f1/status.json")["attempts"] == 1


def test_hosted_jobs_of_all_folds_are_waited_for(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"hosted": "Hosted"})
    assert breakeven("run", "s.yaml", "--name", "r").code == 3
    assert results.load(folder / "runs/r").cells["weather--hosted--s0"].state == "pending"
    assert breakeven("run", "--resume", "runs/r").code == 0
    assert results.load(folder / "runs/r").cells["weather--hosted--s0"].state == "done"


def test_only_chooses_a_strategy_a_cell_with_all_its_folds_or_one_fold(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"a": "Learner", "b": "Learner"}, seeds=[0, 1])
    for pattern, count in {"a": 6, "weather--a--s1": 3, "*--f2": 4, "weather--b--s0--f3": 1}.items():
        said = breakeven("run", "s.yaml", "--dry-run", "--only", pattern)
        assert said.code == 0
        assert f"{count} cells, {7 * count} answers" in said.out
    assert breakeven("run", "s.yaml", "--name", "r", "--only", "weather--a--s0--f1").code == 0
    cell = results.load(folder / "runs/r").cells["weather--a--s0"]
    assert (cell.state, cell.reason) == ("waiting", "1 of 3 folds are done")
    assert breakeven("run", "--resume", "runs/r", "--only", "a").code == 0
    assert results.load(folder / "runs/r").cells["weather--a--s0"].state == "done"
    assert read(folder, "cells/weather--a--s0--f1/status.json")["attempts"] == 1


def test_a_dry_run_shows_the_folds_with_their_sizes(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"learner": "Learner"})
    said = breakeven("run", "s.yaml", "--dry-run")
    line = next(line for line in said.out.splitlines() if "weather--learner--s0--f2" in line)
    assert line.split()[2:5] == ["10", "4", "7"]
    assert not (folder / "runs").exists()


def test_a_limit_caps_what_is_scored_over_all_folds_and_is_frozen(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"learner": "Learner", "blind": "Blind"})
    run = ("run", "s.yaml", "--name", "r", "--limit", "5")
    assert breakeven(*run, "--only", "learner").code == 0
    assert breakeven("run", "--resume", "runs/r", "--only", "*").code == 0
    found = results.load(folder / "runs/r")
    assert {len(c.predictions) for c in found.cells.values()} == {5}
    assert sorted(Counter(found.cells["weather--learner--s0"].fold_of).values()) == [1, 2, 2]
    assert len(read(folder, "cells/weather--learner--s0--f1/predictor/seen.json")[0]) == 10
    assert suites.load(folder / "runs/r/suite.yaml").evaluate.examples == 5


def test_a_limit_below_the_number_of_folds_leaves_no_fold_to_wait_for(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"learner": "Learner"})
    assert breakeven("run", "s.yaml", "--name", "r", "--limit", "2").code == 0
    assert cells(folder) == ["weather--learner--s0--f1", "weather--learner--s0--f2"]
    assert results.load(folder / "runs/r").cells["weather--learner--s0"].state == "done"


def test_another_number_of_folds_makes_the_cells_run_again(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"learner": "Learner"})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    frozen = folder / "runs/r/suite.yaml"
    frozen.write_text(frozen.read_text().replace("crossfit: 3", "crossfit: 2"))
    said = breakeven("run", "--resume", "runs/r")
    assert said.code == 0
    assert "not what it was" in said.out
    cell = results.load(folder / "runs/r").cells["weather--learner--s0"]
    assert sorted(Counter(cell.fold_of).values()) == [10, 11]
    assert len(cells(folder)) == 2


def test_a_row_that_is_only_fitted_on_changes_the_cells_too(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"learner": "Learner"})
    assert breakeven("run", "s.yaml", "--name", "r", "--limit", "2").code == 0
    scored = {e.input["text"] for e in results.load(folder / "runs/r").tasks["weather"].test}
    other = next(row for row in ROWS.splitlines() if json.loads(row)["text"] not in scored)
    (folder / "rows.jsonl").write_text(ROWS.replace(other, other.replace("it was", "we had")))
    assert "not what it was" in breakeven("run", "--resume", "runs/r").out


def test_a_metric_that_is_no_mean_is_computed_over_all_folds_and_follows_their_predictions(
    folder: Path, breakeven: Callable
) -> None:
    (folder / "weather.yaml").write_text(TASK.replace("[accuracy, macro_f1]", "[macro_f1, accuracy]"))
    write_suite(folder, {"learner": "Learner", "blind": "Blind"})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    found = results.load(folder / "runs/r")
    learner = found.tables["weather"][0]
    assert learner.cells[0].draws
    assert learner.interval is not None
    assert learner.interval.low < learner.quality < learner.interval.high
    path = folder / "runs/r/cells/weather--learner--s0--f3/predictions.jsonl"
    path.write_text(path.read_text().replace('"output": "wet"', '"output": "dry"'))
    stale = results.load(folder / "runs/r").cells["weather--learner--s0"]
    assert (stale.state, stale.predictions) == ("waiting", ())
    assert "resume the run" in stale.reason
    assert breakeven("run", "--resume", "runs/r").code == 0
    again = results.load(folder / "runs/r").cells["weather--learner--s0"]
    assert again.state == "done"
    assert again.aggregates["macro_f1"] != learner.quality


def test_what_does_not_apply_does_not_apply_in_any_fold(folder: Path, breakeven: Callable) -> None:
    (folder / "weather.yaml").write_text(
        TASK.replace("choices: from data\n", "").replace("[accuracy, macro_f1]", "exact_match")
    )
    write_suite(folder, {"logistic-regression": "", "blind": "Blind"})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    cell = results.load(folder / "runs/r").cells["weather--logistic-regression"]
    assert cell.state == "not-applicable"
    assert "fold" not in cell.reason


@pytest.mark.parametrize("evaluate", [{"crossfit": 1}, {"crossfit": 2.5}, {"examples": 4}, {"folds": 5}])
def test_evaluations_that_mean_nothing_are_refused(
    folder: Path, breakeven: Callable, evaluate: dict[str, Any]
) -> None:
    write_suite(folder, {"blind": "Blind"}, evaluate=evaluate)
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "evaluate" in said.err
    assert not (folder / "runs").exists()


def test_too_many_folds_for_a_task_are_refused_with_its_name(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"blind": "Blind"}, evaluate={"crossfit": 40})
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "task weather: 40 folds need" in said.err


# --- how sure --------------------------------------------------------------------------------


def fold_numbers(n: int, count: int = 5) -> Folds:
    of = [i % count + 1 for i in range(n)]
    return Folds(of, {f: n - of.count(f) for f in set(of)})


def test_the_factor_is_that_of_nadeau_and_bengio() -> None:
    assert fold_numbers(100).factor == pytest.approx(1 + 5 * 20 / 80)
    assert fold_numbers(100, 10).factor == pytest.approx(1 + 10 * 10 / 90)
    few = Folds([1, 2, 3, 4, 5], dict.fromkeys(range(1, 6), 320))
    assert few.factor == pytest.approx(1 + 5 * 1 / 320)


def test_folds_that_differ_no_more_than_their_items_explain_add_nothing() -> None:
    scores = [float(i // 5 % 2) for i in range(100)]
    (variance, df), *more = variance_parts(scores, fold_numbers(100))
    assert (variance, df, more) == (pytest.approx(2.25 * 0.25 / 99), 99.0, [])


def test_a_fold_whose_training_went_wrong_widens_the_interval() -> None:
    scores = [float(i % 5 != 0 and i % 10 != 1) for i in range(200)]  # one fold all wrong
    parts = variance_parts(scores, fold_numbers(200))
    means = [np.mean(scores[f::5]) for f in range(5)]
    assert parts[1][1] == 4
    assert parts[1][0] == pytest.approx(np.var(means, ddof=1) / 5, rel=0.05)
    assert variance_inflation(scores, fold_numbers(200)) > 5 * 2.25


def test_items_of_a_group_count_as_one() -> None:
    of = [i // 2 % 5 + 1 for i in range(80)]
    once = np.random.default_rng(0).random(40)
    twice = Folds(of, dict.fromkeys(range(1, 6), 64))
    alone = Folds(of[::2], dict.fromkeys(range(1, 6), 32))
    parts = variance_parts(np.repeat(once, 2), twice, groups=[f"g{i // 2}" for i in range(80)])
    assert parts == [pytest.approx(p) for p in variance_parts(once, alone)]


def test_scores_that_are_all_equal_are_inflated_by_the_factor() -> None:
    assert variance_inflation([1.0] * 20, fold_numbers(20)) == pytest.approx(2.25)


def nearest_centroid(x: Any, y: Any, asked: Any) -> Any:
    """Two classes by the nearer mean."""
    far, near = (((asked - x[y == c].mean(axis=0)) ** 2).sum(axis=1) for c in (0, 1))
    return near < far


def nearest_neighbour(x: Any, y: Any, asked: Any) -> Any:
    distance = (asked**2).sum(axis=1)[:, None] + (x**2).sum(axis=1)[None, :] - 2 * asked @ x.T
    return y[distance.argmin(axis=1)]


def first_rows(x: Any, y: Any, asked: Any) -> Any:
    """As demonstrations that never change: of all rows the first 16 count, in all folds nearly the same."""
    return nearest_centroid(x[:16], y[:16], asked)


def untaught(x: Any, y: Any, asked: Any) -> Any:
    return asked[:, 0] + 0.3 * asked[:, 1] > 0


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    """(repetitions, items) right or wrong out of fold: 100 rows of two classes in 20 dimensions, 5 folds."""
    rng = np.random.default_rng(20261120)
    learners = (nearest_centroid, nearest_neighbour, first_rows, untaught)
    right: dict[str, Any] = {f.__name__: np.zeros((400, 100)) for f in learners}
    fold = np.arange(100) % 5
    for repetition in range(400):
        y = rng.permutation(np.arange(100) % 2)
        x = rng.normal(size=(100, 20))
        x[:, 0] += np.where(y == 1, 0.7, -0.7)
        for f in range(5):
            seen = fold != f
            for learner in learners:
                said = learner(x[seen], y[seen], x[~seen])
                right[learner.__name__][repetition, ~seen] = said == y[~seen]
    return right


def coverage(scores: Any, naive: bool) -> float:
    """Share of 95 % intervals that hold the mean over all repetitions, which is what every fold estimates."""
    truth, held = scores.mean(), []
    for row in scores:
        found = [(row.var(ddof=1) / len(row), len(row) - 1.0)]
        variance, df = satterthwaite(found if naive else variance_parts(row, fold_numbers(len(row))))
        half = float(stats.t.ppf(0.975, df)) * variance**0.5
        held.append(abs(row.mean() - truth) <= half)
    return float(np.mean(held))


@pytest.mark.parametrize("learner", ["nearest_neighbour", "first_rows"])
def test_the_items_alone_promise_too_much_of_what_learns_from_shared_rows(
    simulated: dict[str, Any], learner: str
) -> None:
    naive, ours = (coverage(simulated[learner], naive) for naive in (True, False))
    assert naive < 0.92
    assert ours >= 0.95


def test_a_paired_difference_is_covered_too(simulated: dict[str, Any]) -> None:
    difference = simulated["first_rows"] - simulated["untaught"]
    assert coverage(difference, naive=False) >= max(0.95, coverage(difference, naive=True) + 0.02)


def test_what_learns_nothing_is_covered_on_the_wide_side(simulated: dict[str, Any]) -> None:
    assert coverage(simulated["untaught"], naive=False) >= coverage(simulated["untaught"], naive=True) > 0.93


def test_intervals_and_draws_of_scores_out_of_fold_are_wider_by_the_same_factor() -> None:
    from breakeven.harness import draws, stats
    from breakeven.harness.crossfit import Folds

    rng = np.random.default_rng(1)
    graded = rng.beta(2, 2, (1, 200))
    folds = Folds([i % 5 for i in range(200)], dict.fromkeys(range(5), 160))
    items, noise = draws.resampled(200, draws=20_000), rng.standard_normal(20_000)

    test_split, out_of_fold = (stats.mean_interval(graded, folds=f) for f in (None, folds))
    widths = [i.high - i.low for i in (test_split, out_of_fold)]
    spreads = [draws.spread(graded, items, noise, (0, 1), False, f).std() for f in (None, folds)]

    assert folds.factor == 2.25
    assert widths[1] / widths[0] == pytest.approx(1.5, rel=0.1)
    assert spreads[1] / spreads[0] == pytest.approx(1.5, rel=0.1)
    assert stats.OUT_OF_FOLD in out_of_fold.note


def test_a_difference_of_scores_out_of_fold_is_less_sure() -> None:
    from breakeven.harness import stats
    from breakeven.harness.crossfit import Folds

    rng = np.random.default_rng(2)
    a, b = (rng.random((1, 300)) < 0.8).astype(float), (rng.random((1, 300)) < 0.7).astype(float)
    folds = Folds([i % 5 for i in range(300)], dict.fromkeys(range(5), 240))

    plain, out_of_fold = (stats.paired_difference(a, b, folds=f) for f in (None, folds))

    assert out_of_fold.value == plain.value
    assert out_of_fold.p > plain.p
    assert out_of_fold.interval.high - out_of_fold.interval.low > plain.interval.high - plain.interval.low
