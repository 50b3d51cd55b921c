"""The program itself: help, a finished suite run again, the report of 100,000 predictions.

    python benchmarks/program.py runs/quickstart-1 --against COMMIT --write docs/speed.md

Each case is a process of its own, timed from outside. With `--against` the same is done with the program as
it was at a commit, in turns with ours; the ratio is that of the medians. The floor is what a process cannot
do without: the interpreter's start and, for the report, reading the predictions as JSON. The run given is
copied; every side has its own copy, and one unmeasured turn, as everything cached lies in its cache.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import big_run

from breakeven.harness import hardware, store

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("harness", "baselines", "tasks", "reports")
CALL = "from breakeven.harness.cli import main; main()"
PARSE = "import json, pathlib, sys; [json.loads(line) for f in pathlib.Path(sys.argv[1]).glob('cells/*/predictions.jsonl') for line in f.open()]"  # fmt: skip # noqa: E501
#: A cell that is begun in a finished run: then it is not the finished run that is timed.
BEGUN = "[1/"
LONGEST = 120.0


@dataclass(frozen=True)
class Turn:
    """One process: wall and processor seconds, and the most bytes that it held."""

    seconds: float
    computing: float
    peak: int


@dataclass(frozen=True)
class Case:
    """A line of the table; `before` is empty where nothing is compared with."""

    name: str
    wanted: float
    ours: Sequence[Turn]
    before: Sequence[Turn]
    floor: Sequence[Turn]


def turn(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Turn:
    """Run a process to its end. Raises SystemExit when it fails, takes too long or computes cells."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
        status, used = _waited(process, start)
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read().decode(errors="replace")
    if status != 0 or BEGUN in text:
        raise SystemExit(f"{' '.join(command)} did not do what is measured:\n{text[-2000:]}")
    return Turn(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def _waited(process: subprocess.Popen[bytes], start: float) -> tuple[int, "os._Resources"]:  # noqa: UP037
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used
        if time.perf_counter() - start > LONGEST:
            process.kill()
        time.sleep(0.001)


def program(source: Path, links: Path) -> Callable[..., Turn]:
    """`program(...)("run", "--help")`: the command line of the sources in a folder."""
    package = links / "breakeven"
    package.mkdir(parents=True)
    for folder in FOLDERS:
        (package / folder).symlink_to(source / folder)
    environment = {**os.environ, "PYTHONPATH": str(links)}

    def call(*arguments: object) -> Turn:
        return turn([sys.executable, "-c", CALL, *map(str, arguments)], environment)

    return call


@dataclass(frozen=True)
class Command:
    """What is timed: its arguments for a side, and those of the bare interpreter that it cannot go below."""

    name: str
    wanted: float
    arguments: Callable[[str], Sequence[object]]
    floor: Sequence[str] = ("-c", "pass")


def commands(run: Path, big: Path, sides: Iterable[str]) -> Iterator[Command]:
    """Help twice, the run again, the report; every side runs a copy of `run` of its own."""
    copies = {side: Path(shutil.copytree(run, big.parent / f"again-{side}")) for side in sides}
    report = big.parent / "report.html"
    predictions = sum(len(store.read_rows(file)) for file in big.glob("cells/*/predictions.jsonl"))
    again = f"`breakeven run --resume`, {run.name} finished"
    yield Command("`breakeven --help`", 0.3, lambda side: ["--help"])
    yield Command("`breakeven run --help`", 0.3, lambda side: ["run", "--help"])
    yield Command(again, 3.0, lambda side: ["run", "--resume", copies[side]])
    yield Command(
        f"`breakeven report`, {predictions:,} predictions",
        5.0,
        lambda side: ["report", big, "-o", report],
        ("-c", PARSE, str(big)),
    )


def measured(command: Command, sides: Mapping[str, Callable[..., Turn]], rounds: int) -> Case:
    """A command in turns; `sides` are "ours" and perhaps "before". The first turn of each does not count."""
    turns: dict[str, list[Turn]] = {side: [] for side in ("ours", "before", "floor")}
    for number in range(rounds + 1):
        taken = {side: call(*command.arguments(side)) for side, call in sides.items()}
        taken["floor"] = turn([sys.executable, *command.floor])
        for side in taken if number else ():
            turns[side].append(taken[side])
    return Case(command.name, command.wanted, turns["ours"], turns["before"], turns["floor"])


def lines(cases: Sequence[Case]) -> Iterator[str]:
    yield "| command | now | before | ratio | wanted | floor | processor, now | peak memory, now |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for c in cases:
        now, floor = (median(t.seconds for t in turns) for turns in (c.ours, c.floor))
        before = median(t.seconds for t in c.before) if c.before else None
        compared = (
            "not measured | not measured" if before is None else f"{before:.2f} s | {before / now:.1f} x"
        )
        yield (
            f"| {c.name} | {now:.2f} s | {compared} | {c.wanted:g} s | {floor:.2f} s "
            f"| {median(t.computing for t in c.ours):.2f} s | {_memory(max(t.peak for t in c.ours))} |"
        )


def _memory(peak: int) -> str:
    """A process counts what this one held when it was started from it, so no less can be told."""
    held = hardware.peak_memory() or 0
    return f"{peak / 1e6:,.0f} MB" if peak > held else f"under {held / 1e6:,.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run, e.g. runs/quickstart-1; it stays as it is")
    parser.add_argument("--big", type=Path, help="a run of benchmarks/big_run.py; made now unless given")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--strategies", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", help="a commit of this repository, measured in turns with ours")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the table into")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        sides = {"ours": program(ROOT, scratch / "links-ours")}
        if given.against:
            sides["before"] = program(_at(given.against, scratch / "before"), scratch / "links-before")
        big = scratch / "big"
        if given.big:
            shutil.copytree(given.big, big)
        else:
            big_run.write(big, given.predictions, given.strategies)
        cases = [measured(c, sides, given.rounds) for c in commands(given.run, big, sides)]
    table = [*lines(cases), "", _made_with(given)]
    print("\n".join(table))
    if given.write:
        head, rest = given.write.read_text(encoding="utf-8").split("<!-- program -->", 1)
        tail = rest.split("<!-- /program -->", 1)[1]
        made = "\n".join(["<!-- program -->", *table, "<!-- /program -->"])
        given.write.write_text(head + made + tail, encoding="utf-8")


def _at(commit: str, folder: Path) -> Path:
    """The program's folders as they were at a commit."""
    folder.mkdir()
    packed = subprocess.run(["git", "-C", ROOT, "archive", commit, *FOLDERS], check=True, capture_output=True)
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


def _made_with(given: argparse.Namespace) -> str:
    machine = f"{hardware.cpu_model()}, {hardware.physical_cores()} cores"
    compared = f"; before: commit {given.against[:7]}" if given.against else ""
    versions = hardware.versions()
    return (
        f"{machine}; Python {platform.python_version()}, numpy {versions['numpy']}{compared}; medians of "
        f"{given.rounds} turns; load of the machine {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    main()
