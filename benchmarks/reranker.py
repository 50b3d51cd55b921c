"""A cross-encoder for XQuAD, so that the reranking stage has a number of its own where no hub can be reached.

    python benchmarks/reranker.py --xquad FOLDER --out runs/reranker
    breakeven retrieval xquad-retrieval --set tasks.xquad.args.data_dir=FOLDER \
        --set 'strategies.hybrid+rerank={strategy: levers,
            context: {k: 1, retriever: hybrid, candidates: 10, rerank: runs/reranker}}'

starts from the shipped embedding model, with a fresh head, and learns from the questions of paragraphs that
the task does not test: each with its paragraph, and with those that the embedding model takes for it. What
came of it, and that it is no match for one trained on millions of questions: docs/retrieval.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from breakeven.harness import models
from breakeven.tasks.xquad import xquad

NEGATIVES, EPOCHS, BATCH, LR, LENGTH = 3, 1, 16, 1e-4, 256


def pairs(data_dir: Path) -> Any:
    """A `datasets.Dataset` of (question, paragraph, 1 or 0), from training and validation questions.

    Negatives are paragraphs of these questions: one of a tested question must not be learned to be wrong.
    """
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    task = xquad(data_dir)
    texts = {document.id: document.text for document in task.documents}
    examples = [*task.train, *task.validation]
    known = {str(example.group) for example in examples}
    rows = [
        {"question": str(example.input["question"]), "paragraph": texts[str(example.group)]}
        for example in examples
    ]
    encoder = SentenceTransformer(str(models.resolve(models.DEFAULT_EMBEDDER)), device="cpu")
    return mine_hard_negatives(
        Dataset.from_list(rows),
        encoder,
        corpus=[texts[name] for name in sorted(known)],
        num_negatives=NEGATIVES,
        output_format="labeled-pair",
        verbose=False,
    )


def train(rows: Any, out: Path, seed: int) -> None:
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    from torch import tensor

    base = str(models.resolve(models.DEFAULT_EMBEDDER))
    model = CrossEncoder(base, num_labels=1, max_length=LENGTH, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        arguments = CrossEncoderTrainingArguments(
            output_dir=scratch,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=LR,
            warmup_steps=0.1,
            seed=seed,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            logging_steps=20,
        )
        loss = BinaryCrossEntropyLoss(model, pos_weight=tensor(float(NEGATIVES)))
        CrossEncoderTrainer(model=model, args=arguments, train_dataset=rows, loss=loss).train()
    model.save_pretrained(str(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--xquad", type=Path, required=True, help="the folder with xquad.en.json")
    parser.add_argument("--out", type=Path, default=Path("runs/reranker"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = pairs(given.xquad)
    right = sum(row["label"] for row in rows)
    began = time.perf_counter()
    train(rows, given.out, given.seed)
    print(
        f"{given.out}: {right} questions, {len(rows)} pairs, {time.perf_counter() - began:.0f} s of training"
    )


if __name__ == "__main__":
    main()
