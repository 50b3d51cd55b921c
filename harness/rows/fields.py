"""What formats share: reading a field with a fault that names it, refusing what a format cannot say."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from breakeven.harness import jsontext
from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.rows.conversation import Conversation


def text(row: Mapping[str, Json], field: str) -> str:
    """A field that must be text. Raises UserError otherwise."""
    value = row.get(field)
    if not isinstance(value, str):
        what = "is missing" if value is None else f"should be text, not {json.dumps(value, default=str)[:40]}"
        raise UserError(what, field=field)
    return value


def optional(row: Mapping[str, Json], field: str) -> str | None:
    """A field that may be missing or empty. Raises UserError where it is no text."""
    return text(row, field) or None if row.get(field) is not None else None


def listed(row: Mapping[str, Json], field: str) -> Json:
    """A field that may be a list; a text that is a JSON list, as in a cell of a CSV file, is read.

    Raises:
        UserError: for such a text that JSON could not read without a change (`jsontext.loads`).
    """
    value = row.get(field)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            parsed: Json = jsontext.loads(value)
        except json.JSONDecodeError:
            return value
        except UserError as error:
            raise UserError(error.what, field=field, hint=error.hint) from error
        return parsed
    return value


def extra(row: Mapping[str, Json], keys: Sequence[str]) -> dict[str, Json]:
    """What a row holds beside the format's own fields."""
    return {key: value for key, value in row.items() if key not in keys and value is not None}


def carried(made: dict[str, Json], conversation: Conversation, keys: Sequence[str]) -> dict[str, Json]:
    """A row with what stood beside the turns. Raises UserError for a column that the format reads itself."""
    for key in conversation.extra:
        if key in keys:
            raise UserError(
                "the row has a column of this name, which the format would take for its own",
                field=key,
                hint="rename or drop the column",
            )
    return {**made, **conversation.extra}


def known_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raises UserError for a key that would be dropped silently."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            raise UserError("unknown key", field=f"{where}.{key}", hint=hint)


def without_none(value: Any) -> Any:
    """Without the empty keys that Parquet's tables put into every object."""
    if isinstance(value, dict):
        return {key: without_none(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [without_none(part) for part in value]
    return value


def refuse_weights(conversation: Conversation, why: str, instead: str) -> None:
    """Raises UserError where an answer is not learned and the format cannot say so."""
    if any(turn.role == "assistant" and not turn.learned for turn in conversation.turns):
        raise UserError(
            f"an answer has weight 0, and {why}", field="weight", hint=f"write `{instead}` instead"
        )


def refuse_tools(conversation: Conversation, what: str) -> None:
    """Raises UserError where there are tools, which only formats with messages can hold."""
    if conversation.uses_tools:
        raise UserError(f"{what} cannot hold tools", field="tools", hint="write `openai` or `messages`")
    if any(turn.name for turn in conversation.turns):
        raise UserError(f"{what} cannot hold the names of speakers", field="name")
