"""Fine-tuning at OpenAI, or at any server with its protocol: files, fine_tuning/jobs, chat completions.

Tunes the model of a strategy's `openai` engine where that engine asks it. The protocol is in `_jobs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from breakeven.baselines.trainers._job_settings import REFUSES_TEXT, JobSettings
from breakeven.harness.contracts import Json, TrainingPair
from breakeven.harness.hosted import Endpoint, HostedTraining
from breakeven.harness.yamlfile import validated


@dataclass(frozen=True)
class OpenAITrainer:
    """A `HostedTrainer` with its settings."""

    given: JobSettings
    sleep: Callable[[float], None] = time.sleep
    refuses_text: ClassVar[str] = REFUSES_TEXT

    @property
    def settings(self) -> Mapping[str, Json]:
        return self.given.what_matters()

    @property
    def uncounted(self) -> tuple[str, ...]:
        return ()

    def tune(
        self,
        endpoint: Endpoint,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        seed: int,
        progress: Callable[[float, float, str], None],
    ) -> HostedTraining:
        """See `breakeven.harness.hosted.HostedTrainer`."""
        from breakeven.baselines.trainers import _jobs

        job = _jobs.Job(endpoint, self.given, _jobs.Dialect("openai"), folder, seed, progress, self.sleep)
        done, result = job.run(pairs, validation)
        return _jobs.finished(job, done, result, self.tuned_price(endpoint), None)

    def expected_epochs(self, examples: int) -> float:
        from breakeven.baselines.trainers import _protocol

        return _protocol.expected_epochs(self.given.epochs, examples)

    def tuned_price(self, endpoint: Endpoint) -> str:
        """OpenAI asks about twice the base model's price for a tuned one, listed under "ft:"."""
        return self.given.price_as or endpoint.price_name(f"ft:{self.given.model or endpoint.model}")


def openai(**settings: Any) -> OpenAITrainer:
    """Hosted fine-tuning over OpenAI's protocol. Raises UserError for an unknown setting or a bad value.

    Settings and their defaults: `breakeven.baselines.trainers._job_settings.JobSettings`.
    """
    return OpenAITrainer(validated(JobSettings, settings))
