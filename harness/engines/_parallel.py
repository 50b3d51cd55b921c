"""Work on requests with a few threads, hand out answers as they come, and stop in good order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from breakeven.harness.contracts import Completion, Request

Work = Callable[[Request, threading.Event], Completion]


def in_parallel(work: Work, requests: Sequence[Request], workers: int) -> Iterator[Completion]:
    """`work(request, stop)` for each request, at most `workers` at once; yields in order of finishing.

    After the first exception (or Ctrl-C) nothing new is started: what is under way finishes, is yielded, and
    then the exception is raised. A second Ctrl-C does not wait. `stop` tells `work` to give up waiting.
    """
    todo = deque(requests)
    results: deque[Completion | BaseException | None] = deque()  # None: a worker has ended
    changed, stop = threading.Condition(), threading.Event()

    def put(result: Completion | BaseException | None) -> None:
        with changed:
            results.append(result)
            changed.notify()

    def worker() -> None:
        try:
            while todo and not stop.is_set():
                try:
                    request = todo.popleft()
                except IndexError:  # another one was quicker
                    break
                put(work(request, stop))
        except BaseException as error:
            stop.set()
            put(error)
        finally:
            put(None)

    def first() -> Completion | BaseException | None:
        """The oldest result, still in the queue: an interrupt in here loses nothing."""
        with changed:
            while not results:
                changed.wait()
        return results[0]

    running = min(workers, len(todo))
    for _ in range(running):
        threading.Thread(target=worker, daemon=True).start()
    failure: BaseException | None = None
    try:
        while running:
            try:
                result = first()
            except KeyboardInterrupt as interrupt:
                if isinstance(failure, KeyboardInterrupt):
                    raise
                stop.set()
                failure = interrupt
                continue
            results.popleft()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                failure = failure or result
            else:
                yield result
    finally:
        stop.set()
    if failure is not None:
        raise failure
