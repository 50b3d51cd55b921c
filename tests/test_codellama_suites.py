"""CodeLlama as published, with TRL and with Axolotl: rows, prompts, hyper-parameters, and suites that can be
looked at where neither the weights nor a GPU nor the Hub are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Said
from test_local_engine import write_model
from transformers import LlamaConfig

from breakeven.harness import _metrics_code, _projected, fitting, flops, results
from breakeven.harness import suite as suites
from breakeven.harness.contracts import Request
from breakeven.harness.engines._templates import chat_template
from breakeven.harness.engines.declared import DeclaredEngine, declared
from breakeven.harness.errors import UserError
from breakeven.harness.prices import SHIPPED
from breakeven.harness.templating import render
from breakeven.tasks.evol_instruct_python import HUB as EVOL
from breakeven.tasks.evol_instruct_python import evol_instruct_python
from breakeven.tasks.text_to_sql import HUB as SQL
from breakeven.tasks.text_to_sql import text_to_sql

SUITES = ("codellama_trl", "codellama_axolotl")
HUB_ID = "codellama/CodeLlama-7b-hf"
DATA = Path(__file__).parents[1] / "tasks" / "data"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files of models but those of a test, and no folder of somebody's; small products like one thread."""
    monkeypatch.setattr("breakeven.harness._hub.has_snapshot", lambda hub: False)
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def rows(task: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / task / "rows.jsonl").read_text().splitlines()]


# --- rows ------------------------------------------------------------------------------------


def test_every_sql_answer_of_the_stand_in_runs_and_returns_rows() -> None:
    for row in rows("text_to_sql"):
        found = _metrics_code._expected(row["context"], row["answer"])
        assert None not in found, row["id"]
        assert sum(map(bool, found)) >= 2, row["id"]


@pytest.mark.parametrize("row", rows("evol_instruct_python"), ids=lambda row: str(row["id"]))
def test_every_program_of_the_stand_in_does_what_it_should(row: dict[str, Any]) -> None:
    exec(compile(f"{row['output']}\n{row['check']}", row["id"], "exec"), {})


def test_schemas_to_test_on_are_in_no_other_split() -> None:
    made = text_to_sql()
    assert [len(s) for s in (made.train, made.validation, made.test)] == [40, 11, 13]
    seen = {e.group for e in (*made.train, *made.validation)}
    assert not seen & {e.group for e in made.test}


def test_no_strategy_sees_the_assertions_about_a_program() -> None:
    made = evol_instruct_python()
    assert [len(s) for s in (made.train, made.validation, made.test)] == [32, 6, 10]
    assert {key for e in (*made.train, *made.test) for key in e.input} == {"instruction"}


@pytest.mark.parametrize(("make", "hub"), [(text_to_sql, SQL), (evol_instruct_python, EVOL)])
def test_the_stand_in_says_what_it_is_not(make: Callable[[], Any], hub: str) -> None:
    made = make()
    assert f"written for this project, NOT {hub}" in made.description
    assert made.cut["from"] == "rows.jsonl"


