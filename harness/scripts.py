"""In which script texts are written: what can be seen of a language without knowing any."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

#: Texts looked at, and letters of each: enough to tell what most of them are.
TEXTS = 200
LETTERS = 400


def shares(texts: Sequence[str]) -> dict[str, float]:
    """Of the letters of texts the share of each script, the largest first, by how Unicode begins their names:
    "latin", "devanagari", "cjk". Looks at some of the texts, evenly spread.
    """
    step = max(1, len(texts) // TEXTS)
    counts = Counter(
        script for text in texts[::step][:TEXTS] for c in text[:LETTERS] if (script := _script(c)) is not None
    )
    return {script: letters / counts.total() for script, letters in counts.most_common()}


@lru_cache(maxsize=8192)
def _script(c: str) -> str | None:
    if not c.isalpha():
        return None
    words = unicodedata.name(c, "other").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split()
    return words[0].lower()
