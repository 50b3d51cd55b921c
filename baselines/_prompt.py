"""The one renderer: what a strategy wants to ask -> the messages of one request.

Serving and training both come through here, so a tuned model is trained on exactly what it will be asked.
Choosing demonstrations and passages is left to `_demonstrations` and `_retrieval`, the chat template to the
engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from breakeven.harness.contracts import Brief, Example, Json, Message
from breakeven.harness.errors import UserError
from breakeven.harness.metrics import answer_text
from breakeven.harness.templating import render, variables


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document as it is shown. `id` is "document#number", unique within an index.

    It stands between the characters `start` and `end` of the document's text; (0, 0) is not known.
    """

    id: str
    document: str
    title: str
    text: str
    start: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A training example as it is shown: its input with its own passages, and the answer."""

    id: str
    fields: Mapping[str, Json]
    answer: str
    passages: tuple[Passage, ...] = ()


def messages(
    brief: Brief,
    fields: Mapping[str, Json],
    *,
    passages: Sequence[Passage] = (),
    demonstrations: Sequence[Demonstration] = (),
    list_choices: bool = True,
) -> tuple[Message, ...]:
    """One request: instructions, then a user/assistant pair per demonstration, then the question.

    Raises:
        UserError: when the input template asks for a field that the input does not have.
    """
    result: list[Message] = []
    if system := _system(brief, list_choices):
        result.append({"role": "system", "content": system})
    for shown in demonstrations:
        result += _question(brief, shown.fields, shown.passages)
        result.append({"role": "assistant", "content": shown.answer})
    return (*result, *_question(brief, fields, passages))


def answer(example: Example) -> str:
    """The answer that is shown or trained: the first of the acceptable ones, as a metric would read it."""
    return answer_text(example.references[0])


def query_text(brief: Brief, fields: Mapping[str, Json]) -> str:
    """What is embedded to find passages and similar examples: the input without the template's own words.

    The values of the fields that the template mentions, one per line; for chat inputs the user's turns.
    """
    if is_chat(brief, fields):
        return "\n".join(str(m["content"]) for m in _turns(fields) if m["role"] == "user")
    used = variables(brief.input_template)
    values = [answer_text(value) for name, value in fields.items() if name in used and value is not None]
    return "\n".join(values) if values else render(brief.input_template, fields)


def is_chat(brief: Brief, fields: Mapping[str, Json]) -> bool:
    """True where the input is a conversation (`messages`) and not fields for a template."""
    return not brief.input_template.strip() and "messages" in fields


def _system(brief: Brief, list_choices: bool) -> str:
    parts = [brief.instructions.strip()]
    if list_choices and brief.choices:
        listed = "\n".join(f"- {choice}" for choice in brief.choices)
        parts.append(f"Answer with exactly one of these, and nothing else:\n{listed}")
    return "\n\n".join(part for part in parts if part)


def _question(brief: Brief, fields: Mapping[str, Json], passages: Sequence[Passage]) -> list[Message]:
    shown = _passages(passages)
    if not is_chat(brief, fields):
        return [{"role": "user", "content": shown + render(brief.input_template, fields)}]
    turns = _turns(fields)
    last = turns[-1]
    return [*turns[:-1], {"role": last["role"], "content": shown + str(last["content"])}]


def _turns(fields: Mapping[str, Json]) -> list[Message]:
    turns = fields["messages"]
    if not isinstance(turns, list) or not turns:
        raise UserError("a chat input needs a list of messages", field="messages")
    result: list[Message] = []
    for turn in turns:
        if not isinstance(turn, dict) or not {"role", "content"} <= set(turn):
            raise UserError("every message needs a role and a content", field="messages")
        result.append({"role": str(turn["role"]), "content": str(turn["content"])})
    return result


def _passages(passages: Sequence[Passage]) -> str:
    if not passages:
        return ""
    blocks = []
    for number, passage in enumerate(passages, start=1):
        title, text = titled(passage)
        blocks.append(f"[{number}] {title}".rstrip() + f"\n{text}")
    return "Passages that may help:\n\n" + "\n\n".join(blocks) + "\n\n"


def titled(passage: Passage) -> tuple[str, str]:
    """(title, text) of a passage as they are shown; the title is "" where the text opens with it."""
    text, title = passage.text.strip(), passage.title.strip()
    return ("" if text.partition("\n")[0].lstrip("# ") == title else title), text


def without_passages(messages: Sequence[Message], passages: Sequence[Passage]) -> tuple[Message, ...]:
    """A rendered request without the passages that its question shows."""
    *before, question = messages
    return (*before, {**question, "content": question["content"].removeprefix(_passages(passages))})


# --- making it fit ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fitted:
    """A rendered request and how much of what was wanted found room in it.

    `found` passages were retrieved; `stages` are the documents that each stage of retrieval put first.
    """

    messages: tuple[Message, ...]
    demonstrations: tuple[Demonstration, ...]
    passages: tuple[Passage, ...]
    tokens: int
    fits: bool
    found: int = 0
    stages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def fit(
    build: Callable[[Sequence[Demonstration], Sequence[Passage]], tuple[Message, ...]],
    demonstrations: Sequence[Demonstration],
    passages: Sequence[Passage],
    count: Callable[[tuple[Message, ...]], int],
    room: int | None,
) -> Fitted:
    """The largest prompt of at most `room` tokens: demonstrations are given up first, then passages.

    Args:
        build: renders the messages for a selection.
        demonstrations, passages: most wanted first; the last are given up first.
        count: tokens of the rendered messages, chat template included.
        room: tokens that the prompt may take; None where the context length is unknown.

    Returns:
        `fits` is False when not even the bare input has room; that bare prompt is returned.
    """
    sizes = [(d, len(passages)) for d in range(len(demonstrations), -1, -1)]
    sizes += [(0, p) for p in range(len(passages) - 1, -1, -1)]

    def attempt(index: int) -> Fitted:
        d, p = sizes[index]
        shown, context = tuple(demonstrations[:d]), tuple(passages[:p])
        rendered = build(shown, context)
        tokens = count(rendered) if room is not None else 0
        return Fitted(rendered, shown, context, tokens, room is None or tokens <= room)

    best = attempt(0)
    if best.fits:
        return best
    low, high, best = 1, len(sizes) - 1, attempt(len(sizes) - 1)
    while low < high and best.fits:  # the first size that fits; a smaller selection is never longer
        middle = (low + high) // 2
        tried = attempt(middle)
        if tried.fits:
            high, best = middle, tried
        else:
            low = middle + 1
    return best
