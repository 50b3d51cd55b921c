"""Everything a run found as one JSON document, for programs.

Top level: `format` ("breakeven-report/1"), `run`, `info` (run.json: versions, hardware, models), `suite`,
`reference`, `currency`, `prices`, `probes` (those that priced seconds come from; latencies are always the
run's own), `predicted` (an estimate beside what was taken, null without one), `unknown` and `lost`
(sentences), and `tasks`, by name. A task has its data's facts; `verdict`: the decision in words (`text`,
`basis`, lists of sentences) and numbers, strategies by label; `rows`: the result table as `csv` writes it;
`levers`: each lever's effect by paired difference; `learning`: quality by training size, who overtakes whom,
what more labels bring (null with one size only); `side_effects`: what tuning did to other tasks, before and
after, as far as `breakeven transfer` measured it; `cells`: scores, settings, timing, training and the ledger
by phase and quantity; and `examples`, each with its `outputs` by cell id. Unknown is null, nothing is
rounded, units are in the names.
"""

from __future__ import annotations

import json as writer
import math
from typing import Any

from breakeven.harness.results import Results
from breakeven.reports import _summary

FORMAT = "breakeven-report/1"


def json(results: Results, *, examples: bool = True) -> str:
    """The document; without `examples` it holds no text of the test data and no outputs."""
    found = _summary.run_facts(results)
    if examples:
        for name, task in found["tasks"].items():
            task["examples"] = _summary.examples(results, name)
    whole = _finite(_summary.cleaned({"format": FORMAT, **found}))
    return writer.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
