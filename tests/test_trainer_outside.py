"""Trainers that hand the work to another system: what it is told, what is taken from it, and what is not.

The system here is a script that says what a trainer over transformers says, and hands out an adapter that was
trained beforehand. The real ones: `tests/test_trainer_systems.py`, where their environments are made.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_suite import tiny_model

from breakeven.baselines.trainers._environments import READY, Recipe
from breakeven.baselines.trainers._outside import Kind, OutsideTrainer
from breakeven.baselines.trainers._systems.prepare_model import older_copy
from breakeven.baselines.trainers.autotrain import autotrain
from breakeven.baselines.trainers.axolotl import axolotl
from breakeven.baselines.trainers.peft import peft
from breakeven.baselines.trainers.unsloth import unsloth
from breakeven.harness.engines.local import local
from breakeven.harness.errors import BreakevenError, NotApplicable, OutOfMemory, UserError
from breakeven.harness.training import Checked, TrainingPair, TrainingResult, Tunable

PAIRS = [
    TrainingPair(f"p{i}", ({"role": "user", "content": "ab"[i % 2] * (1 + i % 5)},), "no" if i % 2 else "yes")
    for i in range(10)
]

#: What `axolotl train` is replaced by: {do} is done with the folder `out`, the adapter's.
SYSTEM = """#!{python}
import json, os, pathlib, shutil, sys, time
config, rows = open("axolotl.yaml").read(), open("data/train.jsonl").read()
pathlib.Path({told!r}).write_text(json.dumps({{"env": dict(os.environ), "argv": sys.argv[1:],
    "pid": os.getpid(), "cwd": os.getcwd(), "config": config, "rows": rows}}))
out = pathlib.Path("adapter")
print("loading", flush=True)
for step in range(1, 6):
    print({{"loss": round(2.0 / step, 4), "grad_norm": "0.5", "epoch": step / 3}}, flush=True)
print({{"train_runtime": "12.5", "train_loss": 1.1}})
{do}
"""
HAND_OUT = "shutil.copytree({adapter!r}, out)"


@pytest.fixture(scope="module")
def tunable(tmp_path_factory: pytest.TempPathFactory) -> Tunable:
    folder = tiny_model(tmp_path_factory.mktemp("model"))
    return local(str(folder), dtype="float32", device="cpu", threads=1).tunable()


@pytest.fixture(scope="module")
def trained(tunable: Tunable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for the model, trained by our own trainer."""
    folder = tmp_path_factory.mktemp("adapter")
    made = peft(rank=4, epochs=1, lr=1e-2)
    made.train(tunable, PAIRS, (), folder, folder / "scratch", 0, {}, lambda *_: None)
    return folder


@pytest.fixture
def system(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Callable[..., TrainingResult]]:
    """Installs the script as Axolotl; returns what trains with it into tmp_path."""
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path / "cache"))

    def installed(do: str | None = None) -> Callable[..., TrainingResult]:
        from breakeven.baselines.trainers.axolotl import KIND

        place = KIND.recipe.folder
        (place / "bin").mkdir(parents=True, exist_ok=True)
        (place / READY).write_text(json.dumps({"versions": {"axolotl": "0.19.0", "peft": "0.20.0"}}))
        script = place / "bin" / "axolotl"
        script.write_text(
            SYSTEM.format(
                python=sys.executable,
                told=str(tmp_path / "told.json"),
                do=HAND_OUT.format(adapter=str(trained)) if do is None else do,
            )
        )
        script.chmod(0o755)
        return train

    def train(tunable: Tunable, **more: Any) -> TrainingResult:
        given = {"rank": 4, "epochs": 2, "batch_size": 4, "lr": 1e-2, **more.pop("settings", {})}
        arguments = {
            "pairs": PAIRS, "validation": (), "folder": tmp_path / "out",
            "scratch": tmp_path / "out" / "scratch", "seed": 3, "settings": {},
            "progress": lambda *_: None, **more,
        }  # fmt: skip
        (tmp_path / "out").mkdir(exist_ok=True)
        return axolotl(**given).train(tunable, **arguments)

    return installed


