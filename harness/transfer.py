"""Side effects of tuning: how an adapter does on what it was not trained for, before and after.

Every adapter of a finished run is asked the first test examples of the suite's other tasks, and a small set
of general questions; so is the base model. What became worse was forgotten. A task is asked by its bare
prompt (instructions and input), so that nothing but the weights differs. Kept in `transfer.json` of the run;
booked nowhere, since no deployment pays for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from breakeven.harness import registry, results, store, suite
from breakeven.harness import run as runs
from breakeven.harness.contracts import Completion, Prediction, Request, Task
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.results import DONE, CellResult, Results
from breakeven.harness.session import Journal, Session

#: The name under which the general questions go.
GENERAL = "general questions"
PROBE = "data/general_probe.jsonl"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Effect:
    """An adapter on something it was not trained for.

    `before` and `after`: scores of the base model and of the adapter, by example, in the same order, on the
    metric `metric`. `own` is the task that the adapter was trained for, `on` the other one, or `GENERAL`.
    """

    own: str
    strategy: str
    model: str
    seed: int | None
    on: str
    metric: str
    higher_is_better: bool
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Question:
    """One of the general questions; `choices` are scored by their log-probability a byte."""

    id: str
    question: str
    answer: str
    choices: tuple[str, ...]


def load(folder: Path) -> list[Effect]:
    """What `measure` found; empty where it was not run."""
    rows = store.read_json(folder / "transfer.json", [])
    return [Effect(**{**row, "before": tuple(row["before"]), "after": tuple(row["after"])}) for row in rows]


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
    tasks = runs.load_tasks(chosen, examples)
    engines = runs.Engines(chosen, store.read_json(folder / "engines.json", {}), found.prices)
    asked = [
        *(_Asked(n, t.metrics[0].name, t.metrics[0].higher_is_better, partial(on_task, task=t))
          for n, t in tasks.items()),
        _Asked(GENERAL, "accuracy", True, partial(on_questions, asked=questions())),
    ]  # fmt: skip
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
            effects.append(_effect(cell, other, base[model, other.name], after))
    store.write_json(folder / "transfer.json", [asdict(e) for e in effects])
    return effects


@dataclass(frozen=True)
class _Asked:
    """What is asked of every adapter; `ask(session)` gives a score for each example."""

    name: str
    metric: str
    higher_is_better: bool
    ask: Callable[[Session], tuple[float, ...]]


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
        names = {e.artifact for e in cell.ledger.select("train") if e.artifact}
        for name in sorted(names):
            folder = found.folder / "artifacts" / name
            if not (folder / "adapter_model.safetensors").is_file():
                raise UserError(
                    "the adapter is not there any more", file=folder, hint="run its cell again: --resume"
                )
            yield cell, folder


def on_task(session: Session, task: Task) -> tuple[float, ...]:
    """Score of each test example on the task's primary metric, asked with its bare prompt."""
    answers = {c.id: c for c in session.complete([runs.bare_request(task, e) for e in task.test])}
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


def _effect(cell: CellResult, other: _Asked, before: tuple[float, ...], after: tuple[float, ...]) -> Effect:
    return Effect(
        cell.task,
        cell.strategy,
        cell.model or "",
        cell.seed,
        other.name,
        other.metric,
        other.higher_is_better,
        before,
        after,
    )
