"""`breakeven retrieval`: how well a suite's strategies find the document that answers, without a model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from breakeven.harness import formats, plan, run_tasks, suite
from breakeven.harness import run as runs
from breakeven.harness.cli.tables import WIDE, room
from breakeven.harness.contracts import Input, Json, Retrieving, Services, Task
from breakeven.harness.embedding import language_warning
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Ledger
from breakeven.harness.retrieved import DEPTH, MEASURES, Stage, difference, stages_of
from breakeven.harness.store import ArtifactStore, write_text
from breakeven.harness.suite import Suite

#: What strategies are compared by.
COMPARED = ("recall@1", "MRR@10", "nDCG@10")


@dataclass(frozen=True, slots=True)
class Line:
    """A strategy's stages on one task, and what finding took. Seconds are None where nobody measured them."""

    task: str
    strategy: str
    stages: tuple[Stage, ...]
    index_seconds: float | None
    ms_a_question: float | None
    remarks: tuple[str, ...] = ()

    @property
    def last(self) -> Stage:
        return self.stages[-1]


@dataclass(frozen=True, slots=True)
class Found:
    """All strategies that retrieve, and sentences on those that do not or that want a warning."""

    lines: tuple[Line, ...]
    groups: Mapping[str, tuple[str | None, ...]]
    remarks: tuple[str, ...]


def retrieval(
    suite_name: str, changes: Sequence[str], limit: int | None, format: str, save: Path | None
) -> None:
    """Print the numbers of every stage, and write them to `save` if given (by its suffix .md or .json)."""
    if format not in ("text", "md", "json"):
        raise UserError(f"'{format}' is no format", field="--format", hint="one of text, md, json")
    if save is not None and save.suffix not in (".md", ".json"):
        raise UserError("ends neither in .md nor in .json", file=save, field="--save")
    runs.offline_by_default()
    found = measure(suite.load(suite.find(suite_name), changes), limit)
    console = Console(soft_wrap=True)
    if format == "text":
        show(console, found)
    else:
        console.print(markdown(found) if format == "md" else as_json(found), markup=False, highlight=False)
    if save is not None:
        write_text(save, markdown(found) if save.suffix == ".md" else as_json(found))


def measure(chosen: Suite, limit: int | None = None) -> Found:
    """Looks up every test question with every strategy that retrieves.

    Raises:
        UserError: when no task says which document answers, or no strategy retrieves.
    """
    from breakeven.harness.embedding import SentenceEmbedder

    lines: list[Line] = []
    remarks: list[str] = []
    groups: dict[str, tuple[str | None, ...]] = {}
    tasks = run_tasks.load_tasks(chosen, limit)
    for name, task in tasks.items():
        if not plan.says_which_document(task) or any(e.group is None for e in task.test):
            remarks.append(f"{name}: left out, its examples do not say which document answers")
            continue
        groups[name] = tuple(e.group for e in task.test)
        texts = {
            "documents": [d.text for d in task.documents],
            "questions": [" ".join(_strings(list(e.input.values()))) for e in task.test],
        }
        if warning := language_warning(SentenceEmbedder().name, task.language, texts):
            remarks.append(f"{name}: {warning}")
        for strategy, entry in chosen.strategies.items():
            elsewhere = entry.tasks is not None and name not in entry.tasks
            if elsewhere or not entry.settings.get("context"):
                continue
            made = plan.make_strategy(strategy, entry.strategy, entry.settings)
            if not isinstance(made, Retrieving):
                continue
            try:
                lines.append(_line(name, strategy, made, task))
            except NotApplicable as error:
                remarks.append(f"{strategy} on {name}: {error.reason}")
                continue
            remarks += (f"{strategy} on {name}: {remark}" for remark in lines[-1].remarks)
    if not lines:
        raise UserError(
            "no strategy of this suite retrieves on a task that says which document answers",
            hint="give a strategy a `context`, and the examples the id of their document as `group`",
        )
    return Found(tuple(lines), groups, tuple(remarks))


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value if isinstance(value, list) else value.values():
            yield from _strings(part)


def _line(name: str, strategy: str, made: Retrieving, task: Task) -> Line:
    from breakeven.harness.embedding import SentenceEmbedder

    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="breakeven-") as folder:
        services = Services(
            seed=0,
            ledger=ledger,
            scratch=Path(folder),
            artifacts=ArtifactStore(Path(folder) / "artifacts", ledger),
            embedder=lambda: SentenceEmbedder(ledger),
        )
        found = made.retrieve(task.brief, [Input(e.id, e.input) for e in task.test], services)
        served, indexed = (ledger.total("seconds", phase).value for phase in ("serve", "index"))
        remarks = getattr(made, "retrieval_remarks", None)
        return Line(
            name,
            strategy,
            stages_of(found, [str(e.group) for e in task.test]),
            indexed,
            None if served is None else 1000 * served / len(task.test),
            tuple(remarks(task.brief, services)) if remarks is not None else (),
        )


