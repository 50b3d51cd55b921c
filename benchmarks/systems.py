"""Every trainer on the same recipes: one table, from real runs.

    python benchmarks/systems.py --write docs/trainers.md

makes the runs (half an hour on two cores; a system's environment is made on first use) and writes the
table: the suite `systems`, the hosted trainers at a server of our own, and a training that is exported, done
by another system's own command, and brought back. Given folders of such runs, it reads those instead, each
strategy from the first that has done it. A system that cannot work here has a row too, with the reason.
"""

from __future__ import annotations

import argparse
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import _systems_runs
from _systems_runs import HOSTED, IMPORTED, SUITE

from breakeven.baselines.trainers._systems import SYSTEMS, system
from breakeven.harness import costs, deployments, registry, results, store
from breakeven.harness import suite as suites
from breakeven.harness.cli.doctor import trainers
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import CellResult, Results, Row

TASK = "recipe_ingredients"
COLUMNS = (
    "system", "version", "trained here", "rows (train, test)", "training, s", "process, s", "tokens",
    "last loss", "set F1", "cut off", "one-off", "per 1,000 requests",
)  # fmt: skip


def lines(runs: Sequence[Results]) -> Iterator[str]:
    """The table: strategies in their order, then the trainers that no run has, then what is exported only."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    rows: dict[str, tuple[Results, Row]] = {}
    for found in runs:
        for row in found.tables[TASK]:
            if row.strategy not in rows or rows[row.strategy][1].quality is None:
                rows[row.strategy] = found, row
    order = [*suites.load(suites.find(SUITE)).strategies, *HOSTED, IMPORTED]
    for name in sorted(rows, key=lambda name: order.index(name) if name in order else len(order)):
        yield _line(_of_run(*rows[name]))
    here = trainers()
    for name in (name for name in here if name not in rows):
        why = here[name].why_not or "not in these runs"
        yield _line([name, here[name].what.partition(",")[0] or "?", f"no: {why}", *["-"] * 9])
    for name in SYSTEMS:
        if name not in here:
            version = f"{name} {system(name).VERSION}"
            why = f"no: by export only, `breakeven export --to {name}`"
            yield _line([name, version, why, *["-"] * 9])


def _of_run(found: Results, row: Row) -> list[str]:
    training = next((cell.training for cell in row.cells if cell.training), None) or {}
    settings, tested = training.get("settings", {}), len(found.tasks[TASK].test)
    version = str(settings.get("system") or _version(found, row, training))
    if row.quality is None:
        return [row.strategy, version, f"no: {row.reason}", *["-"] * 9]
    answered = [_quality(row), _cut_off(row), *_money(found, row)]
    if not training:
        return [row.strategy, "-", "-", f"0, {tested}", *["-"] * 4, *answered]
    return [
        row.strategy,
        version,
        _where(found, row, training),
        f"{training['examples']}, {tested}",
        f"{training['seconds']:.0f}" if training["seconds"] is not None else "?",
        f"{settings['process_seconds']:.0f}" if "process_seconds" in settings else "-",
        f"{training['training_tokens']:,}" if training["training_tokens"] is not None else "?",
        f"{training['losses'][-1][1]:.2f}" if training["losses"] else "not told",
        *answered,
    ]


def _version(found: Results, row: Row, training: dict[str, object]) -> str:
    """Of the system, or of the client that asked it; of the run where that says so."""
    versions = found.info.get("versions", {})
    package = str(training.get("imported_from") or ("openai" if row.strategy in HOSTED else row.strategy))
    if package in versions:
        client = " (its client)" if row.strategy in HOSTED else ""
        plans = [deployments.Plan.of(r["plan"]) for r in _deployed(found, row)]
        control = f", deployments API {plans[0].api_version}" if plans else ""
        return f"{package} {versions[package]}{client}{control}"
    if row.strategy in registry.providers("trainers"):
        return trainers()[row.strategy].what.partition(",")[0] or "?"
    return "-"


def _where(found: Results, row: Row, training: dict[str, object]) -> str:
    """Where a training was done, by what the run recorded."""
    if "imported_from" in training:
        return f"yes: exported, trained by {training['imported_from']}'s own command, imported"
    host = str(training.get("host") or "")
    if not host:
        return "yes"
    if host.rpartition(":")[0] not in ("127.0.0.1", "localhost"):
        return f"no: at {host}"
    said = "yes, at a server of our own with its protocol"
    if rows := _deployed(found, row):
        gone = sum(r["deleted"] is not None for r in rows)
        said += f"; deployments made there: {len(rows)}, deleted: {gone}"
    return f"{said}; not at the provider"


def _deployed(found: Results, row: Row) -> list[dict[str, object]]:
    """What the run notes of the deployments that this strategy's cells asked for."""
    ids = {cell.id for cell in row.cells}
    noted: list[dict[str, object]] = store.read_json(found.folder / deployments.FILE, [])
    return [r for r in noted if str(r["owner"]).partition("/")[0] in ids]


