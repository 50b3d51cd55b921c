"""Documents cut into passages, passages and examples into a vector index, questions into their nearest rows.

Vectors come from the harness's embedder and are searched by `_vectors`. How the rows are shown is left to
`_prompt`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from breakeven.baselines._guard import Guard
from breakeven.baselines._prompt import Passage
from breakeven.baselines._vectors import RECIPE, VectorIndex
from breakeven.harness.contracts import Brief, Document, Embedder, Input, Json, Services
from breakeven.harness.errors import NotApplicable, UserError
from breakeven.harness.store import digest

if TYPE_CHECKING:
    import numpy as np

CountTokens = Callable[[Sequence[str]], list[int]]

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]»”’]*\s+|(?<=[。！？])|\n")
_WORD = re.compile(r"\w+|[^\w\s]")


# --- passages --------------------------------------------------------------------------------


def cut(
    documents: Sequence[Document], chunk_tokens: int, chunk_overlap: int, count: CountTokens
) -> list[Passage]:
    """Cut documents into passages of at most `chunk_tokens`, about equal, at paragraph and sentence borders.

    A passage begins with the last sentences of the one before it, `chunk_overlap` tokens at most; a heading
    goes with what it heads. A sentence longer than a passage is cut between words.

    Args:
        count: tokens of each of several texts.
    """
    passages = []
    for document in documents:
        for number, text in enumerate(_chunks(document.text, chunk_tokens, chunk_overlap, count)):
            passages.append(Passage(f"{document.id}#{number}", document.id, document.title, text))
    return passages


def words(texts: Sequence[str]) -> list[int]:
    """Rough tokens of each text, where the embedder does not count: words and punctuation marks."""
    return [len(_WORD.findall(text)) for text in texts]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence, with what separates it from the piece before it."""

    text: str
    tokens: int
    separator: str


def _chunks(text: str, limit: int, overlap: int, count: CountTokens) -> list[str]:
    pieces = _pieces(text, limit, count)
    even = _even(sum(piece.tokens for piece in pieces), limit, overlap)
    chunks: list[list[_Piece]] = [[]]
    size = 0
    for piece in pieces:
        full = size + piece.tokens > limit or size + piece.tokens / 2 > even
        if chunks[-1] and full:
            carried = _carried(chunks[-1], piece, limit, overlap)
            chunks.append(carried)
            size = sum(p.tokens for p in carried)
        chunks[-1].append(piece)
        size += piece.tokens
    return [_joined(chunk) for chunk in chunks if chunk]


