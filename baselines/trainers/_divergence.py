"""When a training is beyond help: its loss is no number, or what the model knew is gone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from breakeven.harness.errors import UserError

#: Steps whose mean loss tells whether training has diverged.
WINDOW = 10


class Diverged(UserError):
    """A training that is beyond help; with other settings it need not be."""


def stop_if_diverged(
    losses: Sequence[float], loss: float, norm: float, vocabulary: int, where: str, peak_lr: float
) -> None:
    """Look at the loss of a step after those before it, and at the norm of its gradient.

    A training has diverged whose mean loss is clearly above the first one, and near that of guessing among
    all tokens (at 0.75 of the logarithm of the vocabulary's size).

    Args:
        losses: those of the steps before, mean per answer token.
        where: the step in words, "step 3 of 10".

    Raises:
        Diverged: it has; names the field `lr` and one to try.
    """
    recent = [*losses[1 - WINDOW :], loss]
    guessing = math.log(vocabulary)
    start = losses[0] if losses else loss
    if math.isfinite(loss) and math.isfinite(norm):
        if len(recent) < WINDOW or fmean(recent) < max(1.2 * start, 0.75 * guessing):
            return
        found = f"the mean loss of the last {WINDOW} steps is {fmean(recent):.1f}, at first {start:.1f}"
    else:
        found = f"the loss is {loss}, the norm of its gradient {norm}"
    raise Diverged(
        f"training diverged at {where} with the peak learning rate {peak_lr:g}: {found}",
        field="lr",
        hint=f"Try {peak_lr / 5:.1g}",
    )