def told(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


# --- what goes out -------------------------------------------------------------------------------


def test_it_runs_in_a_folder_of_its_own_with_rows_and_configuration(
    system: Any, tunable: Tunable, tmp_path: Path
) -> None:
    system()(tunable)
    found = told(tmp_path)
    assert found["argv"] == ["train", "axolotl.yaml", "--launcher", "python"]
    assert found["cwd"].startswith(str(tmp_path / "out" / "scratch"))
    rows = [json.loads(line)["messages"] for line in found["rows"].splitlines()]
    assert [row[-1]["content"] for row in rows] == [pair.answer for pair in PAIRS]
    config = yaml.safe_load(found["config"])
    assert (config["seed"], config["learning_rate"], config["num_epochs"]) == (3, 1e-2, 2)
    assert config["bf16"] is False


def test_it_is_offline_and_knows_no_secret(
    system: Any, tunable: Tunable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    system()(tunable)
    env = told(tmp_path)["env"]
    assert "sesame" not in env.values()
    assert env["HF_HUB_OFFLINE"] == env["AXOLOTL_DO_NOT_TRACK"] == "1"
    assert env["CUDA_VISIBLE_DEVICES"] == ""


def test_examples_that_do_not_fit_are_left_out_and_counted(
    system: Any, tunable: Tunable, tmp_path: Path
) -> None:
    long = TrainingPair("long", ({"role": "user", "content": "a" * 300},), "yes")
    result = system()(tunable, pairs=[*PAIRS, long], settings={"max_length": 120})
    assert (result.examples, result.dropped) == (10, 1)
    assert '"' + "a" * 300 not in told(tmp_path)["rows"]


# --- what comes back -----------------------------------------------------------------------------


def test_the_adapter_is_taken_over_and_applies(
    system: Any, tunable: Tunable, trained: Path, tmp_path: Path
) -> None:
    system()(tunable)
    ours, theirs = (load_file(f / "adapter_model.safetensors") for f in (tmp_path / "out", trained))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tunable.card.name
    origin = json.loads((tmp_path / "out" / "breakeven.json").read_text())
    assert (origin["trainer"], origin["versions"]["axolotl"]) == ("axolotl", "0.19.0")
    assert not (tmp_path / "out" / "scratch" / "adapter").exists()


def test_losses_and_seconds_are_those_it_reported(system: Any, tunable: Tunable) -> None:
    result = system()(tunable)
    assert result.losses == ((1, 2.0), (2, 1.0), (3, 0.6667), (4, 0.5), (5, 0.4))
    assert result.seconds == 12.5
    assert result.steps == 5
    assert 0 < result.settings["process_seconds"] < 600
    assert result.peak_bytes is None or result.peak_bytes > 1_000_000


def test_a_step_that_is_said_twice_is_one_step() -> None:
    """AutoTrain logs each step, and so does the library below it; numbers may stand in quotation marks."""
    from breakeven.baselines.trainers._returned import Watch

    told: list[tuple[float, float, str]] = []
    watch = Watch("AutoTrain", 2, 100, lambda *said: told.append(said))
    for line in (
        "INFO | common:on_log:367 - {'loss': 2.5, 'grad_norm': 0.8, 'epoch': 0.3333333333333333}",
        " 50%| 1/2 [00:01] {'loss': 2.5, 'grad_norm': 0.8, 'epoch': 0.33}",
        "{'loss': '2.5', 'grad_norm': '0.8', 'epoch': '1.0'}",
        "{'train_runtime': '3.5', 'epoch': '1.0'}",
    ):
        watch.line(line)
        watch.alive()
    assert watch.losses == [(1, 2.5), (2, 2.5)]
    assert watch.seconds == 3.5
    assert [round(done, 2) for done, _, _ in told] == [33.33, 33.0, 100.0, 100.0]
    assert told[1][2] == "training with AutoTrain: step 1, epoch 0.33 of 1, loss 2.50"


def test_a_record_in_a_file_goes_before_what_was_printed(
    system: Any, tunable: Tunable, trained: Path
) -> None:
    history = [{"step": 1, "loss": 1.23456789}, {"step": 2, "loss": 0.5}, {"step": 2, "train_runtime": 7.25}]
    do = HAND_OUT.format(adapter=str(trained)) + (
        f"\n(out / 'trainer_state.json').write_text({json.dumps({'log_history': history})!r})"
    )
    result = system(do)(tunable)
    assert result.losses == ((1, 1.23456789), (2, 0.5))
    assert result.seconds == 7.25


def test_tokens_are_counted_by_us_over_all_epochs(system: Any, tunable: Tunable) -> None:
    result = system()(tunable)
    lengths = [sum(map(len, tunable.encode(p.messages, p.answer))) for p in PAIRS]
    assert result.training_tokens == 2 * sum(lengths)
    assert result.trainable_parameters > 0


def test_the_validation_loss_is_measured_by_us(
    system: Any, tunable: Tunable, trained: Path, tmp_path: Path
) -> None:
    """The same that our own trainer finds for that adapter."""
    made = peft(rank=4, epochs=1, lr=1e-2)
    folder = tmp_path / "ours"
    ours = made.train(tunable, PAIRS, PAIRS[:4], folder, folder / "scratch", 0, {}, lambda *_: None)
    theirs = system()(tunable, validation=PAIRS[:4])
    assert theirs.validation_losses[-1][1] == pytest.approx(ours.validation_losses[-1][1], rel=1e-4)
    assert theirs.validation_tokens == ours.validation_tokens


def test_progress_is_read_from_its_output(system: Any, tunable: Tunable) -> None:
    seen: list[tuple[float, float, str]] = []
    system()(tunable, progress=lambda done, total, what: seen.append((done, total, what)))
    assert any("step 5, epoch 1.67 of 2, loss 0.40" in what for _, _, what in seen)
    assert max(done / total for done, total, _ in seen) == pytest.approx(5 / 6)


def test_what_it_was_told_and_said_is_kept_beside_the_adapter(
    system: Any, tunable: Tunable, tmp_path: Path
) -> None:
    system()(tunable)
    assert "train_runtime" in (tmp_path / "out" / "told" / "axolotl.log").read_text()
    assert "lora_r: 4" in (tmp_path / "out" / "told" / "axolotl.yaml").read_text()


def test_no_path_of_this_machine_is_kept(
    system: Any, tunable: Tunable, trained: Path, tmp_path: Path
) -> None:
    """Run folders are handed around. The model's name is a path here."""
    system(HAND_OUT.format(adapter=str(trained)) + "; print('in', os.getcwd())")(tunable)
    told_files = sorted((tmp_path / "out" / "told").iterdir())
    assert [path.name for path in told_files] == ["axolotl.log", "axolotl.yaml"]
    for path in told_files:
        assert str(tmp_path) not in path.read_text()
        assert tunable.card.name not in path.read_text()
    assert "in WORK" in told_files[0].read_text()


def test_the_shared_model_is_left_as_it_was(system: Any, tunable: Tunable) -> None:
    names = [name for name, _ in tunable.model.named_modules()]
    system()(tunable, validation=PAIRS[:2])
    assert [name for name, _ in tunable.model.named_modules()] == names
    assert not tunable.model.training


# --- what is not taken ---------------------------------------------------------------------------


def test_a_failure_is_told_with_its_last_lines_and_where_the_rest_is(
    system: Any, tunable: Tunable, tmp_path: Path
) -> None:
    with pytest.raises(BreakevenError, match=r"exit code 3 .*ValueError: no such thing") as error:
        system("print('ValueError: no such thing'); sys.exit(3)")(tunable)
    log = tmp_path / "out" / "scratch" / "axolotl.log"
    assert str(log) in str(error.value)
    assert "loading" in log.read_text()


def test_out_of_memory_is_told_as_such(system: Any, tunable: Tunable) -> None:
    with pytest.raises(OutOfMemory):
        system("print('torch.OutOfMemoryError: CUDA out of memory.'); sys.exit(1)")(tunable)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("pass", "no adapter has come back"),
        ("{copy}; (out / 'adapter_config.json').unlink()", "no adapter has come back"),
        ("{copy}; os.truncate(out / 'adapter_model.safetensors', 5000)", "missing or broken"),
        ("shutil.copytree({untrained!r}, out)", "changes nothing"),
        ("shutil.copytree({infinite!r}, out)", "numbers that are none"),
        ("shutil.copytree({partial!r}, out)", "does not fit the model"),
    ],
    ids=["nothing", "no configuration", "half a file", "untrained", "not a number", "other layers"],
)
def test_an_exit_code_of_0_is_no_proof(
    system: Any, tunable: Tunable, trained: Path, tmp_path: Path, harm: str, said: str
) -> None:
    changes: dict[str, Callable[[str, torch.Tensor], torch.Tensor | None]] = {
        "untrained": lambda name, tensor: tensor * 0 if "lora_B" in name else tensor,
        "infinite": lambda name, tensor: tensor / 0 if "lora_A" in name else tensor,
        "partial": lambda name, tensor: None if "layers.1." in name else tensor,
    }
    places = {name: changed(trained, tmp_path / name, change) for name, change in changes.items()}
    do = harm.format(copy=HAND_OUT.format(adapter=str(trained)), **{k: str(v) for k, v in places.items()})
    with pytest.raises(BreakevenError, match=said):
        system(do)(tunable)
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def changed(source: Path, folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    tensors = {k: change(k, v) for k, v in load_file(source / "adapter_model.safetensors").items()}
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "adapter_model.safetensors")
    return folder


