"""Our speed beside that of a peer: one table, from one command that alternates ours and theirs.

    python benchmarks/bench.py --banking77 PATH/TO/banking77 --write benchmarks/README.md --write README.md

Peers run in environments of their own, made on first use under `.bench/` from the pinned requirements beside
this file. Both sides load their model before the clock starts, see the same prompts, and take turns; seconds
are medians. The limit is what the arithmetic alone would take at this machine's measured matrix rate.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "speed")]

from _pages import write_between  # noqa: E402
from _worker import Worker  # noqa: E402

from breakeven.harness import hardware, models  # noqa: E402

ENVIRONMENTS = Path(".bench")
ROUNDS = 3
INTENTS, ITEMS, DEMONSTRATIONS, ROWS = 10, 60, 10, 96
TOKENS = 8  # most tokens of a generated label


@dataclass(frozen=True)
class Case:
    """A line of the table. Seconds of every round; `limit` in seconds, None where none is known."""

    name: str
    ours: Sequence[float]
    peer: Sequence[float]
    wanted: float
    limit: float | None
    said: str = ""

    @property
    def ratio(self) -> float:
        return median(self.peer) / median(self.ours)


@dataclass(frozen=True)
class Bench:
    """What all cases share: workers by name, the model's folder, and the data."""

    model: Path
    demonstrations: str
    items: list[dict[str, Any]]
    rows: list[dict[str, str]]
    workers: dict[str, Worker] = field(default_factory=dict)

    def worker(self, name: str) -> Worker:
        if name not in self.workers:
            script = HERE / "speed" / f"{name}.py"
            python = Path(sys.executable) if name == "ours" else environment(name)
            ENVIRONMENTS.mkdir(exist_ok=True)
            self.workers[name] = Worker(python, script, ENVIRONMENTS / f"{name}.log")
        return self.workers[name]


