"""A task's passages with what finds them: vectors, words, or both; and the vectors of training examples.

Made once as an artifact for all cells that ask with the same settings. Cutting is left to `_chunks`,
searching to `_vectors` and `_lexical`, combining what they find to `_ranking`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from breakeven.baselines._chunks import cut, words
from breakeven.baselines._guard import Guard
from breakeven.baselines._lexical import WORDS, LexicalIndex
from breakeven.baselines._prompt import Passage
from breakeven.baselines._vectors import RECIPE, VectorIndex
from breakeven.harness.contracts import Brief, Document, Embedder, Input, Json, Services
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.ledger import Entry, Ledger
from breakeven.harness.store import digest, read_json

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PassageIndex:
    """A task's passages and what they are searched by; `folder` is the artifact they lie in."""

    passages: tuple[Passage, ...]
    folder: Path
    vectors: VectorIndex | None = None
    lexical: LexicalIndex | None = None

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        chunk_tokens: int,
        chunk_overlap: int,
        services: Services,
        *,
        by_vectors: bool = True,
        by_words: bool = False,
    ) -> PassageIndex:
        """Cut, embed and index, once for all cells that ask with the same settings.

        Raises:
            NotApplicable: when the task has no documents, or vectors are wanted and nothing embeds.
        """
        if not documents:
            raise NotApplicable("no documents: this task has none to retrieve from")
        embedder = embedder_of(services) if by_vectors or services.embedder is not None else None

        def make(folder: Path, ledger: Ledger) -> None:
            passages = cut(
                documents, chunk_tokens, chunk_overlap, getattr(embedder, "count_tokens", None) or words
            )
            if not passages:
                raise UserError("the documents of this task are empty", field="documents")
            texts = [f"{p.title}\n{p.text}".strip() for p in passages]
            start = len(ledger.entries)
            if by_vectors and embedder is not None:
                VectorIndex.of(embedder.encode(texts, phase="index")).write(folder / "vectors.faiss")
            if by_words:
                _index_words(texts, folder / "words", ledger)
            built = {"passages": len(passages), **_embedded(ledger.entries[start:])}
            if by_vectors and embedder is not None:
                built |= _unread(texts, embedder)
            (folder / "built.json").write_text(json.dumps(built), encoding="utf-8")
            lines = (json.dumps(asdict(p), ensure_ascii=False) for p in passages)
            (folder / "passages.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

        spec: dict[str, Json] = {
            "of": "documents",
            "documents": digest([[d.id, d.title, d.text] for d in documents]),
            "chunk_tokens": chunk_tokens,
            "chunk_overlap": chunk_overlap,
            "embedder": _identity(embedder),
            "search": asdict(RECIPE) if by_vectors else None,
            **({"words": f"bm25 {WORDS}"} if by_words else {}),
        }
        return cls.read(services.artifacts.get("index", spec, make))

    @classmethod
    def read(cls, folder: Path) -> PassageIndex:
        with (folder / "passages.jsonl").open(encoding="utf-8") as file:
            passages = tuple(Passage(**json.loads(line)) for line in file)
        vectors, by_word = folder / "vectors.faiss", folder / "words"
        return cls(
            passages,
            folder,
            VectorIndex.read(vectors) if vectors.exists() else None,
            LexicalIndex.read(by_word, len(passages)) if by_word.exists() else None,
        )

    @property
    def built(self) -> dict[str, int]:
        """Passages, tokens that an index of them takes, and how many of these were not embedded before; where
        the embedding model does not read some passages to their ends, what it leaves out, see `_unread`.
        """
        found: dict[str, int] = read_json(self.folder / "built.json", {})
        return found

    def nearest(
        self, asked: Sequence[Input], vectors: np.ndarray, k: int, guard: Guard
    ) -> list[tuple[Passage, ...]]:
        """For each input, whose vector stands in the same place, the `k` nearest passages, nearest first."""
        assert self.vectors is not None

        def allowed(number: int, row: int) -> bool:
            return guard.passage_allowed(asked[number], self.passages[row])

        return [tuple(self.passages[r] for r in rows) for rows in self.vectors.nearest(vectors, k, allowed)]


def _embedded(booked: Sequence[Entry]) -> dict[str, int]:
    """Tokens of an index, and of those that no earlier run had embedded."""
    from breakeven.harness.embedding import KEPT

    tokens = [e for e in booked if e.quantity == "embedded_tokens" and e.amount.value is not None]
    new = sum(e.amount.value or 0 for e in tokens if e.source != KEPT)
    return {"embedded_tokens": int(sum(e.amount.value or 0 for e in tokens)), "embedded_now": int(new)}


def _unread(texts: Sequence[str], embedder: Embedder) -> dict[str, int]:
    """How many texts are longer than what the embedder `reads`, `tokens` of all, and those `unread`; nothing
    where it reads them all, or does not say how much it reads.
    """
    context, count = getattr(embedder, "context", None), getattr(embedder, "count_tokens", None)
    if context is None or count is None:
        return {}
    sizes, room = count(texts), context - 2  # of the two tokens around every text
    longer = [size - room for size in sizes if size > room]
    if not longer:
        return {}
    return {"longer": len(longer), "reads": context, "tokens": sum(sizes), "unread": sum(longer)}


def unread_remarks(index: PassageIndex) -> list[str]:
    """A sentence where the embedding model does not read all passages to their ends."""
    built = index.built
    if not built.get("longer"):
        return []
    return [
        f"{built['longer']:,} of {built['passages']:,} passages are longer than the {built['reads']:,} "
        f"tokens that the embedding model reads: it does not see their ends, {built['unread']:,} of "
        f"{built['tokens']:,} tokens; a smaller chunk_tokens leaves nothing out"
    ]


def _index_words(texts: Sequence[str], folder: Path, ledger: Ledger) -> None:
    from breakeven.harness import hardware

    start = time.perf_counter()
    LexicalIndex.of(texts).write(folder)
    took = time.perf_counter() - start
    ledger.book("index", "seconds", took, source="measured: BM25 index", hardware=hardware.name())


def example_index(texts: Sequence[str], services: Services) -> Path:
    """The artifact with the vectors of training examples, in their order (`vectors.faiss`)."""
    embedder = embedder_of(services)

    def make(folder: Path, ledger: object) -> None:
        VectorIndex.of(embedder.encode(texts, phase="index")).write(folder / "vectors.faiss")

    spec: dict[str, Json] = {
        "of": "examples",
        "texts": digest(list(texts)),
        "embedder": _identity(embedder),
        "search": asdict(RECIPE),
    }
    return services.artifacts.get("index", spec, make)


def embedder_of(services: Services) -> Embedder:
    if services.embedder is None:
        raise NotApplicable("no embedding model: this run has none")
    return services.embedder()


def language_remarks(brief: Brief, services: Services, texts: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence where the embedding model does not know the language of the task, as it is declared or
    by the script of what is embedded: `texts`, by what they are called.
    """
    from breakeven.harness.embedding import language_warning

    warning = language_warning(embedder_of(services).name, brief.language, texts)
    return [warning] if warning else []


def _identity(embedder: Embedder | None) -> str:
    """What changes an embedder's vectors: its digest, where it has one, else its name."""
    if embedder is None:
        return ""
    return f"{embedder.name} {getattr(embedder, 'digest', '')}".strip()


def reference(artifact: Path | None, folder: Path) -> str | None:
    """How a file in `folder` names an artifact, such that the run folder can be moved as a whole."""
    return os.path.relpath(artifact.resolve(), folder.resolve()) if artifact is not None else None


def resolved(name: str | None, folder: Path) -> Path | None:
    return (folder.resolve() / name).resolve() if name is not None else None
