"""lm-evaluation-harness on the same prompts: its Hugging Face backend, at a batch size and dtype."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _worker import installed, serve
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

MODELS: dict[tuple[str, str], HFLM] = {}
Item = Mapping[str, Any]


def model_of(model: str, dtype: str, batch_size: int) -> HFLM:
    if (model, dtype) not in MODELS:
        MODELS[model, dtype] = HFLM(pretrained=model, device="cpu", dtype=dtype, batch_size=batch_size)
    found = MODELS[model, dtype]
    found.batch_size_per_gpu = batch_size
    return found


def evaluated(lm: HFLM, items: Sequence[Item], task: Mapping[str, Any]) -> tuple[list[dict[str, Any]], float]:
    """What was answered to each item, in order, and the seconds of the evaluation, its task set up before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "items.jsonl"
        file.write_text("".join(json.dumps({**x, "number": i}) + "\n" for i, x in enumerate(items)))
        config = {
            "task": "bench",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": folder},
            "test_split": "test",
            "doc_to_text": "{{prompt}}",
            "num_fewshot": 0,
            **task,
        }
        start = time.perf_counter()
        found = simple_evaluate(model=lm, tasks=[config], bootstrap_iters=0, log_samples=True)
        seconds = time.perf_counter() - start
    assert found is not None
    return sorted(found["samples"]["bench"], key=lambda s: s["doc"]["number"]), seconds


def choices(model: str, items: Sequence[Item], dtype: str, batch_size: int) -> dict[str, Any]:
    task = {
        "output_type": "multiple_choice",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    samples, seconds = evaluated(model_of(model, dtype, batch_size), items, task)
    scores = [[float(r[0]) for r in s["filtered_resps"]] for s in samples]
    return {"seconds": seconds, "picked": [max(range(len(x)), key=x.__getitem__) for x in scores]}


def generation(model: str, items: Sequence[Item], tokens: int, dtype: str, batch_size: int) -> dict[str, Any]:
    task = {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[gold]}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": tokens, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    }
    samples, seconds = evaluated(model_of(model, dtype, batch_size), items, task)
    return {"seconds": seconds, "texts": [str(s["filtered_resps"][0]) for s in samples]}


def about() -> dict[str, Any]:
    return {"versions": installed(["lm_eval", "torch", "transformers"])}


if __name__ == "__main__":
    serve({"choices": choices, "generation": generation, "about": about})
