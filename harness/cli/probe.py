"""`breakeven probe`: how fast a model reads, writes and trains here, kept for reports made elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path

from rich.console import Console

from breakeven.harness import models, plan, registry
from breakeven.harness import run as runs
from breakeven.harness.prices import PriceBook
from breakeven.harness.probe import Probe, measure


def probe(model: str, machine: str, trainer: str, changes: list[str], seconds: float, output: Path) -> None:
    """Measure, print and write. Raises UserError for an unknown machine or model."""
    if machine:
        PriceBook.load().check("machine_hours", machine, field="--machine")
    runs.offline_by_default()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    models.resolve(model, say=say)
    engine = plan.called("model", registry.find("engines", "local"), model, **_settings(changes))
    tuner = registry.find("trainers", trainer)() if trainer else None
    found = measure(engine, machine=machine, trainer=tuner, seconds=seconds, say=say)
    found.save(output)
    for line in lines(found):
        print(line)
    print(f"saved: {output}")


def lines(found: Probe) -> list[str]:
    """The speeds in words."""
    said = [
        f"{found.model} ({found.dtype}, {found.device}) on {found.machine_name}",
        f"reads {found.reading:,.0f} tokens/s",
        *(f"writes {rate:,.0f} tokens/s with {n} at once" for n, rate in found.writing.items()),
    ]
    if found.training is not None:
        said.append(f"trains {found.training:,.0f} tokens/s (LoRA)")
    if found.embedding is not None:
        said.append(f"embeds {found.embedding:,.0f} tokens/s ({found.embedder})")
    return said


def _settings(changes: list[str]) -> dict[str, object]:
    """Settings of the engine from "key=value", as YAML values."""
    import yaml

    from breakeven.harness.errors import UserError

    made: dict[str, object] = {}
    for change in changes:
        key, equals, raw = change.partition("=")
        if not equals or not key:
            raise UserError(f"'{change}' is no change", field="--set", hint="write it as key=value")
        made[key] = yaml.safe_load(raw)
    return made
