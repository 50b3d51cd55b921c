"""Our training examples through TRL's SFTTrainer, in this process.

TRL gets token ids with the answers as labels, the batches that `peft` would train on, an adapter drawn from
the same seed, and the same learning rate for each step; forward pass, loss, clipping, optimizer steps and
checkpoints are TRL's own. The shared base model is given back as it was.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from breakeven.baselines._tuning import adapter_spec, default_lr, weight_makers
from breakeven.baselines.trainers._checkpoint import LOG, State, StepLog
from breakeven.baselines.trainers._divergence import stop_if_diverged
from breakeven.baselines.trainers._examples import Batch, Encoded, Plan, Tokens, count, passes
from breakeven.baselines.trainers._lora import CPU_TOKENS, CUDA_TOKENS, prepared
from breakeven.baselines.trainers._model import (
    adapted,
    half_precision,
    held_bytes,
    save_weights,
    size_of_base,
    write_origin,
)
from breakeven.baselines.trainers._settings import Settings, learning_rate
from breakeven.harness import store
from breakeven.harness._quiet import quiet
from breakeven.harness.errors import OutOfMemory, UserError
from breakeven.harness.training import TrainingPair, TrainingResult, Tunable

#: In a checkpoint folder, written last: a checkpoint without it is half of one.
MARK = "breakeven.json"
Progress = Callable[[float, float, str], None]


def tune(
    tunable: Tunable,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    folder: Path,
    scratch: Path,
    seed: int,
    settings: Settings,
    system: str,
    progress: Progress,
) -> TrainingResult:
    """Train an adapter into `folder`, continuing from the last whole checkpoint in `scratch`.

    Raises:
        UserError: nothing to train on, no layers of the names given, a second GPU, or training diverged.
        OutOfMemory: a batch does not fit.
    """
    if tunable.device not in ("cpu", "cuda", "cuda:0"):
        raise UserError(
            f"TRL trains on the first GPU only, not on {tunable.device}",
            field="device",
            hint="Hide the others with CUDA_VISIBLE_DEVICES",
        )
    train, held_out, steps = prepared(tunable, pairs, validation, seed, settings)
    spec = adapter_spec(
        "trl", {**settings.what_matters(), "system": system}, seed, tunable.card, pairs, validation
    )
    with adapted(tunable, settings, seed) as model, _restored(tunable.model), _no_traces(), quiet():
        run = Run(model, tunable, steps, held_out, settings, seed, scratch, store.digest(spec), progress)
        lost_seconds = run.train()
        result = _result(train, held_out, run, system, lost_seconds)
        save_weights(model, tunable, folder)
    versions = {**weight_makers(), "trl": system.removeprefix("trl ")}
    write_origin(tunable.card, "trl", result, seed, pairs, versions, folder)
    return result


class Run:
    """One training: the plan, TRL's trainer over it, and what is known of its progress."""

    def __init__(
        self,
        model: Any,
        tunable: Tunable,
        steps: Plan,
        held_out: Encoded,
        settings: Settings,
        seed: int,
        scratch: Path,
        identity: str,
        progress: Progress,
    ) -> None:
        self.model, self.tunable, self.steps, self.held_out = model, tunable, steps, held_out
        self.settings, self.seed, self.scratch, self.identity = settings, seed, scratch, identity
        self.progress = progress
        self.peak_lr = settings.lr or default_lr(tunable.card.parameters or size_of_base(model))
        self.half = half_precision(tunable, settings)
        self.state, self.checkpoint = self._last_checkpoint()
        self._tokens = [0, *accumulate(count(batch) for batch in steps.batches)]

    def train(self) -> float:
        """Take the adapter to the end of the plan; returns the seconds that crashes have lost."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with StepLog(self.scratch / LOG, self.identity, self.state) as log:
            trainer = _trainer(self, log)
            try:
                trainer.train(resume_from_checkpoint=str(self.checkpoint) if self.checkpoint else None)
            except torch.OutOfMemoryError as error:
                raise OutOfMemory(
                    f"a batch of {self.settings.batch_size} training examples does not fit"
                ) from error
            finally:
                trainer.accelerator.free_memory()
            return log.lost_seconds()

    def finished_step(self, trainer: Any, loss: float, norm: float, log: StepLog) -> None:
        """What follows a step: its loss is kept and looked at, validation where an epoch ends."""
        state, total = self.state, len(self.steps.batches)
        before = [loss for _, loss in state.losses]
        vocabulary = self.tunable.model.get_output_embeddings().weight.shape[0]
        where = f"step {state.step + 1} of {total}"
        stop_if_diverged(before, loss, norm, vocabulary, where, self.peak_lr)
        state.step += 1
        state.losses.append((state.step, loss))
        log.step(state)
        if state.step in self.steps.epoch_ends and self.held_out.examples:
            self._validate(trainer)
        what = f"training with TRL: step {state.step}/{total}, loss {loss:.2f}"
        self.progress(self._tokens[state.step], self._tokens[-1], what)

    def lr_share(self, step: int) -> float:
        """Learning rate of a step as a share of its peak."""
        step = min(step, len(self.steps.batches) - 1)  # a scheduler also asks for the step after the last
        return learning_rate(step, len(self.steps.batches), 1.0, self.settings.schedule, self.settings.warmup)

    def mark(self, folder: Path) -> None:
        """Declare a checkpoint whole."""
        store.write_json(folder / MARK, {"identity": self.identity, "state": asdict(self.state)})

    def _validate(self, trainer: Any) -> None:
        began = time.perf_counter()
        parts = passes(self.held_out.examples, CPU_TOKENS if self.tunable.device == "cpu" else CUDA_TOKENS)
        total = 0.0
        self.model.eval()
        with torch.no_grad():
            for number, part in enumerate(parts):
                self.progress(number, len(parts), f"validation after step {self.state.step}")
                inputs = trainer._prepare_inputs(trainer.data_collator([_row(example) for example in part]))
                with trainer.compute_loss_context_manager():
                    total += float(trainer.compute_loss(self.model, inputs, num_items_in_batch=1))
        self.model.train()
        answers = sum(len(example.answer) for example in self.held_out.examples)
        self.state.validation_losses.append((self.state.step, total / answers))
        self.state.validation_seconds += time.perf_counter() - began

    def _last_checkpoint(self) -> tuple[State, Path | None]:
        """The furthest whole checkpoint of this very training; what is not one is removed."""
        found: list[tuple[State, Path]] = []
        for path in (self.scratch / "trl").glob("checkpoint-*"):
            try:
                marked = json.loads((path / MARK).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                marked = {}
            if marked.get("identity") != self.identity:
                shutil.rmtree(path, ignore_errors=True)
                continue
            saved = marked["state"]
            for losses in ("losses", "validation_losses"):
                saved[losses] = [tuple(pair) for pair in saved[losses]]
            found.append((State(**saved), path))
        return max(found, key=lambda pair: pair[0].step, default=(State(), None))


def _trainer(run: Run, log: StepLog) -> Any:
    """SFTTrainer over the plan of `run`."""
    from datasets import Dataset
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows, batches = _rows(run.steps.batches)

    class Planned(SFTTrainer):  # type: ignore[misc]
        """Takes the batches as planned, whatever their size."""

        def get_train_dataloader(self) -> Any:
            loader: Any = DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
            return self.accelerator.prepare(loader)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            torch.manual_seed(run.seed * 1_000_003 + run.state.step)  # dropout: the same after a crash
            return super().training_step(*args, **kwargs)

        def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, *args, **kwargs)
            run.state.peak_bytes = max(run.state.peak_bytes, held_bytes(torch.device(run.tunable.device)))
            return loss

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Time and checkpoints; TRL logs each step's loss and gradient."""

        trainer: Any = None

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            run.state.seconds += time.perf_counter() - self._began
            due = state.global_step - saved[0] >= run.settings.checkpoint_steps
            late = time.monotonic() - saved[1] >= run.settings.checkpoint_seconds
            control.should_save = due or late or state.global_step == len(run.steps.batches)

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
            if "loss" in logs:
                run.finished_step(self.trainer, float(logs["loss"]), float(logs["grad_norm"]), log)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            run.mark(Path(args.output_dir) / f"checkpoint-{state.global_step}")
            saved[:] = [state.global_step, time.monotonic()]

    saved: list[float] = [run.state.step, time.monotonic()]
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=run.peak_lr, weight_decay=run.settings.weight_decay, fused=True
    )
    config = SFTConfig(
        output_dir=str(run.scratch / "trl"),
        max_steps=len(run.steps.batches),
        per_device_train_batch_size=run.settings.batch_size,
        max_grad_norm=run.settings.max_grad_norm,
        max_length=None,  # already cut, on the left, where an answer cannot be lost
        gradient_checkpointing=False,  # `adapted` has switched it on if it is wanted
        bf16=run.half,
        seed=run.seed % 2**32,
        use_cpu=run.tunable.device == "cpu",
        dataloader_pin_memory=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",  # `Watch` says when
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    config._n_gpu = min(config.n_gpu, 1)  # the base model lies on the first one
    watch = Watch()
    watch.trainer = trainer = Planned(
        model=run.model,
        args=config,
        train_dataset=Dataset.from_list([_row(example) for example in rows]),
        processing_class=_special_tokens(run.tunable),
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, run.lr_share)),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _rows(batches: Sequence[Batch]) -> tuple[list[Tokens], list[list[int]]]:
    """The distinct examples, and for each step the numbers of those it sees."""
    place: dict[int, int] = {}
    rows: list[Tokens] = []
    for example in (example for batch in batches for example in batch):
        if id(example) not in place:
            place[id(example)] = len(rows)
            rows.append(example)
    return rows, [[place[id(example)] for example in batch] for batch in batches]