def test_an_interrupted_training_is_trained_again_and_its_time_is_not_billed(
    system: Any, tunable: Tunable, tmp_path: Path
) -> None:
    def stop(done: float, total: float, what: str) -> None:
        if "step 5" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        system("out.mkdir(); (out / 'adapter_model.safetensors').write_bytes(b'half'); time.sleep(600)")(
            tunable, progress=stop
        )
    with pytest.raises(ProcessLookupError):
        os.kill(told(tmp_path)["pid"], 0)
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
    result = system()(tunable)
    assert result.lost_seconds > 0
    assert result.seconds == 12.5


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "given", "field"),
    [
        (axolotl, {"tokens_per_pass": 64}, "tokens_per_pass"),
        (axolotl, {"max_tokens_total": 1000}, "max_tokens_total"),
        (axolotl, {"checkpoint_steps": 5}, "checkpoint_steps"),
        (axolotl, {"alpha": 1.5}, "alpha"),
        (axolotl, {"batch_size": 8, "micro_batch": 3}, "micro_batch"),
        (axolotl, {"load_in_4bit": "yes"}, "load_in_4bit"),
        (autotrain, {"epochs": 1.5}, "epochs"),
        (autotrain, {"use_dora": True}, "use_dora"),
        (autotrain, {"load_in_4bit": True}, "load_in_4bit"),
        (unsloth, {"use_dora": True}, "use_dora"),
        (unsloth, {"packing": True}, "packing"),
    ],
)
def test_what_a_system_cannot_honour_is_refused_by_name(make: Any, given: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError) as refused:
        make(**given)
    assert refused.value.field == field


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"unknown setting of the trainer 'axolotl'.*Did you mean 'rank'"):
        axolotl(rnk=3)


