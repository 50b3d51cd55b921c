"""`breakeven export`: a training as data and configuration for another system and machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import yaml

from breakeven.harness import plan, single, store
from breakeven.harness.errors import UserError
from breakeven.harness.training import ExportTarget

RECORD = "breakeven-export.json"


def export(
    what: str,
    to: str,
    strategy: str,
    out: Path,
    model: str = "",
    base_model: str = "",
    device: str = "cuda",
    micro_batch: int | None = None,
    load_in_4bit: bool = False,
    packing: bool = False,
    keys: Sequence[str] = (),
    changes: Sequence[str] = (),
    force: bool = False,
) -> None:
    """Write the folder `out`: rows, configuration, README.md and `breakeven-export.json`.

    Args:
        what: a task or a suite, by name or file.
        to: the system.
        strategy: a named setting, one of the suite's strategies or cells, or a YAML file of settings.
        model: which model the prompts are made for (of a task), as `models` in a suite.
        base_model: what the other machine loads; the same model, by name or folder, unless said.
        keys: of the system's own configuration, "key=value" each.
        changes: of the suite, as `--set` elsewhere.

    Raises:
        UserError: for what is missing or cannot be done there. Nothing is written then.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(f"'{device}' is no device", field="--device", hint="cpu or cuda")
    if out.exists() and any(out.iterdir()) and not force:
        raise UserError("is not empty", file=out, hint="take another folder, or --force")
    suite = single.as_suite(what, strategy, model, changes)
    with single.single(suite, single.strategy_name(strategy), declared=True) as one:
        entry = suite.models[one.spec.model or next(iter(suite.models))]
        on: Literal["cpu", "cuda"] = "cpu" if device == "cpu" else "cuda"
        target = ExportTarget(
            to,
            on,
            base_model or (single.located(entry.model) if entry.engine == "local" else entry.model),
            micro_batch,
            load_in_4bit,
            packing,
            dict(_pair(text) for text in keys),
        )
        train = plan.training_rows(one.world.tasks, one.spec)
        made = one.strategy.export(one.task.brief, train, one.task.validation, one.services(), target)
        record = {
            "breakeven": metadata.version("breakeven"),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "task": one.task.name,
            "task_digest": plan.task_digest(one.task),
            "from": what,
            "task_entry": suite.tasks[one.spec.task].model_dump(mode="json", exclude_defaults=True),
            "models": {one.spec.model or "default": entry.model_dump(mode="json")},
            "allow_hosts": suite.allow_hosts,
            "strategy": one.spec.strategy,
            "factory": one.spec.factory,
            "strategy_settings": dict(one.spec.settings),
            "train_size": one.spec.train_size,
            **made.record,
        }
    for path, text in made.files.items():
        store.write_text(out / path, text)
    store.write_json(out / RECORD, record)
    rows: Any = record["rows"]
    print(f"wrote {out}: {rows['train']:,} training rows, {rows['validation']:,} validation rows")
    for remark in made.remarks:
        print(f"note: {remark}")
    print(f"next: see {out / 'README.md'}")


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"'{text}' is no setting", field="--key", hint="write it as key=value")
    return key, yaml.safe_load(value)
