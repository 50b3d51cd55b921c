"""Does the engine say what the plain computation says? The same prompts through both, counted.

    python benchmarks/equality.py --write docs/speed.md

The engine answers as a run does: batches by length, shared beginnings read once, choices as trees. The plain
side is transformers' own `generate` on whole prompts, padded on the left, at several batch sizes, in the
order given and in another; for choices one forward pass for each prompt and choice. In float32 all must
agree; in bfloat16 rounding depends on the shape of a batch, so plain batches disagree too: the engine should
agree with them no less than they do with each other.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from _pages import write_between  # noqa: E402

from breakeven.harness import hardware, models, plan, pool, run_tasks  # noqa: E402
from breakeven.harness import run as runs  # noqa: E402
from breakeven.harness import suite as suites  # noqa: E402
from breakeven.harness.contracts import Request, take  # noqa: E402
from breakeven.harness.engines.local import local  # noqa: E402

MODEL = "smollm2-135m-instruct"
#: Ways to ask plainly: batch size, and whether in another order (batches of 8 are parts of those of 16 else).
PLAIN = {"one by one": (1, False), "8": (8, False), "16": (16, False), "8, shuffled": (8, True)}
DTYPES = ("bfloat16", "float32")
#: What a choice's log-probability may differ by in float32, in nats.
TOLERANCE = 1e-4

Texts = Mapping[str, str]


@dataclass(frozen=True)
class Compared:
    """One dtype: the texts of each way of asking, by its name; choices' largest difference in nats."""

    dtype: str
    texts: Mapping[str, Texts]
    choices: int
    difference: float

    def equal(self, one: str, other: str) -> int:
        return sum(self.texts[one][id] == text for id, text in self.texts[other].items())

    @property
    def requests(self) -> int:
        return len(next(iter(self.texts.values())))

    @property
    def plain(self) -> list[str]:
        return [name for name in self.texts if name != "engine"]

    def share(self, pairs: Iterable[tuple[str, str]]) -> float:
        """Mean share of equal texts over pairs of ways."""
        return fmean(self.equal(*pair) / self.requests for pair in pairs)

    def fails(self) -> Iterator[str]:
        """What is not as it should be, a sentence each.

        In bfloat16 the engine counts as no worse than plain batches unless it is worse by more than twice the
        standard error of the difference between two shares of so many texts.
        """
        n = self.requests
        among = self.share(combinations(self.plain, 2))
        ours = self.share(("engine", name) for name in self.plain)
        if self.dtype == "float32":
            if min(among, ours) < 1:
                yield f"float32: {ours:.1%} of the texts equal to plain ones, all were wanted"
            if self.difference > TOLERANCE:
                yield f"float32: a choice differs by {self.difference:.1e} nats, more than {TOLERANCE:g}"
        error = math.sqrt(sum(share * (1 - share) / n for share in (ours, among)))
        if among - ours > 2 * error:
            yield f"{self.dtype}: {ours:.1%} equal to plain batches, {among:.1%} between plain batches"


def asked(suite: str, only: Sequence[str], examples: int) -> tuple[list[Request], list[Request]]:
    """(requests to generate, requests to score over choices): those that a run of the suite sends."""
    from breakeven.harness import _foresee

    chosen = suites.load(suites.find(suite), ())
    tasks = run_tasks.load_tasks(chosen, None)
    engines = pool.Engines(chosen, {}, None)
    written: list[Request] = []
    scored: list[Request] = []
    with tempfile.TemporaryDirectory() as folder:
        world = _foresee.World(chosen, tasks, engines.get, engines.embedder, Path(folder))
        for spec in plan.cells(chosen, tasks, only):
            if spec.model is None:
                continue
            seen = _foresee.foresee(spec, world)
            wanted = {e.id for e in take(tasks[spec.task].test, examples)}
            found = [replace(r, id=f"{spec.id}/{r.id}") for r in seen.requests if r.id in wanted]
            written += [replace(r, choices=None) for r in found]
            if choices := tasks[spec.task].choices:
                scored += [replace(r, choices=choices) for r in found]
    return written, scored


def engine_side(
    dtype: str, written: Sequence[Request], scored: Sequence[Request]
) -> tuple[Texts, dict[str, tuple[float, ...]]]:
    """(texts, log-probabilities of the choices) as a run gets them."""
    engine = local(MODEL, dtype=dtype, device="cpu")
    texts = {c.id: c.text for batch in engine.plan(written) for c in engine.complete(batch)}
    logprobs = {
        c.id: c.choice_logprobs or () for batch in engine.plan(scored) for c in engine.complete(batch)
    }
    return texts, logprobs