def environment(name: str) -> Path:
    """The Python of a peer's environment, made if it is not there."""
    folder = ENVIRONMENTS / name
    python, stamp = folder / "bin/python", folder / "installed"
    wanted = (HERE / "speed" / f"{name}.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        requirements = str(HERE / "speed" / f"{name}.txt")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
        stamp.write_text(wanted)
    return python


# --- data ------------------------------------------------------------------------------------


def banking(folder: Path) -> tuple[str, list[dict[str, Any]], list[dict[str, str]]]:
    """(10 fixed demonstrations, 60 items with these before each, 96 chat rows) of 10 intents."""
    from breakeven.harness.contracts import take
    from breakeven.tasks.banking77 import banking77

    task = banking77(intents=INTENTS, data_dir=str(folder))
    assert task.choices is not None
    labels = [f" {c}" for c in task.choices]

    def shown(text: str) -> str:
        return f"Message: {text}\nIntent:"

    train, test = take(task.train, ROWS), take(task.test, ITEMS)
    fixed = "".join(
        f"{shown(str(e.input['text']))} {e.references[0]}\n\n" for e in take(task.train, DEMONSTRATIONS)
    )
    items = [
        {
            "prompt": fixed + shown(str(e.input["text"])),
            "choices": labels,
            "gold": labels.index(f" {e.references[0]}"),
        }
        for e in test
    ]
    ask = "Name the intent of this message to a bank. Answer with the intent only.\n\n"
    rows = [{"prompt": ask + str(e.input["text"]), "answer": str(e.references[0])} for e in train]
    return fixed, items, rows


# --- cases -----------------------------------------------------------------------------------


def alternated(
    ours: Callable[[], dict[str, Any]], peer: Callable[[], dict[str, Any]], rounds: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Both sides in turn, after a round that does not count."""
    mine, theirs = [], []
    for number in range(rounds + 1):
        found = ours(), peer()
        said = ", ".join(f"{x['seconds']:.2f} s" for x in found)
        print(f"  round {number}: ours, peer: {said}", file=sys.stderr)
        if number:
            mine.append(found[0])
            theirs.append(found[1])
    return mine, theirs


def best(candidates: Sequence[dict[str, Any]], seconds: Callable[[dict[str, Any]], float]) -> dict[str, Any]:
    """The setting that is quickest for the peer, tried once each."""
    found = [(seconds(c), c) for c in candidates]
    for took, c in found:
        print(f"  peer with {c}: {took:.2f} s", file=sys.stderr)
    return min(found, key=lambda x: x[0])[1]


def scoring(bench: Bench, rounds: int) -> Case:
    ours, peer = bench.worker("ours"), bench.worker("peer_lm_eval")
    model, gold = str(bench.model), [x["gold"] for x in bench.items]
    settings = best(
        [{"dtype": d, "batch_size": b} for d in ("float32", "bfloat16") for b in (1, 8, 32)],
        lambda s: peer.do("choices", model=model, items=bench.items[:4], **s)["seconds"],
    )
    mine, theirs = alternated(
        lambda: ours.do("choices", model=model, items=bench.items),
        lambda: peer.do("choices", model=model, items=bench.items, **settings),
        rounds,
    )
    a, b = mine[-1]["picked"], theirs[-1]["picked"]
    same = sum(x == y for x, y in zip(a, b, strict=True))
    said = (
        f"accuracy {_share(a, gold)} and {_share(b, gold)}, the same choice on {same} of {len(gold)}; "
        f"peer: {settings['dtype']}, batches of {settings['batch_size']}"
    )
    return Case(
        f"multiple choice, {len(gold)} items x {INTENTS} choices",
        _seconds(mine),
        _seconds(theirs),
        25,
        _limit(bench, _new_tokens(bench, choices=True)),
        said,
    )


def generating(bench: Bench, rounds: int) -> Case:
    ours, peer = bench.worker("ours"), bench.worker("peer_lm_eval")
    model, job = str(bench.model), {"items": bench.items, "tokens": TOKENS}
    settings = best(
        [{"dtype": d, "batch_size": b} for d in ("float32", "bfloat16") for b in (1, 8, 32, 64)],
        lambda s: peer.do("generation", model=model, **job, **s)["seconds"],
    )
    mine, theirs = alternated(
        lambda: ours.do("generation", model=model, **job),
        lambda: peer.do("generation", model=model, **job, **settings),
        rounds,
    )
    said = "accuracy {} and {}, the same text on {} of {}; peer: {}, batches of {}".format(
        *(_right(x[-1]["texts"], bench.items) for x in (mine, theirs)),
        sum(x.strip() == y.strip() for x, y in zip(mine[-1]["texts"], theirs[-1]["texts"], strict=True)),
        len(bench.items),
        settings["dtype"],
        settings["batch_size"],
    )
    return Case(
        f"generation, {len(bench.items)} items, at most {TOKENS} tokens",
        _seconds(mine),
        _seconds(theirs),
        5,
        _limit(bench, _new_tokens(bench, choices=False)),
        said,
    )


def tuning(bench: Bench, rounds: int) -> Case:
    ours, peer = bench.worker("ours"), bench.worker("peer_trl")
    model, job = str(bench.model), {"rank": 16, "batch_size": 8, "lr": 1e-3}
    quick = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
    tried = [
        {"dtype": "float32", "settings": {}},
        {"dtype": "float32", "settings": {**quick, "bf16": False}},
        {"dtype": "float32", "settings": {**quick, "bf16": True}},
        {"dtype": "bfloat16", "settings": {**quick, "bf16": False}},
        {"dtype": "bfloat16", "settings": {**quick, "bf16": True}},
    ]
    settings = best(
        tried, lambda s: peer.do("training", model=model, rows=bench.rows[:24], **job, **s)["seconds"]
    )
    mine, theirs = alternated(
        lambda: ours.do("training", model=model, rows=bench.rows, settings={**job, "epochs": 1}),
        lambda: peer.do("training", model=model, rows=bench.rows, **job, **settings),
        rounds,
    )
    rates = [[x["tokens"] / x["seconds"] for x in side] for side in (mine, theirs)]
    said = (
        f"{median(rates[0]):,.0f} and {median(rates[1]):,.0f} tokens/s; loss of the last three steps "
        f"{_last(mine)} and {_last(theirs)}; peer: {settings['dtype']}, "
        f"{settings['settings'] or 'as it comes'}"
    )
    tokens = mine[-1]["tokens"]
    # the ratio is that of tokens a second: both read the same rows, through templates of their own
    scaled = [s * tokens / x["tokens"] for s, x in zip(_seconds(theirs), theirs, strict=True)]
    return Case(
        f"LoRA r16 on all linear layers, {len(bench.rows)} examples",
        _seconds(mine),
        scaled,
        4,
        _limit(bench, tokens, passes=2),
        said,
    )


CASES: Mapping[str, Callable[[Bench, int], Case]] = {
    "choices": scoring,
    "generation": generating,
    "training": tuning,
}


# --- numbers ---------------------------------------------------------------------------------


def _seconds(found: Sequence[Mapping[str, Any]]) -> list[float]:
    return [float(x["seconds"]) for x in found]


def _share(picked: Sequence[int], gold: Sequence[int]) -> str:
    return f"{sum(x == y for x, y in zip(picked, gold, strict=True)) / len(gold):.3f}"


def _right(texts: Sequence[str], items: Sequence[Mapping[str, Any]]) -> str:
    right = sum(t.strip() == x["choices"][x["gold"]].strip() for t, x in zip(texts, items, strict=True))
    return f"{right / len(items):.3f}"


def _last(found: Sequence[Mapping[str, Any]]) -> str:
    losses = found[-1]["losses"][-3:]
    return f"{sum(losses) / len(losses):.2f}"


def _new_tokens(bench: Bench, choices: bool) -> int:
    """Tokens that must be read at least: the demonstrations once, each item's own, its choices or answer."""
    from breakeven.harness.engines._tokens import Tokens

    tokens = Tokens(bench.model)

    def count(text: str) -> int:
        return len(tokens.tokenizer(text, add_special_tokens=False)["input_ids"])

    total = count(bench.demonstrations)
    for x in bench.items:
        total += count(x["prompt"].removeprefix(bench.demonstrations))
        total += sum(count(c) - 1 for c in x["choices"]) if choices else count(x["choices"][x["gold"]])
    return total


def _limit(bench: Bench, tokens: int, passes: int = 1) -> float:
    """Seconds of the model's matrix products over so many tokens, at the rate measured here.

    2 FLOPs a parameter and token forward (`passes` 1); with frozen weights, as much again for the gradients
    of the activations (`passes` 2). The vocabulary is projected for few tokens, and left out.
    """
    about = bench.worker("ours").do("about", model=str(bench.model))
    config = json.loads((bench.model / "config.json").read_text())
    inner = about["parameters"] - config["vocab_size"] * config["hidden_size"]
    return 2 * inner * tokens * passes / matrix_rate(about["dtype"])


def matrix_rate(dtype: str, seconds: float = 2.0) -> float:
    """FLOPs a second of a matrix product of the model's size."""
    import torch

    a = torch.randn(1024, 1536).to(getattr(torch, dtype))
    b = torch.randn(1536, 1536).to(getattr(torch, dtype))
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        a @ b
        count += 1
    return 2 * 1024 * 1536 * 1536 * count / (time.perf_counter() - start)


# --- the table -------------------------------------------------------------------------------


def lines(cases: Sequence[Case]) -> Iterator[str]:
    yield "| case | ours | peer | ratio | wanted | limit | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for c in cases:
        limit = "unknown" if c.limit is None else f"{c.limit:.2f} s"
        yield (
            f"| {c.name} | {median(c.ours):.2f} s | {median(c.peer):.1f} s | {c.ratio:.1f} x "
            f"| {c.wanted:g} x | {limit} | {c.said} |"
        )


def gpu_lines() -> Iterator[str]:
    """What is wanted of a GPU: no command of this table runs on one yet."""
    for name, wanted in (
        ("LoRA in bf16 and 4 bits on a GPU, beside TRL", "1.5 x"),
        ("LoRA of a 1-8 B model on a GPU, beside the card's matrix rate", "45 %"),
    ):
        yield f"| {name} | not measured | not measured | - | {wanted} | - | no GPU was at hand |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all unless named")
    parser.add_argument("--banking77", type=Path, required=True, help="the folder with its files")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", type=Path, action="append", help="a Markdown file to write the table into")
    given = parser.parse_args()
    bench = Bench(models.resolve("smollm2-135m-instruct"), *banking(given.banking77))
    found = []
    for name in given.cases or CASES:
        print(name, file=sys.stderr)
        found.append(CASES[name](bench, given.rounds))
    table = [*lines(found), *gpu_lines(), "", _made_with(bench)]
    for worker in bench.workers.values():
        worker.end()
    print("\n".join(table))
    for page in given.write or ():
        write_between(page, "bench", "\n".join(table))


def _made_with(bench: Bench) -> str:
    machine = hardware.describe()
    said = [f"{machine['cpu']}, {machine['physical_cores']} cores", f"Python {platform.python_version()}"]
    for name, worker in bench.workers.items():
        about = worker.do("about", **({"model": str(bench.model)} if name == "ours" else {}))
        said.append(f"{name}: " + ", ".join(f"{k} {v}" for k, v in about["versions"].items()))
    return "; ".join(said) + "."


if __name__ == "__main__":
    main()
