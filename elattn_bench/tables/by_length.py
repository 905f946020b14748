"""Tables with a line per row and a column per length: speed-ups, latencies, memory of one facet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from elattn_bench.analysis import Facet
from elattn_bench.results import Row
from elattn_bench.tables.listings import NO_NUMBER, format_estimate, format_ratio
from elattn_bench.tables.render import Column, Table
from elattn_bench.units import (
    TIME_UNITS,
    format_bytes,
    format_latency,
    format_length,
    scaled,
    with_uncertainty,
)
from elattn_bench.verdicts.best import fastest, smallest
from elattn_bench.verdicts.reference import Comparison, faster_from

Lines = Mapping[str, Sequence[Comparison]]
"""The comparisons of one facet by the label of their line, lengths ascending."""

_NO_UNITS: Mapping[int, str] = {}


def by_facet_and_line(comparisons: Iterable[Comparison]) -> dict[Facet, Lines]:
    """The lines of each facet, in the order that the comparisons come in."""
    lines: defaultdict[Facet, defaultdict[str, list[Comparison]]] = defaultdict(lambda: defaultdict(list))
    for item in comparisons:
        lines[Facet.of(item.row)][item.row.label].append(item)
    return {facet: dict(facet_lines) for facet, facet_lines in lines.items()}


def reference_label(lines: Lines) -> str | None:
    """The line that is the reference; None where it cannot run at any size."""
    references = (item.reference for line in lines.values() for item in line if item.reference)
    return next((row.label for row in references if row.status != "unsupported"), None)


def speed_up_table(facet: Facet, reference: str, lines: Lines) -> Table:
    """How many times faster than the reference each line is, and from which length on it is faster."""

    def cell(item: Comparison) -> str:
        if item.row.label == reference and item.row.ok:
            return latency_cell(item.row)
        return format_estimate(item.speed_up) if item.speed_up else _missing_cell(item)

    shown = _rows(lines, lambda item: bool(item.speed_up))
    table = _length_table(f"Speed-up over {reference}: {facet.text}", lines, cell, _best(shown, fastest))
    verdicts = ["reference" if label == reference else str(faster_from(lines[label])) for label in lines]
    return replace(
        table,
        columns=[*table.columns, Column("faster from", "right")],
        rows=[[*row, verdict] for row, verdict in zip(table.rows, verdicts, strict=True)],
    )


def memory_ratio_tables(facet: Facet, reference: str, lines: Lines) -> list[Table]:
    """How much of the reference's peak memory each line needs; no table where no memory was measured."""

    def cell(item: Comparison) -> str:
        if item.row.label == reference and item.row.ok:
            return format_bytes(item.row.peak_memory_bytes)
        return format_ratio(item.memory_ratio) if item.memory_ratio else _missing_cell(item)

    if not any(item.row.peak_memory_bytes for line in lines.values() for item in line):
        return []
    shown = _rows(lines, lambda item: bool(item.memory_ratio))
    title = f"Peak memory over that of {reference}: {facet.text}"
    return [_length_table(title, lines, cell, _best(shown, smallest))]


def latency_table(facet: Facet, lines: Lines) -> Table:
    """The median latency of each line with its uncertainty; a column has one unit, so that it reads down."""
    rows = _rows(lines)
    units = {length: _unit(of_length) for length, of_length in _by_length(rows).items()}

    def cell(item: Comparison) -> str:
        return _latency_in(units[item.row.seq_len], item.row) if item.row.ok else _missing_cell(item)

    title = f"Median latency: {facet.text}"
    return _length_table(title, lines, cell, _best(rows, fastest), units)


def memory_tables(facet: Facet, lines: Lines) -> list[Table]:
    """The peak memory of each line; no table where none was measured."""

    def cell(item: Comparison) -> str:
        return format_bytes(item.row.peak_memory_bytes) if item.row.ok else _missing_cell(item)

    if not any(item.row.peak_memory_bytes for line in lines.values() for item in line):
        return []
    best = _best(_rows(lines), smallest)
    return [_length_table(f"Peak memory: {facet.text}", lines, cell, best)]


def latency_cell(row: Row) -> str:
    """The median latency with the digits that its interval supports."""
    return format_latency(row.latency_ms_p50, row.latency_ms_ci_low, row.latency_ms_ci_high)


def _latency_in(unit: str, row: Row) -> str:
    if row.latency_ms_p50 is None:
        return NO_NUMBER
    interval = (row.latency_ms_ci_low, row.latency_ms_ci_high)
    return with_uncertainty(*scaled(TIME_UNITS[unit], row.latency_ms_p50, *interval))


def _unit(rows: Iterable[Row]) -> str:
    """The smallest unit in which no latency has more than four digits before the point."""
    longest = max(row.latency_ms_p50 or 0.0 for row in rows)
    return next((unit for unit, factor in TIME_UNITS.items() if factor * longest < 1e4), "s")


def _length_table(
    title: str,
    lines: Lines,
    cell: Callable[[Comparison], str],
    best: Collection[str],
    units: Mapping[int, str] = _NO_UNITS,
) -> Table:
    lengths = sorted({item.row.seq_len for line in lines.values() for item in line})
    columns = {length: index for index, length in enumerate(lengths, 1)}
    rows = [[label, *[NO_NUMBER] * len(lengths)] for label in lines]
    strong = set()
    for i, line in enumerate(lines.values()):
        for item in line:
            column = columns[item.row.seq_len]
            rows[i][column] = cell(item)
            if item.row.case_id in best:
                strong.add((i, column))
    headings = [
        f"{format_length(length)} [{units[length]}]" if length in units else format_length(length)
        for length in lengths
    ]
    titles = [Column("impl"), *(Column(heading, "right", group="L") for heading in headings)]
    return Table(title, titles, rows, best=frozenset(strong))


def _rows(lines: Lines, wanted: Callable[[Comparison], bool] = lambda item: True) -> list[Row]:
    """The measured rows that show a number."""
    return [item.row for line in lines.values() for item in line if item.row.ok and wanted(item)]


def _best(rows: Iterable[Row], choose: Callable[[Iterable[Row]], frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*map(choose, _by_length(rows).values()))


def _by_length(rows: Iterable[Row]) -> dict[int, list[Row]]:
    lengths: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        lengths[row.seq_len].append(row)
    return lengths


def _missing_cell(item: Comparison) -> str:
    """``oom``, ``timeout``, ``error``; ``ref oom`` where the reference is what failed; ``-`` for the rest."""
    shown = item.missing.replace("reference ", "ref ")
    return shown if shown.removeprefix("ref ") in ("oom", "timeout", "error") else NO_NUMBER
