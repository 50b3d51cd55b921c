"""Formats of training data: what goes in comes out, or is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from row_strategies import alpaca_rows, conversations, junk_rows

from breakeven.harness import readers, rows
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows import FORMATS, Conversation, Turn

many = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
QUESTION = Turn("user", "Tea or coffee?")
ANSWER = Turn("assistant", "Tea.")


def through_json(row: Any) -> Any:
    return json.loads(json.dumps(row))


# --- properties ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@many
@given(conversations())
def test_a_conversation_comes_back_as_it_was_or_is_refused(name: str, given: Conversation) -> None:
    try:
        row = FORMATS[name].render(given)
    except UserError:
        return
    assert FORMATS[name].parse(through_json(row)) == given


@many
@given(conversations())
def test_openai_rows_hold_every_conversation(given: Conversation) -> None:
    assert FORMATS["openai"].parse(through_json(FORMATS["openai"].render(given))) == given


@pytest.mark.parametrize("name", ["sharegpt", "messages"])
@many
@given(conversations(tools=False))
def test_every_conversation_whose_answers_are_all_learned_is_held(name: str, given: Conversation) -> None:
    if len(given.learned) == sum(turn.role == "assistant" for turn in given.turns):
        assert FORMATS[name].parse(through_json(FORMATS[name].render(given))) == given


@many
@given(alpaca_rows())
def test_what_the_model_sees_of_an_alpaca_row_stays_the_same(row: dict[str, Any]) -> None:
    first = FORMATS["alpaca"].parse(row)
    assert FORMATS["alpaca"].parse(FORMATS["alpaca"].render(first)) == first


@pytest.mark.parametrize("name", FORMATS)
@many
@given(junk_rows)
def test_no_row_whatever_is_in_it_gives_a_traceback(name: str, row: dict[str, Any]) -> None:
    try:
        found = FORMATS[name].parse(row)
    except UserError:
        return
    assert found.answer.role == "assistant"
    assert all((turn.content or "").strip() or turn.tool_calls for turn in found.turns)


# --- each format -----------------------------------------------------------------------------

CHAT = Conversation((Turn("system", "Be brief."), QUESTION, ANSWER))
PLAIN = Conversation((QUESTION, ANSWER))


@pytest.mark.parametrize(
    ("name", "row", "meant"),
    [
        (
            "messages",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Tea or coffee?"},
                    {"role": "assistant", "content": "Tea."},
                ]
            },
            CHAT,
        ),
        ("prompt-completion", {"prompt": "Tea or coffee?", "completion": "Tea."}, PLAIN),
        (
            "prompt-completion",
            {
                "prompt": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Tea or coffee?"},
                ],
                "completion": [{"role": "assistant", "content": "Tea."}],
            },
            CHAT,
        ),
        (
            "alpaca",
            {"instruction": "Tea or coffee?", "input": "", "output": "Tea.", "system": "Be brief."},
            CHAT,
        ),
        (
            "sharegpt",
            {
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    {"from": "human", "value": "Tea or coffee?"},
                    {"from": "gpt", "value": "Tea."},
                ]
            },
            CHAT,
        ),
        (
            "vicuna",
            {
                "id": "v1",
                "conversations": [
                    {"from": "human", "value": "Tea or coffee?"},
                    {"from": "gpt", "value": "Tea."},
                ],
            },
            Conversation((QUESTION, ANSWER), (), {"id": "v1"}),
        ),
        ("text", {"text": "Tea."}, Conversation((ANSWER,))),
    ],
)
def test_rows_as_they_are_found_in_the_wild(name: str, row: dict[str, Any], meant: Conversation) -> None:
    assert FORMATS[name].parse(row) == meant
    assert FORMATS[name].render(meant) == row


def test_alpacas_input_stands_on_lines_of_its_own_and_its_history_before() -> None:
    row = {"instruction": "Sort", "input": "b a", "output": "a b", "history": [["Hi", "Hello"]]}
    said = [(turn.role, turn.content) for turn in FORMATS["alpaca"].parse(row).turns]
    assert said == [("user", "Hi"), ("assistant", "Hello"), ("user", "Sort\nb a"), ("assistant", "a b")]


def test_alpacas_input_is_the_question_where_the_instruction_is_empty() -> None:
    found = FORMATS["alpaca"].parse({"instruction": "", "input": "x", "output": "y"})
    assert [turn.content for turn in found.turns] == ["x", "y"]
    with pytest.raises(UserError, match="the user says nothing"):
        FORMATS["alpaca"].parse({"instruction": "", "input": "", "output": "y"})


def test_a_weight_of_zero_is_an_answer_that_is_not_learned() -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "weight": 1},
    ]
    found = FORMATS["openai"].parse({"messages": turns})
    assert [turn.content for turn in found.learned] == ["d"]
    written = FORMATS["openai"].render(found)["messages"]
    assert written == [*turns[:3], {"role": "assistant", "content": "d"}]
    learned = FORMATS["prompt-completion"].render(found)
    assert learned["completion"] == [{"role": "assistant", "content": "d"}]


@pytest.mark.parametrize("content", ["", " ", None])
def test_an_assistant_that_calls_tools_need_say_nothing_and_it_is_written_as_it_came(
    content: str | None,
) -> None:
    said = {} if content is None else {"content": content}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", **said, "tool_calls": [{"id": "c1"}]},
        {"role": "tool", "content": "r", "tool_call_id": "c1"},
        {"role": "assistant", "content": "b"},
    ]
    assert FORMATS["openai"].render(FORMATS["openai"].parse({"messages": turns})) == {"messages": turns}


MULTI = Conversation((QUESTION, ANSWER, Turn("user", "Why?"), Turn("assistant", "Thirst.")))
SHOWN = Conversation((QUESTION, Turn("assistant", "Tea.", learned=False), *MULTI.turns[2:]))
TOOLS = Conversation(PLAIN.turns, ({"type": "function"},))


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("alpaca", MULTI, "4 turns, and Alpaca holds one question and its answer"),
        ("prompt-completion", MULTI, "2 answers are learned, and a completion is only the last turn"),
        ("text", PLAIN, "2 turns, and a plain text has none"),
        ("sharegpt", SHOWN, "weight 0, and ShareGPT learns every answer; write `openai`"),
        ("messages", SHOWN, "weight 0, and `messages` learns every answer; write `openai`"),
        ("sharegpt", TOOLS, "ShareGPT cannot hold tools"),
        ("alpaca", TOOLS, "Alpaca cannot hold tools"),
        ("vicuna", CHAT, "FastChat has a system message of its own"),
        ("vicuna", PLAIN, "FastChat wants an id"),
        ("alpaca", Conversation(PLAIN.turns, (), {"input": "x"}), "the format would take for its own"),
    ],
)
def test_what_a_format_would_lose_is_refused_with_the_reason(
    name: str, given: Conversation, why: str
) -> None:
    with pytest.raises(UserError, match=why):
        FORMATS[name].render(given)


# --- faults ----------------------------------------------------------------------------------


def messages(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "field", "what"),
    [
        (messages(("user", "a"), ("assistent", "b")), "messages[2].role", 'no role "assistent"'),
        (messages(("user", "a")), "messages[1]", "no answer to learn"),
        (messages(("assistant", "b")), "messages[1]", "question is missing"),
        (messages(("user", "a"), ("user", "b"), ("assistant", "c")), "messages[2]", "follow each other"),
        (messages(("user", ""), ("assistant", "b")), "messages[1]", "the user says nothing"),
        (messages(("user", "a"), ("assistant", "  ")), "messages[2]", "the assistant says nothing"),
        (messages(("user", "a"), ("assistant", None)), "messages[2]", "the assistant says nothing"),
        (messages(("user", "a"), ("system", "s"), ("assistant", "b")), "messages[2]", "only stand first"),
        (messages(("user", "a"), ("assistant", ["b"])), "messages[2].content", "should be text"),
        (
            messages(("user", [{"type": "text", "text": "a"}]), ("assistant", "b")),
            "messages[1].content",
            "all of these are texts: join them into one",
        ),
        (
            messages(("user", [{"type": "image_url"}]), ("assistant", "b")),
            "messages[1].content",
            "parts of images and sound are not supported",
        ),
        (messages(("user", "x" * 1_048_576), ("assistant", "b")), "messages[1]", "1,048,576 characters"),
        (messages(("user", "a"), ("assistant", "\ud83d")), "messages[2]", "half of a character"),
        ({"messages": "hello"}, "messages", "should be a list of messages"),
        ({"text": "a"}, "messages", "should be a list of messages"),
        ({"messages": []}, "messages", "not a single turn"),
        (
            {"messages": [{"role": "user", "content": "a", "wieght": 0}]},
            "messages[1].wieght",
            "did you mean 'weight'",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "weight": 2},
                ]
            },
            "messages[2].weight",
            "2 is no weight; 0 or 1",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "tool", "content": "b", "tool_call_id": "c1"},
                ]
            },
            "messages[2].tool_call_id",
            "a call that was not made",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [1]}]},
            "messages[2].tool_calls[1]",
            "a call whose id is a text",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "tool_calls": [{"id": ["c1"]}]},
                    {"role": "tool", "content": "b", "tool_call_id": "c1"},
                ]
            },
            "messages[2].tool_calls[1]",
            "a call whose id is a text",
        ),
        ({"messages": "[" * 3000}, "messages", "nested more than 100 deep"),
        ({"messages": f"[{'1' * 5000}]"}, "messages", "thousands of digits"),
        ({"messages": '[{"role": "user", "role": "tool"}]'}, "messages", 'the key "role" stands twice'),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_row_at_fault_gives_file_line_field_and_a_sentence(
    row: dict[str, Any], field: str, what: str
) -> None:
    with pytest.raises(UserError, match=what) as caught:
        rows.conversations([Row(row, "train.jsonl", 7)], "messages")
    error = caught.value
    assert (error.file, error.line, error.field) == ("train.jsonl", 7, field)
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("turn", "field", "what"),
    [
        ({"from": "bot", "value": "b"}, "conversations[2].from", 'nobody is called "bot"'),
        ({"from": "function_call", "value": "{}"}, "conversations[2].from", "mean something else"),
        ({"from": "gpt"}, "conversations[2].value", "should be text"),
        ({"from": "gpt", "value": "b", "weight": 0}, "conversations[2].weight", "unknown key"),
    ],
)
def test_a_sharegpt_turn_at_fault_is_named(turn: dict[str, Any], field: str, what: str) -> None:
    row = Row({"conversations": [{"from": "human", "value": "a"}, turn]}, "a.jsonl", 3)
    with pytest.raises(UserError, match=what) as caught:
        rows.conversations([row], "sharegpt")
    assert (caught.value.line, caught.value.field) == (3, field)


def test_half_an_emoji_in_a_plain_column_gives_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "\\ud83d", "completion": "b"}\n')
    with pytest.raises(UserError, match="half of a character") as caught:
        readers.read_file(file)
    assert (caught.value.line, caught.value.field) == (2, "prompt")


# --- recognising -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (messages(("user", "a"), ("assistant", "b")), "messages"),
        ({"messages": [{"role": "assistant", "content": "b", "weight": 0}]}, "openai"),
        ({"conversations": []}, "sharegpt"),
        ({"prompt": "a", "completion": "b", "id": 3}, "prompt-completion"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"text": "a"}, "text"),
        ({"text": "a", "label": "b"}, None),
        ({"instruction": "a", "output": "b", "prompt": "a", "completion": "b"}, None),
        ({"question": "a", "answer": "b"}, None),
    ],
)
def test_a_format_is_recognised_only_where_the_columns_leave_no_doubt(
    row: dict[str, Any], found: str | None
) -> None:
    assert rows.detect([Row(row, "a.jsonl", 1)]) == found


def test_an_unknown_format_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'sharegpt'"):
        rows.conversations([], "share-gpt")
