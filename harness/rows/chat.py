"""Formats with messages: chat `messages`, OpenAI's JSONL, prompt/completion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from breakeven.harness import jsontext
from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.rows.conversation import Conversation, Role, Turn, checked
from breakeven.harness.rows.fields import (
    carried,
    extra,
    known_keys,
    listed,
    refuse_tools,
    refuse_weights,
    text,
)

ROLES: tuple[str, ...] = get_args(Role)
_TURN_KEYS = ("role", "content", "weight", "name", "tool_calls", "tool_call_id")

Row = Mapping[str, Json]


class Messages:
    """{"messages": [{"role", "content"}, ...]}, with tools where there are some."""

    name = "messages"
    keys = ("messages", "tools")
    fields = "messages"

    def parse(self, row: Row) -> Conversation:
        turns = _turns(listed(row, "messages"), "messages")
        return _asked(checked(Conversation(turns, _tools(row), extra(row, self.keys))))

    def render(self, conversation: Conversation) -> dict[str, Json]:
        refuse_weights(conversation, "`messages` learns every answer", "openai")
        return self._row(conversation)

    def _row(self, conversation: Conversation) -> dict[str, Json]:
        _asked(conversation)
        made: dict[str, Json] = {"messages": [_message(turn) for turn in conversation.turns]}
        if conversation.tools:
            made["tools"] = list(conversation.tools)
        return carried(made, conversation, self.keys)


class OpenAI(Messages):
    """The same with `weight` 0 or 1 on an assistant's turn; a weight of 1 is not written."""

    name = "openai"

    def render(self, conversation: Conversation) -> dict[str, Json]:
        if any(turn.name and turn.role == "tool" for turn in conversation.turns):
            raise UserError("a tool's turn has no name in OpenAI's format", field="messages")
        return self._row(conversation)


class PromptCompletion:
    """{"prompt": ..., "completion": ...}: texts, or lists of messages where there is more than one turn each.

    Only the completion is learned, so what stands in the prompt is not.
    """

    name = "prompt-completion"
    keys = ("prompt", "completion", "tools")
    fields = "prompt and completion"

    def parse(self, row: Row) -> Conversation:
        prompt, completion = row.get("prompt"), row.get("completion")
        if (messages := _messages_in(prompt)) is not None:
            prompt, completion = messages, _messages_in(completion) or completion
        if isinstance(prompt, list) != isinstance(completion, list):
            raise UserError(
                "prompt and completion should both be texts, or both messages", field="completion"
            )
        if isinstance(prompt, list):
            before = tuple(_unlearned(turn) for turn in _turns(prompt, "prompt"))
            after = _turns(completion, "completion")
            if any(turn.role != "assistant" for turn in after):
                raise UserError(
                    "the completion should hold nothing but the assistant's answer",
                    field="completion",
                    hint="all of it is learned",
                )
            return checked(Conversation((*before, *after), _tools(row), extra(row, self.keys)))
        turns = (Turn("user", text(row, "prompt")), Turn("assistant", text(row, "completion")))
        return checked(Conversation(turns, _tools(row), extra(row, self.keys)))

    def render(self, conversation: Conversation) -> dict[str, Json]:
        if conversation.learned != (conversation.answer,):
            raise UserError(
                f"{len(conversation.learned)} answers are learned, and a completion is only the last turn",
                field="messages",
                hint="make a row of each answer, or write `messages`",
            )
        if not conversation.prompt:
            raise UserError("there is no prompt", field="prompt", hint="write `text` for plain texts")
        texts = [turn.role for turn in conversation.turns] == ["user", "assistant"]
        plain = texts and not any(t.name or t.tool_calls for t in conversation.turns)
        plain = plain and _messages_in(conversation.turns[0].content) is None  # it would be read as messages
        made: dict[str, Json]
        if plain:
            made = {"prompt": conversation.prompt[0].content, "completion": conversation.answer.content}
        else:
            made = {
                "prompt": [
                    {k: v for k, v in _message(t).items() if k != "weight"} for t in conversation.prompt
                ],
                "completion": [_message(conversation.answer)],
            }
        if conversation.tools:
            made["tools"] = list(conversation.tools)
        return carried(made, conversation, self.keys)


def _asked(conversation: Conversation) -> Conversation:
    if len(conversation.turns) == 1:
        raise UserError(
            "the user's question is missing before the first answer",
            field="messages[1]",
            hint="plain texts are of the format `text`",
        )
    return conversation


