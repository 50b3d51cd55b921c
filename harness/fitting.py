"""Whether a suite's local models fit into memory, from the headers of their weight files alone.

For `run --dry-run`, and whoever else wants to know at no cost. What a run takes beyond the weights is
`estimate`'s to say; loading weights that do not fit is refused by the engine itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breakeven.harness import hardware, models

#: Bytes of a weight by what the engine calls its type; 4 bits with their scales (see `engines._memory.NF4`).
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "nf4": 0.516}
SHORT = {"bf16": "bfloat16", "fp32": "float32", "f32": "float32", "fp16": "float16"}
#: Parts of the names of tables and heads, which stay as they are in 4 bits.
LOOKED_UP = ("embed", "lm_head", "wte", "wpe")
#: Types of weights that stand for themselves; other ones are packed.
PLAIN = ("F64", "F32", "F16", "BF16")
#: The largest header of a weight file that is read, in bytes; the format allows 100 MB.
LARGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Fit:
    """One model: bytes of its weights in `dtype`, and bytes that are free on `device`.

    `here` is False for one that cannot run on this machine: then nothing is said of what is free.
    """

    name: str
    model: str
    dtype: str
    device: str
    weights: int
    free: int

    here: bool = True

    @property
    def fits(self) -> bool:
        return not self.here or self.weights <= self.free

    def sentence(self) -> str:
        if not self.here:
            return (
                f"{self.name} ({self.model}) cannot run on this machine; by its declared architecture its "
                f"weights take {self.weights / 1e9:.1f} GB in {self.dtype}"
            )
        place = "of this machine's memory" if self.device == "cpu" else f"on {self.device}"
        said = (
            f"{self.name} ({self.model}): its weights take {self.weights / 1e9:.1f} GB in {self.dtype}, "
            f"{self.free / 1e9:.1f} GB {place} are free"
        )
        return said if self.fits else f"{said}: it does not fit"


def of_models(entries: Mapping[str, Any], names: Iterable[str | None]) -> Iterator[Fit]:
    """Those of `names` that run here and whose files are here, or whose architecture is declared; others are
    left out.

    Args:
        entries: the suite's models, by name.
    """
    for name in dict.fromkeys(n for n in names if n is not None):
        entry = entries[name]
        if (known := models.known(entry.model)) is not None and known.shape is not None:
            from breakeven.harness.engines.declared import declared, stands_in

            if stands_in(entry.engine, entry.model, entry.settings):
                engine = declared(entry.model, **entry.settings)
                card = engine.describe()
                yield Fit(name, entry.model, card.dtype, card.device, engine.weight_bytes, 0, here=False)
                continue
        if entry.engine == "local" and models.is_cached(entry.model):
            found = of_model(name, entry.model, entry.settings)
            if found is not None:
                yield found


def of_model(name: str, model: str, settings: Mapping[str, Any]) -> Fit | None:
    """A model whose files are here, with the engine's settings; None where its size cannot be told."""
    counted = parameters(models.resolve(model))
    if counted is None:
        return None
    device = _device(str(settings.get("device", "auto")))
    linear, rest = counted
    packed = bool(settings.get("load_in_4bit"))
    dtype = "nf4" if packed else _dtype(str(settings.get("dtype", "auto")), device)
    weights = linear * BYTES.get(dtype, 4.0) + rest * BYTES.get("bfloat16" if packed else dtype, 4.0)
    return Fit(name, model, dtype, device, round(weights), hardware.available_memory(device))


def parameters(folder: Path) -> tuple[int, int] | None:
    """(parameters of linear layers, all others) in a folder's safetensors files.

    The token embedding and the output head count as others: they are not quantised. None where there are no
    such files, or where they hold packed weights.
    """
    linear = rest = 0
    files = sorted(folder.glob("*.safetensors"))
    try:
        for file in files:
            for key, tensor in _header(file).items():
                if tensor["dtype"] not in PLAIN:
                    return None
                size = math.prod(tensor["shape"])
                if len(tensor["shape"]) == 2 and not any(part in key for part in LOOKED_UP):
                    linear += size
                else:
                    rest += size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # loading it will say what is wrong
        return None
    return (linear, rest) if files else None


def _header(file: Path) -> dict[str, Any]:
    """Names, types and shapes of the tensors: 8 bytes of length, then so many of JSON."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > LARGEST_HEADER:
            raise ValueError(f"a header of {length} bytes")
        header: dict[str, Any] = json.loads(opened.read(length))
    return {key: value for key, value in header.items() if key != "__metadata__"}


def _device(device: str) -> str:
    """Where the engine will run; torch is loaded only where there is a driver that it could use."""
    if device != "auto":
        return device
    if not Path("/proc/driver/nvidia").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype(dtype: str, device: str) -> str:
    """The type that "auto" will most likely become: it is measured when a run begins."""
    if dtype != "auto":
        return SHORT.get(dtype, dtype)
    return "bfloat16" if device.startswith("cuda") or hardware.cpu_bf16() is not None else "float32"
