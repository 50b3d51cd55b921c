"""Learning curves in plain sentences: at how many labelled examples one overtakes another, and whether more
labels are worth it. For every report; numbers come from `learning`.
"""

from __future__ import annotations

from collections.abc import Iterator

from breakeven.harness import formats as f
from breakeven.harness.curves import FIT_FROM, Overtaking
from breakeven.harness.economics import Economics
from breakeven.harness.evidence import Name, Sentence
from breakeven.harness.learning import MORE, Learning, Meeting, MoreLabels
from breakeven.harness.results import MetricInfo

#: Share of draws from which on it is said that curves may cross more than once.
NOTICED = 0.05


def sentences(learning: Learning, metric: MetricInfo, economics: Economics) -> tuple[Sentence, ...]:
    """Who overtakes whom, then what more labels would bring."""
    if not learning.additive:
        name = f.clean(metric.name)
        return ((f"Where curves cross is not said: {name} is no mean over examples, so it has no draws.",),)
    return (
        *(overtaking(meeting) for meeting in learning.meetings),
        *(more_labels(one, metric, economics) for one in learning.more),
    )


def overtaking(meeting: Meeting) -> Sentence:
    """From how many labelled examples on one is ahead of the other, and how the two were chosen."""
    a, b = Name(f.clean(meeting.learner.label)), Name(f.clean(meeting.other.label))
    found = meeting.found
    if found is None:
        return a, " and ", b, " were measured at no training size in common."
    several = f"; in {f.percent(found.several)} of draws they cross more than once"
    tail = (several if found.several >= NOTICED and len(found.crossings) < 2 else "") + _chosen(meeting)
    low, high = (_size(n) for n in found.sizes)
    if found.at is None and not found.crossings:
        share = f.percent(found.never)
        return (
            a,
            " is ahead of ",
            b,
            f" at no size measured, up to {high} labelled examples (so in {share} of draws){tail}.",
        )
    if found.at is None:
        return (
            a,
            " is ahead of ",
            b,
            f" {_stretches(found)}, and no longer at {high} labelled examples{tail}.",
        )
    if not found.crossings:
        share = f.percent(found.always)
        return (
            a,
            " is ahead of ",
            b,
            f" at every size measured, from {low} labelled examples on (so in {share} of draws){tail}.",
        )
    if len(found.crossings) == 1:
        where = f" at about {_size(found.at)} labelled examples ({_spread(found)}){tail}."
        return a, " overtakes ", b, where
    crossed = f.names([_size(c.size) for c in found.crossings])
    return (
        a,
        " and ",
        b,
        f" cross at about {crossed} labelled examples; from {_size(found.at)} on ",
        a,
        f" is ahead ({_spread(found)}){tail}.",
    )


def _chosen(meeting: Meeting) -> str:
    if meeting.picked == "settings":
        return "; the same prompt with and without tuning"
    return "; each the best of its kind, picked on these examples" if meeting.picked == "examples" else ""


def _spread(found: Overtaking) -> str:
    """The interval of the size; open where draws reach beyond the sizes measured."""
    low, high = found.low, found.high
    if low is not None and high is not None:
        return f"95 %: {_size(low)} to {_size(high)}"
    if high is not None:
        return f"95 %: {_size(high)} or fewer"
    smallest, largest = found.sizes
    behind = f"in {f.percent(found.never + found.lost_again)} of draws not ahead at {_size(largest)}"
    if low is None:
        return f"95 %: from {_size(smallest)} or fewer to beyond {_size(largest)}; {behind}"
    return f"95 %: {_size(low)} or more; {behind}"


def _stretches(found: Overtaking) -> str:
    """Where it is ahead, for a lead that is lost again."""
    ends = [_size(c.size) for c in found.crossings]
    if found.crossings[0].upward:
        pairs = list(zip(ends[::2], ends[1::2], strict=False))
        said = [f"from about {start} to about {end}" for start, end in pairs]
    else:
        said = [f"up to about {ends[0]}"]
        said += [f"from about {a} to about {b}" for a, b in zip(ends[1::2], ends[2::2], strict=False)]
    return f.names(said)


def more_labels(one: MoreLabels, metric: MetricInfo, economics: Economics) -> Sentence:
    """What labelling more brings, what it costs, and whether it pays; estimated, and said so."""
    name, gain = Name(f.clean(one.line.label)), one.gain
    if gain is None:
        n = len(one.line.rows)
        return (
            "What more labelled examples would bring ",
            name,
            f" cannot be said: it was measured at {n} training sizes, and {FIT_FROM} are needed.",
        )
    low, high = gain.interval.low, gain.interval.high
    beyond = ", beyond the sizes measured" if gain.extrapolated else ""
    picked = "; picked as the best of its kind on these examples" if one.picked else ""
    start = (
        f"{MORE} labelled examples more than {_size(gain.size)} would improve {f.clean(metric.name)} by "
        f"about {f.quality(gain.expected, metric)} (95 %: {f.interval(low, high, metric)}), estimated by a "
        f"power law{beyond}{picked}. {''.join(_paying(one, economics))}"
    )
    return name, f": {start}"


def _paying(one: MoreLabels, economics: Economics) -> Iterator[str]:
    assumed = " (assumed)" if one.assumed else ""
    labour = f"{one.hours:,.1f} hours of labelling, {f.money(one.cost, economics.currency)}{assumed}"
    if one.worth is None:
        yield f"It takes {labour}; whether it pays needs the value of a correct answer."
        return
    expected, low, high = one.worth
    word = "it pays" if low > one.cost else "it does not pay" if high < one.cost else "it may pay or not"
    said = [f.money(x, economics.currency) for x in (expected, low, high)]
    yield (
        f"That is worth about {said[0]} over {f.plural(economics.horizon_months, 'month')} ({said[1]} to "
        f"{said[2]}), against {labour}: {word}."
    )


def _size(n: float) -> str:
    return f"{n:,.0f}"
