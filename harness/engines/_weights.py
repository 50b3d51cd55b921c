"""Base models in memory, each loaded once and shared, with LoRA adapters switched on and off over them.

Every forward pass names the adapter it wants, so engines with different adapters can take turns, request by
request, on the same weights.
"""

from __future__ import annotations

import gc
import inspect
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from breakeven.harness import hardware
from breakeven.harness.engines import _attention, _memory, _packed
from breakeven.harness.errors import OutOfMemory, UserError

KEPT_ADAPTERS = 8  # loaded at the same time; the least recently used one goes first

AdapterKey = tuple[str, int, int]

_loaded: dict[tuple[str, str, str, bool], SharedModel] = {}
_loading = threading.Lock()


def pick_device(device: str) -> str:
    """ "auto" is CUDA when there is any, else the CPU; anything else is checked and kept."""
    if device == "cpu":
        return device  # always there: a resumed run, whose device is settled, need not import torch to know
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device '{device}' is not there", field="device", hint="Use auto or cpu")
    return device


def pick_dtype(dtype: str, device: str, threads: int) -> str:
    """ "auto" is bfloat16 on CUDA and on CPUs that are measurably faster with it, else float32."""
    names = {"bf16": "bfloat16", "fp32": "float32", "f32": "float32", "fp16": "float16"}
    chosen = names.get(dtype, dtype)
    if chosen == "auto":
        return "bfloat16" if device.startswith("cuda") else hardware.faster_dtype(threads)
    if chosen not in ("bfloat16", "float32", "float16"):
        raise UserError(
            f"dtype '{dtype}' is unknown", field="dtype", hint="Use auto, bfloat16, float32 or float16"
        )
    return chosen


def shared(folder: Path, dtype: str, device: str, load_in_4bit: bool, threads: int) -> SharedModel:
    """The one model in memory for these settings, loaded on the first call."""
    key = (str(folder), dtype, device, load_in_4bit)
    with _loading:
        if key not in _loaded:
            _loaded[key] = SharedModel(_load(folder, dtype, device, load_in_4bit, threads))
        return _loaded[key]


def release() -> None:
    """Forget all loaded models, so that their memory can be used again."""
    with _loading:
        _loaded.clear()
    gc.collect()


def _load(folder: Path, dtype: str, device: str, load_in_4bit: bool, threads: int) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from breakeven.harness._quiet import quiet

    if device == "cpu":
        torch.set_num_threads(threads)
    settings: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if load_in_4bit:
        settings["quantization_config"] = _four_bit(device, getattr(torch, dtype))
        settings["device_map"] = {"": device}
    with quiet():
        try:
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            stored = "nf4" if load_in_4bit else dtype
            _memory.check_loading(config, stored, device, folder.name, folder)
            model = AutoModelForCausalLM.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, **settings
            )
        except (ValueError, OSError) as error:
            said = str(error).splitlines()
            raise UserError(
                f"the model cannot be loaded as a causal language model: {said[0] if said else error!r}",
                file=folder,
            ) from error
    if not load_in_4bit:
        model = model.to(device)
    model = model.eval().requires_grad_(False)
    _packed.pack(model)
    _attention.use(model)
    return model


def check_four_bit(device: str, field: str = "load_in_4bit") -> None:
    """Raises UserError where weights cannot be kept in 4 bits."""
    from importlib.util import find_spec

    if not pick_device(device).startswith("cuda"):
        raise UserError("load_in_4bit needs a CUDA device", field=field, hint="Leave it out on a CPU")
    if find_spec("bitsandbytes") is None:
        raise UserError(
            "load_in_4bit needs the package bitsandbytes", field=field, hint="Install breakeven[gpu]"
        )


def _four_bit(device: str, dtype: Any) -> Any:
    check_four_bit(device)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


