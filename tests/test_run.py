"""Runs from outside: what goes on when a cell fails, waits, is stopped or is left out; what is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness import results
from breakeven.harness import suite as suites

ROWS = "".join(
    json.dumps({"text": f"{where} it was {sky}", "sky": sky}) + "\n"
    for sky in ("wet", "dry", "grey")
    for where in (
        "On Monday",
        "In Leeds",
        "By the sea",
        "Up on the moor",
        "In May",
        "As ever",
        "At noon",
        "Outside",
    )
)
TASK = """name: weather
instructions: Say what the weather was.
input_template: "{{ text }}"
data: rows.jsonl
columns: {input: text, reference: sky}
choices: from data
metrics: [accuracy, macro_f1]
sizes: {train: 9, validation: 3, test: 12}
"""
STRATEGIES = '''
"""Strategies that answer, fail, wait and dawdle."""

import os
import time
from datetime import datetime, timezone

from breakeven.harness.contracts import Prediction
from breakeven.harness.errors import NotApplicable, Pending


class LastWord:
    varies_with = frozenset()

    def fit(self, brief, train, validation, services):
        assert not hasattr(brief, "test")
        return self

    def load(self, folder, brief, services):
        return self

    def save(self, folder):
        (folder / "nothing.txt").write_text("")

    def predict(self, inputs):
        for x in inputs:
            assert x.group is None
            yield Prediction(x.id, str(x.fields["text"]).split()[-1], finish_reason="stop")


class Fails(LastWord):
    def fit(self, brief, train, validation, services):
        raise ZeroDivisionError("of all things")


class Choosy(LastWord):
    def fit(self, brief, train, validation, services):
        raise NotApplicable("only for poems")


class Hosted(LastWord):
    """Starts a job on the first call, is done on the second."""

    def fit(self, brief, train, validation, services):
        if services.pending_state is None:
            raise Pending({"job": "j-1"}, datetime(2030, 1, 1, tzinfo=timezone.utc))
        assert services.pending_state == {"job": "j-1"}
        return self


class Stubborn(LastWord):
    def predict(self, inputs):
        for x in inputs:
            yield Prediction(x.id, "wet", finish_reason="stop")


class Slow(LastWord):
    def predict(self, inputs):
        for prediction in super().predict(inputs):
            open("slow-has-begun", "w").close()
            time.sleep(0.5 if not os.path.exists("quick") else 0)
            yield prediction


class Seeded(LastWord):
    varies_with = frozenset({"seed", "train_size"})

    def fit(self, brief, train, validation, services):
        services.ledger.book("train", "training_tokens", len(train), source="counted")
        return self
'''

KILLED = """

class Dies(LastWord):
    def fit(self, brief, train, validation, services):
        os.kill(os.getpid(), 9)
"""
BY_HAND = """from breakeven.harness import metrics
from breakeven.harness.contracts import Example, Task


def task():
    rows = tuple(Example("same", {"text": f"a {sky} day"}, (sky,)) for sky in ("wet", "dry"))
    return Task("t", "Say it.", "{{ text }}", (), (), rows, (metrics.build("exact_match"),))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "weather.yaml").write_text(TASK)
    (tmp_path / "mine.py").write_text(STRATEGIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_suite(folder: Path, strategies: dict[str, Any], **more: Any) -> None:
    tasks = {"weather": {"task": "weather.yaml"}}
    suite = {"suite": "s", "tasks": tasks, "strategies": strategies, **more}
    (folder / "s.yaml").write_text(json.dumps(suite))


def mine(name: str) -> dict[str, str]:
    return {"strategy": f"mine.py:{name}"}


def status(folder: Path, cell: str) -> dict[str, Any]:
    return json.loads((folder / "runs/r/cells" / cell / "status.json").read_text())


def test_every_strategy_answers_the_same_examples_in_the_same_order(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"a": mine("LastWord"), "majority": {}})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    ids = [
        [json.loads(line)["id"] for line in (cell / "predictions.jsonl").read_text().splitlines()]
        for cell in (folder / "runs/r/cells").iterdir()
    ]
    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert len(ids[0]) == 12
    assert json.loads((folder / "runs/r/cells/weather--a/scores.json").read_text())["accuracy"] == 1.0


