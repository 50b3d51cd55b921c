"""AutoTrain Advanced, in a process and an environment of its own: `weights: {trainer: autotrain}`.

Nobody maintains it any more: it runs on transformers 4.48, which cannot read what transformers 5 writes. So
it is given a copy of the model folder, whose small files say the same in the words of that time.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from breakeven.baselines.trainers._environments import Recipe
from breakeven.baselines.trainers._outside import Kind, OutsideTrainer
from breakeven.harness.contracts import Trainer
from breakeven.harness.store import write_json

NOTE = (
    "unmaintained: no change since January 2025; it has no loss mask, so prompts are learned too; use it to "
    "compare, not to build on"
)


def autotrain(**settings: Any) -> Trainer:
    """The trainer over AutoTrain Advanced. Raises UserError for an unknown setting, or one it cannot honour.

    Settings and their defaults: `breakeven.baselines.trainers._settings.Settings`, without those in
    `_outside.REFUSED`, and `_outside.Own`; `extra` holds keys of AutoTrain's own configuration.
    """
    return OutsideTrainer(KIND, settings)


def older_copy(folder: Path, into: Path) -> Path:
    """A model folder that transformers 4.48 reads as transformers 5 reads `folder`; weights are links.

    What it would otherwise get wrong: a tokenizer class it has no code for, a chat template in a file of its
    own, and, without a word, rotary positions with the usual base instead of the model's.
    """
    into.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            (into / path.name).symlink_to(path.resolve())
        elif path.is_file():
            shutil.copyfile(path, into / path.name)
    _rewrite(into / "config.json", _older_config)
    template = into / "chat_template.jinja"

    def with_template(tokenizer: dict[str, Any]) -> dict[str, Any]:
        if tokenizer.get("tokenizer_class") == "TokenizersBackend":
            tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
        if template.is_file():
            tokenizer["chat_template"] = template.read_text(encoding="utf-8")
        return tokenizer

    _rewrite(into / "tokenizer_config.json", with_template)
    return into


def _older_config(config: dict[str, Any]) -> dict[str, Any]:
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None)
    if isinstance(rope, dict):
        rope = dict(rope)
        config["rope_theta"] = rope.pop("rope_theta", 10000.0)
        config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    return config


def _rewrite(path: Path, change: Any) -> None:
    write_json(path, change(json.loads(path.read_text(encoding="utf-8"))))


KIND = Kind(
    "autotrain",
    # bitsandbytes 0.45 cannot be imported without a GPU, and AutoTrain imports it wherever it is installed.
    Recipe("autotrain", "autotrain-advanced", python="3.11", gigabytes=7.0, without=("bitsandbytes",)),
    refused={
        "load_in_4bit": "its bitsandbytes is left out, for it cannot be imported without a GPU",
        "packing": "it always joins texts and cuts them into blocks",
        "use_dora": "it has no such setting",
        "use_rslora": "it has no such setting",
    },
    note=NOTE,
    model=older_copy,
)
