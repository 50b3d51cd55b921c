"""Scores of choices out of what a server says about its tokens.

Two ways, since protocols differ: the log-probabilities of a prompt that already holds the answer (vLLM and
what follows it), exact; or those of the first token written (OpenAI, llama.cpp, Ollama), which tell
choices apart that begin differently. Pure functions over bodies; sending is the engine's business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from breakeven.harness.contracts import Message
from breakeven.harness.errors import NotApplicable, UserError

Mode = Literal["", "prompt", "first-token"]
#: Most alternatives of a token that OpenAI tells.
TOP = 20


def prompt_body(messages: Sequence[Message], choice: str | None) -> dict[str, Any]:
    """Fields that ask for the log-probabilities of a prompt: with `choice` as its answer, or as it is
    asked."""
    made: dict[str, Any] = {"prompt_logprobs": 0, "max_tokens": 1, "temperature": 0.0}
    if choice is None:
        return {**made, "messages": [dict(m) for m in messages]}
    answered = [*(dict(m) for m in messages), {"role": "assistant", "content": choice}]
    return {**made, "messages": answered, "add_generation_prompt": False}


def prompt_tokens(data: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(token, log-probability) of every token of the prompt; the first has none, here 0.

    Raises UserError where the answer is not what vLLM sends.
    """
    rows = data.get("prompt_logprobs")
    if not isinstance(rows, list) or not rows:
        raise _not_given("the server gives no prompt_logprobs")
    made: list[tuple[str, float]] = []
    try:
        for row in rows:
            if row is None:
                made.append(("", 0.0))
                continue
            token, told = next(iter(row.items()))  # the prompt's own token comes first
            made.append((str(token), float(told["logprob"])))
    except (AttributeError, StopIteration, KeyError, TypeError, ValueError):
        raise _not_given("prompt_logprobs are not what the protocol says") from None
    return made


def answer_logprob(asked: Sequence[tuple[str, float]], answered: Sequence[tuple[str, float]]) -> float:
    """Summed log-probability of what follows the prompt: the choice, its end, and what the template writes
    then.

    The template's own ending is the same for all choices, and all but certain.

    Raises NotApplicable where the answered prompt does not begin as the asked one.
    """
    start = 0
    for (a, _), (b, _) in zip(asked, answered, strict=False):
        if a != b:
            break
        start += 1
    if start < len(asked) - 2:  # the last token may have joined with the answer's first
        raise NotApplicable(
            f"the server renders an answered prompt otherwise than an asked one (from token {start} of "
            f"{len(asked)})"
        )
    return sum(logprob for _, logprob in answered[start:])


def first_token_body() -> dict[str, Any]:
    """Fields that ask for the likeliest first tokens of an answer."""
    return {"logprobs": True, "top_logprobs": TOP, "temperature": 0.0}


def first_token_logprobs(data: Mapping[str, Any], choices: Sequence[str]) -> tuple[float, ...]:
    """Log-probability that an answer begins as each choice and as no other one.

    Tokens that begin a choice, white space before them aside, count for it. A choice without one among the
    likeliest tokens gets the log-probability of the least of those, which is more than it has.

    Raises:
        NotApplicable: a likely token begins several choices, so that it cannot tell them apart.
        UserError: the answer is not what the protocol says.
    """
    try:
        told = data["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        top = [(str(row["token"]), float(row["logprob"])) for row in told]
    except (KeyError, IndexError, TypeError, ValueError):
        raise _not_given("the server gives no top_logprobs") from None
    if not top:
        raise _not_given("the server gives no top_logprobs")
    mass = dict.fromkeys(choices, 0.0)
    shared: dict[tuple[str, ...], float] = {}
    for token, logprob in top:
        begun = token.lstrip()
        fits = tuple(c for c in choices if begun and c.startswith(begun))
        if len(fits) == 1:
            mass[fits[0]] += math.exp(logprob)
        elif fits:
            shared[fits] = shared.get(fits, 0.0) + math.exp(logprob)
    best = max(mass.values())
    for fits, weight in shared.items():
        if weight >= best:
            raise NotApplicable(
                f"the first token cannot tell '{fits[0]}' from '{fits[1]}'; generate the answer, or use a "
                "server "
                "with prompt_logprobs"
            )
    least = min(logprob for _, logprob in top)
    return tuple(math.log(mass[c]) if mass[c] > 0 else least for c in choices)


def _not_given(what: str) -> UserError:
    return UserError(what, field="choices", hint="leave `choices` out, or name a server that gives them")