def test_a_failing_cell_is_shown_with_its_reason_and_the_others_go_on(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"bad": mine("Fails"), "good": mine("LastWord")})
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 1
    assert "ZeroDivisionError: of all things" in said.out
    assert "breakeven run --resume runs/r" in said.out
    assert status(folder, "weather--good")["state"] == "done"
    assert "of all things" in (folder / "runs/r/report.html").read_text()


def test_a_strategy_that_does_not_apply_is_no_failure(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"choosy": mine("Choosy"), "good": mine("LastWord")})
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 0
    assert "only for poems" in said.out


def test_a_pending_cell_keeps_its_state_and_is_finished_by_a_later_call(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"hosted": mine("Hosted"), "good": mine("LastWord")})
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 3
    assert "2030-01-01" in said.out
    assert breakeven("run", "--resume", "runs/r").code == 0
    assert status(folder, "weather--hosted")["state"] == "done"


def test_only_chosen_strategies_run_and_the_rest_can_follow(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"apple": mine("LastWord"), "pear": mine("LastWord")})
    assert breakeven("run", "s.yaml", "--name", "r", "--only", "app*").code == 0
    assert not (folder / "runs/r/cells/weather--pear").exists()
    said = breakeven("run", "--resume", "runs/r")  # what was left out may cost money
    assert said.code == 0
    assert "--only '*' runs everything" in said.out
    assert not (folder / "runs/r/cells/weather--pear").exists()
    assert "not finished" not in (folder / "runs/r/report.html").read_text()
    assert breakeven("run", "--resume", "runs/r", "--only", "*").code == 0
    assert status(folder, "weather--pear")["state"] == "done"
    assert status(folder, "weather--apple")["attempts"] == 1


def test_a_limit_caps_the_test_examples_and_is_kept_on_resume(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord"), "b": mine("LastWord")})
    assert breakeven("run", "s.yaml", "--name", "r", "--limit", "5", "--only", "a").code == 0
    assert breakeven("run", "--resume", "runs/r", "--only", "*").code == 0
    for cell in ("weather--a", "weather--b"):
        assert len((folder / "runs/r/cells" / cell / "predictions.jsonl").read_text().splitlines()) == 5


def test_the_reference_may_be_what_does_best_on_the_validation_examples(
    folder: Path, breakeven: Callable
) -> None:
    strategies = {"stubborn": mine("Stubborn"), "listener": mine("LastWord")}
    write_suite(folder, strategies, reference="best-on-validation")
    done = breakeven("run", "s.yaml", "--name", "r")
    assert done.code == 0
    rows = results.load(folder / "runs/r").tables["weather"]
    assert [r.strategy for r in rows if r.is_reference] == ["listener"]
    assert "listener" in done.out.split("per")[0]
    chosen_by = json.loads((folder / "runs/r/cells/weather--listener/validation.json").read_text())
    assert chosen_by["n"] == 3


def test_without_validation_examples_no_reference_can_be_chosen_by_them(
    folder: Path, breakeven: Callable
) -> None:
    weather = {"weather": {"task": "weather.yaml", "limits": {"validation": 0}}}
    write_suite(folder, {"a": mine("LastWord")}, tasks=weather, reference="best-on-validation")
    done = breakeven("run", "s.yaml", "--name", "r")
    assert done.code == 2
    assert "needs validation examples, and 'weather' has none" in done.err
    assert not (folder / "runs").exists()


def test_a_dry_run_shows_the_cells_and_writes_nothing(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("Seeded")}, seeds=[0, 1], train_sizes=[3, "all"])
    said = breakeven("run", "s.yaml", "--dry-run")
    assert said.code == 0
    for cell in ("weather--a--n3--s0", "weather--a--n3--s1", "weather--a--n9--s0", "weather--a--n9--s1"):
        assert cell in said.out
    assert not (folder / "runs").exists()


def test_no_cell_runs_twice_for_what_a_strategy_does_not_vary_with(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord"), "b": mine("Seeded")}, seeds=[0, 1, 2], train_sizes=[3, "all"])
    breakeven("run", "s.yaml", "--name", "r")
    cells = {p.name for p in (folder / "runs/r/cells").iterdir()}
    assert "weather--a" in cells
    assert len(cells) == 1 + 2 * 3


def test_the_frozen_suite_runs_again_with_the_same_predictions(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"nearest-neighbour": {}, "b": mine("Seeded")}, seeds=[3])
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    assert breakeven("run", "runs/r/suite.yaml", "--name", "again").code == 0
    for name in ("weather--nearest-neighbour", "weather--b--s3"):
        first, second = (folder / "runs" / r / "cells" / name / "predictions.jsonl" for r in ("r", "again"))
        strip = [{**json.loads(line), "seconds": 0} for line in first.read_text().splitlines()]
        assert strip == [{**json.loads(line), "seconds": 0} for line in second.read_text().splitlines()]


