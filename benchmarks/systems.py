"""Every trainer on the same recipes: one table, from one real run of the suite `systems`.

    python benchmarks/systems.py --write docs/trainers.md

makes the run (minutes; a system's environment is made on first use) and writes the table. Given folders of
runs of that suite, it reads those instead, each strategy from the first that has done it. A trainer that
cannot work here has a row too, with the reason.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from breakeven.harness import registry, results
from breakeven.harness.cli.doctor import trainers
from breakeven.harness.results import Results, Row

SUITE, TASK = "systems", "recipe_ingredients"
COLUMNS = (
    "trainer", "version", "trained here", "rows (train, test)", "training, s", "process, s", "tokens",
    "last loss", "set F1", "one-off", "per 1,000 requests",
)  # fmt: skip


def make_run(out: Path, changes: Sequence[str]) -> Path:
    """Run the suite; returns the folder, also where a cell failed. Ends the program if there is none."""
    main = "from breakeven.harness.cli import main; main()"
    command = [sys.executable, "-c", main, "run", SUITE, "--out", str(out)]
    command += [word for change in changes for word in ("--set", change)]
    before = set(out.glob(f"{SUITE}-*"))
    code = subprocess.run(command, check=False).returncode
    made = sorted(set(out.glob(f"{SUITE}-*")) - before)
    if not made:
        raise SystemExit(f"the run of '{SUITE}' ended with code {code} and left nothing")
    return made[-1]


def lines(runs: Sequence[Results]) -> Iterator[str]:
    """The table: the strategies of the runs, then the trainers that they have none of."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    rows: dict[str, tuple[Results, Row]] = {}
    for found in runs:
        for row in found.tables[TASK]:
            if row.strategy not in rows or rows[row.strategy][1].quality is None:
                rows[row.strategy] = found, row
    for name in runs[0].suite["strategies"]:
        if name in rows:
            yield _line(_of_run(*rows[name]))
    for name, here in trainers().items():
        if name not in rows:
            why = here.why_not or "not in this run"
            yield _line([name, here.what.partition(",")[0] or "?", f"no: {why}", *["-"] * 8])


def _of_run(found: Results, row: Row) -> list[str]:
    training = next((cell.training for cell in row.cells if cell.training), None) or {}
    settings, tested = training.get("settings", {}), len(found.tasks[TASK].test)
    version = settings.get("system") or _version(found, row.strategy)
    if row.quality is None:
        return [row.strategy, version, f"no: {row.reason}", *["-"] * 8]
    if not training:
        return [row.strategy, "-", "-", f"0, {tested}", *["-"] * 4, _quality(row), *_money(found, row)]
    return [
        row.strategy,
        version,
        "yes",
        f"{training['examples']}, {tested}",
        f"{training['seconds']:.0f}",
        f"{settings['process_seconds']:.0f}" if "process_seconds" in settings else "-",
        f"{training['training_tokens']:,}",
        f"{training['losses'][-1][1]:.2f}" if training["losses"] else "?",
        _quality(row),
        *_money(found, row),
    ]


def _version(found: Results, strategy: str) -> str:
    versions = found.info.get("versions", {})
    if strategy in versions:
        return f"{strategy} {versions[strategy]}"
    known = registry.providers("trainers")
    return trainers()[strategy].what.partition(",")[0] if strategy in known else "-"


def _quality(row: Row) -> str:
    low_high = f" ({row.interval.low:.2f} to {row.interval.high:.2f})" if row.interval else ""
    return f"{row.quality:.2f}{low_high}"


def _money(found: Results, row: Row) -> list[str]:
    return [
        "unknown" if cost.value is None else f"{cost.value:.{places}f} {found.currency}"
        for cost, places in ((row.one_off, 5), (row.cost_per_1000, 3))
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def made_with(found: Results) -> str:
    """Where and with what the run was made, from its own record."""
    machine = found.info.get("hardware") or {}
    where = f"{machine.get('cpu', platform.processor())}, {machine.get('physical_cores', '?')} cores"
    task = found.tasks[TASK]
    sizes = f"{task.sizes.get('train', 0)} training and {len(task.test)} test examples"
    return f"{where}; {sizes}, one epoch, one seed; {found.name}, {str(found.info.get('created', ''))[:10]}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "runs", nargs="*", type=Path, help="finished runs of the suite; one is made unless given"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where a new run goes")
    parser.add_argument("--set", action="append", default=[], help="change the suite, as in `breakeven run`")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the table into")
    given = parser.parse_args()
    runs = [results.load(folder) for folder in given.runs or [make_run(given.out, given.set)]]
    table = [*lines(runs), "", *(made_with(found) for found in runs)]
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
