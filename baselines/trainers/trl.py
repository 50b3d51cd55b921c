"""LoRA in this process through TRL's SFTTrainer: `weights: {trainer: trl}`, installed by `breakeven[trl]`.

Here are its name and settings, checked without loading torch; the training itself is in `_sft`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from breakeven.baselines.trainers._settings import Settings
from breakeven.harness.contracts import Json
from breakeven.harness.errors import UserError
from breakeven.harness.previews import TrainingOutlook
from breakeven.harness.training import Trainer, TrainingPair, TrainingResult, Tunable, Usability

INSTALL = "pip install 'breakeven[trl]'"

#: Tokens of a pass that no batch has: it is not split.
WHOLE = 10**9
#: What SFTTrainer cannot honour as the settings mean it.
REFUSED = {"tokens_per_pass": "it takes a whole batch at once; choose a smaller batch_size for less memory"}


@dataclass(frozen=True, slots=True)
class TrlTrainer:
    """A `Trainer` with its settings. `settings` are complete, with the version of TRL they are meant for."""

    given: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Json]:
        return {**_parse(self.given).what_matters(REFUSED), "system": f"trl {_installed() or 'missing'}"}

    def usable(self) -> Usability:
        """See `breakeven.harness.training.Checked`."""
        found = _installed()
        if found is None:
            return Usability(False, "", "the package trl is not installed", INSTALL)
        return Usability(True, f"trl {found}, in this process")

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
        """See `breakeven.harness.training.Trainer`; `settings` go over those given before.

        Raises:
            UserError: TRL is not installed, or as the trainer `peft` raises.
        """
        found = _installed()
        if found is None:
            raise UserError("the trainer 'trl' needs the package trl", field="trainer", hint=INSTALL)
        from breakeven.baselines.trainers._sft import tune

        merged = _parse({**self.given, **settings})
        return tune(tunable, pairs, validation, folder, scratch, seed, merged, f"trl {found}", progress)

    def outlook(
        self,
        tunable: Tunable,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        seed: int,
        settings: Mapping[str, Json],
    ) -> TrainingOutlook:
        """Tokens and memory as `peft` counts them, for the batches are the same; the time is not known.

        TRL takes a whole batch at once.
        """
        from breakeven.baselines.trainers._outlook import outlook

        parsed = replace(_parse({**self.given, **settings}), tokens_per_pass=WHOLE)
        found = outlook(tunable, pairs, validation, seed, parsed)
        return replace(found, work=None, validating=None, sample=None)


def trl(**settings: Any) -> Trainer:
    """The in-process trainer over TRL. Raises UserError for an unknown setting or a bad value.

    Settings and their defaults: `breakeven.baselines.trainers._settings.Settings`, but `tokens_per_pass`.
    """
    _parse(settings)
    return TrlTrainer(settings)


def _parse(given: Mapping[str, Any]) -> Settings:
    return Settings.parse({k: v for k, v in given.items() if k != "system"}, "trl", REFUSED)


def _installed() -> str | None:
    try:
        return version("trl")
    except PackageNotFoundError:
        return None
