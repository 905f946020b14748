"""What the ranks of a case do with nothing exchanged, measured after it, in lockstep. Knows torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from attention_impls.sharded.exchange import Exchange, NotSilent, Silent
from elattn_bench import workload
from elattn_bench.cases import Case
from elattn_bench.ranks.lockstep import Agreement
from elattn_bench.results import Measurement
from elattn_bench.sampling import Call, sample
from elattn_bench.stats import Budget
from elattn_bench.timers import Clock
from elattn_bench.units import Seconds, format_duration

SHARE = 0.25  # of the time that the case itself may take, warm-up too
SAMPLES = 5  # at least, unless that takes longer than the share
MOST_CALLS = 6  # beyond the budget's times: one to try, the first, one that ends the warm-up, three samples


def silent(case: Case, exchange: Exchange, inputs: Sequence[Tensor]) -> Call | None:
    """The case's call on this rank's inputs with nothing exchanged; None of one rank, which exchanges nothing."""
    if exchange.size == 1:
        return None
    return workload.call_of_shard(case, Silent(exchange.rank, exchange.size), inputs)


def part_of(budget: Budget) -> Budget:
    """What of a case's budget its work gets."""
    return replace(
        budget,
        min_samples=SAMPLES,
        min_time=0.0,
        max_time=SHARE * budget.max_time,
        warm_up_time=SHARE * budget.warm_up_time,
        visits=1,
    )


def with_work(
    found: Measurement, call: Call | None, agreement: Agreement, clock: Clock, budget: Budget, left: Seconds
) -> Measurement:
    """The measurement with the median of the silent call as its ``work_ms``; None of a form that exchanges by itself.

    Args:
        found: of the case; nothing else in it changes but ``timed_s``, and at most a warning is added.
        call: see ``silent``.
        clock: in lockstep.
        budget: see ``part_of``.
        left: until the harness gives the case up, which must not lose what was found.
    """
    if call is None:
        return found
    needed = budget.max_time + budget.warm_up_time + MOST_CALLS * max(found.latency_ms) * 1e-3
    if agreement.highest(needed - left) > 0:
        return _without(found, f"--timeout leaves it less than {format_duration(needed)}")
    tried = agreement.every(_tried(call))
    failures = [
        reason for reason, _ in tried if reason is not None
    ]  # on all ranks or on none: others would wait
    if failures:
        return _without(found, *filter(None, dict.fromkeys(failures)))
    samples = sample(call, clock, budget)
    timed = (found.timed_s or 0.0) + max(took for _, took in tried) + samples.timed_s
    return replace(found, work_ms=statistics.median(samples.latency_ms), timed_s=timed)


def _without(found: Measurement, *reasons: str) -> Measurement:
    told = (f"work: not measured: {reason}" for reason in reasons)
    return replace(found, warnings=(*found.warnings, *told))


def _tried(call: Call) -> tuple[str | None, Seconds]:
    """Why the call cannot be made in silence, None if it can, and how long it took.

    The reason is empty where nobody need be told: a form that exchanges by itself.
    """
    start = time.perf_counter()
    try:
        call()
    except NotSilent:
        return "", 0.0
    except Exception as error:  # of a form that asks more of the others; its case has been measured
        return f"{type(error).__name__}: {error}", 0.0
    return None, time.perf_counter() - start
