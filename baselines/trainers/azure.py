"""Fine-tuning at Azure: OpenAI's protocol with its own statuses, and a deployment before anything can be
asked.

The deployment is billed by the hour from when it is made. It is made when the first test example is asked,
deleted after the last, and on every way out; `breakeven.harness.deployments` sees to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from breakeven.baselines.trainers import _hosted_here
from breakeven.baselines.trainers._job_settings import REFUSES_TEXT, JobSettings
from breakeven.harness.contracts import Json
from breakeven.harness.deployments import CONTROL_URL, Plan, check_token
from breakeven.harness.hosted import Endpoint, HostedTraining
from breakeven.harness.training import TrainingPair, Usability, checked
from breakeven.harness.yamlfile import validated

#: The variable of the resource's key as our documentation calls it, and the engine's own; either will do.
KEYS = ("AZURE_OPENAI_API_KEY", "OPENAI_API_KEY")
#: That of a token for the control plane, unless the package azure-identity brings one.
TOKEN = "AZURE_MANAGEMENT_TOKEN"
#: Characters of a tuned model's suffix.
SUFFIX = 18
_HOURS = {
    "standard": "azure/standard",
    "globalstandard": "azure/standard",
    "developertier": "azure/developer",
}


class DeploymentSettings(BaseModel):
    """Where the tuned model is put to be asked; the names of Azure's control plane.

    Attributes:
        sku: "standard", "GlobalStandard" or "DeveloperTier" (only the first is documented with its spelling).
        hour: the price book's name of its hour; by the sku unless given.
        token_env: the environment variable with a token for the control plane (not the resource's key).
        patience: seconds until it must serve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subscription: str = Field(min_length=1, pattern=r"^[\w-]+$")
    resource_group: str = Field(min_length=1, pattern=r"^[\w.()-]+$")
    resource: str = Field(min_length=1, pattern=r"^[\w-]+$")
    sku: str = "standard"
    capacity: int = Field(1, ge=1)
    hour: str = ""
    version: str = "1"
    api_version: str = "2024-10-01"
    control_url: str = CONTROL_URL
    token_env: str = TOKEN
    patience: float = Field(3600.0, gt=0)

    def plan(self, name: str, model: str) -> Plan:
        hour = self.hour or _HOURS.get(self.sku.lower(), f"azure/{self.sku.lower()}")
        return Plan(**{**self.model_dump(), "hour": hour}, name=name, model=model)


class AzureSettings(JobSettings):
    """Those of the openai trainer, and `deployment`. `training_type` is Azure's kind of training: 1 standard,
    as its API wants to be told; null leaves it out."""

    deployment: DeploymentSettings
    training_type: int | str | None = 1

    def what_matters(self) -> Mapping[str, Json]:
        return {k: v for k, v in super().what_matters().items() if k != "deployment"}


@dataclass(frozen=True)
class AzureTrainer:
    """A `HostedTrainer` with its settings."""

    given: AzureSettings
    sleep: Callable[[float], None] = time.sleep
    refuses_text: ClassVar[str] = REFUSES_TEXT

    @property
    def settings(self) -> Mapping[str, Json]:
        return self.given.what_matters()

    @property
    def uncounted(self) -> tuple[str, ...]:
        return (f"the hours of a deployment ({self.hour})",)

    @property
    def hour(self) -> str:
        return self.given.deployment.plan("", "").hour

    @property
    def patience(self) -> float:
        """See `breakeven.harness.hosted.HostedTrainer`."""
        return self.given.deployment.patience

    def tune(
        self,
        endpoint: Endpoint,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        seed: int,
        progress: Callable[[float, float, str], None],
    ) -> HostedTraining:
        """See `breakeven.harness.hosted.HostedTrainer`. A token to deploy with is asked for before
        training is."""
        from breakeven.baselines.trainers import _jobs, _sending

        given = self.given
        probe = given.deployment.plan("breakeven", "")
        endpoint.check_host(probe.host, "the trainer 'azure'")
        if not (folder / "job.json").exists():
            check_token(probe)
        if given.training_type is not None:
            given = given.model_copy(update={"body": {"trainingType": given.training_type, **given.body}})
        dialect = _sending.Dialect("azure", suffix=SUFFIX, keeps_metadata=False)
        job = _jobs.Job(endpoint, given, dialect, folder, seed, progress, self.sleep)
        result = job.run(pairs, validation)
        plan = self.deployed(f"breakeven-{job.state.nonce[:12]}", result.model)
        return _jobs.finished(job, result, self.tuned_price(endpoint), plan)

    def deployed(self, name: str, model: str) -> dict[str, Any]:
        """Settings of the deployment under this name."""
        return asdict(self.given.deployment.plan(name, model))

    def expected_epochs(self, examples: int) -> float:
        from breakeven.baselines.trainers import _protocol

        return _protocol.expected_epochs(self.given.epochs, examples)

    def tuned_price(self, endpoint: Endpoint) -> str:
        """Azure asks the base model's token price, and the deployment's hours besides."""
        return self.given.price_as or endpoint.price_as


def usable() -> Usability:
    """See `breakeven.harness.training.Checked`."""
    note = (
        "billed: training tokens, the tokens asked, and every hour that the deployment exists; it needs the "
        "setting `deployment`, and the model's api_key_env names the key"
    )
    token = () if _hosted_here.installed("azure-identity") else (TOKEN,)
    return _hosted_here.usability("OpenAI's protocol at Azure, and its control plane", [KEYS, token], note)


@checked(usable, _hosted_here.abandon)
def azure(**settings: Any) -> AzureTrainer:
    """Hosted fine-tuning at Azure. Raises UserError for an unknown setting or a bad value.

    Settings and their defaults: `AzureSettings`, `DeploymentSettings` and `_job_settings.JobSettings`.
    """
    return AzureTrainer(validated(AzureSettings, settings))
