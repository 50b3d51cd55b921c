"""Searches for settings on validation: what each candidate did there, which was chosen, what to say of it.

A strategy that searches leaves its `Search` as JSON in its notes (`fit.json`, key "search"). How candidates
are made and judged is the strategy's business; here is the record, and its words for reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from breakeven.harness import formats as f

if TYPE_CHECKING:
    from breakeven.harness.results import CellResult, MetricInfo, Row

NOTE = "search"
State = Literal["tried", "diverged", "left out"]
By = Literal["score", "loss"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate of a search.

    Attributes:
        settings: what sets it apart from the others, by name.
        state: "left out" where the budget ended before it; "diverged" where its training was beyond help.
        score: the primary metric on the validation examples; None where the choice is not by score.
        loss: the last validation loss that its trainer reports, per answer token; None where it reports none.
        training_tokens, training_seconds: of its training, validation left out; None where nobody says.
        input_tokens, output_tokens, answer_seconds: of its answers to validation examples.
        lost_seconds: that its training lost to a crash.
        artifact: the folder of what was trained, in the run's `artifacts`.
        model, price_as: of a model that a provider holds, its name in the ledger and in the price book.
        reason: why it was left out or lost.
    """

    settings: Mapping[str, Any]
    state: State = "tried"
    score: float | None = None
    loss: float | None = None
    training_tokens: int | None = None
    training_seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    answer_seconds: float = 0.0
    lost_seconds: float = 0.0
    artifact: str = ""
    model: str = ""
    price_as: str = ""
    reason: str = ""

    @property
    def name(self) -> str:
        """`lr 0.001, epochs 3`."""
        return said(self.settings)


@dataclass(frozen=True, slots=True)
class Search:
    """One search: how it judged (`by`, on how many validation `examples`), and the candidates in order.

    `budget` are training tokens that all trials together may take, None without a limit; `chosen` is a
    position in `trials`.
    """

    by: By
    metric: str
    examples: int
    budget: int | None
    chosen: int
    trials: tuple[Trial, ...]

    @property
    def winner(self) -> Trial:
        return self.trials[self.chosen]

    @property
    def tried(self) -> tuple[Trial, ...]:
        """Those that were trained, also where that came to nothing."""
        return tuple(t for t in self.trials if t.state != "left out")

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(json.dumps(asdict(self), default=list))
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        return cls(**{**row, "trials": tuple(Trial(**t) for t in row["trials"])})


def said(settings: Mapping[str, Any]) -> str:
    """Settings as people say them: `lr 0.001, epochs 3`."""
    return ", ".join(f"{name} {_value(value)}" for name, value in settings.items())


def _value(value: Any) -> str:
    if value is None:
        return "by default"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


# --- of results ------------------------------------------------------------------------------


def of_cell(cell: CellResult) -> list[tuple[str, Search]]:
    """(seed and fold in words, its search), one for each fit that a cell stands for."""
    found = []
    for part in cell.parts or (cell,):
        search = _read(part.fit_notes.get(NOTE))
        if search is None:
            continue
        seed = f"seed {part.seed}" if part.seed is not None else ""
        fold = f"fold {part.fold}" if part.fold is not None else ""
        found.append((", ".join(x for x in (seed, fold) if x) or "the only fit", search))
    return found


def _read(row: object) -> Search | None:
    """None where a strategy notes something else under that name."""
    if not isinstance(row, Mapping):
        return None
    try:
        return Search.from_json(row)
    except (KeyError, TypeError):
        return None


def of_row(row: Row) -> list[tuple[str, Search]]:
    """The same of all cells of a row."""
    return [pair for cell in row.cells for pair in of_cell(cell)]


def count(row: Row) -> int:
    """Validation trials that a row's settings were chosen from; of several seeds the most."""
    return max((len(search.tried) for _, search in of_row(row)), default=1)


def judged_on(row: Row) -> int:
    """Validation examples that a row's settings were chosen by; somebody labelled them."""
    return max((search.examples for _, search in of_row(row)), default=0)


def models(cell: CellResult) -> dict[str, str]:
    """Names in the ledger of models that a provider tuned for a search -> their names in the price book."""
    return {t.model: t.price_as for _, search in of_cell(cell) for t in search.trials if t.model}


