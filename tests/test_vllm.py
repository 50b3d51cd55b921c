"""The vLLM engine as far as it can be tried without a GPU: what goes in, what comes out, what it says.

Names and fields are held against vLLM's own source where there is one: an installation, or a folder or wheel
that VLLM_SOURCE names. Nothing of vLLM is imported.
"""

from __future__ import annotations

import ast
import os
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_local_engine import EXACT, SHAPES, WORDS, write_model

from breakeven.harness.contracts import Completion, Engine, Request, Usage
from breakeven.harness.engines import _vllm
from breakeven.harness.engines import vllm as engine_module
from breakeven.harness.engines._tokens import Tokens
from breakeven.harness.engines.local import LocalEngine, local
from breakeven.harness.engines.vllm import VLLMEngine
from breakeven.harness.errors import UserError

SETTINGS: dict[str, Any] = {
    "dtype": "bfloat16", "context": 512, "gpu_memory": 0.85, "tensor_parallel": 1, "max_lora_rank": 64,
    "adapters": 4, "quantization": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "llama", SHAPES["llama"])


@pytest.fixture(scope="module")
def ours(folder: Path) -> LocalEngine:
    return local(str(folder), **EXACT)


@pytest.fixture
def engine(folder: Path) -> VLLMEngine:
    return VLLMEngine(str(folder), **SETTINGS)


@pytest.fixture
def tokens(ours: LocalEngine) -> Tokens:
    return ours._tokens


def ask(id: str = "r", content: str = WORDS, **settings: Any) -> Request:
    return Request(id, messages=({"role": "user", "content": content},), **{"max_tokens": 12, **settings})


def output(ids: list[int], finish_reason: str | None = "length") -> SimpleNamespace:
    """A `RequestOutput` as far as it is read."""
    return SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, finish_reason=finish_reason)])


def logprobs(chances: list[dict[int, float] | None]) -> list[dict[int, SimpleNamespace] | None]:
    return [at and {token: SimpleNamespace(logprob=value) for token, value in at.items()} for at in chances]


# --- where it cannot run -------------------------------------------------------------------------


def test_without_vllm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package vllm.*breakeven\[vllm\]"):
        engine_module.vllm("any")


def test_without_a_gpu_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="needs a CUDA GPU"):
        engine_module.vllm("any")


def test_a_suite_that_names_it_is_refused_before_anything_is_written(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    from tiny_suite import write_suite

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine_module, "find_spec", lambda name: None)
    models = {"default": {"model": str(folder), "engine": "vllm"}}
    write_suite(tmp_path, folder, models=models, strategies={"zero-shot": {}})
    said = breakeven("run", "tiny.yaml", "--name", "r")
    assert said.code == 2
    assert "needs the package vllm" in said.err
    assert not (tmp_path / "runs").exists()


# --- what it is ----------------------------------------------------------------------------------


def test_it_keeps_the_contract(engine: VLLMEngine) -> None:
    assert isinstance(engine, Engine)
    can = engine.capabilities
    assert (can.logprobs, can.adapters, can.train, can.batch_dependent) == (True, True, False, True)


def test_its_card_is_that_of_the_folder_with_its_own_name(engine: VLLMEngine, ours: LocalEngine) -> None:
    card, other = engine.describe(), ours.describe()
    assert (card.engine, card.device, card.dtype) == ("vllm", "cuda", "bfloat16")
    assert (card.parameters, card.digest, card.context) == (other.parameters, other.digest, 512)


def test_a_shorter_context_counts(folder: Path) -> None:
    assert VLLMEngine(str(folder), **{**SETTINGS, "context": 100}).describe().context == 100
    assert VLLMEngine(str(folder), **{**SETTINGS, "context": 10_000}).describe().context == 512
    assert VLLMEngine(str(folder), **{**SETTINGS, "context": None}).describe().context == 512


def test_a_resumed_run_gets_the_same_engine(engine: VLLMEngine) -> None:
    assert VLLMEngine(engine.model, **engine.chosen_settings).chosen_settings == engine.chosen_settings


# --- what goes in --------------------------------------------------------------------------------


def test_prompts_are_the_tokens_that_the_local_engine_reads(engine: VLLMEngine, ours: LocalEngine) -> None:
    for request in (ask(), Request("raw", text="Hello there")):
        assert engine._checked_prompt(request) == ours._checked_prompt(request)
        assert engine.count_tokens(request) == ours.count_tokens(request)


