"""When to stop warming up and when to stop sampling. Clock and call are arguments; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from elattn_bench.stats import Budget
from elattn_bench.timers import Clock
from elattn_bench.units import Milliseconds, Seconds

MIN_BLOCK: Seconds = 1e-3  # a shorter sample would hold more than 0.1 % of clock reading and call overhead
AGREEMENT = 0.05  # two consecutive blocks this close mean that the machine is warm
CHECK_GROWTH = 1.2  # look at the interval after 20 % more samples, not after each: it costs a bootstrap


@dataclass(frozen=True, slots=True)
class Samples:
    """What sampling a call gave.

    first_call: seconds of the very first call, compilation included.
    latency_ms: per call, one value per timed block.
    """

    first_call: Seconds
    latency_ms: tuple[Milliseconds, ...]


def sample(call: Callable[[], object], clock: Clock, budget: Budget) -> Samples:
    """Time a call: first call apart, warm up, then blocks until the budget is met."""
    first_call = clock.time(call, 1)
    calls = _warm_up(call, clock, budget, first_call)
    latencies: list[Milliseconds] = []
    start, next_check = clock.now(), budget.min_samples
    while True:
        latencies.append(clock.time(call, calls) / calls * 1e3)
        elapsed = clock.now() - start
        if len(latencies) < next_check and elapsed < budget.max_time:
            continue
        if budget.is_met(latencies, elapsed):
            return Samples(first_call, tuple(latencies))
        if len(latencies) >= next_check:
            next_check = math.ceil(len(latencies) * CHECK_GROWTH)


def _warm_up(call: Callable[[], object], clock: Clock, budget: Budget, first_call: Seconds) -> int:
    """Warm up until two blocks agree, or the time is over; return the calls per block."""
    start = clock.now()
    calls, previous = 1, math.inf
    while clock.now() - start < budget.warm_up_time and first_call < budget.max_time:
        block = clock.time(call, calls)
        per_call = max(block / calls, 1e-9)
        wanted = max(1, math.ceil(MIN_BLOCK / per_call))
        if wanted <= 2 * calls and abs(per_call - previous) <= AGREEMENT * per_call:
            return max(wanted, calls)
        calls, previous = max(wanted, calls), per_call
    return calls