class SharedModel:
    """A base model and the adapters injected into it; at most one adapter is active at a time."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.lock = threading.RLock()
        self._peft: Any = None
        self._names: OrderedDict[AdapterKey, str] = OrderedDict()
        self._active: AdapterKey | None = None
        self._count = 0
        # The head reads the last position only. That slice is not contiguous, for which torch would copy
        # the whole head once a row: half of the time of a batch of sixteen.
        base.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
        takes = inspect.signature(base.forward).parameters
        self._ignored = {k for k in ("logits_to_keep", "position_ids") if k not in takes}

    def forward(self, adapter: Path | None, **inputs: Any) -> Any:
        """One forward pass of the base with exactly `adapter` (None: without any), gradients off.

        Raises:
            OutOfMemory: after freeing what this pass had taken.
        """
        import torch

        with self.lock, torch.inference_mode(), freed_on_failure():
            self._activate(adapter)
            return self.base(**{k: v for k, v in inputs.items() if k not in self._ignored})

    def batch_bytes(self, rows: int, prompt: int, new: int) -> int:
        """Bytes that answering a batch takes on top of the weights."""
        return _memory.answering(self.base.config, self.base.dtype.itemsize, rows, prompt, new)

    def check_room(self, rows: int, prompt: int, new: int, device: str) -> None:
        """Refuse a batch of several rows that cannot fit, before the system kills the whole program for it.

        CUDA tells by itself.

        Raises:
            OutOfMemory: with the two sizes.
        """
        if rows == 1 or device != "cpu":
            return
        needed = self.batch_bytes(rows, prompt, new)
        free = hardware.available_memory(device)
        if needed > free:
            raise OutOfMemory(
                f"{rows} requests need {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
            )

    def bare(self) -> Any:
        """The base model as it was loaded: no adapter modules, eval mode, no gradients."""
        with self.lock:
            self._unwrap()
            return self.base

    def _activate(self, adapter: Path | None) -> None:
        key = None if adapter is None else adapter_key(adapter)
        if key == self._active and (self._peft is not None or not self._wrapped_by_others()):
            return
        if self._peft is None:
            self._unwrap()
        if adapter is None or key is None:
            if self._peft is not None:
                self._peft.base_model.disable_adapter_layers()
        else:
            if key not in self._names:
                self._load_adapter(adapter, key)
            self._names.move_to_end(key)
            self._peft.base_model.enable_adapter_layers()
            self._peft.set_adapter(self._names[key])
            self._peft.eval().requires_grad_(False)
        self._active = key

    def _wrapped_by_others(self) -> bool:
        """Whether a trainer that failed has left its adapter or its training mode behind."""
        return self.base.training or hasattr(self.base, "peft_config")

    def _load_adapter(self, adapter: Path, key: AdapterKey) -> None:
        from peft import PeftModel

        from breakeven.harness._quiet import quiet

        self._count += 1
        name = f"adapter{self._count}"
        as_base = {"autocast_adapter_dtype": False}  # the base's dtype, as autocast multiplies in training
        try:
            with quiet():
                if self._peft is None:
                    self._peft = PeftModel.from_pretrained(self.base, adapter, adapter_name=name, **as_base)
                else:
                    if len(self._names) >= KEPT_ADAPTERS:
                        _, oldest = self._names.popitem(last=False)
                        self._peft.delete_adapter(oldest)
                    self._peft.load_adapter(adapter, adapter_name=name, **as_base)
        except (ValueError, RuntimeError, KeyError) as error:
            self._unwrap()
            raise UserError(
                f"the adapter does not fit the model: {str(error).splitlines()[0]}", file=adapter
            ) from error
        self._names[key] = name

    def _unwrap(self) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        self._peft, self._active = None, None
        self._names.clear()
        for path, module in list(self.base.named_modules()):
            if isinstance(module, BaseTunerLayer):
                parent = self.base.get_submodule(path.rpartition(".")[0])
                setattr(parent, path.rpartition(".")[2], module.get_base_layer())
            elif isinstance(module, AuxiliaryTrainingWrapper):
                parent = self.base.get_submodule(path.rpartition(".")[0])
                setattr(parent, path.rpartition(".")[2], module.original_module)
        for leftover in ("peft_config", "_hf_peft_config_loaded"):
            if leftover in self.base.__dict__:
                delattr(self.base, leftover)
        if any(getattr(module, "gradient_checkpointing", False) for module in self.base.modules()):
            names = ("activation_checkpointing_disable", "gradient_checkpointing_disable")  # new, old
            next(off for name in names if (off := getattr(self.base, name, None)))()
        self.base.eval().requires_grad_(False)


def adapter_key(adapter: Path) -> AdapterKey:
    """Where an adapter lies and when it was written, so that one trained anew is loaded anew."""
    try:
        (adapter / "adapter_config.json").stat()
        seen = (adapter / "adapter_model.safetensors").stat()
    except OSError as error:
        raise UserError(
            "this folder holds no PEFT adapter",
            file=adapter,
            hint="An adapter folder has adapter_config.json and adapter_model.safetensors",
        ) from error
    return str(adapter.resolve()), seen.st_mtime_ns, seen.st_size


@contextmanager
def freed_on_failure() -> Iterator[None]:
    """Turn any library's "out of memory" into OutOfMemory, once the memory is free again."""
    import torch

    message = None
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        message = str(error)
    except RuntimeError as error:
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        message = str(error)
    if message is not None:  # outside of `except`, so that no traceback keeps the tensors alive
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise OutOfMemory(f"the batch did not fit into memory: {message.splitlines()[0] if message else ''}")
