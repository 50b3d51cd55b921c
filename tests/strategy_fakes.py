"""The harness as strategies see it, in miniature: an engine that answers by script, vectors from letters."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from breakeven.harness.contracts import (
    Brief,
    Capabilities,
    Completion,
    Example,
    ModelCard,
    Request,
    Services,
    Usage,
)
from breakeven.harness.ledger import Ledger
from breakeven.harness.store import ArtifactStore
from breakeven.harness.training import TrainingPair, TrainingResult

CAN_ALL = Capabilities(logprobs=True, adapters=True, train=True)
CARD = ModelCard("tiny", "fake", active_parameters=100, layers=2, attention_width=8, context=2000, digest="d")


@dataclass
class ScriptedSession:
    """Answers by `script(request) -> text`, or with the choice scores `script` returns; a token is a word."""

    script: Callable[[Request], Any] = lambda request: "yes"
    capabilities: Capabilities = CAN_ALL
    card: ModelCard = CARD
    adapter: Path | None = None
    calls: list[list[Request]] = field(default_factory=list)

    def describe(self) -> ModelCard:
        return self.card

    def count_tokens(self, request: Request) -> int:
        return sum(len(m["content"].split()) for m in request.messages)

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        asked = list(requests)
        self.calls.append(asked)
        for request in asked:
            said, usage = self.script(request), Usage(self.count_tokens(request), 1)
            if request.choices is not None:
                yield Completion(request.id, "", "choices", usage, 0.5, choice_logprobs=tuple(said))
            else:
                yield Completion(request.id, said, "stop", usage, 0.5)

    def adapt(self, adapter: Path | None) -> ScriptedSession:
        return replace(self, adapter=adapter)

    @property
    def raw(self) -> Any:
        return self

    def tunable(self) -> str:
        return "the shared model"

    @property
    def asked(self) -> list[Request]:
        """All requests of all calls."""
        return [request for call in self.calls for request in call]


@dataclass
class LetterEmbedder:
    """Unit vectors from words: texts that share words are near. Remembers what it was asked."""

    ledger: Ledger
    calls: list[tuple[str, list[str]]]
    name: str = "letters"
    language: str = "en"

    def encode(self, texts: Sequence[str], *, phase: str) -> np.ndarray:
        self.calls.append((phase, list(texts)))
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                vectors[row, zlib.crc32(word.encode()) % 64] += 1
        self.ledger.book(phase, "embedded_tokens", sum(len(t.split()) for t in texts), source="words")
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@dataclass
class World:
    """Services and what was done with them."""

    folder: Path
    engine: ScriptedSession | None = field(default_factory=ScriptedSession)
    ledger: Ledger = field(default_factory=Ledger)
    embedded: list[tuple[str, list[str]]] = field(default_factory=list)
    embedder_name: str = "letters"

    def services(self, **changes: Any) -> Services:
        made = Services(
            seed=0,
            ledger=self.ledger,
            scratch=self.folder,
            artifacts=ArtifactStore(self.folder / "artifacts", self.ledger),
            engine=self.engine,
            embedder=lambda: LetterEmbedder(self.ledger, self.embedded, self.embedder_name),
        )
        return replace(made, **changes)


@dataclass
class NotingTrainer:
    """Writes an adapter that names its training pairs; counts how often it was called."""

    settings: Mapping[str, Any]
    seen: list[tuple[list[TrainingPair], list[TrainingPair], int]]

    def train(
        self,
        tunable: Any,
        pairs: Sequence[TrainingPair],
        validation: Sequence[TrainingPair],
        folder: Path,
        scratch: Path,
        seed: int,
        settings: Mapping[str, Any],
        progress: Any,
    ) -> TrainingResult:
        self.seen.append((list(pairs), list(validation), seed))
        (scratch / "checkpoint").write_text("half", encoding="utf-8")
        (folder / "adapter_model.safetensors").write_text(json.dumps([p.id for p in pairs]), encoding="utf-8")
        return TrainingResult(
            steps=2, epochs=1.0, examples=len(pairs), truncated=0, dropped=0, training_tokens=40,
            answer_tokens=4,
            seconds=1.5, trainable_parameters=10, peak_bytes=1000, losses=((1, 2.0), (2, 1.0)),
            validation_losses=((2, 1.5),), settings=dict(settings),
        )  # fmt: skip


def examples(*rows: tuple[str, str] | tuple[str, str, str], prefix: str = "t") -> list[Example]:
    """Examples from (text, answer) or (text, answer, group)."""
    return [
        Example(f"{prefix}{n}", {"text": row[0]}, (row[1],), row[2] if len(row) == 3 else None)
        for n, row in enumerate(rows)
    ]


def brief(**changes: Any) -> Brief:
    made = Brief(
        "toy", "Say the colour.", "Text: {{ text }}", "accuracy", choices=("red", "blue"), max_tokens=8
    )
    return replace(made, **changes)
