"""The recipe: one LoRA adapter from training pairs, to be read from top to bottom.

A plain loop, with what makes it quick on small machines: bfloat16, rows of similar length together, logits of
the answer tokens only. Settings are explained in `_settings`, batches in `_examples`, the wrapped model in
`_model`, resuming in `_checkpoint`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from breakeven.baselines._tuning import adapter_spec, default_lr
from breakeven.baselines.trainers._checkpoint import Checkpoints, State
from breakeven.baselines.trainers._divergence import stop_if_diverged
from breakeven.baselines.trainers._examples import Batch, Encoded, Plan, count, encode, passes, plan
from breakeven.baselines.trainers._model import Forward, adapted, save_adapter, size_of_base
from breakeven.baselines.trainers._settings import Settings, learning_rate
from breakeven.harness import store
from breakeven.harness.errors import OutOfMemory, UserError
from breakeven.harness.training import TrainingPair, TrainingResult, Tunable

Progress = Callable[[float, float, str], None]

#: Padded tokens in memory at once; 135 million parameters keep about 1.3 MB of activations for each.
CPU_TOKENS = 2048
CUDA_TOKENS = 16384


def tune(
    tunable: Tunable,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    folder: Path,
    scratch: Path,
    seed: int,
    settings: Settings,
    progress: Progress,
) -> TrainingResult:
    """Train an adapter into `folder`, continuing from the checkpoint in `scratch` if there is one.

    On a CPU the adapter is a function of the arguments and the number of threads, to the bit, however often
    training was interrupted. The base model is left as it was, also when this raises.

    Raises:
        UserError: nothing to train on, no layers of the names given, or the training diverged.
        OutOfMemory: not even a single example fits.
    """
    train, held_out, steps = prepared(tunable, pairs, validation, seed, settings)
    spec = adapter_spec("peft", settings.what_matters(), seed, tunable.card, pairs, validation)
    checkpoints = Checkpoints(scratch, store.digest(spec))

    with adapted(tunable, settings, seed) as model:
        loop = Loop.over(model, tunable, steps, held_out, settings, seed, progress)
        state = checkpoints.restore(loop.parameters, loop.optimizer) or State(
            tokens_per_pass=tokens_per_pass(tunable, settings)
        )
        lost_seconds = loop.run(state, checkpoints)
        result = _result(train, held_out, loop, state, lost_seconds)
        save_adapter(model, tunable, "peft", result, seed, pairs, folder)
    return result


def prepared(
    tunable: Tunable,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    seed: int,
    settings: Settings,
) -> tuple[Encoded, Encoded, Plan]:
    """Training and validation examples as token ids, and the batch of every step."""
    max_length = min(tunable.context, settings.max_length or tunable.context)
    train, held_out = encode(pairs, tunable, max_length), encode(validation, tunable, max_length)
    if not train.examples:
        raise UserError(
            f"none of the {len(pairs)} training examples can be used: an answer and a token of its prompt "
            f"do not fit into {max_length} tokens",
            field="max_length",
        )
    steps = plan(
        train.examples,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        max_tokens=settings.max_tokens_total,
        seed=seed,
    )
    return train, held_out, steps


def tokens_per_pass(tunable: Tunable, settings: Settings) -> int:
    """Padded tokens in memory at once, until memory proves too small."""
    return settings.tokens_per_pass or (CPU_TOKENS if tunable.device == "cpu" else CUDA_TOKENS)


@dataclass(frozen=True, slots=True)
class Loop:
    """The optimizer steps of a plan, with all that they need."""

    forward: Forward
    parameters: Mapping[str, torch.nn.Parameter]
    optimizer: torch.optim.Optimizer
    steps: Plan
    held_out: Encoded
    settings: Settings
    peak_lr: float
    seed: int
    progress: Progress

    @classmethod
    def over(
        cls,
        model: Any,
        tunable: Tunable,
        steps: Plan,
        held_out: Encoded,
        settings: Settings,
        seed: int,
        progress: Progress,
    ) -> Loop:
        """A loop over a wrapped model, with a fresh optimizer."""
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        peak_lr = settings.lr or default_lr(tunable.card.parameters or size_of_base(model))
        optimizer = torch.optim.AdamW(
            parameters.values(), lr=peak_lr, weight_decay=settings.weight_decay, fused=True
        )
        forward = Forward(model, tunable, settings)
        return cls(forward, parameters, optimizer, steps, held_out, settings, peak_lr, seed, progress)

    def run(self, state: State, checkpoints: Checkpoints) -> float:
        """Take `state` to the end of the plan; returns the seconds that crashes have lost."""
        batches, settings = self.steps.batches, self.settings
        tokens = [0, *accumulate(count(batch) for batch in batches)]
        saved_step, saved_at = state.step, time.monotonic()
        with checkpoints.log(state) as log:
            for batch in batches[state.step :]:
                loss = self.step(batch, state)
                log.step(state)
                if state.step in self.steps.epoch_ends and self.held_out.examples:
                    self.validate(state)
                if (
                    state.step == len(batches)
                    or state.step - saved_step >= settings.checkpoint_steps
                    or time.monotonic() - saved_at >= settings.checkpoint_seconds
                ):
                    checkpoints.save(state, self.parameters, self.optimizer)
                    saved_step, saved_at = state.step, time.monotonic()
                what = f"training: step {state.step}/{len(batches)}, loss {loss:.2f}"
                self.progress(tokens[state.step], tokens[-1], what)
            return log.lost_seconds()

    def step(self, batch: Batch, state: State) -> float:
        """One optimizer step; returns the mean loss per answer token before it."""
        began = time.perf_counter()
        loss = self.backward(batch, state)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.settings.max_grad_norm))
        stop_if_diverged(
            [loss for _, loss in state.losses], loss, norm, self.forward.vocabulary,
            f"step {state.step + 1} of {len(self.steps.batches)}", self.peak_lr,
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(state.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        state.step += 1
        state.losses.append((state.step, loss))
        state.seconds += time.perf_counter() - began
        return loss

    def lr(self, step: int) -> float:
        return learning_rate(
            step, len(self.steps.batches), self.peak_lr, self.settings.schedule, self.settings.warmup
        )

    def backward(self, batch: Batch, state: State) -> float:
        """Gradients of the mean loss per answer token of `batch`, in as many passes as memory asks for."""
        answers = sum(len(example.answer) for example in batch)
        while True:
            torch.manual_seed(self.seed * 1_000_003 + state.step)  # dropout: the same after a crash
            parts = passes(batch, state.tokens_per_pass)
            try:
                total = 0.0
                for part in parts:
                    loss = self.forward.loss(part) / answers
                    state.peak_bytes = max(state.peak_bytes, self.forward.memory())
                    loss.backward()  # type: ignore[no-untyped-call]
                    total += loss.item()
                return total
            except torch.OutOfMemoryError as error:
                if len(parts) == len(batch):
                    longest = len(parts[0][0])
                    raise OutOfMemory(f"a training example of {longest} tokens does not fit") from error
            self.optimizer.zero_grad()
            state.tokens_per_pass = max(len(part) * len(part[0]) for part in parts) // 2

    def validate(self, state: State) -> None:
        """Append the mean loss per answer token on the validation examples."""
        began = time.perf_counter()
        parts = passes(self.held_out.examples, state.tokens_per_pass)
        total = 0.0
        self.forward.model.eval()
        with torch.no_grad():
            for number, part in enumerate(parts):
                self.progress(number, len(parts), f"validation after step {state.step}")
                total += self.forward.loss(part).item()
        self.forward.model.train()
        answers = sum(len(example.answer) for example in self.held_out.examples)
        state.validation_losses.append((state.step, total / answers))
        state.validation_seconds += time.perf_counter() - began


def _result(
    train: Encoded, held_out: Encoded, loop: Loop, state: State, lost_seconds: float
) -> TrainingResult:
    seen = [example for batch in loop.steps.batches for example in batch]
    return TrainingResult(
        steps=state.step,
        epochs=len(seen) / len(train.examples),
        examples=len(train.examples),
        truncated=train.truncated,
        dropped=train.dropped,
        training_tokens=count(seen),
        answer_tokens=sum(len(example.answer) for example in seen),
        seconds=state.seconds,
        trainable_parameters=sum(p.numel() for p in loop.parameters.values()),
        peak_bytes=state.peak_bytes or None,
        losses=tuple(state.losses),
        validation_losses=tuple(state.validation_losses),
        settings={
            **loop.settings.what_matters(),
            "alpha": loop.settings.scale,
            "lr": loop.peak_lr,
            "tokens_per_pass": state.tokens_per_pass,
            "arithmetic": loop.forward.arithmetic,
            "logits": "answer tokens" if loop.forward.answers_only else "all tokens",
            "threads": torch.get_num_threads(),
            "epochs_shortened_by_max_tokens_total": loop.steps.capped,
        },
        lost_seconds=lost_seconds,
        validation_seconds=state.validation_seconds,
        validation_tokens=count(held_out.examples) * len(state.validation_losses),
    )
