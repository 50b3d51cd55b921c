"""What a fitted setting of the levers says of itself: what was used, and what a reader should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from breakeven.baselines import _pairs
from breakeven.baselines._composer import Composer
from breakeven.baselines._pairs import mean
from breakeven.baselines._retrieval import language_remarks, unread_remarks
from breakeven.baselines._vectors import IndexFacts
from breakeven.baselines._weights import Adapter
from breakeven.harness.contracts import Json, Services
from breakeven.harness.trials import NOTE, Search


@dataclass
class FitReport:
    """What was asked for and what found room, by input and (mean) in training; how settings were chosen.

    `asked` are questions, as they are looked up.
    """

    training: Mapping[str, Json] = field(default_factory=dict)
    search: Search | None = None
    served: dict[str, tuple[int, int]] = field(default_factory=dict)  # id -> demonstrations, passages
    asked: list[str] = field(default_factory=list)


def of(
    composer: Composer, report: FitReport, adapter: Adapter | None, scored: bool, services: Services
) -> dict[str, Any]:
    """For fit.json, to be read after predicting: what was used, and `remarks` as sentences.

    Args:
        scored: whether answers are scored over the choices, not generated.
    """
    settings, served = composer.settings, report.served.values()
    notes: dict[str, Any] = {}
    remarks: list[str] = []
    if (shown := settings.demonstrations) is not None and composer.pool is not None:
        fitted = [demonstrations for demonstrations, _ in served]
        notes["demonstrations"] = {"asked": shown.k, "select": shown.select, **_summary(fitted)}
        notes["k_used"] = mean(fitted)
        remarks += _shortfall(shown.k, len(composer.pool.candidates), fitted, "demonstrations")
        if (searched := composer.pool.index) is not None:
            notes["demonstrations"]["index"] = asdict(searched.facts)
            remarks += _approximate(searched.facts, "similar examples")
    if (context := settings.context) is not None and composer.passages is not None:
        fitted = [passages for _, passages in served]
        passages = composer.passages.passages
        notes["context"] = {
            "asked": context.k,
            "chunk_tokens": context.chunk_tokens,
            "chunk_overlap": context.chunk_overlap,
            "chunks": len(passages),
            "documents": len({p.document for p in passages}),
            "retriever": context.retriever,
            **({"rerank": context.rerank} if context.rerank is not None else {}),
            **({"mmr": context.mmr} if context.mmr is not None else {}),
            **_summary(fitted),
        }
        if (searched := composer.passages.vectors) is not None:
            notes["context"]["index"] = asdict(searched.facts)
            remarks += _approximate(searched.facts, "passages")
        built = composer.passages.built
        notes["context"]["built"] = built
        if built and built["embedded_now"] < built["embedded_tokens"]:
            remarks.append(
                f"{built['embedded_now']:,} of the index's {built['embedded_tokens']:,} tokens were new "
                "and embedded now; the one-off cost is that of the whole index"
            )
        remarks += unread_remarks(composer.passages)
        if context.retriever == "oracle":
            remarks.append("a ceiling: it is told which document answers, and cannot be served")
            if composer.untold:
                remarks.append(
                    f"{composer.untold:,} training and validation examples do not say which document "
                    "answers: they are shown what is nearest by embedding"
                )
        remarks += _shortfall(context.k, len(passages), fitted, "passages")
    if report.training:
        notes["training_prompts"] = dict(report.training)
        remarks += _pairs.remarks(report.training)
    if settings.answer == "choices":
        notes["answer"] = "scored over the choices" if scored else "generated"
        if not scored:
            remarks.append("generated: the engine gives no log-probabilities to score choices by")
    if report.search is not None:
        notes[NOTE] = report.search.to_json()
    if adapter is not None:
        remarks += getattr(adapter.training, "remarks", ())
    if composer.searches:
        texts = {"questions": report.asked}
        if composer.passages is not None:
            texts = {"documents": [d.text for d in composer.brief.documents], **texts}
        remarks += language_remarks(composer.brief, services, texts)
    return {**notes, "remarks": remarks}


def _summary(fitted: Sequence[int]) -> dict[str, Any]:
    return {"fitted": mean(fitted), "fitted_min": min(fitted, default=None)}


def _approximate(facts: IndexFacts, what: str) -> list[str]:
    """What approximate search misses, as it was measured when the index was built."""
    if facts.exact:
        return []
    return [
        f"{what} are searched approximately ({facts.probes:,} of {facts.lists:,} cells): of the ten nearest "
        f"{facts.recall:.1%} are found, measured with {facts.queries} questions made from the index"
    ]


def _shortfall(asked: int, available: int, fitted: Sequence[int], what: str) -> list[str]:
    """["8 demonstrations asked, 5.2 fitted"] where not all found room, or that there are fewer to show."""
    shown = mean(fitted)
    if shown is not None and shown < min(asked, available):
        return [f"{asked} {what} asked, {shown:.1f} fitted"]
    return [f"{asked} {what} asked, there are {available}"] if available < asked else []
