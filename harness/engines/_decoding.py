"""Greedy and sampled decoding of one left-padded batch, and the scoring of closed choices."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines import _prefix
from breakeven.harness.engines._cache import growing_cache
from breakeven.harness.engines._prefix import Prefixes
from breakeven.harness.engines._tokens import Tokens

Forward = Callable[..., Any]
KEEP = 0.75  # the batch shrinks once no more than this share of its rows is unfinished


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
    rows: list[Row],
    forward: Forward,
    config: Any,
    tokens: Tokens,
    device: str,
    prefixes: Prefixes | None = None,
) -> Iterator[Completion]:
    """Answer a batch, each row as it finishes.

    Args:
        forward: runs the model on keyword inputs.
        prefixes: where what all prompts begin with is kept; None reads every prompt whole.
    """
    import torch

    start = time.perf_counter()
    prompts = [row.prompt for row in rows]
    shared = _prefix.length(prompts) if prefixes is not None else 0
    ids, mask = _left_padded(prompts, tokens.pad_id, device)
    cache = growing_cache(config)
    if shared and prefixes is not None:
        # All columns are those of prompts read whole, so that attention rounds alike: of the beginning, a row
        # has as much in the cache as lies left of what is read, and reads the rest of it again.
        lengths = [max(0, len(prompt) - (ids.shape[1] - shared)) for prompt in prompts]
        cache = prefixes.cache(prompts[0][:shared], lengths, forward, config, device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
    ids = ids[:, shared:]
    live: list[Row | None] = list(rows)  # None: finished, its line computes nothing anybody reads
    while True:
        out = forward(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        chosen = _choose(out.logits[:, -1], live)
        finished = []
        for i, slot in enumerate(live):
            if slot is not None and slot.accept(chosen[i], tokens):
                finished.append(slot)
                live[i] = None
        left = [i for i, row in enumerate(live) if row is not None]
        places = places[:, -1:] + 1
        if left and len(left) <= KEEP * len(live):
            index = torch.tensor(left, device=device)
            cache.batch_select_indices(index)
            mask, places = mask[index], places[index]
            live, chosen = [live[i] for i in left], [chosen[i] for i in left]
        ids = torch.tensor(chosen, device=device)[:, None]
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
        share = (time.perf_counter() - start) / (len(finished) + len(left))
        for worker in (*finished, *(row for row in live if row is not None)):
            worker.seconds += share
        for done in finished:
            yield done.completion()
        if not left:
            return
        start = time.perf_counter()


def _left_padded(prompts: Sequence[list[int]], pad_id: int, device: str) -> tuple[Any, Any]:
    """(token ids, attention mask), both (rows, longest prompt), the prompts flush right."""
    import torch

    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :] = torch.tensor(prompt)
        mask[i, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _choose(logits: Any, rows: Sequence[Row | None]) -> list[int]:
    """The next token of each row: the likeliest at temperature 0, else drawn with the row's own stream."""
    import torch

    chosen: list[int] = logits.max(-1).indices.tolist()  # in bfloat16 several times as fast as argmax
    for i, row in enumerate(rows):
        if row is not None and row.request.temperature > 0:
            chances = torch.softmax(logits[i].float().cpu() / row.request.temperature, -1)
            chosen[i] = int(torch.multinomial(chances, 1, generator=row.random))
    return chosen
