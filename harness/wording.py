"""The verdict in plain sentences: the answer, what carries it, what would overturn it, what testing is worth.

Strings only, for every report and for the terminal; numbers come from `decision`, measured texts from
`evidence`. reports/templates/wording.js says the same on the page of a report when its reader turns a knob; a
browser test holds the two together, so a change here is a change there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from breakeven.harness import formats as f
from breakeven.harness.breakdown import assumed, changes
from breakeven.harness.cases import of_task as case_of
from breakeven.harness.decision import SURE, Case, Threshold, Verdict, decide
from breakeven.harness.evidence import Evidence, Name, Sentence, absent, text
from breakeven.harness.evidence import of_task as evidence_of
from breakeven.harness.families import is_tuned
from breakeven.harness.flips import BreakEven, Flips, flips, opponents, runner_up, times_the_examples
from breakeven.harness.ownership import Knobs
from breakeven.harness.results import Results
from breakeven.harness.volumes import Volumes

#: Beyond so many times the examples there are, more of them are no advice.
FAR = 100
#: The share of the margin from which on it is said that the choice looks too good.
NOTICED = 0.25

BY_COST = "By cost, as nobody said what a correct answer is worth (value_per_correct)"
RULE = (
    "The rule: (1) strategies that miss the quality floor or the latency ceiling, whose data would go to an "
    "excluded host, or whose cost is unknown are left out; (2) with a value per correct answer the highest "
    "expected net benefit wins (value x correct answers - cost, over the horizon), without one the cheapest "
    "of those that are no worse than the reference by more than the margin in at least 95 % of draws (the "
    "reference is what is in service today, else the best of each draw); (3) it is decided when the choice "
    "is best, or within the margin, in at least 95 % of draws."
)


@dataclass(frozen=True)
class Told:
    """A verdict in words.

    `answer` is YES, NO, UNDECIDED, NOT KNOWN, or empty where fine-tuning was not asked about; the headline
    follows it. `why`, `flips` and `testing` are sentences that stand alone; `overview` is the task's line
    among others: answer, strategy, quality, difference to the runner-up, who that is, year one, confidence.
    """

    question: str
    answer: str
    headline: Sentence
    basis: Sentence
    why: tuple[Sentence, ...]
    flips: tuple[Sentence, ...]
    testing: tuple[Sentence, ...]
    left_out: tuple[Sentence, ...]
    overview: tuple[str, ...]
    verdict: Verdict | None = None
    flipped: Flips | None = None

    @property
    def lead(self) -> Sentence:
        """The answer and the headline as one sentence."""
        return (self.answer, *self.headline)

    def lines(self) -> Iterator[str]:
        """For a terminal: a line for each sentence, headed by what it is about."""
        yield f"{self.question} {text(self.lead)}"
        yield text(self.basis)
        for head, sentences in self.sections():
            yield from (f"{head}: {text(s)}" for s in sentences)

    def sections(self) -> tuple[tuple[str, tuple[Sentence, ...]], ...]:
        """(heading, sentences) of all that follows the headline and its basis."""
        return (
            ("Why", self.why),
            ("Flips", self.flips),
            ("Testing", self.testing),
            ("Left out", self.left_out),
        )


def of_task(results: Results, name: str) -> Told:
    """The words of a task at the settings of its run."""
    case = case_of(results, name)
    if case is None:
        return nothing_done(results, name)
    return told(case, evidence_of(results, name, case))


def nothing_done(results: Results, name: str) -> Told:
    """The words of a task on which no strategy has a result."""
    said = ("No strategy has a result.",)
    none = ("", "none", f.UNKNOWN, "", "", f.UNKNOWN, "")
    return Told(_question(f.clean(name), True), "", said, (), (), (), (), tuple(absent(results, name)), none)


def told(case: Case, known: Evidence, knobs: Knobs | None = None) -> Told:
    """The words of a case; `knobs` in place of its own."""
    at = case.knobs if knobs is None else knobs
    verdict = decide(case, at)
    question = _question(known.task, known.tuning)
    if verdict.choice is None:
        word, said = answer(case, verdict), _nothing(case, known)
        none = (word, "none", f.UNKNOWN, "", "", f.UNKNOWN, "")
        return Told(question, word, said, (), known.hurts, (), (), known.left_out, none, verdict)
    found = flips(case, verdict, at)
    word = answer(case, verdict)
    ending, (start, *rest) = _ending(case, known, verdict, found, at), _action(case, known, verdict, at)
    return Told(
        question,
        word,
        (ending, start, *rest) if word else (start.lstrip(), *rest),
        _basis(case, known, verdict, at),
        tuple(_why(case, known, verdict, at)),
        () if case.alone else tuple(_flips(known, found, verdict.choice)),
        () if case.alone else tuple(_testing(case, known, verdict, at)),
        known.left_out,
        _overview(case, known, verdict, word, at),
        verdict,
        found,
    )


def _question(task: str, tuning: bool) -> str:
    return f"Should we fine-tune {task}?" if tuning else f"What should answer {task}?"


# --- the answer ------------------------------------------------------------------------------


def answer(case: Case, verdict: Verdict) -> str:
    """The word that a headline begins with: YES, NO, UNDECIDED, NOT KNOWN; "" where tuning is no question."""
    if verdict.choice is None:
        reasons = list(case.dropped.values())
        below = all("floor" in why for why in reasons)
        return "NOT KNOWN" if not below and all("cost" in why for why in reasons) else "NO"
    if verdict.kind == "undecided":
        return "UNDECIDED"
    if not any(is_tuned(c.family) for c in case.candidates):
        return ""
    return "YES" if is_tuned(case.candidates[verdict.choice].family) else "NO"


def _nothing(case: Case, known: Evidence) -> Sentence:
    reasons = list(case.dropped.values())
    name = known.metric.name
    if all("floor" in why for why in reasons):
        best = max(range(len(reasons)), key=lambda i: float(case.gain_means[i]))
        return (
            f". Nothing reaches your floor of {known.floor} {f.clean(name)}: the best, ",
            Name(known.labels[best]),
            f", has {_quality(known, best)}.",
        )
    if all("cost" in why for why in reasons):
        return (". What the strategies cost is not known, so none can be chosen.",)
    words = {
        "floor": "miss your floor",
        "latency": "miss your latency ceiling",
        "host": "would send data to an excluded host",
        "cost": "have no known cost",
    }
    counts = [(sum(key in why for why in reasons), word) for key, word in words.items()]
    said = f.names([f"{n} {word}" for n, word in counts if n])
    return (f". Nothing is left to choose: of {len(reasons)} strategies {said}.",)


def _ending(case: Case, known: Evidence, verdict: Verdict, found: Flips, at: Knobs) -> str:
    """What follows the word: where it leans to, or the volume that it holds at."""
    assert verdict.choice is not None
    tuned = is_tuned(case.candidates[verdict.choice].family)
    if not known.tuning:
        return "." if verdict.kind == "undecided" else ""
    if verdict.kind == "undecided":
        return "." if case.alone else f", leaning to {'yes' if tuned else 'no'}."
    turns = any(is_tuned(case.candidates[x.to].family) != tuned for x in found.volumes)
    if tuned:
        return f", at {_volume(case, at)}." if turns else "."
    return f", not at {_volume(case, at)}." if turns else "."


def _action(case: Case, known: Evidence, verdict: Verdict, at: Knobs) -> Sentence:
    """What to do: stay, move, take, or who is ahead."""
    choice, incumbent = verdict.choice, case.incumbent
    assert choice is not None
    who, without = Name(known.labels[choice]), case.candidates[choice].family == "no-model"
    year = _year_one(case, known, choice, at)
    measured = f", with {f.clean(known.metric.name)} {_quality(known, choice)}, for {year}."
    if case.alone:
        return " Only one strategy has a result, so nothing was compared: ", who, measured
    if verdict.kind == "undecided":
        today = "today's " if choice == incumbent else ""
        needs = ", which needs no language model" if without else ""
        return f" Ahead is {today}", who, f"{needs}{measured}"
    if choice == incumbent:
        return " Stay as you are: ", who, measured
    start = " No language model is needed: " if without else " "
    if incumbent is None:
        return f"{start}{'take' if without else 'Take'} ", who, measured
    word = "move" if without else "Move"
    gap = f"{known.gaps[choice][incumbent]} {f.clean(known.metric.name)}"
    return (
        f"{start}{word} from today's ",
        Name(known.labels[incumbent]),
        " to ",
        who,
        (f": {gap}{_extra(case, known, choice, incumbent, at)}."),
    )


def _year_one(case: Case, known: Evidence, choice: int, at: Knobs) -> str:
    """`$1,745 in year 1 (of which $1,744 people's hours, assumed)`: the latter where they are most of it."""
    own = case.candidates[choice].ownership
    money, hours = own.year_one(case.economics, at), assumed(own, case.economics, at, 12)
    said, theirs = _money(known, money), _money(known, hours)
    part = "nearly all of it" if said == theirs else f"of which {theirs}"
    return f"{said} in year 1" + (f" ({part} people's hours, assumed)" if hours > money / 2 else "")


def _extra(case: Case, known: Evidence, choice: int, incumbent: int, at: Knobs) -> str:
    """What the choice costs more in year one than what is in service today."""
    ours, today = (case.candidates[i].ownership for i in (choice, incumbent))
    if not today.known:
        return ", what today costs is not known"
    more = ours.year_one(case.economics, at) - today.year_one(case.economics, at)
    hours = assumed(ours, case.economics, at, 12) - assumed(today, case.economics, at, 12)
    part = " (mostly people's hours, assumed)" if hours * more > more**2 / 2 else ""
    return f" for {_money(known, abs(more))} {'more' if more >= 0 else 'less'} in year 1{part}"


def _basis(case: Case, known: Evidence, verdict: Verdict, at: Knobs) -> Sentence:
    """The condition and the confidence."""
    choice, share = verdict.choice, f.percent(verdict.confidence)
    assert choice is not None
    if case.alone:
        return ("There is nothing to decide until a second strategy has a result.",)
    metric = f.clean(known.metric.name)
    when = f"at {_volume(case, at)} over {_months(at)}"
    short = "" if verdict.decided else f"; {f.percent(SURE)} would decide"
    if at.value is not None:
        worth = _money(known, float(at.value))
        return (
            f"By net benefit, with {worth} for a correct answer, {when}: best, or within {known.margin} "
            f"{metric} of the best, in {share} of draws{short}.",
        )
    reference = "today's " if case.incumbent is not None else "the best"
    against: Sentence = (reference, Name(known.labels[case.incumbent])) if case.incumbent is not None else (
        reference,
    )  # fmt: skip
    if case.not_worse[choice] >= SURE:
        return (
            f"{BY_COST}: the cheapest that is no worse than ",
            *against,
            f" by more than {known.margin} {metric}, {when}. It is so in {share} of draws{short}.",
        )
    return (
        f"{BY_COST}; but none is shown to be no worse than ",
        *against,
        f" by more than {known.margin} {metric}. The best so far is not worse in {share} of draws{short}.",
    )


# --- why -------------------------------------------------------------------------------------


def _why(case: Case, known: Evidence, verdict: Verdict, at: Knobs) -> Iterator[Sentence]:
    choice = verdict.choice
    assert choice is not None
    who, mean = Name(known.labels[choice]), verdict.mean[choice]
    if verdict.mode == "value" and mean is not None and mean < 0:
        yield ("Nothing pays for itself: the net benefit of ", who,
               f" is {_money(known, mean)} over {_months(at)}.")  # fmt: skip
    for rank, i in enumerate(opponents(case, verdict)[:2]):
        yield Name(known.labels[i]), " minus ", who, f": {known.pairs[i][choice]}."
        if rank == 0 and case.candidates[i].ownership.known:
            yield Name(known.labels[i]), _dearer(case, known, i, choice, at)
    yield from known.hurts[:2]
    if len(case.standing) > 1 and verdict.optimism > NOTICED * case.economics.margin:
        better = f.quality(verdict.optimism, known.metric)
        start = f"Picked from {len(case.standing)} on these examples, "
        yield start, who, f" looks about {better} better than it is."


def _dearer(case: Case, known: Evidence, i: int, choice: int, at: Knobs) -> str:
    """` costs $8,050 more over 12 months: setting up +$480 (assumed), ...`."""
    a, b = case.candidates[i].ownership, case.candidates[choice].ownership
    more = case.cost(i, at) - case.cost(choice, at)
    parts = [
        f"{x.what} {'+' if x.money > 0 else f.MINUS}{_money(known, abs(x.money))}"
        f"{' (assumed)' if x.assumed else ''}"
        for x in changes(a, b, case.economics, at)[:3]
    ]
    word = "more" if more >= 0 else "less"
    listed = f": {', '.join(parts)}" if parts else ""
    return f" costs {_money(known, abs(more))} {word} over {_months(at)}{listed}."


# --- what would overturn it ------------------------------------------------------------------


def _flips(known: Evidence, found: Flips, choice: int) -> Iterator[Sentence]:
    yield from (_flip(known, x) for x in found.thresholds)
    if not found.thresholds:
        yield ("Neither volume nor prices within a factor of 1,000 overturn it.",)
    yield from (_break_even(known, x, choice) for x in found.break_evens)


def _flip(known: Evidence, x: Threshold) -> Sentence:
    more = "more" if x.side == "above" else "less"
    if x.knob == "requests":
        where = f"{x.side} {_at(known, x, x.at)} requests a month"
    elif x.knob == "value":
        where = f"if a correct answer is worth {more} than {_at(known, x, x.at)}"
    elif x.knob == "machine" and known.hour is not None:
        where = f"if an hour of {known.hour[0]} costs {more} than {_at(known, x, x.at)}"
    else:
        what = "machines cost" if x.knob == "machine" else "tokens cost"
        where = f"if {what} {more} than {_at(known, x, x.at)} times their price"
    return "To ", Name(known.labels[x.to]), f" {where}{_spread(known, x)}."


def _at(known: Evidence, x: Threshold, value: float) -> str:
    if x.knob == "requests":
        return f.volume(value)
    if x.knob == "value":
        return _money(known, value)
    if x.knob == "machine" and known.hour is not None:
        return _money(known, value * known.hour[1])
    return f.times(value)


def _spread(known: Evidence, x: Threshold) -> str:
    """The interval of a threshold, and how often there is none."""
    if x.low is not None and x.high is not None:
        return f" (95 %: {_at(known, x, x.low)} to {_at(known, x, x.high)})"
    nowhere = f"in {f.percent(x.never)} of draws nowhere"
    if x.low is not None:
        return f" (95 %: from {_at(known, x, x.low)} on; {nowhere})"
    if x.high is not None:
        return f" (95 %: up to {_at(known, x, x.high)}; {nowhere})"
    return f" ({nowhere})" if x.never > 0 else ""


def _break_even(known: Evidence, x: BreakEven, choice: int) -> Sentence:
    other, mine = Name(known.labels[x.other]), Name(known.labels[choice])
    if x.volumes.never:
        return other, " is at no volume cheaper than ", mine, "."
    alone = ", on cost alone" if x.proven else ", on cost alone: it is not shown to be no worse"
    spread = _spread(known, Threshold("requests", "above", 0.0, x.other, x.low, x.high, x.never))
    return other, " is cheaper than ", mine, f" {volumes_said(x.volumes)}{spread}{alone}."


def volumes_said(found: Volumes) -> str:
    """`above 13,200 requests a month`, `at no volume`, `at every volume`."""
    if found.never or found.always:
        return "at no volume" if found.never else "at every volume"
    said = [
        f"above {f.volume(low)}" if high == math.inf else f"below {f.volume(high)}" if low == 0
        else f"from {f.volume(low)} to {f.volume(high)}"
        for low, high in found.intervals
    ]  # fmt: skip
    return f"{f.names(said)} requests a month"


# --- what testing is worth -------------------------------------------------------------------


def _testing(case: Case, known: Evidence, verdict: Verdict, at: Knobs) -> Iterator[Sentence]:
    worth = verdict.worth_of_testing
    if worth is None:
        yield ("What more testing is worth cannot be said without the value of a correct answer.",)
    else:
        stop = ": stop measuring" if worth < known.again else ""
        assumed = " (assumed)" if known.again_assumed else ""
        yield (
            f"More testing is worth at most {_money(known, worth)} over {_months(at)}; labelling "
            f"{known.test_examples:,} more test examples costs about {_money(known, known.again)}"
            f"{assumed}{stop}.",
        )
    if verdict.kind == "undecided":
        yield from _settling(case, known, verdict, at)


def _settling(case: Case, known: Evidence, verdict: Verdict, at: Knobs) -> Iterator[Sentence]:
    """What would settle an undecided case."""
    assert verdict.choice is not None
    who, times = Name(known.labels[verdict.choice]), times_the_examples(case, verdict.choice, at)
    if times is None:
        yield "More examples alone would rather turn it against ", who, " than settle it."
    elif times > FAR:
        yield (f"Even {FAR} times as many test examples would hardly settle it.",)
    else:
        more = f.times(max(known.test_examples * (times - 1), 10.0))
        yield f"About {more} more test examples would settle it, should ", who, " stay ahead by as much."
    if verdict.mode == "cost":
        yield ("So may saying what a correct answer is worth: economics.value_per_correct.",)


# --- lines and cells -------------------------------------------------------------------------


def _overview(case: Case, known: Evidence, verdict: Verdict, answer: str, at: Knobs) -> tuple[str, ...]:
    choice = verdict.choice
    assert choice is not None
    other = runner_up(case, verdict)
    return (
        answer,
        known.labels[choice],
        _quality(known, choice),
        "" if other is None else known.leads[choice][other],
        "" if other is None else known.labels[other],
        _money(known, case.candidates[choice].ownership.year_one(case.economics, at)),
        f.DASH if case.alone else f.percent(verdict.confidence),
    )


def _quality(known: Evidence, i: int) -> str:
    return f"{known.quality[i]} ({known.ranges[i]})" if known.ranges[i] else known.quality[i]


def _money(known: Evidence, value: float) -> str:
    return f.money(value, known.currency)


def _volume(case: Case, at: Knobs) -> str:
    when = "in the first month" if case.economics.growth_per_month else "a month"
    return f"{f.count(float(at.requests))} requests {when}"


def _months(at: Knobs) -> str:
    return f.plural(at.months, "month")
