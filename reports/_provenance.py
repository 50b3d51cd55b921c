"""Where the numbers come from: run, machine, models, data and prices behind a report, and what is unknown.

Read from the run folder as it was written; only prices that the run did not copy are looked up again.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from breakeven.harness import formats as f
from breakeven.harness.ledger import PHASES, Amount, Ledger, Quantity
from breakeven.harness.pricing import HERE, Pricing
from breakeven.harness.probe import Probe
from breakeven.harness.results import DONE, CellResult, Results
from breakeven.reports._rows import done, not_done

Facts = tuple[tuple[str, str], ...]

#: Quantities of the ledger table with their heading and unit.
QUANTITIES: tuple[tuple[Quantity, str, str], ...] = (
    ("input_tokens", "tokens in", ""),
    ("output_tokens", "tokens out", ""),
    ("training_tokens", "training tokens", ""),
    ("embedded_tokens", "embedded tokens", ""),
    ("seconds", "time", "s"),
    ("bytes", "peak memory or size", "B"),
    ("money", "billed", ""),
)
Quantities = Sequence[tuple[Quantity, str, str]]
#: Those of the appendix.
EFFORT: tuple[tuple[Quantity, str, str], ...] = (("flops", "FLOPs", ""), ("joules", "energy", "J"))


@dataclass(frozen=True, slots=True)
class PriceUsed:
    """A price that some cost rests on."""

    what: str
    price: str
    date: str
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the economics, given or assumed."""

    name: str
    value: str
    known: str
    what: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """Where the data of a strategy goes, and under which licence its model is."""

    strategy: str
    model: str
    licence: str
    host: str


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of a task's data."""

    task: str
    sizes: str
    duplicates: str
    documents: int
    licence: str
    hash: str
    cut: str


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What one strategy, or the whole run, consumed in one phase; texts in the order of `columns`."""

    who: str
    phase: str
    amounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LedgerTable:
    """The ledger of a task's strategies, or of the run, with the columns that hold anything."""

    columns: tuple[str, ...]
    lines: tuple[LedgerLine, ...]


def run_facts(results: Results) -> Facts:
    """When and how the run was made."""
    info = results.info
    facts = [
        ("run", results.name),
        ("suite", str(info.get("suite") or results.suite.get("suite", ""))),
        ("started", f.date(info.get("created"))),
        ("finished", f.date(info["finished"]) if info.get("finished") else "not yet"),
        ("made by", str(info.get("command") or "")),
        ("seeds", ", ".join(map(str, results.suite.get("seeds") or [])) or "none"),
        ("reference", str(results.info.get("reference") or "")),
        ("preflight", str((info.get("preflight") or {}).get("said") or "")),
        ("trainings given up", "; ".join(map(str, info.get("abandoned") or ()))),
    ]
    return tuple((k, f.clean(v)) for k, v in facts if v)


def preflight(results: Results) -> list[str]:
    """What was warned of before the first training started, a sentence each without its full stop."""
    return [f.clean(str(said)) for said in (results.info.get("preflight") or {}).get("warnings") or ()]


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as (dotted name, text)."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif values is None:
        yield f.clean(prefix), f.UNKNOWN
    elif isinstance(values, int) and not isinstance(values, bool):
        yield f.clean(prefix), f"{values:,}"
    elif isinstance(values, float):
        yield f.clean(prefix), f"{values:,.10g}"
    elif values not in ("", [], {}):
        yield f.clean(prefix), f.plain(values)


def machine(results: Results) -> Facts:
    """What the run was made on; sizes in bytes are made readable."""
    facts = []
    for key, value in (results.info.get("hardware") or {}).items():
        name = f.clean(key.replace("_", " "))
        if key.endswith("_bytes") and isinstance(value, int | float):
            facts.append((name.removesuffix(" bytes"), f.large(value, "B")))
        elif value in (None, "", [], {}):
            facts.append((name, "none"))
        elif isinstance(value, list | Mapping):
            items = value if isinstance(value, list) else [value]
            facts.append(
                (name, "\n".join(", ".join(f"{k}: {v}" for k, v in flat(i)) or f.plain(i) for i in items))
            )
        else:
            facts.append((name, f.plain(value)))
    return tuple(facts)


