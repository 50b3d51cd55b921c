"""Examples in one row train what they train in rows of their own; which of the two is quicker is counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import trainer_tiny as tiny
from test_local_engine import write_model
from transformers import (
    AttentionInterface,
    LlamaConfig,
    MistralConfig,
    MistralForCausalLM,
    StableLmConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from breakeven.baselines.trainers import _blocks, _outlook
from breakeven.baselines.trainers._examples import Batch, Tokens
from breakeven.baselines.trainers._layout import Costs, Layout, in_one_row, in_rows, is_one_row, shared, size
from breakeven.baselines.trainers._model import Forward, adapted, costs_of, foreseen_costs
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness import attention
from breakeven.harness.engines.local import local
from breakeven.harness.training import TrainingPair

CHEAP = Costs(pair=1e-6, one_row=True)
NEVER = Costs(pair=1e-6, one_row=False)


def batch(*texts: tuple[str, str]) -> Batch:
    return tuple(Tokens(tuple(tiny.ids(prompt)), (*tiny.ids(answer), tiny.END)) for prompt, answer in texts)


ALIKE = batch(
    ("name the fruit: red", "apple"), ("name the fruit: yellow", "lemon"), ("name the fruit: x", "?")
)
APART = batch(("one thing", "yes"), ("another", "no"))


def gradients(part: Batch, costs: Costs) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradients of an adapter that is not the identity."""
    given = tiny.tunable()
    with adapted(given, Settings(rank=4), seed=3) as model:
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        forward = Forward(model, given, Settings(rank=4))
        forward.costs = costs
        loss = forward.loss(part)
        loss.backward()
        found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    return float(loss.detach()), found


@pytest.mark.parametrize("part", [ALIKE, APART], ids=["alike", "apart"])
def test_loss_and_gradients_are_the_same_in_one_row(part: Batch) -> None:
    assert is_one_row(part, CHEAP)
    assert not is_one_row(part, NEVER)
    loss, one_row = gradients(part, CHEAP)
    expected, rows = gradients(part, NEVER)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert len(one_row) == len(rows) > 0
    for a, b in zip(one_row, rows, strict=True):
        assert torch.allclose(a, b, atol=1e-4 * float(b.abs().max()))


def test_what_prompts_begin_with_stands_once_and_nothing_is_padded() -> None:
    begins = shared(ALIKE)
    assert begins == len("name the fruit: ")
    found = in_one_row(ALIKE)
    assert found.ids.shape == (1, begins + sum(len(e) - 1 - begins for e in ALIKE))
    assert found.real.all()
    assert in_rows(ALIKE, tiny.END).ids.numel() > found.ids.numel()


@pytest.mark.parametrize("laid_out", [in_rows(ALIKE, tiny.END), in_one_row(ALIKE)], ids=["rows", "one row"])
def test_every_token_read_is_needed_to_predict_the_next(laid_out: Layout) -> None:
    predicting = laid_out.ids[laid_out.predicts].tolist()
    assert predicting == [
        token for e in ALIKE for token in (*e.prompt, *e.answer)[len(e.prompt) - 1 : len(e) - 1]
    ]
    assert laid_out.labels.tolist() == [token for e in ALIKE for token in e.answer]


def test_each_prompt_keeps_the_token_that_predicts_its_answer() -> None:
    same = batch(("the very same", "yes"), ("the very same", "no"))
    assert shared(same) == len("the very same") - 1
    assert shared(batch(("short", "a"), ("short but longer", "b"))) == len("short") - 1


def test_blocks_say_which_token_is_whose() -> None:
    found = in_one_row(ALIKE).blocks
    assert found is not None
    begins, lengths = shared(ALIKE), [len(example) - 1 - shared(ALIKE) for example in ALIKE]
    assert (found.begins, found.examples, found.width) == (begins, len(ALIKE), max(lengths))
    own = found.own.view(found.examples, found.width)
    for row, (length, start) in enumerate(zip(lengths, _starts(ALIKE), strict=True)):
        assert own[row, :length].tolist() == list(range(start, start + length))
    assert found.own[found.rows].tolist() == list(range(begins, begins + sum(lengths)))


