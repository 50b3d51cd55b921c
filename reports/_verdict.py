"""A task's verdict as the page shows it: words, the small table, where the money goes, how sure, figures.

All of it at the settings of the run; the page makes the same of other settings (decision.js, wording.js and
figures.js in reports/templates), so what is text here is text there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from breakeven.harness import breakdown, cases, evidence, volumes, wording
from breakeven.harness import formats as f
from breakeven.harness.decision import WORTHS, Case, Verdict, best_by_worth
from breakeven.harness.evidence import Evidence
from breakeven.harness.families import FAMILY_WORDS, Family
from breakeven.harness.ownership import Knobs
from breakeven.harness.results import Results
from breakeven.harness.wording import Told
from breakeven.reports import _case, _figures, _plots, _svg
from breakeven.reports._plots import Axis, Dot

#: Worths in the table beside the figure: one of so many that were drawn.
EVERY = 5


@dataclass(frozen=True)
class Candidate:
    """A line of the small table, and of the tables below it."""

    number: int
    label: str
    family: Family
    symbol: Markup
    chosen: bool
    today: bool
    dropped: bool
    quality: str
    range: str
    correct: str
    host: str
    year: str
    cash: str
    best: str
    sure: tuple[str, ...]
    costs: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    unpriced: str


@dataclass(frozen=True)
class Slider:
    """A knob of the page: its key, what it is called and what it says at the settings of the run."""

    key: str
    name: str
    said: str


@dataclass(frozen=True)
class VerdictView:
    """Everything the page says of a decision. `live` tells whether there is anything to turn."""

    told: Told
    metric: str
    correct: str
    months: str
    valued: bool
    with_today: bool
    one_host: bool
    candidates: tuple[Candidate, ...]
    families: tuple[tuple[Markup, str], ...]
    provenance: tuple[str, ...]
    live: bool
    sliders: tuple[Slider, ...]
    quality_plots: tuple[Markup, ...]
    volume_plots: tuple[Markup, ...]
    break_evens: tuple[tuple[str, str], ...]
    share_plots: tuple[Markup, ...]
    share_heads: tuple[str, ...]
    shares: tuple[tuple[str, tuple[str, ...]], ...]
    case: Case
    known: Evidence

    @property
    def chosen(self) -> str:
        """The label of the choice; empty without one."""
        return next((c.label for c in self.candidates if c.chosen), "")

    def block(self, position: int) -> Markup:
        return _case.embedded(self.case, self.known, position) if self.live else Markup("")


def view(results: Results, name: str) -> VerdictView | None:
    """The verdict of a task; None where no strategy has a result."""
    case = cases.of_task(results, name)
    if case is None:
        return None
    known = evidence.of_task(results, name, case)
    told = wording.told(case, known)
    verdict, at = told.verdict, case.knobs
    assert verdict is not None
    choice = verdict.choice
    window = 0, 0
    volume_plots: Sequence[Markup] = ()
    share_plots: Sequence[Markup] = ()
    if choice is not None:
        volume = _figures.volume_lines(case, known.labels, choice, meets(case, choice, at), at)
        volume_plots = _figures.cost_against_volume(volume, case, known.currency, at)
        lines, window = _figures.share_lines(case, known.labels, choice, at)
        share_plots = _figures.probability_of_best(lines, window, known.currency, at)
    present = [c.family for c in case.candidates]
    return VerdictView(
        told=told,
        metric=f.clean(known.metric.name),
        correct=_correct(case, known),
        months=f.plural(at.months, "month"),
        valued=at.value is not None,
        with_today=case.incumbent is not None,
        one_host=len(set(known.hosts)) == 1,
        candidates=tuple(_candidate(case, known, verdict, i) for i in range(len(case.candidates))),
        families=tuple((_svg.symbol(k), FAMILY_WORDS[k]) for k in FAMILY_WORDS if k in present),
        provenance=_provenance(known, choice),
        live=choice is not None,
        sliders=tuple(_sliders(case, known)),
        quality_plots=tuple(quality_plots(case, known, choice, at)),
        volume_plots=tuple(volume_plots),
        break_evens=tuple(break_evens(case, known, choice, at)) if choice is not None else (),
        share_plots=tuple(share_plots),
        share_heads=tuple(f.money(WORTHS[k], known.currency) for k in _shown(window)),
        shares=tuple(_shares(case, known, window, at)) if choice is not None else (),
        case=case,
        known=known,
    )


def _correct(case: Case, known: Evidence) -> str:
    """Heading of the share of correct answers, where the score is not that itself."""
    if case.economics.error_costs is not None:
        return "correct, by error cost"
    return "correct" if known.graded else ""


def _provenance(known: Evidence, choice: int | None) -> tuple[str, ...]:
    worst = known.worst[choice] if choice is not None else ""
    said = (f"worst label of the choice: {worst}",) if worst else ()
    hosts = f.names(list(dict.fromkeys(known.hosts)))
    where = "data stays in-house" if hosts == "in-house" else f"data goes to {hosts}"
    return (known.provenance[0], where, *said, *known.provenance[1:])


def _sliders(case: Case, known: Evidence) -> list[Slider]:
    at = case.knobs
    value = "not said" if at.value is None else f.money(float(at.value), known.currency)
    when = " in the first month" if case.economics.growth_per_month else " a month"
    found = [
        Slider("requests", f"Requests{when}", f.count(float(at.requests))),
        Slider("value", "Worth of a correct answer", value),
        Slider("months", "Horizon", f.plural(at.months, "month")),
    ]
    if known.machines and known.hour is not None:
        name, price = known.hour
        said = f"{f.money(price, known.currency)} (1.0 times its price)"
        found.append(Slider("machine", f"An hour of {name}", said))
    elif known.machines:
        found.append(Slider("machine", "Machines cost", "1.0 times their price"))
    if known.hosted:
        found.append(Slider("tokens", "Tokens cost", "1.0 times their price"))
    return found


# --- tables ----------------------------------------------------------------------------------


def _candidate(case: Case, known: Evidence, verdict: Verdict, i: int) -> Candidate:
    own, at = case.candidates[i].ownership, case.knobs
    amounts = breakdown.amounts(own, case.economics, at)
    return Candidate(
        number=i + 1,
        label=known.labels[i],
        family=case.candidates[i].family,
        symbol=_svg.symbol(case.candidates[i].family),
        chosen=i == verdict.choice,
        today=i == case.incumbent,
        dropped=i in case.dropped,
        quality=known.quality[i],
        range=known.ranges[i],
        correct=known.correct[i],
        host=known.hosts[i],
        year=_money(known, own.year_one(case.economics, at) if own.known else None),
        cash=_money(known, own.cash_now(at) if own.known else None),
        best=_best(case, verdict, i),
        sure=sure(case, known, verdict, i),
        costs=costs(case, known, i, at),
        lines=tuple(
            (
                f.clean(line.what),
                line.when,
                _money(known, line.value),
                _money(known, amount),
                line.known,
                f.clean(line.source),
            )
            for line, amount in zip(breakdown.lines(own), amounts, strict=True)
        ),
        unpriced=f.clean("; ".join(own.missing)),
    )


def sure(case: Case, known: Evidence, verdict: Verdict, i: int) -> tuple[str, ...]:
    """How often the rule picks it, how often it is no worse than the reference, net benefit, regret."""
    benefit = verdict.mean[i] if verdict.mode == "value" else None
    return (
        _best(case, verdict, i),
        _not_worse(case, i),
        "" if benefit is None else _money(known, benefit),
        "" if verdict.regret[i] is None else _money(known, verdict.regret[i]),
    )


def _not_worse(case: Case, i: int) -> str:
    if case.alone:
        return f.DASH
    return f.percent(float(case.not_worse[i])) if case.standing or case.incumbent is not None else ""


def costs(case: Case, known: Evidence, i: int, at: Knobs) -> tuple[str, ...]:
    """Cash now, the first month, year one, the horizon, and when it has paid for itself."""
    own, economics = case.candidates[i].ownership, case.economics
    if not own.known:
        return (f.UNKNOWN,) * 4 + ("",)
    return (
        _money(known, own.cash_now(at)),
        _money(known, own.month(economics, at)),
        _money(known, own.year_one(economics, at)),
        _money(known, case.cost(i, at)),
        _payback(case, i, at),
    )


def _payback(case: Case, i: int, at: Knobs) -> str:
    """The month after which the candidate has cost no more than what is in service today."""
    if case.incumbent is None or i == case.incumbent:
        return ""
    today = case.candidates[case.incumbent].ownership
    if not today.known:
        return f.UNKNOWN
    month = case.candidates[i].ownership.payback_month(today, case.economics, at)
    return "never" if month is None else f"month {month}"


def _best(case: Case, verdict: Verdict, i: int) -> str:
    if i in case.dropped:
        return "left out"
    return f.DASH if case.alone else f.percent(verdict.best[i])


def _money(known: Evidence, value: float | None) -> str:
    return f.money(value, known.currency)


def break_evens(case: Case, known: Evidence, choice: int, at: Knobs) -> list[tuple[str, str]]:
    """(strategy, the volumes at which it is cheaper than the choice)."""
    found = []
    for i in case.standing:
        if i != choice:
            a, b = case.candidates[choice].ownership, case.candidates[i].ownership
            found.append((known.labels[i], wording.volumes_said(volumes.cheaper(b, a, case.economics, at))))
    return found


def meets(case: Case, choice: int, at: Knobs) -> list[tuple[int, float]]:
    """(strategy, volume) of every break-even with the choice."""
    found = []
    for i in case.standing:
        if i != choice:
            a, b = case.candidates[choice].ownership, case.candidates[i].ownership
            for interval in volumes.cheaper(b, a, case.economics, at).intervals:
                found += [(i, v) for v in interval if 0 < v < math.inf]
    return found


def _shown(window: tuple[int, int]) -> range:
    """Positions in `WORTHS` that the table shows."""
    return range(window[0], window[1] + 1, EVERY)


def _shares(
    case: Case, known: Evidence, window: tuple[int, int], at: Knobs
) -> list[tuple[str, tuple[str, ...]]]:
    shares = best_by_worth(case, [WORTHS[k] for k in _shown(window)], at)
    return [(known.labels[i], tuple(f.percent(float(row[i])) for row in shares)) for i in case.standing]


# --- quality against cost --------------------------------------------------------------------


def quality_plots(case: Case, known: Evidence, choice: int | None, at: Knobs) -> list[Markup]:
    """Quality against the cost over the horizon; the line is what is in service today. None without costs."""
    if not any(c.ownership.known for c in case.candidates):
        return []
    dots = []
    for i, candidate in enumerate(case.candidates):
        low, high = known.ends[i]
        x = case.cost(i, at) if candidate.ownership.known else None
        dots.append(
            Dot(known.labels[i], candidate.family, x, float(case.draws.score_mean[i]), low, high,
                i in case.dropped, i == choice)
        )  # fmt: skip
    axis = Axis(
        f"cost over {f.plural(at.months, 'month')}",
        lambda v: _plots.rounded(_money(known, v)),
        _money(known, 0.0),
    )
    today = None if case.incumbent is None else dots[case.incumbent].quality
    return _plots.scatter(dots, known.metric, axis, today, frontier=True)
