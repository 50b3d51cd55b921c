"""`breakeven init`: from rows to a task and a suite that run, and nothing half written when it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from breakeven.harness import suite
from breakeven.harness.cli.init import init, write_together
from breakeven.harness.contracts import Task
from breakeven.harness.errors import UserError
from breakeven.harness.taskfile import load

DRINKS = ["tea", "coffee", "milk", "juice"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_rows(
    folder: Path, answers: Sequence[Any], column: str = "label", name: str = "orders.jsonl"
) -> str:
    rows = [{"text": f"order {i * 7919} for table {i * 104729}", column: a} for i, a in enumerate(answers)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def made(folder: Path, answers: Sequence[Any], column: str = "label") -> Task:
    data = write_rows(folder, answers, column)
    init(data=data, input="text", reference=column, yes=True)
    return load(folder / "orders.task.yaml")


# --- what is written -------------------------------------------------------------------------


def test_a_csv_file_becomes_a_task_and_a_suite_that_runs(folder: Path, breakeven: Callable) -> None:
    (folder / "orders.csv").write_text(
        "text,label\n"
        + "".join(f"a {d} for {i * 7919} and {i * 104729},{d}\n" for i, d in enumerate(DRINKS * 15))
    )
    said = breakeven("init", "--data", "orders.csv", "--input", "text", "--reference", "label", "--yes")
    assert said.code == 0, said
    assert "breakeven run orders.suite.yaml" in said.out
    ran = breakeven("run", "orders.suite.yaml", "--only", "majority")
    assert ran.code == 0, ran


def test_answers_that_repeat_become_choices(folder: Path) -> None:
    task = made(folder, DRINKS * 10)
    assert task.choices == ("coffee", "juice", "milk", "tea")
    assert task.primary.name == "accuracy"


@pytest.mark.parametrize(
    ("answer", "metric"),
    [
        (lambda i: f"table {i}", "token_f1"),
        (lambda i: " ".join(f"word{i * k}" for k in range(30)), "rouge_l"),
        (lambda i: ["salt", f"herb {i}"], "set_f1"),
        (lambda i: i * 1.5, "numeric_match"),
        (lambda i: {"name": f"n{i}"}, "json_field_f1"),
        (lambda i: json.dumps({"name": f"n{i}"}), "json_field_f1"),
    ],
    ids=["short text", "long text", "list", "number", "object", "JSON text"],
)
def test_the_metric_suits_the_kind_of_answer(folder: Path, answer: Callable[[int], Any], metric: str) -> None:
    task = made(folder, [answer(i) for i in range(40)])
    assert (task.primary.name, task.choices) == (metric, None)


def test_a_list_under_answers_holds_several_acceptable_ones(folder: Path) -> None:
    task = made(folder, [[f"table {i}", f"no {i}"] for i in range(40)], column="answers")
    assert len(task.test[0].references) == 2


def test_a_list_under_another_name_is_one_answer(folder: Path) -> None:
    task = made(folder, [[f"table {i}", f"no {i}"] for i in range(40)], column="wanted")
    assert len(task.test[0].references) == 1


def test_answers_in_the_layout_of_squad_are_found(folder: Path) -> None:
    task = made(folder, [{"text": [f"t {i}"], "answer_start": [0]} for i in range(40)], column="answers")
    assert all(isinstance(r, str) for e in task.test for r in e.references)


def test_columns_called_id_and_split_are_used_as_such(folder: Path) -> None:
    rows = [
        {"id": f"r{i}", "text": f"order {i * 7919}", "label": f"l {i}", "split": "test" if i < 5 else "train"}
        for i in range(30)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    init(data="rows.jsonl", input="text", reference="label", name="orders", yes=True)
    assert {e.id for e in load(folder / "orders.task.yaml").test} == {f"r{i}" for i in range(5)}


def test_rows_of_one_group_stay_together(folder: Path, breakeven: Callable) -> None:
    rows = [{"text": f"order {i * 7919}", "label": f"l {i}", "page": f"p{i % 20}"} for i in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("--data", "rows.jsonl", "--input", "text", "--reference", "label", "--group", "page")
    said = breakeven("init", *given, "--language", "de", "--name", "orders", "--yes")
    assert said.code == 0, said.err
    task = load(folder / "orders.task.yaml")
    assert task.language == "de"
    groups = [{e.group for e in split} for split in (task.train, task.validation, task.test)]
    assert set().union(*groups) == {f"p{i}" for i in range(20)}
    assert sum(map(len, groups)) == 20


def test_rows_without_a_group_are_groups_of_their_own_and_told(folder: Path, breakeven: Callable) -> None:
    lines = [f"order {i * 7919},l {i},{f'p{i}' if i % 2 else ''}" for i in range(60)]
    (folder / "rows.csv").write_text("\n".join(["text,label,page", *lines]) + "\n")
    given = ("--data", "rows.csv", "--input", "text", "--reference", "label", "--group", "page")
    said = breakeven("init", *given, "--name", "orders", "--yes")
    assert said.code == 0, said.err
    assert "30 of 60 rows have nothing in 'page'" in said.out
    task = load(folder / "orders.task.yaml")
    assert {e.group for e in task.test} - {None} < {f"p{i}" for i in range(60)}


def test_a_group_or_a_language_that_is_none_is_refused(folder: Path) -> None:
    data = write_rows(folder, DRINKS * 10)
    error = refused(folder, data=data, input="text", reference="label", group="pages")
    assert error.field == "--group"
    assert "text, label" in str(error)
    (folder / "nested.jsonl").write_text(
        "".join(
            json.dumps({"text": f"order {i}", "label": f"l {i}", "meta": {"page": i}}) + "\n"
            for i in range(30)
        )
    )
    error = refused(folder, data="nested.jsonl", input="text", reference="label", group="meta.pge")
    assert "no row has anything in the column 'meta.pge'" in str(error)
    error = refused(folder, data=data, input="text", reference="label", language="german?")
    assert error.field == "--language"


def test_column_names_that_are_no_words_of_jinja_get_fields_that_are(folder: Path) -> None:
    (folder / "o.csv").write_text(
        '"what they said",2nd line,label\n'
        + "".join(f"a{i * 7919},b{i},{DRINKS[i % 4]}\n" for i in range(40))
    )
    init(data="o.csv", input="what they said, 2nd line", reference="label", yes=True)
    assert set(load(folder / "o.task.yaml").test[0].input) == {"what_they_said", "field_2nd_line"}


def test_documents_bring_retrieval_into_the_suite(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("# A\ntext")
    data = write_rows(folder, [f"fact {i}" for i in range(40)])
    init(data=data, input="text", reference="label", documents=Path("docs"), yes=True)
    assert len(load(folder / "orders.task.yaml").documents) == 1
    assert "rag" in suite.load(folder / "orders.suite.yaml").strategies


def test_strategies_for_choices_are_left_out_where_there_are_none(folder: Path) -> None:
    made(folder, [f"fact {i}" for i in range(40)])
    assert "logistic-regression" not in suite.load(folder / "orders.suite.yaml").strategies


def test_paths_are_written_as_the_task_file_needs_them(folder: Path) -> None:
    data = write_rows(folder, DRINKS * 10)
    init(data=data, input="text", reference="label", out=folder / "deep" / "er", yes=True)
    assert len(load(folder / "deep" / "er" / "orders.task.yaml").test) == 12


def test_what_should_improve_is_kept_with_the_economics(folder: Path) -> None:
    data = write_rows(folder, DRINKS * 10)
    init(data=data, input="text", reference="label", improve="latency", yes=True)
    assert suite.load(folder / "orders.suite.yaml").economics.improve == "latency"


def test_a_hostile_label_stays_a_label(folder: Path) -> None:
    labels = ["yes", "no", "a: b # c", "{{ x }}"]
    assert made(folder, labels * 10).choices == tuple(sorted(labels))


# --- what is asked ---------------------------------------------------------------------------


class Person:
    """Answers by a word of the question, else with the default; remembers what was asked."""

    def __init__(self, **answers: str) -> None:
        self.answers, self.asked = answers, list[str]()

    def __call__(self, question: str, default: str, allowed: Sequence[str]) -> str:
        self.asked.append(question)
        return next((a for word, a in self.answers.items() if word in question), default)


def test_only_what_is_missing_is_asked(folder: Path) -> None:
    person = Person()
    data = write_rows(folder, DRINKS * 10)
    init(data=data, input="text", reference="label", name="n", improve="cost", ask=person)
    assert not [q for q in person.asked if "column" in q or "rows" in q or "called" in q or "better" in q]


def test_a_row_without_a_label_is_named_and_is_no_choice(folder: Path) -> None:
    answers = [*DRINKS * 10]
    answers[6] = ""
    with pytest.raises(UserError, match="the row has no answer") as found:
        made(folder, answers)
    assert found.value.line == 7


def test_the_answers_end_up_in_the_files(folder: Path) -> None:
    data = write_rows(folder, DRINKS * 10)
    person = Person(rows=data, better="style", called="drinks", month="2,500", line="Take orders.")
    init(ask=person)
    economics = suite.load(folder / "drinks.suite.yaml").economics
    assert (economics.improve, economics.requests_per_month, economics.use_case) == (
        "style",
        2500,
        "Take orders.",
    )
    assert yaml.safe_load((folder / "drinks.task.yaml").read_text())["columns"]["input"] == "text"


# --- what goes wrong -------------------------------------------------------------------------


def refused(folder: Path, **options: Any) -> UserError:
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        init(**{"yes": True, **options})
    assert sorted(folder.rglob("*")) == before
    return caught.value


def test_without_a_terminal_a_missing_answer_is_an_error(folder: Path, breakeven: Callable) -> None:
    data = write_rows(folder, DRINKS * 10)
    said = breakeven("init", "--data", data, "--reference", "label")
    assert said.code == 2
    assert "--input" in said.err
    assert "text, label" in said.err


def test_a_missing_file_is_named(folder: Path) -> None:
    assert refused(folder, data="nope.csv", input="a", reference="b").field == "--data"


def test_a_column_that_is_not_there_is_refused(folder: Path) -> None:
    error = refused(folder, data=write_rows(folder, DRINKS * 10), input="txt", reference="label")
    assert error.field == "--input"
    assert "text, label" in str(error)


def test_an_unknown_aspect_is_refused(folder: Path) -> None:
    assert refused(folder, data="x", improve="beauty").field == "--improve"


def test_files_that_are_there_are_not_overwritten(folder: Path) -> None:
    data = write_rows(folder, DRINKS * 10)
    (folder / "orders.suite.yaml").write_text("mine")
    assert "--force" in str(refused(folder, data=data, input="text", reference="label"))
    assert (folder / "orders.suite.yaml").read_text() == "mine"


def test_force_overwrites(folder: Path) -> None:
    (folder / "orders.suite.yaml").write_text("mine")
    init(data=write_rows(folder, DRINKS * 10), input="text", reference="label", yes=True, force=True)
    assert suite.load(folder / "orders.suite.yaml").suite == "orders"


def test_rows_too_few_to_cut_write_nothing(folder: Path) -> None:
    refused(folder, data=write_rows(folder, ["x"]), input="text", reference="label")


def test_a_disk_that_fails_at_the_second_file_leaves_none(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "b" / "inside").write_text("a folder in the way")
    with pytest.raises(UserError):
        write_together({folder / "a": "one", folder / "b": "two"}, force=True)
    assert sorted(p.name for p in folder.iterdir()) == ["b"]


def test_training_data_in_a_known_format_needs_no_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    answers = ("no", "yes")
    turns = [
        [{"from": "human", "value": f"Order {i * 7919}?"}, {"from": "gpt", "value": answers[i % 2]}]
        for i in range(40)
    ]
    rows = [{"conversations": t, "caller": f"c{i // 4}"} for i, t in enumerate(turns)]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = breakeven("init", "--data", "chat.jsonl", "--group", "caller", "--yes")
    assert said.code == 0, said.err
    assert "read as sharegpt" in said.out
    made = load(tmp_path / "chat.task.yaml")
    assert made.choices == ("no", "yes")
    assert made.input_template == "{{ prompt }}"
    assert {e.group for e in made.test} < {f"c{n}" for n in range(10)}
