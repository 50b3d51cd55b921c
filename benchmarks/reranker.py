"""A cross-encoder for XQuAD, so that the reranking stage has a number of its own where no hub can be reached.

    python benchmarks/reranker.py --xquad FOLDER --out runs/reranker
    breakeven retrieval xquad-retrieval --set tasks.xquad.args.data_dir=FOLDER \
        --set 'strategies.hybrid+rerank={strategy: levers,
            context: {k: 1, retriever: hybrid, candidates: 10, rerank: runs/reranker}}'

starts from the shipped embedding model, with a fresh head, and sees only paragraphs that the task does not
test. First words of a sentence are to be told from other sentences: that reading two texts beside each
other pays is learned from it in a few dozen steps, and from a few hundred questions alone it is not. Then
come the questions, each with sentences around its answer, against some of a paragraph that the embedding
model takes for the right one and some of other questions. What came of it: docs/retrieval.md.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from breakeven.harness import models
from breakeven.harness.contracts import Example
from breakeven.tasks.xquad import xquad

#: Texts that a query is told apart from, tokens of a pair in training and in use, rows of a batch.
NEGATIVES, SHORT, LENGTH, BATCH = 4, 128, 256, 16
#: Questions are seen so many times, each time in other surroundings.
SURROUNDINGS = 2
#: Words of a sentence that make a query, and a sentence's characters at least.
WORDS, SENTENCE = (4, 9), 20


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])\s+", text) if len(s) > SENTENCE] or [text]


def words_of(sentence: str, rng: random.Random) -> str:
    """Some of its words in their order, without punctuation."""
    words = sentence.split()
    kept = sorted(rng.sample(range(len(words)), min(rng.randint(*WORDS), len(words))))
    return " ".join(words[i].strip(".,;:()").lower() for i in kept)


def around(text: str, answer: str, rng: random.Random) -> str:
    """One to three sentences of the text; the one with the answer among them, if there is one."""
    cut = sentences(text)
    known = next((i for i, sentence in enumerate(cut) if answer and answer in sentence), None)
    middle = rng.randrange(len(cut)) if known is None else known
    return " ".join(cut[max(0, middle - rng.randint(0, 1)) : middle + 1 + rng.randint(0, 1)])


def confused(examples: Sequence[Example], texts: dict[str, str]) -> list[str]:
    """For each question, the paragraph that the embedding model likes best among the wrong ones.

    Of paragraphs of these questions: one of a tested question must not be learned to be wrong.
    """
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(models.resolve(models.DEFAULT_EMBEDDER)), device="cpu")
    names = sorted({str(e.group) for e in examples})
    asked = encoder.encode([str(e.input["question"]) for e in examples], normalize_embeddings=True)
    likes = asked @ encoder.encode([texts[n] for n in names], normalize_embeddings=True).T
    for row, example in zip(likes, examples, strict=True):
        row[names.index(str(example.group))] = -1.0
    return [texts[names[int(row.argmax())]] for row in likes]


def rows(data_dir: Path, seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(query, sentence) pairs, and (query, sentences, wrong sentences) of the questions."""
    task, rng = xquad(data_dir), random.Random(seed)
    texts = {document.id: document.text for document in task.documents}
    examples = [*task.train, *task.validation]
    every = [s for name in sorted({str(e.group) for e in examples}) for s in sentences(texts[name])]
    pairs = [{"query": words_of(sentence, rng), "text": sentence} for sentence in every]
    wrong = confused(examples, texts)
    questions = [
        {
            "query": str(example.input["question"]),
            "text": around(texts[str(example.group)], str(example.references[0]), rng),
            "wrong": around(other, "", rng),
        }
        for _ in range(SURROUNDINGS)
        for example, other in zip(examples, wrong, strict=True)
    ]
    return pairs, questions


def train(model: Any, made: list[dict[str, str]], lr: float, seed: int) -> None:
    """One pass over the rows."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import MultipleNegativesRankingLoss

    with tempfile.TemporaryDirectory() as scratch:
        arguments = CrossEncoderTrainingArguments(
            output_dir=scratch,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=lr,
            warmup_steps=0.1,
            seed=seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            logging_steps=15,
        )
        own = NEGATIVES - sum(name == "wrong" for name in made[0])
        loss = MultipleNegativesRankingLoss(model, num_negatives=own)
        CrossEncoderTrainer(
            model=model, args=arguments, train_dataset=Dataset.from_list(made), loss=loss
        ).train()


def main() -> None:
    from sentence_transformers.cross_encoder import CrossEncoder

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--xquad", type=Path, required=True, help="the folder with xquad.en.json")
    parser.add_argument("--out", type=Path, default=Path("runs/reranker"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pairs, questions = rows(given.xquad, given.seed)
    base = str(models.resolve(models.DEFAULT_EMBEDDER))
    model = CrossEncoder(base, num_labels=1, max_length=SHORT, device="cpu")
    began = time.perf_counter()
    train(model, pairs, 2e-4, given.seed)
    train(model, questions, 1e-4, given.seed)
    took = time.perf_counter() - began
    model.max_seq_length = LENGTH
    model.save_pretrained(str(given.out))
    print(f"{given.out}: {len(pairs)} sentences and {len(questions)} questions in {took:.0f} s of training")


if __name__ == "__main__":
    main()
