"""Run folders as a whole: a copy that shares what never changes, and several files replaced as one.

What a run folder holds is described in docs/run-folder.md; single files are `store`'s.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from breakeven.harness import store
from breakeven.harness.errors import UserError

#: Where replacements wait inside a run folder; `commit.json` in it says that they are complete.
STAGED = ".replacing"
#: What was replaced, a numbered folder for each time.
BEFORE = "before"


def require_whole(suite: Mapping[str, Any], folder: Path, what: str) -> None:
    """Raises UserError for a run that was scored out of fold, whose cells are parts of a whole."""
    if (suite.get("evaluate") or {}).get("crossfit"):
        raise UserError(f"a run scored out of fold (evaluate.crossfit) cannot be {what}", file=folder)


def require_run(folder: Path) -> None:
    """Raises UserError when `folder` is no run."""
    if not (folder / "run.json").is_file():
        raise UserError("not a run folder: there is no run.json in it", file=folder)


def named(folder: Path) -> Path:
    """`folder` with a last part that is a name: `.` and `..` are no names to derive another from."""
    return folder if folder.name not in ("", "..") else folder.resolve()


# --- copies ----------------------------------------------------------------------------------


@contextlib.contextmanager
def built(target: Path) -> Iterator[Path]:
    """A folder beside `target` to build in, which becomes `target` in one step when the block ends well.

    Raises UserError when `target` is there already. What a killed process left of an earlier attempt goes.
    """
    if target.exists():
        raise UserError("is there already", file=target, field="--out", hint="name a folder that is not")
    partial = target.with_name(f".{target.name}.partial")
    store.remove(partial)
    try:
        with store.disk_errors(partial):
            partial.mkdir(parents=True)
            yield partial
            partial.rename(target)
    finally:
        store.remove(partial)


def copy(run: Path, name: str, target: Path) -> None:
    """The file or folder `name` of a run, at `target`, whose parents are made.

    Artifacts and predictors are written once and never changed, so their files are linked where the file
    system can; everything else is copied. Left out: what is unfinished (`*.partial`, a cell's `scratch`),
    locks and temporary files.
    """
    source = run / name
    for path in [source] if source.is_file() else sorted(source.rglob("*")):
        parts = path.relative_to(run).parts
        settled = parts[0] == "artifacts" or (parts[0] == "cells" and parts[2:3] == ("predictor",))
        unfinished = any(part.endswith(".partial") for part in parts) or parts[2:3] == ("scratch",)
        if path.is_dir() or unfinished or (path.name.startswith(".") and not settled):
            continue
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if settled:
            try:
                os.link(path, place)
                continue
            except OSError:  # another file system, or one without links
                pass
        shutil.copy2(path, place)


def copy_run(source: Path, target: Path) -> None:
    """A run folder without its written reports."""
    for path in sorted(source.iterdir()):
        if not path.name.startswith((".", "report.")):
            copy(source, path.name, target / path.name)


# --- several files as one --------------------------------------------------------------------


def replace(folder: Path, removed: Sequence[str] = ()) -> None:
    """Put everything under `folder/.replacing/new` to its place in `folder`, all of it or nothing.

    What was there is kept under `folder/before/<number>`. Killed at any moment, the folder is either as it
    was, or `finish` completes it.

    Args:
        removed: files, relative to `folder`, that go.
    """
    staged = folder / STAGED
    files = [str(p.relative_to(staged / "new")) for p in sorted((staged / "new").rglob("*")) if p.is_file()]
    numbers = [int(p.name) for p in (folder / BEFORE).glob("*") if p.name.isdigit()]
    kept = f"{BEFORE}/{max(numbers, default=0) + 1}"
    store.write_json(staged / "commit.json", {"write": files, "remove": list(removed), "kept": kept})
    finish(folder)


def finish(folder: Path) -> bool:
    """Complete a replacement that was broken off after it was decided; whether there was one."""
    staged = folder / STAGED
    order = store.read_json(staged / "commit.json")
    if order is None:
        store.remove(staged)
        return False
    with store.disk_errors(folder):
        for name in (*order["write"], *order["remove"]):
            new, place, kept = staged / "new" / name, folder / name, folder / order["kept"] / name
            if place.exists() and not kept.exists() and (new.exists() or name in order["remove"]):
                kept.parent.mkdir(parents=True, exist_ok=True)
                _keep(place, kept)
            if name in order["remove"]:
                place.unlink(missing_ok=True)
            elif new.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                new.replace(place)
        (staged / "commit.json").unlink()
    store.remove(staged)
    return True


def is_broken_off(folder: Path) -> bool:
    """Whether a replacement was decided and not completed: the folder's files do not fit together."""
    return (folder / STAGED / "commit.json").exists()


def _keep(place: Path, kept: Path) -> None:
    """`place` under a second name; it appears whole."""
    try:
        os.link(place, kept)
    except OSError:
        store.write_bytes(kept, place.read_bytes())
