"""Asking a server about fine-tuning: again while it is busy, never twice for what it has already made.

A refusal becomes words that say what would be right; an answer lost on the way is looked for before
anything is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from breakeven.baselines.trainers._protocol import said_by
from breakeven.harness.engines import _wire
from breakeven.harness.errors import BreakevenError, UserError
from breakeven.harness.hosted import Endpoint

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, None)
#: A server that asks for a longer pause than this is not waited for.
_LONGEST = 60.0
_MOST_LISTED = 1000


class HostedFailure(BreakevenError):
    """A server does not answer as the protocol says; nobody's mistake that anyone knows of."""


class Asking:
    """Calls of one server. `lost` counts the answers that may have been lost on their way."""

    def __init__(self, endpoint: Endpoint, sleep: Callable[[float], None]) -> None:
        self._endpoint, self._sleep = endpoint, sleep
        self.lost = 0

    def __call__(self, ask: Callable[[], Any], find: Callable[[], Any] | None = None) -> Any:
        """What the server answers, asked again while it is busy.

        Where an answer is lost on the way, `find` looks whether what was asked for is there all the same,
        after a pause in which it may yet have been made.

        Raises:
            UserError: the server refuses.
            HostedFailure: it does not answer, or not in its protocol.
        """
        import openai

        reason = ""
        for pause in _PAUSES:
            asked: float | None = None
            try:
                answer = ask()
                if not isinstance(answer, str):
                    return answer
                reason = "a page that is no JSON"  # the package hands it out as text
            except openai.APIStatusError as error:
                said = said_by(error)
                busy = error.status_code in (408, 409, 429) or error.status_code >= 500
                if not busy or _wire.no_credit(error.status_code, said, said):
                    refusal = self._refusal(error)
                    raise refusal from None  # its traceback would drag the request and its key along
                reason = f"{error.status_code} {self._endpoint.clean(said)}".strip()
                asked = _wire.retry_after(error.response)
            except openai.APIConnectionError as error:
                if isinstance(error.__cause__, UserError):
                    raise error.__cause__ from None
                reason = type(error.__cause__ or error).__name__
            except (ValueError, AttributeError):  # what the package makes of half an answer, or of a page
                reason = "an answer that is not what the protocol says"
            if pause is not None:
                self._sleep(max(pause, min(asked or 0.0, _LONGEST)))
            if find is not None:
                self.lost += 1
                if (there := find()) is not None:
                    return there
        raise HostedFailure(f"{self._endpoint.host} gives no answer about fine-tuning; at last: {reason}")

    def listed(self, ask: Callable[[], Any]) -> list[Any]:
        """All rows of a list, over its pages; a server that pages in circles ends."""

        def rows() -> list[Any]:
            page = ask()
            if isinstance(page, str):
                raise ValueError("a page that is no JSON")
            found: dict[Any, Any] = {}
            for number, row in enumerate(page):
                name = getattr(row, "id", None) or number
                if name in found or number >= _MOST_LISTED:
                    break
                found[name] = row
            return list(found.values())

        made: list[Any] = self(rows)
        return made

    def perhaps(self, ask: Callable[[], Any]) -> Any:
        """The same for what a server need not offer: None where it refuses or does not answer."""
        try:
            return self(ask)
        except (UserError, HostedFailure):
            return None

    def perhaps_listed(self, ask: Callable[[], Any]) -> Sequence[Any]:
        try:
            return self.listed(ask)
        except (UserError, HostedFailure):
            return ()

    def _refusal(self, error: Any) -> UserError:
        endpoint, status = self._endpoint, error.status_code
        said = endpoint.clean(said_by(error))
        if _wire.no_credit(status, said, said):
            return UserError(
                f"the account at {endpoint.host} has no credit left ({status} {said})", field="weights"
            )
        if status in (401, 403):
            key = endpoint.api_key_env or "no variable"
            return UserError(
                f"{endpoint.host} refuses fine-tuning with the key in {key} ({status} {said})",
                field="api_key_env",
                hint="may the account fine-tune this model? OpenAI takes no new ones since May 2026",
            )
        if 300 <= status < 400:
            return UserError(
                f"{endpoint.host} redirects elsewhere ({status}), which is not followed with a key in hand",
                field="base_url",
                hint="name the final address",
            )
        if status == 404 and "file" not in said.lower():
            return UserError(
                f"{endpoint.host} offers no fine-tuning at {endpoint.base_url} (404 {said})", field="base_url"
            )
        return UserError(f"{endpoint.host} refuses the training ({status} {said})", field="weights")
