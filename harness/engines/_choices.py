"""Log-probabilities of closed choices: prompts are read once, together, and their choices with them.

A row is a prompt with the tree of its choices behind it: what choices begin with in common is read once,
each token sees the prompt and what comes before it in its own choice, at the position it would have alone.
Rows of a batch go through the model in one pass. A model that cannot do that (sliding windows, recurrent
layers, position biases) reads prompt and choice anew for each choice; the result is the same, and so is the
bill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from breakeven.harness import attention
from breakeven.harness.engines._cache import growing_cache

TREE_TOKENS = 2048  # most tokens of one row's choices; more choices than that take several rows

Forward = Callable[..., Any]
Choice = tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """Choices without their end tokens, each shared beginning once.

    `tokens` and `depth` (nodes,), `sees` (nodes, nodes) which nodes a node may look at, itself included;
    `asked` and `wanted`: for each choice, where each of its tokens is predicted (0: at the prompt's last
    token, k: at the node k - 1), and which one it is.
    """

    tokens: tuple[int, ...]
    depth: tuple[int, ...]
    sees: Any
    asked: tuple[tuple[int, ...], ...]
    wanted: tuple[Choice, ...]


@lru_cache(maxsize=64)
def tree_of(choices: tuple[Choice, ...]) -> Tree:
    """The tree of some choices, each ending in the end token."""
    import torch

    nodes: dict[Choice, int] = {}
    asked = []
    for choice in choices:
        places = [0]
        for end in range(1, len(choice)):
            places.append(1 + nodes.setdefault(choice[:end], len(nodes)))
        asked.append(tuple(places))
    sees = torch.zeros((len(nodes), len(nodes)), dtype=torch.bool)
    for path, k in nodes.items():
        for end in range(1, len(path) + 1):
            sees[k, nodes[path[:end]]] = True
    tokens, depth = tuple(path[-1] for path in nodes), tuple(len(path) - 1 for path in nodes)
    return Tree(tokens, depth, sees, tuple(asked), choices)


def score(
    prompts: Sequence[list[int]],
    choices: Sequence[Sequence[list[int]]],
    forward: Forward,
    config: Any,
    device: str,
    read: Callable[[int], Any] | None = None,
    most: int | None = None,
) -> list[list[float]]:
    """Summed log-probability of each choice's tokens (end token included) after its prompt, in nats.

    Args:
        prompts: token ids of each request, at least one.
        choices: for each request, the token ids of each choice, each ending in the end token.
        forward: runs the model on keyword inputs.
        read: makes a cache for so many rows that holds what all prompts begin with already.
        most: tokens of one pass, padding included; None puts all rows into one.

    For models that take rows of trees only, see `takes_trees`.
    """
    rows = [(r, prompt, tree) for r, prompt in enumerate(prompts) for tree in _trees(choices[r])]
    scores: list[list[float]] = [[] for _ in prompts]
    for group in _groups(rows, most):
        cache = growing_cache(config) if read is None else read(len(group))
        found = _pass(
            [prompt for _, prompt, _ in group], [tree for *_, tree in group], forward, cache, device
        )
        for (r, *_), sums in zip(group, found, strict=True):
            scores[r] += sums
    return scores


def _trees(choices: Sequence[list[int]]) -> Iterator[Tree]:
    """The choices in order, in as few trees as `TREE_TOKENS` allows."""
    group: list[Choice] = []
    for choice in choices:
        if group and sum(map(len, group)) + len(choice) > TREE_TOKENS:
            yield tree_of(tuple(group))
            group = []
        group.append(tuple(choice))
    yield tree_of(tuple(group))


Placed = tuple[int, list[int], Tree]


def _groups(rows: Sequence[Placed], most: int | None) -> Iterator[list[Placed]]:
    """Rows in order, in groups of at most `most` tokens with padding, one row at least."""
    group: list[Placed] = []
    width = 0
    for row in rows:
        wider = max(width, len(row[1]) + len(row[2].tokens))
        if group and most is not None and wider * (len(group) + 1) > most:
            yield group
            group, wider = [], len(row[1]) + len(row[2].tokens)
        group.append(row)
        width = wider
    if group:
        yield group


def _pass(
    prompts: Sequence[list[int]], trees: Sequence[Tree], forward: Forward, cache: Any, device: str
) -> list[list[float]]:
    """Scores of rows that go through the model together; the cache holds the beginning of all of them.

    Prompts end in the same column, so that logits are made for the last of it and the choices alone.
    """
    import torch

    begun = cache.get_seq_length()
    longest = max(map(len, prompts)) - begun
    deepest = max(len(tree.tokens) for tree in trees)
    shape = len(prompts), longest + deepest
    ids = torch.zeros(shape, dtype=torch.long)
    places = torch.zeros(shape, dtype=torch.long)
    sees = torch.zeros((*shape, begun + shape[1]), dtype=torch.bool)
    sees[..., :begun] = True
    columns = torch.arange(shape[1])
    sees[:, columns, begun + columns] = True  # padding sees itself, since it must see something
    causal = torch.ones((longest, longest), dtype=torch.bool).tril()
    for r, (prompt, tree) in enumerate(zip(prompts, trees, strict=True)):
        first, size = longest - (len(prompt) - begun), len(tree.tokens)
        last = longest + size
        ids[r, first:longest] = torch.tensor(prompt[begun:])
        ids[r, longest:last] = torch.tensor(tree.tokens, dtype=torch.long)
        places[r, first:longest] = torch.arange(begun, len(prompt))
        places[r, longest:last] = len(prompt) + torch.tensor(tree.depth, dtype=torch.long)
        sees[r, first:longest, begun + first : begun + longest] = causal[first:, first:]
        sees[r, longest:last, begun + first : begun + longest] = True
        sees[r, longest:last, begun + longest : begun + last] = tree.sees
    out = forward(
        input_ids=ids.to(device),
        attention_mask=sees[:, None].to(device),
        position_ids=places.to(device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1 + deepest,
    )
    return [_sums(out.logits[r], tree) for r, tree in enumerate(trees)]


def _sums(logits: Any, tree: Tree) -> list[float]:
    """The score of each choice, from the logits of (the prompt's last token, the nodes)."""
    import torch

    asked = torch.tensor([k for places in tree.asked for k in places])
    wanted = torch.tensor([token for choice in tree.wanted for token in choice])
    rows = torch.log_softmax(logits[: 1 + len(tree.tokens)].float(), dim=-1)
    lengths = [len(choice) for choice in tree.wanted]
    return [float(part.sum()) for part in torch.split(rows[asked, wanted].cpu(), lengths)]


def plain(
    prompts: Sequence[list[int]],
    choices: Sequence[Sequence[list[int]]],
    forward: Forward,
    device: str,
) -> list[list[float]]:
    """The same as `score`, one row without cache for each choice."""
    return [
        [_plain(prompt, choice, forward, device) for choice in of]
        for prompt, of in zip(prompts, choices, strict=True)
    ]


def _plain(prompt: list[int], choice: Sequence[int], forward: Forward, device: str) -> float:
    import torch

    ids = torch.tensor([[*prompt, *choice[:-1]]], device=device)
    out = forward(input_ids=ids, use_cache=False, logits_to_keep=len(choice))
    found = torch.log_softmax(out.logits[0].float(), dim=-1).cpu()
    return float(found.gather(-1, torch.tensor(choice)[:, None]).sum())


def takes_trees(forward: Forward, config: Any, device: str, tolerance: float) -> bool:
    """Whether rows of trees give this model the scores that plain reading gives: tried once, on a few tokens.

    `tolerance` is in nats per token.
    """
    if not attention.is_full(config):
        return False
    vocabulary = config.get_text_config(decoder=True).vocab_size
    some = [3 + 7 * i % (vocabulary - 3) for i in range(18)]
    prompts = [some[:9], some[3:6]]
    choices = [[some[9:12], some[12:18], [*some[12:15], some[0]]], [some[9:12]]]
    try:
        got = score(prompts, choices, forward, config, device)
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError):
        return False
    wanted = plain(prompts, choices, forward, device)
    pairs = zip(*(chain.from_iterable(x) for x in (got, wanted, choices)), strict=True)
    return all(abs(a - b) <= tolerance * len(c) for a, b, c in pairs)
