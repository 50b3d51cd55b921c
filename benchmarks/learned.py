"""What adapters have learned: the mean loss of a prompt token and of an answer token, of each and of none.

    python benchmarks/learned.py runs/systems-1 ... --rows 8

reads finished runs of the suite `systems` and asks each adapter there for the first training rows, as they
were trained on. A trainer without a loss mask lowers the loss of prompts; one with a mask leaves it where it
was.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from breakeven.harness import plan, single, store, suite
from breakeven.harness.training import TrainingPair


def adapters(run: Path) -> Iterator[tuple[str, Path]]:
    """(trainer, folder) of each adapter that a run has made."""
    for folder in sorted((run / "artifacts").glob("adapter-*")):
        if (folder / "adapter_model.safetensors").exists():
            yield store.read_json(folder / "meta.json")["spec"]["trainer"], folder


def losses(model: Any, encode: Any, pairs: Sequence[TrainingPair]) -> tuple[float, float]:
    """Mean negative log-likelihood of (a prompt token, an answer token), over all tokens of the pairs."""
    import torch

    sums, counts = [0.0, 0.0], [0, 0]
    for pair in pairs:
        prompt, answer = encode(pair.messages, pair.answer)
        ids = torch.tensor([[*prompt, *answer]])
        with torch.inference_mode():
            logits = model(ids).logits[0, :-1].float()
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        for part, some in enumerate((each[: len(prompt) - 1], each[len(prompt) - 1 :])):
            sums[part] += float(some.sum())
            counts[part] += len(some)
    return sums[0] / counts[0], sums[1] / counts[1]


def main() -> None:
    from peft import PeftModel

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--rows", type=int, default=8)
    given = parser.parse_args()
    with single.tuned(suite.load(given.runs[0] / "suite.yaml")) as found:
        one = next(one for one in found if one.spec.settings["weights"]["trainer"] == "peft")
        services, rows = one.services(), plan.training_rows(one.world.tasks, one.spec)
        pairs = one.strategy.training_pairs(one.task.brief, rows, (), services)[0][: given.rows]
        assert services.engine is not None
        raw: Any = services.engine.raw
        tunable = raw.tunable()
        print("| adapter | a prompt token | an answer token |\n| --- | --: | --: |")
        print("| none | {:.2f} | {:.2f} |".format(*losses(tunable.model, tunable.encode, pairs)))
        for trainer, folder in (pair for run in given.runs for pair in adapters(run)):
            adapted = PeftModel.from_pretrained(tunable.model, str(folder)).eval()
            print("| {} | {:.2f} | {:.2f} |".format(trainer, *losses(adapted, tunable.encode, pairs)))
            adapted.unload()


if __name__ == "__main__":
    main()
