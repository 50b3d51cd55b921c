"""Training that survives `kill -9`: one checkpoint file, replaced atomically, and a log of every step.

The checkpoint holds what the next step depends on. Data order and random numbers are functions of seed and
step, so they need no place in it. The log only serves to tell how much work a crash lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from breakeven.harness import store

CHECKPOINT = "checkpoint.safetensors"
LOG = "steps.jsonl"


@dataclass(slots=True)
class State:
    """How far training is. `seconds` are those of the steps up to `step`, over all attempts, nothing lost."""

    step: int = 0
    seconds: float = 0.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    validation_losses: list[tuple[int, float]] = field(default_factory=list)
    validation_seconds: float = 0.0
    tokens_per_pass: int = 0
    peak_bytes: int = 0


class Checkpoints:
    """The checkpoint and log in `folder`, of the training that `identity` describes.

    A checkpoint of another training (other data, settings, seed, model, versions) is ignored.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        folder.mkdir(parents=True, exist_ok=True)

    def save(
        self, state: State, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        """Replace the checkpoint. Raises DiskError if it cannot be written; the old one then stays."""
        tensors = {}
        for name, parameter in parameters.items():
            tensors[f"{name}/weight"] = parameter.detach()
            tensors |= {f"{name}/{key}": value for key, value in optimizer.state[parameter].items()}
        header = {"identity": self.identity, "state": json.dumps(asdict(state))}
        store.write_bytes(self.folder / CHECKPOINT, save(tensors, header))

    def restore(
        self, parameters: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> State | None:
        """Load weights and optimizer in place; None, with nothing touched, if no checkpoint fits."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("identity") != self.identity:
                    return None
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError:
            return None
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors.pop(f"{name}/weight"))
        for key, value in tensors.items():
            name, quantity = key.rsplit("/", 1)
            # AdamW keeps its step counter on the CPU unless it is fused; both accept it beside the weights.
            optimizer.state[parameters[name]][quantity] = value.to(parameters[name].device)
        saved = json.loads(header["state"])
        for losses in ("losses", "validation_losses"):
            saved[losses] = [tuple(pair) for pair in saved[losses]]
        return State(**saved)

    def log(self, state: State) -> StepLog:
        """Start the log of this attempt at `state`."""
        return StepLog(self.folder / LOG, self.identity, state)


class StepLog:
    """One line per finished step, and one where an attempt starts; flushed, so that a kill loses none."""

    def __init__(self, path: Path, identity: str, state: State) -> None:
        self.path, self.identity = path, identity
        store.read_journal(path)  # cuts off a line torn by the crash
        self._file = path.open("a", encoding="utf-8")
        self._write({"start": state.step, "identity": identity, "seconds": state.seconds})

    def step(self, state: State) -> None:
        loss = state.losses[-1][1]
        self._write({"step": state.step, "loss": loss, "seconds": state.seconds})

    def lost_seconds(self) -> float:
        """Seconds of steps that were done again because a crash came before their checkpoint."""
        lost = done = 0.0
        ours = False
        for row in store.read_journal(self.path):
            if "start" in row:
                ours = row["identity"] == self.identity
                lost += max(0.0, done - row["seconds"]) if ours else 0.0
            if ours:
                done = row["seconds"]
        return lost

    def _write(self, row: Mapping[str, Any]) -> None:
        with store.disk_errors(self.path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
