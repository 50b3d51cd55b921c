"""Where the time of answering and of training goes, by torch's profiler: products, attention, and all else.

    python benchmarks/where.py --banking77 PATH/TO/banking77

The cases are those of `bench.py`, our side alone. For another commit: `make links` in a checkout of it, then
this file with `PYTHONPATH=.typing` there. Profiling makes small operations look slower than they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "speed")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import bench  # noqa: E402
import ours  # noqa: E402
import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from breakeven.harness import models  # noqa: E402

KINDS = {
    "products": ("aten::mm", "aten::addmm_", "aten::addmm", "mkldnn::_linear_pointwise"),
    "attention": ("aten::_scaled_dot", "aten::bmm", "aten::baddbmm", "aten::_softmax"),
}


def kind(operation: str) -> str:
    return next((name for name, of in KINDS.items() if operation.startswith(of)), "all else")


def measured(case: Callable[[], dict[str, Any]]) -> tuple[float, Counter[str]]:
    """(seconds without a profiler, shares of the time of one thread within it), after a turn to warm up."""
    case()
    seconds = float(case()["seconds"])
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        case()
    times: Counter[str] = Counter()
    for event in seen.key_averages():
        times[kind(event.key)] += event.self_cpu_time_total
    return seconds, Counter({name: time / times.total() for name, time in times.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--banking77", type=Path, required=True, help="the folder with its files")
    given = parser.parse_args()
    model = str(models.resolve("smollm2-135m-instruct"))
    _, items, rows = bench.banking(given.banking77)
    settings = {"rank": 16, "batch_size": 8, "lr": 1e-3, "epochs": 1}
    cases: dict[str, Callable[[], dict[str, Any]]] = {
        "multiple choice": lambda: ours.choices(model, items),
        "generation": lambda: ours.generation(model, items, bench.TOKENS),
        "training": lambda: ours.training(model, rows, settings),
    }
    print("| case | seconds | " + " | ".join([*KINDS, "all else"]) + " |")
    print("| --- " * (len(KINDS) + 3) + "|")
    for name, case in cases.items():
        seconds, shares = measured(case)
        print(
            f"| {name} | {seconds:.2f} | "
            + " | ".join(f"{shares[k]:.0%}" for k in [*KINDS, "all else"])
            + " |"
        )
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
