"""AutoTrain Advanced, in a process and an environment of its own: `weights: {trainer: autotrain}`.

Nobody maintains it any more: it runs on transformers 4.48, which cannot read what transformers 5 writes. So
it is given a copy of the model folder, whose small files say the same in the words of that time
(`_systems.prepare_model`, which goes with an export too).
"""

from __future__ import annotations

from typing import Any

from breakeven.baselines.trainers._environments import Recipe
from breakeven.baselines.trainers._outside import Kind, OutsideTrainer
from breakeven.baselines.trainers._systems.prepare_model import older_copy
from breakeven.harness.training import Trainer

NOTE = (
    "unmaintained: no change since January 2025; it has no loss mask, so prompts are learned too; use it to "
    "compare, not to build on"
)


def autotrain(**settings: Any) -> Trainer:
    """The trainer over AutoTrain Advanced. Raises UserError for an unknown setting, or one it cannot honour.

    Settings and their defaults: `breakeven.baselines.trainers._settings.Settings`, without those in
    `_outside.REFUSED`, and `_outside.Own`; `extra` holds keys of AutoTrain's own configuration.
    """
    return OutsideTrainer(KIND, settings)


#: It has no loss mask: preflight says so.
vars(autotrain)["learns_prompts"] = True


KIND = Kind(
    "autotrain",
    # bitsandbytes 0.45 cannot be imported without a GPU, and AutoTrain imports it wherever it is installed.
    Recipe("autotrain", "autotrain-advanced", python="3.11", gigabytes=7.0, without=("bitsandbytes",)),
    refused={
        "load_in_4bit": "its bitsandbytes is left out, for it cannot be imported without a GPU",
        "packing": "it always joins texts and cuts them into blocks",
        "use_dora": "it has no such setting",
        "use_rslora": "it has no such setting",
    },
    note=NOTE,
    model=older_copy,
)
