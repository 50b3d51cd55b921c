"""Formats older than chat templates: Alpaca, ShareGPT, Vicuna (FastChat), and plain text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.rows.conversation import Conversation, Role, Turn, checked
from breakeven.harness.rows.fields import (
    carried,
    extra,
    known_keys,
    listed,
    optional,
    refuse_tools,
    refuse_weights,
    text,
)

Row = Mapping[str, Json]

#: Who speaks in ShareGPT's files, under all the names that are about; the first of each is written.
SPEAKERS: dict[str, Role] = {
    "human": "user",
    "gpt": "assistant",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "chatgpt": "assistant",
}
_WRITTEN = {"user": "human", "assistant": "gpt", "system": "system"}
_TOOLS = ("function_call", "observation", "tool", "function", "function-call", "function_response")


class Alpaca:
    """{"instruction", "input", "output"} with an optional "system", and a "history" of earlier exchanges.

    Instruction and input are one question, the input on lines of its own, or alone where the instruction is
    empty. A question that was put together is written as an instruction without input: the model sees the
    same.
    """

    name = "alpaca"
    keys = ("instruction", "input", "output", "system", "history")
    fields = "instruction and output"

    def parse(self, row: Row) -> Conversation:
        system = optional(row, "system")
        turns = [Turn("system", system)] if system is not None else []
        history = listed(row, "history") or []
        if not isinstance(history, list):
            raise UserError("should be a list of [question, answer]", field="history")
        for number, exchange in enumerate(history, 1):
            if not isinstance(exchange, list) or [type(part) for part in exchange] != [str, str]:
                raise UserError("should be [question, answer]", field=f"history[{number}]")
            turns += [Turn("user", exchange[0]), Turn("assistant", exchange[1])]
        question, given = text(row, "instruction"), optional(row, "input")
        asked = "\n".join(part for part in (question, given) if part)
        turns += [Turn("user", asked), Turn("assistant", text(row, "output"))]
        return checked(Conversation(tuple(turns), (), extra(row, self.keys)), "alpaca")

    def render(self, conversation: Conversation) -> dict[str, Json]:
        refuse_tools(conversation, "Alpaca")
        refuse_weights(conversation, "Alpaca learns every answer", "openai")
        system, turns = _system(conversation)
        if [turn.role for turn in turns] != ["user", "assistant"]:
            raise UserError(
                f"the conversation has {len(turns)} turns, and Alpaca holds one question and its answer",
                field="messages",
                hint="most readers of Alpaca ignore `history`; write `sharegpt` or `messages`",
            )
        made: dict[str, Json] = {"instruction": turns[0].content, "input": "", "output": turns[1].content}
        if system is not None:
            made["system"] = system
        return carried(made, conversation, self.keys)


class ShareGPT:
    """{"conversations": [{"from": "human" | "gpt" | "system", "value"}, ...]}, maybe with a "system" beside.

    Turns of tools have no agreed form there (their calls have no ids) and are refused.
    """

    name = "sharegpt"
    keys: tuple[str, ...] = ("conversations", "system")
    fields = "conversations"

    def parse(self, row: Row) -> Conversation:
        turns = self._turns(row)
        beside = optional(row, "system")
        if beside is not None:
            if turns and turns[0].role == "system":
                raise UserError("there is a system message in the conversation already", field="system")
            turns = (Turn("system", beside), *turns)
        return checked(Conversation(turns, (), extra(row, self.keys)), "conversations")

    def _turns(self, row: Row) -> tuple[Turn, ...]:
        turns = listed(row, "conversations")
        if not isinstance(turns, list):
            raise UserError(
                "should be a list of turns",
                field="conversations",
                hint='for example [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]',
            )
        return tuple(self._turn(turn, f"conversations[{number}]") for number, turn in enumerate(turns, 1))

    def _turn(self, turn: Json, where: str) -> Turn:
        if not isinstance(turn, dict):
            raise UserError("should be a turn with from and value", field=where)
        given = {key: value for key, value in turn.items() if value is not None}
        known_keys(given, ("from", "value"), where)
        speaker = given.get("from")
        if speaker in _TOOLS:
            raise UserError(
                f"turns of '{speaker}' mean something else to each reader of ShareGPT",
                field=f"{where}.from",
                hint="write calls of tools as OpenAI messages (`format: openai`)",
            )
        if not isinstance(speaker, str) or speaker not in SPEAKERS:
            raise UserError(
                f"nobody is called {json.dumps(speaker, default=str)}",
                field=f"{where}.from",
                hint=f"one of {', '.join(SPEAKERS)}",
            )
        if not isinstance(given.get("value"), str):
            raise UserError("should be text", field=f"{where}.value")
        return Turn(SPEAKERS[speaker], given["value"])

    def render(self, conversation: Conversation) -> dict[str, Json]:
        refuse_tools(conversation, "ShareGPT")
        refuse_weights(conversation, "ShareGPT learns every answer", "openai")
        if len(conversation.turns) == 1:
            raise UserError("a text without a question", field="conversations", hint="write `text` instead")
        turns: list[Json] = [{"from": _WRITTEN[t.role], "value": t.content} for t in conversation.turns]
        return carried({"conversations": turns}, conversation, self.keys)


class Vicuna(ShareGPT):
    """FastChat's file: {"id", "conversations"}, the human first, then in turn; no system message.

    FastChat puts its own system message before each.
    """

    name = "vicuna"
    keys = ("conversations",)

    def parse(self, row: Row) -> Conversation:
        turns = self._turns(row)
        self._check(Conversation(turns))
        text(row, "id")
        return checked(Conversation(turns, (), extra(row, self.keys)), "conversations")

    def render(self, conversation: Conversation) -> dict[str, Json]:
        self._check(conversation)
        if not isinstance(conversation.extra.get("id"), str):
            raise UserError("FastChat wants an id for each conversation", field="id", hint="write `sharegpt`")
        return super().render(conversation)

    def _check(self, conversation: Conversation) -> None:
        if any(turn.role == "system" for turn in conversation.turns):
            raise UserError(
                "FastChat has a system message of its own and drops those of rows",
                field="conversations[1]",
                hint="write `sharegpt` instead",
            )


class Text:
    """{"text": ...}: a text to go on with, with no question before it."""

    name = "text"
    keys = ("text",)
    fields = "text"

    def parse(self, row: Row) -> Conversation:
        turns = (Turn("assistant", text(row, "text")),)
        return checked(Conversation(turns, (), extra(row, self.keys)), "text")

    def render(self, conversation: Conversation) -> dict[str, Json]:
        refuse_tools(conversation, "a plain text")
        if len(conversation.turns) != 1:
            raise UserError(
                f"the conversation has {len(conversation.turns)} turns, and a plain text has none",
                field="messages",
                hint="only a model's chat template can make one text of them",
            )
        return carried({"text": conversation.answer.content}, conversation, self.keys)


def _system(conversation: Conversation) -> tuple[str | None, tuple[Turn, ...]]:
    first, *others = conversation.turns
    if first.role == "system":
        return first.content, tuple(others)
    return None, conversation.turns