def test_a_model_without_a_chat_template_is_refused(system: Any, tmp_path: Path) -> None:
    from test_local_engine import SHAPES, write_model

    folder = write_model(tmp_path / "plain", SHAPES["llama"], template=None)
    plain = local(str(folder), dtype="float32", device="cpu", threads=1).tunable()
    with pytest.raises(UserError, match="has no chat template") as refused:
        system()(plain)
    assert refused.value.field == "trainer"


def test_a_template_that_would_train_another_prompt_is_refused(system: Any, tmp_path: Path) -> None:
    """It strips what was asked once an answer stands behind it, as reasoning models do with thoughts."""
    from test_local_engine import SHAPES, TEMPLATE, write_model

    strips = TEMPLATE.replace("{{ m['content'] }}", "{{ m['content'] if loop.last else m['content'][:1] }}")
    folder = write_model(tmp_path / "strips", SHAPES["llama"], template=strips)
    model = local(str(folder), dtype="float32", device="cpu", threads=1).tunable()
    with pytest.raises(UserError, match="would train on another prompt than is asked"):
        system()(model)


def test_unsloth_without_a_gpu_is_one_clear_sentence(tunable: Tunable, tmp_path: Path) -> None:
    with pytest.raises(NotApplicable, match="Unsloth trains on a GPU only, and this model is on the CPU"):
        unsloth().train(tunable, PAIRS, (), tmp_path, tmp_path / "scratch", 0, {}, lambda *_: None)


