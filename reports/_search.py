"""Searches for settings as the reports show them: every candidate, what it reached on validation, who won."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from breakeven.harness import formats as f
from breakeven.harness import trials
from breakeven.harness.results import MetricInfo, Results, Row
from breakeven.harness.trials import Search, Trial

#: Beside the score of the candidate that was chosen.
CHOSEN = "chosen"
OPTIMISTIC = (
    "Scores on the examples that decided: that of the chosen candidate is optimistic, what it does on test "
    "examples is in the table of results."
)


@dataclass(frozen=True, slots=True)
class TrialLine:
    """A candidate of one fit: `fit` is its seed (and fold), `outcome` chosen, or what became of it."""

    label: str
    fit: str
    settings: str
    score: str
    loss: str
    trained: str
    answered: str
    outcome: str

    @property
    def is_chosen(self) -> bool:
        return self.outcome == CHOSEN


@dataclass(frozen=True, slots=True)
class SearchView:
    """The table of a task, and what must be said of it, as sentences."""

    metric: str
    lines: tuple[TrialLine, ...]
    sentences: tuple[str, ...]


def view(rows: Sequence[Row], metric: MetricInfo) -> SearchView | None:
    """None where no strategy searched."""
    lines = [line for row in rows for line in _lines(row, metric)]
    if not lines:
        return None
    said = [(row, s) for row in rows for s in trials.sentences(row, metric)]
    sentences = [f"{f.clean(row.label)}: {f.clean(s)}." for row, s in said]
    if unequal := trials.unequal(rows):
        sentences.append(f"{unequal[0].upper()}{unequal[1:]}.")
    return SearchView(f.clean(metric.name), tuple(lines), (OPTIMISTIC, *sentences))


def _lines(row: Row, metric: MetricInfo) -> Iterator[TrialLine]:
    for fit, search in trials.of_row(row):
        for trial in search.trials:
            yield _line(f.clean(row.label), fit, search, trial, metric)


def _line(label: str, fit: str, search: Search, trial: Trial, metric: MetricInfo) -> TrialLine:
    answered = trial.input_tokens + trial.output_tokens
    return TrialLine(
        label,
        fit,
        f.clean(trial.name),
        f.quality(trial.score, metric) if trial.score is not None else f.DASH,
        f"{trial.loss:.3f}" if trial.loss is not None else f.DASH,
        f.count(trial.training_tokens) if trial.state == "tried" else f.DASH,
        f.count(answered) if answered else f.DASH,
        CHOSEN if trial is search.winner else "" if trial.state == "tried" else trial.state,
    )


def facts(results: Results, name: str) -> list[dict[str, Any]]:
    """The same as plain numbers, one for each fit."""
    return [
        {"strategy": row.label, "fit": fit, **search.to_json()}
        for row in results.tables[name]
        for fit, search in trials.of_row(row)
    ]