@pytest.mark.parametrize(("make", "hub"), [(text_to_sql, SQL), (evol_instruct_python, EVOL)])
def test_whoever_asks_for_the_published_rows_never_gets_the_stand_in(
    make: Callable[[str], Any], hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(UserError, match=r"Hub"):
        make(hub)


def test_a_file_with_the_published_columns_is_cut_as_the_recipe_says(tmp_path: Path) -> None:
    some = [
        {"question": f"Are {w}s {c}?", "context": f"CREATE TABLE {w} (c VARCHAR)", "answer": f"SELECT {w}"}
        for w in ("boat", "road", "lamp", "tree", "wall")
        for c in ("red", "blue", "green", "wide")
    ]  # fmt: skip
    (tmp_path / "sql.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    made = text_to_sql("sql.jsonl")
    assert len(made.train) + len(made.test) == 20
    assert not made.validation
    assert "20 rows of sql.jsonl" in made.description


def test_a_row_without_an_answer_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "sql.jsonl").write_text(
        '{"question": "q", "context": "c", "answer": "a"}\n{"question": "q"}\n'
    )
    with pytest.raises(UserError, match="the row has no context") as refused:
        text_to_sql("sql.jsonl")
    assert refused.value.line == 2


# --- prompts ---------------------------------------------------------------------------------


def test_a_prompt_reads_as_axolotl_writes_an_alpaca_row() -> None:
    """`axolotl.prompters.AlpacaPrompter`, 0.19: system_no_input_prompt, then turn_no_input_format."""
    made = evol_instruct_python()
    engine = declared(HUB_ID, chat_template="alpaca")
    question = render(made.input_template, {"instruction": "Add 2 and 3."})
    messages = [
        {"role": "system", "content": made.instructions},
        {"role": "user", "content": question},
    ]
    assert engine._tokens.text(messages) == (
        "<s>Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nAdd 2 and 3.\n\n### Response:\n"
    )


def test_an_input_of_a_row_stands_where_alpaca_has_it(tmp_path: Path) -> None:
    row = {"instruction": "Sort them.", "input": "3, 1", "output": "1, 3"}
    others = [
        {"instruction": f"Do {w}.", "output": w} for w in ("x", "yy", "zebra", "words", "k9", "m", "ox")
    ]
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(r) + "\n" for r in (row, *others)))
    made = evol_instruct_python("e.jsonl")
    asked = [e.input["instruction"] for e in (*made.train, *made.validation, *made.test)]
    assert "Sort them.\n\n### Input:\n3, 1" in asked


def test_chatml_ends_its_turns_in_the_models_own_end_token() -> None:
    engine = declared(HUB_ID, chat_template="chatml")
    told = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "?"},
    ]
    assert engine._tokens.text(told) == (
        "<s><|im_start|>user\nHi</s>\n<|im_start|>assistant\nYes</s>\n<|im_start|>user\n?</s>\n"
        "<|im_start|>assistant\n"
    )


def test_a_chat_template_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'alpca' is no chat template"):
        chat_template("alpca")
    with pytest.raises(UserError, match="not valid Jinja"):
        chat_template("{% for m in messages %}")
    (tmp_path / "own.jinja").write_text("{{ messages[0]['content'] }}")
    assert chat_template("own.jinja") == "{{ messages[0]['content'] }}"


# --- hyper-parameters ------------------------------------------------------------------------

#: EvolCodeLlama-7b.yaml of "A Beginner's Guide to LLM Fine-Tuning", without the keys that it leaves empty.
PUBLISHED = """
base_model: codellama/CodeLlama-7b-hf
base_model_config: codellama/CodeLlama-7b-hf
model_type: LlamaForCausalLM
tokenizer_type: LlamaTokenizer
is_llama_derived_model: true
hub_model_id: EvolCodeLlama-7b
load_in_8bit: false
load_in_4bit: true
strict: false
datasets: [{path: mlabonne/Evol-Instruct-Python-1k, type: alpaca}]
dataset_prepared_path: last_run_prepared
val_set_size: 0.02
output_dir: ./qlora-out
adapter: qlora
sequence_len: 2048
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project: axolotl
gradient_accumulation_steps: 1
micro_batch_size: 10
num_epochs: 3
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 0.0002
train_on_inputs: false
group_by_length: false
bf16: true
fp16: false
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
warmup_steps: 100
eval_steps: 0.01
save_strategy: epoch
weight_decay: 0.0
special_tokens: {bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>"}
"""
#: Published keys that the export says otherwise or not at all, and why.
OTHERWISE = {
    "base_model_config": "Axolotl takes it from base_model",
    "model_type": "Axolotl takes it from the model's configuration",
    "tokenizer_type": "as model_type",
    "is_llama_derived_model": "as model_type",
    "hub_model_id": "nothing is pushed",
    "load_in_8bit": "false is Axolotl's default",
    "strict": "false is Axolotl's default",
    "datasets": "our rows with the same text: chat_template_jinja in place of type alpaca",
    "dataset_prepared_path": "a folder's name",
    "output_dir": "a folder's name",
    "val_set_size": "our validation rows, so that ours and theirs are the same",
    "wandb_project": "nothing is reported",
    "train_on_inputs": "roles_to_train: [assistant]",
    "group_by_length": "false is Axolotl's default",
    "fp16": "false is Axolotl's default",
    "tf32": "false is Axolotl's default",
    "flash_attention": "attn_implementation: sdpa computes the same and needs no further package",
    "eval_steps": "once an epoch",
    "save_strategy": "the end counts; an interrupted training starts again",
    "special_tokens": "those that the tokenizer has",
}


