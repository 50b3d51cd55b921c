"""Joules: from a meter where the machine has one, or from stated power and time where somebody states it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

JOULES_PER_KWH = 3.6e6


def from_power(seconds: float, watts: float, overhead: float = 1.0) -> float:
    """Joules of a device that draws `watts` for `seconds`, times the data centre's overhead (its PUE)."""
    return seconds * watts * overhead


def emissions(joules: float, kilograms_per_kwh: float) -> float:
    """Kilograms of CO2-equivalent of this energy at a grid's carbon intensity."""
    return joules / JOULES_PER_KWH * kilograms_per_kwh


class EnergyMeter:
    """Joules since it was made or last `reset`, from the machine's own counters.

    Use as `meter = energy_meter()`; None means that no counter can be read, so energy is unknown.
    """

    def __init__(self, name: str, counters: list[Any]) -> None:
        self.name = name
        self._counters = counters
        self._spent = [0.0] * len(counters)
        self._last = [counter() for counter, _ in counters]

    def joules(self) -> float:
        """Joules so far, over all counters. Call more often than a counter wraps (RAPL: minutes to hours)."""
        for i, (read, wraps_at) in enumerate(self._counters):
            now = read()
            step = now - self._last[i]
            self._spent[i] += step if step >= 0 else step + wraps_at
            self._last[i] = now
        return sum(self._spent)

    def reset(self) -> None:
        self.joules()
        self._spent = [0.0] * len(self._counters)


def energy_meter(device: str = "cpu", powercap: Path = Path("/sys/class/powercap")) -> EnergyMeter | None:
    """A meter of this machine's energy: NVML for a CUDA device, RAPL packages for the CPU, else None.

    NVML's covers the GPU, RAPL's the processor packages; neither covers the rest of the machine, which is
    why `name` says what was metered.
    """
    return _nvml_meter(device) if device.startswith("cuda") else _rapl_meter(powercap)


def _rapl_meter(powercap: Path) -> EnergyMeter | None:
    counters = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:  # a sub-zone: contained in its package
            continue
        file = zone / "energy_uj"
        try:
            int(file.read_text())
            wraps_at = int((zone / "max_energy_range_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return None
        counters.append((lambda f=file: int(f.read_text()) / 1e6, wraps_at))
    return EnergyMeter(f"RAPL, {len(counters)} packages", counters) if counters else None


def _nvml_meter(device: str) -> EnergyMeter | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))

        def read() -> float:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3

        read()
    except Exception:  # no library, no driver, or a device without a counter: energy is unknown
        return None
    return EnergyMeter("NVML, the GPU alone", [(read, float("inf"))])
