"""What the ranks of a case do with nothing exchanged, measured after it, in lockstep. Knows torch."""

from __future__ import annotations

import statistics
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

SHARE = 0.25  # of the time that the case itself may take, warm-up too
SAMPLES = 5  # at least, unless that takes longer than the share


def silent(case: Case, exchange: Exchange, inputs: Sequence[Tensor]) -> Call | None:
    """The case's call on this rank's inputs with nothing exchanged; None of one rank, which exchanges nothing."""
    if exchange.size == 1:
        return None
    return workload.call_of_shard(case, Silent(exchange.rank, exchange.size), inputs)


def with_work(
    found: Measurement, call: Call | None, agreement: Agreement, clock: Clock, budget: Budget
) -> Measurement:
    """The measurement with the median of the silent call as its ``work_ms``; None of a form that exchanges by itself.

    Args:
        found: of the case; nothing else in it changes but ``timed_s``, and at most a warning is added.
        call: see ``silent``.
        clock: in lockstep.
        budget: of the case, of which a share is used.
    """
    if call is None:
        return found
    reasons = agreement.every(_why_not(call))
    if any(reason is not None for reason in reasons):  # on all ranks or on none: the others would wait
        told = [f"work: not measured: {reason}" for reason in dict.fromkeys(reasons) if reason]
        return replace(found, warnings=(*found.warnings, *told))
    samples = sample(call, clock, _part_of(budget))
    timed = (found.timed_s or 0.0) + samples.timed_s
    return replace(found, work_ms=statistics.median(samples.latency_ms), timed_s=timed)


def _why_not(call: Call) -> str | None:
    """Why the call cannot be made in silence; empty where nobody need be told, None where it can be."""
    try:
        call()
    except NotSilent:
        return ""
    except Exception as error:  # of a form that asks more of the others; its case has been measured
        return f"{type(error).__name__}: {error}"
    return None


def _part_of(budget: Budget) -> Budget:
    return replace(
        budget,
        min_samples=SAMPLES,
        min_time=0.0,
        max_time=SHARE * budget.max_time,
        warm_up_time=SHARE * budget.warm_up_time,
        visits=1,
    )
