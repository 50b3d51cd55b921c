"""A training for another machine: the rows this strategy would train on, a system's files, and a record.

Pure: what is returned is text; writing it is left to the caller. The record lets the adapter come back into
a run as what it is (`trainers.imported`).
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from breakeven.baselines._settings import WeightSettings
from breakeven.baselines._tuning import default_lr, pairs_digest
from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._outside import Own
from breakeven.baselines.trainers._settings import Settings
from breakeven.baselines.trainers._systems import Job, Prepared, System, jsonl, require_chats, system
from breakeven.harness.contracts import EngineSession, Json
from breakeven.harness.errors import UserError
from breakeven.harness.training import Export, ExportTarget, TrainingPair
from breakeven.harness.yamlfile import validated

RECORD = "breakeven-export.json"
TRAIN, VALIDATION = "data/train.jsonl", "data/validation.jsonl"
#: Tokens of an example at most where nobody knows the context of the model.
UNKNOWN_CONTEXT = 2048


def export(
    weights: WeightSettings,
    pairs: Sequence[TrainingPair],
    validation: Sequence[TrainingPair],
    engine: EngineSession,
    seed: int,
    target: ExportTarget,
) -> Export:
    """Files for `target.system` that train on these pairs.

    Examples longer than the model can take are left out and counted: our trainer cuts the beginning of their
    prompts, these systems would cut off their answers.

    Raises:
        UserError: no such system, a setting it does not have, settings that are still to be searched for, or
            nothing left to train on.
    """
    chosen = system(target.system)
    if weights.search is not None:
        names = ", ".join(weights.search.settings)
        raise UserError(
            f"a search for {names} is several trainings and their comparison; an export is one training",
            field="weights.search",
            hint=f"leave `search` out and set {names} to what a run has chosen, or to one of the candidates",
        )
    if not pairs:
        raise UserError("there are no training examples to export", field="train")
    require_chats(pairs, chosen.TITLE)
    card = engine.describe()
    hosted = _hosted(weights, target.system)
    settings, own = (Settings(), Own()) if hosted else _settings(weights, target.system)
    longest = settings.max_length or card.context or UNKNOWN_CONTEXT
    kept, tokens = _short_enough(pairs, engine, longest)
    checks, _ = _short_enough(validation, engine, longest)
    if not kept:
        raise UserError(f"all {len(pairs)} examples have more than {longest:,} tokens", field="max_length")
    job = Job(
        model=target.model or card.name,
        settings=settings,
        lr=settings.lr if settings.lr is not None else default_lr(card.parameters),
        max_length=longest,
        examples=len(kept),
        train=TRAIN,
        validation=VALIDATION if checks else None,
        seed=seed,
        device=target.device,
        micro_batch=own.micro_batch if target.micro_batch is None else target.micro_batch,
        load_in_4bit=own.load_in_4bit or target.load_in_4bit or card.dtype == "nf4",
        packing=own.packing or target.packing,
        extra={**own.extra, **target.extra},
        chat_template=getattr(engine.raw, "chat_template", None),
        hosted=hosted,
    )
    base = job.model
    prepare: tuple[str, ...] = ()
    made: dict[str, str] = {}
    if isinstance(chosen, Prepared):
        named, prepare, made = chosen.taken_along(base)
        job = replace(job, model=named)
    made |= {TRAIN: jsonl(chosen.rows(kept))}
    if checks:
        made[VALIDATION] = jsonl(chosen.rows(checks))
    made |= chosen.files(job)
    left_out = len(pairs) - len(kept)
    epochs = settings.epochs if hosted is None else hosted.epochs if hosted.epochs != "auto" else None
    record: dict[str, Json] = {
        "system": target.system,
        "version": chosen.VERSION,
        "command": list(chosen.command(job)),
        "adapter": chosen.adapter(job),
        "base_model": base,
        **({"prepare": list(prepare)} if prepare else {}),
        "model": {"name": card.name, "digest": card.digest, "dtype": card.dtype},
        "trainer": weights.trainer,
        "material": weights.model_dump(
            mode="json", include={"data", "document_tokens", "raft"}, exclude_defaults=True
        ),
        "settings": dict(hosted.what_matters())
        if hosted
        else settings.what_matters() | {"lr": job.lr, "max_length": longest},
        "seed": seed,
        "steps": None if hosted else job.steps,
        "epochs": epochs,
        "training_tokens": None if epochs is None else round(tokens * epochs),
        "rows": {
            "train": len(kept),
            "validation": len(checks),
            "left_out": left_out,
            "pairs": pairs_digest(pairs),
            "sha256": {name: _sha256(made[name]) for name in (TRAIN, VALIDATION) if name in made},
        },
    }
    remarks = [*chosen.remarks(job), *_remarks(left_out, longest, target, card.name)]
    if getattr(engine.raw, "tokens_are_rough", False):
        remarks.append(
            f"{card.name} is not on this machine: its tokens are a rule of thumb, and so is which rows are "
            "too long."
        )
    made["README.md"] = _readme(chosen, job, record, remarks)
    return Export(made, record, tuple(remarks))


def _settings(weights: WeightSettings, system: str) -> tuple[Settings, Own]:
    """The settings that all trainers of adapters share, and those that the system itself has as a trainer.

    Raises UserError for one of another trainer alone.
    """
    known = {f.name for f in fields(Settings)}
    given = dict(weights.settings)
    own = {f.name: given.pop(f.name) for f in fields(Own) if f.name in given and weights.trainer == system}
    for key in given:
        if key not in known and weights.trainer != "peft":
            raise UserError(
                f"a setting of the trainer '{weights.trainer}' alone",
                field=f"weights.{key}",
                hint="leave it out of what is exported, or say it in the other system's words with --key",
            )
    return Settings.parse(given), Own(**own)


def _hosted(weights: WeightSettings, system: str) -> JobSettings | None:
    """The settings of a strategy that a provider tunes anyway, where the export is to its protocol.

    Raises UserError for a choice among checkpoints, which is made after the training.
    """
    if system != "openai" or weights.trainer not in ("openai", "azure"):
        return None
    shared = JobSettings.model_fields  # Azure's deployment is made after the job
    given = {k: v for k, v in weights.settings.items() if weights.trainer == "openai" or k in shared}
    made = validated(JobSettings, given)
    if made.checkpoint == "best":
        raise UserError(
            "which checkpoint is best is seen after the training, and the script does not look",
            field="weights.checkpoint",
            hint="leave it out, and import the checkpoint's id that you choose",
        )
    return made


def _short_enough(
    pairs: Sequence[TrainingPair], engine: EngineSession, longest: int
) -> tuple[list[TrainingPair], int]:
    """The pairs that fit, answer and end token included, and how many tokens they have together."""
    kept, total = [], 0
    for pair in pairs:
        tokens = pair.tokens(engine.count_tokens) + 1
        if tokens <= longest:
            kept.append(pair)
            total += tokens
    return kept, total


def _remarks(left_out: int, longest: int, target: ExportTarget, name: str) -> list[str]:
    said = []
    if left_out:
        said.append(f"{left_out} examples have more than {longest:,} tokens and were left out.")
    if target.model and target.model != name:
        said.append(
            f"Trained on {target.model}, used on {name}: the two must be the same weights, or the adapter "
            "fits worse than it could."
        )
    return said


def _readme(chosen: System, job: Job, record: Mapping[str, Any], remarks: Sequence[str]) -> str:
    rows = record["rows"]
    said = "".join(f"- {remark}\n" for remark in remarks)
    back = (
        "breakeven import-adapter ft:THE-MODEL-ID --export . --money WHAT-IT-COST"
        if not chosen.adapter(job)
        else f"breakeven import-adapter {chosen.adapter(job)} --export . --seconds N --money WHAT-IT-COST"
    )
    command = shlex.join(record.get("prepare") or ())
    prepare = (
        f"\nIn this folder, the model as this system reads it rightly:\n\n    {command}\n" if command else ""
    )
    return f"""\
# One training with {chosen.TITLE}

{rows["train"]:,} training and {rows["validation"]:,} validation examples, rendered as they will be asked; \
{_size(record)}.

On the machine that trains, once:

    {chosen.INSTALL}
{prepare}
Then, in this folder:

    {shlex.join(chosen.command(job))}

Bring the result back into a run, where the task is:

    {back}

What is not stated (seconds, money) stays unknown in the reports; it is never taken to be nothing.

## To know

{said or "- Nothing."}
"""


def _size(record: Mapping[str, Any]) -> str:
    """How much is trained, as far as it is known here: a provider may choose the epochs, and its steps."""
    if record["epochs"] is None:
        return "the provider chooses the epochs"
    steps = f", {record['steps']:,} steps" if record["steps"] is not None else ""
    return f"{record['epochs']:g} epochs{steps}, about {record['training_tokens']:,} tokens"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
