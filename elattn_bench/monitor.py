"""Watches the device while a case is sampled: clock, power, temperature, slowdowns, energy."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elattn_bench import allowance, energy, nvml
from elattn_bench.timers import Clock
from elattn_bench.units import Joules, Seconds

PERIOD: Seconds = (
    0.05  # between readings of the GPU: some microseconds each, and ten in the shortest sweep's case
)
THROTTLED = 0.1  # of the time: rarer, a slowdown hardly moves a median
SLOWDOWNS: Mapping[
    int, str
] = {  # nvml.h, nvmlClocksEventReason...; idle, fixed clocks and sync boost are no fault
    0x04: "power cap",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
    0x08: "hardware slowdown",
}
_HARDWARE = 0x08  # set together with the two more exact ones that follow from it
_HARDWARE_CAUSES = 0x40 | 0x80
_CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True, slots=True)
class Reading:
    """The GPU at one moment; None for what the card does not tell."""

    clock_mhz: float | None
    power_w: float | None
    temperature_c: float | None
    slowdown_bits: int | None

    @classmethod
    def of(cls, gpu: nvml.Gpu) -> Reading:
        """The reading right now."""
        return cls(gpu.clock_mhz(), gpu.power_w(), gpu.temperature_c(), gpu.slowdown_bits())


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen while a case was sampled, its first call left out.

    clock_mhz, power_w, temperature_c: medians of the GPU's, or None.
    throttled: what slowed the device down for a tenth of the time or more, in a sentence, or None.
    energy_j: what the device used in the window of ``seconds``, idle power included, or None.
    shortest: the window that the energy counter needs.
    """

    clock_mhz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    throttled: str | None = None
    energy_j: Joules | None = None
    seconds: Seconds = 0.0
    shortest: Seconds = 0.0

    def energy_per_call(self, latency: Seconds) -> Joules | None:
        """Mean power over the window times the time of a call; None where the window is too short."""
        if self.energy_j is None or self.seconds <= 0 or self.seconds < self.shortest:
            return None
        return self.energy_j / self.seconds * latency


class Monitor:
    """A clock that watches its device from the end of the first call on, which may compile for seconds.

    Use it as a context manager, in place of the clock that it is given; then ask for ``observed``.
    """

    def __init__(self, clock: Clock, device: str) -> None:
        self.min_block = clock.min_block
        self.observed = Observed()
        self._clock = clock
        self._device = device
        self._watch: _CpuWatch | _GpuWatch | None = None

    def now(self) -> Seconds:
        """The clock's own time on the wall."""
        return self._clock.now()

    def time(self, call: Callable[[], object], calls: int) -> Seconds:
        """What the clock says of so many calls."""
        took = self._clock.time(call, calls)
        if self._watch is None:
            self._watch = self._begin()
        return took

    def _begin(self) -> _CpuWatch | _GpuWatch | None:
        if self._device == "cpu":
            return _CpuWatch()
        gpu = nvml.current_gpu()
        return _GpuWatch(gpu) if gpu else None

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        if self._watch is not None:
            self.observed = self._watch.end()


class _CpuWatch:
    """Compares counters before and after: nothing runs in between."""

    def __init__(self) -> None:
        self._energy = energy.cpu_counters()
        self._heat = heat_seconds()
        self._periods = allowance.quota_periods()
        self._start = time.perf_counter()

    def end(self) -> Observed:
        seconds = time.perf_counter() - self._start
        quota = allowance.exhausted_share(self._periods, allowance.quota_periods())
        hot = heat_share(self._heat, heat_seconds(), seconds)
        used = energy.used(self._energy, energy.cpu_counters())
        shortest = energy.UPDATES * energy.RAPL_UPDATE
        return Observed(throttled=cpu_slowdown(quota, hot), energy_j=used, seconds=seconds, shortest=shortest)


class _GpuWatch:
    """A thread takes readings, mostly asleep; the energy counter is read before and after."""

    def __init__(self, gpu: nvml.Gpu) -> None:
        self._gpu = gpu
        self._readings: list[Reading] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, name="gpu-monitor", daemon=True)
        self._energy = energy.gpu_counters(gpu)
        self._start = time.perf_counter()
        self._thread.start()

    def end(self) -> Observed:
        seconds = time.perf_counter() - self._start
        used = energy.used(self._energy, energy.gpu_counters(self._gpu))
        self._done.set()
        self._thread.join()
        readings = self._readings or [Reading.of(self._gpu)]
        clock = median([reading.clock_mhz for reading in readings])
        return Observed(
            clock_mhz=clock,
            power_w=median([reading.power_w for reading in readings]),
            temperature_c=median([reading.temperature_c for reading in readings]),
            throttled=gpu_slowdown(readings, clock, self._gpu.max_clock_mhz()),
            energy_j=used,
            seconds=seconds,
            shortest=energy.UPDATES * energy.NVML_UPDATE,
        )

    def _read(self) -> None:
        while not self._done.wait(PERIOD):
            self._readings.append(Reading.of(self._gpu))


def median(values: Sequence[float | None]) -> float | None:
    """The median of those that are known; None if none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def gpu_slowdown(readings: Sequence[Reading], clock: float | None, highest: float | None) -> str | None:
    """What slowed the GPU down in a tenth of the readings or more, in a sentence."""
    known = [reading.slowdown_bits for reading in readings if reading.slowdown_bits is not None]
    reasons = [
        word
        for bit, word in SLOWDOWNS.items()
        if known and sum(bool(_exact(bits) & bit) for bits in known) >= THROTTLED * len(known)
    ]
    if not reasons:
        return None
    clocks = f" ({clock:.0f} MHz of {highest:.0f} MHz)" if clock and highest else ""
    return f"the GPU slowed down: {', '.join(reasons)}{clocks}"


def _exact(bits: int) -> int:
    return bits & ~_HARDWARE if bits & _HARDWARE_CAUSES else bits


def cpu_slowdown(quota_share: float, hot_share: float) -> str | None:
    """What slowed this process down for a tenth of the time or more, in a sentence.

    Args:
        quota_share: share of the container's accounting periods in which its CPU quota ran out.
        hot_share: share of the time in which a CPU lowered its clock because of heat.
    """
    sentences = []
    if quota_share >= THROTTLED:
        sentences.append(f"the container's CPU quota ran out in {quota_share:.0%} of its periods")
    if hot_share >= THROTTLED:
        sentences.append(f"the CPU was too hot for its clock for {hot_share:.0%} of the time")
    return "; ".join(sentences) or None


def heat_seconds(cpus: Path = _CPUS) -> Mapping[Path, Seconds]:
    """How long heat has lowered each CPU's clock since boot; empty where the system does not count."""
    counted = {}
    for counter in cpus.glob("cpu[0-9]*/thermal_throttle/*_throttle_total_time_ms"):
        with contextlib.suppress(OSError, ValueError):
            counted[counter] = int(counter.read_text()) * 1e-3
    return counted


def heat_share(before: Mapping[Path, Seconds], after: Mapping[Path, Seconds], elapsed: Seconds) -> float:
    """Share of the time in which the CPU that heat slowed most was slowed by it."""
    gains = [seconds - before.get(counter, seconds) for counter, seconds in after.items()]
    return min(1.0, max(gains, default=0.0) / elapsed) if elapsed > 0 else 0.0
