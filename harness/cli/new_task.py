"""`breakeven new-task`: a working task in Python, with ten examples, a test and a suite, to be changed."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from rich.console import Console

from breakeven.harness.cli.init import write_together
from breakeven.harness.errors import UserError


def new_task(name: str, *, out: Path = Path(), force: bool = False) -> None:
    """Write `<name>.py`, `test_<name>.py` and `<name>.suite.yaml` into `out`.

    Raises:
        UserError: the name is no Python identifier, or a file is there already and `force` is not set.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        near = re.sub(r"\W+", "_", name).strip("_").lower()
        near = near if near.isidentifier() and not keyword.iskeyword(near) else f"my_{near or 'task'}"
        raise UserError(f"'{name}' cannot name a Python function", field="NAME", hint=f"for example {near}")
    texts = {f"{name}.py": TASK, f"test_{name}.py": TEST, f"{name}.suite.yaml": SUITE}
    files = {out / file: text.replace("NAME", name) for file, text in texts.items()}
    write_together(files, force)
    console = Console()
    for file in files:
        console.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    task, test, suite = files
    for word, step in (
        ("next:", f"pytest {test}"),
        ("     ", f"breakeven validate {task}:{name}"),
        ("     ", f"breakeven run {suite}"),
    ):
        console.print(f"{word} {step}", markup=False, highlight=False, soft_wrap=True)


TASK = '''\
"""Which desk of the town library answers a message? Replace this by what your task is.

A task is a function that returns a Task: data and judgement, nothing else. It never knows which strategy
runs. Put your rows in place of the ten below, and change what the comments explain.
"""

from breakeven.harness.contracts import Task
from breakeven.harness.taskfile import make_task

# What the model is told. This text decides how well prompting does: say what you want, and in which form.
INSTRUCTIONS = "Sort messages to a town library. Answer with the name of the desk only."

# The rows. Write them here, or name a file (JSONL, CSV, Parquet), a folder or a Hub data set in their place:
# data="rows.csv", data="owner/data-set", or one of these by split: data={"train": ..., "test": ...}. Relative
# paths start at the current folder, or at `base` if you give it: base=Path(__file__).parent.
ROWS = [
    {"text": "my card says expired but I only joined in spring?", "desk": "membership"},
    {"text": "Is the reading room open on Easter Monday?", "desk": "opening hours"},
    {"text": "I left two novels on the train. What do I owe you?", "desk": "loans and fees"},
    {"text": "How late can I come by on Thursdays", "desk": "opening hours"},
    {"text": "Can my daughter, 11, have her own library card?", "desk": "membership"},
    {"text": "please renew the atlas once more, I am not done with it", "desk": "loans and fees"},
    {"text": "We moved to the next town. Do we have to hand our cards back?", "desk": "membership"},
    {"text": "are you closed for stocktaking again this January", "desk": "opening hours"},
    {"text": "Why was I charged 3.20 when I brought everything back on time?", "desk": "loans and fees"},
    {"text": "Is it possible to keep a film for three weeks and not one?", "desk": "loans and fees"},
]


def NAME() -> Task:
    """Messages to a town library to one of three desks."""
    return make_task(
        "NAME",
        description="Messages to a town library to one of three desks",
        instructions=INSTRUCTIONS,
        # Sandboxed Jinja over the fields of the input.
        input_template="{{ text }}",
        data=ROWS,
        # Which column is what: "input" takes one or several; "reference" is the answer, or "references" a
        # list of acceptable ones. Optional: "id"; "group" for rows that belong together and must not be
        # divided between train and test; "split"; "meta" for columns to see in the report.
        columns={"input": "text", "reference": "desk"},
        # The closed set of answers: a list, or "from data". Leave it out for free text.
        choices=["opening hours", "membership", "loans and fees"],
        # The first metric decides. For free text: token_f1, rouge_l, chrf; for lists: set_f1; for numbers:
        # numeric_match; or a function of your own, `def score(example, output) -> float`.
        metrics=["accuracy", "macro_f1"],
        # Room for an answer.
        max_tokens=8,
        # Splits the data does not have are cut from it, the same way every time: shares, or numbers of rows.
        sizes={"train": 0.5, "validation": 0.1, "test": 0.4},
    )
'''

TEST = '''\
"""What must hold for the task before its numbers mean anything."""

from pathlib import Path

from breakeven.harness.cli.validate import examine
from breakeven.harness.contracts import Prediction, Task
from breakeven.harness.metrics import answer_text
from breakeven.harness.registry import load_from_file


def task() -> Task:
    made: Task = load_from_file(f"{Path(__file__).parent / 'NAME.py'}:NAME")()
    return made


def test_there_is_something_to_learn_from_and_something_to_test_on() -> None:
    assert task().train
    assert task().test


def test_validate_finds_no_error() -> None:
    assert [f.what for f in examine(task()).findings if f.level == "error"] == []


def test_the_right_answer_is_scored_as_right() -> None:
    made = task()
    for example in made.test:
        right = Prediction(example.id, answer_text(example.references[0]))
        assert made.primary.score(example, right, None).value >= made.correct_at


def test_a_wrong_answer_is_not() -> None:
    made = task()
    wrong = Prediction(made.test[0].id, "none of the answers")
    assert made.primary.score(made.test[0], wrong, None).value < made.correct_at
'''

SUITE = """\
# What to compare on NAME: run it with `breakeven run NAME.suite.yaml`.
suite: NAME
tasks:
  NAME: {task: "NAME.py:NAME"}
# Any causal language model: a Hub id, a folder, or behind an API ({model: gpt-4o-mini, engine: openai}).
models:
  default: {model: smollm2-135m-instruct}
strategies:
  zero-shot: {}
  few-shot: {}
  few-shot-similar: {}
  lora: {}
  # These need no language model, and apply to tasks with choices.
  majority: {}
  nearest-neighbour: {}
  logistic-regression: {}
# Differences are relative to this one: what you have today, or the simplest.
reference: zero-shot
# Three seeds show how much luck is in a draw of demonstrations and in training: [0, 1, 2].
seeds: [0]
economics:
  use_case: say what it is for
  requests_per_month: 10000
"""