def _quality(row: Row) -> str:
    low_high = f" ({row.interval.low:.2f} to {row.interval.high:.2f})" if row.interval else ""
    return f"{row.quality:.2f}{low_high}"


def _cut_off(row: Row) -> str:
    """How many answers had not ended where the task's limit of tokens was reached."""
    said = [p for cell in row.cells for p in cell.predictions]
    return f"{sum(p.finish_reason == 'length' for p in said)} of {len(said)}"


def _money(found: Results, row: Row) -> list[str]:
    """One-off and per 1,000 requests, with a deployment's hours, and as whose tokens they were priced."""
    pricing = Pricing(found)
    name = pricing.hosted(row.cells[0])
    priced = f", priced as {name}" if name else ""
    one_off, each = (
        "unknown" if cost.value is None else f"{cost.value:.{places}f} {found.currency}{priced}"
        for cost, places in ((row.one_off, 5), (row.cost_per_1000, 3))
    )
    hour = pricing.deployment_name(row.strategy, row.cells)
    if hour is not None:
        month = costs.hosting_cost(pricing.deployment_of(hour)).value
        each += " and " + ("an unknown amount" if month is None else f"{month:,.0f} {found.currency}")
        each += " a month for the deployment"
    return [one_off, each]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def energy(runs: Sequence[Results]) -> str:
    """What the ledgers say of the joules of each training: an amount and its meter, or why there is none."""
    said: dict[str, list[str]] = {}
    for found in runs:
        for cell in found.cells_of(TASK):
            if cell.training:
                said.setdefault(_joules(cell), []).append(cell.strategy)
    return (
        "Energy of training: " + "; ".join(f"{what} ({', '.join(who)})" for what, who in said.items()) + "."
    )


def _joules(cell: CellResult) -> str:
    entries = list(cell.ledger.select("train", "joules"))
    total = cell.ledger.total("joules", "train").value if entries else None
    sources = " and ".join(dict.fromkeys(entry.source for entry in entries)) or "not booked"
    return sources if total is None else f"{total:,.0f} J by {sources}"


def made_with(found: Results) -> str:
    """Where and with what the run was made, from its own record."""
    machine = found.info.get("hardware") or {}
    where = f"{machine.get('cpu', platform.processor())}, {machine.get('physical_cores', '?')} cores"
    task = found.tasks[TASK]
    sizes = f"{task.sizes.get('train', 0)} training and {len(task.test)} test examples"
    return f"{where}; {sizes}, one epoch, one seed; {found.name}, {str(found.info.get('created', ''))[:10]}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="finished runs to read; made unless given")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where new runs go")
    parser.add_argument("--only", action="append", default=[], help="run these strategies alone; repeatable")
    parser.add_argument("--set", action="append", default=[], help="change the suite, as in `breakeven run`")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the table into")
    given = parser.parse_args()
    folders = given.runs or _systems_runs.made(given.out, given.set, given.only)
    runs = [results.load(folder) for folder in folders]
    if not runs:
        parser.error(f"no strategy is called {' or '.join(given.only)}")
    table = [*lines(runs), "", energy(runs), "", *dict.fromkeys(made_with(found) for found in runs)]
    print("\n".join(table))
    if given.write:
        made = "\n".join(["<!-- systems -->", *table, "<!-- /systems -->"])
        text = given.write.read_text(encoding="utf-8")
        given.write.write_text(
            re.sub(r"<!-- systems -->.*<!-- /systems -->", lambda _: made, text, flags=re.DOTALL),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
