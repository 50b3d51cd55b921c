"""Keeps the search for garbage out of work that makes many objects and leaves none in cycles.

100,000 predictions are a million objects. Each full search goes over all of them, again and again while they
are read, and finds nothing: half of the time to read a run.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cyclic garbage meanwhile; what nobody refers to is still freed at once."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
