"""Bad input gets one clear sentence with file, line and field, exit code 2, and nothing half written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

ROWS = "text,label\n" + "".join(
    f"message number {i} about {w},{w}\n" for i, w in enumerate(["tea", "coffee"] * 12)
)
TASK = """name: drinks
instructions: Say which drink.
input_template: "{{ text }}"
data: rows.csv
columns: {input: text, reference: label}
choices: from data
metrics: [accuracy]
sizes: {train: 8, validation: 4, test: 12}
"""
SUITE = """suite: s
tasks:
  drinks: {task: drinks.yaml}
strategies:
  majority: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite, its task and its rows, all right."""
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "drinks.yaml").write_text(TASK)
    (tmp_path / "s.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(folder: Path, breakeven: Callable) -> Callable[..., str]:
    """Run; check code 2, one line, no traceback, nothing written; return the sentence."""

    def call(*arguments: str) -> str:
        before = {p.relative_to(folder) for p in folder.rglob("*")}
        said = breakeven(*(arguments or ("run", "s.yaml")))
        assert said.code == 2, said
        assert said.err.startswith("breakeven: ")
        assert said.err.count("\n") == 1, said.err
        assert "Traceback" not in said.err + said.out
        after = {p.relative_to(folder) for p in folder.rglob("*") if "__pycache__" not in p.parts}
        assert after == before
        return str(said.err)

    return call


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_untouched_folder_runs(folder: Path, breakeven: Callable) -> None:
    assert breakeven("run", "s.yaml").code == 0


def test_a_missing_suite_file(refused: Callable) -> None:
    assert "nope.yaml" in refused("run", "nope.yaml")


def test_a_missing_data_file(folder: Path, refused: Callable) -> None:
    (folder / "rows.csv").unlink()
    said = refused()
    assert "rows.csv" in said
    assert "drinks.yaml:4" in said
    assert "'data'" in said


def test_an_unknown_key_in_a_suite(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "strategies:", "seds: [1]\nstrategies:")
    said = refused()
    assert "s.yaml:4, field 'seds': unknown key" in said
    assert "seeds" in said


def test_a_required_key_that_is_misspelt(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "strategies:", "strategeis:")
    said = refused()
    assert "s.yaml:4, field 'strategeis': unknown key" in said
    assert "did you mean strategies?" in said


def test_an_unknown_key_in_a_task(folder: Path, refused: Callable) -> None:
    change(folder / "drinks.yaml", "choices:", "choises:")
    said = refused()
    assert "drinks.yaml:6, field 'choises': unknown key" in said
    assert "choices" in said


def test_a_key_given_twice(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "strategies:", "suite: t\nstrategies:")
    assert "s.yaml:4, field 'suite': the key stands here twice" in refused()


def test_yaml_that_does_not_parse(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "{task: drinks.yaml}", "{task: drinks.yaml")
    assert "s.yaml:4" in refused()


def test_a_date_that_does_not_exist(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "suite: s", "suite: 2026-13-40")
    assert "s.yaml: not valid YAML: month must be in 1..12" in refused()


def test_an_alias_of_itself(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "{task: drinks.yaml}", "&a {task: drinks.yaml, args: *a}")
    assert "unknown key" in refused()


def test_an_unknown_strategy(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "majority", "marjority")
    said = refused()
    assert "s.yaml:5" in said
    assert "marjority" in said


def test_a_setting_that_a_strategy_does_not_have(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "majority: {}", "few-shot: {demonstrations: {kk: 3}}")
    assert "kk" in refused()


@pytest.mark.parametrize("command", ["run", "estimate"])
def test_a_setting_that_a_lever_does_not_have(command: str, folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "majority: {}", "tuned:\n    strategy: levers\n    weights: {rnk: 8}")
    said = refused(command, "s.yaml")
    assert said.startswith("breakeven: ")
    assert "s.yaml:7, field 'strategies.tuned.weights.rnk': unknown setting of the trainer 'peft'" in said
    assert "Did you mean 'rank'?" in said


def test_a_broken_csv_row(folder: Path, refused: Callable) -> None:
    change(
        folder / "rows.csv", "message number 3 about coffee,coffee", "message, number 3, about coffee,coffee"
    )
    said = refused()
    assert "rows.csv:5" in said


def test_a_broken_jsonl_row(folder: Path, refused: Callable) -> None:
    (folder / "rows.jsonl").write_text('{"text": "a", "label": "tea"}\n{"text": "b", "label": \n')
    change(folder / "drinks.yaml", "rows.csv", "rows.jsonl")
    assert "rows.jsonl:2" in refused()


def test_an_empty_split(folder: Path, refused: Callable) -> None:
    change(folder / "drinks.yaml", "test: 12", "test: 0")
    said = refused()
    assert "test" in said
    assert "drinks.yaml" in said


def test_a_label_outside_the_choices(folder: Path, refused: Callable) -> None:
    change(folder / "drinks.yaml", "choices: from data", "choices: [tea, milk]")
    said = refused()
    assert "rows.csv:3" in said
    assert "coffee" in said
    assert "'label'" in said


def test_a_template_with_an_unknown_field(folder: Path, refused: Callable) -> None:
    change(folder / "drinks.yaml", "{{ text }}", "{{ txt }}")
    said = refused()
    assert "drinks.yaml:3" in said
    assert "'input_template'" in said
    assert "txt" in said


@pytest.mark.model
def test_a_prompt_longer_than_the_context(folder: Path, refused: Callable) -> None:
    change(folder / "rows.csv", "message number 3", "word " * 9000)
    change(folder / "s.yaml", "majority: {}", "zero-shot: {}")
    said = refused()
    assert "rows.csv" in said
    assert "tokens" in said
    assert "8,192" in said


def test_a_model_that_is_not_there(folder: Path, refused: Callable) -> None:
    change(folder / "s.yaml", "strategies:", "models: {default: {model: smolm2-135m}}\nstrategies:")
    change(folder / "s.yaml", "majority: {}", "zero-shot: {}")
    said = refused()
    assert "smolm2-135m" in said
    assert "smollm2-135m-instruct" in said


def test_a_run_name_that_is_taken(folder: Path, breakeven: Callable) -> None:
    assert breakeven("run", "s.yaml", "--name", "r").code == 0
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 2
    assert "--resume" in said.err


def test_a_full_disk(folder: Path, breakeven: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills while the cell's predictions are written: said, and no half file is left."""
    from breakeven.harness import store

    real = store.os.fsync
    written: list[int] = []

    def fsync(fd: int) -> None:
        written.append(fd)
        if len(written) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    monkeypatch.setattr(store.os, "fsync", fsync)
    said = breakeven("run", "s.yaml", "--name", "r")
    assert said.code == 2
    assert "no space left" in said.err
    assert str(Path("runs", "r")) in said.err
    assert not list(folder.rglob("*.tmp"))
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert breakeven("run", "--resume", "runs/r").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "which suite"),
        (("run", "--resume", "runs/none"), "not a run folder"),
        (("run", "s.yaml", "--only", "lora*"), "no strategy or cell matches"),
        (("run", "s.yaml", "--set", "seeds"), "is no change"),
        (("run", "s.yaml", "--set", "seeds=many"), "seeds"),
        (("run", "s.yaml", "--name", "a/b"), "cannot be a folder name"),
        (("report", "s.yaml"), "not a run folder"),
        (("list", "cats"), "tasks, strategies, models or suites"),
        (("validate", "drink"), "drink"),
    ],
)
def test_a_wrong_word_on_the_command_line(refused: Callable, arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(*arguments)
