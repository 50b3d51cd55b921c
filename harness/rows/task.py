"""Conversations as the rows of a task: what is asked in one column, the answer in another.

The last answer is the one that is asked for and scored; whatever stands before it is the question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.readers import Row
from breakeven.harness.rows import sources
from breakeven.harness.rows.chat import messages_of
from breakeven.harness.rows.conversation import Conversation
from breakeven.harness.rows.sources import Read

#: Columns of the rows that are made.
PROMPT, MESSAGES, ANSWER = "prompt", "messages", "answer"


@dataclass(frozen=True, slots=True)
class TaskRows:
    """Rows by split, which column is what, and the system message that all of them share ("" if none).

    `names` are those of the sources, `note` what to keep on record of formats and mixtures.
    """

    splits: Mapping[str, Sequence[Row]]
    columns: Mapping[str, Any]
    instructions: str
    names: tuple[str, ...] = ()
    note: Mapping[str, Json] = field(default_factory=dict)


def is_formatted(data: Any, columns: Mapping[str, Any]) -> bool:
    """Whether the rows are to be read in a format, and not by columns that are named.

    Raises:
        UserError: when both are said.
    """
    if not columns.get("input"):
        return isinstance(data, str | Path | Mapping) and not _holds_rows(data)
    given = list(_by_split(data).values())
    if any(sources.is_source(some) for some in given):
        raise UserError(
            "the format says which column is what",
            field="columns.input",
            hint="leave `input` and `reference` out, or give `data` as a path alone",
        )
    return False


def read_task(
    data: Any, columns: Mapping[str, Any], instructions: str, base: Path | None, encoding: str
) -> TaskRows:
    """The rows of a task whose data are in formats of training data.

    Args:
        data: a path or a description of data sets (`sources.Source`), or one of these by split.
        columns: further columns (`group`, `split`, `meta`, ...), laid over those that are made.
        instructions: the task's own, "" where the rows' system message is to be taken.

    Raises:
        UserError: with file and line, for a row at fault; where instructions and system messages clash; for a
            column of `columns` that the rows have, under a name that is given to what is made.
    """
    read: dict[str, list[Read]] = {}
    taken: dict[str, int] = {}
    formats: dict[str, Json] = {}
    names = []
    for wanted, given in _by_split(data).items():
        spec, found = _found(given, f"data.{wanted}" if wanted else "data", base, encoding)
        names.append(spec.name)
        formats.update(found.formats)
        if spec.mix:
            taken.update(found.taken)
        splits = {wanted: found.splits[wanted]} if wanted in found.splits else found.splits
        for split, some in splits.items():
            read.setdefault(wanted or split, []).extend(some)
    made = task_rows(read)
    own = instructions.strip()
    clash = made.instructions.strip() not in ("", own) if made.instructions else _has_system(read)
    if own and clash:
        raise UserError(
            "the rows have system messages, and the task has instructions",
            field="instructions",
            hint="leave the instructions out, or the system messages",
        )
    note: dict[str, Json] = {"formats": formats}
    if taken:
        note["mixed"] = dict(taken)
    given_columns = {key: value for key, value in columns.items() if value not in (None, [], ())}
    _refuse_hidden(read, made, given_columns)
    return replace(
        made,
        columns={**made.columns, **given_columns},
        instructions=instructions or made.instructions,
        names=tuple(names),
        note=note,
    )


def _by_split(data: Any) -> dict[str, Any]:
    return dict(data) if isinstance(data, Mapping) and not sources.is_source(data) else {"": data}


def _holds_rows(data: Any) -> bool:
    """Whether rows are given by the program, and not by where they are."""
    return not all(isinstance(x, str | Path) or sources.is_source(x) for x in _by_split(data).values())


def _found(given: Any, place: str, base: Path | None, encoding: str) -> tuple[sources.Source, sources.Found]:
    try:
        spec = sources.source(given if sources.is_source(given) else {"path": str(given)})
        found = sources.read(spec, base=base, encoding=encoding)
        if not any(found.splits.values()):
            raise UserError(f"there is not a single row in {spec.name}")
        return spec, found
    except UserError as error:
        if error.file is not None:
            raise
        inner = f"{place}.{error.field}" if error.field else place
        raise UserError(error.what, field=inner, hint=error.hint) from error


def _refuse_hidden(read: Mapping[str, Sequence[Read]], made: TaskRows, named: Mapping[str, Any]) -> None:
    """Raises UserError for a column that is named, and that the question or the answer made here hides."""
    ours = (made.columns["input"], made.columns["reference"])
    for key, value in named.items():
        for column in () if key == "separator" else (value,) if isinstance(value, str) else value:
            hidden = str(column).split(".")[0]
            if hidden not in ours:
                continue
            row = next((row for some in read.values() for row, c in some if hidden in c.extra), None)
            if row is not None:
                what = f"the rows have a column '{hidden}', and what the format makes is called so too"
                raise UserError(what, field=f"columns.{key}", hint=f"rename that column in {row.file}")


def _has_system(read: Mapping[str, Sequence[Read]]) -> bool:
    return any(c.turns[0].role == "system" for some in read.values() for _, c in some)


def task_rows(splits: Mapping[str, Sequence[Read]]) -> TaskRows:
    """Rows with `prompt` (or `messages`, where one has more than a question) and `answer`.

    A system message that every row begins with becomes the task's instructions.

    Raises:
        UserError: with file and line, for a row that asks nothing, that uses tools, or whose last answer is
            not to be learned.
    """
    everything = [read for some in splits.values() for read in some]
    for row, conversation in everything:
        if len(conversation.turns) == 1:
            raise _fault(row, "a plain text asks nothing that could be scored", "text",
                         "give such texts as `documents`")  # fmt: skip
        if not conversation.answer.learned:
            raise _fault(row, "the last answer has weight 0, so there is none to score", "messages")
        if conversation.uses_tools:
            raise _fault(row, "a task cannot ask with tools yet", "tools", "drop the rows that use them")
    systems = {c.turns[0].content if c.turns[0].role == "system" else None for _, c in everything}
    shared = next(iter(systems)) if len(systems) == 1 else None
    skipped = 1 if shared is not None else 0
    simple = all([t.role for t in c.prompt[skipped:]] == ["user"] for _, c in everything)
    made = {
        split: [_row(row, conversation, skipped, simple) for row, conversation in some]
        for split, some in splits.items()
    }
    columns: dict[str, Any] = {"input": PROMPT if simple else MESSAGES, "reference": ANSWER}
    if _identified(everything):
        columns["id"] = "id"
    return TaskRows(made, columns, shared or "")


def _row(row: Row, conversation: Conversation, skipped: int, simple: bool) -> Row:
    try:
        # Of all turns: a speaker's name, which this refuses, would be lost in a text too.
        messages = messages_of(conversation.turns)
    except UserError as error:
        raise UserError(
            error.what, file=row.file, line=row.line, field=error.field, hint=error.hint
        ) from error
    asked: Json = conversation.prompt[-1].content if simple else messages[skipped:-1]
    values = {
        **conversation.extra,
        PROMPT if simple else MESSAGES: asked,
        ANSWER: conversation.answer.content,
    }
    return replace(row, values=values)


def _identified(everything: Sequence[Read]) -> bool:
    """Whether every row has an id, and each another one."""
    ids = [conversation.extra.get("id") for _, conversation in everything]
    return bool(ids) and None not in ids and "" not in ids and len(set(map(str, ids))) == len(ids)


def _fault(row: Row, what: str, field: str, hint: str | None = None) -> UserError:
    return UserError(what, file=row.file, line=row.line, field=field, hint=hint)
