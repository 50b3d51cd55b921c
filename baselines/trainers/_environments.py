"""Virtual environments of the systems that train in a process of their own.

Each is made on demand with uv or venv from a file of pinned requirements of ours, and kept in the user's
cache folder, outside the project's own environment. Half of one is never used: what says that it is whole is
written last, and one process makes it while others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal

from breakeven.baselines.trainers import _child
from breakeven.harness import store
from breakeven.harness.errors import UserError
from breakeven.harness.models import cache_folder

REQUIREMENTS = Path(__file__).parent / "requirements"
#: In the environment's folder, written last.
READY = "ready.json"

State = Literal["absent", "half-made", "ready"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a system's environment is made.

    Attributes:
        name: of the requirement file, and of the folder with a hash behind it.
        distribution: the package that is the system.
        python: the version the requirements are pinned for.
        gigabytes: disk that it takes, measured.
        without: packages that others ask for and that must go afterwards.
    """

    name: str
    distribution: str
    python: str
    gigabytes: float
    without: tuple[str, ...] = ()

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{self.name}.txt"

    @property
    def version(self) -> str:
        """The pinned version of the system."""
        for line in self.requirements.read_text(encoding="utf-8").splitlines():
            package, _, version = line.partition("==")
            if package.strip().lower() == self.distribution:
                return version.split()[0]
        raise UserError(f"there is no pin of {self.distribution}", file=self.requirements)

    @property
    def folder(self) -> Path:
        """Where the environment is: another one for other pins, another Python or another processor."""
        what = [self.requirements.read_text(encoding="utf-8"), self.python, platform.machine(), *self.without]
        key = hashlib.sha256("\0".join(what).encode()).hexdigest()[:12]
        return cache_folder() / "environments" / f"{self.name}-{key}"

    @property
    def state(self) -> State:
        if (self.folder / READY).is_file():
            return "ready"
        return "half-made" if self.folder.exists() else "absent"


@dataclass(frozen=True, slots=True)
class Environment:
    """A whole environment. `versions` of its packages, by their names in lower case."""

    folder: Path
    versions: dict[str, str]

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def site_packages(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))


def ensure(recipe: Recipe, say: Callable[[str], None] = lambda what: None) -> Environment:
    """The environment, made now if it is not there (minutes, and a connection).

    Args:
        say: told what is going on, every few seconds.

    Raises:
        UserError: no Python of the right version, too little disk, or the installer failed; with its last
            lines, and where all of them are.
    """
    folder = recipe.folder
    ready = folder / READY
    if not ready.is_file():
        with _alone(folder, recipe, say):
            if not ready.is_file():  # else the process that was waited for has made it
                store.remove(folder)
                _make(recipe, folder, say)
    return Environment(folder, json.loads(ready.read_text(encoding="utf-8"))["versions"])


def obstacle(recipe: Recipe) -> tuple[str, str] | None:
    """What stands in the way of making an environment here, and what would help; None if nothing is seen."""
    if recipe.state == "ready":
        return None
    if _interpreter(recipe) is None:
        return (
            f"its environment needs Python {recipe.python}, which is not on the PATH",
            f"install python{recipe.python}, or uv, which fetches it",
        )
    free = shutil.disk_usage(_existing(recipe.folder)).free / 1e9
    if free < recipe.gigabytes:
        return (
            f"its environment needs {recipe.gigabytes:.0f} GB of disk, {free:.1f} GB are free",
            "free some, or set BREAKEVEN_CACHE to a folder on another disk",
        )
    return None


def _make(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> None:
    found = obstacle(recipe)
    if found is not None:
        raise UserError(f"the trainer '{recipe.name}' cannot be set up: {found[0]}", hint=found[1])
    began = time.monotonic()
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    steps = _steps(recipe, folder)
    for number, command in enumerate(steps, start=1):

        def alive(number: int = number) -> None:
            seconds = time.monotonic() - began
            what = f"Setting up {recipe.name} {recipe.version}, once: step {number} of {len(steps)}"
            say(f"{what}, {seconds:.0f} s")

        done = _child.run(command, cwd=folder.parent, env=_installing(), log=log, alive=alive)
        if done.code != 0:
            store.remove(folder)
            raise UserError(
                f"the environment of the trainer '{recipe.name}' could not be made: "
                f"{done.last_lines() or f'exit code {done.code}'}",
                file=log,
                hint="It needs a connection to a package index once",
            )
    record = {
        "system": f"{recipe.distribution} {recipe.version}",
        "python": recipe.python,
        "seconds": round(time.monotonic() - began, 1),
        "versions": _versions(folder),
    }
    store.write_json(folder / READY, record)


def _steps(recipe: Recipe, folder: Path) -> list[list[str]]:
    """The commands that make an environment: with uv where it is, else with venv and pip."""
    python = str(folder / "bin" / "python")
    interpreter, requirements = _interpreter(recipe), str(recipe.requirements)
    assert interpreter is not None
    if uv := shutil.which("uv"):
        steps = [
            [uv, "venv", "--python", interpreter, str(folder)],
            [uv, "pip", "install", "--python", python, "-r", requirements],
        ]
        remove = [uv, "pip", "uninstall", "--python", python]
    else:
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        steps = [
            [interpreter, "-m", "venv", str(folder)],
            [*pip, "install", "-r", requirements],
        ]
        remove = [*pip, "uninstall", "--yes"]
    return steps if not recipe.without else [*steps, [*remove, *recipe.without]]


def _interpreter(recipe: Recipe) -> str | None:
    """A Python of the version the requirements are for; a bare version where uv can fetch it."""
    if "{}.{}".format(*sys.version_info) == recipe.python:
        return sys.executable
    return shutil.which(f"python{recipe.python}") or (recipe.python if shutil.which("uv") else None)


def _installing() -> dict[str, str]:
    """Our environment for an installer: its index and proxy settings, but nobody else's secrets."""
    ours = {name: value for name, value in os.environ.items() if not _child.is_secret(name)}
    theirs = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
    unwanted = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {name: value for name, value in (ours | theirs).items() if name not in unwanted}


def _versions(folder: Path) -> dict[str, str]:
    places = [str(path) for path in folder.glob("lib/python*/site-packages")]
    return {d.name.lower().replace("_", "-"): d.version for d in distributions(path=places)}


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


@contextmanager
def _alone(folder: Path, recipe: Recipe, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the making of an environment; wait while another process makes it."""
    with store.disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        handle = (folder.parent / f".{folder.name}.lock").open("w")
    with handle:
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - began
                say(f"Another process is setting up {recipe.name}: waiting, {waited:.0f} s")
                time.sleep(0.5)
        yield
