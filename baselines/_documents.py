"""The task's documents as training material: cut into passages, each a text to be learned as it stands.

Continued training on documents, which knows no questions. Cutting is left to `_chunks`; how a text becomes
tokens, to the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from breakeven.baselines._chunks import cut
from breakeven.baselines._prompt import titled
from breakeven.harness.contracts import Document, EngineSession, Request
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.training import TrainingPair

#: Tokens that stand around a text, and that its sentences take more together than each alone.
SLACK = 16


def document_pairs(
    documents: Sequence[Document], tokens: int, longest: int | None, engine: EngineSession
) -> list[TrainingPair]:
    """Every document in passages of about `tokens` tokens, each under the title of its document.

    Cut at the borders of paragraphs and sentences, without overlap: every sentence is there once.

    Args:
        longest: tokens of an example at most; None where nobody knows.

    Raises:
        NotApplicable: when the task has no documents.
        UserError: when all of them are empty.
    """
    if not documents:
        raise NotApplicable("no documents: this task has none to train on")
    room = tokens if longest is None else max(min(tokens, longest - SLACK), 1)

    def count(texts: Sequence[str]) -> list[int]:
        return [engine.count_tokens(Request("document", text=text)) for text in texts]

    pairs = []
    for passage in cut(documents, room, 0, count):
        text = "\n\n".join(part for part in titled(passage) if part)
        pairs.append(TrainingPair(f"document:{passage.id}", (), text))
    if not pairs:
        raise UserError("the documents of this task are empty", field="documents")
    return pairs
