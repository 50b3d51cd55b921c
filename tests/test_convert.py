"""Training data from one file into another: formats, mixtures, tables; whole, or not written at all."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from row_strategies import conversations

from breakeven.harness import readers, rows
from breakeven.harness.cli.convert import convert
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows.mixing import apportioned, mixed
from breakeven.harness.rows.writing import write

few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    """Twenty exchanges of ShareGPT."""
    file = tmp_path / "chat.jsonl"
    turns = [[{"from": "human", "value": f"{i}?"}, {"from": "gpt", "value": f"{i}!"}] for i in range(20)]
    file.write_text(
        "".join(json.dumps({"id": f"c{i}", "conversations": t}) + "\n" for i, t in enumerate(turns))
    )
    return file


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_is_recognised_and_written_in_another_format(
    chat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert([str(chat)], "alpaca", tmp_path / "a.jsonl")
    assert lines(tmp_path / "a.jsonl")[3] == {"instruction": "3?", "input": "", "output": "3!", "id": "c3"}
    assert "20 rows of sharegpt" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@pytest.mark.parametrize(
    "format", ["messages", "openai", "prompt-completion", "alpaca", "sharegpt", "vicuna"]
)
def test_there_and_back_through_every_kind_of_file(
    chat: Path, tmp_path: Path, suffix: str, format: str
) -> None:
    convert([str(chat)], format, tmp_path / f"there{suffix}")
    convert([str(tmp_path / f"there{suffix}")], "sharegpt", tmp_path / "back.jsonl")
    assert lines(tmp_path / "back.jsonl") == [
        {"conversations": row["conversations"], "id": row["id"]} for row in lines(chat)
    ]


@few
@given(st.lists(conversations(), min_size=1, max_size=4), st.sampled_from([".jsonl", ".csv", ".parquet"]))
def test_a_file_that_was_written_holds_what_was_given(
    tmp_path_factory: pytest.TempPathFactory, given: list[rows.Conversation], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows{suffix}"
    try:
        write([(Row({}, "memory", i), c) for i, c in enumerate(given)], "openai", path)
    except UserError:
        assert suffix != ".jsonl"  # a table may refuse what it would lose
        assert not path.exists()
        return
    assert rows.conversations(readers.read_file(path), "openai") == given


def test_nulls_in_tools_and_calls_are_kept_where_they_were_written(tmp_path: Path) -> None:
    """A table puts nulls of its own into objects; those alone are left out again."""
    row: Any = {
        "messages": [
            {"role": "user", "content": "a"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"arguments": {"x": None, "y": 1}}}],
            },
            {"role": "tool", "content": "r", "tool_call_id": "1"},
            {"role": "assistant", "content": "b"},
        ],
        "tools": [{"function": {"parameters": {"default": None, "enum": ["a", None]}}}],
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    convert([str(tmp_path / "a.jsonl")], "openai", tmp_path / "b.jsonl")
    assert lines(tmp_path / "b.jsonl") == [row]
    with pytest.raises(UserError, match="would come back as another one"):
        convert([str(tmp_path / "a.jsonl")], "openai", tmp_path / "b.parquet")
    del row["tools"][0]["function"]["parameters"]["default"]
    row["messages"][1]["tool_calls"][0]["function"]["arguments"] = {"y": 1}
    other = {"messages": row["messages"][::3], "tools": [{"function": {"name": "f"}}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(other))
    convert([str(tmp_path / "a.jsonl")], "openai", tmp_path / "b.parquet")
    convert([str(tmp_path / "b.parquet")], "openai", tmp_path / "c.jsonl")
    assert lines(tmp_path / "c.jsonl") == [row, other]


def test_a_number_beside_the_text_is_refused_in_csv_with_its_line(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"prompt": "a", "completion": "b", "score": 5}\n')
    with pytest.raises(UserError, match="cannot tell 5 from the text") as caught:
        convert([str(source)], "alpaca", tmp_path / "a.csv")
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(source), 1, "score")
    assert not (tmp_path / "a.csv").exists()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (datetime(2026, 1, 2, 3, 4), r"JSON does not have values of type datetime \(2026-01-02 03:04:00\)"),
        (Decimal("1.10"), r"type Decimal \(1.10\)"),
        (b"\xff", "type bytes"),
        ({"a": [float("nan")]}, "JSON does not have the number nan; drop the column, or write Parquet"),
    ],
    ids=repr,
)
def test_what_only_a_table_holds_is_refused_elsewhere_and_kept_in_parquet(
    tmp_path: Path, value: Any, what: str
) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"prompt": ["a", "b"], "completion": ["c", "d"], "when": [None, value]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    for suffix in (".jsonl", ".json", ".csv"):
        with pytest.raises(UserError, match=what) as caught:
            convert([str(tmp_path / "a.parquet")], "messages", tmp_path / f"b{suffix}")
        assert (caught.value.line, caught.value.field) == (2, "when")
        assert not (tmp_path / f"b{suffix}").exists()
    convert([str(tmp_path / "a.parquet")], "messages", tmp_path / "b.parquet")
    assert repr(readers.read_file(tmp_path / "b.parquet")[1].values["when"]) == repr(value)
    values = {"prompt": "a", "completion": value}
    with pytest.raises(UserError, match="should be text, not "):
        rows.conversations([Row(values, "a.parquet", 1, padded=True)], "prompt-completion")


def test_numbers_come_through_as_they_are_or_not_at_all(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    for number in ("0.10000000149011612", "1e-12", "123456789012345678901234567890"):
        (tmp_path / "a.jsonl").write_text(f'{{"prompt": "a", "completion": "b", "n": {number}}}\n')
        convert([str(tmp_path / "a.jsonl")], "alpaca", tmp_path / "b.jsonl", force=True)
        assert f'"n": {number}}}' in (tmp_path / "b.jsonl").read_text()
    with pytest.raises(UserError, match="a Parquet file cannot hold the rows"):
        convert([str(tmp_path / "a.jsonl")], "alpaca", tmp_path / "b.parquet")
    single = pyarrow.array([0.1], pyarrow.float32())
    pyarrow.parquet.write_table(
        pyarrow.table({"prompt": ["a"], "completion": ["b"], "n": single}), tmp_path / "a.parquet"
    )
    convert([str(tmp_path / "a.parquet")], "alpaca", tmp_path / "c.jsonl")
    assert lines(tmp_path / "c.jsonl")[0]["n"] == single[0].as_py()


def test_a_row_that_would_lose_something_stops_the_file(chat: Path, tmp_path: Path) -> None:
    turns = [*lines(chat)[0]["conversations"] * 2]
    chat.write_text(chat.read_text() + json.dumps({"conversations": turns}) + "\n")
    with pytest.raises(UserError, match="Alpaca holds one question") as caught:
        convert([str(chat)], "alpaca", tmp_path / "a.jsonl")
    assert caught.value.line == 21
    assert not (tmp_path / "a.jsonl").exists()


def test_columns_that_are_called_otherwise_are_named(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text("frage,antwort\nWann?,Morgen\n")
    convert(
        [str(tmp_path / "faq.csv")],
        "messages",
        tmp_path / "out.jsonl",
        format="prompt-completion",
        columns=["prompt=frage", "completion=antwort"],
    )
    (row,) = lines(tmp_path / "out.jsonl")
    assert [m["content"] for m in row["messages"]] == ["Wann?", "Morgen"]


@pytest.mark.parametrize(
    ("columns", "field", "what"),
    [
        (["prompt=q", "completion=a"], "columns.prompt", "the data have a column 'prompt' too"),
        (["prompt=q", "completion=q"], "columns.completion", "the column 'q' is to be 'prompt' already"),
        (["prompt=q", "prompt=a"], "--column", "'prompt' is to be the column 'q' already"),
    ],
)
def test_no_column_takes_the_place_of_another(
    tmp_path: Path, columns: list[str], field: str, what: str
) -> None:
    (tmp_path / "a.csv").write_text("q,a,prompt\nx,y,z\n")
    with pytest.raises(UserError, match=what) as caught:
        convert([str(tmp_path / "a.csv")], "messages", tmp_path / "o.jsonl", "prompt-completion", columns)
    assert caught.value.field == field
    assert not (tmp_path / "o.jsonl").exists()


def test_two_columns_may_change_places(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("completion,prompt\nx,y\n")
    swapped = ["prompt=completion", "completion=prompt"]
    convert([str(tmp_path / "a.csv")], "prompt-completion", tmp_path / "o.jsonl", columns=swapped)
    assert lines(tmp_path / "o.jsonl") == [{"prompt": "x", "completion": "y"}]


def test_messages_in_the_cells_of_a_csv_file_are_messages(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "[1] Hi {you}?"}]
    completion = [{"role": "assistant", "content": "Hello."}]
    row = {"prompt": prompt, "completion": completion}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    convert([str(tmp_path / "a.jsonl")], "prompt-completion", tmp_path / "a.csv")
    convert([str(tmp_path / "a.csv")], "messages", tmp_path / "b.jsonl")
    assert lines(tmp_path / "b.jsonl") == [{"messages": [*prompt, *completion]}]
    (tmp_path / "a.jsonl").write_text(
        json.dumps({**row, "prompt": json.dumps(prompt), "completion": "Hello."})
    )
    with pytest.raises(UserError, match="both be texts, or both messages"):
        convert([str(tmp_path / "a.jsonl")], "messages", tmp_path / "c.jsonl")


@pytest.mark.parametrize("prompt", ["[1, 2]", "[]", '[{"role": "admin"}]', "[[" * 2000, '[{"role": "user"}'])
def test_any_other_prompt_that_begins_as_a_list_is_a_text(prompt: str) -> None:
    known, row = rows.named("prompt-completion"), {"prompt": prompt, "completion": prompt}
    assert known.render(known.parse(row)) == row


def test_a_question_that_reads_as_messages_comes_back_as_the_text_it_is() -> None:
    said = json.dumps([{"role": "user", "content": "a"}])
    meant = rows.Conversation((rows.Turn("user", said), rows.Turn("assistant", said)))
    known = rows.named("prompt-completion")
    assert known.parse(known.render(meant)) == meant


def test_data_sets_are_mixed_in_the_ratios_given(chat: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"prompt": f"o{i}", "completion": "x"}) + "\n" for i in range(50)))
    convert([str(chat), str(other)], "messages", tmp_path / "m.jsonl", ratios=[0.25, 0.75], examples=40)
    from_other = Counter(r["messages"][0]["content"].startswith("o") for r in lines(tmp_path / "m.jsonl"))
    assert from_other == {True: 30, False: 10}


def test_too_many_rows_for_a_ratio_say_how_many_there_can_be(chat: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="50% of 60 are 30; at most 40 examples"):
        convert([str(chat), str(chat)], "messages", tmp_path / "m.jsonl", ratios=[1, 1], examples=60)


def test_nothing_is_overwritten_unasked(chat: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("convert", str(chat), "--to", "alpaca", "--out", str(chat))
    assert said.code == 2
    assert "--force" in said.err


# --- mixing ----------------------------------------------------------------------------------

parts = st.lists(st.integers(1, 40), min_size=1, max_size=4)
untimed = settings(deadline=None)


@untimed
@given(parts, st.data())
def test_a_mixture_keeps_its_ratios_and_does_not_depend_on_the_order(
    sizes: list[int], data: st.DataObject
) -> None:
    ratios = data.draw(st.lists(st.floats(0.05, 9), min_size=len(sizes), max_size=len(sizes)))
    named = [(str(i), [f"{i}/{j}" for j in range(size)]) for i, size in enumerate(sizes)]
    chosen = mixed(named, ratios, None, str)
    counts = Counter(row.split("/")[0] for row in chosen)
    for (name, some), ratio in zip(named, ratios, strict=True):
        assert counts[name] <= len(some)
        assert abs(counts[name] - len(chosen) * ratio / sum(ratios)) < 1
    assert len(set(chosen)) == len(chosen)
    assert any(counts[name] >= len(some) - 1 for name, some in named)  # no larger one is possible
    turned = [(name, data.draw(st.permutations(some))) for name, some in named]
    assert set(mixed(turned, ratios, None, str)) == set(chosen)


@untimed
@given(st.integers(0, 500), st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_shares_of_a_number_sum_to_it(n: int, weights: list[float]) -> None:
    counts = apportioned(n, weights)
    assert sum(counts) == n
    assert all(abs(count - n * w / sum(weights)) < 1 for count, w in zip(counts, weights, strict=True))


@untimed
@given(st.lists(st.one_of(st.floats(0.01, 9), st.integers(1, 9)), min_size=1, max_size=6), st.integers(1, 60))
def test_no_share_shrinks_as_the_number_grows(weights: list[float], most: int) -> None:
    counts = [apportioned(n, weights) for n in range(most + 1)]
    for fewer, more in itertools.pairwise(counts):
        assert all(a <= b for a, b in zip(fewer, more, strict=True))


@untimed
@given(parts, st.data())
def test_a_smaller_mixture_is_a_subset_of_a_larger_one(sizes: list[int], data: st.DataObject) -> None:
    ratios = data.draw(st.lists(st.floats(0.05, 9), min_size=len(sizes), max_size=len(sizes)))
    named = [(str(i), [f"{i}/{j}" for j in range(size)]) for i, size in enumerate(sizes)]
    largest = len(mixed(named, ratios, None, str))
    if largest > 1:
        more = data.draw(st.integers(2, largest))
        fewer = data.draw(st.integers(1, more - 1))
        assert set(mixed(named, ratios, fewer, str)) < set(mixed(named, ratios, more, str))


def test_the_alabama_paradox_does_not_take_rows_out_of_a_larger_mixture() -> None:
    """By largest remainders the third data set has 2 rows of 10 and 1 of 11."""
    named = [(name, [f"{name}{i}" for i in range(20)]) for name in "abc"]
    assert set(mixed(named, [6, 6, 2], 10, str)) < set(mixed(named, [6, 6, 2], 11, str))


def test_an_empty_data_set_is_named_rather_than_mixed(chat: Path, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("\n")
    paths = [str(chat), str(tmp_path / "none.jsonl")]
    with pytest.raises(UserError, match=r"none.jsonl has no rows") as caught:
        convert(paths, "messages", tmp_path / "m.jsonl", format="sharegpt", ratios=[1, 1])
    assert caught.value.field == "ratio"
    assert not (tmp_path / "m.jsonl").exists()
    convert(paths, "messages", tmp_path / "m.jsonl", format="sharegpt")
    assert len(lines(tmp_path / "m.jsonl")) == 20