def test_groups_keep_the_order_and_hold_choices_apart(engine: VLLMEngine) -> None:
    requests = [ask("a"), ask("b", choices=("yes",)), ask("c"), ask("d")]
    assert [[r.id for r in g] for g in engine.plan(requests)] == [["a", "c", "d"], ["b"]]
    assert [[r.id for r in g] for g in engine.plan(requests, concurrency=2)] == [["a", "c"], ["d"], ["b"]]


def test_a_request_that_is_too_long_is_named_before_anything_runs(engine: VLLMEngine) -> None:
    with pytest.raises(UserError, match=r"request 'long'.*context"):
        engine.plan([ask("fine"), ask("long", "x" * 600)])


def test_a_choice_leaves_room_for_the_token_that_vllm_writes_behind_it(
    engine: VLLMEngine, ours: LocalEngine
) -> None:
    around = ours.count_tokens(ask(content=""))
    fits = ask(content="x" * (512 - around - len("yes") - 1), choices=("yes",))
    assert len(ours._checked_prompt(fits)) + len("yes") + 1 == 512
    with pytest.raises(UserError, match="513 tokens"):
        engine._checked_prompt(fits)


def test_greedy_requests_are_greedy_and_end_where_the_local_engine_ends(tokens: Tokens) -> None:
    asked = _vllm.writing(ask(stop=("END", "\n")), tokens, 9, shared=True)
    assert (asked["temperature"], asked["seed"], asked["max_tokens"]) == (0.0, None, 9)
    assert asked["stop_token_ids"] == sorted(tokens.ends)
    assert asked["stop"] == ["END"]  # white space is looked for in what was written: it may stand in front


def test_a_sample_has_a_seed_of_its_request_and_not_of_its_place(tokens: Tokens) -> None:
    one, again, other = (
        _vllm.writing(ask(id, temperature=0.7, seed=3), tokens, 9, shared=True)["seed"] for id in "aab"
    )
    assert one == again != other
    assert 0 <= one < 2**63


def test_timed_requests_read_nothing_from_the_cache_of_prefixes(tokens: Tokens) -> None:
    asked = [_vllm.writing(ask(), tokens, 9, shared=shared) for shared in (True, False)]
    assert [a["skip_reading_prefix_cache"] for a in asked] == [False, True]
    assert _vllm.scoring()["skip_reading_prefix_cache"]


def test_room_for_adapters_is_reserved_in_steps_that_vllm_knows(folder: Path) -> None:
    ranks = [
        _vllm.engine_arguments(folder, **{**SETTINGS, "max_lora_rank": rank})["max_lora_rank"]
        for rank in (4, 16, 17, 64)
    ]
    assert ranks == [8, 16, 32, 64]


# --- what comes out ------------------------------------------------------------------------------


def test_an_answer_is_read_as_the_local_engine_reads_the_same_tokens(
    ours: LocalEngine, tokens: Tokens
) -> None:
    for request in (ask(max_tokens=6), ask(max_tokens=12, stop=("e",))):
        (wanted,) = ours.complete([request])
        ids = tokens._ids(wanted.text, special=False)
        more = [*ids, *tokens._ids("e and more", special=False)] if wanted.finish_reason == "stop" else ids
        got = _vllm.written(request, ours._checked_prompt(request), output(more), tokens, 1.0)
        assert (got.text, got.finish_reason) == (wanted.text, wanted.finish_reason)
        assert got.usage.input_tokens == wanted.usage.input_tokens


def test_the_end_token_is_no_text_and_not_billed(tokens: Tokens) -> None:
    ids = [*tokens._ids("lost card", special=False), tokens.end_id]
    got = _vllm.written(ask(), [1, 2, 3], output(ids, "stop"), tokens, 0.5)
    assert got == Completion("r", "lost card", "stop", Usage(3, len(ids) - 1), 0.5)


def test_an_answer_that_vllm_cut_says_so(tokens: Tokens) -> None:
    got = _vllm.written(ask(), [1], output(tokens._ids("lost", special=False)), tokens, 0.5)
    assert (got.text, got.finish_reason, got.usage.output_tokens) == ("lost", "length", 4)