# --- shown -----------------------------------------------------------------------------------


#: What a narrow terminal goes without, the first first; a figure is never cut short.
SPARED = ("recall@5", "recall@3", "index s", "ms a question", "recall@10", f"nDCG@{DEPTH}", f"MRR@{DEPTH}")


def show(console: Console, found: Found) -> None:
    """Tables; columns that a terminal has no room for are named below."""
    room(console)
    wide = console.options.update(width=WIDE)
    spared: dict[str, None] = {}
    for task, groups in found.groups.items():
        console.print(_head(task, groups), style="bold", highlight=False)
        for heads, rows in (_stage_table(found, task), _difference_table(found, task)):
            if not rows:
                continue
            gone: tuple[str, ...] = ()
            table = _drawn(heads, rows, gone)
            for head in (h for h in SPARED if h in heads):
                if Measurement.get(console, wide, table).maximum <= console.width:
                    break
                gone = (*gone, head)
                table = _drawn(heads, rows, gone)
            spared |= dict.fromkeys(gone)
            console.print(table)
    if spared:
        said = f"no room on this terminal for {', '.join(spared)}: a wider one has them, and --format json"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    for remark in found.remarks:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)


def _drawn(heads: Sequence[str], rows: Sequence[Sequence[str]], without: Sequence[str]) -> Table:
    """Figures with their intervals below them."""
    kept = [i for i, head in enumerate(heads) if head not in without]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for i in kept:
        name = i < 2
        table.add_column(heads[i], justify="left" if name else "right", no_wrap=not name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[i] if i < 2 else row[i].replace(" (", "\n(")) for i in kept))
    return table


def markdown(found: Found) -> str:
    """For documents: without the seconds, which are those of this machine at this moment."""
    lines: list[str] = []
    for task, groups in found.groups.items():
        lines += [f"**{_head(task, groups)}**", ""]
        for heads, rows in (_stage_table(found, task, timed=False), _difference_table(found, task)):
            if rows:
                lines += [_row(heads), _row(["---", "---", *["--:"] * (len(heads) - 2)])]
                lines += [*(_row(row) for row in rows), ""]
    lines += [f"- {remark}" for remark in found.remarks]
    return "\n".join(lines).rstrip() + "\n"


def as_json(found: Found) -> str:
    rows = []
    for line in found.lines:
        groups = found.groups[line.task]
        for stage in line.stages:
            numbers = {m: stage.measured(m, groups) for m in MEASURES}
            rows.append(
                {
                    "task": line.task,
                    "strategy": line.strategy,
                    "stage": stage.name,
                    "questions": len(stage.ranks),
                    **{m: [x.value, x.interval.low, x.interval.high] for m, x in numbers.items()},
                    "ranks": list(stage.ranks),
                    "index_seconds": line.index_seconds if stage is line.last else None,
                    "ms_a_question": line.ms_a_question if stage is line.last else None,
                }
            )
    return json.dumps({"stages": rows, "remarks": list(found.remarks)}, indent=1) + "\n"


def _head(task: str, groups: Sequence[str | None]) -> str:
    return f"{task}: {len(groups):,} questions about {len(set(groups)):,} documents"


def _stage_table(found: Found, task: str, timed: bool = True) -> tuple[list[str], list[list[str]]]:
    heads = ["strategy", "stage", *MEASURES, *(["index s", "ms a question"] if timed else [])]
    rows = []
    for line in (x for x in found.lines if x.task == task):
        for number, stage in enumerate(line.stages):
            cells = [line.strategy if number == 0 else "", stage.name]
            for measure in MEASURES:
                x = stage.measured(measure, found.groups[task])
                cells.append(f"{x.value:.3f} ({x.interval.low:.3f}-{x.interval.high:.3f})")
            took = [_plain(line.index_seconds, ".1f"), _plain(line.ms_a_question, ".1f")]
            rows.append([*cells, *((took if stage is line.last else ["", ""]) if timed else [])])
    return heads, rows


def _difference_table(found: Found, task: str) -> tuple[list[str], list[list[str]]]:
    """What the last stage of each strategy is against that of the first."""
    lines = [x for x in found.lines if x.task == task]
    heads = ["difference", "", *COMPARED]
    return heads, [list(_against(line, lines[0], found.groups[task])) for line in lines[1:]]


def _against(line: Line, first: Line, groups: Sequence[str | None]) -> Iterator[str]:
    yield line.strategy
    yield f"- {first.strategy}"
    for measure in COMPARED:
        d = difference(line.last, first.last, measure, groups)
        yield f"{d.value:+.3f} ({d.interval.low:+.3f} to {d.interval.high:+.3f})"


def _plain(value: float | None, how: str) -> str:
    return formats.UNKNOWN if value is None else f"{value:{how}}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