class Plain:
    """The model as transformers loads it, asked as anybody would."""

    def __init__(self, dtype: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from breakeven.harness._quiet import quiet

        folder = models.resolve(MODEL)
        self._torch: Any = torch
        with quiet():
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
            loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
        self._model: Any = loaded.eval()
        torch.set_num_threads(hardware.physical_cores())

    def prompt(self, request: Request) -> str:
        chat = [dict(m) for m in request.messages]
        return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def texts(self, requests: Sequence[Request], size: int) -> Texts:
        """Greedy answers in batches of `size`, in the order given; greedy whatever the requests say."""
        found: dict[str, str] = {}
        for start in range(0, len(requests), size):
            batch = requests[start : start + size]
            given = self._tokenizer(
                [self.prompt(r) for r in batch], padding=True, add_special_tokens=False, return_tensors="pt"
            )
            room = max(r.max_tokens for r in batch)
            with self._torch.inference_mode():
                ids = self._model.generate(**given, max_new_tokens=room, do_sample=False)
            for request, row in zip(batch, ids[:, given["input_ids"].shape[1] :], strict=True):
                found[request.id] = self._answer(request, row.tolist())
        return found

    def _answer(self, request: Request, ids: list[int]) -> str:
        text = str(self._tokenizer.decode(ids[: request.max_tokens], skip_special_tokens=True))
        cuts = [at for stop in request.stop if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text

    def logprob(self, request: Request, choice: str) -> float:
        """Summed log-probability of a choice and the end of the turn, from one pass over all of it."""
        prompt = self.prompt(request)
        before = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        ids = self._tokenizer(f"{prompt}{choice}<|im_end|>", add_special_tokens=False)["input_ids"]
        with self._torch.inference_mode():
            logits = self._model(self._torch.tensor([ids])).logits[0].float()
        chances = self._torch.log_softmax(logits, -1)
        return float(sum(chances[i - 1, ids[i]] for i in range(len(before), len(ids))))


def compared(dtype: str, written: Sequence[Request], scored: Sequence[Request]) -> Compared:
    started = time.perf_counter()
    texts, logprobs = engine_side(dtype, written, scored)
    plain = Plain(dtype)
    ways: dict[str, Texts] = {"engine": texts}
    shuffled = random.Random(0).sample(written, len(written))
    for name, (size, other_order) in PLAIN.items():
        ways[name] = plain.texts(shuffled if other_order else written, size)
    found = [
        abs(ours - plain.logprob(r, choice))
        for r in scored
        for choice, ours in zip(r.choices or (), logprobs[r.id], strict=True)
    ]
    print(f"{dtype}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return Compared(dtype, ways, len(found), max(found, default=0.0))


def lines(found: Compared) -> Iterator[str]:
    names = list(found.texts)
    yield f"| {found.dtype}: share of equal greedy texts | " + " | ".join(names) + " |"
    yield "| --- " * (len(names) + 1) + "|"
    for one in names:
        shares = (
            f"{found.equal(one, other) / found.requests:.0%}" if other != one else "" for other in names
        )
        yield f"| {one} | " + " | ".join(shares) + " |"
    yield ""
    among, ours = combinations(found.plain, 2), (("engine", name) for name in found.plain)
    yield (
        f"{found.requests} texts. On average {found.share(ours):.0%} are equal between the engine and a "
        f"plain way, {found.share(among):.0%} between two plain ways."
    )
    yield ""
    if found.choices:
        yield (
            f"Of {found.choices} choices scored by the engine and by a plain pass each, log-probabilities "
            f"differ by {found.difference:.1e} nats at most ({found.dtype})."
        )
        yield ""
    seen = hardware.versions()
    said = ", ".join(f"{name} {seen[name]}" for name in ("python", "torch", "transformers"))
    yield f"{MODEL} on {hardware.name()}; {said}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", default="quickstart", help="whose prompts are asked")
    parser.add_argument("--only", action="append", help="strategies of it; few-shot unless named")
    parser.add_argument("--examples", type=int, default=32, help="test examples of each task and strategy")
    parser.add_argument("--scored", type=int, default=8, help="prompts that are scored over choices")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="one of them alone")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the tables into")
    given = parser.parse_args()
    runs.offline_by_default()
    written, scored = asked(given.suite, given.only or ["few-shot"], given.examples)
    failed = []
    for dtype in given.dtype or DTYPES:
        found = compared(dtype, written, scored[: given.scored])
        table = "\n".join(lines(found))
        print(table, flush=True)
        if given.write is not None:
            write_between(given.write, f"equality {dtype}", table)
        failed += found.fails()
    for sentence in failed:
        print(sentence, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
