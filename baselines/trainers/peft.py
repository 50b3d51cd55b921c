"""LoRA in this process through PEFT: the trainer that `weights: {...}` uses unless another is named.

Here are its name and settings, checked without loading torch; the training itself is in `_lora`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from breakeven.baselines.trainers._settings import Settings
from breakeven.harness.contracts import Json
from breakeven.harness.previews import TrainingOutlook
from breakeven.harness.training import Trainer, TrainingPair, TrainingResult, Tunable, Usability


@dataclass(frozen=True, slots=True)
class PeftTrainer:
    """A `Trainer` with its settings. `settings` are complete, as an adapter's specification needs them."""

    given: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Json]:
        return Settings.parse(self.given).what_matters()

    def usable(self) -> Usability:
        """See `breakeven.harness.training.Checked`."""
        return Usability(True, f"peft {version('peft')}, in this process")

    def train(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        scratch: Path,
        seed: int,
        settings: Mapping[str, Json],
        progress: Callable[[float, float, str], None],
    ) -> TrainingResult:
        """See `breakeven.harness.training.Trainer`; `settings` go over those given before."""
        from breakeven.baselines.trainers._lora import tune

        merged = Settings.parse({**self.given, **settings})
        return tune(tunable, pairs, validation, folder, scratch, seed, merged, progress)

    def outlook(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        seed: int,
        settings: Mapping[str, Json],
    ) -> TrainingOutlook:
        """See `breakeven.harness.previews.PreviewedTrainer`."""
        from breakeven.baselines.trainers._outlook import outlook

        return outlook(tunable, pairs, validation, seed, Settings.parse({**self.given, **settings}))


def peft(**settings: Any) -> Trainer:
    """The in-process LoRA trainer. Raises UserError for an unknown setting or a bad value.

    Settings and their defaults: `breakeven.baselines.trainers._settings.Settings`.
    """
    Settings.parse(settings)
    return PeftTrainer(settings)
