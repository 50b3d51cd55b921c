"""An embedding model fine-tuned until texts of one class are alike and texts of different classes are not.

The first half of SetFit (Tunstall et al. 2022, "Efficient few-shot learning without prompts", arXiv
2209.11055, section 3): over pairs of training texts, the squared error of their cosine similarity to 1 where
their classes agree and to 0 where they differ, as much of one kind as of the other.

The paper draws pairs one by one and reads two texts for each. Here a batch holds several texts of each of
some classes, every text is read once, and every pair in the batch counts: B texts make B (B - 1) / 2 pairs.
An example has met as many others as in the paper after a small part of the tokens.

Nothing is drawn from torch's random numbers (dropout is off), and batches follow from the seed alone.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.baselines.trainers._settings import learning_rate
from breakeven.harness import flops, hardware
from breakeven.harness.contracts import TunableEmbedder
from breakeven.harness.previews import Steps, TrainingOutlook, TrainingSample

if TYPE_CHECKING:
    import torch

#: Share of the steps in which the learning rate rises to its peak; then it falls towards 0 along a line.
WARMUP = 0.1
#: Gradients are scaled down to this norm.
MAX_GRAD_NORM = 1.0
#: Texts of a pass at least, and how much longer than its shortest a text of a pass may be: a batch is read in
#: passes of similar lengths, so that little of it is padding.
LEAST_ROWS, LONGER = 8, 1.3
#: Steps at most that are tried to know the speed.
MOST_TRIED = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an encoder is fine-tuned; part of the key of what comes out.

    Attributes:
        epochs: passes over the examples; a fraction is allowed.
        batch_size: texts per optimizer step.
        per_class: how many texts of a class are drawn together, where it has as many.
        lr: peak learning rate of AdamW.
        max_tokens_total: training tokens at most, over all epochs; None: no cap. Shortens the epochs.
    """

    epochs: float
    batch_size: int
    per_class: int
    lr: float
    max_tokens_total: int | None


@dataclass(frozen=True)
class Plan:
    """What is read in which step: `batches` are rows of `ids`, the tokens of each text, special ones too.

    `codes` are the classes of the rows as numbers.
    """

    ids: list[list[int]]
    codes: list[int]
    batches: list[list[int]]

    @classmethod
    def of(cls, model: Any, texts: Sequence[str], labels: Sequence[str], recipe: Recipe, seed: int) -> Plan:
        """Texts beyond the model's context are cut."""
        ids = model.tokenizer(list(texts), truncation=True, max_length=model.max_seq_length)["input_ids"]
        lengths = [len(row) for row in ids]
        classes = {label: code for code, label in enumerate(sorted(set(labels)))}
        return cls(ids, [classes[label] for label in labels], batches(labels, lengths, recipe, seed))

    @property
    def epochs(self) -> float:
        """Passes over the examples that the batches are."""
        return sum(map(len, self.batches)) / len(self.ids)

    @property
    def tokens(self) -> int:
        return sum(len(self.ids[row]) for batch in self.batches for row in batch)

    def passes(self, batch: Sequence[int]) -> list[list[int]]:
        """The rows of a batch in passes of similar lengths."""
        found: list[list[int]] = []
        for row in sorted(batch, key=lambda row: (len(self.ids[row]), row)):
            last = found[-1] if found else []
            if not last or (len(last) >= LEAST_ROWS and len(self.ids[row]) > LONGER * len(self.ids[last[0]])):
                found.append([])
            found[-1].append(row)
        return found

    def work(self, some: Sequence[Sequence[int]]) -> Steps:
        """What the steps of these batches compute, padding included."""
        sizes = [(len(p), max(len(self.ids[r]) for r in p)) for batch in some for p in self.passes(batch)]
        return Steps(len(some), sum(n * t for n, t in sizes), sum(n * t * t for n, t in sizes))