@pytest.fixture
def exported(breakeven: Callable[..., Said]) -> dict[str, Any]:
    said = breakeven("export", "codellama_axolotl", "--strategy", "tuned", "--to", "axolotl", "--out", "x")
    assert said.code == 0, said.err
    found: dict[str, Any] = yaml.safe_load(Path("x/axolotl.yaml").read_text())
    return found


def test_the_exported_configuration_is_the_published_one_key_by_key(exported: dict[str, Any]) -> None:
    published = yaml.safe_load(PUBLISHED)
    assert set(OTHERWISE) <= set(published)
    for key in set(published) - set(OTHERWISE):
        assert exported.get(key) == published[key], key
    assert exported["datasets"][0]["roles_to_train"] == ["assistant"]
    assert exported["chat_template_jinja"] == chat_template("alpaca")
    assert exported["max_grad_norm"] == 1.0  # what transformers does where nothing is said
    # what the export adds beyond the published keys concerns data, folders and variants that are off
    more = set(exported) - set(published) - {"datasets"}
    assert more == {
        "chat_template", "chat_template_jinja", "peft_use_rslora", "peft_use_dora", "eval_sample_packing",
        "max_grad_norm", "seed", "attn_implementation", "test_datasets", "eval_strategy",
    }  # fmt: skip
    assert not exported["peft_use_rslora"]
    assert not exported["peft_use_dora"]


def test_the_exported_rows_are_the_tasks_own(exported: dict[str, Any]) -> None:
    said = [json.loads(line)["messages"] for line in Path("x/data/train.jsonl").read_text().splitlines()]
    made = evol_instruct_python()
    assert [turns[1]["content"] for turns in said] == [e.input["instruction"] for e in made.train]
    assert [turns[2]["content"] for turns in said] == [str(e.references[0]) for e in made.train]
    assert "rule of thumb" in Path("x/README.md").read_text()


def test_the_trl_suite_has_the_published_hyper_parameters() -> None:
    suite = suites.load(suites.find("codellama_trl"))
    weights = suite.strategies["tuned"].settings["weights"]
    published = {
        "rank": 256, "alpha": 128, "dropout": 0.05, "targets": "all-linear", "lr": 2e-4, "epochs": 3,
        "schedule": "constant", "max_grad_norm": 0.3, "max_length": 3072, "gradient_checkpointing": True,
    }  # fmt: skip
    assert {key: weights[key] for key in published} == published
    assert suite.models["codellama-7b"].settings["load_in_4bit"]
    # 136 steps for 10,000 examples, twice: so many examples fill a step of 6 rows
    assert weights["batch_size"] == round(2 * 10_000 / 136)


def test_trl_elsewhere_is_told_of_4_bits_and_the_template(breakeven: Callable[..., Said]) -> None:
    said = breakeven("export", "codellama_trl", "--strategy", "tuned", "--to", "trl", "--out", "x")
    assert said.code == 0, said.err
    config = yaml.safe_load(Path("x/trl.yaml").read_text())
    assert config["load_in_4bit"]
    assert Path("x", config["chat_template_path"]).read_text() == chat_template("chatml")


def test_a_system_that_cannot_be_told_the_template_is_refused(breakeven: Callable[..., Said]) -> None:
    said = breakeven("export", "codellama_trl", "--strategy", "tuned", "--to", "unsloth", "--out", "x")
    assert said.code == 2
    assert "Unsloth takes the chat template from the model's folder" in said.err


# --- by its architecture alone ---------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> DeclaredEngine:
    return declared(HUB_ID, load_in_4bit=True, chat_template="alpaca")


