"""Which rows of a column are the best, as far as their intervals can tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from elattn_bench.analysis import latency_ratio
from elattn_bench.results import Row


def fastest(rows: Iterable[Row]) -> frozenset[str]:
    """Ids of the cases with the lowest median latency: that one, and those whose 95 % interval overlaps its own.

    Overlap is the cautious side: intervals that overlap a little may still belong to medians that differ
    (Schenker & Gentleman 2001). Nothing where fewer than two are measured: there is no contest.
    """
    measured = [row for row in rows if row.ok and row.latency_ms_p50]
    if len(measured) < 2:
        return frozenset()
    best = min(measured, key=lambda row: row.latency_ms_p50 or 0.0)
    return frozenset(row.case_id for row in measured if _overlap(row, best))


def _overlap(row: Row, best: Row) -> bool:
    # Two intervals overlap just where that of their ratio holds 1.
    ratio = latency_ratio(row, best)
    return ratio is not None and ratio.low <= 1


def smallest(rows: Iterable[Row]) -> frozenset[str]:
    """Ids of the cases with the lowest peak memory, which is exact; nothing where fewer than two are measured."""
    measured: Sequence[Row] = [row for row in rows if row.ok and row.peak_memory_bytes is not None]
    if len(measured) < 2:
        return frozenset()
    least = min(row.peak_memory_bytes or 0 for row in measured)
    return frozenset(row.case_id for row in measured if row.peak_memory_bytes == least)
