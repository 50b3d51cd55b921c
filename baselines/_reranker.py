"""A cross-encoder that reads a question together with a passage and says how well one answers the other.

Loaded once in the process by sentence-transformers; no such weights come with Breakeven.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from breakeven.harness import flops, hardware, models
from breakeven.harness.errors import UserError
from breakeven.harness.ledger import Ledger, Phase

BATCH = 32

_shared: dict[str, Any] = {}
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Reranker:
    """Args: name: a folder or Hub id of a cross-encoder with one output."""

    name: str

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return models.digest(models.resolve(self.name))

    def load(self) -> Any:
        """The model. Raises UserError where there is none, or it is not a cross-encoder with one output."""
        with _loading:
            if self.name not in _shared:
                _shared[self.name] = _loaded(self.name)
            return _shared[self.name]

    def scores(
        self, question: str, passages: Sequence[str], ledger: Ledger | None, phase: Phase
    ) -> list[float]:
        """One score a passage, larger is better; books what was read under `phase`."""
        if not passages:
            return []
        model = self.load()
        pairs = [(question, passage) for passage in passages]
        start = time.perf_counter()
        found = model.predict(pairs, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
        seconds = time.perf_counter() - start
        if ledger is not None:
            self._book(model, pairs, seconds, ledger, phase)
        return [float(score) for score in found]

    def _book(
        self, model: Any, pairs: Sequence[tuple[str, str]], seconds: float, ledger: Ledger, phase: Phase
    ) -> None:
        questions, passages = [q for q, _ in pairs], [p for _, p in pairs]
        read = model.tokenizer(questions, passages, truncation=True, max_length=_context(model))
        lengths = [len(ids) for ids in read["input_ids"]]
        ledger.book(
            phase, "embedded_tokens", sum(lengths), source="counted: pairs the reranker read", model=self.name
        )
        ledger.book(
            phase,
            "seconds",
            seconds,
            source="measured: reranking",
            model=self.name,
            hardware=hardware.name(),
        )
        ledger.book(
            phase,
            "flops",
            _flops(model, lengths),
            source="2N per token + attention",
            status="estimated",
            model=self.name,
        )


def _loaded(name: str) -> Any:
    from sentence_transformers import CrossEncoder

    from breakeven.harness._quiet import quiet
    from breakeven.harness.engines._weights import pick_device

    folder = models.resolve(name)
    with quiet():
        try:
            model: Any = CrossEncoder(
                str(folder), device=pick_device("auto"), trust_remote_code=False, local_files_only=True
            )
        except (ValueError, OSError) as error:
            raise UserError(
                f"the reranker cannot be loaded: {error}", file=folder, field="context.rerank"
            ) from error
    outputs = model.model.config.num_labels
    if outputs != 1:
        raise UserError(
            f"the reranker has {outputs} outputs where one score a pair is wanted",
            file=folder,
            field="context.rerank",
            hint="use a cross-encoder for reranking, for example cross-encoder/ms-marco-MiniLM-L6-v2",
        )
    model.model.eval()
    return model


def _context(model: Any) -> int:
    limit = getattr(model, "max_seq_length", None) or getattr(model, "max_length", None)
    return int(limit or model.model.config.max_position_embeddings)


def _flops(model: Any, lengths: Sequence[int]) -> float:
    import torch

    config = model.model.config
    total = sum(p.numel() for p in model.model.parameters())
    looked_up = sum(m.weight.numel() for m in model.model.modules() if isinstance(m, torch.nn.Embedding))
    shape = (config.num_hidden_layers, config.hidden_size)
    return float(sum(flops.prefill(total - looked_up, *shape, length) for length in lengths))
