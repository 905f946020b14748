"""Which implementation is cheapest at every length and dimension. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from elattn_bench.analysis import (
    Setting,
    by_setting,
    label_key,
    latency_ratio,
    one_order,
    quotient,
    select,
    short_status,
)
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.verdicts.reference import DEFAULT_REFERENCE


@dataclass(frozen=True, slots=True)
class Winner:
    """The cheapest of all that were measured at one length and dimension.

    rivals: how many others were measured; clear: whether it beats every one of them beyond doubt; of latencies,
        both the winner's and the second best must be ``stable``.
    gain: how often its cost goes into the reference's; None where the reference has none.
    reference: what became of the reference: ``ok``, ``oom``, ``timeout``; empty where it was not tried.
    """

    row: Row
    rivals: int
    clear: bool
    gain: float | None
    reference: str


@dataclass(frozen=True, slots=True)
class WinnerMap:
    """Winners over lengths and dimensions, at one setting, batch and number of heads.

    cells: by (length, dim); a pair that nobody measured is missing.
    """

    setting: Setting
    batch: int
    heads: int
    metric: str
    reference: str
    cells: dict[tuple[int, int], Winner]

    @property
    def lengths(self) -> list[int]:
        """Ascending."""
        return sorted({length for length, _ in self.cells})

    @property
    def dims(self) -> list[int]:
        """Ascending."""
        return sorted({dim for _, dim in self.cells})

    @property
    def winners(self) -> list[Row]:
        """A row of every line that wins somewhere, in the lines' order."""
        found = {cell.row.label: cell.row for cell in self.cells.values()}
        return sorted(found.values(), key=label_key)


def winner_maps(run: Run, metric: str = "latency", reference: str = DEFAULT_REFERENCE) -> list[WinnerMap]:
    """A map for every setting, batch and number of heads with two lengths and two dimensions at least.

    Of an attention with orders only the one nearest to 6 competes: a lower order is always cheaper, and always
    further off. Rows are compared by median latency (their 95 % intervals say whether that is clear) or by bytes.

    Args:
        metric: ``latency`` or ``memory``.
        reference: the label of the line that gains are relative to.
    """
    maps = []
    for setting, rows in by_setting(run.rows).items():
        for batch, heads in sorted({(row.batch, row.heads) for row in rows}):
            competing = one_order(select(rows, batch=batch, heads=heads))
            cells = _cells(competing, metric, reference)
            found = WinnerMap(setting, batch, heads, metric, reference, cells)
            if len(found.lengths) > 1 and len(found.dims) > 1:
                maps.append(found)
    return maps


def _cells(rows: Sequence[Row], metric: str, reference: str) -> dict[tuple[int, int], Winner]:
    groups: defaultdict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.seq_len, row.dim].append(row)
    found = {place: _winner(group, metric, reference) for place, group in groups.items()}
    return {place: winner for place, winner in found.items() if winner}


def _winner(rows: Sequence[Row], metric: str, reference: str) -> Winner | None:
    measured = sorted(
        (row for row in rows if row.ok and cost(row, metric)),
        key=lambda row: (cost(row, metric), label_key(row)),
    )
    if not measured:
        return None
    best, *others = measured
    base = next((row for row in rows if row.label == reference), None)
    gain = quotient(cost(base, metric), cost(best, metric)) if base else None
    steady = metric == "memory" or all(row.stability == "stable" for row in measured[:2])
    clear = steady and all(_is_cheaper(best, other, metric) for other in others)
    return Winner(best, len(others), clear, gain, short_status(base.status) if base else "")


def cost(row: Row, metric: str) -> float | None:
    """The row's median latency in ms, or its peak memory in bytes."""
    return row.latency_ms_p50 if metric == "latency" else row.peak_memory_bytes


def _is_cheaper(one: Row, other: Row, metric: str) -> bool:
    if metric == "memory":
        return (one.peak_memory_bytes or 0) < (other.peak_memory_bytes or 0)
    ratio = latency_ratio(other, one)
    return ratio is not None and ratio.low > 1