def batches(labels: Sequence[str], lengths: Sequence[int], recipe: Recipe, seed: int) -> list[list[int]]:
    """The rows of each step; every row once an epoch.

    A class's rows are shuffled and cut into groups of about `per_class`, the groups of all classes shuffled
    and joined into batches of about `batch_size`.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    members: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        members[label].append(row)
    found: list[list[int]] = []
    each = max(1, round(len(labels) / recipe.batch_size))
    wanted = max(1, round(recipe.epochs * each))
    while len(found) < wanted:
        groups: list[list[int]] = []
        for label in sorted(members):
            rows = random.permutation(members[label])
            parts = np.array_split(rows, math.ceil(len(rows) / recipe.per_class))
            groups += [part.tolist() for part in parts]
        order = [row for number in random.permutation(len(groups)) for row in groups[number]]
        found += [part.tolist() for part in np.array_split(np.asarray(order), each)]
    return _capped(found[:wanted], lengths, recipe.max_tokens_total)


def _capped(found: list[list[int]], lengths: Sequence[int], tokens: int | None) -> list[list[int]]:
    """The first batches that have so many tokens together; one at least."""
    if tokens is None:
        return found
    kept, read = 0, 0
    for batch in found:
        read += sum(lengths[row] for row in batch)
        if read > tokens:
            break
        kept += 1
    return found[: max(kept, 1)]


class Loop:
    """The steps of a plan, one after the other, on a model of one's own.

    All weights are trained but those that are looked up (the tables of words and positions): most of them
    stand for words that no training text has.
    """

    def __init__(self, model: Any, plan: Plan, recipe: Recipe) -> None:
        import torch

        self.model, self.plan = model, plan
        tables = {id(table) for table in _tables(model)}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) not in tables)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self.trained, lr=recipe.lr, weight_decay=0.0, fused=True)
        self._steps, self._step, self._lr = len(plan.batches), 0, recipe.lr

    def step(self, batch: Sequence[int]) -> float:
        """One optimizer step; the loss of the batch's pairs before it."""
        import torch

        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._step, self._steps, self._lr, "linear", WARMUP)
        vectors, codes = [], []
        for rows in self.plan.passes(batch):
            padded = self.model.tokenizer.pad(
                {"input_ids": [self.plan.ids[row] for row in rows]}, return_tensors="pt"
            )
            read = {name: tensor.to(self.model.device) for name, tensor in padded.items()}
            vectors.append(self.model(read)["sentence_embedding"])
            codes += [self.plan.codes[row] for row in rows]
        loss = pair_loss(torch.cat(vectors), torch.tensor(codes, device=self.model.device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained, MAX_GRAD_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1
        return float(loss.detach())


def pair_loss(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the cosine similarity of all pairs to 1 (same code) or 0; both kinds weigh alike.

    Args:
        vectors: (texts, dimension), of any length.
        codes: (texts,), the class of each.
    """
    import torch

    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    same = (codes[:, None] == codes[None, :]).float()
    errors = (unit @ unit.T - same) ** 2
    pairs = torch.ones_like(same).triu(diagonal=1)
    kinds = [kind for kind in (pairs * same, pairs * (1 - same)) if kind.any()]
    means = [(errors * kind).sum() / kind.sum() for kind in kinds]
    return torch.stack(means).mean() if means else errors.sum() * 0


def fine_tune(
    model: Any,
    plan: Plan,
    recipe: Recipe,
    progress: Callable[[float, float, str], None] = lambda done, total, what: None,
) -> dict[str, Any]:
    """Change the weights of `model`, a sentence-transformers model of the caller's own.

    Returns:
        What it did, under the names of `training.TrainingResult`, with `flops`. Deterministic on one
        machine with one number of threads; computed in float32.
    """
    loop, losses = Loop(model, plan, recipe), []
    start = time.perf_counter()
    for number, batch in enumerate(plan.batches, 1):
        losses.append([number, loop.step(batch)])
        progress(number, len(plan.batches), "fine-tuning the encoder")
    seconds = time.perf_counter() - start
    for parameter in loop.trained:
        parameter.requires_grad_(False)
    return {
        "steps": len(plan.batches),
        "epochs": plan.epochs,
        "examples": len(plan.ids),
        "training_tokens": plan.tokens,
        "seconds": seconds,
        "trainable_parameters": sum(p.numel() for p in loop.trained),
        "peak_bytes": hardware.peak_memory(str(model.device)),
        "losses": losses,
        "flops": _flops(model, plan),
    }


def _flops(model: Any, plan: Plan) -> float:
    config = model[0].auto_model.config
    looked_up = sum(table.numel() for table in _tables(model))
    size = sum(p.numel() for p in model.parameters()) - looked_up
    shape = (size, config.num_hidden_layers, config.hidden_size)
    lengths = [len(plan.ids[row]) for batch in plan.batches for row in batch]
    return sum(flops.full_training(*shape, length, length) for length in lengths)


def _tables(model: Any) -> list[Any]:
    import torch

    return [m.weight for m in model.modules() if isinstance(m, torch.nn.Embedding)]


# --- before anything is trained --------------------------------------------------------------


def outlook(key: str, embedder: TunableEmbedder, plan: Plan, recipe: Recipe) -> TrainingOutlook:
    """What `fine_tune` would take; `key` is the address of what it would make."""
    passes = [rows for batch in plan.batches for rows in plan.passes(batch)]
    return TrainingOutlook(
        key=key,
        training_tokens=plan.tokens,
        answer_lengths=(),
        work=plan.work(plan.batches),
        pass_tokens=max(len(rows) * max(len(plan.ids[row]) for row in rows) for rows in passes),
        sample=partial(_sample, embedder, plan, recipe),
    )


def _sample(
    embedder: TunableEmbedder, plan: Plan, recipe: Recipe, folder: Path, seconds: float
) -> TrainingSample:
    """Steps on the batches of middle size, one at least and others while `seconds` last."""
    start = time.perf_counter()
    loop = Loop(embedder.tunable(), plan, recipe)
    setup = time.perf_counter() - start
    order = sorted(plan.batches, key=lambda batch: sum(len(plan.ids[row]) for row in batch))
    middle = len(order) // 2
    tried = sorted(range(len(order)), key=lambda number: abs(number - middle))[:MOST_TRIED]
    loop.step(order[0])  # warm
    measured: list[Steps] = []
    for number in tried:
        if measured and sum(step.seconds for step in measured) >= seconds:
            break
        start = time.perf_counter()
        loop.step(order[number])
        took = time.perf_counter() - start
        measured.append(replace(plan.work([order[number]]), seconds=took))
    trained = sum(p.numel() for p in loop.trained)
    return TrainingSample(tuple(measured), None, setup, trained, None, None, 0)
