"""Makes the runs behind the table of `systems.py`: trainers of this machine, and those of somebody else's.

Nobody else's machine is needed. Hosted trainers tune at a server of our own on the loopback, which speaks
OpenAI's protocol or Azure's, really trains a LoRA on the suite's model and answers with it
(`tests/fine_tuning_server.py`, which is in no package: run from a checkout). What is imported was exported,
trained by TRL's own command in a process of its own, and brought back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from breakeven.harness import suite as suites
from breakeven.harness.suite import Suite

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from fine_tuning_server import TOKEN, Azure, FineTuningServer

SUITE = "systems"
HOSTED: Mapping[str, type[FineTuningServer]] = {"openai": FineTuningServer, "azure": Azure}
IMPORTED = "imported"
#: The strategy whose settings the others share: of the shipped suite.
PATTERN = "peft"
#: What the servers' tokens are priced as. They are tokens of the suite's model, so this shows that billing
#: works, and not what the provider would ask for answers as good as these.
PRICED_AS = {"openai": "openai/gpt-4o-mini-2024-07-18", "azure": "azure/gpt-4o-mini"}
#: Looks that find a job queued, and a deployment being created, before it goes on.
QUEUED, CREATING = 2, 2
KEY_ENV, TOKEN_ENV = "SYSTEMS_KEY", "SYSTEMS_CONTROL_TOKEN"
#: Exported to, trained by its own command, and brought back.
SYSTEM = "trl"

_BREAKEVEN = "from breakeven.harness.cli import main; main()"
_TRL = "import sys; from trl.cli import main; sys.exit(main())"


def made(out: Path, changes: Sequence[str], only: Collection[str]) -> Iterator[Path]:
    """The folders of the runs, one after the other.

    Args:
        changes: of the suite `systems`, as `--set` takes them; of all runs.
        only: names of strategies; none means all.
    """
    base = suites.load(suites.find(SUITE), changes)
    if here := [name for name in base.strategies if not only or name in only]:
        told = [word for change in changes for word in ("--set", change)]
        told += [word for name in here for word in ("--only", name)]
        yield run(SUITE, SUITE, out, *told)
    if hosted := [name for name in HOSTED if not only or name in only]:
        yield at_servers(base, hosted, out)
    if not only or IMPORTED in only:
        yield brought_back(base, changes, out)


def run(name: str, suite: str | Path, out: Path, *told: str, env: Mapping[str, str] | None = None) -> Path:
    """Run a suite; returns the folder, also where a cell failed. Ends the program if there is none."""
    before = set(out.glob(f"{name}-*"))
    code = _breakeven("run", suite, "--out", out, *told, env=env)
    after = sorted(set(out.glob(f"{name}-*")) - before)
    if not after:
        raise SystemExit(f"the run of '{name}' ended with code {code} and left nothing")
    return after[-1]


# --- at a server of our own ------------------------------------------------------------------


def at_servers(base: Suite, names: Sequence[str], out: Path) -> Path:
    """Run the hosted trainers against a server each. Raises RuntimeError if a server is not left clean."""
    from breakeven.harness.engines.local import local

    model = base.models["default"]
    engine = local(model.model, **model.settings)
    trains = {"rank": _weights(base)["rank"], "lr": None}
    with ExitStack() as running, tempfile.TemporaryDirectory() as scratch:
        servers = {}
        for name in names:
            kind = type(name, (HOSTED[name],), {"base": Path(model.model).name})
            more = {"slow": CREATING} if name == "azure" else {}
            servers[name] = running.enter_context(kind(engine, trains=trains, queued=QUEUED, **more))
        file = Path(scratch) / f"{SUITE}_hosted.yaml"
        suite = hosted_suite(base, servers, engine.describe().context)
        file.write_text(yaml.safe_dump(suite, sort_keys=False), encoding="utf-8")
        secrets = {KEY_ENV: next(iter(servers.values())).key, TOKEN_ENV: TOKEN}
        # the money is that of our own server: nobody asks for it
        folder = run(file.stem, file, out, "--yes", env={**os.environ, **secrets})
        for name, server in servers.items():
            if left := [*server.files, *getattr(server, "deployments", ())]:
                raise RuntimeError(f"{name}: left at the server: {', '.join(left)}")
    return folder


def hosted_suite(base: Suite, servers: Mapping[str, FineTuningServer], context: int | None) -> dict[str, Any]:
    """The suite `base` with these servers as its models, and a training at each as its strategies."""
    asked = {key: _weights(base)[key] for key in ("epochs", "batch_size")}
    models, strategies = {}, {}
    for name, server in servers.items():
        models[name] = {
            "model": server.base, "engine": "openai", "base_url": server.url, "api_key_env": KEY_ENV,
            "auth": "api-key" if name == "azure" else "bearer", "price_as": PRICED_AS[name],
            "context": context, "concurrency": 1, "timeout": 600,
        }  # fmt: skip
        weights = {"trainer": name, "wait": 7200, **asked}
        if name == "azure":
            weights["deployment"] = {
                "subscription": "subscription", "resource_group": "group", "resource": "resource",
                "control_url": server.origin, "token_env": TOKEN_ENV,
            }  # fmt: skip
        else:
            weights["price_as"] = PRICED_AS[name].replace("/", "/ft:")
        strategies[name] = {"strategy": "levers", "models": [name], "weights": weights}
    return {
        **yaml.safe_load(base.to_yaml()),
        "suite": f"{SUITE}_hosted",
        "models": models,
        "strategies": strategies,
        "reference": next(iter(strategies)),
        "allow_hosts": ["127.0.0.1"],
        "limits": {"allow_unpriced": True},  # nobody publishes what Azure asks for training gpt-4o-mini
    }


# --- by another system's own command ---------------------------------------------------------


def brought_back(base: Suite, changes: Sequence[str], out: Path) -> Path:
    """Export a training, have the system's own command do it, import the adapter, and run that."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"export-{SYSTEM}-", dir=out))
    told = [word for change in changes for word in ("--set", change)]
    _must("export", SUITE, "--to", SYSTEM, "--strategy", PATTERN, "--device", "cpu", "--out", folder, *told)
    record = json.loads((folder / "breakeven-export.json").read_text(encoding="utf-8"))
    program, *arguments = record["command"]
    if program != "trl":
        raise SystemExit(f"nobody here knows the program {program}")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", _TRL, *arguments], cwd=folder, env={**os.environ, **offline}, check=True
    )
    seconds = time.monotonic() - began
    file = folder / f"{SUITE}_{IMPORTED}.yaml"
    cost = ("--seconds", f"{seconds:.1f}", "--hardware", base.economics.hardware)
    into = ("--export", folder, "--into", file, "--name", IMPORTED)
    _must("import-adapter", folder / record["adapter"], *into, *cost)
    whole = yaml.safe_load(base.to_yaml())
    made = yaml.safe_load(file.read_text(encoding="utf-8"))
    made["strategies"] = {IMPORTED: made["strategies"][IMPORTED]}
    made |= {key: whole[key] for key in ("seeds", "timing", "economics")}
    file.write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    return run(file.stem, file, out)


def _weights(base: Suite) -> Mapping[str, Any]:
    weights: Mapping[str, Any] = base.strategies[PATTERN].settings["weights"]
    return weights


def _must(*words: str | Path) -> None:
    if code := _breakeven(*words):
        raise SystemExit(f"breakeven {words[0]} ended with code {code}")


def _breakeven(*words: str | Path, env: Mapping[str, str] | None = None) -> int:
    return subprocess.run(
        [sys.executable, "-c", _BREAKEVEN, *map(str, words)], check=False, env=env
    ).returncode
