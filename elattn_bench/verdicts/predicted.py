"""Where two lines should cross by their cost formulas: theory beside the measurement."""

from __future__ import annotations

from elattn_bench.cases import Case
from elattn_bench.results import Row
from elattn_bench.roofline import Ceilings, passes
from elattn_bench.verdicts import theory

LONGEST = 2**30  # tokens; a crossing beyond is none that anybody will see
WITHIN = 1e-3  # of the length


def crossing(row: Row, reference: Row, ceilings: Ceilings) -> float | None:
    """From which length on the row's attention should be faster for good; 1 where it always should.

    The time of a call is the least that the device's measured ceilings allow for its floating-point operations and
    bytes (Williams et al. 2009); without ceilings, operations alone are compared. What launching
    costs is in neither.

    Returns:
        A length in tokens; None where the formulas do not cross by 2^30 tokens, or nobody knows them. Nor where the
        sequence is spread over ranks, for what they exchange is in no ceiling, or where a kind of device was asked
        for, whose ceilings these are not.
    """
    if row.ranks is not None or row.device_type:
        return None
    case, other = theory.case_of(row), theory.case_of(reference)
    if _seconds(case, 1, ceilings) is None or _seconds(other, 1, ceilings) is None:
        return None

    def is_ahead(length: int) -> bool:
        return (_seconds(case, length, ceilings) or 0.0) < (_seconds(other, length, ceilings) or 0.0)

    if not is_ahead(LONGEST):
        return None
    ahead = LONGEST
    while ahead > 1 and is_ahead(ahead // 2):
        ahead //= 2
    behind = ahead // 2
    while ahead - behind > max(1.0, WITHIN * ahead):
        middle = (ahead + behind) // 2
        ahead, behind = (middle, behind) if is_ahead(middle) else (ahead, middle)
    return float(ahead)


def _seconds(case: Case, length: int, ceilings: Ceilings) -> float | None:
    """The least time of a call at the length; in units of operations where no ceiling is known."""
    longer = theory.at_length(case, length)
    cost = theory.work(longer)
    if cost is None:
        return None
    roof = ceilings.roof(case.dtype, cost, cache=case.cache, passes=passes(case.level, case.mode))
    return roof.seconds if roof else float(cost.flops)
