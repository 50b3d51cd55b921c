"""What another system gives back: progress read from its output, its record of losses, and its adapter.

An adapter counts only if its file can be read, holds numbers, has learned something and fits the model; an
exit code of 0 is no proof.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open

from breakeven.baselines.trainers._child import Done
from breakeven.baselines.trainers._examples import Tokens, passes
from breakeven.baselines.trainers._lora import CPU_TOKENS, CUDA_TOKENS
from breakeven.baselines.trainers._model import Forward
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness._quiet import quiet
from breakeven.harness.errors import BreakevenError
from breakeven.harness.training import Tunable

WEIGHTS, CONFIG, STATE = "adapter_model.safetensors", "adapter_config.json", "trainer_state.json"

_NUMBER = r"'?(-?[\d.]+(?:e[+-]?\d+)?|nan|inf)'?"
_LOSS = re.compile(rf"\{{'loss': {_NUMBER}")
_EPOCH = re.compile(rf"'epoch': {_NUMBER}")
_RUNTIME = re.compile(rf"'train_runtime': {_NUMBER}")
#: Seconds between two looks at memory.
MEMORY_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class History:
    """Losses by step, and the seconds of the training loop; None where the system did not say."""

    losses: tuple[tuple[int, float], ...]
    seconds: float | None

    @property
    def steps(self) -> int:
        return self.losses[-1][0] if self.losses else 0


@dataclass(slots=True)
class Watch:
    """Reads the output of a trainer over transformers, which writes a line a step: {'loss': 1.2, ...}."""

    title: str
    steps: int
    tokens: float
    progress: Callable[[float, float, str], None]
    epochs: float = 1.0
    peak_bytes: int | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    seconds: float | None = None
    _looked: float = 0.0
    _said: tuple[str, float] | None = None
    _epoch: float | None = None
    _began: float = field(default_factory=time.monotonic)

    def line(self, line: str) -> None:
        """One line of output."""
        if found := _LOSS.search(line):
            epoch = _EPOCH.search(line, found.start())
            # AutoTrain says each step twice, once with the epoch rounded
            said = (line[found.start() : epoch.start()], round(float(epoch[1]), 2)) if epoch else None
            if said is None or said != self._said:
                self.losses.append((len(self.losses) + 1, float(found[1])))
            self._said, self._epoch = said, float(epoch[1]) if epoch else None
        if found := _RUNTIME.search(line):
            self.seconds = float(found[1])

    def alive(self) -> None:
        """Tell how far it is, in epochs where the system says them; at times, how much memory it holds."""
        done = len(self.losses)
        share, where = done / self.steps, f"step {done}/{self.steps}"
        if self._epoch is not None:
            share, where = (
                self._epoch / self.epochs,
                f"step {done}, epoch {self._epoch:.2f} of {self.epochs:g}",
            )
        share = min(1.0, share)
        if done:
            what = f"training with {self.title}: {where}, loss {self.losses[-1][1]:.2f}"
        else:
            what = f"{self.title} is starting: {time.monotonic() - self._began:.0f} s"
        self.progress(share * self.tokens, self.tokens, what)
        if time.monotonic() - self._looked >= MEMORY_LOOK:
            self._looked = time.monotonic()
            self.peak_bytes = max(self.peak_bytes or 0, _held_by_children()) or None

    def history(self, folder: Path) -> History:
        """What the system recorded in a file, to all digits; else what it printed."""
        for path in sorted(folder.rglob(STATE), key=lambda path: path.stat().st_mtime, reverse=True):
            try:
                rows = json.loads(path.read_text(encoding="utf-8"))["log_history"]
            except (OSError, ValueError, KeyError):
                continue
            losses = tuple((int(row["step"]), float(row["loss"])) for row in rows if "loss" in row)
            seconds = next((float(r["train_runtime"]) for r in rows if "train_runtime" in r), self.seconds)
            if losses:
                return History(losses, seconds)
        return History(tuple(self.losses), self.seconds)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A PEFT adapter folder that has been looked at. `parameters` counts the numbers in it."""

    folder: Path
    config: Mapping[str, Any]
    parameters: int

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @classmethod
    def read(cls, folder: Path, done: Done) -> Adapter:
        """The adapter in `folder`.

        Raises:
            BreakevenError: there is none, or half of one, or one that training has not touched; with the
                last lines of what the system said.
        """

        def wrong(what: str) -> BreakevenError:
            said = done.last_lines() or "(none)"
            return BreakevenError(
                f"{what}, although the system ended with exit code {done.code}. Its last lines: {said}. "
                f"All it said is in {done.log}."
            )

        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise wrong(f"no adapter has come back: {CONFIG} is missing or broken") from None
        if not isinstance(config, dict) or config.get("peft_type") != "LORA":
            raise wrong(f"what has come back is no LoRA adapter: {CONFIG} says so")
        count, moved = 0, False
        try:
            with safe_open(folder / WEIGHTS, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (no mapping)
                    tensor = file.get_tensor(name)
                    count += tensor.numel()
                    if not bool(torch.isfinite(tensor.float()).all()):
                        raise wrong(f"the adapter holds numbers that are none, in {name}")
                    moved = moved or ("lora_B" in name and bool(tensor.any()))
        except (OSError, SafetensorError):
            raise wrong(f"no adapter has come back: {WEIGHTS} is missing or broken") from None
        if not moved:
            raise wrong("the adapter is as it was before training: it changes nothing")
        return cls(folder, config, count)

    def fitted(self, tunable: Tunable) -> dict[str, Any]:
        """Its configuration as we keep it, once it has been laid over the model.

        Raises:
            BreakevenError: it does not fit: layers are missing in one of them.
        """
        with loaded(tunable, self.folder):
            pass
        return {**self.config, "base_model_name_or_path": tunable.card.name, "inference_mode": True}


def validation_loss(
    tunable: Tunable, folder: Path, held_out: Sequence[Tokens], settings: Settings
) -> tuple[float | None, float]:
    """(mean loss per answer token with the adapter in `folder`, seconds); measured by us for all systems."""
    if not held_out:
        return None, 0.0
    began = time.perf_counter()
    parts = passes(held_out, CPU_TOKENS if tunable.device == "cpu" else CUDA_TOKENS)
    with loaded(tunable, folder) as model, torch.no_grad():
        forward = Forward(model, tunable, settings)
        model.eval()
        total = sum(forward.loss(part).item() for part in parts)
    return total / sum(len(example.answer) for example in held_out), time.perf_counter() - began


@contextmanager
def loaded(tunable: Tunable, folder: Path) -> Iterator[Any]:
    """The base model with the adapter in `folder` over it; unloaded at the end.

    Raises:
        BreakevenError: the adapter does not fit the model.
    """
    from peft import PeftModel

    base, model = tunable.model, None
    try:
        with warnings.catch_warnings(record=True) as said, quiet():
            warnings.simplefilter("always")
            try:
                model = PeftModel.from_pretrained(base, folder)
            except (ValueError, RuntimeError, KeyError) as error:
                raise BreakevenError(f"the adapter does not fit the model: {error}") from error
        missing = [str(w.message) for w in said if "missing adapter keys" in str(w.message)]
        if missing:
            raise BreakevenError(f"the adapter does not fit the model: {missing[0].splitlines()[0][:300]}")
        yield model
    finally:
        if model is not None:
            model.unload()
        base.eval().requires_grad_(False)


def _held_by_children() -> int:
    """Bytes that all processes below this one hold, shared pages counted each time."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.Error:
            continue
    return total
