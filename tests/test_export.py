"""A training taken elsewhere and brought back: the same rows, the same answers, the cost as stated."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_suite import letters, tiny_model, write_suite

from breakeven.baselines.trainers._systems import SYSTEMS
from breakeven.baselines.trainers.imported import check_adapter
from breakeven.harness import results
from breakeven.harness.cli.import_adapter import import_adapter
from breakeven.harness.errors import UserError
from breakeven.harness.pricing import Pricing
from breakeven.harness.results import Results

LORA = {"weights": {"epochs": 2, "rank": 4}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite, a finished run of its strategy `lora`, and the export of that strategy."""
    import sys

    from breakeven.harness.cli import main

    folder = tmp_path_factory.mktemp("made")
    suite = write_suite(folder, model, strategies={"lora": LORA})
    with pytest.MonkeyPatch.context() as patch:
        letters(patch)
        patch.chdir(folder)
        for command in (
            ["run", str(suite), "--out", "runs", "--name", "r"],
            ["export", str(suite), "--to", "axolotl", "--strategy", "lora", "--out", "elsewhere"],
        ):
            patch.setattr(sys, "argv", ["breakeven", *command])
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, in which the adapter of the run lies where the other system would have put it."""
    letters(monkeypatch)
    here = tmp_path / "here"
    shutil.copytree(made, here)
    (trained,) = (here / "runs/r/artifacts").glob("adapter-*")
    (here / "elsewhere/adapter").mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(trained / name, here / "elsewhere/adapter" / name)
    monkeypatch.chdir(here)
    return here


def brought_back(breakeven: Callable[..., Any], *options: str) -> Results:
    said = breakeven("import-adapter", "elsewhere/adapter", "--into", "runs/r", *options)
    assert said.code == 0, said.err
    breakeven("run", "--resume", "runs/r")
    return results.load(Path("runs/r"))


def test_the_rows_are_those_that_the_strategy_trained_on(made: Path) -> None:
    record = json.loads((made / "elsewhere/breakeven-export.json").read_text())
    (trained,) = (made / "runs/r/artifacts").glob("adapter-*")
    spec = json.loads((trained / "meta.json").read_text())["spec"]
    assert record["rows"]["pairs"] == spec["pairs"]
    assert record["task_digest"] == json.loads((made / "runs/r/tasks/weather/task.json").read_text())["hash"]
    rows = [json.loads(line) for line in (made / "elsewhere/data/train.jsonl").read_text().splitlines()]
    assert len(rows) == record["rows"]["train"] == 10
    assert [turn["train"] for turn in rows[0]["messages"]] == [False, False, True]


def test_the_readme_says_the_one_command_and_how_to_come_back(made: Path) -> None:
    readme = (made / "elsewhere/README.md").read_text()
    assert "axolotl train axolotl.yaml --launcher python" in readme
    assert "breakeven import-adapter adapter --export ." in readme


def test_an_adapter_that_comes_back_answers_as_it_did(folder: Path, breakeven: Callable[..., Any]) -> None:
    found = brought_back(breakeven, "--money", "2.5", "--seconds", "90", "--hardware", "somebody's GPU")
    home, away = (found.cells[f"weather--{name}--s0"] for name in ("lora", "lora-axolotl"))
    assert away.state == "done", away.reason
    assert [p.output for p in away.predictions] == [p.output for p in home.predictions]
    (money,) = away.ledger.select("train", "money")
    assert (money.amount.value, money.amount.status, money.source) == (2.5, "estimated", "stated by the user")
    assert not list(away.ledger.select("train", "seconds"))  # they are not those of our machine
    assert away.training is not None
    assert away.training["seconds"] == 90
    assert any("trained elsewhere" in remark for remark in away.fit_notes["remarks"])


def test_what_nobody_states_is_unknown_and_so_is_every_sum_with_it(
    folder: Path, breakeven: Callable[..., Any]
) -> None:
    found = brought_back(breakeven)
    away = found.cells["weather--lora-axolotl--s0"]
    assert away.ledger.total("money", "train").status == "unknown"
    assert Pricing(found).one_off(away).value is None


def test_weights_tuned_on_other_rows_are_refused(folder: Path, breakeven: Callable[..., Any]) -> None:
    file = folder / "elsewhere/breakeven-export.json"
    record = json.loads(file.read_text())
    record["rows"]["pairs"] = "other"
    file.write_text(json.dumps(record))
    away = brought_back(breakeven).cells["weather--lora-axolotl--s0"]
    assert away.state == "failed"
    assert "tuned on other rows than this strategy renders now" in away.reason


def test_another_seed_is_another_training(folder: Path, breakeven: Callable[..., Any]) -> None:
    file = folder / "runs/r/suite.yaml"
    suite = yaml.safe_load(file.read_text())
    suite["seeds"] = [0, 1]
    suite |= {"strategies": {}, "reference": "lora-axolotl"}
    file.write_text(yaml.safe_dump(suite))
    cells = brought_back(breakeven).cells
    assert cells["weather--lora-axolotl--s0"].state == "done"
    assert cells["weather--lora-axolotl--s1"].state == "not-applicable"


def test_weights_of_which_nobody_knows_the_rows_are_taken_only_when_that_is_accepted(
    folder: Path, breakeven: Callable[..., Any]
) -> None:
    (folder / "elsewhere/breakeven-export.json").unlink()
    said = breakeven("import-adapter", "elsewhere/adapter", "--into", "runs/r")
    assert said.code == 2
    assert "may have seen the test examples" in said.err
    assert not (folder / "elsewhere/adapter/breakeven-import.json").exists()
    away = brought_back(breakeven, "--unchecked").cells["weather--imported--s0"]
    assert away.state == "done", away.reason
    assert any("may have seen the test examples" in remark for remark in away.fit_notes["remarks"])


def test_an_adapter_of_another_model_is_named(folder: Path, breakeven: Callable[..., Any]) -> None:
    file = folder / "elsewhere/adapter/adapter_model.safetensors"
    save_file({k.replace("layers.0", "layers.9"): t for k, t in load_file(file).items()}, file)
    away = brought_back(breakeven).cells["weather--lora-axolotl--s0"]
    assert away.state == "failed"
    assert "made for another model" in away.reason


def test_an_adapter_of_other_weights_of_the_same_shape_is_refused(
    folder: Path, breakeven: Callable[..., Any]
) -> None:
    file = folder / "elsewhere/breakeven-export.json"
    record = json.loads(file.read_text())
    assert record["model"]["digest"]
    record["model"] |= {"digest": "0" * 64, "name": "the-base-model"}
    file.write_text(json.dumps(record))
    away = brought_back(breakeven).cells["weather--lora-axolotl--s0"]
    assert away.state == "failed"
    assert "made for other weights" in away.reason
    assert "the-base-model" in away.reason


@pytest.mark.parametrize(
    ("damage", "what"),
    [(torch.zeros_like, "changes nothing"), (lambda t: t * float("nan"), "numbers that are none")],
)
def test_an_adapter_that_training_left_untouched_or_broke_is_found(
    folder: Path, damage: Callable[[torch.Tensor], torch.Tensor], what: str
) -> None:
    file = folder / "elsewhere/adapter/adapter_model.safetensors"
    save_file({k: damage(t) for k, t in load_file(file).items()}, file)
    with pytest.raises(UserError, match=what):
        check_adapter(folder / "elsewhere/adapter")


def test_seconds_cost_what_an_hour_of_their_machine_does(folder: Path) -> None:
    (folder / "prices.yaml").write_text(
        "machine_hours:\n  big-gpu: {price: 3.6, currency: USD, date: 2026-11-01, source: an invoice}\n"
    )
    import_adapter("elsewhere/adapter", seconds=100, hardware="big-gpu", prices=Path("prices.yaml"))
    record = json.loads((folder / "elsewhere/adapter/breakeven-import.json").read_text())
    assert record["cost"]["money"] == pytest.approx(0.1)
    assert "at 3.6 an hour of big-gpu" in record["cost"]["source"]


def test_money_in_another_currency_is_not_mixed_in(folder: Path) -> None:
    with pytest.raises(UserError, match="counts in USD, the money is stated in EUR"):
        import_adapter("elsewhere/adapter", into=Path("runs/r"), money=1.0, currency="EUR")


def test_a_hosted_model_becomes_a_model_of_the_suite(folder: Path) -> None:
    import_adapter("ft:gpt-4o-mini:me::abc", export=Path("elsewhere"), into=Path("new.yaml"), money=3.0)
    suite = yaml.safe_load((folder / "new.yaml").read_text())
    assert suite["models"]["lora-axolotl"] == {"model": "ft:gpt-4o-mini:me::abc", "engine": "openai"}
    made = suite["strategies"]["lora-axolotl"]
    assert (made["models"], made["weights"]["model"]) == (["lora-axolotl"], "ft:gpt-4o-mini:me::abc")


def test_a_hosted_model_is_asked_where_the_exported_one_was(folder: Path) -> None:
    """Not at the default server with the default key: data would go to another company."""
    file = folder / "elsewhere/breakeven-export.json"
    record = json.loads(file.read_text())
    asked = {
        "engine": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key_env": "MINE",
        "auth": "api-key",
    }
    record["models"] = {"api": {"model": "gpt-4o-mini", "price_as": "azure/gpt-4o-mini", **asked}}
    record["allow_hosts"] = ["127.0.0.1:9"]
    file.write_text(json.dumps(record))
    import_adapter("ft:gpt-4o-mini:me::abc", export=Path("elsewhere"), into=Path("new.yaml"), money=3.0)
    suite = yaml.safe_load((folder / "new.yaml").read_text())
    assert suite["models"]["lora-axolotl"] == {"model": "ft:gpt-4o-mini:me::abc", **asked}
    assert suite["allow_hosts"] == ["127.0.0.1:9"]


def test_a_new_suite_asks_the_model_that_was_tuned(folder: Path, model: Path) -> None:
    import_adapter("elsewhere/adapter", into=Path("new.yaml"), money=0.0)
    suite = yaml.safe_load(Path("new.yaml").read_text())
    assert suite["models"]["default"]["model"] == str(model)
    assert suite["tasks"]["weather"]["task"].endswith("weather.yaml")


def test_a_hosted_model_is_asked_and_its_training_costs_what_was_stated(
    folder: Path, serve: Callable[..., Any], breakeven: Callable[..., Any]
) -> None:
    server = serve()
    import_adapter("ft:small:me::abc", export=Path("elsewhere"), into=Path("new.yaml"), money=3.0)
    suite = yaml.safe_load(Path("new.yaml").read_text())
    suite["models"]["lora-axolotl"] |= {"base_url": server.url, "price_as": "gpt-4o-mini"}
    Path("new.yaml").write_text(yaml.safe_dump(suite))
    breakeven("run", "new.yaml", "--only", "lora-axolotl", "--name", "h")
    away = results.load(Path("runs/h")).cells["weather--lora-axolotl--s0"]
    assert away.state == "done", away.reason
    assert {p.output for p in away.predictions} == {"yes"}
    assert away.ledger.total("money", "train").value == 3.0
    assert server.got[0].body["model"] == "ft:small:me::abc"
    assert "Answer with exactly one of these" not in json.dumps(server.got[0].body)  # as it was tuned


@pytest.mark.parametrize("to", SYSTEMS)
def test_every_system_gets_its_files(folder: Path, breakeven: Callable[..., Any], to: str) -> None:
    said = breakeven("export", "tiny.yaml", "--to", to, "--strategy", "lora", "--out", f"to-{to}")
    assert said.code == 0, said.err
    out = folder / f"to-{to}"
    record = json.loads((out / "breakeven-export.json").read_text())
    for name, digest in record["rows"]["sha256"].items():
        import hashlib

        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert " ".join(record["command"]) in (out / "README.md").read_text()


def test_a_task_and_a_file_of_settings_need_no_suite(
    folder: Path, model: Path, breakeven: Callable[..., Any]
) -> None:
    (folder / "mine.yaml").write_text("weights: {rank: 2, epochs: 1, max_length: 60}\n")
    said = breakeven("export", "weather.yaml", "--to", "trl", "--strategy", "mine.yaml", "--out", "out",
                     "--model", model, "--device", "cpu", "--key", "lora_dropout=0.1")  # fmt: skip
    assert said.code in (0, 2), said.err
    if said.code == 2:
        assert "more than 60 tokens" in said.err
        return
    config = yaml.safe_load((folder / "out/trl.yaml").read_text())
    assert (config["lora_r"], config["lora_dropout"], config["use_cpu"]) == (2, 0.1, True)


def test_an_export_overwrites_nothing_unasked(folder: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("export", "tiny.yaml", "--to", "trl", "--strategy", "lora", "--out", "elsewhere")
    assert said.code == 2
    assert "is not empty" in said.err


def test_a_strategy_that_tunes_nothing_is_not_exported(folder: Path, breakeven: Callable[..., Any]) -> None:
    said = breakeven("export", "weather.yaml", "--to", "trl", "--strategy", "majority", "--out", "out")
    assert said.code == 2
    assert "'majority' tunes no weights" in said.err


def test_an_export_to_autotrain_prepares_the_model_as_the_trainer_here_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breakeven: Callable[..., Any]
) -> None:
    from breakeven.baselines.trainers.autotrain import KIND

    letters(monkeypatch)
    monkeypatch.chdir(tmp_path)
    suite = write_suite(tmp_path, model, strategies={"lora": LORA})
    said = breakeven("export", suite, "--to", "autotrain", "--strategy", "lora", "--out", "away")
    assert said.code == 0, said.err
    record = json.loads(Path("away/breakeven-export.json").read_text())
    program, script, source, into = record["prepare"]
    assert (program, script, source, record["base_model"]) == (
        "python",
        "prepare_model.py",
        *[str(model)] * 2,
    )
    assert yaml.safe_load(Path("away/autotrain.yaml").read_text())["base_model"] == into
    readme = Path("away/README.md").read_text()
    assert readme.index("python prepare_model.py") < readme.index("autotrain --config")
    # as on another machine: nothing of ours and nothing installed can be imported
    alone = [sys.executable, "-I", "-S", script, source, into]
    done = subprocess.run(alone, cwd="away", capture_output=True, text=True, check=True)
    assert done.stdout == "made model\n"
    here = KIND.model(model, tmp_path / "here")
    files = {path.name: path.read_bytes() for path in here.iterdir()}
    assert {path.name: path.read_bytes() for path in Path("away/model").iterdir()} == files
    assert json.loads(files["config.json"])["rope_theta"] > 0
    again = subprocess.run(alone, cwd="away", capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "is there already" in again.stderr


@pytest.mark.model
def test_the_default_model_is_prepared_with_its_own_rotary_base(tmp_path: Path) -> None:
    from breakeven.baselines.trainers._systems import prepare_model
    from breakeven.baselines.trainers.autotrain import KIND
    from breakeven.harness import models

    source = models.resolve("smollm2-135m-instruct")
    command = [sys.executable, "-I", "-S", str(prepare_model.__file__), str(source), str(tmp_path / "away")]
    subprocess.run(command, check=True, capture_output=True)
    here = KIND.model(source, tmp_path / "here")
    made = {path.name: path.resolve() for path in (tmp_path / "away").iterdir()}
    assert made.keys() == {path.name for path in here.iterdir()}
    assert all(path.read_bytes() == (here / name).read_bytes() for name, path in made.items())
    config = json.loads(made["config.json"].read_text())
    assert (
        config["rope_theta"]
        == json.loads((source / "config.json").read_text())["rope_parameters"]["rope_theta"]
    )
    assert config["rope_theta"] != 10_000  # what transformers 4.48 would have taken
