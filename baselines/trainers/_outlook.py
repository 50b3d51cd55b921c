"""What a training would consume, and a few real steps of it: told before anything is trained.

Counts are those of the plan that `_lora` follows; only `sample` computes gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from breakeven.baselines.trainers._checkpoint import State
from breakeven.baselines.trainers._examples import Batch, Encoded, Plan, count, encode, passes
from breakeven.baselines.trainers._layout import Costs
from breakeven.baselines.trainers._layout import size as layout_size
from breakeven.baselines.trainers._lora import Loop, prepared, tokens_per_pass
from breakeven.baselines.trainers._memory import held
from breakeven.baselines.trainers._model import adapted, foreseen_costs, save_weights
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness import flops
from breakeven.harness.contracts import Message, ModelCard
from breakeven.harness.previews import Steps, TrainingOutlook, TrainingSample
from breakeven.harness.training import TrainingPair, Tunable

#: Steps of a sample at most: a fast machine needs no more to be known.
MOST_STEPS = 8


def outlook(
    tunable: Tunable,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    seed: int,
    settings: Settings,
) -> TrainingOutlook:
    """See `breakeven.harness.previews.PreviewedTrainer`. Raises UserError as training does."""
    known = replace(tunable, encode=_remembered(tunable.encode))
    train, held_out, steps = prepared(known, pairs, validation, seed, settings)
    answered = train.examples
    if any(pair.is_text for pair in pairs):
        length = min(tunable.context, settings.max_length or tunable.context)
        answered = encode([pair for pair in pairs if not pair.is_text], known, length).examples
    size, costs = tokens_per_pass(tunable, settings), foreseen_costs(tunable, settings)
    parts = [part for batch in steps.batches for part in passes(batch, size)]
    checks = passes(held_out.examples, size) if held_out.examples else []
    validating = work(checks, 0, costs)
    times = len(steps.epoch_ends)
    trained = _adapter_size(tunable.model, settings)
    largest = max(parts, key=lambda part: layout_size(part, costs)[0])
    return TrainingOutlook(
        key="",
        training_tokens=sum(count(batch) for batch in steps.batches),
        answer_lengths=tuple(len(example.answer) - 1 for example in answered),
        work=work(parts, len(steps.batches), costs),
        validating=replace(validating, padded=validating.padded * times, squared=validating.squared * times),
        pass_tokens=layout_size(largest, costs)[0],
        trainable_parameters=trained,
        flops=_flops(tunable.card, steps, trained),
        held_bytes=partial(_held, tunable.model, settings, largest, costs, trained),
        sample=partial(sample, tunable, steps, held_out, seed, settings),
    )


def _flops(card: ModelCard, steps: Plan, trained: int) -> float | None:
    """Operations of all steps, each example at its own length."""
    counted = [
        flops.lora_training_flops(card, len(example), 1, trained)
        for batch in steps.batches
        for example in batch
    ]
    known = [n for n in counted if n is not None]
    return sum(known) if len(known) == len(counted) else None


def _held(model: Any, settings: Settings, largest: Batch, costs: Costs, trained: int) -> int | None:
    """What the largest pass holds; the type of its numbers is that of the embedding table."""
    dtype = str(model.get_input_embeddings().weight.dtype).removeprefix("torch.")
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    found = held(model.config, dtype, settings, largest, costs, trained, linear)
    return None if found is None else found.total


def sample(
    tunable: Tunable,
    steps: Plan,
    held_out: Encoded,
    seed: int,
    settings: Settings,
    folder: Path,
    seconds: float,
) -> TrainingSample:
    """Train on a few batches of the plan: the smallest to warm up, then those in the middle of the sizes.

    At least one step is measured; another one is begun while `seconds` are not used up.
    """
    began = time.perf_counter()
    batches = sorted(steps.batches, key=count)
    middle = len(batches) // 2
    order = sorted(range(len(batches)), key=lambda i: abs(i - middle))[:MOST_STEPS]
    measured: list[Steps] = []
    with adapted(tunable, settings, seed) as model:
        loop = Loop.over(model, tunable, steps, held_out, settings, seed, lambda done, total, what: None)
        resting = loop.forward.memory()
        state = State(tokens_per_pass=tokens_per_pass(tunable, settings))
        around = time.perf_counter() - began
        loop.step(batches[0], state)
        state.peak_bytes, spent = 0, 0.0
        for i in order:
            if measured and spent >= seconds:
                break
            _wait(tunable)
            start = time.perf_counter()
            loop.step(batches[i], state)
            _wait(tunable)
            spent += (took := time.perf_counter() - start)
            parts = passes(batches[i], state.tokens_per_pass)
            measured.append(replace(work(parts, 1, loop.forward.costs), seconds=took))
        checked = _without_gradients(loop, held_out, tunable, state.tokens_per_pass)
        start = time.perf_counter()
        save_weights(model, tunable, folder)
        around += time.perf_counter() - start
    largest = max(
        layout_size(part, loop.forward.costs)[0]
        for i in order[: len(measured)]
        for part in passes(batches[i], state.tokens_per_pass)
    )
    return TrainingSample(
        steps=tuple(measured),
        validating=checked,
        setup_seconds=around,
        trainable_parameters=sum(p.numel() for p in loop.parameters.values()),
        resting_bytes=resting or None,
        peak_bytes=state.peak_bytes or None,
        pass_tokens=largest,
    )


def work(parts: Sequence[Batch], steps: int, costs: Costs) -> Steps:
    """The work of some passes, as they are laid out."""
    sizes = [layout_size(part, costs) for part in parts]
    return Steps(steps, sum(tokens for tokens, _ in sizes), sum(pairs for _, pairs in sizes))


def _without_gradients(loop: Loop, held_out: Encoded, tunable: Tunable, size: int) -> Steps | None:
    """One pass over validation examples, timed; None where there are none."""
    if not held_out.examples:
        return None
    parts = passes(held_out.examples, size)
    part = parts[len(parts) // 2]
    loop.forward.model.eval()
    _wait(tunable)
    start = time.perf_counter()
    with torch.no_grad():
        loop.forward.loss(part).item()
    seconds = time.perf_counter() - start
    loop.forward.model.train()
    return replace(work([part], 0, loop.forward.costs), seconds=seconds)


def _wait(tunable: Tunable) -> None:
    if tunable.device.startswith("cuda"):
        torch.cuda.synchronize(tunable.device)


def _adapter_size(model: Any, settings: Settings) -> int:
    """Parameters of the adapter: of all linear layers but the output projection, or of those named."""
    head = model.get_output_embeddings()
    names = settings.targets if isinstance(settings.targets, tuple) else None
    shapes = []
    for path, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        if names is None or any(path == name or path.endswith(f".{name}") for name in names):
            shapes.append((module.in_features, module.out_features))
    return flops.lora_parameters(shapes, settings.rank)


Encode = Callable[[Sequence[Message], str], tuple[list[int], list[int]]]


def _remembered(encode: Encode) -> Encode:
    """The same, tokenising a pair that comes again only once."""
    seen: dict[tuple[int, str], tuple[list[int], list[int]]] = {}

    def remembering(messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
        key = (id(messages), answer)
        if key not in seen:
            seen[key] = encode(messages, answer)
        return seen[key]

    return remembering
