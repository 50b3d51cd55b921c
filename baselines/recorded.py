"""Answers that somebody else gave: today's system, an expert, a service that cannot be called from here.

They are scored like everybody's. What they cost and how long they took is what the file or the suite says;
what neither says is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from breakeven.harness import readers, store
from breakeven.harness.contracts import Brief, Example, Input, Prediction, Services, VariesWith
from breakeven.harness.errors import NotApplicable, UserError


def recorded(
    file: str,
    id: str = "id",
    output: str = "output",
    seconds: str = "seconds",
    cost_per_1000: float | None = None,
) -> Recorded:
    """Settings of a suite.

    Args:
        file: JSONL, CSV, Parquet or JSON with one row for each test example.
        id, output, seconds: names of its columns; seconds may be absent.
        cost_per_1000: what 1,000 requests cost, in the currency of the suite; unknown unless given.

    Raises:
        UserError: the file or a column is not there, or an id stands in it twice.
    """
    if cost_per_1000 is not None and not 0 <= cost_per_1000 < float("inf"):
        raise UserError("should be an amount of money", field="cost_per_1000")
    path = Path(file)
    if not path.is_file():
        raise UserError("no such file", file=path, field="file")
    answers: dict[str, tuple[str, float | None]] = {}
    for row in readers.read_file(path):
        for column in (id, output):
            if column not in row.values:
                known = ", ".join(row.values)
                raise UserError(
                    f"there is no column '{column}'", file=row.file, line=row.line, hint=f"columns: {known}"
                )
        key = str(row.values[id])
        if key in answers:
            raise UserError(f"'{key}' stands here for the second time", file=row.file, line=row.line)
        answer = row.values[output]
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
        answers[key] = text, _number(row, seconds)
    return Recorded(answers, cost_per_1000, str(path))


def _number(row: readers.Row, column: str) -> float | None:
    value = row.values.get(column)
    if value is None or value == "":
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UserError(f"'{value}' is no number", file=row.file, line=row.line, field=column) from None


@dataclass(frozen=True)
class Recorded:
    """`answers`: id -> (output, seconds)."""

    answers: Mapping[str, tuple[str, float | None]]
    cost_per_1000: float | None
    file: str
    varies_with: frozenset[VariesWith] = frozenset()
    #: Looking an answer up takes no time that a deployment would take.
    timed_elsewhere: bool = True

    @property
    def digest(self) -> str:
        """Address of the answers, so that a corrected file is scored again."""
        return store.digest([sorted(self.answers.items()), self.cost_per_1000])

    def fit(
        self, brief: Brief, train: Sequence[Example], validation: Sequence[Example], services: Services
    ) -> RecordedPredictor:
        return RecordedPredictor(self, services)

    def load(self, folder: Path, brief: Brief, services: Services) -> RecordedPredictor:
        return RecordedPredictor(self, services)


@dataclass(frozen=True)
class RecordedPredictor:
    strategy: Recorded
    services: Services

    def predict(self, inputs: Sequence[Input]) -> Iterator[Prediction]:
        answers = self.strategy.answers
        lacking = [x.id for x in inputs if x.id not in answers]
        if lacking:
            some = ", ".join(lacking[:3])
            raise NotApplicable(
                f"{self.strategy.file} answers {len(inputs) - len(lacking)} of {len(inputs)} examples; "
                f"it lacks {some}{' and others' if len(lacking) > 3 else ''}"
            )
        price = self.strategy.cost_per_1000
        each = None if price is None else price / 1000
        for asked in inputs:
            output, seconds = answers[asked.id]
            self.services.ledger.book("serve", "money", each, source="as stated in the suite")
            yield Prediction(asked.id, output, seconds=seconds, finish_reason="stop")

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def notes(self) -> dict[str, object]:
        return {"remarks": [f"answers recorded in {Path(self.strategy.file).name}"]}
