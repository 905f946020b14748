"""Questions to the GPU's driver (NVML), for the GPU that torch uses. A card that cannot answer says None."""

from __future__ import annotations

import contextlib
import functools
import os
from dataclasses import dataclass
from typing import Any

from elattn_bench.units import Bytes, Joules

_POWER_INSTANT = 186  # NVML_FI_DEV_POWER_INSTANT in nvml.h: since Ampere the plain question averages a second


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, by its NVML handle."""

    handle: Any

    def ask(self, question: str, *arguments: Any) -> Any:
        """What NVML answers; None where this card, driver or package does not know the question."""
        import pynvml

        function = getattr(pynvml, question, None)
        with contextlib.suppress(pynvml.NVMLError):
            return None if function is None else function(self.handle, *arguments)
        return None

    def clock_mhz(self) -> float | None:
        """The multiprocessors' clock now."""
        return _number(self.ask("nvmlDeviceGetClockInfo", _constant("NVML_CLOCK_SM")))

    def max_clock_mhz(self) -> float | None:
        """The clock that they reach at most."""
        return _number(self.ask("nvmlDeviceGetMaxClockInfo", _constant("NVML_CLOCK_SM")))

    def temperature_c(self) -> float | None:
        """Temperature of the die."""
        return _number(self.ask("nvmlDeviceGetTemperature", _constant("NVML_TEMPERATURE_GPU")))

    def power_w(self) -> float | None:
        """Power of the whole board: this instant's where the card tells it, else as the driver averages it."""
        for field in self.ask("nvmlDeviceGetFieldValues", [_POWER_INSTANT]) or ():
            if field.nvmlReturn == 0 and field.value.uiVal > 0:
                return float(field.value.uiVal) * 1e-3
        return _number(self.ask("nvmlDeviceGetPowerUsage"), 1e-3)

    def energy(self) -> Joules | None:
        """Energy that the board has used since the driver was loaded."""
        return _number(self.ask("nvmlDeviceGetTotalEnergyConsumption"), 1e-3)

    def slowdown_bits(self) -> int | None:
        """Why the clock is where it is, as nvml.h's bits ``nvmlClocksEventReason...``."""
        bits = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # the question's name before driver 535
            bits = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if bits is None else int(bits)

    def process_memory(self) -> Bytes | None:
        """Memory that this process holds on the GPU: context, libraries and cached blocks included.

        None where the driver does not say: in containers it may know the process by another number.
        """
        processes = self.ask("nvmlDeviceGetComputeRunningProcesses") or ()
        held = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        known = [int(used) for used in held if used is not None]
        return sum(known) if known else None


@functools.cache
def current_gpu() -> Gpu | None:
    """The GPU that torch uses, as NVML knows it; None without one. NVML stays open in this process."""
    import pynvml
    import torch

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        index = torch.cuda.current_device()
        return find(torch.cuda.get_device_properties(index), index)
    return None


def find(properties: Any, index: int) -> Gpu | None:
    """The GPU of these properties of torch.

    By its UUID, then by its place on the bus: torch's numbers follow CUDA_VISIBLE_DEVICES, NVML's do not.
    """
    import pynvml

    uuid = str(getattr(properties, "uuid", ""))
    for prefix in ("", "GPU-", "MIG-") if uuid else ():
        with contextlib.suppress(pynvml.NVMLError):
            return Gpu(pynvml.nvmlDeviceGetHandleByUUID(prefix + uuid))
    with contextlib.suppress(pynvml.NVMLError, AttributeError):
        bus_id = (
            f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
        )
        return Gpu(pynvml.nvmlDeviceGetHandleByPciBusId(bus_id))
    with contextlib.suppress(pynvml.NVMLError):
        return Gpu(pynvml.nvmlDeviceGetHandleByIndex(index))
    return None


def _constant(name: str) -> int:
    import pynvml

    return int(getattr(pynvml, name))


def _number(answer: Any, scale: float = 1.0) -> float | None:
    return None if answer is None else float(answer) * scale