def _row(example: Tokens) -> dict[str, list[int]]:
    ids = [*example.prompt, *example.answer]
    return {"input_ids": ids, "labels": [-100] * len(example.prompt) + list(example.answer)}


def _special_tokens(tunable: Tunable) -> Any:
    """A tokenizer of the two tokens that TRL asks for; the text has been tokenised as serving does it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": tunable.end_id}
    if tunable.pad_id != tunable.end_id:
        words["<pad>"] = tunable.pad_id
    pad = "<pad>" if "<pad>" in words else "<end>"
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<end>")), eos_token="<end>", pad_token=pad
    )


@contextmanager
def _restored(base: Any) -> Iterator[None]:
    """Undo what TRL does to a model beside training it: its forward, its configuration, its tags."""
    generation = getattr(base, "generation_config", None)
    things = [thing for thing in (base, base.config, generation) if thing is not None]
    before = [(thing, dict(vars(thing))) for thing in things]
    try:
        yield
    finally:
        for thing, kept in before:
            now = vars(thing)
            for name in [name for name in now if name not in kept]:
                del now[name]
            now.update(kept)


@contextmanager
def _no_traces() -> Iterator[None]:
    """Nobody is told, and Python's and NumPy's random numbers and the environment stay as they were."""
    from huggingface_hub import constants

    environment, told = dict(os.environ), constants.HF_HUB_DISABLE_TELEMETRY
    states = random.getstate(), np.random.get_state()
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    constants.HF_HUB_DISABLE_TELEMETRY = True  # read from the environment when it was imported
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = told
        os.environ.clear()
        os.environ.update(environment)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _result(train: Encoded, held_out: Encoded, run: Run, system: str, lost_seconds: float) -> TrainingResult:
    seen = [example for batch in run.steps.batches for example in batch]
    state = run.state
    return TrainingResult(
        steps=state.step,
        epochs=len(seen) / len(train.examples),
        examples=len(train.examples),
        truncated=train.truncated,
        dropped=train.dropped,
        training_tokens=count(seen),
        answer_tokens=sum(len(example.answer) for example in seen),
        seconds=state.seconds,
        trainable_parameters=sum(p.numel() for p in run.model.parameters() if p.requires_grad),
        peak_bytes=state.peak_bytes or None,
        losses=tuple(state.losses),
        validation_losses=tuple(state.validation_losses),
        settings={
            **run.settings.what_matters(),
            "system": system,
            "alpha": run.settings.scale,
            "lr": run.peak_lr,
            "arithmetic": "bfloat16, adapter in float32" if run.half else "float32",
            "threads": torch.get_num_threads(),
            "epochs_shortened_by_max_tokens_total": run.steps.capped,
        },
        lost_seconds=lost_seconds,
        validation_seconds=state.validation_seconds,
        validation_tokens=count(held_out.examples) * len(state.validation_losses),
    )
