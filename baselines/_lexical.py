"""Passages by the words they share with a question: BM25 (Robertson and Zaragoza 2009), by bm25s.

Words are what stands between white space and punctuation, in lower case and unaccented; of scripts that are
written without spaces, pairs of neighbouring characters. No stemming and no stop words: any language will do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORD = re.compile(r"\w+")
#: Thai to Khmer, kana, Han and its extensions: written without spaces. Hangul is not.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def words(text: str) -> list[str]:
    """The words of a text, as they are indexed and looked up."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    found: list[str] = []
    for word in _WORD.findall(plain):
        start = 0
        for run in _UNSPACED.finditer(word):
            found += [word[start : run.start()]] if run.start() > start else []
            found += _pairs(run.group())
            start = run.end()
        found += [word[start:]] if start < len(word) else []
    return found


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


@dataclass(frozen=True)
class LexicalIndex:
    """Rows by BM25 (k1 1.5, b 0.75). Rows are whatever their owner numbers."""

    bm25: Any
    size: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> LexicalIndex:
        import bm25s

        index = bm25s.BM25(k1=1.5, b=0.75)
        index.index([words(t) for t in texts], show_progress=False)
        return cls(index, len(texts))

    @classmethod
    def read(cls, folder: Path, size: int) -> LexicalIndex:
        import bm25s

        return cls(bm25s.BM25.load(str(folder), show_progress=False), size)

    def write(self, folder: Path) -> None:
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
