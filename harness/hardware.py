"""What this machine is, what it has used, and which arithmetic it is fast at."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from breakeven.harness.energy import energy_meter
from breakeven.harness.models import cache_folder, write_atomically

PACKAGES = (
    "breakeven",
    "torch",
    "transformers",
    "peft",
    "sentence-transformers",
    "faiss-cpu",
    "datasets",
    "tokenizers",
    "numpy",
    "scikit-learn",
    "trl",
    "openai",
)


def physical_cores() -> int:
    """Cores this process may use: hyper-threads not counted twice, a container's CPU quota kept."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed, _quota()))


def _quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Whole CPUs that the container's scheduler grants, a large number without a limit."""
    try:
        quota, period = file.read_text(encoding="utf-8").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 16


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor as it calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_bf16() -> str | None:
    """The instruction set with which this processor multiplies bfloat16 ("amx_bf16", "avx512_bf16", ...)."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return None
    return next((name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in words), None)


def gpus() -> list[dict[str, Any]]:
    """Name and memory (bytes) of each CUDA device torch can use, with the driver where NVML tells it."""
    import torch

    if not torch.cuda.is_available():
        return []
    driver = _driver()
    found = []
    for index in range(torch.cuda.device_count()):
        seen = torch.cuda.get_device_properties(index)
        found.append({"name": seen.name, "memory_bytes": seen.total_memory, "driver": driver})
    return found


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else str(version)
    except Exception:  # NVML has a zoo of errors, and none of them matters here
        return None


@cache
def describe() -> dict[str, Any]:
    """The machine as `run.json` keeps it. Memory in bytes; `gpus` is empty without CUDA."""
    return {
        "cpu": cpu_model(),
        "physical_cores": physical_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "cpu_bf16": cpu_bf16(),
        "gpus": gpus(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "energy_meter": meter.name if (meter := energy_meter()) else None,
    }


def name() -> str:
    """A short name of what computes here, as the ledger's `hardware`: "NVIDIA L4" or "AMD EPYC, 2 cores"."""
    seen = describe()
    return str(seen["gpus"][0]["name"]) if seen["gpus"] else f"{seen['cpu']}, {seen['physical_cores']} cores"


# --- memory --------------------------------------------------------------------------------------


def peak_memory(device: str = "cpu") -> int | None:
    """Most bytes held so far: by this process, or on a CUDA device by torch. None where nobody counts."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
        return int(peak) if peak is not None else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def available_memory(device: str = "cpu") -> int:
    """Bytes that can still be taken: on a CUDA device, or in this machine within its container's limit."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free


# --- bfloat16 ------------------------------------------------------------------------------------


def faster_dtype(threads: int | None = None) -> str:
    """ "bfloat16" where this CPU multiplies it clearly faster than float32, measured once; else "float32".

    The answer is remembered in the cache folder by processor, torch version and threads, so that a noisy
    moment cannot change the arithmetic between two runs on the same machine.
    """
    if cpu_bf16() is None:
        return "float32"
    import torch

    threads = threads or physical_cores()
    key = hashlib.sha256(f"{cpu_model()}|{torch.__version__}|{threads}".encode()).hexdigest()[:16]
    memo = cache_folder() / "probes" / f"bf16-{key}.json"
    try:
        return str(json.loads(memo.read_text(encoding="utf-8"))["dtype"])
    except (OSError, ValueError, KeyError):
        pass
    speed_up = _bf16_speed_up()
    chosen = "bfloat16" if speed_up > 1.3 else "float32"
    record = {"cpu": cpu_model(), "torch": torch.__version__, "threads": threads, "speed_up": speed_up}
    write_atomically(memo, json.dumps({**record, "dtype": chosen}))
    return chosen


def _bf16_speed_up(rows: int = 256, width: int = 576, wide: int = 1536, repeats: int = 15) -> float:
    """Float32 over bfloat16 seconds of a linear layer of the size small models have; best of `repeats`."""
    import torch

    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, w = torch.randn(rows, width).to(dtype), torch.randn(wide, width).to(dtype)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            torch.nn.functional.linear(x, w)
            seconds.append(time.perf_counter() - start)
        best[dtype] = min(seconds)
    return best[torch.float32] / best[torch.bfloat16]
