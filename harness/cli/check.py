"""`breakeven validate`: finds the task and the model, and leaves the looking to `cli.validate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from rich.console import Console

from breakeven.harness import plan, suite
from breakeven.harness.cli.validate import examine, show
from breakeven.harness.errors import UserError


def check(task_name: str, model: str, arguments: Sequence[str], strict: bool) -> int:
    """Print what was found; returns the exit code of `validate.Report`.

    `model` defaults to the default model, whose tokenizer then counts the prompts.
    """
    from breakeven.harness.engines.local import local

    if task_name.endswith((".yaml", ".yml")) and not Path(task_name).is_file():
        raise UserError("no such task file", file=task_name)
    entry = suite.TaskEntry(task=task_name, args=dict(_argument(a) for a in arguments))
    task = plan.load_task(task_name, entry)
    engine = local(model or suite.DEFAULT_MODEL)
    report = examine(task, count_tokens=engine.count_tokens, context=engine.describe().context)
    show(report, Console())
    return report.exit_code(strict)


def _argument(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"'{text}' is no argument", field="--arg", hint="write it as name=value")
    return key, yaml.safe_load(value)