def test_the_declared_architecture_has_the_published_number_of_parameters(engine: DeclaredEngine) -> None:
    card = engine.describe()
    assert card.parameters == 6_738_546_688
    assert (card.context, card.licence, card.dtype) == (16_384, "llama2", "nf4")
    # the embedding table is looked up, not multiplied
    assert card.active_parameters == 6_738_546_688 - 32_016 * 4_096
    assert declared(HUB_ID).weight_bytes == 2 * 6_738_546_688


def test_prompts_that_begin_alike_have_tokens_that_begin_alike(engine: DeclaredEngine) -> None:
    one, two = (
        engine.encode([{"role": "user", "content": f"Write a program that {what}."}], "pass")
        for what in ("counts", "sorts")
    )
    assert one[0][:8] == two[0][:8]
    assert one[0] != two[0]
    assert one[1][-1] == engine.end_id
    assert engine.count_tokens(Request("a", text="three short words")) == 4  # three, and where text begins


def test_the_share_of_the_peak_is_that_of_the_published_run(engine: DeclaredEngine) -> None:
    card = engine.describe()
    assert card.active_parameters is not None
    assert card.layers is not None
    assert card.attention_width is not None
    lora = 256 * 32 * (4 * (4096 + 4096) + 3 * (4096 + 11008))
    tokens = 136 * 6 * 3072
    work = flops.lora_training(card.active_parameters, lora, card.layers, card.attention_width, 3072, tokens)
    a10g = _projected.accelerator("a10g")
    assert a10g is not None
    assert flops.utilisation(work, 3552.5, 1, a10g.flops) == pytest.approx(_projected.COMPUTE_SHARE, abs=0.01)


def test_every_gpu_of_the_price_book_has_a_peak() -> None:
    machines = yaml.safe_load(SHIPPED.read_text())["machine_hours"]
    without = {name for name in machines if _projected.accelerator(name) is None}
    assert without == {name for name in machines if name.startswith("cpu")}


@pytest.mark.parametrize("name", SUITES)
def test_a_dry_run_needs_neither_weights_nor_network(name: str, breakeven: Callable[..., Said]) -> None:
    said = breakeven("run", name, "--dry-run")
    assert said.code == 0, said.err
    assert "3 cells" in said.out
    assert "written for this project, NOT" in said.out
    assert (
        "cannot run on this machine; by its declared architecture its weights take 3.9 GB in nf4" in said.out
    )


