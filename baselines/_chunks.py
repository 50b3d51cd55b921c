"""Documents cut into passages between their sentences, each knowing where it comes from.

Within sentences only where one alone is too long, and not behind a heading that fits before what follows. How
long a passage may be is counted in tokens by whoever embeds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from breakeven.baselines._prompt import Passage
from breakeven.harness.contracts import Document

CountTokens = Callable[[Sequence[str]], list[int]]

_PARAGRAPH = re.compile(r"\n\s*\n")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]»”’]*\s+|(?<=[。！？])|\n")
_WORD = re.compile(r"\w+|[^\w\s]")


def cut(
    documents: Sequence[Document], chunk_tokens: int, chunk_overlap: int, count: CountTokens
) -> list[Passage]:
    """Cut documents into passages of at most `chunk_tokens`, about equal, between sentences.

    A passage begins with the last sentences of the one before it, `chunk_overlap` tokens at most; a heading
    goes with what it heads, where both fit into a passage. A sentence longer than a passage is cut between
    words. `start` and `end` of a passage are characters of the document's text, between which it stands, but
    for white space, as it is.

    Args:
        count: tokens of each of several texts.
    """
    passages = []
    for document in documents:
        for number, chunk in enumerate(_chunks(document.text, chunk_tokens, chunk_overlap, count)):
            name, where = f"{document.id}#{number}", (chunk[0].start, chunk[-1].end)
            passages.append(Passage(name, document.id, document.title, _joined(chunk), *where))
    return passages


def words(texts: Sequence[str]) -> list[int]:
    """Rough tokens of each text, where the embedder does not count: words and punctuation marks."""
    return [len(_WORD.findall(text)) for text in texts]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A sentence from `start` in its document, with what separates it from the piece before it."""

    text: str
    tokens: int
    separator: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _chunks(text: str, limit: int, overlap: int, count: CountTokens) -> list[list[_Piece]]:
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
    return [chunk for chunk in chunks if chunk]


def _even(total: int, limit: int, overlap: int) -> float:
    """Tokens of each passage when a document is cut into as few as possible, all of one length."""
    number = max(1, -(-(total - overlap) // (limit - overlap)))
    return (total + (number - 1) * overlap) / number


def _carried(chunk: list[_Piece], following: _Piece, limit: int, overlap: int) -> list[_Piece]:
    """What the next passage repeats; headings, as far as there is room before what follows, go over to it
    whole, and are no longer in this one.
    """
    moved: list[_Piece] = []
    room = limit - following.tokens
    while len(chunk) > 1 and _is_heading(chunk[-1]) and chunk[-1].tokens <= room:
        moved.insert(0, chunk.pop())
        room -= moved[0].tokens
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
    raw: list[tuple[str, str, int]] = []
    for paragraph, start in _paragraphs(text):
        separator = "\n\n"
        for sentence, following, place in _sentences(paragraph):
            raw.append((sentence, separator, start + place))
            separator = following
    counts = count([sentence for sentence, _, _ in raw]) if raw else []
    pieces: list[_Piece] = []
    for (sentence, separator, place), tokens in zip(raw, counts, strict=True):
        if tokens <= limit:
            pieces.append(_Piece(sentence, tokens, separator, place))
        else:
            pieces += _halved(sentence, separator, place, limit, count)
    return pieces


def _paragraphs(text: str) -> Iterator[tuple[str, int]]:
    """(paragraph, where it begins)."""
    start = 0
    for border in _PARAGRAPH.finditer(text):
        yield text[start : border.start()], start
        start = border.end()
    yield text[start:], start


def _sentences(paragraph: str) -> list[tuple[str, str, int]]:
    """(sentence, what separates it from the next one, where it begins) of a paragraph."""
    result, start = [], 0
    for border in _SENTENCE.finditer(paragraph):
        gap = border.group()
        end = border.end() - (len(gap) - len(gap.rstrip()))  # closing quotes stay with their sentence
        if sentence := paragraph[start:end].strip():
            place = start + _indent(paragraph[start:end])
            result.append((sentence, "\n" if "\n" in gap else " " if gap else "", place))
        start = border.end()
    if rest := paragraph[start:].strip():
        result.append((rest, "\n", start + _indent(paragraph[start:])))
    return result


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


def _halved(sentence: str, separator: str, start: int, limit: int, count: CountTokens) -> list[_Piece]:
    """A sentence that is longer than a passage, cut in the middle until its parts are not."""
    (tokens,) = count([sentence])
    if tokens <= limit or len(sentence) < 2:
        return [_Piece(sentence, tokens, separator, start)]
    middle = sentence.rfind(" ", 1, len(sentence) // 2 + 1)
    border = " " if middle > 0 else ""
    middle = middle if middle > 0 else len(sentence) // 2
    head, tail = sentence[:middle].rstrip(), sentence[middle:].lstrip()
    rest = start + len(sentence) - len(tail)
    return [*_halved(head, separator, start, limit, count), *_halved(tail, border, rest, limit, count)]


def _joined(pieces: Sequence[_Piece]) -> str:
    return pieces[0].text + "".join(piece.separator + piece.text for piece in pieces[1:])
