"""Silences the progress bars and notices of model libraries: Breakeven has a display of its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, errors only, from transformers, peft and tqdm while the block runs."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    bar: Any = import_module("tqdm.auto").tqdm
    before = bar.__init__

    def hidden(self: object, *args: object, **kwargs: object) -> None:
        before(self, *args, **{**kwargs, "disable": True})

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bar.__init__ = hidden
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # between these libraries, not for the reader
            yield
    finally:
        bar.__init__ = before
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
