"""Side effects of tuning: how an adapter does on what it was not trained for, before and after.

Every adapter of a finished run is asked the first test examples of the suite's other tasks, and a small set
of general questions; so is the base model. What became worse was forgotten. A task is asked by its bare
prompt (instructions and input), so that nothing but the weights differs. Kept in `transfer.json` of the run,
which `effects` reads; booked nowhere, since no deployment pays for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from breakeven.harness import hosted, pool, registry, results, run_tasks, store, suite
from breakeven.harness.contracts import Completion, Prediction, Request, Task
from breakeven.harness.effects import FILE, GENERAL, Effect, adapters_of
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.results import DONE, CellResult, Results
from breakeven.harness.session import Journal, Session

PROBE = "data/general_probe.jsonl"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Question:
    """One of the general questions; `choices` are scored by their log-probability a byte."""

    id: str
    question: str
    answer: str
    choices: tuple[str, ...]


def measure(folder: Path, examples: int = 24, say: Say = lambda text: None) -> list[Effect]:
    """Ask every adapter of a run, and write `transfer.json`.

    Args:
        examples: test examples of each other task.
        say: told what is being asked.

    Raises:
        UserError: no run, nothing tuned in it, or an adapter's files are gone.
    """
    found = results.load(folder)
    tuned = list(adapters(found))
    if not tuned:
        raise UserError("no strategy of this run has tuned a model", file=folder)
    chosen = suite.load(folder / "suite.yaml")
    tasks = run_tasks.load_tasks(chosen, examples)
    engines = pool.Engines(chosen, store.read_json(folder / "engines.json", {}), found.prices)
    asked = [*(_task_asked(found, n, t) for n, t in tasks.items()), _questions_asked()]
    sessions: dict[str, Session] = {}
    base: dict[tuple[str, str], tuple[float, ...]] = {}
    effects: list[Effect] = []
    for cell, adapter in tuned:
        model = cell.model or ""
        if model not in sessions:
            sessions[model] = Session(engines.get(model), Journal(None), Ledger(), "evaluate")
        session = sessions[model]
        for other in asked:
            if other.name == cell.task or (other.name == GENERAL and not session.capabilities.logprobs):
                continue
            say(f"{cell.strategy} of {cell.task} on {other.name}")
            if (model, other.name) not in base:
                base[model, other.name] = other.ask(session)
            after = other.ask(session.adapt(adapter))
            effects.append(_effect(cell, adapter.name, other, base[model, other.name], after))
    store.write_json(folder / FILE, [asdict(e) for e in effects])
    return effects


@dataclass(frozen=True)
class _Asked:
    """What is asked of every adapter; `ask(session)` gives a score for each example. Else as in `Effect`."""

    name: str
    metric: str
    higher_is_better: bool
    ask: Callable[[Session], tuple[float, ...]]
    range: tuple[float, float] | None
    groups: tuple[str | None, ...]
    data: str


def _task_asked(found: Results, name: str, task: Task) -> _Asked:
    metric, groups = task.metrics[0], tuple(e.group for e in task.test)
    data = found.tasks[name].hash if name in found.tasks else ""
    ask = partial(on_task, task=task)
    return _Asked(name, metric.name, metric.higher_is_better, ask, metric.range, groups, data)


def _questions_asked() -> _Asked:
    asked = questions()
    data = store.digest([asdict(q) for q in asked])
    ask = partial(on_questions, asked=asked)
    return _Asked(GENERAL, "accuracy", True, ask, (0.0, 1.0), (None,) * len(asked), data)


def adapters(found: Results) -> Iterator[tuple[CellResult, Path]]:
    """(cell, adapter folder) of the first seed of each tuned strategy.

    Raises:
        UserError: an adapter's files are gone.
    """
    seen = set()
    for cell in found.cells.values():
        key = cell.task, cell.strategy, cell.model, cell.train_size
        if cell.state != DONE or cell.training is None or key in seen:
            continue
        seen.add(key)
        for name in adapters_of(cell):
            folder = found.folder / "artifacts" / name
            if hosted.HostedModel.is_in(folder):
                continue  # another task would have to be sent there; nobody has asked for that
            if not (folder / "adapter_model.safetensors").is_file():
                raise UserError(
                    "the adapter is not there any more", file=folder, hint="run its cell again: --resume"
                )
            yield cell, folder


def on_task(session: Session, task: Task) -> tuple[float, ...]:
    """Score of each test example on the task's primary metric, asked with its bare prompt."""
    answers = {c.id: c for c in session.complete([pool.bare_request(task, e) for e in task.test])}
    metric = task.metrics[0]
    return tuple(float(metric.score(e, Prediction(e.id, answers[e.id].text), None).value) for e in task.test)


def questions() -> list[Question]:
    """The general questions that come along."""
    found: list[Question] = []
    for path in registry.data_files("tasks", PROBE):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append(Question(row["id"], row["question"], row["answer"], tuple(row["choices"])))
    return found


def on_questions(session: Session, asked: Sequence[Question]) -> tuple[float, ...]:
    """1 for each question whose right answer is the likeliest a byte, 0 for the others."""
    requests = [
        Request(q.id, messages=({"role": "user", "content": q.question},), max_tokens=16, choices=q.choices)
        for q in asked
    ]
    answers: Mapping[str, Completion] = {c.id: c for c in session.complete(requests)}
    return tuple(float(_likeliest(q, answers[q.id]) == q.answer) for q in asked)


def _likeliest(question: Question, answer: Completion) -> str:
    scores = answer.choice_logprobs or ()
    by_length = [s / len(c.encode()) for s, c in zip(scores, question.choices, strict=True)]
    return question.choices[max(range(len(by_length)), key=lambda i: by_length[i])]


def _effect(
    cell: CellResult, adapter: str, other: _Asked, before: tuple[float, ...], after: tuple[float, ...]
) -> Effect:
    return Effect(
        own=cell.task,
        strategy=cell.strategy,
        model=cell.model or "",
        train_size=cell.train_size,
        seed=cell.seed,
        adapter=adapter,
        on=other.name,
        data=other.data,
        metric=other.metric,
        higher_is_better=other.higher_is_better,
        range=other.range,
        groups=other.groups,
        before=before,
        after=after,
    )
