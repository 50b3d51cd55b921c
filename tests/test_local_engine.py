"""The engine on small random models, whose answers can be worked out another way, and on the real one."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from breakeven.harness import hardware
from breakeven.harness.contracts import Completion, Request
from breakeven.harness.engines import _choices, _decoding, _weights
from breakeven.harness.engines.local import LocalEngine, local
from breakeven.harness.errors import OutOfMemory, UserError

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "Where is my card? It was lost, and the refund for 12 euros never came; please help me soon."


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    """Every character of ASCII is a token, and every token is one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = [*map(chr, range(33, 127)), "Ġ", "Ċ"]  # the last two are how space and newline are written
    specials = ["<|im_start|>", "<|im_end|>"]
    vocabulary = {character: i for i, character in enumerate([*alphabet, *specials])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(specials)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>")
    fast.chat_template = template
    return fast


def write_model(folder: Path, config: Any, template: str | None = TEMPLATE) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in (p for p in model.parameters() if p.ndim > 1):  # large, so that tokens differ clearly
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return folder


EXACT: dict[str, Any] = {"dtype": "float32", "device": "cpu", "threads": 1}
END = 97
SMALL: dict[str, Any] = {
    "vocab_size": 98,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "eos_token_id": END,
}
SHAPES: dict[str, Any] = {
    "llama": LlamaConfig(**SMALL, intermediate_size=48, num_key_value_heads=2, max_position_embeddings=512),
    "gpt2": GPT2Config(vocab_size=98, n_embd=32, n_layer=3, n_head=4, n_positions=512, eos_token_id=END),
    "mistral": MistralConfig(
        **SMALL, intermediate_size=48, num_key_value_heads=2, sliding_window=16, max_position_embeddings=512
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    made = {name: write_model(root / name, config) for name, config in SHAPES.items()}
    made["plain"] = write_model(root / "plain", SHAPES["llama"], template=None)
    return made


@pytest.fixture
def engine(folders: dict[str, Path]) -> LocalEngine:
    return local(str(folders["llama"]), **EXACT)


def ask(id: str, content: str = WORDS, **settings: Any) -> Request:
    return Request(id, messages=({"role": "user", "content": content},), **{"max_tokens": 12, **settings})


def answers(engine: LocalEngine, *requests: Request) -> dict[str, Completion]:
    return {completion.id: completion for completion in engine.complete(requests)}


def text(engine: LocalEngine, request: Request) -> str:
    return answers(engine, request)[request.id].text


# --- generation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["llama", "gpt2", "mistral"])
def test_a_batch_answers_as_each_request_would_alone(folders: dict[str, Path], shape: str) -> None:
    engine = local(str(folders[shape]), **EXACT)
    requests = [ask(f"r{n}", WORDS[: 3 + 11 * n], max_tokens=4 + 9 * n) for n in range(6)]
    together = answers(engine, *requests)
    assert {r.id: together[r.id].text for r in requests} == {r.id: text(engine, r) for r in requests}


def test_finished_rows_leave_the_batch(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.warm_up()
    rows: list[int] = []
    forward = engine._shared.base.forward

    def counting(**inputs: Any) -> Any:
        rows.append(len(inputs["input_ids"]))
        return forward(**inputs)

    monkeypatch.setattr(engine._shared.base, "forward", counting)
    requests = [ask(f"r{n}", WORDS[5 * n :], max_tokens=most) for n, most in enumerate((3, 3, 9, 20))]
    found = answers(engine, *requests).values()
    wanted = [c.usage.output_tokens + (c.finish_reason == "stop") for c in found]
    assert len(set(wanted)) > 2
    assert rows == [sum(passes > step for passes in wanted) for step in range(max(wanted))]


def test_the_physical_cores_compute(folders: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    _weights.release()
    try:
        engine = local(str(folders["llama"]), dtype="float32", device="cpu")
        engine.warm_up()
        assert torch.get_num_threads() == engine.chosen_settings["threads"] == hardware.physical_cores()
    finally:
        torch.set_num_threads(before)
        _weights.release()


def test_generation_agrees_with_transformers_own(engine: LocalEngine, folders: dict[str, Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders["llama"], dtype=torch.float32).eval()
    request = ask("r", max_tokens=80)
    prompt = torch.tensor([engine.tunable().encode(request.messages, "")[0]])
    ids = model.generate(prompt, max_new_tokens=80, do_sample=False, eos_token_id=END, pad_token_id=END)
    wanted = tokenizer(None).decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)
    assert text(engine, request) == wanted


def test_padding_is_nobodys_tokens(engine: LocalEngine) -> None:
    short, long = ask("short", "Hi"), ask("long", WORDS * 3)
    batch = answers(engine, short, long)
    alone = answers(engine, short)
    assert (
        batch["short"].usage.input_tokens == alone["short"].usage.input_tokens == engine.count_tokens(short)
    )


def test_an_answer_cut_by_max_tokens_says_length(engine: LocalEngine) -> None:
    completion = answers(engine, ask("r", max_tokens=5))["r"]
    assert (completion.finish_reason, completion.usage.output_tokens) == ("length", 5)


def test_an_answer_ends_before_its_stop_string(engine: LocalEngine) -> None:
    whole = text(engine, ask("r", max_tokens=12))
    stop = whole[4:6]
    completion = answers(engine, ask("r", max_tokens=12, stop=("never there", stop)))["r"]
    assert (completion.text, completion.finish_reason) == (whole[: whole.index(stop)], "stop")


def test_the_end_token_stops_an_answer_and_is_not_billed(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = text(engine, ask("r", max_tokens=8))
    monkeypatch.setitem(engine._tokens.__dict__, "ends", frozenset(engine._tokens.answer(written[5])[:1]))
    completion = answers(engine, ask("r", max_tokens=8))["r"]
    expected = written[: written.index(written[5])]
    assert (completion.text, completion.usage.output_tokens) == (expected, len(expected))
    assert completion.finish_reason == "stop"


def test_the_seconds_of_a_batch_are_shared_among_its_requests(engine: LocalEngine) -> None:
    import time

    engine.warm_up()
    start = time.perf_counter()
    shares = [c.seconds for c in engine.complete([ask(f"r{n}", max_tokens=5 + 5 * n) for n in range(4)])]
    wall = time.perf_counter() - start
    assert 0.5 * wall < sum(shares) <= wall


def test_of_tokens_that_are_equally_likely_the_first_is_taken() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 3000).round().bfloat16()  # many ties, as bfloat16 has them
    first = [int((row == row.max()).nonzero()[0]) for row in logits]
    assert _decoding._choose(logits, [None] * len(logits)) == first == logits.argmax(-1).tolist()


def test_a_sample_depends_on_its_seed_and_not_on_its_neighbours(engine: LocalEngine) -> None:
    warm = ask("r", temperature=1.0, seed=1)
    alone = text(engine, warm)
    neighbour = ask("other", "Something else", temperature=1.0, seed=1)
    assert answers(engine, neighbour, warm)["r"].text == alone
    assert text(engine, ask("r", temperature=1.0, seed=2)) != alone


def test_a_request_longer_than_the_context_is_named_with_both_sizes(engine: LocalEngine) -> None:
    with pytest.raises(UserError, match=r"request 'far-too-long' has 1,0\d\d tokens.* is 512"):
        engine.plan([ask("fine"), ask("far-too-long", "x" * 1000)])


def test_an_answer_ends_where_the_context_does(engine: LocalEngine) -> None:
    completion = answers(engine, ask("r", "x" * 440, max_tokens=500))["r"]
    assert completion.usage.input_tokens + completion.usage.output_tokens == 512


def test_memory_that_runs_out_is_reported_as_such(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(engine._shared.base, "forward", fails)
    with pytest.raises(OutOfMemory, match=r"20\.00 GiB"):
        list(engine.complete([ask("r")]))


def test_a_batch_that_cannot_fit_is_refused_before_it_runs(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("breakeven.harness.hardware.available_memory", lambda device: 10_000)
    with pytest.raises(OutOfMemory, match="2 requests need"):
        list(engine.complete([ask("a"), ask("b")]))
    assert text(engine, ask("a"))  # one alone is always tried


# --- plan ----------------------------------------------------------------------------------------


def test_a_plan_holds_every_request_once_in_batches_of_similar_length(engine: LocalEngine) -> None:
    requests = [ask(f"r{n}", "x" * (n * 37 % 200)) for n in range(40)]
    plan = local(engine.model, **EXACT, batch_tokens=600).plan(requests)
    assert sorted(r.id for batch in plan for r in batch) == sorted(r.id for r in requests)
    sizes = [[engine.count_tokens(r) for r in batch] for batch in plan]
    assert all(min(a) >= max(b) for a, b in itertools.pairwise(sizes))
    assert all((max(batch) + 12) * len(batch) <= 600 for batch in sizes)


def test_what_all_prompts_begin_with_leaves_room_for_more_of_them_in_a_batch(engine: LocalEngine) -> None:
    requests = [ask(f"r{n}", f"{WORDS * 3} number {n:02}") for n in range(20)]
    small = local(engine.model, **EXACT, batch_tokens=600)
    shared, whole = small.plan(requests), small.unshared().plan(requests)
    assert len(shared) < len(whole)
    size = engine.count_tokens(requests[0]) + 12
    assert max(map(len, whole)) == 600 // size
    assert max(map(len, shared)) < 4 * 600 // size


def test_a_plan_is_the_same_every_time(engine: LocalEngine) -> None:
    requests = [ask(f"r{n}", "x" * (n % 3)) for n in range(20)]
    assert engine.plan(requests) == engine.plan(list(requests))


def test_concurrency_caps_a_batch(engine: LocalEngine) -> None:
    plan = engine.plan([ask(f"r{n}") for n in range(7)], concurrency=3)
    assert [len(batch) for batch in plan] == [3, 3, 1]


def test_choices_and_generation_are_planned_apart(engine: LocalEngine) -> None:
    plan = engine.plan([ask("a"), ask("b", choices=("yes", "no")), ask("c")])
    assert sorted(sorted(r.id for r in batch) for batch in plan) == [["a", "c"], ["b"]]


def tokenised(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that go through the tokenizer, as they do."""
    seen: list[str] = []
    ids = engine._tokens._ids

    def counting(text: str, *, special: bool) -> list[int]:
        seen.append(text)
        return ids(text, special=special)

    monkeypatch.setattr(engine._tokens, "_ids", counting)
    return seen


def test_a_prompt_is_tokenised_once_for_counting_planning_and_answering(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ask("a"), ask("b", "something else"), ask("c", choices=("yes", "no"))]
    wanted = [engine._tokens._ids(engine._tokens.text(r.messages), special=False) for r in requests]
    seen = tokenised(engine, monkeypatch)
    counted = [engine.count_tokens(r) for r in requests]
    for batch in engine.plan(requests):
        list(engine.complete(batch))
    assert [engine._tokens.prompt(r) for r in requests] == wanted
    assert counted == [len(ids) for ids in wanted]
    prompts = {engine._tokens.text(r.messages) for r in requests}
    assert sorted(text for text in seen if text in prompts) == sorted(prompts)


def test_a_timed_pass_tokenises_a_prompt_that_was_seen_before(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask("a")
    engine.plan([request])
    seen = tokenised(engine, monkeypatch)
    alone = engine.unshared()
    for batch in alone.plan([request]):
        list(alone.complete(batch))
    assert seen.count(engine._tokens.text(request.messages)) == 1


def test_what_is_remembered_of_prompts_has_a_limit(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("breakeven.harness.engines._tokens.KEPT_TOKENS", 300)
    sizes = [engine.count_tokens(ask(f"r{n}", "x" * (100 + n))) for n in range(5)]
    assert engine._tokens._kept == sum(sizes[-2:]) <= 300
    assert len(engine._tokens._prompts) == 2


# --- choices -------------------------------------------------------------------------------------

CHOICES = ("lost card", "lost", "", "refund not received", "card")


def by_hand(folder: Path, engine: LocalEngine, request: Request, choice: str) -> float:
    """The same score from one plain forward pass over prompt, choice and end token."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompt, answer = engine.tunable().encode(request.messages, choice)
    with torch.no_grad():
        chances = torch.log_softmax(model(torch.tensor([prompt + answer])).logits[0], -1)
    return float(sum(chances[len(prompt) - 1 + i, token] for i, token in enumerate(answer)))


@pytest.mark.parametrize("shape", ["llama", "gpt2", "mistral"])
def test_a_choices_score_equals_a_plain_pass_over_prompt_and_choice(
    folders: dict[str, Path], shape: str
) -> None:
    engine = local(str(folders[shape]), **EXACT)
    request = ask("r", choices=CHOICES)
    found = answers(engine, request)["r"].choice_logprobs
    assert found == pytest.approx([by_hand(folders[shape], engine, request, c) for c in CHOICES], abs=1e-4)


def test_full_attention_models_read_the_prompt_of_choices_once(folders: dict[str, Path]) -> None:
    trees = {s: local(str(folders[s]), **EXACT)._trees for s in SHAPES}
    assert trees == {"llama": True, "gpt2": True, "mistral": False}


@pytest.mark.parametrize("shape", ["llama", "gpt2", "mistral"])
def test_choices_of_a_batch_score_as_each_request_does_by_hand(folders: dict[str, Path], shape: str) -> None:
    engine = local(str(folders[shape]), **EXACT)
    few, many = ("refund", "refund not received"), CHOICES
    requests = [
        ask("a", choices=many),
        ask("b", "why?", choices=few),
        ask("c", f"{WORDS} indeed", choices=("",)),
    ]
    found = answers(engine, *requests)
    for r in requests:
        by_itself = [by_hand(folders[shape], engine, r, c) for c in r.choices or ()]
        assert found[r.id].choice_logprobs == pytest.approx(by_itself, abs=1e-4)


def test_a_batch_of_choices_takes_one_pass_in_which_shared_beginnings_are_read_once(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [ask(f"{n}", choices=("lost card", "lost cash")) for n in range(3)]
    answers(engine, *requests)
    read: list[torch.Size] = []
    forward = engine._shared.base.forward

    def counting(**inputs: Any) -> Any:
        read.append(inputs["input_ids"].shape)
        return forward(**inputs)

    monkeypatch.setattr(engine._shared.base, "forward", counting)
    answers(engine.unshared(), *requests)
    tree = len("lost ca") + len("rd") + len("sh")
    assert [tuple(shape) for shape in read] == [(3, engine.count_tokens(requests[0]) + tree)]


def test_batches_of_choices_keep_within_the_tokens_of_a_pass(folders: dict[str, Path]) -> None:
    small = local(str(folders["llama"]), **{**EXACT, "batch_tokens": 150})
    large = local(str(folders["llama"]), **EXACT)
    requests = [ask(f"{n}", choices=CHOICES) for n in range(4)]
    at_once = answers(large, *requests)
    for id, found in answers(small, *requests).items():
        assert found.choice_logprobs == pytest.approx(at_once[id].choice_logprobs, abs=1e-4)


def test_many_choices_in_several_passes_score_the_same(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask("r", choices=CHOICES)
    at_once = answers(engine, request)["r"].choice_logprobs
    monkeypatch.setattr(_choices, "TREE_TOKENS", 12)
    assert answers(engine, request)["r"].choice_logprobs == pytest.approx(at_once, abs=1e-4)


def test_choices_are_billed_as_the_prompt_once_and_all_choices(engine: LocalEngine) -> None:
    usage = answers(engine, ask("r", choices=CHOICES))["r"].usage
    choice_tokens = sum(map(len, CHOICES))  # a token is a character here
    assert usage.input_tokens == engine.count_tokens(ask("r")) + choice_tokens
    assert usage.output_tokens == 0


def test_the_text_of_scored_choices_is_the_likeliest(engine: LocalEngine) -> None:
    completion = answers(engine, ask("r", choices=CHOICES))["r"]
    assert completion.choice_logprobs is not None
    assert completion.choice_logprobs[CHOICES.index(completion.text)] == max(completion.choice_logprobs)


# --- adapters and training -----------------------------------------------------------------------


def write_adapter(base: Path, folder: Path, seed: int, rank: int = 4) -> Path:
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return folder


def reference(base: Path, adapter: Path | None, engine: LocalEngine, request: Request) -> str:
    """What PEFT and transformers answer with a model of their own."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    prompt = torch.tensor([engine._base._tokens.prompt(request)])
    ids = model.eval().generate(
        input_ids=prompt,
        max_new_tokens=request.max_tokens,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=END,
    )
    return str(tokenizer(None).decode(ids[0, prompt.shape[1] :], skip_special_tokens=True))


@pytest.fixture
def adapters(folders: dict[str, Path], tmp_path: Path) -> list[Path]:
    return [write_adapter(folders["llama"], tmp_path / f"adapter-{n}", seed=n, rank=4 + n) for n in range(3)]


def test_each_request_runs_with_exactly_its_adapter(
    engine: LocalEngine, folders: dict[str, Path], adapters: list[Path]
) -> None:
    request = ask("r")
    order = [None, adapters[0], adapters[1], adapters[0], None, adapters[2], adapters[1]]
    found = [text(engine.adapt(adapter), request) for adapter in order]
    wanted = {adapter: reference(folders["llama"], adapter, engine, request) for adapter in (None, *adapters)}
    assert len(set(wanted.values())) == 4
    assert found == [wanted[adapter] for adapter in order]


def test_answers_in_progress_keep_their_adapter_while_others_run(
    engine: LocalEngine, adapters: list[Path]
) -> None:
    short, long = ask("short", max_tokens=2), ask("long", max_tokens=12)
    engines = [engine, engine.adapt(adapters[0]), engine.adapt(adapters[1])]
    alone = [answers(e, short, long)["long"].text for e in engines]
    running = [e.complete([short, long]) for e in engines]
    assert [next(r).id for r in running] == ["short"] * 3  # all three are now half way
    assert [next(r).text for r in running] == alone


def test_more_adapters_than_are_kept_take_turns(
    engine: LocalEngine, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [text(engine.adapt(adapter), ask("r")) for adapter in adapters]
    monkeypatch.setattr(_weights, "KEPT_ADAPTERS", 1)
    assert [text(engine.adapt(adapter), ask("r")) for adapter in adapters] == before


def test_an_adapter_trained_anew_in_the_same_folder_is_loaded_anew(
    engine: LocalEngine, folders: dict[str, Path], adapters: list[Path]
) -> None:
    before = text(engine.adapt(adapters[0]), ask("r"))
    write_adapter(folders["llama"], adapters[0], seed=77)
    after = text(engine.adapt(adapters[0]), ask("r"))
    assert after == reference(folders["llama"], adapters[0], engine, ask("r")) != before


def fingerprint(engine: LocalEngine) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(engine.tunable().model.state_dict().items()):
        total.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def test_the_base_is_byte_identical_after_adapting_and_training(
    engine: LocalEngine, adapters: list[Path]
) -> None:
    before, answer = fingerprint(engine), text(engine, ask("r"))
    text(engine.adapt(adapters[0]), ask("r"))
    model = get_peft_model(engine.tunable().model, LoraConfig(r=2, target_modules="all-linear"))
    model.train()
    optimiser = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.1)
    model(input_ids=torch.tensor([[5, 6, 7]]), labels=torch.tensor([[5, 6, 7]])).loss.backward()
    optimiser.step()
    model.unload()
    assert fingerprint(engine) == before
    assert text(engine, ask("r")) == answer


def test_a_training_that_died_half_way_changes_no_later_answer(engine: LocalEngine) -> None:
    before, answer = fingerprint(engine), text(engine, ask("r"))
    wrapped = get_peft_model(
        engine.tunable().model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    )
    wrapped.train()  # ... and nobody unwraps it
    assert text(engine, ask("r")) == answer
    assert fingerprint(engine) == before


def test_training_sees_the_very_tokens_that_serving_reads(engine: LocalEngine) -> None:
    request, tunable = ask("r"), engine.tunable()
    prompt, answer = tunable.encode(request.messages, "lost card")
    assert prompt == engine._tokens.prompt(request)
    assert tokenizer(None).decode(answer) == "lost card<|im_end|>"
    assert answer[-1] == tunable.end_id


def test_a_folder_without_an_adapter_is_a_mistake(engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no PEFT adapter"):
        list(engine.adapt(tmp_path).complete([ask("r")]))


def test_an_adapter_of_another_model_is_a_mistake_and_leaves_the_base_alone(
    engine: LocalEngine, adapters: list[Path], tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other", LlamaConfig(**{**SMALL, "hidden_size": 16}, intermediate_size=8))
    foreign = write_adapter(other, tmp_path / "foreign", seed=0)
    before = text(engine, ask("r"))
    with pytest.raises(UserError, match="does not fit"):
        text(engine.adapt(foreign), ask("r"))
    assert text(engine, ask("r")) == before


# --- models without a chat template, settings, card ----------------------------------------------


def test_without_a_chat_template_the_model_reads_the_contents_between_blank_lines(
    folders: dict[str, Path],
) -> None:
    engine = local(str(folders["plain"]), **EXACT)
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"})
    chat = Request("r", messages=messages, max_tokens=6)
    plain = Request("r", text="Be brief.\n\nHello\n\n", max_tokens=6)
    assert engine.count_tokens(chat) == engine.count_tokens(plain) == len("Be brief.\n\nHello\n\n")
    assert text(engine, chat) == text(engine, plain)


def test_without_a_chat_template_a_blank_line_ends_the_answer(folders: dict[str, Path]) -> None:
    tokens = local(str(folders["plain"]))._tokens
    assert tokens.stops(ask("r", stop=("END",))) == ("END", "\n\n")
    assert tokens.stops(Request("r", text="raw", stop=("END",))) == ("END",)


def test_a_template_that_knows_no_system_role_gets_its_words_in_the_first_message(tmp_path: Path) -> None:
    strict = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    folder = write_model(
        tmp_path / "strict", SHAPES["llama"], strict + TEMPLATE[len("{% for m in messages %}") :]
    )
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"})
    assert "user\nBe brief.\n\nHello<|im_end|>" in local(str(folder))._tokens.text(messages)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dtype": "int3"}, "dtype 'int3' is unknown"),
        ({"device": "cuda:9"}, "device 'cuda:9' is not there"),
        ({"load_in_4bit": True, "device": "cpu"}, "load_in_4bit needs a CUDA device"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without CUDA says")
def test_a_wrong_setting_says_what_is_wrong(folders: dict[str, Path], settings: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        list(local(str(folders["llama"]), **settings).complete([ask("r")]))


def test_chosen_settings_decide_every_auto(folders: dict[str, Path]) -> None:
    chosen = local(str(folders["llama"])).chosen_settings
    assert "auto" not in chosen.values()
    assert local(str(folders["llama"]), **chosen).chosen_settings == chosen


def test_a_card_counts_only_what_is_multiplied(folders: dict[str, Path]) -> None:
    untied = local(str(folders["llama"])).describe()
    gpt2 = local(str(folders["gpt2"])).describe()
    assert untied.parameters is not None
    assert untied.active_parameters == untied.parameters - 98 * 32  # the input embedding is looked up
    assert gpt2.parameters is not None
    assert gpt2.active_parameters == gpt2.parameters - 512 * 32  # tied embedding once, positions not at all
    assert (untied.layers, untied.attention_width, untied.context) == (3, 32, 512)


def test_a_card_loads_no_weights(folders: dict[str, Path]) -> None:
    _weights.release()
    local(str(folders["llama"])).describe()
    assert not _weights._loaded


def test_engines_of_one_model_share_its_weights(folders: dict[str, Path]) -> None:
    first, second = (local(str(folders["llama"]), **EXACT) for _ in range(2))
    assert first.tunable().model is second.tunable().model


# --- the real default model ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def default() -> LocalEngine:
    return local("smollm2-135m-instruct", device="cpu")


@pytest.mark.model
def test_the_default_model_answers_and_ends_by_itself(default: LocalEngine) -> None:
    completion = answers(default, ask("r", "What is the capital of France?", max_tokens=24))["r"]
    assert "Paris" in completion.text
    assert completion.finish_reason == "stop"


@pytest.mark.model
def test_the_default_model_prefers_the_right_choice(default: LocalEngine) -> None:
    request = ask("r", "What is the capital of France? One word.", choices=("Berlin", "Paris", "Rome"))
    assert text(default, request) == "Paris"


@pytest.mark.model
def test_the_default_models_card_is_complete(default: LocalEngine) -> None:
    card = default.describe()
    assert (card.parameters, card.active_parameters) == (134_515_008, 134_515_008)
    assert (card.layers, card.attention_width, card.context) == (30, 576, 8192)
    assert (card.licence, card.data_goes_to, card.device) == ("Apache-2.0", "this machine", "cpu")
    assert len(card.digest) == 64


@pytest.mark.model
def test_the_default_models_prompt_is_its_own_chat_format(default: LocalEngine) -> None:
    rendered = default._tokens.text(ask("r", "Hi").messages)
    assert rendered.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert json.dumps(default._tokens.answer("a")[-1:]) == "[2]"
