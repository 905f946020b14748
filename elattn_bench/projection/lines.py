"""The lines of a run that can be projected: what one rank was measured with, and what several were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import attention_impls as impls
from elattn_bench.analysis import Facet, by_facet, by_label
from elattn_bench.cases import Case
from elattn_bench.projection.compute import Compute, can_fit, fit_compute, has_work
from elattn_bench.results import Row
from elattn_bench.verdicts.theory import case_of

FEWEST_LENGTHS = 2  # of a start and a slope


@dataclass(frozen=True, slots=True)
class Line:
    """An attention (impl, order, knobs) at one setting and sizes, whatever the length and the ranks.

    Args:
        facet: its setting and sizes, ranks left out.
        case: any of its cases.
        alone: the work of one rank that has no others.
        of_one_rank: whether that was one rank of a sweep with ranks, rather than a sequence in one piece.
        among: the work of a rank among others, extra passes and shared memory included; None where too little of
            it was measured.
        spread: rows measured on two ranks or more.
    """

    facet: Facet
    label: str
    case: Case
    alone: Compute
    of_one_rank: bool
    among: Compute | None
    spread: tuple[Row, ...]

    def at(self, tokens: int, ranks: int) -> Case:
        """Its case of that length over so many ranks."""
        return replace(self.case, seq_len=tokens, ranks=ranks)

    def work(self, ranks: int) -> Compute:
        """What the work over so many ranks is taken from."""
        return self.among if ranks > 1 and self.among else self.alone

    @property
    def shards(self) -> tuple[int, int]:
        """The shortest and the longest shard that was measured, on however many ranks."""
        rows = (*self.alone.fitted, *self.spread)
        found = [-(-row.seq_len // (row.ranks or 1)) for row in rows]
        return min(found), max(found)

    @property
    def most_ranks(self) -> int:
        """The most ranks that it was measured on."""
        return max((row.ranks or 1 for row in self.spread), default=1)


def lines_of(rows: Iterable[Row]) -> tuple[list[Line], dict[str, str]]:
    """The lines that can be projected, by facet; and of the others, by name, why not."""
    measured = [row for row in rows if row.ok and row.latency_ms_p50]
    lines: list[Line] = []
    refused: list[tuple[Facet, str, str]] = []
    for facet, found in _by_facet(measured).items():
        for label, of_line in by_label(found).items():
            if reason := _refusal(facet, of_line):
                refused.append((facet, label, reason))
            else:
                lines.append(_line(facet, label, of_line))
    projected = {line.label for line in lines}
    return lines, {name_of(facet, label, label in projected): reason for facet, label, reason in refused}


def name_of(facet: Facet, label: str, is_elsewhere: bool) -> str:
    """A line that can be projected at another setting is named with its own."""
    return f"{label} ({facet.text})" if is_elsewhere else label


def _by_facet(rows: Iterable[Row]) -> dict[Facet, list[Row]]:
    """The rows of each facet, whatever the ranks."""
    found: defaultdict[Facet, list[Row]] = defaultdict(list)
    for facet, of_facet in by_facet(rows).items():
        found[facet._replace(ranks=None)] += of_facet
    return dict(found)


def _refusal(facet: Facet, rows: Sequence[Row]) -> str:
    """Why the line cannot be projected; empty where it can."""
    if facet.level != "op" or facet.mode == "decode" or facet.cache != "hot":
        return "is measured otherwise than at level op, cache hot, in mode forward or train"
    attention, backend = rows[0].attention, rows[0].backend
    if attention not in impls.names() or impls.get(attention).growth_of(backend) == "unknown":
        return "grows with length as nobody said"
    known = impls.get(attention).backends.get(backend)
    if known is None or known.sharding is None:
        return "has no form for a sequence that is spread over ranks"
    lengths = len({row.seq_len for row in _basis(rows)})
    return "" if lengths >= FEWEST_LENGTHS else "has rows of one rank at fewer than two lengths"


def _basis(rows: Sequence[Row]) -> list[Row]:
    """Rows of one rank, or without enough of those rows of a sequence in one piece."""
    of_one = [row for row in rows if row.ranks == 1]
    if len({row.seq_len for row in of_one}) >= FEWEST_LENGTHS:
        return of_one
    return [row for row in rows if row.ranks is None]


def _line(facet: Facet, label: str, rows: Sequence[Row]) -> Line:
    basis = _basis(rows)
    growth = impls.get(rows[0].attention).growth_of(rows[0].backend)
    spread = tuple(row for row in rows if row.ranks is not None and row.ranks > 1)
    worked, causal = list(filter(has_work, spread)), facet.causal
    among = fit_compute(worked, growth, causal=causal) if can_fit(worked, growth, causal=causal) else None
    alone = fit_compute(basis, growth, causal=causal)
    return Line(facet, label, case_of(basis[0]), alone, basis[0].ranks == 1, among, spread)
