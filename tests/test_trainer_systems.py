"""The real systems: that what they are told is what they know.

Where a system's environment has been made (`breakeven doctor` says which), it is asked itself; elsewhere
those tests are skipped with the reason. Unsloth's signatures are also kept beside this file, from its source.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from breakeven.baselines.trainers import _child, _environments, _systems
from breakeven.baselines.trainers._settings import Settings
from breakeven.baselines.trainers._signatures import parameters
from breakeven.baselines.trainers.axolotl import KIND as AXOLOTL
from breakeven.baselines.trainers.unsloth import KIND as UNSLOTH
from breakeven.baselines.trainers.unsloth import check
from breakeven.harness.errors import UserError

JOB = _systems.Job(model="model", settings=Settings(), lr=1e-3, max_length=64, examples=10)
JOBS = {
    "gpu": JOB,
    "cpu": replace(JOB, device="cpu"),
    "template": replace(JOB, chat_template="{{ messages[0]['content'] }}"),
    "qlora": replace(JOB, load_in_4bit=True, packing=True, micro_batch=2),
    "variants": replace(
        JOB, settings=Settings(use_rslora=True, targets=("q_proj", "v_proj"), schedule="linear")
    ),
}


def environment(kind: Any) -> _environments.Environment:
    if kind.recipe.state != "ready":
        pytest.skip(f"the environment of {kind.system} has not been made here")
    return _environments.ensure(kind.recipe)


# --- Axolotl -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """What `axolotl config-schema` says."""
    made = environment(AXOLOTL)
    command = [str(made.bin / "axolotl"), "config-schema"]
    env = _child.environment(made.bin, made.folder / "home")
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    found: dict[str, Any] = json.loads(said[said.index("{") :])
    return found


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_axolotl_knows_every_key_and_its_type(schema: dict[str, Any], job: _systems.Job) -> None:
    config = yaml.safe_load(_systems.system("axolotl").files(job)["axolotl.yaml"])
    for key, value in config.items():
        assert key in schema["properties"], key
        assert _allowed(value, schema["properties"][key]), (key, value)


#: Axolotl 0.19 fails to make its full schema and says the types as Python writes them: "int | None".
PLAIN = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}


def _allowed(value: Any, said: dict[str, Any]) -> bool:
    """Whether a type as the schema says it allows a value; of types of Axolotl's own any value is taken."""
    names = [name.removeprefix("<class '").removesuffix("'>") for name in said["type"].split(" | ")]
    if any(name not in PLAIN for name in names):
        return True
    return any(type(value) is bool if name == "bool" else _is(value, PLAIN[name]) for name in names)


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


# --- Unsloth -------------------------------------------------------------------------------------

KEPT = Path(__file__).with_name("unsloth_signatures.json")


@pytest.mark.parametrize("job", [JOBS["gpu"], replace(JOBS["qlora"], packing=False), JOBS["variants"]])
def test_unsloth_knows_every_argument_of_the_script(job: _systems.Job) -> None:
    from breakeven.baselines.trainers._systems.unsloth import arguments

    known = json.loads(KEPT.read_text())
    for call, given in arguments(job).items():
        assert set(given) <= set(known[call])


def test_the_kept_signatures_are_those_of_the_installed_packages() -> None:
    check(JOB, environment(UNSLOTH).site_packages)


LOADER = """
class FastLanguageModel:
    @staticmethod
    def from_pretrained(model_name, max_seq_length=1, load_in_4bit=True, *args, **kwargs): ...
"""


def test_an_argument_that_is_not_in_the_source_is_refused(tmp_path: Path) -> None:
    for module, text in {
        "unsloth/models/loader.py": LOADER,
        "unsloth/models/llama.py": "class FastLlamaModel:\n    def get_peft_model(self, model, r): ...",
        "trl/trainer/sft_config.py": "class SFTConfig: ...",
        "transformers/training_args.py": "class TrainingArguments: ...",
    }.items():
        (tmp_path / module).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / module).write_text(text)
    with pytest.raises(UserError, match=r"knows no get_peft_model\(lora_alpha=...\)"):
        check(JOB, tmp_path)


# --- signatures read from source -----------------------------------------------------------------

SOURCE = """
import nothing_that_is_installed

def plain(a, /, b, *rest, c=1, **more): ...

class Base:
    x: int
    y = 2

class Made(Base):
    z: str = "z"

    def method(self, q): ...
"""


def test_parameters_are_read_without_importing(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(SOURCE)
    assert parameters(tmp_path, "package.module", "plain") == {"a", "b", "c"}
    assert parameters(tmp_path, "package.module", "Made") == {"x", "z"}
    assert parameters(tmp_path, "package.module", "Made.method") == {"q"}
    with pytest.raises(UserError, match=r"package\.module has no missing"):
        parameters(tmp_path, "package.module", "missing")
    with pytest.raises(UserError, match="cannot be read"):
        parameters(tmp_path, "package.absent", "plain")
