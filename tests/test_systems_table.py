"""The table of all trainers in the documentation: from a real run, and no row more or less than there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Said
from tiny_suite import tiny_model

from breakeven.baselines.trainers._systems import SYSTEMS
from breakeven.harness import registry, results

pytest.importorskip("openai")
ROOT = Path(__file__).parent.parent


def test_hosted_trainers_are_run_at_servers_of_our_own_and_every_system_has_a_row(
    hosted: Path, breakeven: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _systems_runs
    import systems

    def in_this_process(*words: Any, env: Mapping[str, str]) -> int:
        for name in (_systems_runs.KEY_ENV, _systems_runs.TOKEN_ENV):
            monkeypatch.setenv(name, env[name])
        return breakeven(*words).code

    monkeypatch.setattr(_systems_runs, "_breakeven", in_this_process)
    sizes = {"train": 10, "validation": 0, "test": 1}
    changes = [f"tasks.recipe_ingredients.limits.{split}={size}" for split, size in sizes.items()]
    changes += [f"models.default.model={tiny_model(hosted / 'tiny')}", "timing.examples=0"]
    (folder,) = _systems_runs.made(hosted / "runs", changes, ("openai", "azure"))
    head, _, *rows = systems.lines([results.load(folder)])
    names = [name.strip() for name in head.strip("|").split("|")]
    cells = [dict(zip(names, (c.strip() for c in row.strip("|").split("|")), strict=True)) for row in rows]
    table = {row["system"]: row for row in cells}

    assert len(table) == len(rows)
    assert table.keys() == {*registry.providers("trainers"), *SYSTEMS}
    assert all(row["trained here"].startswith("no: ") for n, row in table.items() if n not in systems.HOSTED)
    openai, azure = table["openai"], table["azure"]
    assert openai["rows (train, test)"] == azure["rows (train, test)"] == "10, 1"
    assert openai["tokens"] == azure["tokens"] != "0"  # the same training
    assert "server of our own" in openai["trained here"]
    assert "deployments made there: 1, deleted: 1" in azure["trained here"]
    assert openai["one-off"].endswith("priced as openai/ft:gpt-4o-mini-2024-07-18")
    assert azure["one-off"] == "unknown"  # nobody says what Azure asks for training it
    assert "a month for the deployment" in azure["per 1,000 requests"]
    assert "export --to llamafactory" in table["llamafactory"]["trained here"]
