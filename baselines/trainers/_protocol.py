"""What OpenAI's fine-tuning protocol wants and says: its client, its files, its rules, its odd values.

Pure functions but for `client`; nothing is sent from here. The job itself is `_jobs`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from breakeven.baselines.trainers._job_settings import REFUSES_TEXT, JobSettings
from breakeven.baselines.trainers._systems import openai as _exported
from breakeven.harness.errors import UserError
from breakeven.harness.hosted import Endpoint
from breakeven.harness.training import TrainingPair

#: Of a provider: fewer are refused, and a file may not be larger.
LEAST_EXAMPLES = 10
LARGEST_FILE = 512 * 1024 * 1024
#: Headers that the package fills from the environment.
_ITS_OWN = ("OpenAI-Organization", "OpenAI-Project")


def client(endpoint: Endpoint) -> Any:
    """The provider's own package, with our way of signing: the key is read when a request leaves.

    Raises:
        UserError: the package is not installed, or there is no key.
    """
    try:
        import openai
    except ImportError:
        raise UserError(
            "hosted fine-tuning needs the package openai",
            field="weights.trainer",
            hint='install it with: pip install "breakeven[hosted]"',
        ) from None
    endpoint.check_key()
    http = httpx.Client(
        auth=endpoint.auth,
        timeout=httpx.Timeout(max(endpoint.timeout, 120.0), connect=10.0),
        trust_env=not endpoint.is_loopback,
    )
    ours = endpoint.host == "api.openai.com"  # OPENAI_ORG_ID and its like are meant for nobody else
    away: dict[str, Any] = {} if ours else dict.fromkeys(_ITS_OWN, openai.Omit())
    return openai.OpenAI(
        api_key="in the environment",
        base_url=endpoint.base_url,
        max_retries=0,
        http_client=http,
        default_headers=away,
    )


def rows(pairs: Sequence[TrainingPair]) -> bytes:
    """The file that is sent: a chat per line, the answer last, as `export` writes it.

    A provider learns every assistant turn that has no weight 0, so that those that are only shown (of
    demonstrations, of earlier turns) have it.
    """
    made = (json.dumps(row, ensure_ascii=False) + "\n" for row in _exported.rows(pairs))
    return "".join(made).encode("utf-8", "replace")


def check_pairs(
    pairs: Sequence[TrainingPair], validation: Sequence[TrainingPair], settings: JobSettings
) -> None:
    """A provider's rules, before anything is sent. Raises UserError naming the example."""
    if len(pairs) < LEAST_EXAMPLES:
        raise UserError(
            f"there are {len(pairs)} training examples and providers take {LEAST_EXAMPLES} at least",
            field="train",
            hint="50 to 100 are where improvements begin, they say",
        )
    for pair in (*pairs, *validation):
        if pair.is_text:
            raise UserError(
                f"training example '{pair.id}' is plain text: {REFUSES_TEXT}", field="weights.data"
            )
        if not pair.answer.strip():
            raise UserError(f"the answer of training example '{pair.id}' is empty", field="train")
        if not any(m["content"].strip() for m in pair.messages if m["role"] == "user"):
            raise UserError(f"training example '{pair.id}' asks nothing", field="train")
        size = sum(len(m["content"]) for m in pair.messages) + len(pair.answer)
        if size > settings.max_example_tokens * 8:  # more than eight characters to a token there never are
            raise UserError(
                f"training example '{pair.id}' has {size:,} characters; the provider takes "
                f"{settings.max_example_tokens:,} tokens",
                field="train",
                hint="shorten it, show fewer demonstrations or passages, or raise weights.max_example_tokens",
            )
    if settings.checkpoint == "best" and not validation:
        raise UserError(
            "the best checkpoint is found by validation losses, and there are no validation examples",
            field="weights.checkpoint",
            hint="give the task some (limits.validation), or take the last",
        )
    for part, given in (("training", pairs), ("validation", validation)):
        if (size := len(rows(given))) > LARGEST_FILE:
            raise UserError(
                f"the {part} file would have {size / 2**20:,.0f} MB and providers take 512",
                field="train",
                hint="take fewer examples (limits.train)",
            )


def expected_epochs(asked: int | str, examples: int) -> float:
    """Passes over the examples.

    For "auto" as OpenAI's cookbook counts them ("Data preparation and analysis for chat model fine-tuning"):
    three, but at least 100 and at most 25,000 examples seen, in 1 to 25 passes.
    """
    if isinstance(asked, int):
        return float(asked)
    if examples * 3 < 100:
        return float(min(25, 100 // max(examples, 1)))
    if examples * 3 > 25_000:
        return float(max(1, 25_000 // examples))
    return 3.0


def epochs_of(job: Any) -> float | None:
    """The passes a job says it made; None where it says "auto", or Azure's -1."""
    method = getattr(job, "method", None)
    supervised = getattr(method, "supervised", None)
    for told in (getattr(supervised, "hyperparameters", None), getattr(job, "hyperparameters", None)):
        epochs = getattr(told, "n_epochs", None)
        if isinstance(epochs, int | float) and not isinstance(epochs, bool) and epochs > 0:
            return float(epochs)
    return None


def status_of(job: Any) -> str:
    """A job's status, in OpenAI's spelling."""
    status = str(getattr(job, "status", None) or "unknown").lower()
    return "cancelled" if status == "canceled" else status


def shutdown_remark(host: str, models: Sequence[Any], *names: str) -> list[str]:
    """A sentence for the first of these that the server's list of models gives an end."""
    for name in names:
        for model in models:
            day = getattr(model, "shutdown_date", None)
            if getattr(model, "id", None) == name and day:
                ends, today = _day(day), datetime.now(UTC).date().isoformat()
                return [f"{host} {'shut' if ends < today else 'shuts'} {name} down on {ends}"]
    return []


def _day(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000 if value > 1e11 else value
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    return str(value)[:10]


def number(value: Any) -> float | None:
    """A finite number, or None for anything else a server may write in its place."""
    try:
        read = float(value)
    except (TypeError, ValueError):
        return None
    return read if math.isfinite(read) else None


def said_by(error: Any) -> str:
    """Code and message of a refusal."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            return " ".join(str(inner.get(k)) for k in ("code", "message") if inner.get(k))
        return str(inner)
    return str(error.message)
