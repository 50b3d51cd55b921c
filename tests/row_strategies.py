"""Conversations and rows drawn by hypothesis: what a person could have written, and what nobody should."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from breakeven.harness.rows import Conversation, Turn

#: Text that some file can hold: anything but lone surrogates, and not only white space.
said = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)
columns = st.sampled_from(["id", "source", "lang", "score"])
values = st.one_of(said, st.integers(-9, 9), st.booleans())


@st.composite
def conversations(draw: st.DrawFn, tools: bool = True) -> Conversation:
    """Up to three exchanges, some answers not learned, some by way of a tool."""
    turns = [Turn("system", draw(said))] if draw(st.booleans()) else []
    exchanges = draw(st.integers(1, 3))
    for number in range(exchanges):
        turns.append(Turn("user", draw(said)))
        if tools and draw(st.integers(0, 3)) == 0:
            call = f"call-{number}"
            function = {"name": "look_up", "arguments": draw(said)}
            asked = {"id": call, "type": "function", "function": function}
            turns.append(Turn("assistant", draw(st.sampled_from([None, ""])), tool_calls=(asked,)))
            turns.append(Turn("tool", draw(said), tool_call_id=call))
        learned = number == exchanges - 1 or draw(st.booleans())
        turns.append(Turn("assistant", draw(said), learned))
    look_up = {"type": "function", "function": {"name": "look_up"}}
    offered = (look_up,) if tools and draw(st.booleans()) else ()
    return Conversation(tuple(turns), offered, draw(st.dictionaries(columns, values, max_size=2)))


@st.composite
def alpaca_rows(draw: st.DrawFn) -> dict[str, Any]:
    row: dict[str, Any] = {"instruction": draw(said), "output": draw(said)}
    if draw(st.booleans()):
        row["input"] = draw(st.one_of(said, st.just("")))
    if draw(st.booleans()):
        row["system"] = draw(st.one_of(said, st.just("")))
    return row


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["role", "content", "from", "value", "weight", "tool_calls", "name", "id", "x"])
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4))


words = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "", " ", "\ud83d", "[", "a"])
leaves = st.one_of(st.none(), st.booleans(), st.integers(), words, st.floats())
junk = st.recursive(leaves, _deeper, max_leaves=12)
fields = ["messages", "tools", "prompt", "completion", "instruction", "input", "output", "system", "history",
          "conversations", "text", "id"]  # fmt: skip
junk_rows = st.dictionaries(st.sampled_from(fields), junk, max_size=5)
