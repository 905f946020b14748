"""What a task left behind in its worker: whatever still runs, stays allocated or was changed disturbs the next."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from elattn_bench.device import data_segment
from elattn_bench.units import Bytes, format_bytes

TOLERATED: Bytes = 512 * 2**20  # allocators and compilers keep some; beyond, a worker is cheaper to replace
WORN = 1 / 16  # of the memory limit: so much address space may freed but fragmented memory take from it
_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_", "ONEDNN_", "CUDA_")  # compilers set others of their own
FRESH = "; a fresh worker measures the next one"


@dataclass(frozen=True, slots=True)
class Residue:
    """A reading of a worker.

    threads: its Python threads; processes: others of its process group, by id.
    memory: resident, and what torch's allocator holds on the GPU.
    claimed: private address space, which counts against the memory limit whether it is in use or not.
    settings: what any case can change for all that follow, by its name for people.
    """

    threads: frozenset[int]
    processes: frozenset[int]
    memory: Bytes
    claimed: Bytes
    settings: Mapping[str, Any]

    @classmethod
    def now(cls) -> Residue:
        """The reading right now."""
        alive = (thread.ident for thread in threading.enumerate())
        threads = frozenset(ident for ident in alive if ident is not None)
        resident = psutil.Process().memory_info().rss
        return cls(threads, frozenset(_group()), resident + _on_gpu(), data_segment(), _settings())


def left_behind(before: Residue, after: Residue) -> tuple[str, ...]:
    """What a worker has that it did not have before its first task, in sentences; empty if nothing."""
    sentences = []
    if running := len(after.threads - before.threads):
        sentences.append(f"threads: {running} still ran after the case{FRESH}")
    if running := len(after.processes - before.processes):
        sentences.append(f"processes: {running} still ran after the case and were ended{FRESH}")
    if (kept := after.memory - before.memory) > TOLERATED:
        sentences.append(f"residue: {format_bytes(kept)} stayed allocated after the case{FRESH}")
    if changed := [name for name, value in after.settings.items() if value != before.settings[name]]:
        sentences.append(f"settings: the case changed {', '.join(changed)}{FRESH}")
    return tuple(sentences)


def is_worn(before: Residue, after: Residue, memory_limit: Bytes | None) -> bool:
    """Whether a worker's heap is so fragmented that a later case would miss the room. Nobody's fault, no warning."""
    return memory_limit is not None and after.claimed - before.claimed > WORN * memory_limit


def _group() -> Iterator[int]:
    """The other processes of this one's group."""
    if not hasattr(os, "getpgid"):
        return
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if pid != os.getpid() and os.getpgid(pid) == os.getpgrp():
                yield pid


def _on_gpu() -> Bytes:
    initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return int(torch.cuda.memory_allocated()) if initialised else 0


def _settings() -> Mapping[str, Any]:
    return {
        "the working directory": _working_directory(),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "stdout": _stream(1),
        "stderr": _stream(2),
        "torch's threads": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's default device": str(torch.get_default_device()),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's anomaly detection": torch.is_anomaly_enabled(),
        "torch's oneDNN switch": torch.backends.mkldnn.enabled,
        "subnormal numbers": bool(torch.tensor(1e-40) * 1.0 > 0),
        "the CPUs it may use": _affinity(),
        "its priority": psutil.Process().nice(),
        "variables of its libraries": {
            name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)
        },
        "the clock": (time.perf_counter, time.perf_counter_ns),
        "garbage collection": gc.isenabled(),
    }


def _affinity() -> frozenset[int]:
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _working_directory() -> str | None:
    with contextlib.suppress(OSError):
        return os.getcwd()  # noqa: PTH109 - as the system says it
    return None


def _stream(descriptor: int) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        opened = os.fstat(descriptor)
        return opened.st_dev, opened.st_ino
    return None
