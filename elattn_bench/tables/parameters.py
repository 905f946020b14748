"""Tables of learned parameters: whole numbers, and what they are of the reference's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.tables.render import Column, Table
from elattn_bench.verdicts.reference import Comparison


def params_ratio_tables(comparisons: Iterable[Comparison]) -> list[Table]:
    """Parameters depend on the impl, the level and dim alone, so one table per level says it for every facet."""
    known = [item for item in comparisons if item.params_ratio is not None]
    return [
        _table(f"Learned parameters over those of {_reference(items)}, level {level}", items, _ratio_cell)
        for level, items in _by_level(known).items()
    ]


def params_tables(comparisons: Iterable[Comparison]) -> list[Table]:
    """The same as whole numbers, without a reference."""
    known = [item for item in comparisons if item.row.params]
    return [
        _table(f"Learned parameters, level {level}", items, lambda item: f"{item.row.params:,}")
        for level, items in _by_level(known).items()
    ]


def _by_level(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    levels: defaultdict[str, list[Comparison]] = defaultdict(list)
    for item in comparisons:
        levels[item.row.level].append(item)
    return levels


def _reference(items: Sequence[Comparison]) -> str:
    return next(item.reference.label for item in items if item.reference)


def _ratio_cell(item: Comparison) -> str:
    is_reference = item.reference is not None and item.row.label == item.reference.label
    return f"{item.row.params:,}" if is_reference else format_ratio(item.params_ratio)


def _table(title: str, items: Sequence[Comparison], cell: Callable[[Comparison], str]) -> Table:
    dims = sorted({item.row.dim for item in items})
    cells: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for item in items:
        cells[item.row.label].setdefault(item.row.dim, cell(item))
    columns = [Column("impl"), *(Column(f"dim {dim}", "right") for dim in dims)]
    rows = [[label, *(found.get(dim, NO_NUMBER) for dim in dims)] for label, found in cells.items()]
    return Table(title, columns, rows)
