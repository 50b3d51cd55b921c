"""One training as any system is told it: the settings of our trainer with nothing left open, and paths.

Steps and warm-up are counted here, so that all systems do the same number of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness.contracts import Json, Message
from breakeven.harness.errors import UserError
from breakeven.harness.store import dumps
from breakeven.harness.training import TrainingPair

Device = Literal["cpu", "cuda"]

#: Names in transformers of our schedules, without and with warm-up.
_SCHEDULES = {
    "linear": ("linear", "linear"),
    "cosine": ("cosine", "cosine"),
    "constant": ("constant", "constant_with_warmup"),
}


@dataclass(frozen=True, slots=True)
class Job:
    """One training of one adapter.

    Attributes:
        model: a folder or Hub id that the system can load, or a provider's model name.
        settings: of our trainer; what a system has no word for is refused, never dropped.
        lr: peak learning rate.
        max_length: tokens of an example at most.
        examples: training rows; with `settings.batch_size` and `settings.epochs` they make the steps.
        train, validation: files of rows, as the system will see them from the folder it runs in.
        output: folder for the adapter, relative to that folder.
        seed: of the adapter's initialisation and the order of the data.
        device: what it will run on.
        micro_batch: examples in memory at once; must divide the batch size. None: the whole batch.
        load_in_4bit: quantise the base weights (QLoRA); on a GPU only.
        packing: put several examples into one row, where the system can.
        extra: keys of the system's own configuration, laid over ours.
        chat_template: Jinja text in place of the model's own template; None: its own.
        hosted: settings of a job at a provider, where the strategy's trainer is one; they go before ours.
    """

    model: str
    settings: Settings
    lr: float
    max_length: int
    examples: int
    train: str = "data/train.jsonl"
    validation: str | None = None
    output: str = "adapter"
    seed: int = 0
    device: Device = "cuda"
    micro_batch: int | None = None
    load_in_4bit: bool = False
    packing: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)
    chat_template: str | None = None
    hosted: JobSettings | None = None

    def __post_init__(self) -> None:
        batch, micro = self.settings.batch_size, self.micro_batch
        if micro is not None and (micro < 1 or batch % micro):
            raise UserError(f"{micro} does not divide the batch size {batch}", field="micro_batch")
        if self.load_in_4bit and self.device == "cpu":
            raise UserError("4-bit weights need a GPU", field="load_in_4bit")
        if self.settings.max_tokens_total is not None:
            raise UserError(
                "no other system has a cap of training tokens",
                field="max_tokens_total",
                hint="set epochs instead; a fraction is allowed",
            )

    @property
    def steps(self) -> int:
        """Optimizer steps, as our trainer counts them."""
        per_epoch = -(-self.examples // self.settings.batch_size)
        return max(1, round(self.settings.epochs * per_epoch))

    @property
    def warmup_steps(self) -> int:
        return round(self.settings.warmup * self.steps)

    @property
    def schedule(self) -> str:
        """The schedule's name in transformers."""
        return _SCHEDULES[self.settings.schedule][self.warmup_steps > 0]

    @property
    def rows_at_once(self) -> int:
        return self.micro_batch or self.settings.batch_size

    @property
    def accumulation(self) -> int:
        """Passes whose gradients make one step."""
        return self.settings.batch_size // self.rows_at_once

    @property
    def alpha(self) -> int:
        """LoRA's alpha. Raises UserError for a fraction, which these systems would cut off."""
        if self.settings.scale != int(self.settings.scale):
            raise UserError(f"alpha is {self.settings.scale:g}; other systems take whole ones", field="alpha")
        return int(self.settings.scale)

    @property
    def targets(self) -> Literal["all-linear"] | list[str]:
        """Every linear layer but the output projection, or those of these names."""
        targets = self.settings.targets
        if targets == "all-linear":
            return "all-linear"
        return [targets] if isinstance(targets, str) else list(targets)

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"


def conversation(pair: TrainingPair) -> list[dict[str, Any]]:
    """The prompt's messages and the answer as the last one."""
    return [*(dict(message) for message in pair.messages), {"role": "assistant", "content": pair.answer}]


def alternating(pair: TrainingPair, system: str) -> tuple[str | None, list[Message]]:
    """(system message, turns) of a prompt for systems that know nothing else.

    Raises:
        UserError: unless user and assistant take turns and the user has the last word.
    """
    messages = list(pair.messages)
    first = messages.pop(0)["content"] if messages and messages[0]["role"] == "system" else None
    wanted = ["user", "assistant"] * (len(messages) // 2 + 1)
    roles = [message["role"] for message in messages]
    if not roles or len(roles) % 2 == 0 or roles != wanted[: len(roles)]:
        raise UserError(
            f"the prompt of '{pair.id}' has the turns {', '.join(roles) or 'none'}; {system} takes user and "
            "assistant in turn, the user first and last",
            field="messages",
        )
    return first, messages


def refuse(job: Job, names: Sequence[str], system: str) -> None:
    """Raises UserError for a setting in `names` that is not at its default: the system has no such thing."""
    default = Settings()
    for name in names:
        if getattr(job.settings, name) != getattr(default, name):
            raise UserError(f"{system} has no such setting", field=name, hint="leave it out")


def refuse_chat_template(job: Job, system: str) -> None:
    """Raises UserError where a template is set: the system would train on another prompt than is asked."""
    if job.chat_template is not None:
        raise UserError(
            f"{system} takes the chat template from the model's folder, and one is set in its place",
            field="chat_template",
            hint="put the template into the folder, or use the trainer axolotl, trl or peft",
        )


def whole_epochs(job: Job, system: str) -> int:
    """The epochs as a whole number. Raises UserError for a fraction."""
    if job.settings.epochs != int(job.settings.epochs):
        raise UserError(f"{system} takes whole epochs, not {job.settings.epochs:g}", field="epochs")
    return int(job.settings.epochs)


def jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as the text of a JSONL file: one object a line, UTF-8, lone surrogates escaped."""
    return "".join(dumps(dict(row)) + "\n" for row in rows)


def as_yaml(config: Mapping[str, Any], head: str) -> str:
    """YAML under a comment; YAML 1.1 readers take every number for one (1.0e-05, not 1e-05)."""
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True, width=110)
    return "".join(f"# {line}\n" for line in head.splitlines()) + text


def overlaid(config: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the user's own keys laid over it, nested mappings key by key."""
    made = dict(config)
    for key, value in extra.items():
        both = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = overlaid(made[key], value) if both else value
    return made
