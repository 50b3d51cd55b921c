"""Log-probabilities of closed choices: the prompt is read once, all choices share its keys and values.

The choices follow the prompt packed into one row, each seeing the prompt and itself, at the positions it
would have had alone. A model that cannot do that (sliding windows, recurrent layers, position biases) reads
prompt and choice anew for each choice; the result is the same, and so is the bill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from breakeven.harness.engines._cache import growing_cache

PACKED_TOKENS = 2048  # most choice tokens in one pass

Forward = Callable[..., Any]


def score(
    prompt: list[int],
    choices: Sequence[list[int]],
    forward: Forward,
    config: Any,
    device: str,
    packed: bool,
    read: Any = None,
) -> list[float]:
    """Summed log-probability of each choice's tokens (end token included) after the prompt, in nats.

    Args:
        prompt: token ids, at least one.
        choices: token ids of each choice, each ending in the end token.
        forward: runs the model on keyword inputs.
        packed: whether the model takes packed rows (see `takes_packed_rows`).
        read: a cache that holds the prompt's beginning already (packed rows only).
    """
    if not packed:
        return [_plain(prompt, choice, forward, device) for choice in choices]
    import torch

    cache = growing_cache(config) if read is None else read
    begun = cache.get_seq_length()
    out = forward(
        input_ids=torch.tensor([prompt[begun:]], device=device),
        position_ids=torch.arange(begun, len(prompt), device=device)[None],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    first = _log_softmax(out.logits[0, -1:])[0]
    scores: list[float] = []
    for group in _groups(choices):
        scores += _packed(len(prompt), group, first, forward, cache, device)
        cache.crop(-sum(len(choice) - 1 for choice in group))
    return scores


def _packed(
    past: int, group: Sequence[list[int]], first: Any, forward: Forward, cache: Any, device: str
) -> list[float]:
    """Scores of some choices that follow `past` cached tokens; leaves their keys in the cache."""
    import torch

    lengths = [len(choice) - 1 for choice in group]  # the end token is predicted, never read
    starts = [0, *accumulate(lengths)]
    total = starts[-1]
    if total == 0:
        return [float(first[choice[0]]) for choice in group]
    mask = torch.zeros((1, 1, total, past + total), dtype=torch.bool)
    mask[..., :past] = True
    places = torch.zeros((1, total), dtype=torch.long)
    for start, length in zip(starts, lengths, strict=False):
        end = start + length
        mask[0, 0, start:end, past + start : past + end] = torch.ones(length, length).tril().bool()
        places[0, start:end] = past + torch.arange(length)
    read = [token for choice in group for token in choice[:-1]]
    out = forward(
        input_ids=torch.tensor([read], device=device),
        attention_mask=mask.to(device),
        position_ids=places.to(device),
        past_key_values=cache,
        use_cache=True,
    )
    wanted = [token for choice in group for token in choice[1:]]
    found = _log_softmax(out.logits[0]).gather(-1, torch.tensor(wanted)[:, None])[:, 0]
    scores = []
    for choice, start, length in zip(group, starts, lengths, strict=False):
        scores.append(float(first[choice[0]]) + float(found[start : start + length].sum()))
    return scores


def _plain(prompt: list[int], choice: list[int], forward: Forward, device: str) -> float:
    """The same for one choice, as one row without cache."""
    import torch

    ids = torch.tensor([prompt + choice[:-1]], device=device)
    out = forward(input_ids=ids, use_cache=False)
    logits = out.logits[0, len(prompt) - 1 :]
    return float(_log_softmax(logits).gather(-1, torch.tensor(choice)[:, None]).sum())


def _log_softmax(logits: Any) -> Any:
    import torch

    return torch.log_softmax(logits.float(), dim=-1).cpu()


def _groups(choices: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """The choices in order, in groups of at most PACKED_TOKENS tokens."""
    group: list[list[int]] = []
    for choice in choices:
        if group and sum(map(len, group)) + len(choice) > PACKED_TOKENS:
            yield group
            group = []
        group.append(choice)
    if group:
        yield group


def takes_packed_rows(forward: Forward, config: Any, device: str, tolerance: float) -> bool:
    """Whether packing gives this model the scores that plain reading gives: tried once, on a few tokens.

    `tolerance` is in nats per token.
    """
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(text, "sliding_window", None):
        return False
    some = [3 + 7 * i % (text.vocab_size - 3) for i in range(18)]
    prompt, choices = some[:9], [some[9:12], some[12:18]]
    try:
        got = score(prompt, choices, forward, config, device, packed=True)
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError):
        return False
    wanted = score(prompt, choices, forward, config, device, packed=False)
    return all(abs(a - b) <= tolerance * len(c) for a, b, c in zip(got, wanted, choices, strict=True))
