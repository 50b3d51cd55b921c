"""Systems that draw before they set a seed: torch and `random` are seeded for them.

Axolotl and AutoTrain make the adapter before transformers' Trainer sets the seed, AutoTrain shuffles its rows
with `random` before that, too, and hands its `seed` to nobody. So a training made twice from one
configuration gives two adapters. Every Python process that is started with the environment below seeds both
as soon as it has imported torch, and is left alone else.
"""

from __future__ import annotations

from pathlib import Path

from breakeven.harness import store

#: Python imports a module of this name at its start.
_STARTED = """\
import importlib.util
import os
import random
import sys


class Seeding:
    asked = False

    def find_spec(self, name, path=None, target=None):
        if name != "torch" or self.asked:
            return None
        self.asked = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.asked = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                seed = int(os.environ["BREAKEVEN_SEED"])
                random.seed(seed)
                module.manual_seed(seed)

            spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Seeding())
# What Python would have started with is started all the same.
here = os.path.dirname(os.path.abspath(__file__))
sys.path = [folder for folder in sys.path if os.path.abspath(folder) != here]
del sys.modules["sitecustomize"]
try:
    import sitecustomize
except ImportError:
    pass
"""


def environment(folder: Path, seed: int) -> dict[str, str]:
    """Variables for a process that is to be seeded; what they need is written into `folder`."""
    store.write_text(folder / "sitecustomize.py", _STARTED)
    return {"PYTHONPATH": str(folder.resolve()), "BREAKEVEN_SEED": str(seed)}
