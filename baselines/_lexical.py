"""Passages by the words they share with a question: BM25 (Robertson and Zaragoza 2009), by bm25s.

Words are what stands between white space and punctuation, in lower case. Accents are left off, and so are the
points of Hebrew and Arabic, which are mostly not written; marks of any other script are vowels or change the
letter, and stay. Of scripts that are written without spaces, pairs of neighbouring characters, each with its
marks. No stemming and no stop words: any language will do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

#: How a text is taken apart; part of the key of what is made from its words. Raise it with every change.
WORDS = 2

_WORD = re.compile(r"\w+")
#: Thai to Khmer, kana, Han and its extensions: written without spaces. Hangul is not.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
#: Scripts whose marks are left off, as Unicode begins the names of their letters.
_MARKS_LEFT_OFF = ("LATIN ", "GREEK ", "COPTIC ", "CYRILLIC ", "HEBREW ", "ARABIC ")
#: Zero-width joiners, which only choose the shape of a letter where they follow a mark.
_JOINERS = "\u200c\u200d"


def words(text: str) -> list[str]:
    """The words of a text, as they are indexed and looked up."""
    plain = text.lower() if text.isascii() else _unaccented(text.lower())
    found: list[str] = []
    for begin, end in _borders(plain):
        word, start = plain[begin:end], 0
        for run in _UNSPACED.finditer(word):
            found += [word[start : run.start()]] if run.start() > start else []
            found += _pairs(run.group())
            start = run.end()
        found += [word[start:]] if start < len(word) else []
    return found


def _unaccented(text: str) -> str:
    """Without the marks that are left off, and with those of other scripts, in Unicode's composed form."""
    kept: list[str] = []
    keeps = False  # whether marks of the letter before stay
    for c in unicodedata.normalize("NFKD", text):
        if _is_mark(c):
            kept += [c] if keeps else []
        elif c not in _JOINERS or not (kept and _is_mark(kept[-1])):
            kept.append(c)
            keeps = _keeps_marks(c)
    return unicodedata.normalize("NFC", "".join(kept))


def _borders(text: str) -> list[tuple[int, int]]:
    """Where each word begins and ends; a mark belongs to its letter, which Python's \\w does not know."""
    masked = text if text.isascii() else "".join("x" if _is_mark(c) else c for c in text)
    return [word.span() for word in _WORD.finditer(masked)]


def _pairs(run: str) -> list[str]:
    characters: list[str] = []
    for c in run:
        if characters and _is_mark(c):
            characters[-1] += c
        else:
            characters.append(c)
    return ["".join(characters[i : i + 2]) for i in range(len(characters) - 1)] or characters


@lru_cache(maxsize=4096)
def _is_mark(c: str) -> bool:
    return unicodedata.category(c).startswith("M")


@lru_cache(maxsize=4096)
def _keeps_marks(c: str) -> bool:
    return c.isalpha() and not unicodedata.name(c, "").startswith(_MARKS_LEFT_OFF)


@dataclass(frozen=True)
class LexicalIndex:
    """Rows by BM25 (k1 1.5, b 0.75). Rows are whatever their owner numbers; where none holds a word, there is
    no `bm25` and nothing is found.
    """

    bm25: Any | None
    size: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> LexicalIndex:
        import bm25s

        found = [words(text) for text in texts]
        if not any(found):
            return cls(None, len(texts))
        index = bm25s.BM25(k1=1.5, b=0.75)
        index.index(found, show_progress=False)
        return cls(index, len(texts))

    @classmethod
    def read(cls, folder: Path, size: int) -> LexicalIndex:
        import bm25s

        if not any(folder.iterdir()):
            return cls(None, size)
        return cls(bm25s.BM25.load(str(folder), show_progress=False), size)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.bm25 is not None:
            self.bm25.save(str(folder), show_progress=False)

    def nearest(
        self, texts: Sequence[str], k: int, allowed: Callable[[int, int], bool] | None = None
    ) -> list[list[int]]:
        """For each text at most `k` rows, best first; of equally good ones the first. A row that shares no
        word with it is not among them.

        Args:
            allowed: (number of the text, row) -> whether the row may be returned; all may, by default.
        """
        return [self._nearest(text, number, k, allowed) for number, text in enumerate(texts)]

    def _nearest(
        self, text: str, number: int, k: int, allowed: Callable[[int, int], bool] | None
    ) -> list[int]:
        import numpy as np

        if self.bm25 is None:
            return []
        known = [word for word in words(text) if word in self.bm25.vocab_dict]
        if not known:
            return []
        scores = np.round(self.bm25.get_scores(known).astype(np.float64), 5)
        some = np.flatnonzero(scores > 0)
        chosen: list[int] = []
        for row in some[np.argsort(-scores[some], kind="stable")]:
            if allowed is None or allowed(number, int(row)):
                chosen.append(int(row))
                if len(chosen) == k:
                    break
        return chosen