def _even(total: int, limit: int, overlap: int) -> float:
    """Tokens of each passage when a document is cut into as few as possible, all of one length."""
    number = max(1, -(-(total - overlap) // (limit - overlap)))
    return (total + (number - 1) * overlap) / number


def _carried(chunk: list[_Piece], following: _Piece, limit: int, overlap: int) -> list[_Piece]:
    """What the next passage repeats; a heading goes over to it whole, and is no longer in this one."""
    moved: list[_Piece] = []
    while len(chunk) > 1 and _is_heading(chunk[-1]):
        moved.insert(0, chunk.pop())
    if moved:
        return moved
    carried: list[_Piece] = []
    room = min(overlap, limit - following.tokens)
    for piece in reversed(chunk):
        if sum(p.tokens for p in carried) + piece.tokens > room:
            break
        carried.insert(0, piece)
    return carried if len(carried) < len(chunk) else carried[1:]


def _is_heading(piece: _Piece) -> bool:
    return piece.separator == "\n\n" and piece.text.startswith("#")


def _pieces(text: str, limit: int, count: CountTokens) -> list[_Piece]:
    raw: list[tuple[str, str]] = []
    for paragraph in _PARAGRAPH.split(text.strip()):
        separator = "\n\n"
        for sentence, following in _sentences(paragraph):
            raw.append((sentence, separator))
            separator = following
    counts = count([sentence for sentence, _ in raw]) if raw else []
    pieces: list[_Piece] = []
    for (sentence, separator), tokens in zip(raw, counts, strict=True):
        if tokens <= limit:
            pieces.append(_Piece(sentence, tokens, separator))
        else:
            pieces += _halved(sentence, separator, limit, count)
    return pieces


def _sentences(paragraph: str) -> list[tuple[str, str]]:
    """(sentence, what separates it from the next one) of a paragraph."""
    result, start = [], 0
    for border in _SENTENCE.finditer(paragraph):
        gap = border.group()
        end = border.end() - (len(gap) - len(gap.rstrip()))  # closing quotes stay with their sentence
        if sentence := paragraph[start:end].strip():
            result.append((sentence, "\n" if "\n" in gap else " " if gap else ""))
        start = border.end()
    if rest := paragraph[start:].strip():
        result.append((rest, "\n"))
    return result


def _halved(sentence: str, separator: str, limit: int, count: CountTokens) -> list[_Piece]:
    """A sentence that is longer than a passage, cut in the middle until its parts are not."""
    (tokens,) = count([sentence])
    if tokens <= limit or len(sentence) < 2:
        return [_Piece(sentence, tokens, separator)]
    middle = sentence.rfind(" ", 1, len(sentence) // 2 + 1)
    border = " " if middle > 0 else ""
    middle = middle if middle > 0 else len(sentence) // 2
    head, tail = sentence[:middle].rstrip(), sentence[middle:].lstrip()
    return [*_halved(head, separator, limit, count), *_halved(tail, border, limit, count)]


def _joined(pieces: Sequence[_Piece]) -> str:
    return pieces[0].text + "".join(piece.separator + piece.text for piece in pieces[1:])


# --- the index -------------------------------------------------------------------------------


@dataclass(frozen=True)
class PassageIndex:
    """A task's passages and their vectors; `folder` is the artifact they lie in."""

    passages: tuple[Passage, ...]
    index: VectorIndex
    folder: Path

    @classmethod
    def build(
        cls, documents: Sequence[Document], chunk_tokens: int, chunk_overlap: int, services: Services
    ) -> PassageIndex:
        """Cut, embed and index, once for all cells that ask with the same settings.

        Raises:
            NotApplicable: when the task has no documents.
        """
        if not documents:
            raise NotApplicable("no documents: this task has none to retrieve from")
        embedder = embedder_of(services)

        def make(folder: Path, ledger: object) -> None:
            count = getattr(embedder, "count_tokens", None) or words
            passages = cut(documents, chunk_tokens, chunk_overlap, count)
            if not passages:
                raise UserError("the documents of this task are empty", field="documents")
            vectors = embedder.encode([f"{p.title}\n{p.text}".strip() for p in passages], phase="index")
            VectorIndex.of(vectors).write(folder / "vectors.faiss")
            lines = (json.dumps(asdict(p), ensure_ascii=False) for p in passages)
            (folder / "passages.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

        spec: dict[str, Json] = {
            "of": "documents",
            "documents": digest([[d.id, d.title, d.text] for d in documents]),
            "chunk_tokens": chunk_tokens,
            "chunk_overlap": chunk_overlap,
            "embedder": _identity(embedder),
            "search": asdict(RECIPE),
        }
        return cls.read(services.artifacts.get("index", spec, make))

    @classmethod
    def read(cls, folder: Path) -> PassageIndex:
        with (folder / "passages.jsonl").open(encoding="utf-8") as file:
            passages = tuple(Passage(**json.loads(line)) for line in file)
        return cls(passages, VectorIndex.read(folder / "vectors.faiss"), folder)

    def nearest(
        self, asked: Sequence[Input], vectors: np.ndarray, k: int, guard: Guard
    ) -> list[tuple[Passage, ...]]:
        """For each input, whose vector stands in the same place, the `k` nearest passages, nearest first."""

        def allowed(number: int, row: int) -> bool:
            return guard.passage_allowed(asked[number], self.passages[row])

        return [tuple(self.passages[r] for r in rows) for rows in self.index.nearest(vectors, k, allowed)]


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


def language_remarks(brief: Brief, services: Services) -> list[str]:
    """A sentence where the embedding model does not know the language of the task."""
    from breakeven.harness.embedding import language_warning

    warning = language_warning(embedder_of(services).name, brief.language)
    return [warning] if warning else []


def _identity(embedder: Embedder) -> str:
    """What changes an embedder's vectors: its weights, where it can name them, else its name."""
    return f"{embedder.name} {getattr(embedder, 'digest', '')}".strip()


def reference(artifact: Path | None, folder: Path) -> str | None:
    """How a file in `folder` names an artifact, such that the run folder can be moved as a whole."""
    return os.path.relpath(artifact.resolve(), folder.resolve()) if artifact is not None else None


def resolved(name: str | None, folder: Path) -> Path | None:
    return (folder.resolve() / name).resolve() if name is not None else None
