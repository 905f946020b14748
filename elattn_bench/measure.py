"""One case, measured: gate, warm up, sample until stable, memory pass. Runs in the worker."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics

import torch

from elattn_bench import device, memory, workload
from elattn_bench.cases import Case
from elattn_bench.monitor import Monitor
from elattn_bench.neighbours import DISTURBED, CpuTimes, others_share
from elattn_bench.results import Measurement, Outcome
from elattn_bench.sampling import Call, Samples, sample
from elattn_bench.stats import instability
from elattn_bench.timers import clock_for
from elattn_bench.units import Seconds, format_bytes
from elattn_bench.worker_process import Context

COMPILING_BACKENDS = frozenset({"compile", "fused", "flex"})


def measure(context: Context, case: Case) -> Outcome:
    """The measurement of a case, or why there is none. Out of memory is raised, for the worker to name."""
    if refused := context.gate.refusal(case):
        return refused
    error, settings = context.gate.check(case), context.settings

    load: workload.Workload | None = None

    def make_call() -> Call:
        nonlocal load
        load = None  # two sets of inputs at once may not fit
        load = workload.build(case, settings.seed, settings.input_std)
        return load.call

    clock = clock_for(case.device, case.cache, device.cache_bytes(case.device))
    before = CpuTimes.read()
    with Monitor(clock, case.device) as monitor:
        samples = sample(make_call, monitor, settings.budget)
    seen = monitor.observed
    trouble = _disturbance(case, before) or instability(samples.latency_ms, samples.rounds)
    del clock, monitor  # a cold one holds a buffer as large as the cache
    assert load is not None
    peak = memory.measure(load.call, case.device)
    return Measurement(
        latency_ms=samples.latency_ms,
        rounds=samples.rounds,
        stability="throttled" if seen.throttled else "noisy" if trouble else "stable",
        stability_reason="; ".join(filter(None, (seen.throttled, trouble))) or None,
        stopped_by=samples.stopped_by,
        timed_s=samples.timed_s,
        peak_memory_bytes=peak.above_inputs,
        total_memory_bytes=peak.above_inputs + load.input_bytes,
        rss_peak_bytes=peak.resident,
        device_peak_bytes=peak.device,
        max_abs_error=error.max_abs,
        rel_rms_error=error.rel_rms,
        approximation_error=error.approximation_rel_rms,
        outside_band=error.outside_band,
        compile_s=_compile_time(case, samples),
        clock_mhz=seen.clock_mhz,
        power_w=seen.power_w,
        temperature_c=seen.temperature_c,
        energy_j=seen.energy_per_call(statistics.median(samples.latency_ms) * 1e-3),
        warnings=_leak(peak.kept),
    )


def _disturbance(case: Case, before: CpuTimes) -> str | None:
    # Slices of the scheduler are steady: samples alone do not show a neighbour.
    share = others_share(before, CpuTimes.read())
    if case.device != "cpu" or share <= DISTURBED:
        return None
    return f"other processes used {share:.0%} of the CPU, allowed {DISTURBED:.0%}"


def _leak(kept: int) -> tuple[str, ...]:
    return (f"leak: a call keeps {format_bytes(kept)} after its result is gone",) if kept > 0 else ()


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
