"""One case, measured: gate, warm up, sample until stable, memory pass. Runs in the worker."""

from __future__ import annotations

import contextlib
import ctypes
import gc

import torch

from elattn_bench import memory, workload
from elattn_bench.cases import Case
from elattn_bench.gate import Gate
from elattn_bench.neighbours import DISTURBED, CpuTimes, others_share
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.sampling import Samples, sample
from elattn_bench.stats import Budget, stability
from elattn_bench.timers import clock_for
from elattn_bench.units import Seconds

COMPILING_BACKENDS = frozenset({"compile", "fused", "flex"})


def measure(case: Case, budget: Budget, gate: Gate, seed: int) -> Outcome:
    """The measurement of a case, or why there is none. Out of memory is raised, for ``guarded`` to name."""
    if reasons := case.unsupported_reasons():
        return Skipped("unsupported", "; ".join(reasons))
    error = gate.check(case)
    if failure := error.failure(case.dtype):
        return Skipped("error", failure)
    load = workload.build(case, seed)
    before = CpuTimes.read()
    samples = sample(load.call, clock_for(case.device), budget)
    disturbed = case.device == "cpu" and others_share(before, CpuTimes.read()) > DISTURBED
    peak = memory.measure(load.call, case.device)
    return Measurement(
        latency_ms=samples.latency_ms,
        # Slices of the scheduler are steady: samples alone do not show a neighbour.
        stability="noisy" if disturbed else stability(samples.latency_ms),
        peak_memory_bytes=peak.above_inputs,
        total_memory_bytes=peak.above_inputs + load.input_bytes,
        rss_peak_bytes=peak.resident,
        max_abs_error=error.max_abs,
        rel_rms_error=error.rel_rms,
        compile_s=_compile_time(case, samples),
    )


def _compile_time(case: Case, samples: Samples) -> Seconds | None:
    if case.backend not in COMPILING_BACKENDS:
        return None
    return max(0.0, samples.first_call - min(samples.latency_ms) * 1e-3)


def out_of_memory_reason(error: BaseException) -> str | None:
    """What ran out, when the error says that memory did; None for every other error."""
    if isinstance(error, torch.OutOfMemoryError):
        return "the GPU ran out of memory: " + str(error).partition(". ")[0]
    if isinstance(error, MemoryError) or "std::bad_alloc" in str(error):
        return "the worker reached its memory limit"
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error):
        asked = str(error).rpartition("you tried to allocate ")[2].partition(" bytes")[0]
        wanted = f" asking for {int(asked):,} bytes more" if asked.isdecimal() else ""
        return f"the CPU allocator ran out of memory{wanted}"
    return None


def release() -> None:
    """Give back what a case held, so that the next one begins clean."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # glibc keeps freed memory that is too fragmented to reuse; it would count against the next case's limit.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
