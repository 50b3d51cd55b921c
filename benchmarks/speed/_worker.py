"""What both sides of a comparison run as: a process that loads once, then works off one job at a time.

Standard library only: peers have environments of their own. A job is a JSON line on standard input, what it
took a JSON line on standard output; everything a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def serve(jobs: Mapping[str, Callable[..., Mapping[str, Any]]]) -> None:
    """Work off jobs until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        found = jobs[job.pop("job")](**job)
        answers.write(json.dumps(found) + "\n")
        answers.flush()


class Worker:
    """The other end: a running worker."""

    def __init__(self, python: Path, script: Path, log: Path) -> None:
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [str(python), str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
            )

    def do(self, job: str, **settings: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"job": job, **settings}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{job} failed; the last lines of {self._log}:\n{_tail(self._log)}")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def installed(names: Sequence[str]) -> dict[str, str]:
    """Versions of packages in this environment."""
    from importlib.metadata import version

    return {name: version(name) for name in names}
