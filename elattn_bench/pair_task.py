"""What the worker does for a paired comparison: try a case out, then time two in turns. Knows torch."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from elattn_bench import workload
from elattn_bench.cases import Case
from elattn_bench.monitor import Monitor
from elattn_bench.neighbours import CpuTimes, others_share
from elattn_bench.pairs import Make, PairBudget, Paired, sample_pairs
from elattn_bench.results import Skipped
from elattn_bench.sampling import Call, Stopwatch
from elattn_bench.timers import clock_for
from elattn_bench.units import Seconds
from elattn_bench.worker_process import Context


def try_out(context: Context, case: Case) -> Seconds | Skipped:
    """How long the case's first call takes, or why it may not be timed.

    Out of memory is raised, for the worker to name. Alone, so that whatever happens is this case's doing.
    """
    if refusal := context.gate.refusal(case):
        return refusal
    return Stopwatch(clock_for(case.device, case.cache)).time(_maker(context, case)(), 1)


def compare(
    context: Context,
    a: Case,
    b: Case,
    first_calls: tuple[Seconds, Seconds],
    precision: float,
    time_limit: Seconds,
) -> Paired | Skipped:
    """The two cases timed in turns, or why they cannot be.

    Args:
        context: of the worker.
        a: the first case.
        b: the second.
        first_calls: what trying them out gave.
        precision: how narrow the interval of the ratio should become, as a share.
        time_limit: for everything.
    """
    clock = clock_for(a.device, a.cache)
    start = clock.now()
    # Once more, because another process may have tried them out; what has passed is remembered.
    if refusal := context.gate.refusal(a) or context.gate.refusal(b):
        return refusal
    makers = _maker(context, a), _maker(context, b)
    budget = PairBudget(context.settings.budget, precision, time_limit - (clock.now() - start))
    order = Random(f"{context.settings.seed} {a.case_id} {b.case_id}")
    before = CpuTimes.read()
    with Monitor(clock, a.device) as monitor:
        found = sample_pairs(makers, monitor, budget, order, first_calls)
    others = others_share(before, CpuTimes.read()) if a.device == "cpu" else 0.0
    return replace(found, others_share=others, throttled=monitor.observed.throttled)


def _maker(context: Context, case: Case) -> Make:
    seed, std = context.settings.seed, context.settings.input_std
    filled = workload.fill_context(case, seed, std)  # once: every round makes a copy of its own

    def make() -> Call:
        return workload.build(case, seed, std, filled).call

    return make