def economics(results: Results) -> list[Setting]:
    """What the decision was told of the deployment, with what nobody gave."""
    return [
        Setting(
            name,
            _setting(value),
            "not given" if value in (None, "", [], {}) else "assumed" if assumed else "given",
            what,
        )
        for name, value, assumed, what in results.economics.settings()
    ]


def _setting(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return f.DASH
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(f"{k}: {v}" if k else v for k, v in flat(value))


def models(results: Results) -> list[tuple[str, Facts]]:
    """The card of every model, and how often it said the same again; what a card leaves open is unknown."""
    cards = results.info.get("models") or {}
    return [
        (f.clean(str(name)), (*_card(card), *_said_again(results, str(name)))) for name, card in cards.items()
    ]


def _said_again(results: Results, model: str) -> Iterator[tuple[str, str]]:
    """How many texts did not depend on the batch they were written in, as far as the timing passes tell."""
    cells = [c for c in results.cells.values() if c.model == model and c.state == DONE]
    for key, name, between in (
        ("batch_of_one", "asked one by one", "the batch-of-one pass and the batched pass"),
        ("concurrent", "asked together", "the pass of several at once and the batch-of-one pass"),
    ):
        counted = [p for c in cells if "equal" in (p := (c.timing or {}).get(key) or {})]
        if counted:
            equal, texts = sum(p["equal"] for p in counted), sum(p["n"] for p in counted)
            yield name, f"{equal:,} of {f.plural(texts, 'text')} equal between {between}"


def _card(card: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in card.items():
        name = key.replace("_", " ")
        if value is None:
            yield name, f.UNKNOWN
        elif value == "":
            continue
        elif isinstance(value, int) and not isinstance(value, bool):
            yield name, f"{value:,}"
        else:
            yield name, f.plain(value)


def probes(results: Results) -> list[tuple[str, Facts]]:
    """(model, what was measured where, when and with what) of every probe that seconds come from."""
    return [(f.clean(p.model), tuple((k, f.clean(v)) for k, v in _probe(p))) for p in results.probes]


def _probe(probe: Probe) -> Iterator[tuple[str, str]]:
    yield "machine", f"{probe.machine or 'not named'} ({probe.machine_name})"
    yield "measured", f.date(probe.created)
    yield "model", f"{probe.dtype} on {probe.device}, digest {probe.digest}"
    yield "reads", f"{probe.reading:,.0f} tokens/s"
    for together, rate in probe.writing.items():
        yield f"writes, {f.plural(together, 'request')} at once", f"{rate:,.0f} tokens/s"
    yield "trains", f"{probe.training:,.0f} tokens/s" if probe.training is not None else "not measured"
    embeds = f"{probe.embedding:,.0f} tokens/s ({probe.embedder})" if probe.embedding is not None else ""
    yield "embeds", embeds or "not measured"
    yield "versions", ", ".join(f"{name} {version}" for name, version in probe.versions.items())


def exposure(results: Results) -> list[Exposure]:
    """A line for each strategy and model of the run."""
    cards = results.info.get("models") or {}
    found = {}
    for cell in results.cells.values():
        card = cell.served or cards.get(cell.model or "", {})
        host = str(card.get("data_goes_to") or HERE) if cell.model else HERE
        taught = bool(cell.served) and host != HERE
        found[cell.strategy, cell.model] = Exposure(
            f.clean(cell.strategy),
            f.clean(str(card.get("name") or cell.model)) if cell.model else "no language model",
            f.clean(str(card.get("licence") or f.UNKNOWN)) if cell.model else f.DASH,
            "in-house"
            if host == HERE
            else f"{'training examples and questions ' if taught else ''}sent to {f.clean(host)}",
        )
    return list(found.values())


def allowed(results: Results) -> str:
    """Which hosts the run could reach, as a sentence."""
    hosts = results.suite.get("allow_hosts")
    if hosts is None:
        return "The suite names no allow_hosts: its models decided where data could go."
    return f.clean(f"allow_hosts: nothing could be sent anywhere but to {f.names(hosts) or 'this machine'}.")


def data(results: Results) -> list[DataFacts]:
    """Sizes, duplicates, licence and hash of every task's data."""
    found = []
    for name, task in results.tasks.items():
        sizes = ", ".join(f"{split} {size:,}" for split, size in task.sizes.items())
        duplicates = ", ".join(f"{f.plain(n)} {kind}" for kind, n in task.duplicates.items()) or f.UNKNOWN
        cut = "; ".join(f"{k}: {v}" for k, v in flat(task.cut))
        found.append(
            DataFacts(name, sizes, duplicates, task.document_count, task.licence or f.UNKNOWN, task.hash, cut)
        )
    return found


def prices(results: Results) -> tuple[str, list[PriceUsed]]:
    """(where they are from, the prices that the costs rest on)."""
    origin = "As copied into the run when it was made"
    if results.prices is not None:
        origin = (
            f"As they were when this report was written; {results.prices.name} goes before the shipped prices"
        )
    elif not results.info.get("price_book"):
        origin = "As they were when this report was written"
    used = price_book(results)
    if origin.startswith("As copied") and used != results.info["price_book"]:
        origin += "; what the run did not ask for, as it was when this report was written"
    entries = [_price(kind, name, entry) for kind, named in used.items() for name, entry in named.items()]
    return f.clean(origin), entries


def price_book(results: Results) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """The prices copied into the run; for a re-priced run, or one without, those that the tables look up."""
    book = results.info.get("price_book")
    if not book or results.prices is not None:
        return _asked_for(results)
    new = _asked_for(results)
    return {kind: {**new.get(kind, {}), **book.get(kind, {})} for kind in dict.fromkeys((*book, *new))}


def _asked_for(results: Results) -> dict[str, Any]:
    """The prices that the result tables look up; the machine of a probe is in today's book."""
    pricing = Pricing(results)
    for cell in results.cells.values():
        if cell.state == DONE:
            pricing.per_1000(cell)
            pricing.one_off(cell)
    return pricing.used()


_UNITS = {
    "exchange": ("1 {name} in {currency}", ""),
    "machine_hours": ("{name}", " per hour"),
    "electricity": ("electricity, {name}", " per kWh"),
    "training_tokens": ("training of {name}", " per million tokens"),
    "hosting_hours": ("hosting, {name}", " per hour"),
    "batches": ("batch mode of {name}", " of the token price"),
    "tokens": ("tokens of {name}", " per million in / out"),
}


def _price(kind: str, name: str, entry: Mapping[str, Any]) -> PriceUsed:
    currency = str(entry.get("currency", ""))
    what, unit = _UNITS.get(kind, (f"{kind.replace('_', ' ')}, {{name}}", ""))
    amounts = [entry["price"]] if "price" in entry else [entry.get("input"), entry.get("output")]
    amount = " / ".join(f.UNKNOWN if a is None else f"{a:g}" for a in amounts)
    note = str(entry.get("note") or "")
    if entry.get("checked") is False:
        note = f"not read on the seller's own page{'; ' if note else ''}{note}"
    return PriceUsed(
        f.clean(what.format(name=name, currency=currency)),
        f"{amount} {currency}{unit}",
        f.clean(str(entry.get("date", f.UNKNOWN))),
        f.clean(str(entry.get("source", f.UNKNOWN))),
        f.clean(note),
    )


def commands(results: Results) -> list[tuple[str, str]]:
    """(what it does, command), from the folder that holds the runs' folder."""
    folder = shlex.quote(place(results))
    return [
        ("run it again", f"breakeven run {folder}/suite.yaml"),
        ("finish what is missing", f"breakeven run --resume {folder}"),
        ("this page", f"breakeven report {folder} --format html"),
        ("every number", f"breakeven report {folder} --format json"),
    ]


def place(results: Results) -> str:
    """The run's folder as a reader may see it."""
    return f.clean(results.place)


def unknowns(results: Results) -> list[str]:
    """What this report cannot know, as sentences without their full stops."""
    found = []
    for task in results.tasks:
        rows = done(results, task)
        for what, missing in (
            ("cost per request", [r.label for r in rows if r.cost_per_1000.value is None]),
            ("one-off cost", [r.label for r in rows if r.one_off.value is None]),
            ("latency", [r.label for r in rows if r.latency is None]),
        ):
            if missing:
                found.append(f"{task}: {what} of {f.names(missing)}")
        gone = [r.label for r in not_done(results, task) if r.state != "not-applicable"]
        if gone:
            found.append(f"{task}: everything of {f.names(gone)}")
    for quantity, heading, _ in (*QUANTITIES, *EFFORT):
        cells = [c for c in results.cells.values() if c.state == DONE]
        missing_in = [c for c in cells if c.ledger.total(quantity).value is None]
        if missing_in:
            entries = [e for c in missing_in for e in c.ledger.select(quantity=quantity)]
            reasons = ", ".join(sorted({e.source for e in entries if e.amount.value is None}))
            found.append(f"{heading} in {len(missing_in)} of {f.plural(len(cells), 'cell')}: {reasons}")
    return [f.clean(sentence) for sentence in found]


def lost(results: Results) -> list[str]:
    """Work lost to crashes, which no strategy is billed for."""
    found = []
    for cell in results.cells.values():
        parts = [
            f.seconds(v) if k == "seconds" else f"{f.count(v)} {k.replace('_', ' ')}"
            for k, v in cell.lost.items()
            if v
        ]
        if parts:
            found.append(f"{cell.id}: {f.names(parts)}")
    return found


# --- ledgers ---------------------------------------------------------------------------------


def ledger_of_task(results: Results, task: str, quantities: Quantities = QUANTITIES) -> LedgerTable:
    """What each strategy consumed, by phase; the mean over its seeds' cells."""
    lines = []
    for row in done(results, task):
        cells = [c for c in row.cells if c.state == DONE]
        for phase in PHASES:
            ledgers = [_only(Ledger(list(c.ledger.select(phase))), quantities) for c in cells]
            if any(ledger.entries for ledger in ledgers):
                lines.append((row.label, phase, ledgers))
    return _table(lines, quantities)


def ledger_of_run(results: Results, quantities: Quantities = QUANTITIES) -> LedgerTable:
    """What the run itself consumed: an artifact that several cells share counts once."""
    counted: set[str] = set()
    mine = Ledger()
    for cell in results.cells.values():
        for part in cell.parts or (cell,):  # every fold, where rows are scored out of fold
            mine.extend(_own(part, counted))
    lines = [("", phase, [_only(Ledger(list(mine.select(phase))), quantities)]) for phase in PHASES]
    return _table([line for line in lines if line[2][0].entries], quantities)


def effort_of_run(results: Results) -> LedgerTable:
    """FLOPs and energy of the run itself."""
    return ledger_of_run(results, EFFORT)


def _only(ledger: Ledger, quantities: Quantities) -> Ledger:
    names = {name for name, _, _ in quantities}
    return Ledger([e for e in ledger.entries if e.quantity in names])


def _own(cell: CellResult, counted: set[str]) -> list[Any]:
    """The cell's entries without those of artifacts that an earlier cell has brought in."""
    entries = [e for e in cell.ledger.entries if e.artifact is None or e.artifact not in counted]
    counted.update(e.artifact for e in cell.ledger.entries if e.artifact is not None)
    return entries


def _table(lines: Sequence[tuple[str, str, Sequence[Ledger]]], quantities: Quantities) -> LedgerTable:
    used = [
        q for q in quantities if any(e.quantity == q[0] for _, _, ls in lines for x in ls for e in x.entries)
    ]
    return LedgerTable(
        tuple(heading for _, heading, _ in used),
        tuple(
            LedgerLine(who, phase, tuple(_mean(ledgers, quantity, unit) for quantity, _, unit in used))
            for who, phase, ledgers in lines
        ),
    )


def _mean(ledgers: Sequence[Ledger], quantity: Quantity, unit: str) -> str:
    if not any(True for ledger in ledgers for _ in ledger.select(quantity=quantity)):
        return ""
    totals: list[Amount] = [ledger.total(quantity) for ledger in ledgers]
    if any(t.value is None for t in totals):
        return f.UNKNOWN
    value = sum(t.value or 0.0 for t in totals) / len(totals)
    text = f.seconds(value) if unit == "s" else f.large(value, unit)
    return f"≈ {text}" if any(t.status == "estimated" for t in totals) else text