def test_a_finished_run_is_not_run_again(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord")})
    breakeven("run", "s.yaml", "--name", "r")
    before = (folder / "runs/r/cells/weather--a/predictions.jsonl").stat().st_mtime_ns
    assert breakeven("run", "--resume", "runs/r").code == 0
    assert (folder / "runs/r/cells/weather--a/predictions.jsonl").stat().st_mtime_ns == before


def test_changed_data_makes_the_cells_of_that_task_run_again(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord")})
    breakeven("run", "s.yaml", "--name", "r")
    (folder / "rows.jsonl").write_text(ROWS.replace("On Monday", "On Tuesday"))
    said = breakeven("run", "--resume", "runs/r")
    assert "not what it was" in said.out
    assert (
        "On Tuesday"
        in (folder / "runs/r/tasks/weather/test.jsonl").read_text() + (folder / "rows.jsonl").read_text()
    )
    assert status(folder, "weather--a")["attempts"] == 1
    assert status(folder, "weather--a")["state"] == "done"


def test_what_was_booked_is_in_the_ledger_once(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"b": mine("Seeded")})
    breakeven("run", "s.yaml", "--name", "r")
    entries = json.loads((folder / "runs/r/cells/weather--b--s0/ledger.json").read_text())
    trained = [e["amount"]["value"] for e in entries if e["quantity"] == "training_tokens"]
    assert trained == [9]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(folder: Path, breakeven: Callable, how: int) -> None:
    write_suite(folder, {"slow": mine("Slow")})
    command = [
        sys.executable,
        "-c",
        "from breakeven.harness.cli import main; main()",
        "run",
        "s.yaml",
        "--name",
        "r",
    ]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(600):
            if (folder / "slow-has-begun").exists():
                break
            time.sleep(0.05)
        os.kill(process.pid, how)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "breakeven run --resume runs/r" in out
    assert "Traceback" not in out + err
    assert status(folder, "weather--slow")["state"] == "stopped"
    (folder / "quick").touch()
    assert breakeven("run", "--resume", "runs/r").code == 0


def test_another_limit_cannot_throw_away_a_runs_results(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord")})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    said = breakeven("run", "--resume", "runs/r", "--limit", "3")
    assert said.code == 2
    assert "'--limit'" in said.err
    assert len((folder / "runs/r/cells/weather--a/predictions.jsonl").read_text().splitlines()) == 12
    assert breakeven("run", "s.yaml", "--name", "few", "--limit", "3").code == 0
    assert breakeven("run", "--resume", "runs/few", "--limit", "3").code == 0


def test_seeds_that_were_never_begun_are_missed_in_the_table(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"b": mine("Seeded")}, seeds=[0, 1, 2])
    assert breakeven("run", "s.yaml", "--name", "r", "--only", "*s0").code == 0
    assert "1 of 3 seeds" in results.load(folder / "runs/r").tables["weather"][0].notes
    assert breakeven("run", "--resume", "runs/r", "--only", "*").code == 0
    assert results.load(folder / "runs/r").tables["weather"][0].notes == ()


def test_a_dry_run_continues_no_run(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord"), "b": mine("LastWord")})
    assert breakeven("run", "s.yaml", "--name", "r", "--only", "a").code == 0
    assert breakeven("run", "--resume", "runs/r", "--dry-run").code == 2
    assert not (folder / "runs/r/cells/weather--b").exists()


def test_no_cell_of_changed_data_stays_in_the_report_though_others_are_resumed(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"a": mine("LastWord"), "b": mine("LastWord")})
    breakeven("run", "s.yaml", "--name", "r")
    (folder / "rows.jsonl").write_text(ROWS.replace("On Monday", "On Tuesday"))
    assert breakeven("run", "--resume", "runs/r", "--only", "a").code == 0
    assert status(folder, "weather--a")["state"] == "done"
    assert not (folder / "runs/r/cells/weather--b").exists()


def test_cells_that_changed_data_brings_are_in_the_report(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("Seeded")}, train_sizes=[3, "all"])
    breakeven("run", "s.yaml", "--name", "r")
    (folder / "weather.yaml").write_text(TASK.replace("train: 9", "train: 8"))
    assert breakeven("run", "--resume", "runs/r").code == 0
    found = results.load(folder / "runs/r")
    assert sorted(found.cells) == ["weather--a--n3--s0", "weather--a--n8--s0"]


