"""Metrics that compare texts: exact, normalised, by tokens, by n-grams."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from breakeven.harness._answers import answer_text, squad_normal
from breakeven.harness._metric_parts import Judged, OfWeights, best, f1, right_or_wrong
from breakeven.harness.contracts import Example, Json, Metric, Prediction, Score
from breakeven.harness.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt


def exact_match() -> Metric:
    """1 if the output is a reference, white space around it aside."""

    def compare(output: str, reference: Json) -> Score:
        return right_or_wrong(output.strip() == answer_text(reference).strip())

    return Judged("exact_match", best(compare), binary=True)


def normalised_match() -> Metric:
    """1 if output and reference agree but for case, punctuation, articles and white space (SQuAD)."""

    def compare(output: str, reference: Json) -> Score:
        return right_or_wrong(squad_normal(output) == squad_normal(answer_text(reference)))

    return Judged("normalised_match", best(compare), binary=True)


def token_f1() -> Metric:
    """F1 of the words in common, SQuAD normalisation, the best reference counts.

    Official SQuAD 2.0 evaluation script, `compute_f1`: no words on one side is right only if on both.
    """

    def compare(output: str, reference: Json) -> Score:
        given, wanted = squad_normal(output).split(), squad_normal(answer_text(reference)).split()
        return Score(f1(Counter(given), Counter(wanted)))

    return Judged("token_f1", best(compare))


def rouge_l(*, stem: bool = False, tokenizer: Literal["rouge", "unicode"] = "rouge") -> Metric:
    """ROUGE-L F1 by rouge-score (Lin 2004).

    `tokenizer`: "rouge" is the package's own, which knows a-z and 0-9 only; "unicode" takes the words of any
    script (then `stem` has no effect).
    """
    from rouge_score.rouge_scorer import RougeScorer

    words = _UnicodeWords() if tokenizer == "unicode" else None
    scorer = RougeScorer(["rougeL"], use_stemmer=stem, tokenizer=words)

    def compare(output: str, reference: Json) -> Score:
        wanted = answer_text(reference)
        if not re.search("[a-z0-9]" if words is None else r"\w", wanted.casefold()):
            if re.search(r"\w", wanted):
                raise UserError(
                    f"rouge_l sees no word in the reference '{wanted[:40]}'", hint="set `tokenizer: unicode`"
                )
            return right_or_wrong(output.strip() == wanted.strip())
        return Score(float(scorer.score(wanted, output)["rougeL"].fmeasure))

    return Judged("rouge_l", best(compare))


class _UnicodeWords:
    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+", text.casefold())


def bleu(*, tokenize: str | None = None, lowercase: bool = False) -> Metric:
    """BLEU by sacrebleu, as 0..1: of a sentence for an example (effective order), of the corpus as aggregate.

    `tokenize` as sacrebleu names it ("13a" by default, "zh", "char", "intl", ...).
    """
    from sacrebleu.metrics import BLEU

    if tokenize is not None and tokenize not in BLEU.TOKENIZERS:
        hint = f"known: {', '.join(BLEU.TOKENIZERS)}"
        raise UserError(f"sacrebleu has no tokenizer '{tokenize}'", field="tokenize", hint=hint)
    try:
        sentence = BLEU(lowercase=lowercase, tokenize=tokenize, effective_order=True)
        corpus = BLEU(lowercase=lowercase, tokenize=tokenize)
    except (ImportError, OSError, RuntimeError) as error:  # some need a package or a download
        raise UserError(
            f"sacrebleu's tokenizer '{tokenize}' cannot be used: {error}", field="tokenize"
        ) from error
    return _by_sacrebleu("bleu", sentence, corpus)


def chrf(*, word_order: int = 0, char_order: int = 6, lowercase: bool = False) -> Metric:
    """chrF by sacrebleu (Popović 2015), as 0..1: of a sentence for an example, of the corpus as aggregate.

    `word_order: 2` makes it chrF++.
    """
    from sacrebleu.metrics import CHRF

    scorer = CHRF(char_order=char_order, word_order=word_order, lowercase=lowercase)
    return _by_sacrebleu("chrf", scorer, scorer)


def _by_sacrebleu(name: str, sentence: Any, corpus: Any) -> Metric:
    """Sentence and corpus score of a sacrebleu metric; several references go in together, as it wants."""

    def judge(output: str, references: Sequence[Json]) -> Score:
        texts = [answer_text(r) for r in references]
        if not output.strip():
            return right_or_wrong(any(not t.strip() for t in texts))
        return Score(min(1.0, sentence.sentence_score(output, texts).score / 100))

    def whole(
        examples: Sequence[Example], predictions: Sequence[Prediction], scores: Sequence[Score]
    ) -> float:
        return float(corpus.corpus_score(*_streams(examples, predictions)).score) / 100

    def weighted(examples: Sequence[Example], predictions: Sequence[Prediction]) -> OfWeights:
        """Both are made of sums over the segments, which sacrebleu's own significance tests resample."""
        import numpy as np

        segments = np.array(corpus._extract_corpus_statistics(*_streams(examples, predictions)))

        def value(weights: npt.NDArray[np.float64]) -> float:
            total = np.rint(weights @ segments).astype(int).tolist()
            return float(corpus._compute_score_from_stats(total).score) / 100

        return value

    return Judged(name, judge, whole=whole, weighted=weighted)


def _streams(
    examples: Sequence[Example], predictions: Sequence[Prediction]
) -> tuple[list[str], list[list[str | None]]]:
    """Outputs and references as sacrebleu wants them: the first of every example, the second, ..."""
    texts = [[answer_text(r) for r in e.references] for e in examples]
    streams = [[t[i] if i < len(t) else None for t in texts] for i in range(max(map(len, texts)))]
    return [p.output for p in predictions], streams
