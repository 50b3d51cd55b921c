"""What hosted trainers are without any settings: whether they could begin on this machine, and how they give
a job up that nobody wants.

Of keys only the names of their variables are looked at and told.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from breakeven.harness.hosted import Endpoint
from breakeven.harness.training import Usability

INSTALL = "pip install 'breakeven[hosted]'"


def usability(what: str, keys: Sequence[Sequence[str]], note: str) -> Usability:
    """Usable with the package openai and, of each group of variables, one that is set. Sends nothing.

    Args:
        keys: groups of names of variables; an empty group asks for nothing.
    """
    version = installed("openai")
    found = [
        next((name for name in group if os.environ.get(name, "").strip()), "") for group in keys if group
    ]
    wanted = [" or ".join(group) for group in keys if group]
    set_, unset = [n for n in found if n], [w for n, w in zip(found, wanted, strict=True) if not n]
    parts = [what, f"openai {version}" if version else "", f"{' and '.join(set_)} set" if set_ else ""]
    told = ", ".join(part for part in parts if part)
    if not version:
        missing = f"; {' and '.join(unset)} not set either" if unset else ""
        return Usability(False, told, f"the package openai is not installed{missing}", INSTALL, note)
    if unset:
        verb = "is" if len(unset) == 1 else "are"
        return Usability(False, told, f"{' and '.join(unset)} {verb} not set", note=note)
    return Usability(True, told, note=note)


def abandon(endpoint: Endpoint, folder: Path) -> str:
    """See `breakeven.harness.training.checked`."""
    from breakeven.baselines.trainers import _job_settings, _jobs, _sending

    settings, dialect = _job_settings.JobSettings.model_validate({}), _sending.Dialect("")
    return _jobs.Job(endpoint, settings, dialect, folder, 0, lambda done, total, what: None).abandon()


def installed(package: str) -> str:
    """Its version; "" where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