def test_positions_are_those_of_the_example_alone() -> None:
    found = in_one_row(ALIKE)
    assert found.places is not None
    for example, start in zip(ALIKE, _starts(ALIKE), strict=True):
        begins, own = shared(ALIKE), len(example) - 1 - shared(ALIKE)
        assert found.places[0, start : start + own].tolist() == list(range(begins, begins + own))


def _starts(part: Batch) -> Sequence[int]:
    begins, at, found = shared(part), shared(part), []
    for example in part:
        found.append(at)
        at += len(example) - 1 - begins
    return found


def test_the_layout_that_computes_less_is_taken() -> None:
    model = Costs.of(106_000_000, 576, 30, one_row=True)  # SmolLM2-135M
    beginning = tuple(range(40))
    short = tuple(Tokens((*beginning, 50 + i), (1, 2, 3)) for i in range(8))
    assert is_one_row(short, model)
    assert size(short, model) == (40 + 8 * 3, 8 * 3 * (40 + 3) + 40**2)
    alone = tuple(Tokens((50 + i, 2), (1, 2, 3)) for i in range(8))  # nothing in common, nothing padded
    assert not is_one_row(alone, model)
    assert size(alone, model) == (8 * 4, 8 * 4**2)


def test_a_model_that_forgets_what_it_read_long_ago_gets_rows_of_their_own() -> None:
    config = MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=8,
    )
    assert not costs_of(MistralForCausalLM(config)).one_row
    assert costs_of(tiny.model()).one_row


SIZES: dict[str, Any] = {
    "vocab_size": 98, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 96,
    "eos_token_id": 97, "pad_token_id": 97,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "one_row"),
    [
        (LlamaConfig(**SIZES), True),
        (LlamaConfig(**SIZES, attention_dropout=0.1), False),
        (StableLmConfig(**SIZES), False),  # does not hand `blocks` on
    ],
    ids=["llama", "dropout in attention", "stablelm"],
)
def test_work_is_foreseen_of_the_engines_model_as_training_lays_it_out(
    config: Any, one_row: bool, tmp_path: Path
) -> None:
    engine = local(str(write_model(tmp_path / "model", config)), dtype="float32", device="cpu", threads=1)
    given, settings = engine.tunable(), Settings(rank=4)
    assert given.model.config._attn_implementation == attention.ON_CPU
    state = torch.get_rng_state()
    foreseen = foreseen_costs(given, settings)
    assert torch.equal(torch.get_rng_state(), state)
    assert not given.model.training
    with adapted(given, settings, seed=3) as model:
        assert Forward(model, given, settings).costs == foreseen
    assert foreseen.one_row == one_row
    pairs = [TrainingPair(str(n), ({"role": "user", "content": f"name it: {n}"},), "yes") for n in range(4)]
    held = _outlook.outlook(given, pairs, [], 0, settings).held_bytes
    assert held is not None
    assert (held() or 1) > 0


def test_a_model_that_does_not_pass_blocks_on_gets_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    given = tiny.tunable()
    monkeypatch.setitem(AttentionInterface._global_mapping, _blocks.NAME, _deaf)
    with adapted(given, Settings(rank=4), seed=0) as model:
        assert not Forward(model, given, Settings(rank=4)).costs.one_row


def _deaf(*given: Any, blocks: object = None, **more: Any) -> Any:
    return sdpa_attention_forward(*given, **more)


def test_the_model_is_left_with_the_attention_it_had() -> None:
    given = tiny.tunable()
    with adapted(given, Settings(rank=4), seed=0):
        assert given.model.config._attn_implementation == _blocks.NAME
    assert given.model.config._attn_implementation == "sdpa"
