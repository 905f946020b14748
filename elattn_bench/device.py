"""The measured device: detection without torch; preparation, limits and description with it, in the worker."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from elattn_bench import memory
from elattn_bench.errors import UsageError
from elattn_bench.units import Bytes, format_bytes

LEAST_ROOM: Bytes = 128 * 2**20  # below this even the gate of a small case may not fit
UNKNOWN_CACHE: Bytes = 64 * 2**20
_CPU_CACHES = Path("/sys/devices/system/cpu")
DEVICES = ("auto", "cpu", "cuda")


def detect(wanted: str) -> str:
    """The device to measure on: ``auto`` is the GPU if NVML shows one, else the CPU. Imports no torch.

    Raises:
        UsageError: the device is unknown, or ``cuda`` was asked for and no NVIDIA GPU is here.
    """
    if wanted not in DEVICES:
        raise UsageError(f"--device {wanted}: is not a device; write one of {', '.join(DEVICES)}")
    has_gpu = bool(gpu_names())
    if wanted == "cuda" and not has_gpu:
        raise UsageError("--device cuda: no NVIDIA GPU or driver is found on this machine; use --device cpu")
    if wanted == "auto":
        return "cuda" if has_gpu and _torch_has_cuda() else "cpu"
    return wanted


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs that the driver shows; empty without a driver."""
    import pynvml

    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        try:
            count = pynvml.nvmlDeviceGetCount()
            return [str(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(n))) for n in range(count)]
        finally:
            pynvml.nvmlShutdown()
    return []


def gpu_memory() -> Bytes:
    """Memory of the first GPU."""
    import pynvml

    pynvml.nvmlInit()
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).total)
    finally:
        pynvml.nvmlShutdown()


def _torch_has_cuda() -> bool:
    # A GPU beside a CPU build of torch: the wheel's own version file tells without importing it.
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        return "+cpu" not in version("torch")
    return False


def prepare(device: str, threads: int | None, gpu: int = 0) -> None:
    """Set the thread count and wake the device; of several GPUs the one with that number, from here on the only one.

    Raises:
        RuntimeError: torch cannot use the device.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} cannot use CUDA here; use --device cpu")
    if device == "cuda":
        torch.cuda.set_device(gpu)
    # Threads, stacks and contexts come up now, before limits are set and bytes are counted.
    torch.ones(256, 256, device=device) @ torch.ones(256, 256, device=device)
    memory.measure(lambda: None, device)  # the profiler's first start takes half a second


def limit_memory(device: str, limit: Bytes) -> None:
    """Make allocations beyond the limit fail in this process, before the system's OOM killer has to act.

    Raises:
        RuntimeError: the limit leaves no room beside what torch itself holds.
    """
    import torch

    if device == "cuda":
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
        return
    held = data_segment()
    if limit < held + LEAST_ROOM:
        raise RuntimeError(
            f"--memory-limit {format_bytes(limit)}: torch alone holds {format_bytes(held)}; "
            f"give at least {format_bytes(held + LEAST_ROOM)}"
        )
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def data_segment() -> Bytes:
    """What counts against the limit already: this process's private memory; 0 where that is not told."""
    return memory.process_bytes("VmData") or 0


def cache_bytes(device: str) -> Bytes:
    """Size of the last-level cache: the GPU's L2, or all last levels of the CPU together.

    Where the system does not tell a CPU's, a size that is larger than most.
    """
    if device == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)
    caches: dict[str, tuple[int, Bytes]] = {}  # cores that share it -> level, size
    for index in _CPU_CACHES.glob("cpu[0-9]*/cache/index*"):
        with contextlib.suppress(OSError, ValueError):
            size = (index / "size").read_text().strip()
            level = int((index / "level").read_text())
            shared_by = (index / "shared_cpu_list").read_text().strip()
            known = caches.get(shared_by, (0, 0))
            caches[shared_by] = max(known, (level, int(size.removesuffix("K")) * 1024))
    last = max((level for level, _ in caches.values()), default=0)
    return sum(size for level, size in caches.values() if level == last) or UNKNOWN_CACHE


def describe(device: str) -> dict[str, Any]:
    """What torch and the device are, for ``run.json`` and ``env``."""
    import torch

    from elattn_bench import timers

    described: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "cache_bytes": cache_bytes(device),
        "held_bytes": data_segment(),
        "timer_overhead_s": timers.overhead(timers.clock_for(device)),
        "cuda": torch.version.cuda,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        described |= {
            "device_name": properties.name,
            "gpu_memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    return described
