"""Tasks from YAML files and from arguments: what they hold, and what is said of a mistake in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness.contracts import Document, Task
from breakeven.harness.errors import UserError
from breakeven.harness.taskfile import load, make_task

DRINKS = [
    {"n": i, "text": f"{drink} number {i * 7919}, please, as {i * 104729} said", "label": drink}
    for i, drink in enumerate(["tea", "coffee", "milk", "juice"] * 10)
]
YAML = """\
# what somebody might write
instructions: |
  Say which drink.
input_template: "Order: {{ text }}"
data: rows.csv
columns:
  input: text
  reference: label
choices: from data
metrics: [accuracy, macro_f1]
max_tokens: 5
sizes: {train: 20, validation: 8, test: 12}
"""


def task(**changes: Any) -> Task:
    settings: dict[str, Any] = {
        "instructions": "Say which drink.",
        "data": DRINKS,
        "columns": {"input": "text", "reference": "label"},
        "metrics": ["accuracy"],
        "choices": "from data",
    }
    return make_task("drinks", **{**settings, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f'{r["n"]},"{r["text"]}",{r["label"]}\n' for r in DRINKS)
    (tmp_path / "rows.csv").write_text("n,text,label\n" + rows)
    (tmp_path / "drinks.task.yaml").write_text(YAML)
    return tmp_path


@pytest.fixture
def refused(folder: Path) -> Callable[..., UserError]:
    """`refused(old, new)`: the error of the file with one change."""

    def call(old: str, new: str) -> UserError:
        assert old in YAML
        file = folder / "drinks.task.yaml"
        file.write_text(YAML.replace(old, new, 1))
        with pytest.raises(UserError) as caught:
            load(file)
        assert "\n" not in str(caught.value)
        return caught.value

    return call


# --- what a task file gives ------------------------------------------------------------------


def test_a_yaml_file_makes_a_task(folder: Path) -> None:
    made = load(folder / "drinks.task.yaml")
    assert made.name == "drinks"
    assert made.instructions == "Say which drink."
    assert made.choices == ("coffee", "juice", "milk", "tea")
    assert [m.name for m in made.metrics] == ["accuracy", "macro_f1"]
    assert [len(s) for s in (made.train, made.validation, made.test)] == [20, 8, 12]
    assert made.max_tokens == 5


def test_arguments_override_the_keys_of_the_file(folder: Path) -> None:
    made = load(folder / "drinks.task.yaml", max_tokens=9, sizes={"test": 4})
    assert (made.max_tokens, len(made.test)) == (9, 4)


def test_paths_start_at_the_folder_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert len(load(folder / "drinks.task.yaml").test) == 12


def test_the_same_file_gives_the_same_task(folder: Path) -> None:
    one, two = load(folder / "drinks.task.yaml"), load(folder / "drinks.task.yaml")
    assert (one.train, one.validation, one.test) == (two.train, two.validation, two.test)


def test_documents_come_with_the_task(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "tea.md").write_text("# Tea\nleaves")
    made = load(folder / "drinks.task.yaml", documents="docs")
    assert [d.title for d in made.documents] == ["Tea"]


# --- what make_task makes of its data --------------------------------------------------------


def test_the_cut_is_recorded() -> None:
    made = task(sizes={"train": 10, "validation": 5, "test": 5})
    assert made.cut["made"] == ["train", "validation", "test"]
    assert made.cut["left_out"] == 20
    assert made.cut["stratified"] is True


def test_given_splits_stay_as_they_are() -> None:
    made = task(data={"train": DRINKS[:20], "validation": DRINKS[20:30], "test": DRINKS[30:]})
    assert [e.references[0] for e in made.test] == [r["label"] for r in DRINKS[30:]]
    assert made.cut["made"] == []


def test_a_missing_validation_split_is_cut_from_train_and_test_stays() -> None:
    made = task(data={"train": DRINKS[:30], "test": DRINKS[30:]}, sizes={"validation": 6})
    assert [len(s) for s in (made.train, made.validation, made.test)] == [24, 6, 10]
    assert made.cut["made"] == ["train", "validation"]


def test_a_split_column_says_where_a_row_belongs() -> None:
    rows = [{**r, "part": "dev" if i < 4 else "test" if i < 12 else "train"} for i, r in enumerate(DRINKS)]
    made = task(data=rows, columns={"input": "text", "reference": "label", "split": "part"})
    assert [len(s) for s in (made.train, made.validation, made.test)] == [28, 4, 8]


def test_a_size_of_zero_means_that_a_split_is_not_wanted() -> None:
    made = task(data={"train": DRINKS[:30], "test": DRINKS[30:]}, sizes={"validation": 0})
    assert (len(made.train), len(made.validation)) == (30, 0)


def test_a_test_set_alone_can_be_a_task_when_nothing_else_is_wanted() -> None:
    made = task(data={"test": DRINKS}, sizes={"train": 0, "validation": 0})
    assert [len(s) for s in (made.train, made.validation, made.test)] == [0, 0, 40]


def test_without_a_template_one_field_stands_alone_and_several_are_named() -> None:
    assert task().input_template == "{{ text }}"
    columns = {"input": ["n", "text"], "reference": "label"}
    assert task(columns=columns).input_template == "n: {{ n }}\ntext: {{ text }}"


def test_chat_messages_need_no_template() -> None:
    rows = [{"messages": [{"role": "user", "content": r["text"]}], "label": r["label"]} for r in DRINKS]
    made = task(data=rows, columns={"input": "messages", "reference": "label"})
    assert made.input_template == ""


def test_ready_documents_are_taken_as_they_are() -> None:
    assert task(documents=[Document("d", "text")]).documents == (Document("d", "text"),)


# --- mistakes --------------------------------------------------------------------------------


def test_an_unknown_key_suggests_the_nearest(refused: Callable[..., UserError]) -> None:
    error = refused("max_tokens", "max_token")
    assert (error.line, error.field) == (11, "max_token")
    assert "max_tokens" in str(error)


def test_an_unknown_key_among_the_columns_has_its_line(refused: Callable[..., UserError]) -> None:
    error = refused("  reference: label", "  refrence: label")
    assert (error.line, error.field) == (8, "columns.refrence")


def test_a_missing_key_is_named(refused: Callable[..., UserError]) -> None:
    assert refused("metrics: [accuracy, macro_f1]\n", "").field == "metrics"


def test_a_missing_data_file_has_the_line_that_names_it(refused: Callable[..., UserError]) -> None:
    error = refused("rows.csv", "row.csv")
    assert (error.line, error.field) == (5, "data")
    assert "rows.csv" in str(error)


def test_a_missing_documents_folder_has_the_line_that_names_it(refused: Callable[..., UserError]) -> None:
    error = refused("max_tokens: 5", "documents: nowhere")
    assert (error.line, error.field) == (11, "documents")


def test_a_misspelt_column_has_the_line_that_names_it(refused: Callable[..., UserError]) -> None:
    error = refused("  input: text", "  input: txt")
    assert error.line == 7
    assert "did you mean 'text'" in str(error)


def test_a_template_with_an_unknown_field_suggests_the_nearest(refused: Callable[..., UserError]) -> None:
    error = refused("{{ text }}", "{{ txt }}")
    assert (error.line, error.field) == (4, "input_template")
    assert "did you mean 'text'" in str(error)


def test_a_template_that_is_no_jinja_is_refused(refused: Callable[..., UserError]) -> None:
    assert refused("{{ text }}", "{{ text }").field == "input_template"


def test_a_template_without_any_field_is_refused(refused: Callable[..., UserError]) -> None:
    assert "no field" in str(refused("{{ text }}", "text"))


def test_a_label_outside_the_choices_has_the_line_of_its_row(
    refused: Callable[..., UserError], folder: Path
) -> None:
    error = refused("choices: from data", "choices: [tea, coffee, juice]")
    assert (error.file, error.line, error.field) == (str(folder / "rows.csv"), 4, "label")
    assert "'milk'" in str(error)


def test_a_choice_that_yaml_reads_as_true_is_refused(refused: Callable[..., UserError]) -> None:
    error = refused("choices: from data", "choices: [yes, no]")
    assert error.line == 9


def test_a_choice_given_twice_is_refused(refused: Callable[..., UserError]) -> None:
    assert "twice" in str(refused("choices: from data", "choices: [tea, coffee, milk, juice, tea]"))


def test_an_unknown_metric_has_its_line(refused: Callable[..., UserError]) -> None:
    error = refused("[accuracy, macro_f1]", "[acuracy]")
    assert error.line == 10
    assert "accuracy" in str(error)


def test_sizes_beyond_the_data_have_their_line(refused: Callable[..., UserError]) -> None:
    assert refused("test: 12", "test: 120").line == 12


def test_an_empty_data_file_is_refused(refused: Callable[..., UserError], folder: Path) -> None:
    (folder / "none.csv").write_text("text,label\n")
    error = refused("rows.csv", "none.csv")
    assert (error.line, error.field) == (5, "data")


def test_a_value_of_the_split_column_that_is_no_split_is_refused() -> None:
    rows = [{**r, "part": "tset"} for r in DRINKS]
    with pytest.raises(UserError, match="no split 'tset'") as caught:
        task(data=rows, columns={"input": "text", "reference": "label", "split": "part"})
    assert caught.value.line == 1


def test_one_id_in_two_splits_is_refused() -> None:
    columns = {"input": "text", "reference": "label", "id": "n"}
    with pytest.raises(UserError, match="already given"):
        task(data={"train": DRINKS[:30], "test": DRINKS[29:]}, columns=columns)


def test_a_test_set_alone_is_not_cut_into_train() -> None:
    with pytest.raises(UserError, match="no rows to cut the train and validation split from"):
        task(data={"test": DRINKS})


# --- rows in a format of training data -------------------------------------------------------


def exchanges(path: Path, n: int = 30, system: str = "", first: int = 0) -> str:
    """A file of ShareGPT, by its name."""
    before = [{"from": "system", "value": system}] if system else []
    turns = []
    for i in range(first, first + n):
        asked = {"from": "human", "value": f"Twice {i}, if you please?"}
        turns.append({"conversations": [*before, asked, {"from": "gpt", "value": str(2 * i)}]})
    path.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    return path.name


def from_yaml(folder: Path, text: str) -> Task:
    (folder / "t.yaml").write_text(text + "\nmetrics: [exact_match]\n")
    return load(folder / "t.yaml")


def test_a_recognised_format_needs_no_columns(tmp_path: Path) -> None:
    exchanges(tmp_path / "a.jsonl")
    made = from_yaml(tmp_path, "data: a.jsonl")
    assert made.input_template == "{{ prompt }}"
    assert made.train[0].input["prompt"].startswith("Twice")  # type: ignore[union-attr]
    assert made.cut["formats"] == {"a.jsonl": "sharegpt"}


def test_a_system_message_of_all_rows_becomes_the_instructions(tmp_path: Path) -> None:
    exchanges(tmp_path / "a.jsonl", system="Say the number only.")
    made = from_yaml(tmp_path, "data: {path: a.jsonl, format: sharegpt}")
    assert made.instructions == "Say the number only."
    assert set(made.test[0].input) == {"prompt"}


def test_instructions_and_other_system_messages_clash(tmp_path: Path) -> None:
    exchanges(tmp_path / "a.jsonl", system="Say the number only.")
    with pytest.raises(UserError, match="the rows have system messages, and the task has instructions"):
        from_yaml(tmp_path, "instructions: Be brief.\ndata: a.jsonl")


def test_a_longer_talk_is_asked_as_messages_and_its_last_answer_is_the_reference(tmp_path: Path) -> None:
    exchanges(tmp_path / "a.jsonl", n=20)
    talk = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    rows = [{"messages": [*talk, {"role": "assistant", "content": f"d{i}"}], "author": str(i % 7)}
            for i in range(20)]  # fmt: skip
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = from_yaml(tmp_path, "data: {mix: [{path: a.jsonl}, {path: b.jsonl}]}\ncolumns: {group: author}")
    longest = max((*made.train, *made.validation, *made.test), key=lambda e: len(e.input["messages"]))  # type: ignore[arg-type]
    assert longest.input["messages"] == talk
    assert str(longest.references[0]).startswith("d")
    assert longest.group is not None


@pytest.mark.parametrize(
    ("columns", "field"), [("{group: answer}", "columns.group"), ("{meta: [id, prompt.en]}", "columns.meta")]
)
def test_a_column_that_the_question_or_the_answer_would_hide_is_refused(
    tmp_path: Path, columns: str, field: str
) -> None:
    rows = [
        {
            "messages": [{"role": "user", "content": f"{i}?"}, {"role": "assistant", "content": str(i)}],
            "id": i,
            "answer": f"group {i % 7}",
            "prompt": {"en": "x"},
        }
        for i in range(20)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert from_yaml(tmp_path, "data: a.jsonl\ncolumns: {meta: [id]}").train
    with pytest.raises(UserError, match="what the format makes is called so too") as caught:
        from_yaml(tmp_path, f"data: a.jsonl\ncolumns: {columns}")
    assert caught.value.field == field


def test_the_name_of_a_speaker_is_not_dropped_without_a_word(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a", "name": "Ann"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    with pytest.raises(UserError, match="cannot hold the names of speakers") as caught:
        from_yaml(tmp_path, "data: a.jsonl")
    assert (caught.value.line, caught.value.field) == (1, "name")


def test_a_mixture_is_written_down_and_keeps_its_ratios(tmp_path: Path) -> None:
    exchanges(tmp_path / "a.jsonl")
    exchanges(tmp_path / "b.jsonl", first=100)
    mix = "{mix: [{path: a.jsonl, ratio: 3}, {path: b.jsonl, ratio: 1}], examples: 20}"
    exchanges(tmp_path / "test.jsonl", first=500, n=5)
    made = from_yaml(tmp_path, f"data:\n  train: {mix}\n  test: test.jsonl\nsizes: {{validation: 0}}")
    assert made.cut["mixed"] == {"a.jsonl": 15, "b.jsonl": 5}
    assert (len(made.train), len(made.test)) == (20, 5)


@pytest.mark.parametrize(
    ("text", "field", "what"),
    [
        ("data: {path: a.jsonl, format: sharegtp}", "data.format", "did you mean 'sharegpt'"),
        ("data: {path: a.jsonl, formt: sharegpt}", "data.formt", "did you mean format"),
        ("data: {path: a.jsonl, format: alpaca}", "instruction", "is missing"),
        ("data: {path: a.jsonl}\ncolumns: {input: x, reference: y}", "columns.input", "leave `input`"),
        ("data: b.csv", "data.format", r"the columns of b.csv \(q, r\) tell no format"),
        ("data: {mix: [{path: a.jsonl, ratio: 1}, {path: b.csv}]}", "data", "all data sets of a mix"),
        ("data: {mix: [{path: a.jsonl, ratio: -1}]}", "data.mix.0.ratio", "greater than 0"),
        ("data: {path: t.jsonl, format: text}", "text", "asks nothing that could be scored"),
    ],
)
def test_what_is_wrong_with_a_format_is_said_in_its_place(
    tmp_path: Path, text: str, field: str, what: str
) -> None:
    exchanges(tmp_path / "a.jsonl")
    (tmp_path / "b.csv").write_text("q,r\na,b\n")
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=what) as caught:
        from_yaml(tmp_path, text)
    assert caught.value.field == field
    assert caught.value.line is not None


def test_a_row_at_fault_in_a_task_gives_its_own_line(tmp_path: Path) -> None:
    exchanges(tmp_path / "a.jsonl")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"conversations": [{"from": "human", "value": "a"}, {"from": "bot", "value": "b"}]}\n')
    with pytest.raises(UserError, match='nobody is called "bot"') as caught:
        from_yaml(tmp_path, "data: a.jsonl")
    assert (Path(str(caught.value.file)).name, caught.value.line) == ("a.jsonl", 31)
