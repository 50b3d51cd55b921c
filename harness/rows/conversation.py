"""The one form that rows of every training format have inside: a conversation whose last turn is the answer.

Formats are functions from and to it. What a conversation may look like is checked here, once for all of
them; which file and line a fault stands in is added by whoever read the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.jsontext import lone_surrogate

Role = Literal["system", "user", "assistant", "tool"]

#: Characters of a turn at most: a longer one is a file that slipped into a cell, and no model reads it.
LONGEST_TURN = 1_000_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One message.

    Attributes:
        content: what is said; None, or empty, only where an assistant calls tools instead.
        learned: whether training learns this turn; only an assistant's can be.
        tool_calls: the calls an assistant makes, as OpenAI writes them.
        tool_call_id: which call a tool's turn answers.
        name: of the speaker.
    """

    role: Role
    content: str | None
    learned: bool = True
    tool_calls: tuple[Json, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, the tools on offer, and what else stood in the row (`extra`, its id among it)."""

    turns: tuple[Turn, ...]
    tools: tuple[Json, ...] = ()
    extra: Mapping[str, Json] = field(default_factory=dict)

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """Everything before the answer."""
        return self.turns[:-1]

    @property
    def answer(self) -> Turn:
        return self.turns[-1]

    @property
    def learned(self) -> tuple[Turn, ...]:
        return tuple(turn for turn in self.turns if turn.role == "assistant" and turn.learned)

    @property
    def uses_tools(self) -> bool:
        return bool(self.tools) or any(t.role == "tool" or t.tool_calls for t in self.turns)


def checked(conversation: Conversation, field: str = "messages") -> Conversation:
    """The conversation, if a model can be trained on it.

    Raises:
        UserError: a turn that is empty, too long or not Unicode; a system message that is not the first;
            turns out of order; no answer at the end, or none that is learned. The field names the turn.
    """
    turns = conversation.turns
    for number, turn in enumerate(turns, 1):
        where = f"{field}[{number}]"
        _check_content(turn, where)
        _check_tools(turns[: number - 1], turn, where)
        before = turns[number - 2].role if number > 1 else None
        if turn.role == "system" and before is not None:
            raise UserError("a system message may only stand first", field=where)
        if turn.role in ("user", "assistant") and turn.role == before:
            raise UserError(
                f"two turns of the {turn.role} follow each other",
                field=where,
                hint="a turn between them is missing, or both are one",
            )
        if turn.role == "user" and before == "tool":
            raise UserError("the assistant's answer to the tool is missing", field=where)
        if turn.role == "assistant" and before == "system":
            raise UserError("the user's question is missing before the first answer", field=where)
    if not turns:
        raise UserError("there is not a single turn", field=field)
    if turns[-1].role != "assistant":
        raise UserError(
            f"the last turn is the {turns[-1].role}'s: there is no answer to learn",
            field=f"{field}[{len(turns)}]",
        )
    if turns[0].role == "assistant" and len(turns) > 1:
        raise UserError("the user's question is missing before the first answer", field=f"{field}[1]")
    if not conversation.learned:
        raise UserError("every answer has weight 0: there is nothing to learn", field=field)
    return conversation


def _check_content(turn: Turn, where: str) -> None:
    if turn.content is None or not turn.content.strip():
        if turn.tool_calls:
            return
        hint = "leave an empty system message out" if turn.role == "system" else None
        raise UserError(f"the {turn.role} says nothing", field=where, hint=hint)
    if len(turn.content) > LONGEST_TURN:
        raise UserError(
            f"the turn has {len(turn.content):,} characters, more than {LONGEST_TURN:,}",
            field=where,
            hint="no model reads so much at once; cut it, or give it as a document",
        )
    if (broken := lone_surrogate(turn.content)) is not None:
        raise UserError(
            f"half of a character (a lone surrogate) at position {broken + 1}",
            field=where,
            hint="something cut an emoji in two; mend or drop the row",
        )


def _check_tools(before: Sequence[Turn], turn: Turn, where: str) -> None:
    if turn.role != "tool":
        return
    called: set[Json] = set()
    for earlier in reversed(before):
        if earlier.role == "user":
            break
        if earlier.role == "assistant":
            called = {call.get("id") for call in earlier.tool_calls if isinstance(call, dict)}
            break
    if turn.tool_call_id not in called:
        raise UserError(
            "the tool answers a call that was not made",
            field=f"{where}.tool_call_id",
            hint=f"the calls are {', '.join(sorted(map(str, called))) or 'none'}",
        )