def test_what_is_left_of_a_stale_cell_is_not_used(folder: Path, breakeven: Callable) -> None:
    """Clearing it was broken off: its specification is gone, what was fitted and answered is still there."""
    write_suite(folder, {"a": mine("LastWord")})
    breakeven("run", "s.yaml", "--name", "r")
    (folder / "runs/r/cells/weather--a/cell.json").unlink()
    (folder / "runs/r/cells/weather--a/predictor/nothing.txt").write_text("stale")
    assert breakeven("run", "--resume", "runs/r").code == 0
    assert (folder / "runs/r/cells/weather--a/predictor/nothing.txt").read_text() == ""


def test_a_run_that_goes_on_with_other_packages_says_so(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord")})
    breakeven("run", "s.yaml", "--name", "r")
    path = folder / "runs/r/run.json"
    path.write_text(path.read_text().replace('"numpy": "', '"numpy": "0.'))
    said = breakeven("run", "--resume", "runs/r")
    assert said.code == 0
    assert "numpy 0." in said.out


def test_a_run_killed_in_its_first_cell_is_priced_as_what_it_is(folder: Path, breakeven: Callable) -> None:
    """Else its report would take an API's tokens for seconds of this machine."""
    (folder / "mine.py").write_text(STRATEGIES + KILLED)
    write_suite(folder, {"dies": mine("Dies")})
    command = [sys.executable, "-c", "from breakeven.harness.cli import main; main()"]
    done = subprocess.run([*command, "run", "s.yaml", "--name", "r"], cwd=folder, check=False)
    assert done.returncode == -9
    info = json.loads((folder / "runs/r/run.json").read_text())
    assert "cpu-2" in info["price_book"]["machine_hours"]


def test_two_names_that_would_share_a_folder_are_refused(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"k=1": mine("LastWord"), "k:1": mine("LastWord")})
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "would both be called 'weather--k_1'" in said.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["../weather", "a/b", "..", "x" * 130, "weather\n"])
def test_a_task_whose_name_is_no_folder_is_refused(folder: Path, breakeven: Callable, name: str) -> None:
    suite = {"suite": "s", "tasks": {name: {"task": "weather.yaml"}}, "strategies": {"majority": {}}}
    (folder / "s.yaml").write_text(json.dumps(suite))
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "'tasks'" in said.err
    assert not (folder / "runs").exists()


def test_a_name_too_long_for_a_folder_is_refused(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"ü" * 130: mine("LastWord")})
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "too long" in said.err


def test_runs_of_a_suite_with_an_odd_name_are_numbered_beside_each_other(
    folder: Path, breakeven: Callable
) -> None:
    write_suite(folder, {"a": mine("LastWord")})
    change = ("--set", "suite=../what [v2]")
    assert breakeven("run", "s.yaml", *change).code == 0
    assert breakeven("run", "s.yaml", *change).code == 0
    assert sorted(p.name for p in (folder / "runs").iterdir()) == ["_what__v2_-1", "_what__v2_-2"]


def test_a_negative_training_size_is_refused(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("Seeded")}, train_sizes=[-2])
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "'train_sizes'" in said.err


def test_a_task_put_together_by_hand_cannot_use_an_id_twice(folder: Path, breakeven: Callable) -> None:
    (folder / "byhand.py").write_text(BY_HAND)
    suite = {"suite": "s", "tasks": {"t": {"task": "byhand.py:task"}}, "strategies": {"a": mine("LastWord")}}
    (folder / "s.yaml").write_text(json.dumps(suite))
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert "two examples have the id 'same'" in said.err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def task():\n    return open('nowhere.csv')", ["No such file", "nowhere.csv", "'tasks.t.args'"]),
        ("import json\n\ntask = json.loads('{')", ["byhand.py:3: cannot be imported: JSONDecodeError"]),
    ],
)
def test_a_python_task_that_breaks_is_one_sentence(
    folder: Path, breakeven: Callable, code: str, words: list[str]
) -> None:
    (folder / "byhand.py").write_text(code + "\n")
    suite = {"suite": "s", "tasks": {"t": {"task": "byhand.py:task"}}, "strategies": {"a": mine("LastWord")}}
    (folder / "s.yaml").write_text(json.dumps(suite))
    said = breakeven("run", "s.yaml")
    assert said.code == 2
    assert all(word in said.err for word in words), said.err