def test_an_estimate_rests_on_what_is_declared_and_says_so(
    breakeven: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("breakeven.baselines.trainers._memory.MOST_TOKENS", 64)  # counted on short passes
    said = breakeven("estimate", "codellama_axolotl", "--limit", "4", "--save", "e.json")
    assert said.code == 0, said.err
    found = json.loads(Path("e.json").read_text())
    zero, _, tuned = found["cells"]
    assert found["projected"] == ["codellama-7b"]
    assert zero["output_from"] == "at most: nothing could be asked"
    assert zero["output_tokens"] == 4 * 1024
    assert tuned["output_from"] == "training answers"
    # 4 N and more for each token trained, at the share of the A10G's 70e12 operations a second
    assert tuned["seconds"]["training"] == pytest.approx(
        tuned["training_tokens"] * 4 * 6_607_409_152 / (0.35 * 70e12), rel=0.1
    )
    assert 4e9 < tuned["peak_bytes"] < 24e9
    assert found["machine_hour"] is not None
    for words in (
        "its weights are not here",
        "tokens are a rule of thumb",
        "35% of 70 TFLOPS",
        "assumed",
        "≈ ",
    ):
        assert words in said.out
    assert "was not asked" not in said.out


def test_on_a_machine_without_a_known_peak_minutes_and_money_are_unknown(
    breakeven: Callable[..., Said],
) -> None:
    said = breakeven(
        "estimate", "codellama_axolotl", "--limit", "2", "--only", "zero-shot",
        "--set", "economics.hardware=cpu-2", "--save", "e.json",
    )  # fmt: skip
    assert said.code == 0, said.err
    (cell,) = json.loads(Path("e.json").read_text())["cells"]
    assert cell["seconds"] is None
    assert "minutes and money are unknown, for 'cpu-2' is no GPU" in said.out
    (row,) = (line for line in said.out.splitlines() if line.startswith("zero-shot"))
    assert row.split()[-2:] == ["?", "?"]


def test_the_estimates_memory_of_the_weights_is_that_of_the_dry_run(engine: DeclaredEngine) -> None:
    suite = suites.load(suites.find("codellama_axolotl"))
    (fit,) = fitting.of_models(suite.models, ["codellama-7b"])
    assert fit.weights == engine.weight_bytes
    assert not fit.here


# --- running ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((), "load_in_4bit needs a CUDA device"),
        (("--set", "models.codellama-7b.load_in_4bit=false"), "is not on this machine"),
    ],
)
def test_a_run_without_gpu_or_weights_is_refused_before_anything_is_written(
    changes: tuple[str, ...], words: str, breakeven: Callable[..., Said], tmp_path: Path
) -> None:
    said = breakeven("run", "codellama_trl", *changes)
    assert said.code == 2
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert not list(tmp_path.rglob("*"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with grouped keys and without a chat template, in place of CodeLlama."""
    config = LlamaConfig(
        vocab_size=98, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=96, eos_token_id=97,
    )  # fmt: skip
    return write_model(tmp_path_factory.mktemp("base") / "llama", config, template=None)


def test_the_trl_suite_runs_end_to_end_on_a_small_base_model(
    base: Path, breakeven: Callable[..., Said]
) -> None:
    pytest.importorskip("trl", reason="trl is not installed: pip install 'breakeven[trl]'")
    small = {
        "models.codellama-7b.model": base, "models.codellama-7b.load_in_4bit": "false",
        "models.codellama-7b.dtype": "float32", "tasks.text_to_sql.limits.train": 4,
        "tasks.text_to_sql.limits.validation": 2, "tasks.text_to_sql.limits.test": 1, "timing.examples": 0,
        "strategies.tuned.weights.rank": 4, "strategies.few-shot.demonstrations.k": 1,
        "models.codellama-7b.threads": 1, "economics.hardware": "cpu-2",
    }  # fmt: skip
    changes = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    said = breakeven("run", "codellama_trl", *changes, "--name", "r")
    assert said.code == 0, said.err + said.out
    cells = results.load(Path("runs/r")).cells
    tuned = cells["text_to_sql--tuned--s0"]
    assert tuned.state == "done", tuned.reason
    assert tuned.training is not None
    assert tuned.training["steps"] == 3  # one batch holds all of them
    assert set(tuned.aggregates) == {"sql_match", "sql_execution", "exact_match"}
    frozen = json.loads(Path("runs/r/engines.json").read_text())["codellama-7b"]
    assert frozen["chat_template"] == chat_template("chatml")


def test_serving_and_training_read_the_same_prompt_where_a_template_is_set(base: Path) -> None:
    from breakeven.baselines.trainers._outside import _require_same_text
    from breakeven.harness.engines.local import local
    from breakeven.harness.training import TrainingPair

    engine = local(str(base), dtype="float32", device="cpu", chat_template="alpaca")
    told = ({"role": "system", "content": "Below."}, {"role": "user", "content": "Add."})
    given = engine.tunable()
    prompt, answer = given.encode(told, "a + b")
    assert engine.spelled(prompt).endswith("### Instruction:\nAdd.\n\n### Response:\n")
    assert engine.count_tokens(Request("a", told)) == len(prompt)
    assert answer[-1] == 97
    _require_same_text([TrainingPair("a", told, "a + b")], given, base, "Axolotl")
    with pytest.raises(UserError, match="no chat template"):
        _require_same_text(
            [TrainingPair("a", told, "x")], local(str(base), device="cpu").tunable(), base, "Axolotl"
        )


def test_other_templates_make_other_models(base: Path) -> None:
    from breakeven.harness.engines.local import local

    bare, alpaca, chatml = (
        local(str(base), device="cpu", chat_template=t).describe().digest for t in (None, "alpaca", "chatml")
    )
    assert len({bare, alpaca, chatml}) == 3
