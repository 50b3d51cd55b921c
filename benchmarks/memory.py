"""Is the memory that `estimate` foretells what training and answering hold? Counted on models made here.

    python benchmarks/memory.py --write docs/speed.md
    python benchmarks/memory.py --only large --config path/to/config.json

Each small model is made from a configuration (its weights are zeros: bytes do not depend on them) and really
run: bytes of all tensors alive at once, counted at every operation. What is foretold comes from the
configuration alone, as for the large model that no run is made of.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

import torch  # noqa: E402
from _pages import write_between  # noqa: E402
from live_bytes import LiveBytes  # noqa: E402

from breakeven.baselines.trainers import _memory as training  # noqa: E402
from breakeven.baselines.trainers._examples import Batch, Tokens  # noqa: E402
from breakeven.baselines.trainers._layout import size  # noqa: E402
from breakeven.baselines.trainers._model import Forward, adapted, costs_of  # noqa: E402
from breakeven.baselines.trainers._outlook import _adapter_size  # noqa: E402
from breakeven.baselines.trainers._settings import Settings  # noqa: E402
from breakeven.harness import models  # noqa: E402
from breakeven.harness.contracts import ModelCard  # noqa: E402
from breakeven.harness.engines import _memory, _weights  # noqa: E402
from breakeven.harness.engines._cache import growing_cache  # noqa: E402
from breakeven.harness.training import Tunable  # noqa: E402

#: Share by which what is foretold may miss what was counted.
WANTED = 0.15
END = 2
#: (hidden, inner, layers, heads, key heads, vocabulary, tied) of models of the Llama family.
SHAPES = {
    "50 M": (512, 1408, 8, 8, 4, 32_000, True),
    "250 M": (1024, 2816, 16, 16, 4, 32_000, True),
    "600 M": (1536, 4096, 20, 12, 4, 32_000, True),
}
#: As published with Llama-3.1-8B.
LARGE = (4096, 14_336, 32, 32, 8, 128_256, False)
#: Cards that must do: bytes of 24 and 48 GB.
CARDS = {"nf4": 24e9, "bfloat16": 48e9}


@dataclass(frozen=True)
class Line:
    """What was counted beside what was foretold, in bytes."""

    model: str
    what: str
    counted: int
    foretold: int

    @property
    def off(self) -> float:
        return self.foretold / self.counted - 1


def llama(shape: Sequence[int]) -> Any:
    from transformers import LlamaConfig

    hidden, inner, layers, heads, keys, vocabulary, tied = shape
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        vocab_size=vocabulary,
        tie_word_embeddings=bool(tied),
        max_position_embeddings=8192,
        eos_token_id=END,
    )


def zeros(config: Any, dtype: torch.dtype) -> Any:
    """The model of a configuration, all weights 0."""
    made = _memory.meta(config).to(dtype).to_empty(device="cpu")
    made.tie_weights()
    with torch.no_grad():
        for tensor in (*made.parameters(), *made.buffers()):
            tensor.zero_()
    return made.eval().requires_grad_(False)


def examples(rows: int, begin: int, own: int, answer: int) -> Batch:
    """Prompts that begin with `begin` same tokens and go on with `own` others."""
    return tuple(Tokens((7,) * begin + (10 + i,) * own, (9,) * (answer - 1) + (END,)) for i in range(rows))


PASSES = {
    "rows": examples(2, 0, 140, 6),
    "one row": examples(4, 60, 20, 5),
}


def trained(name: str, config: Any, dtype: str, settings: Settings, part: Batch, how: str) -> Line:
    """A pass forward and back, at the most; the adapter and its gradients are there before."""
    model = zeros(config, getattr(torch, dtype))
    costs = costs_of(model)
    given = Tunable(model, lambda *_: ([], []), 0, END, 8192, "cpu", ModelCard("m", "bench", parameters=1))
    with adapted(given, settings, 0) as wrapped:
        forward = Forward(wrapped, given, settings)
        forward.costs = costs
        number = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
        forward.loss(part).backward()  # type: ignore[no-untyped-call]
        gc.collect()
        with LiveBytes() as live:
            forward.loss(part).backward()  # type: ignore[no-untyped-call]
    found = training.held(config, dtype, settings, part, costs, number)
    assert found is not None
    said = f"train {size(part, costs)[0]} tokens, {how}, {dtype}"
    return Line(name, said, live.peak, found.kept + found.scores)


def answered(name: str, config: Any, dtype: str, rows: int, prompt: int, new: int) -> Line:
    """Reading prompts and writing some tokens: keys, values, activations and scores."""
    shared = _weights.SharedModel(zeros(config, getattr(torch, dtype)))
    gc.collect()
    with LiveBytes() as live:
        cache, read = growing_cache(config), 0
        for width in (prompt, *[1] * new):
            read += width
            shared.forward(
                None,
                input_ids=torch.full((rows, width), 5),
                attention_mask=torch.ones((rows, read), dtype=torch.long),
                position_ids=torch.arange(read - width, read).expand(rows, -1),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
    foretold = _memory.answering(config, shared.base.dtype.itemsize, rows, prompt, new)
    return Line(name, f"answer {rows} x ({prompt} + {new}) tokens, {dtype}", live.peak, foretold)


def counted(names: Sequence[str], dtype: str) -> Iterator[Line]:
    from transformers import AutoConfig

    for name in names:
        known = name not in SHAPES
        config = AutoConfig.from_pretrained(models.resolve(name)) if known else llama(SHAPES[name])
        for how, part in PASSES.items():
            yield trained(name, config, dtype, Settings(), part, how)
        again = Settings(gradient_checkpointing=True)
        yield trained(name, config, dtype, again, PASSES["rows"], "checkpointed")
        yield answered(name, config, dtype, 4, 60, 4)


def table(lines: Sequence[Line]) -> Iterator[str]:
    yield "| model | what | counted | foretold | off |"
    yield "| --- | --- | --: | --: | --: |"
    for x in lines:
        yield f"| {x.model} | {x.what} | {_mb(x.counted)} | {_mb(x.foretold)} | {x.off:+.1%} |"


def large(config: Any, rows: int, tokens: int) -> Iterator[str]:
    """What LoRA of rank 16 on all linear layers takes, a pass of `rows` examples of `tokens` each."""
    settings = Settings()
    model = _memory.meta(config)
    costs = costs_of(model)
    part = examples(rows, 0, tokens - 16, 16)
    number = _adapter_size(model, settings)
    yield "| base | weights | unpacked | adapter, gradients, AdamW | kept | scores | CUDA | in all | card |"
    yield "| --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    for dtype, card in CARDS.items():
        found = training.held(config, "bfloat16", settings, part, costs, number)
        weights = _memory.weights(config, dtype)
        assert found is not None
        assert weights is not None
        unpacked = _memory.unpacked(config) if dtype == "nf4" else 0
        parts = [weights, unpacked, found.adapter, found.kept, found.scores, round(_memory.CUDA_CONTEXT)]
        room = card - sum(parts) + found.kept
        most = int(room / found.kept * size(part, costs)[0])
        said = f"{card / 1e9:.0f} GB: {'fits' if sum(parts) <= card else 'does not fit'}"
        cells = " | ".join(_gb(x) for x in (*parts, sum(parts)))
        yield f"| {dtype} | {cells} | {said}; passes up to {most:,} tokens do |"
    yield ""
    yield f"A pass of {rows} x {tokens:,} tokens, without checkpointing; from the configuration alone."


def _mb(value: float) -> str:
    return f"{value / 1e6:,.1f} MB"


def _gb(value: float) -> str:
    return f"{value / 1e9:,.2f} GB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", action="append", help="one alone: a name of SHAPES, or a model that is here"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--only", choices=("small", "large"))
    parser.add_argument("--config", type=Path, help="of the large model, in place of Llama-3.1-8B's")
    parser.add_argument("--rows", type=int, default=4, help="examples of the large model's pass")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of each of them")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the tables into")
    given = parser.parse_args()
    torch.set_num_threads(1)
    failed = False
    if given.only != "large":
        lines = []
        for line in counted(given.model or ["smollm2-135m-instruct", *SHAPES], given.dtype):
            lines.append(line)
            print(f"{line.model}, {line.what}: {line.off:+.1%}", file=sys.stderr, flush=True)
        made = "\n".join(table(lines))
        print(made, flush=True)
        failed = any(abs(line.off) > WANTED for line in lines)
        if given.write is not None:
            write_between(given.write, "memory small", made)
    if given.only != "small":
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(given.config) if given.config else llama(LARGE)
        made = "\n".join(large(config, given.rows, given.tokens))
        print(made)
        if given.write is not None:
            write_between(given.write, "memory large", made)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
