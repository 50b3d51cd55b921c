"""Greedy and sampled decoding of one left-padded batch, and the scoring of closed choices."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines._tokens import Tokens

Forward = Callable[..., Any]


@dataclass(slots=True)
class Row:
    """One request while its answer grows. `seconds` is its share of the steps it took part in."""

    request: Request
    prompt: list[int]
    room: int
    stops: tuple[str, ...]
    random: Any = None
    written: list[int] = field(default_factory=list)
    seconds: float = 0.0
    finish_reason: str = ""
    text: str = ""

    def accept(self, token: int, tokens: Tokens) -> bool:
        """Take the next token; True when the answer is complete."""
        if token in tokens.ends:
            self.finish_reason, self.text = "stop", tokens.decode(self.written)
            return True
        self.written.append(token)
        if self.stops:
            text = tokens.decode(self.written)
            at = [text.find(stop, _leading_space(text, stop)) for stop in self.stops]
            if found := [i for i in at if i >= 0]:
                self.finish_reason, self.text = "stop", text[: min(found)]
                return True
        if len(self.written) >= self.room:
            self.finish_reason, self.text = "length", tokens.decode(self.written)
            return True
        return False

    def completion(self) -> Completion:
        usage = Usage(len(self.prompt), len(self.written))
        return Completion(self.request.id, self.text, self.finish_reason, usage, self.seconds)


def _leading_space(text: str, stop: str) -> int:
    """Where to look for a stop string from: one of white space alone does not count before any word."""
    return len(text) - len(text.lstrip()) if not stop.strip() else 0


def generator_for(request: Request) -> Any:
    """A random stream of the request's own, so that its sample does not depend on its neighbours' draws."""
    import torch

    key = hashlib.sha256(f"{request.seed}:{request.id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))


def generate(
    rows: list[Row], forward: Forward, config: Any, tokens: Tokens, device: str
) -> Iterator[Completion]:
    """Answer a batch, each row as it finishes. `forward` runs the model on keyword inputs."""
    import torch
    from transformers import DynamicCache

    width = max(len(row.prompt) for row in rows)
    ids = torch.full((len(rows), width), tokens.pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
        mask[i, width - len(row.prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=config)
    live = list(rows)
    while live:
        start = time.perf_counter()
        out = forward(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        chosen = _choose(out.logits[:, -1], live)
        share = (time.perf_counter() - start) / len(live)
        finished = []
        for row, token in zip(live, chosen, strict=True):
            row.seconds += share
            finished.append(row.accept(token, tokens))
        yield from (row.completion() for row, done in zip(live, finished, strict=True) if done)
        if all(finished):
            return
        start = time.perf_counter()
        kept = [i for i, done in enumerate(finished) if not done]
        ids = torch.tensor([[chosen[i]] for i in kept], device=device)
        if any(finished):
            live = [live[i] for i in kept]
            index = torch.tensor(kept, device=device)
            cache.batch_select_indices(index)
            mask, places = mask[index], places[index]
        mask = torch.cat([mask, mask.new_ones((len(live), 1))], dim=1)
        places = places[:, -1:] + 1
        share = (time.perf_counter() - start) / len(live)
        for row in live:
            row.seconds += share


def _choose(logits: Any, rows: Sequence[Row]) -> list[int]:
    """The next token of each row: the likeliest at temperature 0, else drawn with the row's own stream."""
    import torch

    chosen: list[int] = logits.argmax(-1).tolist()
    for i, row in enumerate(rows):
        if row.request.temperature > 0:
            chances = torch.softmax(logits[i].float().cpu() / row.request.temperature, -1)
            chosen[i] = int(torch.multinomial(chances, 1, generator=row.random))
    return chosen
