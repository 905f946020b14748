"""One case, measured: gate, first call, memory pass, warm-up, samples. Runs in the worker."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from typing import Any

import torch

from elattn_bench import memory, workload
from elattn_bench.cases import Case
from elattn_bench.gate import GateError
from elattn_bench.monitor import Monitor, Observed
from elattn_bench.neighbours import DISTURBED, CpuTimes, others_share
from elattn_bench.results import Measurement, Outcome, Skipped
from elattn_bench.sampling import Call, Samples, sample
from elattn_bench.timers import clock_for
from elattn_bench.units import Seconds, format_bytes
from elattn_bench.visits import Visit, stability
from elattn_bench.worker_process import Context

UNGATED = "ungated: no oracle was given, so nothing says that the numbers are right"

COMPILING_BACKENDS = frozenset({"compile", "fused", "flex"})


def measure(context: Context, case: Case) -> Outcome:
    """The measurement of a case, or why there is none. Out of memory is raised, for the worker to name."""
    if refused := context.gate.refusal(case):
        return refused
    settings = context.settings
    error = context.gate.check(case)
    subject = Subject(case, workload.build(case, settings.seed, settings.input_std))
    clock = clock_for(case.device, case.cache)
    before = CpuTimes.read()
    try:
        with Monitor(clock, case.device) as monitor:
            samples = sample(subject.call, monitor, settings.budget, subject.memory_pass)
    except BrokenContract as broken:
        return Skipped("error", str(broken))
    others = others_share(before, CpuTimes.read())
    return measurement(case, error, samples, monitor.observed, others, subject.memory_fields())


def measurement(
    case: Case, error: GateError, samples: Samples, seen: Observed, others: float, memory: dict[str, Any]
) -> Measurement:
    """All that was found of a case, put together.

    Args:
        error: what the gate found.
        seen: what the device did meanwhile.
        others: share of the CPU that other processes used meanwhile.
        memory: the fields that the memory pass found.
    """
    disturbed = "; ".join(filter(None, (seen.throttled, _neighbours(case, others)))) or None
    word, reason = stability([Visit(samples.latency_ms, disturbed, bool(seen.throttled))])
    return Measurement(
        latency_ms=samples.latency_ms,
        stability=word,
        stability_reason=reason,
        disturbed=disturbed,
        stopped_by=samples.stopped_by,
        timed_s=samples.timed_s,
        max_abs_error=error.max_abs,
        rel_rms_error=error.rel_rms,
        approximation_error=error.approximation_rel_rms,
        outside_band=error.outside_band,
        compile_s=_compile_time(case, samples),
        **memory,
        **_conditions(seen, statistics.median(samples.latency_ms) * 1e-3),
    )


class BrokenContract(Exception):
    """A call returns something else at the case's length than at the gate's."""


class Subject:
    """What is measured of a case: its call, and that call's memory."""

    def __init__(self, case: Case, load: workload.Workload) -> None:
        self._case, self._load = case, load
        # Before any call, for a second one may write over a row what the first one did.
        self._sums = self._load.sums()
        self._peak: memory.Peak | None = None

    @property
    def call(self) -> Call:
        """The case's call."""
        return self._load.call

    def memory_pass(self, call: Call) -> Seconds:
        """Measure one call's memory; return how long the call itself took."""
        took: Seconds = 0.0

        def timed() -> object:
            nonlocal took
            versions, start = self._load.versions(), time.perf_counter()
            result = call()
            took = time.perf_counter() - start
            if broken := self._load.broken(result, versions):
                raise BrokenContract(broken)
            return result

        self._peak = memory.measure(timed, self._case.device)
        if not torch.equal(self._sums, self._load.sums()):
            raise BrokenContract(workload.MODIFIES)
        return took

    def memory_fields(self) -> dict[str, Any]:
        """The fields of ``Measurement`` that the memory pass found."""
        assert self._peak is not None
        peak = self._peak
        leak = f"leak: a call keeps {format_bytes(peak.kept)} after its result is gone"
        return {
            "peak_memory_bytes": peak.above_inputs,
            "total_memory_bytes": peak.above_inputs + self._load.input_bytes,
            "rss_peak_bytes": peak.resident,
            "device_peak_bytes": peak.device,
            "warnings": tuple(
                sentence
                for sentence, holds in ((UNGATED, not self._case.spec.is_gated), (leak, peak.kept > 0))
                if holds
            ),
        }


def _conditions(seen: Observed, latency: Seconds) -> dict[str, Any]:
    """The fields of ``Measurement`` that say what the device did meanwhile."""
    return {
        "clock_mhz": seen.clock_mhz,
        "power_w": seen.power_w,
        "temperature_c": seen.temperature_c,
        "energy_j": seen.energy_per_call(latency),
    }


def _neighbours(case: Case, share: float) -> str | None:
    # Slices of the scheduler are steady: samples alone do not show a neighbour.
    if case.device != "cpu" or share <= DISTURBED:
        return None
    return f"other processes used {share:.0%} of the CPU, allowed {DISTURBED:.0%}"


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
