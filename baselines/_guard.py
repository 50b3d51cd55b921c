"""What must not be shown to a training or validation example: itself, its group, near duplicates.

A model that is tuned or judged with its own answer in sight learns and proves nothing. Test examples are
not guarded: what they share with training is counted and shown by the harness, not hidden by a strategy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from breakeven.baselines._prompt import Passage
from breakeven.harness.contracts import Example, Input


@dataclass(frozen=True)
class Guard:
    """Near duplicates of guarded examples, by their ids: among the examples, among the passages.

    A passage of an example's own group (its gold passage) may be shown; one that repeats its input may not.
    """

    examples: Mapping[str, frozenset[str]] = field(default_factory=dict)
    passages: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, guarded: Sequence[Example], shown: Sequence[Example], passages: Sequence[Passage]) -> Guard:
        """Near duplicates of `guarded` among what may be shown, as `breakeven.harness.splits` finds them."""
        from breakeven.harness.splits import near_pairs, text_of

        inputs = [text_of(e.input) for e in guarded]
        examples: dict[str, set[str]] = {e.id: set() for e in guarded}
        repeats: dict[str, set[str]] = {e.id: set() for e in guarded}
        for i, j, _ in near_pairs(inputs, [text_of(e.input) for e in shown]):
            examples[guarded[i].id].add(shown[j].id)
        for i, j, _ in near_pairs(inputs, [text_of({"text": p.text}) for p in passages]):
            repeats[guarded[i].id].add(passages[j].id)
        return cls(_frozen(examples), _frozen(repeats))

    def example_allowed(self, asked: Input, id: str, group: str | None) -> bool:
        """Whether the training example `id` may be shown to `asked`."""
        if asked.id not in self.examples:
            return True
        same_group = group is not None and group == asked.group
        return id != asked.id and not same_group and id not in self.examples[asked.id]

    def passage_allowed(self, asked: Input, passage: Passage) -> bool:
        return passage.id not in self.passages.get(asked.id, ())

    def write(self, path: Path) -> None:
        rows = {i: [sorted(near), sorted(self.passages.get(i, ()))] for i, near in self.examples.items()}
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Guard:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            {i: frozenset(examples) for i, (examples, _) in rows.items()},
            {i: frozenset(passages) for i, (_, passages) in rows.items()},
        )


def _frozen(sets: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {key: frozenset(members) for key, members in sets.items()}
