"""The settings that LoRA trainers share: names, defaults, checks, and what follows from them.

A trainer that hands the work to another system names those that system cannot honour. Loads nothing heavy,
so that a typo in a suite is found before torch is.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError

Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "bfloat16"]
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Settings:
    """How an adapter is trained. The defaults suit small models and a few hundred examples.

    Attributes:
        rank: inner dimension of the adapter.
        alpha: scale of the adapter (alpha / rank multiplies it); None: 2 * rank.
        dropout: share of the adapter's inputs set to zero in training. Costs about a tenth of the speed.
        targets: "all-linear" (all linear layers but the output projection), or names of layers.
        lr: peak learning rate; None: chosen by the size of the model (`_tuning.default_lr`).
        epochs: passes over the examples; a fraction is allowed.
        batch_size: examples per optimizer step, whatever fits into memory at once.
        schedule: how the learning rate falls after the warm-up.
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: AdamW's.
        max_grad_norm: gradients are scaled down to this norm.
        max_length: tokens of an example at most; None: the context of the model.
        max_tokens_total: training tokens at most, over all epochs; None: no cap. Shortens the epochs.
        precision: "auto" computes as the engine does, which loads the model in bfloat16 where the hardware
            is faster so; "bfloat16" does it in any case. The adapter's own weights are float32 always.
        tokens_per_pass: padded tokens in memory at once; a batch beyond that is split and its gradients
            added up. None: 2,048 on a CPU, 16,384 on a GPU.
        gradient_checkpointing: compute activations twice instead of keeping them.
        use_rslora, use_dora: variants, handed to PEFT as they are.
        checkpoint_steps, checkpoint_seconds: a checkpoint is written after so many steps or seconds,
            whichever comes first. They do not change the adapter.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"
    lr: float | None = None
    epochs: float = 3.0
    batch_size: int = 8
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int | None = None
    max_tokens_total: int | None = None
    precision: Precision = "auto"
    tokens_per_pass: int | None = None
    gradient_checkpointing: bool = False
    use_rslora: bool = False
    use_dora: bool = False
    checkpoint_steps: int = 200
    checkpoint_seconds: float = 20.0

    @classmethod
    def parse(
        cls, given: Mapping[str, Any], trainer: str = "peft", refused: Mapping[str, str] = NOTHING
    ) -> Settings:
        """Settings from what a suite says.

        Args:
            given: what the suite says.
            trainer: whose settings these are, for messages.
            refused: settings that this trainer cannot honour, with the reason as a sentence.

        Raises:
            UserError: for an unknown key, one the trainer cannot honour, or a bad value.
        """
        known = [f.name for f in fields(cls)]
        for key, value in given.items():
            if key not in known:
                offered = [name for name in known if name not in refused]
                close = difflib.get_close_matches(key, offered, n=1)
                hint = f"Did you mean '{close[0]}'?" if close else f"Known are {', '.join(offered)}"
                raise UserError(f"unknown setting of the trainer '{trainer}'", field=key, hint=hint)
            if key in refused and value != cls.__dataclass_fields__[key].default:
                raise UserError(f"the trainer '{trainer}' cannot honour it: {refused[key]}", field=key)
        values = dict(given)
        if isinstance(values.get("targets"), list):
            values["targets"] = tuple(values["targets"])
        return cls(**values)._checked()

    def _checked(self) -> Settings:
        for name in ("rank", "batch_size", "checkpoint_steps"):
            self._must(name, _is_whole, "a whole number from 1")
        for name in ("max_length", "max_tokens_total", "tokens_per_pass"):
            self._must(name, lambda v: v is None or _is_whole(v), "a whole number from 1, or null")
        for name in ("epochs", "max_grad_norm", "checkpoint_seconds"):
            self._must(name, lambda v: _is_number(v) and v > 0, "a number above 0")
        for name in ("alpha", "lr"):
            self._must(name, lambda v: v is None or (_is_number(v) and v > 0), "a number above 0, or null")
        for name in ("dropout", "warmup"):
            self._must(name, lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1")
        self._must("weight_decay", lambda v: _is_number(v) and v >= 0, "a number from 0")
        for name, words in (("schedule", get_args(Schedule)), ("precision", get_args(Precision))):
            self._must(name, words.__contains__, f"one of {', '.join(words)}")
        for name in ("gradient_checkpointing", "use_rslora", "use_dora"):
            self._must(name, lambda v: isinstance(v, bool), "true or false")
        self._must("targets", _are_names, "'all-linear' or a list of layer names")
        return self

    def _must(self, name: str, fine: Callable[[Any], bool], wanted: str) -> None:
        if not fine(getattr(self, name)):
            raise UserError(f"{getattr(self, name)!r} is not {wanted}", field=name)

    @property
    def scale(self) -> float:
        """LoRA's alpha."""
        return 2.0 * self.rank if self.alpha is None else float(self.alpha)

    def what_matters(self, refused: Mapping[str, str] = NOTHING) -> dict[str, Json]:
        """All settings that the trained adapter depends on, as JSON; without those a trainer refuses."""
        unused = ("checkpoint_steps", "checkpoint_seconds", *refused)
        kept = {k: v for k, v in asdict(self).items() if k not in unused}
        kept["targets"] = list(self.targets) if isinstance(self.targets, tuple) else self.targets
        return kept


def learning_rate(step: int, steps: int, peak: float, schedule: Schedule, warmup: float) -> float:
    """Learning rate of the 0-based `step` out of `steps`.

    Rises linearly to `peak` within the first `warmup` share, then falls towards 0 (which would be reached
    at step `steps`), along a line or half a cosine, or stays.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    done = (step - rising) / max(1, steps - rising)
    match schedule:
        case "linear":
            return peak * (1.0 - done)
        case "cosine":
            return peak * 0.5 * (1.0 + math.cos(math.pi * done))
        case "constant":
            return peak


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_names(value: object) -> bool:
    names = value if isinstance(value, tuple) else (value,)
    return bool(names) and all(isinstance(name, str) and name for name in names)
