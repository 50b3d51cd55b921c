"""Make a copy of a model folder that AutoTrain Advanced reads as it was meant.

    python prepare_model.py MODEL FOLDER

AutoTrain runs on transformers 4.48, which misreads what transformers 5 writes: it has no code for the
tokenizer's class, does not find a chat template in a file of its own, and, without a word, takes rotary
positions with the usual base instead of the model's. In the copy these things are said in the words of that
time; weights are linked, or copied where links cannot be made. MODEL is a folder, or an id of the Hugging
Face Hub, which the package huggingface_hub (AutoTrain brings it) then fetches.

Needs the standard library only: it goes with `breakeven export --to autotrain`, and Breakeven's own trainer
`autotrain` runs the same code.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def older_copy(folder: Path, into: Path) -> Path:
    """A model folder that transformers 4.48 reads as transformers 5 reads `folder`. Returns `into`.

    Args:
        into: must not exist.
    """
    into.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            link_or_copy(path.resolve(), into / path.name)
        elif path.is_file():
            shutil.copyfile(path, into / path.name)
    rewrite(into / "config.json", older_config)
    template = into / "chat_template.jinja"

    def with_template(tokenizer: dict[str, Any]) -> dict[str, Any]:
        if tokenizer.get("tokenizer_class") == "TokenizersBackend":
            tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
        if template.is_file():
            tokenizer["chat_template"] = template.read_text(encoding="utf-8")
        return tokenizer

    rewrite(into / "tokenizer_config.json", with_template)
    return into


def older_config(config: dict[str, Any]) -> dict[str, Any]:
    """A model's configuration in the words of transformers 4."""
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None)
    if isinstance(rope, dict):
        rope = dict(rope)
        config["rope_theta"] = rope.pop("rope_theta", 10000.0)
        config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    return config


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change a JSON file."""
    changed = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(changed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def link_or_copy(source: Path, target: Path) -> None:
    """A symbolic link, or a copy where the file system has none."""
    try:
        target.symlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def found(model: str) -> Path:
    """The folder of a model: itself, or where the Hub's files are kept once they are fetched."""
    if Path(model).is_dir():
        return Path(model)
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise SystemExit(
            f"there is no folder '{model}', and huggingface_hub is not here to fetch it"
        ) from None
    return Path(snapshot_download(model, ignore_patterns=["*.bin", "*.pth", "*.gguf", "*.onnx"]))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a model's folder, or its id on the Hub")
    parser.add_argument("folder", type=Path, help="the copy; must not exist")
    given = parser.parse_args()
    if given.folder.exists():
        raise SystemExit(f"'{given.folder}' is there already")
    print(f"made {older_copy(found(given.model), given.folder)}")


if __name__ == "__main__":
    main()
