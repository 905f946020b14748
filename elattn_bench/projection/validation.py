"""What the model is worth: measured rows, predicted from other rows alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from elattn_bench.projection.compute import Compute, can_fit, fit_compute, seconds_of
from elattn_bench.projection.exchanges import exchange_seconds, exchanges
from elattn_bench.projection.lines import Line
from elattn_bench.projection.links import Link
from elattn_bench.results import Row
from elattn_bench.units import Seconds

What = Literal["ranks", "length"]
"""Rows of several ranks, their work predicted from other lengths and their exchange from the links; the longest rows,
their work predicted from lengths up to a quarter of theirs."""

SHORTER = 4  # times: how much further than its data the fit is asked to reach


@dataclass(frozen=True, slots=True)
class Check:
    """One measured row, and what was predicted of it without any row of its length.

    work, exchange: as predicted.
    """

    line: Line
    what: What
    row: Row
    work: Seconds
    exchange: Seconds

    @property
    def predicted(self) -> Seconds:
        """The whole call: nothing of the two overlaps."""
        return self.work + self.exchange

    @property
    def error(self) -> float:
        """Predicted over measured: 1 is right, below is too fast."""
        return self.predicted / seconds_of(self.row)


@dataclass(frozen=True, slots=True)
class Found:
    """What checks of one kind found of a line at a mode and a mask, at all its sizes.

    median, worst: of predicted over measured; the worst is the furthest from 1, as a factor.
    ranks, lengths: the most, and the ends, of what was predicted.
    """

    label: str
    mode: str
    causal: bool
    what: What
    rows: int
    median: float
    worst: float
    ranks: int
    lengths: tuple[int, int]


def can_be_linked(line: Line, links: Mapping[str, Link]) -> bool:
    """Whether the links of all the line's exchanges are known."""
    return all(each.kind in links for each in exchanges(line.at(1024, 2)))


def checks(lines: Iterable[Line], links: Mapping[str, Link]) -> list[Check]:
    """Every check that the rows allow.

    Args:
        links: as measured: an assumed link is not that of the measured rows; empty: lengths alone are checked.
    """
    return [check for line in lines for check in (*_of_ranks(line, links), *_of_lengths(line, links))]


def _of_ranks(line: Line, links: Mapping[str, Link]) -> Iterator[Check]:
    """Each row of several ranks, from the other lengths: neither its own work nor one rank's at that length is used."""
    if not can_be_linked(line, links):
        return
    for length, rows in _by_length(line.spread).items():
        others = [row for row in line.work(2).fitted if row.seq_len != length]
        fitted = _refitted(line.work(2), others)
        yield from _checked(line, "ranks", rows, fitted, links)


def _of_lengths(line: Line, links: Mapping[str, Link]) -> Iterator[Check]:
    """The longest rows, of one rank and of several."""
    yield from _of_length(line, line.alone, links)
    if line.among and can_be_linked(line, links):
        yield from _of_length(line, line.among, links)


def _of_length(line: Line, compute: Compute, links: Mapping[str, Link]) -> Iterator[Check]:
    rows = [row for row in compute.fitted if row.seq_len == compute.longest]
    shorter = [row for row in compute.fitted if SHORTER * row.seq_len <= compute.longest]
    fitted = _refitted(compute, shorter)
    return _checked(line, "length", rows, fitted, links)


def _by_length(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.seq_len].append(row)
    return dict(found)


def _refitted(compute: Compute, kept: Sequence[Row]) -> Compute | None:
    """The model of those of its rows that are kept; None where these are too few."""
    growth, causal = compute.growth, compute.causal
    return fit_compute(kept, growth, causal=causal) if can_fit(kept, growth, causal=causal) else None


def _checked(
    line: Line, what: What, rows: Iterable[Row], fitted: Compute | None, links: Mapping[str, Link]
) -> Iterator[Check]:
    for row in rows if fitted else ():
        assert fitted
        exchange = exchange_seconds(line.at(row.seq_len, row.ranks or 1), links)
        yield Check(line, what, row, fitted.of(row), exchange)


def summed_up(found: Iterable[Check]) -> list[Found]:
    """The checks of each line, mode, mask and kind together."""
    groups: defaultdict[tuple[str, str, bool, What], list[Check]] = defaultdict(list)
    for check in found:
        line = check.line
        groups[line.label, line.facet.mode, line.facet.causal, check.what].append(check)
    return [_sum(key, group) for key, group in groups.items()]


def _sum(key: tuple[str, str, bool, What], group: Sequence[Check]) -> Found:
    errors = [check.error for check in group]
    lengths = [check.row.seq_len for check in group]
    ranks = max(check.row.ranks or 1 for check in group)
    ends = (min(lengths), max(lengths))
    return Found(*key, len(group), median(errors), max(errors, key=factor), ranks, ends)


def factor(error: float) -> float:
    """How far from 1, in either direction: 0.5 and 2 are a factor of 2."""
    return math.exp(abs(math.log(error)))
