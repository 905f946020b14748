"""When to stop warming up and when to stop sampling. Clock and calls are arguments; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from elattn_bench.stats import Budget, spread
from elattn_bench.timers import Clock
from elattn_bench.units import Milliseconds, Seconds

AGREEMENT = 0.05  # two consecutive blocks this close mean that the machine is warm
CHECK_GROWTH = 1.2  # look at the interval after 20 % more samples, not after each: it costs a bootstrap
MOST_BAD_READINGS = 100  # a clock that goes backwards more often measures nothing

Call: TypeAlias = Callable[[], object]


class ClockError(RuntimeError):
    """The clock does not move forwards."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What sampling a call gave.

    first_call: seconds of the very first call, compilation included.
    latency_ms: per call, one value per timed block.
    stopped_by: ``precision``, ``plateau`` or ``time``.
    timed_s: time inside all calls: first, warm-up and timed.
    """

    first_call: Seconds
    latency_ms: tuple[Milliseconds, ...]
    stopped_by: str
    timed_s: Seconds


@dataclass
class Stopwatch:
    """A clock that only moves forwards, and what was timed on it."""

    clock: Clock
    timed: Seconds = 0.0
    _elapsed: Seconds = 0.0
    _last: Seconds = field(default=math.nan)
    _bad: int = 0

    def elapsed(self) -> Seconds:
        """Time since the first asking; a clock set back stands still."""
        now = self.clock.now()
        self._elapsed += max(0.0, now - self._last) if self._last == self._last else 0.0
        self._last = now
        return self._elapsed

    def time(self, call: Call, calls: int) -> Seconds:
        """How long the calls take; a reading that is not positive is taken again.

        Raises:
            ClockError: that happens over and over.
        """
        while True:
            took = self.clock.time(call, calls)
            if took > 0:
                self.timed += took
                return took
            self._bad += 1
            if self._bad > MOST_BAD_READINGS:
                raise ClockError(
                    f"the clock went backwards or stood still {self._bad} times while this case was timed"
                )


def sample(
    call: Call, clock: Clock, budget: Budget, after_first: Callable[[Call], Seconds] = lambda call: 0.0
) -> Samples:
    """Time a call until the budget is met.

    First call apart; then ``after_first`` once, which may call it too and returns how long that took; then
    warm-up, and blocks until the budget is met.

    Raises:
        ClockError: the clock does not move forwards.
    """
    watch = Stopwatch(clock)
    first_call = watch.time(call, 1)
    watch.timed += after_first(call)
    calls = warm_up(call, watch, budget, first_call)
    latencies, stopped_by = _sample_blocks(call, calls, watch, budget)
    return Samples(first_call, tuple(latencies), stopped_by, watch.timed)


def _sample_blocks(
    call: Call, calls: int, watch: Stopwatch, budget: Budget
) -> tuple[list[Milliseconds], str]:
    """The latencies of blocks of so many calls, and why they are enough."""
    latencies: list[Milliseconds] = []
    noise: list[float] = []  # at every check, to see it settle
    start, next_check = watch.elapsed(), budget.min_samples
    while True:
        latencies.append(watch.time(call, calls) / calls * 1e3)
        elapsed = watch.elapsed() - start
        if len(latencies) < next_check and elapsed < budget.max_time:
            continue
        if len(latencies) >= next_check:
            noise.append(spread(latencies))
            next_check = math.ceil(len(latencies) * CHECK_GROWTH)
        if stopped_by := budget.stops(latencies, noise, elapsed):
            return latencies, stopped_by


def warm_up(call: Call, watch: Stopwatch, budget: Budget, first_call: Seconds) -> int:
    """Warm up until two blocks agree, or the time is over; return the calls per block."""
    start = watch.elapsed()
    calls, previous = 1, math.inf
    while watch.elapsed() - start < budget.warm_up_time and first_call < budget.max_time:
        per_call = watch.time(call, calls) / calls
        wanted = max(1, math.ceil(watch.clock.min_block / per_call))
        if wanted <= 2 * calls and abs(per_call - previous) <= AGREEMENT * per_call:
            return max(wanted, calls)
        calls, previous = max(wanted, calls), per_call
    return calls
