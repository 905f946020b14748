"""Peak bytes of one call. Its own pass, apart from timing."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elattn_bench import nvml
from elattn_bench.units import Bytes

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # proc(5): resets the process's resident-set high-water mark


@dataclass(frozen=True, slots=True)
class Peak:
    """Memory high-water of one call.

    above_inputs: most bytes that torch's allocator held at once, beyond what it held before the call.
    resident: high-water of the process's resident set during the call; None where it cannot be read.
    kept: what the allocator still holds once the result is gone: a leak.
    device: what the GPU's driver says that the process holds after the call, the allocator's cached blocks
        included and so a high-water too; None on a CPU, or where the driver does not say.
    """

    above_inputs: Bytes
    resident: Bytes | None
    kept: Bytes
    device: Bytes | None = None


def measure(call: Callable[[], object], device: str) -> Peak:
    """The peak memory of one call on the device. The call must have run before: first calls allocate more."""
    gc.collect()
    has_reset = _reset_resident_peak()
    above, kept = (_cuda_peak if device == "cuda" else _cpu_peak)(call)
    resident = process_bytes("VmHWM") if has_reset else None
    return Peak(above, resident, kept, _device_memory() if device == "cuda" else None)


def _device_memory() -> Bytes | None:
    gpu = nvml.current_gpu()
    return gpu.process_memory() if gpu else None


def _cuda_peak(call: Callable[[], object]) -> tuple[Bytes, Bytes]:
    import torch

    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    base = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - base), int(torch.cuda.memory_allocated() - base)


def _cpu_peak(call: Callable[[], object]) -> tuple[Bytes, Bytes]:
    """Highest and last running sum of the allocator's signed byte events: exact and repeatable."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    inner = profiler.profiler
    assert inner is not None
    assert inner.kineto_results is not None
    events = [event for event in inner.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, held


def _reset_resident_peak() -> bool:
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK)
        return True
    return False


def process_bytes(field: str) -> Bytes | None:
    """A figure of this process in /proc/self/status (proc(5)), for example ``VmHWM``; None where it is not told."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None
