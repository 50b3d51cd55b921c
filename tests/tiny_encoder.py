"""A random sentence encoder of two layers, whose tokens are words."""

from __future__ import annotations

from pathlib import Path

WORDS = (
    "the", "a", "an", "old", "ripe", "red", "rose", "tomato", "summer", "winter", "evening", "sky", "blue",
    "wild",
)  # fmt: skip


def tiny_encoder(folder: Path) -> Path:
    """A sentence-transformers model of 32 dimensions below `folder`; words other than `WORDS` are unknown."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    bert = folder / "bert"
    bert.mkdir(parents=True)
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    BertTokenizer(vocab=vocabulary, model_max_length=32).save_pretrained(bert)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(bert)
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(32)], device="cpu")
    model.save(str(folder / "encoder"), create_model_card=False)
    return folder / "encoder"
