"""Runs a command and ends its process group when the pipe on stdin closes. A script; imports nothing of ours.

    python -I -S _watchdog.py COMMAND [ARGUMENT ...]

It must be the leader of its process group. The exit status is the command's, 128 + n after signal n, 127 if
there is no such command.
"""

import os
import signal
import subprocess
import sys
import threading
import time

GRACE = 5.0


def watch(process: "subprocess.Popen[bytes]", ending: threading.Event) -> None:
    """Wait for the end of stdin, then end everything in this group, ourselves too."""
    while os.read(0, 4096):
        pass
    ending.set()
    if process.poll() is None:
        os.killpg(0, signal.SIGTERM)  # ignored here, not in what was started
        end = time.monotonic() + GRACE
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            sys.argv[1:], stdin=subprocess.DEVNULL, restore_signals=True, preexec_fn=_as_usual
        )
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
        return 127
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ending = threading.Event()
    watcher = threading.Thread(target=watch, args=(process, ending), daemon=True)
    watcher.start()
    code = process.wait()
    if ending.is_set():  # what the command had started may be there still
        watcher.join()
    return code if code >= 0 else 128 - code


def _as_usual() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
