"""A hosted fine-tuning job over OpenAI's protocol: JSONL rows with weights, the job's JSON, a script.

The script needs the `openai` package, a key in OPENAI_API_KEY and, for another provider, OPENAI_BASE_URL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from breakeven.baselines.trainers._job_settings import JobSettings
from breakeven.baselines.trainers._systems._job import Job, conversation, overlaid, whole_epochs
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

TITLE = "an OpenAI-compatible provider"
VERSION = "3.51.0"
INSTALL = f"pip install 'openai=={VERSION}'"
JOB = "job.json"
SCRIPT = "fine_tune.py"

#: Of the OpenAI fine-tuning guide: a file with fewer rows is refused.
LEAST_EXAMPLES = 10


def rows(pairs: Sequence[TrainingPair]) -> list[dict[str, Any]]:
    """Chat messages; assistant turns that are only shown have weight 0."""
    return [{"messages": [*map(_shown, conversation(pair)[:-1]), conversation(pair)[-1]]} for pair in pairs]


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**message, "weight": 0} if message["role"] == "assistant" else dict(message)


def files(job: Job) -> dict[str, str]:
    """`job.json`, the body of POST /fine_tuning/jobs without its files' ids, and a script that sends it.

    What a provider does not let one choose (rank, schedule, a learning rate as such) stays its own. Raises
    UserError for a fraction of an epoch, and for fewer rows than a provider takes.
    """
    if job.examples < LEAST_EXAMPLES:
        raise UserError(
            f"a provider wants {LEAST_EXAMPLES} examples, there are {job.examples}", field="train"
        )
    return {JOB: json.dumps(body(job), indent=2) + "\n", SCRIPT: _script(job)}


def body(job: Job) -> dict[str, Any]:
    """The request that creates the job, without `training_file` and `validation_file`."""
    ours = {"epochs": whole_epochs(job, TITLE), "batch_size": job.settings.batch_size}
    hosted = job.hosted or JobSettings.model_validate(ours)
    hyperparameters = {
        "n_epochs": hosted.epochs,
        "batch_size": hosted.batch_size,
        "learning_rate_multiplier": hosted.learning_rate_multiplier,
    }
    made = {
        **hosted.body,
        "model": hosted.model or job.model,
        "seed": job.seed,
        **({"suffix": hosted.suffix} if hosted.suffix else {}),
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
    }
    return overlaid(made, job.extra)


def command(job: Job) -> tuple[str, ...]:
    return ("python", SCRIPT)


def adapter(job: Job) -> str:
    return ""


def remarks(job: Job) -> tuple[str, ...]:
    chosen = (
        "rank and schedule, and what is `auto` in job.json"
        if job.hosted
        else "rank, schedule and learning rate; epochs and batch size are ours"
    )
    return (
        f"The provider chooses {chosen}.",
        "The provider bills the training tokens of every epoch.",
    )


def _script(job: Job) -> str:
    return _TEMPLATE.format(train=job.train, validation=job.validation, job=JOB)


_TEMPLATE = '''\
"""Uploads the rows, starts the job, waits, and prints the tuned model's id: python fine_tune.py

Needs OPENAI_API_KEY, and OPENAI_BASE_URL for another provider. What it started stands in job-started.json:
run again, it goes on waiting for that job and starts no second one, even if the answer to the first was lost.
"""

import json
import pathlib
import time

import openai

TRAIN, VALIDATION = {train!r}, {validation!r}
STARTED = pathlib.Path("job-started.json")
client = openai.OpenAI()
state = json.loads(STARTED.read_text()) if STARTED.exists() else {{}}


def note(**found):
    """Before the next request, so that whoever is interrupted knows what has been asked."""
    state.update(found)
    STARTED.write_text(json.dumps(state))


def uploaded(path):
    with open(path, "rb") as file:
        return client.files.create(file=file, purpose="fine-tune").id


def begun():
    """The job of an earlier start, whose id was never noted: no other trains on this file."""
    every = client.fine_tuning.jobs.list()
    return next((j for j in every if j.training_file == state["training_file"]), None)


def created(body):
    """Asked once, since a job is billed; again only while the provider has not looked through the file."""
    for attempt in range(12):
        try:
            return client.with_options(max_retries=0).fine_tuning.jobs.create(**body)
        except openai.BadRequestError as error:
            if "ready" not in str(error).lower() or attempt == 11:
                raise
            time.sleep(5)
        except (openai.APIConnectionError, openai.InternalServerError) as error:
            raise SystemExit(f"no answer to the job's creation; run this again, it looks first: {{error}}")


if "training_file" not in state:
    note(validation_file=uploaded(VALIDATION) if VALIDATION else None, training_file=uploaded(TRAIN))
if "id" in state:
    job = client.fine_tuning.jobs.retrieve(state["id"])
else:
    job = begun() if state.get("asked") else None
    if job is None:
        note(asked=True)
        body = json.loads(pathlib.Path({job!r}).read_text())
        body |= {{name: state[name] for name in ("training_file", "validation_file") if state[name]}}
        job = created(body)
    note(id=job.id)

while job.status not in ("succeeded", "failed", "cancelled"):
    print(job.status, flush=True)
    time.sleep(30)
    job = client.fine_tuning.jobs.retrieve(job.id)

if job.status != "succeeded":
    raise SystemExit(f"the job {{job.status}}: {{job.error}}")
print("model:", job.fine_tuned_model)
print("trained tokens:", job.trained_tokens)
print("seconds:", (job.finished_at or 0) - job.created_at if job.finished_at else "unknown")
'''
