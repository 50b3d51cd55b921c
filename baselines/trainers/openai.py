"""Fine-tuning at OpenAI, or at any server with its protocol: files, fine_tuning/jobs, chat completions.

Tunes the model of a strategy's `openai` engine where that engine asks it. The protocol is in `_jobs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from breakeven.baselines.trainers import _hosted_here
from breakeven.baselines.trainers._job_settings import REFUSES_TEXT, JobSettings
from breakeven.harness.contracts import Json
from breakeven.harness.hosted import Endpoint, HostedTraining
from breakeven.harness.training import TrainingPair, Usability, checked
from breakeven.harness.yamlfile import validated

#: The variable that the `openai` engine takes its key from unless told otherwise.
KEY = "OPENAI_API_KEY"


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
        from breakeven.baselines.trainers import _jobs, _sending

        job = _jobs.Job(endpoint, self.given, _sending.Dialect("openai"), folder, seed, progress, self.sleep)
        return _jobs.finished(job, job.run(pairs, validation), self.tuned_price(endpoint), None)

    @property
    def hour(self) -> str:
        return ""

    def deployed(self, name: str, model: str) -> None:
        """Nothing has to be deployed."""

    def expected_epochs(self, examples: int) -> float:
        from breakeven.baselines.trainers import _protocol

        return _protocol.expected_epochs(self.given.epochs, examples)

    def tuned_price(self, endpoint: Endpoint) -> str:
        """OpenAI asks about twice the base model's price for a tuned one, listed under "ft:"."""
        return self.given.price_as or endpoint.price_name(f"ft:{self.given.model or endpoint.model}")


def usable() -> Usability:
    """See `breakeven.harness.training.Checked`."""
    note = (
        "billed: training tokens, then the tokens of the tuned model at a price of their own; another server "
        "or key is said by the model's base_url and api_key_env"
    )
    return _hosted_here.usability("OpenAI's protocol, at the model's server", [(KEY,)], note)


@checked(usable, _hosted_here.abandon)
def openai(**settings: Any) -> OpenAITrainer:
    """Hosted fine-tuning over OpenAI's protocol. Raises UserError for an unknown setting or a bad value.

    Settings and their defaults: `breakeven.baselines.trainers._job_settings.JobSettings`.
    """
    return OpenAITrainer(validated(JobSettings, settings))
