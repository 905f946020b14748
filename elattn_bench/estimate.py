"""How long a sweep will take: a rough guess before anything is measured, for --dry-run and the ETA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attention_impls import Cost
from elattn_bench.cases import Case
from elattn_bench.stats import FEWEST_SAMPLES, Budget
from elattn_bench.units import Seconds

# Round numbers; the CPU's from docs/results/amd-epyc-2-cores. Only proportions between cases matter for the ETA.
MATMUL_FLOPS = {"cpu": 1e11, "cuda": 5e13}
ELEMENTWISE_FLOPS = {
    "cpu": 1e10,
    "cuda": 1e12,
}  # plain PyTorch: every operation passes through memory or cache
BANDWIDTH = {"cpu": 1e10, "cuda": 1e12}
OVERHEAD: Seconds = 0.3  # gate, inputs, warm-up of a short call, memory pass
COMPILE: Seconds = 20.0  # torch.compile on a CPU, forward and backward, for the gate's and the case's shape
LAUNCHES: Seconds = (
    1e-4  # of the dozens of operations of a step in plain PyTorch; its arithmetic is nothing to it
)
PASSES = 3  # first call, warm-up and memory pass, each at least one call


def call_seconds(case: Case) -> Seconds:
    """A guess of one call's time from its cost: what stands around the core is products of matrices mostly.

    Of a sequence that is spread, every rank does its share; what they exchange is left out.
    """
    whole = case.guessed_cost
    core = whole if case.decodes else replace(case, level="op").guessed_cost
    seconds = (
        _seconds(case, core)
        + (whole.flops - core.flops) / MATMUL_FLOPS[case.device]
        + (whole.bytes - core.bytes) / BANDWIDTH[case.device]
    )
    return seconds / (case.ranks or 1) + (LAUNCHES if case.decodes else 0)


def _seconds(case: Case, cost: Cost) -> Seconds:
    flops = (ELEMENTWISE_FLOPS if case.spec.per_channel else MATMUL_FLOPS)[case.device]
    return cost.flops / flops + cost.bytes / BANDWIDTH[case.device]


def case_seconds(case: Case, budget: Budget, timeout: Seconds) -> Seconds:
    """A guess of the time of one visit to a case under the budget."""
    call = call_seconds(case)
    sampling = max(
        min(max(budget.min_time, budget.min_samples * call), budget.max_time), FEWEST_SAMPLES * call
    )
    compiling = COMPILE if case.backend == "compile" else 0.0
    filling = _seconds(case, case.context_cost)
    return min(timeout, OVERHEAD + filling + PASSES * call + sampling + compiling)


def sweep_seconds(cases: Sequence[Case], budget: Budget, timeout: Seconds) -> Seconds:
    """A guess of the sweep's time, all visits to each case."""
    return budget.visits * sum(case_seconds(case, budget, timeout) for case in cases)
