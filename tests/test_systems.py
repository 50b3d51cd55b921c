"""What other fine-tuning systems are told: the same training in each one's words."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from breakeven.baselines.trainers._settings import Settings
from breakeven.baselines.trainers._systems import SYSTEMS, Job, jsonl, system
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair

DEMONSTRATED = TrainingPair(
    "e1",
    (
        {"role": "system", "content": "Name the fruit."},
        {"role": "user", "content": "red, round"},
        {"role": "assistant", "content": "apple"},
        {"role": "user", "content": "yellow, bent"},
    ),
    "banana",
)
JOB = Job(
    model="models/small",
    settings=Settings(rank=8, epochs=2, batch_size=4, warmup=0.25),
    lr=5e-5,
    max_length=256,
    examples=10,
    validation="data/validation.jsonl",
    seed=7,
)


def config(name: str, job: Job = JOB) -> dict[str, Any]:
    files = system(name).files(job)
    first = next(iter(files))
    found: dict[str, Any] = yaml.safe_load(files[first])
    return found


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_row_holds_the_whole_prompt_and_the_answer_last(name: str) -> None:
    (row,) = system(name).rows([DEMONSTRATED])
    turns = row.get("messages") or [*row["prompt"], *row["completion"]]
    said = [{"role": t["role"], "content": t["content"]} for t in turns]
    assert said == [*DEMONSTRATED.messages, {"role": "assistant", "content": "banana"}]


def test_only_the_last_answer_is_learned_where_the_row_says_so() -> None:
    (row,) = system("axolotl").rows([DEMONSTRATED])
    assert [turn["train"] for turn in row["messages"]] == [False, False, False, False, True]
    (row,) = system("openai").rows([DEMONSTRATED])
    assert [turn.get("weight") for turn in row["messages"]] == [None, None, 0, None, None]
    (row,) = system("trl").rows([DEMONSTRATED])
    assert row["completion"] == [{"role": "assistant", "content": "banana"}]


def test_only_the_last_answer_is_learned_where_the_configuration_says_so() -> None:
    assert config("llamafactory")["mask_history"] is True
    assert config("trl")["completion_only_loss"] is True
    (dataset,) = config("axolotl")["datasets"]
    assert (dataset["message_field_training"], dataset["train_on_eos"]) == ("train", "turn")


def test_autotrain_is_said_to_learn_prompts_too() -> None:
    assert any("no loss mask" in remark for remark in system("autotrain").remarks(JOB))


def test_every_system_is_told_the_same_training() -> None:
    axolotl, factory, auto, trl = map(config, ("axolotl", "llamafactory", "autotrain", "trl"))
    params = auto["params"]
    assert axolotl["lora_r"] == factory["lora_rank"] == params["lora_r"] == trl["lora_r"] == 8
    assert axolotl["lora_alpha"] == factory["lora_alpha"] == params["lora_alpha"] == trl["lora_alpha"] == 16
    rates = (axolotl["learning_rate"], factory["learning_rate"], params["lr"], trl["learning_rate"])
    assert set(rates) == {5e-5}
    assert axolotl["num_epochs"] == factory["num_train_epochs"] == params["epochs"] == 2
    assert axolotl["warmup_steps"] == factory["warmup_steps"] == trl["warmup_steps"] == 2  # of 6 steps
    assert (
        axolotl["sequence_len"] == factory["cutoff_len"] == params["block_size"] == trl["max_length"] == 256
    )
    assert axolotl["seed"] == factory["seed"] == params["seed"] == trl["seed"] == 7


def test_a_batch_that_does_not_fit_is_put_together_from_smaller_ones() -> None:
    job = replace(JOB, settings=replace(JOB.settings, batch_size=8), micro_batch=2)
    assert (
        config("axolotl", job)["micro_batch_size"],
        config("axolotl", job)["gradient_accumulation_steps"],
    ) == (2, 4)
    trl = config("trl", job)
    assert (trl["per_device_train_batch_size"], trl["gradient_accumulation_steps"]) == (2, 4)
    with pytest.raises(UserError, match="3 does not divide the batch size 8"):
        replace(job, micro_batch=3)


def test_a_constant_rate_warms_up_only_if_asked_to() -> None:
    settings = replace(JOB.settings, schedule="constant")
    assert config("trl", replace(JOB, settings=settings))["lr_scheduler_type"] == "constant_with_warmup"
    cold = replace(settings, warmup=0.0)
    assert config("trl", replace(JOB, settings=cold))["lr_scheduler_type"] == "constant"


def test_without_a_gpu_nothing_asks_for_one() -> None:
    job = replace(JOB, device="cpu")
    axolotl = config("axolotl", job)
    assert [axolotl[f"lora_{part}_kernel"] for part in ("mlp", "qkv", "o")] == [False] * 3
    assert not axolotl["bf16"]
    assert config("llamafactory", job)["use_cpu"] is True
    assert config("autotrain", job)["params"]["mixed_precision"] is None
    assert (config("trl", job)["use_cpu"], config("trl", job)["dtype"]) == (True, "float32")
    with pytest.raises(UserError, match="needs a GPU"):
        system("unsloth").files(job)
    with pytest.raises(UserError, match="4-bit"):
        replace(job, load_in_4bit=True)


def test_four_bit_weights_are_asked_for_in_each_ones_words() -> None:
    job = replace(JOB, load_in_4bit=True)
    assert config("axolotl", job)["adapter"] == "qlora"
    assert config("llamafactory", job)["quantization_bit"] == 4
    assert config("autotrain", job)["params"]["quantization"] == "int4"
    assert config("trl", job)["load_in_4bit"] is True


def test_named_layers_go_through() -> None:
    job = replace(JOB, settings=replace(JOB.settings, targets=("q_proj", "v_proj")))
    assert config("axolotl", job)["lora_target_modules"] == ["q_proj", "v_proj"]
    assert "lora_target_linear" not in config("axolotl", job)
    assert config("llamafactory", job)["lora_target"] == "q_proj,v_proj"
    assert config("trl", job)["lora_target_modules"] == ["q_proj", "v_proj"]


def test_llamafactory_finds_its_rows_through_its_list_of_data_sets() -> None:
    known = json.loads(system("llamafactory").files(JOB)["dataset_info.json"])
    made = config("llamafactory")
    assert known[made["dataset"]]["file_name"] == JOB.train
    assert known[made["eval_dataset"]]["file_name"] == JOB.validation


def test_keys_of_the_systems_own_are_laid_over_ours() -> None:
    job = replace(JOB, extra={"params": {"padding": "left"}})
    params = config("autotrain", job)["params"]
    assert (params["padding"], params["lora_r"]) == ("left", 8)


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        ("autotrain", {"epochs": 0.5}, "epochs"),
        ("autotrain", {"use_dora": True}, "use_dora"),
        ("openai", {"epochs": 1.5}, "epochs"),
        ("unsloth", {"use_dora": True}, "use_dora"),
        ("llamafactory", {"alpha": 7.5}, "alpha"),
    ],
)
def test_what_a_system_cannot_do_is_refused(name: str, settings: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as error:
        system(name).files(replace(JOB, settings=replace(JOB.settings, **settings)))
    assert error.value.field == field


def test_a_cap_of_tokens_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="set epochs instead"):
        replace(JOB, settings=replace(JOB.settings, max_tokens_total=1000))


def test_autotrain_needs_a_project_name_that_it_takes() -> None:
    with pytest.raises(UserError, match="letters, digits and -"):
        system("autotrain").files(replace(JOB, output="out_1"))


def test_llamafactory_refuses_turns_that_it_would_reorder() -> None:
    pair = replace(
        DEMONSTRATED, messages=({"role": "user", "content": "a"}, {"role": "user", "content": "b"})
    )
    with pytest.raises(UserError, match="user, user; LLaMA-Factory takes user and assistant in turn"):
        system("llamafactory").rows([pair])


def test_the_providers_job_leaves_open_what_it_does_not_let_one_choose() -> None:
    body = json.loads(system("openai").files(JOB)["job.json"])
    assert body["method"]["supervised"]["hyperparameters"] == {
        "n_epochs": 2,
        "batch_size": 4,
        "learning_rate_multiplier": "auto",
    }
    assert body["seed"] == 7


def test_a_provider_is_not_sent_fewer_rows_than_it_takes() -> None:
    with pytest.raises(UserError, match="wants 10 examples, there are 9"):
        system("openai").files(replace(JOB, examples=9))


@pytest.mark.parametrize(("name", "file"), [("unsloth", "train_unsloth.py"), ("openai", "fine_tune.py")])
def test_generated_scripts_are_python(name: str, file: str) -> None:
    ast.parse(system(name).files(JOB)[file])


class Tokenizer:
    """A chat template and a tokenizer of one token a character; "\\n" ends an answer."""

    eos_token_id = ord("\n")

    def apply_chat_template(
        self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool = False
    ) -> str:
        text = "".join(f"{m['role'][0]}:{m['content']}\n\r" for m in messages)
        return text + ("a:" if add_generation_prompt else "")

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}


def test_the_unsloth_script_learns_the_last_answer_and_its_end_token_and_nothing_else() -> None:
    tree = ast.parse(system("unsloth").files(replace(JOB, max_length=30))["train_unsloth.py"])
    kept = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in ("ids", "masked")]
    space: dict[str, Any] = {"tokenizer": Tokenizer(), "MAX_LENGTH": 30}
    exec(compile(ast.Module(kept, []), "script", "exec"), space)
    row = space["masked"](system("unsloth").rows([DEMONSTRATED])[0])
    learned = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert "".join(map(chr, learned)) == "banana\n"
    assert "".join(map(chr, row["input_ids"])).endswith("u:yellow, bent\n\ra:banana\n")
    assert len(row["input_ids"]) == 30  # cut where the prompt begins


def test_rows_become_lines_whatever_is_in_them() -> None:
    text = jsonl([{"a": "one\u2028line"}, {"a": "\ud83d"}])
    assert [json.loads(line) for line in text.split("\n")[:-1]] == [{"a": "one\u2028line"}, {"a": "\ud83d"}]


def test_a_system_that_is_not_known_is_said_to_be_none() -> None:
    with pytest.raises(UserError, match="did you mean 'axolotl'"):
        system("axolotel")