def test_the_settings_of_a_specification_hold_the_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that an adapter of another version is another artifact."""
    from breakeven.baselines.trainers import _environments

    monkeypatch.setattr(_environments, "REQUIREMENTS", tmp_path)
    kind = Kind("axolotl", Recipe("tuner", "tuner", "3.11", 1.0))
    (tmp_path / "tuner.txt").write_text("tuner==1\ntorch==1\n")
    before = OutsideTrainer(kind, {}).settings
    (tmp_path / "tuner.txt").write_text("tuner==1\ntorch==2\n")
    after = OutsideTrainer(kind, {}).settings
    assert before["system"] == after["system"] == "tuner 1"
    assert before["pins"] != after["pins"]
    assert (
        OutsideTrainer(kind, before).settings["pins"] == after["pins"]
    )  # what it was told before is not kept


def test_whether_it_is_usable_is_told_without_making_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path / "cache"))
    trainer = axolotl()
    assert isinstance(trainer, Checked)
    found = trainer.usable()
    assert "axolotl 0.19.0" in found.what
    assert "made on first use" in found.what
    assert not (tmp_path / "cache").exists()
    assert not unsloth().usable().usable or torch.cuda.is_available()  # type: ignore[attr-defined]
    assert "unmaintained" in autotrain().usable().note  # type: ignore[attr-defined]


# --- the model folder that AutoTrain reads -------------------------------------------------------


def test_autotrain_reads_a_copy_in_the_words_of_transformers_4(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 100000.0, "rope_type": "default"}
    (source / "config.json").write_text(json.dumps(config))
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    copy = older_copy(source, tmp_path / "copy")
    older = json.loads((copy / "config.json").read_text())
    assert older["rope_theta"] == 100000.0  # else 10,000 would be taken, without a word
    assert older["torch_dtype"] == config["dtype"]
    words = json.loads((copy / "tokenizer_config.json").read_text())
    assert words["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "<|im_start|>" in words["chat_template"]
    assert (copy / "model.safetensors").is_symlink()
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def test_scaled_positions_are_kept_in_the_copy(tmp_path: Path) -> None:
    source = tiny_model(tmp_path / "model")
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"] = {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}
    (source / "config.json").write_text(json.dumps(config))
    older = json.loads((older_copy(source, tmp_path / "copy") / "config.json").read_text())
    assert (older["rope_theta"], older["rope_scaling"]) == (5e5, {"rope_type": "linear", "factor": 2.0})
