"""Axolotl, in a process and an environment of its own: `weights: {trainer: axolotl}`."""

from __future__ import annotations

from typing import Any

from breakeven.baselines.trainers._environments import Recipe
from breakeven.baselines.trainers._outside import Kind, OutsideTrainer
from breakeven.harness.training import Trainer

KIND = Kind("axolotl", Recipe("axolotl", "axolotl", python="3.11", gigabytes=4.0))


def axolotl(**settings: Any) -> Trainer:
    """The trainer over Axolotl. Raises UserError for an unknown setting, or one it cannot honour.

    Settings and their defaults: `breakeven.baselines.trainers._settings.Settings`, without those in
    `_outside.REFUSED`, and `_outside.Own`; `extra` holds keys of Axolotl's own configuration.
    """
    return OutsideTrainer(KIND, settings)
