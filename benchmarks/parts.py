"""What the parts of an answer and of a training step take, beside the way they were computed before.

    python benchmarks/parts.py --write docs/speed.md

Times are of one thread's own processor time, the least of several turns, so that other programs disturb them
little. Both ways compute the same: the last column is the largest difference, relative to the largest value.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import torch  # noqa: E402
from _pages import write_between  # noqa: E402
from torch.nn.functional import linear, scaled_dot_product_attention  # noqa: E402

from breakeven.baselines.trainers._blocks import Blocks, attend  # noqa: E402
from breakeven.baselines.trainers._fused import fused  # noqa: E402
from breakeven.harness import hardware  # noqa: E402

HALF = torch.bfloat16
#: The default model: width, inner width, query heads, key heads, size of a head.
WIDTH, INNER, HEADS, KEY_HEADS, SIZE = 576, 1536, 9, 3, 64
TURNS, TIMES = 6, 10

Way = Callable[[], Sequence[torch.Tensor]]


@dataclass(frozen=True)
class Case:
    """Two ways to compute the same: how it was, how it is."""

    name: str
    before: Way
    now: Way

    def line(self) -> str:
        was, found = self.before(), self.now()
        worst = max(
            float((a - b).detach().float().abs().max() / b.detach().float().abs().max())
            for a, b in zip(found, was, strict=True)
        )
        times: list[list[float]] = [[], []]
        for _ in range(TURNS):
            for way, taken in zip((self.before, self.now), times, strict=True):
                start = time.thread_time()
                for _ in range(TIMES):
                    way()
                taken.append((time.thread_time() - start) / TIMES)
        before, now = (min(t) * 1e6 for t in times)
        same = "none" if worst == 0 else f"{worst:.0e}"
        return f"| {self.name} | {before:,.0f} | {now:,.0f} | {before / now:.1f} x | {same} |"


def products() -> Iterator[Case]:
    """A linear layer whose weights come from memory, as they do when a model is read through."""
    weights = [torch.randn(INNER, WIDTH).to(HALF) for _ in range(40)]
    packed = [torch.ops.mkldnn._reorder_linear_weight(w) for w in weights]
    for rows in (1, 24, 64, 256):
        x = torch.randn(rows, WIDTH).to(HALF)

        def before(x: torch.Tensor = x) -> Sequence[torch.Tensor]:
            for weight in weights:
                out = linear(x, weight)
            return [out]

        def now(x: torch.Tensor = x) -> Sequence[torch.Tensor]:
            for weight in packed:
                out = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
            return [out]

        yield Case(f"40 products of {rows} rows with {WIDTH} x {INNER} weights, packed", before, now)


def single_tokens() -> Iterator[Case]:
    for past in (150, 600):
        q = torch.randn(1, HEADS, 1, SIZE).to(HALF)
        k, v = (torch.randn(1, KEY_HEADS, past, SIZE).to(HALF) for _ in range(2))

        def before(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v) -> Sequence[torch.Tensor]:
            return [scaled_dot_product_attention(q, k, v, enable_gqa=True)]

        def now(q: torch.Tensor = q, k: torch.Tensor = k, v: torch.Tensor = v) -> Sequence[torch.Tensor]:
            grouped = q.view(1, KEY_HEADS, HEADS // KEY_HEADS, SIZE)
            return [scaled_dot_product_attention(grouped, k, v).view(q.shape)]

        yield Case(f"attention of one token behind {past}, heads that share keys as tokens", before, now)


def blocks() -> Iterator[Case]:
    """Forward and backward, eight examples behind one beginning."""
    begins, own = 42, [25] * 8
    tokens = begins + sum(own)
    sees = torch.zeros(tokens, tokens, dtype=torch.bool)
    sees[:, :begins] = True
    for start in range(begins, tokens, own[0]):
        sees[start : start + own[0], start : start + own[0]] = True
    sees = sees.tril()
    given = [
        torch.randn(1, heads, tokens, SIZE).to(HALF).requires_grad_()
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]
    grad = torch.randn(1, tokens, HEADS, SIZE).to(HALF)
    laid_out, module = Blocks.of(begins, own), torch.nn.Module()

    def before() -> Sequence[torch.Tensor]:
        out = scaled_dot_product_attention(*given, attn_mask=sees, enable_gqa=True).transpose(1, 2)
        return out, *torch.autograd.grad(out, given, grad)

    def now() -> Sequence[torch.Tensor]:
        out, _ = attend(module, *given, None, blocks=laid_out)
        return out, *torch.autograd.grad(out, given, grad)

    yield Case(f"attention of a training pass, {len(own)} x {own[0]} tokens behind {begins}", before, now)


def layers() -> Iterator[Case]:
    """Forward and backward of one LoRA layer, rank 16."""
    from peft import LoraConfig, get_peft_model

    base = torch.nn.Sequential()
    base.add_module("one", torch.nn.Linear(WIDTH, INNER, bias=False).to(HALF))
    model: Any = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=["one"]))  # type: ignore[arg-type]
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    trained = [p for p in model.parameters() if p.requires_grad]
    x = torch.randn(240, WIDTH).to(HALF).requires_grad_()
    grad = torch.randn(240, INNER).to(HALF)

    def before() -> Sequence[torch.Tensor]:
        with torch.autocast("cpu", HALF):
            out = model.base_model.model(x)
        return out, *torch.autograd.grad(out, [x, *trained], grad)

    def now() -> Sequence[torch.Tensor]:
        with fused(model):
            return before()

    yield Case(f"LoRA layer of a training pass, 240 rows, {WIDTH} x {INNER}", before, now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path, help="a Markdown file to write the table into")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = ["| part | before, us | now, us | ratio | difference |", "| --- | --- | --- | --- | --- |"]
    for cases in (products(), single_tokens(), blocks(), layers()):
        lines += [case.line() for case in cases]
    seen = hardware.versions()
    said = ", ".join(f"{name} {seen[name]}" for name in ("python", "torch", "transformers", "peft"))
    table = "\n".join([*lines, "", f"One thread of {hardware.name()}, bfloat16; {said}."])
    print(table)
    if given.write is not None:
        write_between(given.write, "parts", table)


if __name__ == "__main__":
    main()
