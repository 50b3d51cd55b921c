"""Passages for training prompts as RAFT draws them: the one that answers, among distractors, or these alone.

Zhang et al. 2024, "RAFT: Adapting Language Model to Domain Specific RAG", arXiv 2403.10131, section 3. Which
document answers is known through the example's group. The chain-of-thought answers with quotes that the paper
has a large model write are not made: the answers stay those of the task.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from breakeven.baselines._prompt import Passage
from breakeven.baselines._ranking import Found, Retriever, Sees
from breakeven.baselines._settings import RaftSettings
from breakeven.harness.contracts import Brief, Example, Input, Services
from breakeven.harness.errors import NotApplicable
from breakeven.harness.ledger import Phase

if TYPE_CHECKING:
    import numpy as np


def require_told(brief: Brief, train: Sequence[Example]) -> None:
    """Raises NotApplicable where no training example says which document answers it."""
    known = {d.id for d in brief.documents}
    if known and train and not any(e.group in known for e in train):
        raise NotApplicable(
            "RAFT must know which document answers: no training example's group is a document's id"
        )


def drawn(
    settings: RaftSettings,
    retriever: Retriever,
    asked: Sequence[Input],
    texts: Sequence[str],
    vectors: np.ndarray | None,
    services: Services,
    phase: Phase,
) -> list[Found]:
    """The passages of each training example; of one whose group is no document, those that are retrieved.

    Which examples do without the passage that answers, and the order of the passages, follow from the seed
    and the example's id alone. Passages are given in the order in which they are wanted where room is short.

    Args:
        texts: what is looked up, in the order of the inputs; `vectors` (inputs, dimension) theirs.
    """
    distractors = settings.distractors if settings.distractors is not None else retriever.settings.k - 1

    def find(sees: Sees, number: int) -> list[Found]:
        some = replace(
            retriever, sees=sees, settings=retriever.settings.model_copy(update={"k": max(number, 1)})
        )
        return some.find(asked, texts, vectors, services, phase)

    answering, others = find("answering", 1), find("others", distractors + 1)
    untold = any(i.group not in retriever.documents for i in asked)
    retrieved = retriever.find(asked, texts, vectors, services, phase) if untold else []
    found = []
    for number, one in enumerate(asked):
        if one.group not in retriever.documents:
            found.append(retrieved[number])
            continue
        chance = random.Random(f"raft/{services.seed}/{one.id}")
        gold: Sequence[Passage] = ()
        if chance.random() >= settings.without_gold:
            gold = answering[number].passages or _any(retriever, one)
        wanted = (*gold, *others[number].passages[: distractors + 1 - len(gold)])
        places = list(range(len(wanted)))
        chance.shuffle(places)
        found.append(Found(wanted, {}, tuple(places)))
    return found


def _any(retriever: Retriever, asked: Input) -> tuple[Passage, ...]:
    """The first passage of the document that answers, where it shares no word with the question."""
    for passage in retriever.index.passages:
        if passage.document == asked.group and retriever.guard.passage_allowed(asked, passage):
            return (passage,)
    return ()
