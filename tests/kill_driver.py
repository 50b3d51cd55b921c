"""Runs `breakeven` in forked children and kills them; a process of its own for tests/test_kill_resume.py.

It imports the heavy libraries once and computes nothing itself, so that a child starts in a moment. Reads
one JSON line per command on stdin, answers with one on stdout:
{"args": [...], "kill_after": seconds | null} -> {"code": exit code or -9, "seconds": wall seconds}
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time


def main() -> None:
    import faiss  # noqa: F401
    import peft  # noqa: F401
    import sentence_transformers  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        command = json.loads(line)
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            run(command["args"])
        code = wait(child, start, command["kill_after"])
        print(json.dumps({"code": code, "seconds": time.monotonic() - start}), file=answers, flush=True)


def run(arguments: list[str]) -> None:
    """The child: the command line, its output in a log, and then the end of this process."""
    from breakeven.harness.cli import main as cli

    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["breakeven", *arguments]
    code = 1
    try:
        cli()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def wait(child: int, start: float, kill_after: float | None) -> int:
    """The child's exit code; -9 when it was killed before it ended."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if kill_after is not None and time.monotonic() - start >= kill_after:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.01)


if __name__ == "__main__":
    main()
