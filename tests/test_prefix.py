"""What prompts of a batch begin with is read once, and nobody's answer, score or bill changes by it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from test_local_engine import EXACT, SHAPES, WORDS, write_model

from breakeven.harness.contracts import Request
from breakeven.harness.engines import _prefix
from breakeven.harness.engines.local import LocalEngine, local

BEGINNING = WORDS * 2
CHOICES = ("card lost", "card lost again", "refund", "r")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / request.param, SHAPES[request.param])


def ask(n: int, **settings: Any) -> Request:
    content = f"{BEGINNING} Question {n}: {'why? ' * n}"
    return Request(
        f"r{n}", messages=({"role": "user", "content": content},), **{"max_tokens": 12, **settings}
    )


def read(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each forward pass of the model reads, as they happen."""
    passes: list[int] = []
    forward = engine._shared.base.forward

    def counting(**inputs: Any) -> Any:
        passes.append(inputs["input_ids"].numel())
        return forward(**inputs)

    monkeypatch.setattr(engine._shared.base, "forward", counting)
    return passes


def test_generated_answers_are_those_of_prompts_read_whole(folder: Path) -> None:
    engine = local(str(folder), **EXACT)
    requests = [ask(n) for n in range(5)]

    shared = {c.id: (c.text, c.usage) for c in engine.complete(requests)}
    whole = {c.id: (c.text, c.usage) for c in engine.unshared().complete(requests)}

    assert shared == whole


def test_scores_of_choices_are_those_of_prompts_read_whole(folder: Path) -> None:
    engine = local(str(folder), **EXACT)
    requests = [ask(n, choices=CHOICES) for n in range(4)]

    shared = {c.id: c for c in engine.complete(requests)}
    whole = {c.id: c for c in engine.unshared().complete(requests)}

    for id, plain in whole.items():
        assert shared[id].choice_logprobs == pytest.approx(plain.choice_logprobs, abs=1e-4)
        assert shared[id].usage == plain.usage


def test_what_is_shared_is_read_once_for_all_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = local(str(folder), **EXACT)
    engine.warm_up()
    passes = read(engine, monkeypatch)

    list(engine.complete([ask(n, max_tokens=1) for n in range(4)]))
    list(engine.complete([ask(n, max_tokens=1) for n in range(4, 8)]))

    prefix = passes[0]
    assert prefix >= len(BEGINNING) // _prefix.STEP * _prefix.STEP
    assert passes.count(prefix) == 1
    assert sum(passes) < 0.5 * sum(engine.count_tokens(ask(n)) for n in range(8))


def test_timing_passes_read_every_prompt_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = local(str(folder), **EXACT)
    engine.warm_up()
    passes = read(engine, monkeypatch)

    list(engine.unshared().complete([ask(n, max_tokens=1) for n in range(4)]))

    assert passes[0] >= sum(engine.count_tokens(ask(n)) for n in range(4))


def test_an_adapter_does_not_use_what_the_base_model_read(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    names = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn"]}[folder.name]
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=names, init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    engine = local(str(folder), **EXACT)
    requests = [ask(n) for n in range(3)]
    list(engine.complete(requests))
    tuned = engine.adapt(tmp_path)

    shared = {c.id: c.text for c in tuned.complete(requests)}

    assert shared == {c.id: c.text for c in tuned.unshared().complete(requests)}
    assert shared != {c.id: c.text for c in engine.complete(requests)}


def test_a_model_that_forgets_what_it_read_long_ago_shares_nothing(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mistral", SHAPES["mistral"])
    engine = local(str(folder), **EXACT)

    assert engine._shared_prefixes is None


def test_the_length_of_a_prefix_follows_from_the_batch_alone() -> None:
    same = list(range(100))

    assert _prefix.length([[*same, 1], [*same, 2]]) == 96
    assert _prefix.length([[*same, 2], [*same, 1]]) == 96
    assert _prefix.length([same, same]) == 96  # and a token of each is left to be read
    assert _prefix.length([same[:64], same[:64]]) == 32
    assert _prefix.length([same[:31], same]) == 0
    assert _prefix.length([same]) == 0
    for prompts in itertools.permutations([[*same[:40], 7], [*same[:70], 8], same]):
        assert _prefix.length(list(prompts)) == 32
