"""What the model is worth: measured rows, predicted from other rows alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from elattn_bench.projection.compute import fit_compute, seconds_of
from elattn_bench.projection.exchanges import exchange_seconds, exchanges
from elattn_bench.projection.lines import FEWEST_LENGTHS, Line
from elattn_bench.projection.links import Link
from elattn_bench.results import Row
from elattn_bench.units import Seconds

What = Literal["ranks", "length"]
"""Rows of several ranks, predicted from one rank and the links; the longest row of one rank, from lengths up to a
quarter of it."""

SHORTER = 4  # times: how much further than its data the fit is asked to reach


@dataclass(frozen=True, slots=True)
class Check:
    """One measured row, and what was predicted of it without it."""

    line: Line
    what: What
    row: Row
    predicted: Seconds

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


def predict(line: Line, tokens: int, ranks: int, links: Mapping[str, Link]) -> Seconds:
    """The model's time of a call: one rank's work, then its exchanges; nothing of the two overlaps."""
    return line.compute.seconds(tokens, ranks) + exchange_seconds(line.at(tokens, ranks), links)


def checks(lines: Iterable[Line], links: Mapping[str, Link]) -> list[Check]:
    """Every check that the rows allow.

    Args:
        links: as measured: an assumed link is not that of the measured rows; empty: lengths alone are checked.
    """
    return [check for line in lines for check in (*_of_ranks(line, links), *_of_length(line))]


def _of_ranks(line: Line, links: Mapping[str, Link]) -> list[Check]:
    if not can_be_linked(line, links):
        return []
    return [
        Check(line, "ranks", row, predict(line, row.seq_len, row.ranks or 1, links)) for row in line.spread
    ]


def _of_length(line: Line) -> list[Check]:
    rows = line.compute.fitted
    shorter = [row for row in rows if SHORTER * row.seq_len <= line.compute.longest]
    if len({row.seq_len for row in shorter}) < FEWEST_LENGTHS:
        return []
    fitted = fit_compute(shorter, line.compute.growth, causal=line.compute.causal)
    return [Check(line, "length", rows[-1], fitted.seconds(rows[-1].seq_len, 1))]


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
