"""What an approximation buys: its error against its latency and memory, beside the exact attention. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from attention_impls import registry
from elattn_bench.analysis import Facet, by_facet, label_key, latency_ratio, quotient, select, short_status
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length, significant

COSTS = ("latency", "memory")
DOUBTFUL_BAND = (
    0.01  # of the arguments; with more of them outside, the polynomial is not the exponential it stands for
)


@dataclass(frozen=True, slots=True)
class Point:
    """One implementation with what it costs and how far it is off.

    error: relative RMS distance from the exact attention, both in float64 and taken at the gate's short length; 0 of
        the exact one. What rounding adds is another quantity, ``rel_rms_error``, and not in here.
    """

    row: Row
    error: float

    @property
    def is_doubtful(self) -> bool:
        """Whether the polynomial is off by more than 1 % at more than 1 % of the arguments."""
        return (self.row.outside_band or 0.0) > DOUBTFUL_BAND


@dataclass(frozen=True, slots=True)
class Trade:
    """All that computes, or approximates, one attention at one length of one facet.

    exact: the attention approximated; points: measured, exact ones first and the fastest of them foremost.
    lost: exact implementations that were not measured, with their status.
    """

    facet: Facet
    length: int
    exact: str
    points: tuple[Point, ...]
    lost: tuple[Row, ...] = ()

    @property
    def base(self) -> Row | None:
        """The fastest exact implementation: what savings are relative to; None where none was measured."""
        return next((point.row for point in self.points if not point.error), None)

    @property
    def approximations(self) -> list[Point]:
        """The points that are not exact."""
        return [point for point in self.points if point.error]

    def front(self, costs: Sequence[str] = COSTS) -> list[Point]:
        """The points that no other dominates, the most exact last (Pareto 1906)."""
        free = [
            point for point in self.points if not any(dominates(other, point, costs) for other in self.points)
        ]
        return sorted(free, key=lambda point: (-point.error, point.row.latency_ms_p50 or 0.0))

    @property
    def sentence(self) -> str:
        """What every order on the front buys, in one sentence."""
        base, where = self.base, f"L = {format_length(self.length)} ({self.facet.text})"
        bought = "; ".join(self.gain(point) for point in self.front() if point.error)
        if base is None:
            reasons = ", ".join(f"{row.label}: {short_status(row.status)}" for row in self.lost)
            return f"Exact {self.exact} was not measured at {where}{f' ({reasons})' if reasons else ''}: {bought}."
        if not bought:
            return f"At {where} no approximation is cheaper than exact {base.label}."
        return f"Against {base.label}, the fastest exact {self.exact}, at {where}: {bought}."

    def gain(self, point: Point) -> str:
        """``ea-series/fused t=6 errs by 0.78 % at 0.40 % of the latency and 12 % of the memory``."""
        words = f"{point.row.label} errs by {percent(point.error)}"
        base = self.base
        if base is None:
            return words
        latency = latency_ratio(point.row, base)
        memory = quotient(point.row.peak_memory_bytes, base.peak_memory_bytes)
        shares = [f"{percent(latency.value)} of the latency"] if latency else []
        shares += [f"{percent(memory)} of the memory"] if memory else []
        return f"{words} at {' and '.join(shares)}" if shares else words


def percent(share: float) -> str:
    """A share with two significant digits: ``0.78 %``."""
    return f"{significant(100 * share, 2)} %"


def dominates(one: Point, other: Point, costs: Sequence[str] = COSTS) -> bool:
    """Whether one is surely the better choice: no larger error, and none of the costs higher.

    Latencies are lower only where the whole interval of their ratio is: what samples cannot tell apart dominates
    nobody. Bytes are exact.
    """
    if one.error > other.error or one.row.case_id == other.row.case_id:
        return False
    signs = [_sign(one.row, other.row, cost) for cost in costs]
    if any(sign is None or sign > 0 for sign in signs):
        return False
    return one.error < other.error or any(sign for sign in signs)


def _sign(one: Row, other: Row, cost: str) -> int | None:
    """-1 where one costs less, 0 where as much, 1 where more; None where nobody can say."""
    if cost == "latency":
        ratio = latency_ratio(one, other)
        return None if ratio is None or ratio.low <= 1 <= ratio.high else -1 if ratio.high < 1 else 1
    mine, others = one.peak_memory_bytes, other.peak_memory_bytes
    return None if mine is None or others is None else (mine > others) - (mine < others)


def trades(run: Run) -> list[Trade]:
    """Every facet and length at which an approximation was measured, sorted by facet, attention and length."""
    found = []
    for facet, rows in by_facet(run.rows).items():
        for exact in dict.fromkeys(filter(None, map(approximated, filter(_has_error, rows)))):
            concerned = [row for row in rows if exact in (row.attention, approximated(row))]
            lengths = sorted({row.seq_len for row in concerned if _has_error(row)})
            found += [_trade(facet, length, exact, select(concerned, seq_len=length)) for length in lengths]
    return found


def approximated(row: Row) -> str | None:
    """The attention that the row's attention approximates; None if none, or if the table does not know it."""
    spec = registry.ATTENTIONS.get(row.attention)
    return spec.approximates.attention if spec and spec.approximates else None


def _has_error(row: Row) -> bool:
    return bool(row.ok and row.latency_ms_p50 and row.approximation_error)


def _trade(facet: Facet, length: int, exact: str, rows: Sequence[Row]) -> Trade:
    exacts = select(rows, attention=exact)
    measured = sorted((row for row in exacts if row.ok and row.latency_ms_p50), key=_latency)
    approximations = sorted(filter(_has_error, rows), key=label_key)
    points = [
        *(Point(row, 0.0) for row in measured),
        *(Point(row, row.approximation_error or 0.0) for row in approximations),
    ]
    return Trade(facet, length, exact, tuple(points), tuple(row for row in exacts if not row.ok))


def _latency(row: Row) -> float:
    return row.latency_ms_p50 or 0.0


def doubtful(points: Iterable[Point]) -> str:
    """Which lines leave the band, in one sentence; nothing where none does."""
    found = sorted({(point.row.attention, point.row.order or 0) for point in points if point.is_doubtful})
    groups = [
        f"{attention} t={', '.join(str(order) for _, order in group)}"
        for attention, group in groupby(found, key=lambda item: item[0])
    ]
    return f"Off by over 1 % at over 1 % of the arguments: {'; '.join(groups)}." if groups else ""