def test_a_trainer_of_ones_own_is_found_beside_the_suite(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(folder, {"lora": {"weights": {"trainer": "mine.py:trainer"}}})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    resolved = suites.load(folder / "s.yaml").strategies["lora"].settings["weights"]["trainer"]
    assert resolved == f"{folder.resolve() / 'mine.py'}:trainer"


def test_a_suite_that_comes_along_is_found_beside_a_folder_of_its_name(folder: Path) -> None:
    (folder / "quickstart").mkdir()
    assert suites.find("quickstart").name == "quickstart.yaml"


def test_an_apis_prices_stay_in_the_run_when_only_other_cells_are_resumed(
    folder: Path, breakeven: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openai_server import KEY, OpenAIServer, says

    monkeypatch.setenv("TEST_KEY", KEY)
    with OpenAIServer(says("dry", input_tokens=20), key=KEY) as server:
        api = {"model": "small", "engine": "openai", "base_url": server.url, "api_key_env": "TEST_KEY",
               "price_as": "gpt-4o-mini"}  # fmt: skip
        write_suite(folder, {"zero-shot": {}, "a": mine("LastWord")}, models={"api": api})
        assert breakeven("run", "s.yaml", "--name", "r", "--only", "zero-shot").code == 0
    before = results.load(folder / "runs/r").tables["weather"][0].cost_per_1000
    assert breakeven("run", "--resume", "runs/r", "--only", "a").code == 0
    after = results.load(folder / "runs/r").tables["weather"][0].cost_per_1000
    assert before.value is not None
    assert before == after


def test_two_processes_cannot_work_in_one_run(folder: Path, breakeven: Callable) -> None:
    from breakeven.harness.store import locked

    write_suite(folder, {"a": mine("LastWord")})
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    with locked(folder / "runs/r"):
        said = breakeven("run", "--resume", "runs/r")
    assert said.code == 2
    assert "another breakeven process" in said.err


def test_each_format_of_the_report_can_be_written(folder: Path, breakeven: Callable) -> None:
    write_suite(folder, {"a": mine("LastWord"), "majority": {}})
    breakeven("run", "s.yaml", "--name", "r")
    for format, sign in {"html": "<!doctype html>", "md": "|", "csv": "strategy", "json": "{"}.items():
        said = breakeven("report", "runs/r", "--format", format, "-o", "-")
        assert said.code == 0
        assert sign in said.out.lower()
    assert "On Monday" not in breakeven("report", "runs/r", "--no-examples", "-o", "-").out


def test_an_edited_strategy_file_or_metric_makes_its_cells_run_again(
    folder: Path, breakeven: Callable
) -> None:
    (folder / "judge.py").write_text("def judge(example, output):\n    return 0.25\n")
    (folder / "weather.yaml").write_text(TASK.replace("[accuracy, macro_f1]", '["judge.py:judge"]'))
    write_suite(folder, {"a": mine("LastWord"), "majority": {}})
    run = [sys.executable, "-c", "from breakeven.harness.cli import main; main()", "run"]
    subprocess.run([*run, "s.yaml", "--name", "r"], cwd=folder, check=True, capture_output=True)
    (folder / "judge.py").write_text("def judge(example, output):\n    return 0.75\n")
    subprocess.run([*run, "--resume", "runs/r"], cwd=folder, check=True, capture_output=True)
    scores = json.loads((folder / "runs/r/cells/weather--majority/scores.json").read_text())
    assert list(scores.values()) == [0.75]
    before = (folder / "runs/r/cells/weather--majority/scores.json").stat().st_mtime_ns
    (folder / "mine.py").write_text(STRATEGIES.replace(".split()[-1]", ".split()[0]"))
    subprocess.run([*run, "--resume", "runs/r"], cwd=folder, check=True, capture_output=True)
    assert '"On"' in (folder / "runs/r/cells/weather--a/predictions.jsonl").read_text()
    assert (folder / "runs/r/cells/weather--majority/scores.json").stat().st_mtime_ns == before
