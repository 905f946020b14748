"""What spreading a sequence over ranks gains and costs: strong and weak scaling, and the bytes received. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from elattn_bench.analysis import Facet, Ratio, by_label, latency_ratio, quotient
from elattn_bench.results import Row

SAME_WORK = 0.01  # of the work per rank: shards that do not divide evenly differ by a position


@dataclass(frozen=True, slots=True)
class Strong:
    """One measured row beside the one of the same length on the fewest ranks.

    first: that row; the row itself where there are no fewer.
    speed_up: ``first``'s latency over the row's.
    efficiency: the speed-up over that of an ideal spread, which on k times as many ranks is k: with T the latency
        and P the ranks, P0 T(P0) / (P T(P)); with P0 = 1 it is T(1) / (P T(P)) (the speed-up of a problem of fixed
        size is Amdahl's, 1967). Above 1 where a shard fits a cache that the whole did not.
    """

    row: Row
    first: Row
    speed_up: Ratio
    efficiency: Ratio


@dataclass(frozen=True, slots=True)
class Weak:
    """One measured row beside the one of the same length *per rank* on the fewest ranks.

    first: that row.
    time: the row's latency over ``first``'s: 1 where ranks cost nothing and the work per rank is the same.
    work: how often the row's work per rank is ``first``'s, by formula: 1 of a linear attention, the ratio of the
        ranks of a quadratic one, for which each rank's queries meet all keys; None where nobody knows the work.
    efficiency: work per rank and second over ``first``'s: the scaled speed-up of Gustafson (1988) over the ratio of
        the ranks. None where the work is unknown.
    """

    row: Row
    first: Row
    time: Ratio
    work: float | None
    efficiency: Ratio | None

    @property
    def shard(self) -> int:
        """Positions of a rank."""
        return self.row.seq_len // _ranks(self.row)

    @property
    def work_grows(self) -> bool:
        """Whether a rank of more ranks has more to do, although its shard is as long."""
        return self.work is not None and abs(self.work - 1) > SAME_WORK


@dataclass(frozen=True, slots=True)
class Received:
    """What one line receives on so many ranks in a call, over the lengths measured.

    facet: ranks included. rows: with a count, lengths ascending.
    growth: slope of log bytes over log length, by least squares; None of one length, or where nothing is received.
    as_formula: whether every count equals the formula's; None where there is no formula.
    """

    facet: Facet
    label: str
    rows: tuple[Row, ...]
    growth: float | None
    as_formula: bool | None

    @property
    def whatever_the_length(self) -> bool:
        """Whether the counts of at least two lengths are all equal."""
        return len(self.rows) > 1 and len({row.received_bytes for row in self.rows}) == 1


def spread(rows: Iterable[Row]) -> list[Row]:
    """The rows of a sequence that is spread over ranks; one rank is such a spread too."""
    return [row for row in rows if row.ranks is not None]


def whatever_ranks(row: Row) -> Facet:
    """The row's facet but for the ranks."""
    return Facet.of(row)._replace(ranks=None)


def of_fewest(rows: Iterable[Row]) -> list[Row]:
    """The rows that are not spread, or of each facet without such rows those of the fewest measured ranks.

    What a figure or a first look shows that does not ask for ranks: the same for every number of them would be many.
    """
    facets: defaultdict[Facet, list[Row]] = defaultdict(list)
    for row in rows:
        facets[whatever_ranks(row)].append(row)
    return [row for group in facets.values() for row in group if row.ranks == _fewest(group)]


def _fewest(rows: Sequence[Row]) -> int | None:
    """None where some are not spread; failures count only where nothing was measured."""
    found = {row.ranks for row in rows if row.ok} or {row.ranks for row in rows}
    return min(found, key=lambda ranks: ranks or 0)


def by_facet_and_label(rows: Iterable[Row]) -> dict[tuple[Facet, str], list[Row]]:
    """The spread rows of each line at all ranks, sorted by facet, line, length and ranks."""
    facets: defaultdict[Facet, list[Row]] = defaultdict(list)
    for row in spread(rows):
        facets[whatever_ranks(row)].append(row)
    order = sorted(facets, key=lambda facet: (facet.setting.sort_key, facet.batch, facet.heads, facet.dim))
    return {
        (facet, label): sorted(line, key=lambda row: (row.seq_len, _ranks(row)))
        for facet in order
        for label, line in by_label(facets[facet]).items()
    }


def strong(rows: Iterable[Row]) -> list[Strong]:
    """Every measured row beside that of the fewest ranks at its length; lengths with one number of ranks tell nothing.

    Intervals are those of ``latency_ratio``, wider than 95 %.
    """
    return [
        found
        for line in by_facet_and_label(rows).values()
        for same in _several(line, lambda row: row.seq_len)
        for row in same
        if (found := _strong(row, same[0]))
    ]


def _strong(row: Row, first: Row) -> Strong | None:
    speed_up = Ratio(1.0, 1.0, 1.0) if row is first else latency_ratio(first, row)
    if speed_up is None:
        return None
    return Strong(row, first, speed_up, _times(speed_up, _ranks(first) / _ranks(row)))


def weak(rows: Iterable[Row]) -> list[Weak]:
    """Every measured row whose length per rank was measured on fewer ranks too, beside that of the fewest."""
    return [
        found
        for line in by_facet_and_label(rows).values()
        for same in _several([row for row in line if _is_even(row)], lambda row: row.seq_len // _ranks(row))
        for row in same[1:]
        if (found := _weak(row, same[0]))
    ]


def _weak(row: Row, first: Row) -> Weak | None:
    time = latency_ratio(row, first)
    if time is None:
        return None
    whole = quotient(row.flops, first.flops)
    work = whole * _ranks(first) / _ranks(row) if whole else None
    return Weak(row, first, time, work, _times(time.inverse, work) if work else None)


def _several(line: Iterable[Row], key: Callable[[Row], int]) -> list[list[Row]]:
    """The measured rows of each value of the key that several numbers of ranks share, ranks ascending."""
    groups: defaultdict[int, list[Row]] = defaultdict(list)
    for row in line:
        if row.ok and row.latency_ms_p50:
            groups[key(row)].append(row)
    ordered = [sorted(groups[value], key=_ranks) for value in sorted(groups)]
    return [group for group in ordered if len({row.ranks for row in group}) > 1]


def exchange_share(row: Row) -> float | None:
    """Share of the latency beyond ``work_ms``: the exchange, and waiting for it; None where the work is unknown.

    0 where the work, which is measured after the call, took longer than it.
    """
    if row.work_ms is None or not row.latency_ms_p50:
        return None
    return max(0.0, 1 - row.work_ms / row.latency_ms_p50)


def received(rows: Iterable[Row]) -> list[Received]:
    """What each line receives, for every number of ranks on which it received anything; sorted as the lines are."""
    found: defaultdict[tuple[Facet, str], list[Row]] = defaultdict(list)
    for (facet, label), line in by_facet_and_label(rows).items():
        for row in line:
            if row.ok and row.received_bytes:
                found[facet._replace(ranks=row.ranks), label].append(row)
    return [_received(*place, counted) for place, counted in found.items()]


def _received(facet: Facet, label: str, rows: Sequence[Row]) -> Received:
    expected = [
        row.received_bytes == row.received_bytes_formula
        for row in rows
        if row.received_bytes_formula is not None
    ]
    points = [(math.log(row.seq_len), math.log(row.received_bytes or 1)) for row in rows]
    return Received(facet, label, tuple(rows), _slope(points), all(expected) if expected else None)


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    middle_x, middle_y = (math.fsum(values) / len(points) for values in zip(*points, strict=True))
    spread_x = math.fsum((x - middle_x) ** 2 for x, _ in points)
    if not spread_x:
        return None
    return math.fsum((x - middle_x) * (y - middle_y) for x, y in points) / spread_x


def _times(ratio: Ratio, factor: float) -> Ratio:
    return Ratio(ratio.value * factor, ratio.low * factor, ratio.high * factor)


def _ranks(row: Row) -> int:
    return row.ranks or 1


def _is_even(row: Row) -> bool:
    """Whether all shards are equally long."""
    return row.seq_len % _ranks(row) == 0