def test_a_choices_score_is_the_sum_over_its_own_tokens_and_the_end_token() -> None:
    prompt, choices = [7, 8], [[5, 9], [6, 9]]
    outputs = [
        SimpleNamespace(prompt_logprobs=logprobs([None, {8: -9.0}, {5: -1.0, 4: -0.1}, {9: -0.5}])),
        SimpleNamespace(prompt_logprobs=logprobs([None, {8: -9.0}, {6: -0.25}, {9: -0.5}])),
    ]
    got = _vllm.scored(ask(choices=("five", "six")), prompt, choices, outputs, 0.5)
    assert got.choice_logprobs == (-1.5, -0.75)
    assert (got.text, got.finish_reason) == ("six", "choices")
    assert got.usage == Usage(input_tokens=2 + 1 + 1)


def test_a_score_without_its_log_probability_is_an_error_and_no_zero() -> None:
    for given in (None, logprobs([None, {8: -1.0}]), logprobs([None, {8: -1.0}, {4: -1.0}])):
        with pytest.raises(ValueError, match="position 2"):
            _vllm.answer_logprob(2, [5], given)


# --- held against vLLM's source ------------------------------------------------------------------


def source(file: str) -> ast.Module:
    """A module of vLLM, parsed; skips the test where there is no vLLM at all."""
    given = os.environ.get("VLLM_SOURCE")
    found = find_spec("vllm")
    if given and given.endswith(".whl"):
        with zipfile.ZipFile(given) as wheel:
            return ast.parse(wheel.read(f"vllm/{file}"))
    if given:
        return ast.parse((Path(given) / file).read_text(encoding="utf-8"))
    if found is None or found.origin is None:
        pytest.skip("no vLLM here: set VLLM_SOURCE to its package folder or its wheel")
    return ast.parse((Path(found.origin).parent / file).read_text(encoding="utf-8"))


def fields(file: str, name: str) -> set[str]:
    """The annotated fields of a class."""
    return {
        line.target.id
        for line in _class(file, name).body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def parameters(file: str, name: str, method: str) -> set[str]:
    """What a method takes by name."""
    made = next(
        line for line in _class(file, name).body if isinstance(line, ast.FunctionDef) and line.name == method
    )
    return {a.arg for a in (*made.args.args, *made.args.kwonlyargs)}


def _class(file: str, name: str) -> ast.ClassDef:
    return next(x for x in source(file).body if isinstance(x, ast.ClassDef) and x.name == name)


def test_vllm_takes_every_sampling_parameter_that_is_sent(tokens: Tokens) -> None:
    sent = {**_vllm.writing(ask(), tokens, 9, shared=True), **_vllm.scoring()}
    assert set(sent) <= fields("sampling_params.py", "SamplingParams")


def test_vllm_takes_every_argument_that_it_is_loaded_with(folder: Path) -> None:
    sent = set(_vllm.engine_arguments(folder, **SETTINGS))
    own = parameters("entrypoints/llm.py", "LLM", "__init__")
    assert sent - own <= fields("engine/arg_utils.py", "EngineArgs")  # LLM hands on what it does not name


def test_vllm_generates_from_token_ids_with_an_adapter() -> None:
    taken = parameters("entrypoints/llm.py", "LLM", "generate")
    assert {"prompts", "sampling_params", "use_tqdm", "lora_request"} <= taken
    assert "prompt_token_ids" in fields("inputs/llm.py", "TokensPrompt")
    assert {"lora_name", "lora_int_id", "lora_path"} <= fields("lora/request.py", "LoRARequest")


def test_vllm_returns_what_is_read() -> None:
    assert {"outputs", "prompt_logprobs"} <= parameters("outputs.py", "RequestOutput", "__init__")
    assert {"token_ids", "finish_reason"} <= fields("outputs.py", "CompletionOutput")
    assert "logprob" in fields("logprobs.py", "Logprob")


def test_vllm_knows_the_ranks_that_are_reserved() -> None:
    tree = source("config/lora.py")
    (ranks,) = (
        x.value for x in tree.body if isinstance(x, ast.Assign) and _name(x.targets[0]) == "MaxLoRARanks"
    )
    assert set(_vllm.RANKS) == {c.value for c in ast.walk(ranks) if isinstance(c, ast.Constant)}


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
