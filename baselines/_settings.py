"""Settings of the three levers, as people type them in a suite."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from breakeven.harness.errors import UserError

Select = Literal["fixed", "random", "similar", "balanced"]
Retrieval = Literal["dense", "lexical", "hybrid", "oracle"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DemonstrationSettings(Strict):
    """Which training examples are shown, answered, before the question.

    Attributes:
        k: how many; fewer where the context is too short.
        select: "fixed" the same for everybody whatever the seed; "random" drawn by the seed, the same for
            all questions; "balanced" drawn by the seed, every choice in turn; "similar" the nearest to the
            question by embedding.
        with_context: whether a demonstration shows its own passages when the question shows some.
    """

    k: int = Field(4, ge=1)
    select: Select = "balanced"
    with_context: bool = True


class ContextSettings(Strict):
    """Which passages of the task's documents are shown with the question.

    Candidates are retrieved, then reranked, then made diverse, as far as these settings say so; the first `k`
    are shown.

    Attributes:
        retriever: "dense", nearest by embedding; "lexical", by BM25; "hybrid", both, joined by reciprocal
            rank fusion; "oracle", passages of the very document that answers: no way to serve, but a ceiling.
        candidates: how many each retriever hands on where something follows it.
        rerank: a cross-encoder (sentence-transformers; a folder or Hub id) that reads the question with every
            candidate.
        mmr: maximal marginal relevance: 1 is relevance alone, 0 is being unlike what is already chosen.
    """

    k: int = Field(3, ge=1)
    chunk_tokens: int = Field(200, ge=16)
    chunk_overlap: int = Field(40, ge=0)
    retriever: Retrieval = "dense"
    candidates: int = Field(50, ge=1)
    rerank: str | None = Field(None, min_length=1)
    mmr: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _settings_agree(self) -> ContextSettings:
        if self.chunk_overlap * 2 > self.chunk_tokens:
            raise ValueError(f"chunk_overlap should be at most half of chunk_tokens ({self.chunk_tokens})")
        if self.stages > 1 and self.candidates < self.k:
            raise ValueError(f"candidates should be at least k ({self.k})")
        if self.retriever == "oracle" and self.stages > 1:
            raise ValueError("the oracle knows the document: there is nothing to rerank or make diverse")
        return self

    @property
    def stages(self) -> int:
        """How many steps the passages go through."""
        fused = self.retriever == "hybrid"
        return 1 + fused + (self.rerank is not None) + (self.mmr is not None)

    @property
    def needs_vectors(self) -> bool:
        return self.retriever != "lexical" or self.mmr is not None

    @property
    def needs_words(self) -> bool:
        return self.retriever in ("lexical", "hybrid")


class SearchSettings(Strict):
    """Settings of the trainer that are chosen by validation examples.

    Attributes:
        settings: of the trainer, each with the values to try. Every combination is a candidate, in the order
            written, the last setting changing fastest. They take the place of the lever's own.
        by: "score", the primary metric of what each candidate answers to validation examples; "loss", the
            last validation loss that the trainer reports. Equal scores are decided by the loss, then by the
            order.
        examples: validation examples that each candidate answers at most, the same for all; None: all.
        budget: training tokens that all candidates together may take; one that no longer fits is left out.
    """

    settings: dict[str, list[Any]] = Field(min_length=1)
    by: Literal["score", "loss"] = "score"
    examples: int | None = Field(None, ge=1)
    budget: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _is_a_choice(self) -> SearchSettings:
        for name, values in self.settings.items():
            if not values:
                raise ValueError(f"settings.{name} names no value to try")
            if name in WeightSettings.model_fields:
                raise ValueError(f"settings.{name} is no setting of a trainer")
        if all(len(values) == 1 for values in self.settings.values()):
            raise ValueError("settings has one candidate; a search needs two at least")
        if self.by == "loss" and self.examples is not None:
            raise ValueError("examples are those that are answered; by loss the trainer reads them all")
        return self


class RaftSettings(Strict):
    """Training prompts whose passages are drawn as RAFT draws them (Zhang et al. 2024, arXiv 2403.10131).

    Attributes:
        distractors: passages of other documents beside that of the document that answers; None: one less than
            serving shows.
        without_gold: share of the training prompts in which one more distractor takes that passage's place.
    """

    distractors: int | None = Field(None, ge=0)
    without_gold: float = Field(0.2, ge=0, lt=1)


class WeightSettings(BaseModel):
    """Which trainer tunes the weights, and on what; every other key is the trainer's own.

    Attributes:
        data: the training "examples", the "documents" as plain text, or "both" in one training.
        document_tokens: tokens of the passages that documents are cut into for it, about; at most what
            `max_length` and the model's context leave.
        search: see `SearchSettings`; None: the settings are as they are given.
        raft: see `RaftSettings`; None: training prompts show what is retrieved, as serving does.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    trainer: str = "peft"
    search: SearchSettings | None = None
    data: Literal["examples", "documents", "both"] = "examples"
    document_tokens: int = Field(512, ge=16)
    raft: RaftSettings | None = None

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class LeverSettings(Strict):
    """The three levers, each absent or set, and how an answer is had.

    Attributes:
        answer: "generate" text, or score the task's "choices" by their log-probability.
        list_choices: whether the prompt lists the choices; "auto" lists them unless the weights are tuned.
        length_normalise: divide a choice's log-probability by its length in UTF-8 bytes, so that long
            choices are not at a disadvantage (lm-evaluation-harness calls this acc_norm).
    """

    demonstrations: DemonstrationSettings | None = None
    context: ContextSettings | None = None
    weights: WeightSettings | None = None
    answer: Literal["generate", "choices"] = "generate"
    list_choices: bool | Literal["auto"] = "auto"
    length_normalise: bool = False

    @model_validator(mode="after")
    def _levers_agree(self) -> LeverSettings:
        if self.weights is None or self.weights.raft is None:
            return self
        what = hint = ""
        if self.context is None:
            what = "chooses the passages of training prompts, and none are shown"
            hint = "set `context` too, for example context: {k: 3}"
        elif self.context.retriever == "oracle":
            what = "shows distractors, which an oracle never serves"
            hint = "choose another context.retriever"
        elif self.weights.data == "documents":
            what = "is about the prompts of training examples, and data: documents trains on none"
            hint = "set weights.data to examples or both"
        if what:
            raise UserError(what, field="weights.raft", hint=hint)
        return self

    @property
    def choices_are_listed(self) -> bool:
        return self.weights is None if self.list_choices == "auto" else self.list_choices
