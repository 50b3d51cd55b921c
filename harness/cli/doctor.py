"""`breakeven doctor`: what works on this machine, and why the rest does not. Installs and starts nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from breakeven.harness import hardware, models, registry
from breakeven.harness.errors import BreakevenError
from breakeven.harness.training import Checked, Usability

#: Packages that some strategies, engines and trainers need and that need not be there.
OPTIONAL = ("trl", "openai", "bitsandbytes")


def doctor() -> None:
    """Print the machine, the models that are here, and every trainer with whether it is usable."""
    console = Console()
    console.print("This machine", style="bold")
    for what, text in _machine():
        console.print(f"  {what}: {text}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nModels", style="bold")
    for known in models.KNOWN:
        where = "here" if models.is_cached(known.name) else "not here; fetched when first used"
        console.print(f"  {known.name}: {where}", highlight=False, markup=False)
    console.print("\nTrainers, for `weights: {trainer: NAME}`", style="bold")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("name", "usable"):
        table.add_column(column, no_wrap=True)
    table.add_column("with what, or why not", ratio=1)
    for name, found in trainers().items():
        table.add_row(f"  {name}", "yes" if found.usable else "no", said(found))
    console.print(table, highlight=False, markup=False)


def trainers() -> dict[str, Usability]:
    """Every registered trainer by name, with whether it is usable here."""
    return {name: _usability(provider) for name, provider in registry.providers("trainers").items()}


def said(found: Usability) -> str:
    """What is to be known about a trainer, as one piece of text."""
    parts = [found.what, found.why_not, found.remedy, found.note]
    return "; ".join(part for part in parts if part)


def _usability(provider: registry.Provider) -> Usability:
    """A trainer that cannot even be asked is not usable, and says why; one without an answer is.

    The factory is asked if it can tell, else the trainer that it makes of no settings.
    """
    try:
        trainer = provider.load()
        if isinstance(trainer, type) or not isinstance(trainer, Checked):
            trainer = trainer()
    except (BreakevenError, ImportError, TypeError) as error:
        return Usability(False, "", f"it cannot be loaded: {error}")
    if isinstance(trainer, Checked):
        return trainer.usable()
    return Usability(True, f"from {provider.distribution}; it has no check of its own")


def _machine() -> Iterator[tuple[str, str]]:
    versions = hardware.versions()
    yield "software", ", ".join(f"{name} {versions[name]}" for name in versions if name not in OPTIONAL)
    extras = [name for name in OPTIONAL if _installed(name)]
    yield "optional", ", ".join(f"{name} {_installed(name)}" for name in extras) or "none installed"
    about = hardware.describe()
    yield "processor", f"{about['cpu']}, {about['physical_cores']} cores to use"
    yield "memory", f"{hardware.available_memory() / 1e9:.1f} of {about['memory_bytes'] / 1e9:.1f} GB free"
    gpus = [f"{gpu['name']}, {gpu['memory_bytes'] / 1e9:.0f} GB" for gpu in about["gpus"]]
    yield "GPU", "; ".join(gpus) or "none that torch can use"
    yield "energy", about["energy_meter"] or "no meter (NVML, RAPL): joules stay unknown"
    cache = models.cache_folder()
    free = shutil.disk_usage(_existing(cache)).free
    yield "cache", f"{cache}, {free / 1e9:.0f} GB of disk free"
    installers = [name for name in ("uv",) if shutil.which(name)]
    yield (
        "environments are made with",
        installers[0] if installers else "venv and pip (uv is not on the PATH)",
    )


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
