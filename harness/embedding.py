"""Texts to unit vectors with sentence-transformers, booked in the ledger of whoever asked.

A text is computed once while the program runs, but billed every time it is asked for: a deployment would
compute it again. Seconds of a repeated text are estimated from the speed measured so far. Vectors of many
passages at once are also kept between runs, so that a changed index embeds only what is new; the ledger then
says by its sources what was embedded now and what before.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from breakeven.harness import flops, hardware, models, scripts
from breakeven.harness._kept_vectors import KeptVectors
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger, Phase

if TYPE_CHECKING:
    import numpy as np

BATCH = 64
#: Fewest texts of an index whose vectors are kept between runs: fewer are embedded again in seconds.
WORTH_KEEPING = 1000
#: Source of the tokens of vectors that an earlier run has kept.
KEPT = "counted when first embedded: the vector was kept, an update embeds only what is new"
#: Languages that are written in Latin letters, of those that embedding models here are for.
_LATIN = frozenset({"en", "de", "fr", "es", "it"})

_shared: dict[tuple[str, str], _Model] = {}
_loading = threading.Lock()


class SentenceEmbedder:
    """An embedding model (`contracts.Embedder`); weights and vectors are shared in the process.

    Args:
        ledger: where its tokens, seconds and FLOPs are booked.
        model: a name, folder or Hub id of a sentence-transformers model.
        device: "auto" (CUDA where there is any), "cpu", "cuda".
        fresh: compute every text again, as a deployment must: for passes that are timed.
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        *,
        model: str = models.DEFAULT_EMBEDDER,
        device: str = "auto",
        fresh: bool = False,
    ) -> None:
        self.name, self._ledger, self._device, self._fresh = model, ledger, device, fresh
        self._folder: Path | None = None
        self._own: _Model | None = None
        entry = models.known(model)
        self.language = entry.language if entry else "unknown"

    def bind(self, ledger: Ledger | None, *, fresh: bool = False) -> SentenceEmbedder:
        """The same embedder, booking into `ledger`."""
        return SentenceEmbedder(ledger, model=self.name, device=self._device, fresh=fresh)

    def tunable(self) -> Any:
        """A copy of the model for the caller alone, to be changed; see `contracts.TunableEmbedder`."""
        return _loaded(models.resolve(self.name), self._device)

    def adapt(self, folder: Path) -> SentenceEmbedder:
        """The same embedder with the weights in `folder`, in memory as long as what is returned is used."""
        made = self.bind(self._ledger, fresh=self._fresh)
        made._folder, made._own = folder, _Model(folder, self._device)
        return made

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._model.dimension

    @property
    def digest(self) -> str:
        """SHA-256 of weights, settings and tokenizer: part of the key of everything made from its vectors. Of
        the default model, whose package is pinned, that of its weights, as ever: kept vectors stay good.
        """
        folder = self._folder or models.resolve(self.name)
        pinned = self._folder is None and self.name.lower() == models.DEFAULT_EMBEDDER
        return models.digest(folder) if pinned else models.embedder_digest(folder)

    @property
    def context(self) -> int:
        """Most tokens of a text that the model reads, the two it puts around every text included."""
        return int(self._model.model.max_seq_length)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each whole text, without those put around it, so that the parts of a text add up."""
        if not texts:
            return []
        counted = self._model.model.tokenizer(list(texts), add_special_tokens=False, verbose=False)
        return [len(ids) for ids in counted["input_ids"]]

    def encode(self, texts: Sequence[str], *, phase: Phase) -> np.ndarray:
        """(len(texts), dimension) float32, rows of length 1; books what it read under `phase`.

        Texts beyond the model's context (256 tokens for the default) are cut, and billed as cut.
        """
        kept = None
        if phase == "index" and not self._fresh and self._own is None and len(texts) >= WORTH_KEEPING:
            kept = KeptVectors.of(self.digest)
        found = self._model.encode(texts, self._fresh, kept)
        if self._ledger is not None and texts:
            self._book(found, phase)
        return found.vectors

    def _book(self, found: _Encoded, phase: Phase) -> None:
        assert self._ledger is not None
        where = hardware.name()
        book = partial(self._ledger.book, phase, "embedded_tokens", model=self.name)
        if found.tokens > found.kept or not found.kept:
            book(found.tokens - found.kept, source="counted, no padding")
        if found.kept:
            book(found.kept, source=KEPT)
        self._ledger.book(
            phase,
            "seconds",
            found.seconds,
            source="measured" if found.measured else "measured tokens/s of the embedder, for repeated texts",
            status=None if found.seconds is None or found.measured else "estimated",
            model=self.name,
            hardware=where,
        )
        self._ledger.book(
            phase,
            "flops",
            found.flops,
            source="2N per token + attention",
            status="estimated",
            model=self.name,
        )

    @property
    def _model(self) -> _Model:
        if self._own is not None:
            return self._own
        with _loading:
            key = (self.name, self._device)
            if key not in _shared:
                _shared[key] = _Model(models.resolve(self.name), self._device)
            return _shared[key]


def language_warning(
    embedder: str, language: str, texts: Mapping[str, Sequence[str]] | None = None
) -> str | None:
    """A sentence for the reader when the embedding model does not know the data's language, else None.

    Args:
        language: of the data, as its task declares it.
        texts: some of the data, by what they are called: they may be in another script than was declared.
    """
    entry = models.known(embedder)
    if entry is None or entry.language == "multilingual":
        return None
    seen = f"the data is in {_language(language)}"
    if entry.language == language.lower().split("-")[0]:
        found = _other_script(entry.language, texts or {})
        if found is None:
            return None
        seen = f"{found}, though the task declares {_language(language)}"
    return (
        f"The embedding model {entry.name} knows {_language(entry.language)} only and {seen}: retrieval, "
        "similar demonstrations and the classical baselines will be worse than a multilingual model would "
        "make them."
    )


def _other_script(language: str, texts: Mapping[str, Sequence[str]]) -> str | None:
    """What is mostly written in another script than the language, and in which."""
    for what, some in texts.items() if language in _LATIN else ():
        found = scripts.shares(some)
        other = 1 - found.pop("latin", 0)
        if found and other > 0.5:
            name = next(iter(found)).capitalize()
            return f"{100 * other:.0f} % of the letters of the {what} are not Latin (most are {name})"
    return None


def _language(code: str) -> str:
    names = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
    return names.get(code.lower().split("-")[0], f"the language '{code}'")


def _loaded(folder: Path, device: str) -> Any:
    """A sentence-transformers model in eval mode. Raises UserError when it cannot be loaded."""
    from sentence_transformers import SentenceTransformer

    from breakeven.harness._quiet import quiet
    from breakeven.harness.engines._weights import pick_device

    with quiet():
        try:
            model: Any = SentenceTransformer(
                str(folder), device=pick_device(device), trust_remote_code=False, local_files_only=True
            )
        except (ValueError, OSError) as error:
            raise UserError(f"the embedding model cannot be loaded: {error}", file=folder) from error
    return model.eval()


class _Encoded:
    """Vectors of one call, and what they cost; `kept` are the tokens that an earlier run has embedded."""

    def __init__(
        self,
        vectors: np.ndarray,
        tokens: int,
        kept: int,
        seconds: float | None,
        measured: bool,
        flops: float,
    ) -> None:
        self.vectors, self.tokens, self.kept, self.seconds = vectors, tokens, kept, seconds
        self.measured, self.flops = measured, flops


class _Model:
    """The loaded model with the vectors it has computed; `lengths` are real tokens, special ones included."""

    def __init__(self, folder: Path, device: str) -> None:
        self.model = _loaded(folder, device)
        self.dimension = int(self.model.get_embedding_dimension())
        self.vectors: dict[bytes, np.ndarray] = {}
        self.lengths: dict[bytes, int] = {}
        self.tokens_done, self.seconds_spent = 0, 0.0
        self.lock = threading.Lock()
        self._compute(["warm up the kernels before anything is timed"])
        self.tokens_done, self.seconds_spent = 0, 0.0

    def encode(self, texts: Sequence[str], fresh: bool, kept: KeptVectors | None = None) -> _Encoded:
        import numpy as np

        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        with self.lock:
            new = {k: t for k, t in zip(keys, texts, strict=True) if fresh or k not in self.vectors}
            spent, before = 0.0, self._from_before(new, kept)
            new = {k: t for k, t in new.items() if k not in before}
            if new:
                vectors, lengths, spent = self._compute(list(new.values()))
                self.vectors.update(zip(new, vectors, strict=True))
                self.lengths.update(zip(new, lengths, strict=True))
                self.tokens_done += sum(lengths)
                self.seconds_spent += spent
                if kept is not None:
                    rows = zip(new, lengths, vectors, strict=True)
                    kept.keep(rows, spent, hardware.name())
            lengths_all = [self.lengths[key] for key in keys]
            repeated = sum(lengths_all) - sum(self.lengths[key] for key in new)
            rate = self.seconds_spent / self.tokens_done if self.tokens_done else None
            if rate is None and kept is not None:
                rate = kept.seconds_a_token(hardware.name())
            stack = [self.vectors[key] for key in keys]
            seconds = spent + repeated * rate if rate is not None else None if repeated else spent
            earlier = sum(self.lengths[key] for key in keys if key in before)
        stacked = np.stack(stack) if stack else np.zeros((0, self.dimension), np.float32)
        flops = self._flops(lengths_all)
        return _Encoded(stacked, sum(lengths_all), earlier, seconds, repeated == 0, flops)

    def _from_before(self, wanted: Mapping[bytes, str], kept: KeptVectors | None) -> set[bytes]:
        """Those of the keys whose vectors an earlier run has kept; from now on they are known here."""
        found = kept.find(list(wanted)) if kept is not None else {}
        for key, (vector, tokens) in found.items():
            self.vectors[key], self.lengths[key] = vector, tokens
        return set(found)

    def _compute(self, texts: list[str]) -> tuple[np.ndarray, list[int], float]:
        """Vectors, tokens and seconds of texts that are not in the cache."""
        import numpy as np

        start = time.perf_counter()
        vectors = self.model.encode(
            texts,
            batch_size=BATCH,
            convert_to_numpy=True,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        seconds = time.perf_counter() - start
        counted = self.model.tokenizer(texts, truncation=True, max_length=self.model.max_seq_length)
        lengths = [len(ids) for ids in counted["input_ids"]]
        return np.ascontiguousarray(vectors, dtype=np.float32), lengths, seconds

    def _flops(self, lengths: Sequence[int]) -> float:
        config = self.model[0].auto_model.config
        total = sum(p.numel() for p in self.model.parameters())
        looked_up = sum(m.weight.numel() for m in self._tables())
        shape = (config.num_hidden_layers, config.hidden_size)
        return sum(flops.prefill(total - looked_up, *shape, length) for length in lengths)

    def _tables(self) -> list[Any]:
        import torch

        return [m for m in self.model.modules() if isinstance(m, torch.nn.Embedding)]
