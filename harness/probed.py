"""A run's seconds on the machine of its probes: which of them a probe replaces, and which stay the run's.

What no probe knows (another model's requests, a solver's time) keeps the seconds of the run; on another
machine those are projected. What a second costs is `pricing`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Amount, Phase
from breakeven.harness.results import CellResult, Results

if TYPE_CHECKING:
    from breakeven.harness.probe import Probe


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of one of our own machines: whether some are a probe's, and whether some are the run's own."""

    seconds: Amount
    probed: bool = False
    of_run: bool = False

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.probed or other.probed, self.of_run or other.of_run)


def check(results: Results) -> None:
    """Raises UserError when the probes do not fit together, or not the run."""
    probes = results.probes
    machines = list(dict.fromkeys(place(p) for p in probes))
    if len(machines) > 1:
        raise UserError(
            f"the probes are of different machines: {' and '.join(machines)}",
            field="--probe",
            hint="a report prices one machine; give the probes of one (named alike with --machine)",
        )
    cards = (results.info.get("models") or {}).values()
    models = {str(c.get("digest")): str(c.get("name", "?")) for c in cards if c.get("digest")}
    seen: set[str] = set()
    for probe in probes:
        if probe.digest not in models:
            known = ", ".join(models.values()) or "none that runs on one's own machine"
            raise UserError(
                f"the probe is of {probe.model}, a model (or weights) that this run does not have",
                field="--probe",
                hint=f"models of the run: {known}",
            )
        if probe.digest in seen:
            raise UserError(f"two probes are of the same model, {probe.model}", field="--probe")
        seen.add(probe.digest)
    if name := machine(results):
        from breakeven.harness.pricing import Pricing

        Pricing(replace(results, probes=(), changes=())).check_machine(name, field="--probe")


def machine(results: Results) -> str:
    """The name in the price book of the machine that the probes were made on, "" if they name none."""
    return next((p.machine for p in results.probes if p.machine), "")


def place(probe: Probe) -> str:
    """The machine of a probe, for people: as the price book names it, else by what computes there."""
    return probe.machine or probe.machine_name


def said(probes: Sequence[Probe]) -> str:
    """`a probe of l4 (2026-01-01)`."""
    days = ", ".join(dict.fromkeys(p.created[:10] for p in probes))
    return f"{'a probe' if len(probes) == 1 else 'probes'} of {place(probes[0])} ({days})"


def latencies(results: Results) -> str:
    """That latencies stay those of the run, as a clause; nothing where no probe is used."""
    if not results.probes:
        return ""
    where = f"on its own machine, not on the probe's ({place(results.probes[0])})"
    return f"latencies and training times are those measured by the run {where}"


def request(results: Results, cell: CellResult, own: Amount) -> Spent:
    """Seconds per request of a model of one's own, or of none; `own` are those of the run.

    At the concurrency of the pass that the run's priced seconds come from.
    """
    from breakeven.harness.probe import scale

    together = (cell.timing or {}).get("concurrent") or {}
    for probe in results.probes:
        found = scale(results, cell, probe, int(together.get("concurrency", 1)))
        if found.value is not None:
            return Spent(found, probed=True)
    return Spent(own, of_run=True)


def spent(
    results: Results, cell: CellResult, phases: Sequence[Phase], *, use: bool, without: str | None = None
) -> Spent:
    """Seconds that a cell's ledger holds in some phases.

    Args:
        use: replace what the probes know; else all are the run's.
        without: a model whose seconds are left out, because somebody bills its tokens.
    """
    from breakeven.harness.ledger import Ledger

    total = Spent(Amount(0.0))
    parts = dict.fromkeys(
        (e.phase, e.model)
        for e in cell.ledger.select(phases)
        if e.quantity in ("seconds", "embedded_tokens", "training_tokens")
    )
    for phase, model in parts:
        if without is not None and model == without:
            continue
        entries = [e for e in cell.ledger.select(phase, "seconds") if e.model == model]
        found = _known(results, cell, phase, model) if use else None
        if found is not None:
            total = total + Spent(found, probed=True)
        elif entries:
            amount = Ledger(entries).total("seconds")
            total = total + Spent(amount, of_run=amount.value != 0)
    return total


def _known(results: Results, cell: CellResult, phase: Phase, model: str | None) -> Amount | None:
    from breakeven.harness.probe import scale_part

    for probe in results.probes:
        found = scale_part(results, cell, probe, phase, model)
        if found.value is not None:
            return found
    return None