def _unlearned(turn: Turn) -> Turn:
    return replace(turn, learned=False) if turn.role == "assistant" else turn


def _tools(row: Row) -> tuple[Json, ...]:
    tools = listed(row, "tools")
    if tools is None:
        return ()
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise UserError("should be a list of tools", field="tools")
    return tuple(tools)


def _messages_in(cell: Json) -> list[Json] | None:
    """Messages that stand in a CSV cell as JSON text; None for any other text, JSON or not."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return None
    try:
        found = jsontext.loads(cell)
    except (json.JSONDecodeError, UserError):
        return None
    are = isinstance(found, list) and all(isinstance(m, dict) and m.get("role") in ROLES for m in found)
    return found if are and found else None


def _turns(messages: Json, field: str) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise UserError(
            "should be a list of messages",
            field=field,
            hint='for example [{"role": "user", "content": "Hi"}]',
        )
    return tuple(_turn(message, f"{field}[{number}]") for number, message in enumerate(messages, 1))


def _turn(message: Json, where: str) -> Turn:
    if not isinstance(message, dict):
        raise UserError("should be a message with role and content", field=where)
    given = {key: value for key, value in message.items() if value is not None}
    known_keys(given, _TURN_KEYS, where)
    role = given.get("role")
    if role not in ROLES:
        hint = "`developer` is `system` here" if role == "developer" else f"one of {', '.join(ROLES)}"
        raise UserError(f"there is no role {json.dumps(role, default=str)}", field=f"{where}.role", hint=hint)
    content = given.get("content")
    if content is not None and not isinstance(content, str):
        raise UserError("should be text", field=f"{where}.content", hint=_of_parts(content))
    calls = given.get("tool_calls", [])
    if not isinstance(calls, list) or (calls and role != "assistant"):
        raise UserError("should be an assistant's list of calls", field=f"{where}.tool_calls")
    for number, call in enumerate(calls, 1):
        if not isinstance(call, dict) or not isinstance(call.get("id"), str | None):
            hint = 'for example {"id": "call-1", "type": "function", "function": {...}}'
            raise UserError(
                "should be a call whose id is a text", field=f"{where}.tool_calls[{number}]", hint=hint
            )
    for key in ("tool_call_id", "name"):
        if not isinstance(given.get(key, ""), str):
            raise UserError("should be text", field=f"{where}.{key}")
    if ("tool_call_id" in given) != (role == "tool"):
        raise UserError("belongs to a tool's turn, and to each of them", field=f"{where}.tool_call_id")
    learned = _weight(given, str(role), where)
    return Turn(
        role,
        content,
        learned,
        tuple(calls),
        given.get("tool_call_id"),
        given.get("name"),
    )


def _of_parts(content: Json) -> str | None:
    """What to do about a content that is a list of parts."""
    if not isinstance(content, list):
        return None
    if all(
        isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text") for part in content
    ):
        return "a list of parts is not read, though all of these are texts: join them into one"
    return "parts of images and sound are not supported"


def _weight(given: Mapping[str, Any], role: str, where: str) -> bool:
    if "weight" not in given:
        return True
    if role != "assistant":
        raise UserError("only an assistant's turn has a weight", field=f"{where}.weight")
    weight = given["weight"]
    if isinstance(weight, bool) or weight not in (0, 1):
        raise UserError(
            f"{json.dumps(weight, default=str)} is no weight", field=f"{where}.weight", hint="0 or 1"
        )
    return bool(weight)


def _message(turn: Turn) -> dict[str, Json]:
    made: dict[str, Json] = {"role": turn.role}
    if turn.content is not None:
        made["content"] = turn.content
    if turn.tool_calls:
        made["tool_calls"] = list(turn.tool_calls)
    if turn.tool_call_id is not None:
        made["tool_call_id"] = turn.tool_call_id
    if turn.name is not None:
        made["name"] = turn.name
    if turn.role == "assistant" and not turn.learned:
        made["weight"] = 0
    return made


def messages_of(turns: Sequence[Turn]) -> list[Json]:
    """Turns as the messages that a renderer takes. Raises UserError for turns with tools."""
    refuse_tools(Conversation(tuple(turns)), "a prompt")
    return [{"role": turn.role, "content": turn.content} for turn in turns]
