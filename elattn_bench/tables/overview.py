"""From which length on each line is faster than the reference, at many sizes at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from elattn_bench.analysis import Facet, Setting, by_label
from elattn_bench.tables.by_length import Lines, reference_label
from elattn_bench.tables.listings import NO_NUMBER
from elattn_bench.tables.render import Column, Table
from elattn_bench.units import format_length
from elattn_bench.verdicts.reference import FasterFrom, faster_from

MOST_FACETS = 12  # tables of facets that a reader will look through, and columns of an overview
MOST_NUMBERS = 10_000  # cases in all those tables; more is no reading, and takes a minute to lay out
MOST_LINES = 500  # of an overview


def too_many(lines: Mapping[Facet, Lines]) -> bool:
    """Whether nobody would look through a table of each facet."""
    numbers = sum(len(line) for facet_lines in lines.values() for line in facet_lines.values())
    return len(lines) > MOST_FACETS or numbers > MOST_NUMBERS


def overview_tables(lines: Mapping[Facet, Lines]) -> list[Table]:
    """Per setting with many sizes at how many of them each line is faster, and from which length on.

    A few sizes are in the table of crossovers; one alone has a table of its own, unless there are too many of those.
    """
    settings: defaultdict[Setting, list[Facet]] = defaultdict(list)
    for facet, facet_lines in lines.items():
        if reference_label(facet_lines):
            settings[facet.setting].append(facet)
    tables = [_counted(lines, facets) for facets in settings.values() if len(facets) > MOST_FACETS]
    if too_many(lines):
        tables += [_of_one_size(lines, *facets) for facets in settings.values() if len(facets) == 1]
    return [table for table in tables if len(table.rows) <= MOST_LINES]


def how_to_see_one(lines: Mapping[Facet, Lines]) -> str:
    """The sentence that stands in for tables of too many facets."""
    return (
        f"Tables of each of the {len(lines)} combinations of sizes and settings would be too much to read; choose "
        f"some, for example with --where {_condition(lines)}, or take --format csv, which has every case."
    )


def _condition(lines: Mapping[Facet, Lines]) -> str:
    """The first facet as ``--where`` names it: the axes alone that vary; of one facet its first impl."""
    facets = list(lines)
    varying = [name for name in Facet._fields if len({getattr(facet, name) for facet in facets}) > 1]
    named = ",".join(f"{name}={str(getattr(facets[0], name)).lower()}" for name in varying)
    return named or f"impl={next(iter(lines[facets[0]].values()))[0].row.impl}"


def _of_one_size(lines: Mapping[Facet, Lines], facet: Facet) -> Table:
    reference, labels = _labels(lines, [facet])
    rows = [[label, str(faster_from(lines[facet][label]))] for label in labels]
    return Table(
        f"Faster than {reference}: {facet.setting.text}", [Column("impl"), Column("from L", "right")], rows
    )


def _counted(lines: Mapping[Facet, Lines], facets: Sequence[Facet]) -> Table:
    reference, labels = _labels(lines, facets)
    columns = [
        Column("impl"), Column("sizes", "right"), Column("always", "right"), Column("from a length", "right"),
        Column("lengths", "right"), Column("never", "right"),
    ]  # fmt: skip
    rows = [
        [label, *_counts(faster_from(lines[facet].get(label, ())) for facet in facets)] for label in labels
    ]
    title = f"At how many sizes faster than {reference}: {facets[0].setting.text}"
    return Table(title, columns, rows)


def _counts(verdicts: Iterable[FasterFrom]) -> list[str]:
    compared = [verdict for verdict in verdicts if verdict.compared]
    always = sum(verdict.always for verdict in compared)
    beginnings = [verdict.length for verdict in compared if verdict.length and not verdict.always]
    never = len(compared) - always - len(beginnings)
    return [str(len(compared)), str(always), str(len(beginnings)), _range(beginnings), str(never)]


def _range(lengths: Sequence[int]) -> str:
    ends = dict.fromkeys(format_length(end) for end in (min(lengths), max(lengths))) if lengths else ()
    return " to ".join(ends) or NO_NUMBER


def _labels(lines: Mapping[Facet, Lines], facets: Sequence[Facet]) -> tuple[str | None, list[str]]:
    """The reference, and the other lines in the order of people."""
    reference = reference_label(lines[facets[0]])
    firsts = {label: line[0].row for facet in facets for label, line in lines[facet].items()}
    return reference, [label for label in by_label(firsts.values()) if label != reference]