def sentences(row: Row, metric: MetricInfo) -> list[str]:
    """What the reader of a row must know of how its settings were chosen; nothing without a search."""
    found = of_row(row)
    if not found:
        return []
    return [_chosen(found, metric), *dict.fromkeys(x for _, s in found for x in _cautions(s))]


def unequal(rows: Sequence[Row]) -> str:
    """That some strategies had more validation trials than others; nothing where all had as many.

    Of rows with a result, a strategy once.
    """
    counts: dict[str, int] = {}
    for row in rows:
        if row.quality is not None:
            counts[row.strategy] = max(counts.get(row.strategy, 1), count(row))
    if len(set(counts.values())) < 2:
        return ""
    by_count: dict[int, list[str]] = {}
    for name, n in counts.items():
        by_count.setdefault(n, []).append(f.clean(name))
    most = sorted(by_count, reverse=True)
    parts = [f"{f.names(by_count[n])} had {n}" for n in most[:-1]]
    return (
        f"unequal numbers of validation trials: {'; '.join(parts)}, {f.names(by_count[most[-1]])} "
        f"{most[-1]}; with as many, those with fewer might do better than they do here"
    )


def _chosen(found: Sequence[tuple[str, Search]], metric: MetricInfo) -> str:
    """`lr 0.001 chosen from 3 on 100 validation examples, ...`; of several seeds, which chose what."""
    first = found[0][1]
    candidates = f"from {len(first.tried)} on {f.plural(first.examples, 'validation example')}"
    if len(found) == 1:
        score, loss = first.winner.score, first.winner.loss
        value = f"{metric.name} {f.quality(score, metric)}" if first.by == "score" else f"loss {loss:.3f}"
        by = f"{_by(first)}{_of_equals(first)}"
        return (
            f"{first.winner.name} chosen {candidates} by {by}; its {value} there is optimistic, as it was "
            "chosen by it"
        )
    who: dict[str, list[str]] = {}
    for name, search in found:
        who.setdefault(search.winner.name, []).append(name)
    choices = "; ".join(f"{choice} by {f.names(names)}" for choice, names in who.items())
    return f"chosen {candidates} by {_by(first)}: {choices}; what they reach there is optimistic"


def _by(search: Search) -> str:
    return search.metric if search.by == "score" else "validation loss"


def _of_equals(search: Search) -> str:
    """How the choice was made where others did as well."""
    if search.by == "loss":
        return ""
    equals = [t for t in search.tried if t.state == "tried" and t.score == search.winner.score]
    if len(equals) < 2:
        return ""
    losses = [t.loss for t in equals]
    by_loss = None not in losses and losses.count(search.winner.loss) == 1
    return f", of {len(equals)} equals by {'validation loss' if by_loss else 'their order'}"


def _cautions(search: Search) -> Iterator[str]:
    left_out = [t.name for t in search.trials if t.state == "left out"]
    if left_out:
        yield f"not tried for the budget of {search.budget:,} training tokens: {'; '.join(left_out)}"
    diverged = [t.name for t in search.trials if t.state == "diverged"]
    if diverged:
        yield f"diverged in training, and lost by it: {'; '.join(diverged)}"
    yield from edges(search)


def edges(search: Search) -> Iterator[str]:
    """Where a chosen number is the smallest or largest of those that came to something."""
    whole = [t for t in search.trials if t.state == "tried"]
    for name, value in search.winner.settings.items():
        numbers = {t.settings[name] for t in whole if _is_number(t.settings[name])}
        if not _is_number(value) or len(numbers) < 2:
            continue
        if value == max(numbers) and not any(_is_above(t, name, value) for t in search.trials):
            yield f"{name} {_value(value)} is the largest that was tried: a larger one may do better"
        elif value == min(numbers):
            yield f"{name} {_value(value)} is the smallest that was tried: a smaller one may do better"


def _is_above(trial: Trial, name: str, value: float) -> bool:
    """Whether a larger value diverged: then the edge was found."""
    other = trial.settings[name]
    return trial.state == "diverged" and _is_number(other) and other > value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
