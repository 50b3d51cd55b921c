"""The result tables as JUnit XML, for a build server: a test case for each task and strategy.

A case fails when a cell of its strategy failed or was never finished, and when its quality misses the suite's
`economics.quality_floor`; what does not apply, or waits for a hosted job, is skipped. Write it with
`breakeven report RUN --format junit -o junit.xml`. What changed between two runs is `breakeven compare`'s.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as xml

from breakeven.harness import formats as f
from breakeven.harness.results import DONE, MetricInfo, Results, Row
from breakeven.reports._summary import row_facts

#: Characters that XML 1.0 cannot hold, not even escaped; `_format.clean` leaves only these of them.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SKIPPED = ("not-applicable", "pending")
#: Columns of the CSV report that each case carries as properties, where they are known.
PROPERTIES = (
    "metric",
    "quality",
    "quality_low",
    "quality_high",
    "difference",
    "currency",
    "cost_per_1000_requests",
    "one_off_cost",
    "latency_p95_seconds",
)


def junit(results: Results, *, examples: bool = True) -> str:
    """The document. Examples are no part of it."""
    root = xml.Element("testsuites", name=_text(results.name))
    floor = (results.suite.get("economics") or {}).get("quality_floor")
    for task, rows in results.tables.items():
        suite = xml.SubElement(root, "testsuite", name=_text(task))
        for row in rows:
            _case(suite, results, task, row, floor)
        _count(suite)
    _count(root)
    xml.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.tostring(root, encoding="unicode")}\n'


def _case(suite: xml.Element, results: Results, task: str, row: Row, floor: float | None) -> None:
    case = xml.SubElement(suite, "testcase", classname=_text(f"{results.name}.{task}"), name=_text(row.label))
    seconds = _seconds(row)
    if seconds is not None:
        case.set("time", f"{seconds:.3f}")
    properties = xml.SubElement(case, "properties")
    for name, value in row_facts(results, task, row).items():
        if name in PROPERTIES and value is not None:
            xml.SubElement(properties, "property", name=name, value=_text(str(value)))
    failures = list(_failures(row, results.tasks[task].primary, floor))
    for kind, message in failures:
        xml.SubElement(case, "failure", type=kind, message=_text(message))
    if not failures and row.state in SKIPPED:
        xml.SubElement(case, "skipped", message=_text(f"{row.state}: {row.reason}"))


def _failures(row: Row, metric: MetricInfo, floor: float | None) -> list[tuple[str, str]]:
    """(type, message) for each way in which a row fails; one message for its cells, one for its quality."""
    broken = [c for c in row.cells if c.state not in (DONE, *SKIPPED)]
    found = []
    if broken:
        said = "; ".join(f"{c.id} {c.state}{f': {c.reason}' if c.reason else ''}" for c in broken)
        found.append(("cell", said))
    if floor is not None and row.quality is not None:
        missed = row.quality < floor if metric.higher_is_better else row.quality > floor
        if missed:
            side = "below the floor" if metric.higher_is_better else "above the ceiling"
            message = (
                f"{metric.name} {f.quality(row.quality, metric)} is {side} of {f.quality(floor, metric)}"
            )
            found.append(("quality", message))
    return found


def _seconds(row: Row) -> float | None:
    """Seconds that the row's finished cells spent, as far as the ledger knows."""
    totals = [c.ledger.total("seconds").value for c in row.cells if c.state == DONE]
    return sum(t for t in totals if t is not None) if totals and None not in totals else None


def _count(parent: xml.Element) -> None:
    """The totals that readers of JUnit XML expect as attributes."""
    cases = list(parent.iter("testcase"))
    parent.set("tests", str(len(cases)))
    for kind, plural in (("failure", "failures"), ("skipped", "skipped")):
        parent.set(plural, str(sum(case.find(kind) is not None for case in cases)))
    parent.set("errors", "0")


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", f.clean(text))
