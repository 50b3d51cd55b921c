"""A command in a process group of its own: its output in a file, told on line by line, ended when we end.

Between us and the command stands `_watchdog`, which ends the whole group when our end of a pipe closes: so
nothing goes on computing after Ctrl-C, and nothing after `kill -9` either.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WATCHDOG = Path(__file__).with_name("_watchdog.py")
#: Seconds between two looks at the output, and those left to a group to end by itself.
LOOK, GRACE = 0.2, 10.0

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
#: What a training process may know of ours: where things are, and how the machine is to be used.
_HANDED_ON = re.compile(
    r"PATH|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|CUDA_\w+|NVIDIA_\w+|ROCR_\w+|HIP_\w+|TRITON_\w+"
    r"|OMP_\w+|MKL_\w+|OPENBLAS_\w+|NUMEXPR_\w+|GOMP_\w+|KMP_\w+|SSL_CERT_\w+"
)
#: Offline, untracked, and no colours or bars in a file.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "WANDB_MODE": "disabled",
    "WANDB_DISABLED": "true",
    "COMET_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "COLUMNS": "200",
    "PYTHONUNBUFFERED": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended. `code` is its exit status, 128 + n where signal n ended it."""

    code: int
    seconds: float
    log: Path

    def last_lines(self, most: int = 6) -> str:
        """The last lines of its output that say something, joined by " | "."""
        said = [line.strip() for line in lines_of(self.log.read_bytes()[-20_000:])]
        return " | ".join([line for line in said if re.search(r"\w", line)][-most:])


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    alive: Callable[[], None] = lambda: None,
) -> Done:
    """Run a command to its end; its output is appended to `log`.

    Args:
        env: its whole environment.
        on_line: told each line as it comes; a bar that redraws itself makes one line each time.
        alive: called every few hundred milliseconds, and once it has ended.

    Whatever this raises (Ctrl-C too, and what the callbacks raise), the command and all it started are ended
    first.
    """
    began = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, log.open("rb") as reading:
        reading.seek(0, os.SEEK_END)
        watched = [sys.executable, "-I", "-S", str(WATCHDOG), *command]
        process = subprocess.Popen(
            watched,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        rest = b""
        try:
            while True:
                ended = process.poll() is not None
                rest = _tell(rest + reading.read(), on_line)
                alive()
                if ended:
                    break
                time.sleep(LOOK)
        finally:
            _end(process)
        if rest:
            on_line(rest.decode("utf-8", errors="replace"))
    return Done(process.returncode, time.monotonic() - began, log)


def lines_of(data: bytes) -> list[str]:
    """Lines of a terminal's output, without colours; a carriage return ends one too."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode("utf-8", errors="replace"))
    return re.split(r"\r\n|\r|\n", text)


def is_secret(name: str) -> bool:
    """Whether an environment variable of this name may hold one."""
    return bool(_SECRET.search(name))


def environment(bin: Path, home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a training process knows of ours: nothing secret, and no home but an empty one.

    Tokens lie in home folders too (Hugging Face's, .netrc); nothing there is needed, the model is a folder.
    """
    home.mkdir(parents=True, exist_ok=True)
    ours = {n: v for n, v in os.environ.items() if _HANDED_ON.fullmatch(n) and not is_secret(n)}
    ours["PATH"] = os.pathsep.join([str(bin), ours.get("PATH", os.defpath)])
    own = {"HOME": str(home), "HF_HOME": str(home / "huggingface"), "XDG_CACHE_HOME": str(home / "cache")}
    return {**ours, **own, **QUIET, **(more or {})}


def _tell(data: bytes, on_line: Callable[[str], None]) -> bytes:
    """Tell whole lines on; returns what has no end yet."""
    cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if cut:
        for line in lines_of(data[:cut]):
            if line.strip():
                on_line(line)
    return data[cut:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, on which the watchdog ends the group; make sure of it after a while."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE + 2)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
