"""Rows, examples and documents: what is read, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from breakeven.harness import readers
from breakeven.harness.data import Columns, content_id, damage, documents, examples, labels
from breakeven.harness.errors import UserError

LABELLED = Columns.of("text", reference="label")


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    return [dict(row.values) for row in readers.read(path, **options)[""]]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding, newline="")
    return path


def refused(call: Any, *arguments: Any, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return caught.value


# --- what is read ----------------------------------------------------------------------------


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,label\nhi,01\nNA,2026-11-20\n,true\n")
    assert rows_of(file) == [
        {"text": "hi", "label": "01"},
        {"text": "NA", "label": "2026-11-20"},
        {"text": "", "label": "true"},
    ]


def test_a_quoted_csv_field_keeps_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'text,label\n"one, ""two""\nthree",x\n')
    assert rows_of(file)[0]["text"] == 'one, "two"\nthree'


def test_semicolons_and_tabs_separate_too(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.csv", "text;label\na, b;x\n")) == [{"text": "a, b", "label": "x"}]
    assert rows_of(write(tmp_path / "a.tsv", "text\tlabel\na, b\tx\n")) == [{"text": "a, b", "label": "x"}]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("prompt;note (a, b, c)\n1;2\n", {"prompt": "1", "note (a, b, c)": "2"}),
        ('"a;b;c",d\n1,2\n', {"a;b;c": "1", "d": "2"}),
        ("text\na; b\n", {"text": "a; b"}),
        ("a,b;c\n1,2;3\n", {"a": "1", "b;c": "2;3"}),
        ("a;b\n", None),
    ],
)
def test_commas_in_a_header_do_not_separate_where_the_rows_have_none(
    tmp_path: Path, text: str, first: dict[str, str] | None
) -> None:
    assert rows_of(write(tmp_path / "a.csv", text))[:1] == ([first] if first else [])


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.csv", "text,label\na,b\n", "utf-8-sig"))[0]["text"] == "a"
    assert rows_of(write(tmp_path / "a.jsonl", '{"text": "a"}\n', "utf-8-sig"))[0]["text"] == "a"


def test_another_encoding_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,label\ncafé,x\n", "cp1252")
    assert rows_of(file, encoding="cp1252")[0]["text"] == "café"


def test_jsonl_values_of_mixed_types_come_back_as_they_were(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.jsonl",
        '{"a": "2026-11-20", "r": ["p", "q"]}\n\n{"a": "x", "r": "s", "m": {"k": 1.5}}\n{"a": "y", "r": 3}\n',
    )
    assert rows_of(file) == [
        {"a": "2026-11-20", "r": ["p", "q"], "m": None},
        {"a": "x", "r": "s", "m": {"k": 1.5}},
        {"a": "y", "r": 3, "m": None},
    ]


def test_a_line_separator_inside_a_json_string_does_not_end_the_line(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.jsonl", '{"a": "x\u2028y"}\n')) == [{"a": "x\u2028y"}]


def test_a_json_file_holds_a_list_of_objects(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "a.json", '[{"a": "x"},\n {"a": "y"}]')) == [{"a": "x"}, {"a": "y"}]


def test_parquet_is_read(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_list([{"text": "a", "n": [1, 2]}]).to_parquet(str(tmp_path / "a.parquet"))
    assert rows_of(tmp_path / "a.parquet") == [{"text": "a", "n": [1, 2]}]


def test_a_path_with_wildcard_characters_is_only_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "we[i]rd * name"
    folder.mkdir()
    assert rows_of(write(folder / "a?.csv", "text,label\na,b\n")) == [{"text": "a", "label": "b"}]


def test_a_folder_gives_the_splits_its_files_are_named_after(tmp_path: Path) -> None:
    write(tmp_path / "train-1.csv", "text\na\n")
    write(tmp_path / "train-2.jsonl", '{"text": "b"}\n')
    write(tmp_path / "dev.csv", "text\nc\n")
    write(tmp_path / "test.csv", "text\nd\n")
    found = readers.read(tmp_path)
    assert {split: [r.values["text"] for r in rows] for split, rows in found.items()} == {
        "train": ["a", "b"],
        "validation": ["c"],
        "test": ["d"],
    }


def test_rows_may_come_from_a_program() -> None:
    found = readers.read({"a": n, "b": ["x"]} for n in range(3))
    assert [dict(r.values) for r in found[""]] == [{"a": n, "b": ["x"]} for n in range(3)]


def test_class_numbers_of_a_data_set_become_class_names() -> None:
    import datasets

    features = datasets.Features({"label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"label": [1, 0]}, features=features)
    assert [r.values["label"] for r in readers.read(made)[""]] == ["yes", "no"]


def test_a_data_set_dictionary_keeps_its_splits() -> None:
    import datasets

    made = datasets.DatasetDict({"val": datasets.Dataset.from_list([{"a": "x"}])})
    assert list(readers.read(made)) == ["validation"]


# --- what is said of broken files ------------------------------------------------------------


def test_a_csv_row_with_too_many_fields_is_named_by_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'text,label\n"two\nlines",x\n\na,b,c\n')
    error = refused(readers.read, file)
    assert (error.file, error.line) == (file, 5)
    assert "3 fields" in str(error)


def test_a_csv_quote_that_never_closes_is_named_where_it_opens(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'text,label\na,b\n"c,d\ne,f\n')
    error = refused(readers.read, file)
    assert error.line == 3
    assert "never closed" in str(error)


def test_two_csv_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    assert refused(readers.read, write(tmp_path / "a.csv", "text,text\na,b\n")).field == "text"


def test_an_empty_csv_file_is_refused(tmp_path: Path) -> None:
    assert "is empty" in str(refused(readers.read, write(tmp_path / "a.csv", "")))


def test_a_broken_json_line_is_named_by_its_line(tmp_path: Path) -> None:
    error = refused(readers.read, write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": \n'))
    assert error.line == 3
    assert "not JSON" in str(error)


def test_a_json_line_that_is_no_object_is_refused(tmp_path: Path) -> None:
    assert refused(readers.read, write(tmp_path / "a.jsonl", '{"a": 1}\n["b"]\n')).line == 2


def test_a_wrong_byte_is_named_with_its_line(tmp_path: Path) -> None:
    error = refused(readers.read, write(tmp_path / "a.csv", "text\nfine\ncafé\n", "cp1252"))
    assert error.line == 3
    assert "0xe9" in str(error)


def test_utf_16_is_recognised(tmp_path: Path) -> None:
    assert "UTF-16" in str(refused(readers.read, write(tmp_path / "a.csv", "text\na\n", "utf-16")))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv", "a\n")
    assert "rows.csv" in str(refused(readers.read, tmp_path / "row.csv"))


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    assert "'.xlsx'" in str(refused(readers.read, write(tmp_path / "a.xlsx", "x")))


def test_a_hub_data_set_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = refused(readers.read, "nobody/no-such-data-set")
    assert "nobody/no-such-data-set" in str(error)
    assert "\n" not in str(error)


def test_a_loose_file_beside_splits_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text\na\n")
    write(tmp_path / "more.csv", "text\nb\n")
    assert refused(readers.read, tmp_path).file == tmp_path / "more.csv"


# --- examples --------------------------------------------------------------------------------


def made(
    rows: list[dict[str, Any]], columns: Columns = LABELLED, choices: tuple[str, ...] | None = None
) -> Any:
    return examples(readers.read(rows)[""], columns, choices)


def test_an_example_takes_its_parts_from_the_columns_named() -> None:
    columns = Columns.of({"question": "q"}, references="a.text", id="key", group="page", meta=["note"])
    (example,) = made([{"q": "why?", "a": {"text": ["x", "y"]}, "key": 7, "page": 3, "note": "n"}], columns)
    assert example.id == "7"
    assert example.input == {"question": "why?"}
    assert example.references == ("x", "y")
    assert example.group == "3"
    assert example.meta == {"note": "n"}


def test_a_list_under_reference_is_one_answer() -> None:
    (example,) = made([{"text": "t", "label": ["a", "b"]}])
    assert example.references == (["a", "b"],)


def test_a_separator_makes_a_list_of_a_cell() -> None:
    (example,) = made([{"text": "t", "label": "a; b;"}], Columns.of("text", reference="label", separator=";"))
    assert example.references == (["a", "b"],)


def test_ids_depend_on_the_input_alone_and_not_on_its_neighbours() -> None:
    first = made([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    second = made([{"text": "new", "label": "x"}, {"text": "b", "label": "corrected"}])
    assert first[1].id == second[1].id == content_id({"text": "b"})


def test_identical_inputs_get_different_ids() -> None:
    found = made([{"text": "a", "label": "x"}, {"text": "a", "label": "y"}])
    assert len({e.id for e in found}) == 2


def test_an_id_given_twice_is_refused_with_both_lines() -> None:
    columns = Columns.of("text", reference="label", id="n")
    rows = [{"n": 1, "text": "a", "label": "x"}, {"n": 1, "text": "b", "label": "x"}]
    error = refused(made, rows, columns)
    assert error.line == 2
    assert "line 1" in str(error)


def test_a_label_outside_the_choices_suggests_the_nearest() -> None:
    error = refused(made, [{"text": "a", "label": "refnd"}], choices=("refund", "other"))
    assert error.field == "label"
    assert "did you mean 'refund'" in str(error)


def test_labels_are_the_distinct_answers_in_order() -> None:
    rows = readers.read([{"text": "a", "label": x} for x in ("tea", "milk", "tea")])[""]
    assert labels(rows, LABELLED) == ("milk", "tea")


def test_numbers_and_truth_values_can_be_labels() -> None:
    rows = [{"text": "a", "label": 3}, {"text": "b", "label": True}]
    choices = labels(readers.read(rows)[""], LABELLED)
    assert [e.references for e in made(rows, choices=choices)] == [("3",), ("true",)]


def test_a_misspelt_column_suggests_the_nearest() -> None:
    error = refused(made, [{"txt": "a", "label": "x"}])
    assert error.field == "columns.input.text"
    assert "'txt'" in str(error)


def test_a_row_without_answer_is_refused_with_its_line() -> None:
    assert refused(made, [{"text": "a", "label": "x"}, {"text": "b", "label": None}]).line == 2


def test_a_row_without_input_is_refused_with_its_line() -> None:
    assert refused(made, [{"text": "a", "label": "x"}, {"text": "", "label": "x"}]).line == 2


def test_an_empty_list_is_an_answer() -> None:
    (example,) = made([{"text": "a", "label": []}])
    assert example.references == ([],)


def test_columns_need_exactly_one_of_reference_and_references() -> None:
    assert refused(Columns.of, "text").field == "columns"
    assert refused(Columns.of, "text", reference="a", references="b").field == "columns"


def test_an_unknown_key_among_the_columns_suggests_the_nearest() -> None:
    assert "'reference'" in str(refused(Columns.of, "text", refrence="a"))


# --- documents -------------------------------------------------------------------------------


def test_documents_come_from_a_folder_with_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "one.md", "intro\n\n# The first #\ntext", "utf-8-sig")
    write(tmp_path / "sub" / "two.txt", "# no heading in plain text")
    write(tmp_path / "empty.md", " \n")
    write(tmp_path / ".hidden.md", "secret")
    found = documents(tmp_path)
    assert [(d.id, d.title) for d in found] == [("one", "The first"), ("sub/two", "two")]
    assert found[0].text == "intro\n\n# The first #\ntext"


def test_documents_of_one_name_and_two_suffixes_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "x")
    write(tmp_path / "a.txt", "y")
    assert len({d.id for d in documents(tmp_path)}) == 2


def test_documents_come_from_jsonl(tmp_path: Path) -> None:
    file = write(tmp_path / "d.jsonl", '{"id": "p1", "title": "T", "text": "x", "page": 4}\n')
    (document,) = documents(file)
    assert (document.id, document.title, document.text, document.meta) == ("p1", "T", "x", {"page": 4})


def test_a_document_without_text_is_refused_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "d.jsonl", '{"text": "x"}\n{"txt": "y"}\n')
    error = refused(documents, file)
    assert (error.line, error.field) == (2, "text")


def test_two_documents_of_one_id_are_refused() -> None:
    assert refused(documents, [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]).field == "id"


# --- damaged text ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["cafÃ© au lait", "itâ€™s", "naÃ¯ve", "Ã¼ber", "â‚¬5", "a\ufeffb", "caf\ufffd"]
)
def test_damaged_text_is_found(text: str) -> None:
    assert damage(text) is not None


@pytest.mark.parametrize(
    "text", ["café", "it’s", "“quoted”", "naïve über", "Åse Ærø", "日本語", "привет", "é…", "😭", "½ c", "Â"]
)
def test_sound_text_is_left_alone(text: str) -> None:
    assert damage(text) is None
