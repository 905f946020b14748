"""How a row's time and memory should grow with length, by what the library says of its attention."""

from __future__ import annotations

import math
from dataclasses import fields

import attention_impls as impls
from attention_impls import Cost
from elattn_bench.cases import NO_COST, Case, is_a_plugin
from elattn_bench.results import Row

UNKNOWN = "unknown"
_BY_EXPONENT = {0: "constant", 1: "linear", 2: "quadratic"}
_AXES = tuple(axis.name for axis in fields(Case))


def growth(row: Row, metric: str) -> str:
    """``constant``, ``linear``, ``quadratic``; ``unknown`` of an attention or a memory that nobody has a formula for.

    Args:
        row: of the line, at its longest length.
        metric: ``latency`` or ``memory``.
    """
    if row.attention not in impls.names():
        return UNKNOWN
    spec = impls.get(row.attention)
    if row.mode == "decode":
        return "linear" if spec.state_grows else "constant"
    return _growth_of_workspace(case_of(row)) if metric == "memory" else spec.growth_of(row.backend)


def _growth_of_workspace(case: Case) -> str:
    """The slope of the memory formula over the last doubling of the length, if that is a whole number or nearly."""
    longer = at_length(case, 2 * case.seq_len)
    now, then = case.analytic_memory_bytes, longer.analytic_memory_bytes
    if not now or not then:
        return UNKNOWN
    exponent = math.log2(then / now)
    nearest = round(exponent)
    return _BY_EXPONENT.get(nearest, UNKNOWN) if abs(exponent - nearest) < 0.1 else UNKNOWN


def case_of(row: Row) -> Case:
    """The case that the row is of."""
    return Case(**{axis: getattr(row, axis) for axis in _AXES})


def at_length(case: Case, seq_len: int) -> Case:
    """The case at another length."""
    return Case(**{axis: getattr(case, axis) for axis in _AXES} | {"seq_len": seq_len})


def work(case: Case) -> Cost | None:
    """The least work of one call of the case; None where nobody knows."""
    if is_a_plugin(case.attention) or case.backend not in case.spec.backends:
        return None
    cost = case.cost
    return None if cost == NO_COST else cost
