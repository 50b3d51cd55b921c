"""The report as one self-contained HTML file: opened from disk, no network, no library.

The page is `templates/report.html` over the views of `_view`. Verdict, tables and figures are there without
its script, which decides again when a reader turns a knob, and filters and pages the examples. A content
security policy forbids everything but the page's own style and script, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from breakeven.harness import deployments, probed
from breakeven.harness import formats as f
from breakeven.harness.evidence import Name
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import DONE, FOLD, Results
from breakeven.harness.wording import RULE
from breakeven.reports import _examples, _predicted, _provenance
from breakeven.reports._rows import standing
from breakeven.reports._view import STANDING_SIGNS, STANDING_WORDS, TaskView, view

TEMPLATES = Path(__file__).with_name("templates")
#: The page's script, in this order; the last part only where examples are shown.
SCRIPTS = ("decision.js", "flips.js", "wording.js", "figures.js", "verdict.js")
#: Examples of each task that are shown without JavaScript.
STATIC_EXAMPLES = 10


def html(results: Results, *, examples: bool = True) -> str:
    """The page. Without `examples` it holds no text of the test data and no outputs."""
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    parts = (*SCRIPTS, "examples.js") if examples else SCRIPTS
    script = Markup("\n").join(Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in parts)
    tasks = [view(results, name) for name in results.tasks]
    page = _environment().get_template("report.html")
    return page.render(
        results=results,
        title=_title(results),
        asked=_asked(results),
        when=f.date(str(results.info.get("finished") or results.info.get("created") or "")[:10]),
        changed=results.changes,
        probe=f.clean(probed.said(results.probes)) if results.probes else "",
        latency=f.clean(f"Here {probed.latencies(results)}.") if results.probes else "",
        rule=RULE,
        description=f.clean(str(results.suite.get("description") or "")),
        priced_seconds=_priced_seconds(results),
        unfinished=_unfinished(results),
        alarms=[f.clean(a) for a in alarms(results)],
        tasks=tasks,
        overview=_overview(results, tasks),
        style=style,
        script=script,
        policy=_policy(style, script),
        examples=[_examples.embedded(results, t.name, i) for i, t in enumerate(tasks)] if examples else [],
        static={t.name: list(_examples.static(results, t.name, STATIC_EXAMPLES)) for t in tasks}
        if examples
        else {},
        predicted=_predicted.view(results),
        predicted_quantities=_predicted.QUANTITIES,
        provenance=_provenance,
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["name"] = lambda part: isinstance(part, Name)
    environment.filters["clean"] = lambda value: f.plain(value)
    environment.filters["breakable"] = _breakable
    environment.filters["plural"] = f.plural
    environment.globals.update(standing_words=STANDING_WORDS, standing_signs=STANDING_SIGNS)
    return environment


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded or sent; the page's own style and script run by their hashes."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _title(results: Results) -> str:
    use_case = results.economics.use_case
    return f.clean(use_case) if use_case else "Prompt, retrieve or fine-tune?"


def _asked(results: Results) -> str:
    """What was compared, in one sentence."""
    strategies = len({c.strategy for c in results.cells.values()})
    cards = (results.info.get("models") or {}).values()
    models = list(dict.fromkeys(str(c.get("name", "?")) for c in cards))
    sizes = [len(t.test) for t in results.tasks.values()]
    seeds = results.suite.get("seeds") or []
    with_model = f" with {f.names(models)}" if models else ""
    tasks = f"on {f.plural(len(sizes), 'task')}, " if len(sizes) > 1 else ""
    return f.clean(
        f"{f.plural(strategies, 'strategy', 'strategies')}{with_model} {tasks}on the same "
        f"{f.plural(sum(sizes), 'test example')} for all, {f.plural(max(len(seeds), 1), 'seed')}."
    )


def _priced_seconds(results: Results) -> str:
    """How a request is priced whose tokens nobody bills."""
    economics = results.economics
    passes = [(c.timing or {}).get("concurrent") for c in results.cells.values()]
    concurrency = {p["concurrency"] for p in passes if p}
    if not concurrency:
        return ""
    machine, used = f.clean(Pricing(results).machine_name), f.share(economics.utilisation)
    by = f", by {f.clean(probed.said(results.probes))} as far as it knows them" if results.probes else ""
    return (
        f"Where nobody bills tokens, a request costs its seconds{by}, "
        f"{f.plural(max(concurrency), 'request')} at once, on {machine} used {used} of the time."
    )


def alarms(results: Results) -> list[str]:
    """Deployments that are still billed, a sentence each."""
    return deployments.alarms(results.folder, Pricing(results).book)


def _unfinished(results: Results) -> str:
    open_cells = [c for c in results.cells.values() if c.state not in (DONE, "failed", "not-applicable")]
    asked = {FOLD.sub("", c) for c in results.info.get("asked") or results.info.get("cells") or results.cells}
    missing = len(open_cells) + len(asked - results.cells.keys())
    if not missing:
        return ""
    planned = f.plural(len(asked | results.cells.keys()), "cell")
    return f"This run is not finished: {missing} of {planned} have no result yet."


def _breakable(value: object) -> Markup:
    """A name that may be broken after its underscores and plus signs."""
    return Markup(re.sub("([_+])", r"\1<wbr>", str(escape(f.clean(str(value))))))


def _overview(results: Results, tasks: list[TaskView]) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Strategy x task: (quality or state, standing, best), in the suite's order; nothing for one task."""
    if len(tasks) < 2:
        return []
    cells: dict[str, dict[str, tuple[str, str, bool]]] = {}
    for t in tasks:
        shown = {line.label: line for line in t.rows}
        for row in results.tables[t.name]:
            label = f.clean(row.label)
            if label in shown:
                found = shown[label].quality, standing(row, t.task.primary), shown[label].is_best
            else:
                found = "n/a" if row.state == "not-applicable" else row.state, "none", False
            cells.setdefault(label, {})[t.name] = found
    return [(label, [of.get(t.name, (f.DASH, "none", False)) for t in tasks]) for label, of in cells.items()]
