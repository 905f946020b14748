"""Tables on a terminal, in Markdown, LaTeX, CSV or JSON. What stands in them is decided in ``reports``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from elattn_bench.names import check_names

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("table", "markdown", "latex", "csv", "json")
GAP = 2  # blanks between two columns on a terminal
STAR = "*{}"  # before a number, not after it: the digits of a column stay under one another


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; numbers stand right.

    wraps: prose, which may take several lines.
    group: what this heading and its neighbours' are values of, for formats that can say so: ``L``.
    """

    title: str
    align: Literal["left", "right"] = "left"
    wraps: bool = False
    group: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A title, columns, and rows of text.

    pinned: how many leading columns name the row; they are repeated where a table is split.
    strong: cells (row, column) to set in bold on a terminal; the text alone says the same.
    best: cells that are the best of their column: bold in every format, and with a * before them on a terminal
        or in a file that has no bold.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    pinned: int = 1
    strong: frozenset[tuple[int, int]] = frozenset()
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Report:
    """What a command found, in two forms: tables for people, and records for programs.

    records: one per case, with full precision; tidy, so every record has the same keys.
    notes: sentences below the tables.
    lead: sentences above them: the verdict, where there is one.
    """

    tables: Sequence[Table] = ()
    records: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    lead: Sequence[str] = ()


def show(report: Report, format: str, console: Console) -> None:
    """Put the report on the console; only ``table`` uses its width and styles.

    Raises:
        UsageError: the format is unknown.
    """
    check_names("format", [format], FORMATS)
    if format == "table":
        _show_tables(report, console)
    else:
        console.file.write(_TEXT_FORMATS[format](report))
        console.file.flush()


def _show_tables(report: Report, console: Console) -> None:
    for sentence in report.lead:
        console.print(sentence, style="bold", markup=False, highlight=False)
        console.print()
    styles = console.color_system is not None
    for table in report.tables:
        for part in fit(table if styles else map_best(table, STAR.format), console.width):
            console.print(_broken(part.title, console.width), style="bold", markup=False, highlight=False)
            console.print(_rich_table(part), highlight=False)
            console.print()
    for note in report.notes:
        console.print(note, markup=False, highlight=False)


def _broken(title: str, width: int) -> str:
    """A title that takes two lines, parted where it says what it is about."""
    return title if len(title) <= width else title.replace(": ", ":\n", 1)


def map_best(table: Table, mark: Callable[[str], str]) -> Table:
    """The table with the text of its best cells marked."""
    rows = [
        [mark(text) if (i, j) in table.best else text for j, text in enumerate(row)]
        for i, row in enumerate(table.rows)
    ]
    return replace(table, rows=rows)


def _rich_table(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, GAP - 1, 0, 0), pad_edge=False)
    for column in table.columns:
        overflow: Literal["fold", "ellipsis"] = "fold" if column.wraps else "ellipsis"
        drawn.add_column(
            Text(column.title), justify=column.align, no_wrap=not column.wraps, overflow=overflow
        )
    bold = table.strong | table.best
    for i, row in enumerate(table.rows):
        drawn.add_row(*(Text(text, "bold" if (i, j) in bold else "") for j, text in enumerate(row)))
    return drawn


def fit(table: Table, width: float, gap: float = GAP, measure: Callable[[str], float] = len) -> list[Table]:
    """The table in as many parts as the width needs; each repeats the pinned columns.

    Args:
        width: of a line, in the unit of ``measure``: characters, unless it measures otherwise.
        gap: room between two columns.
    """
    if any(column.wraps for column in table.columns):
        return [table]
    widths = [gap + max(map(measure, _column(table, index))) for index in range(len(table.columns))]
    blocks = _blocks(widths, table.pinned, width + gap)
    if len(blocks) == 1:
        return [table]
    pinned = list(range(table.pinned))
    return [
        _columns_of(table, pinned + block, f"{table.title} ({number} of {len(blocks)})")
        for number, block in enumerate(blocks, 1)
    ]


def _column(table: Table, index: int) -> list[str]:
    return [table.columns[index].title, *(row[index] for row in table.rows)]


def _blocks(widths: Sequence[float], pinned: int, width: float) -> list[list[int]]:
    """As few blocks of columns as fit beside the pinned ones, of about the same number of columns."""
    room = width - sum(widths[:pinned])
    columns = range(pinned, len(widths))
    for count in range(1, len(columns)):
        size = -(-len(columns) // count)
        blocks = [list(columns[start : start + size]) for start in range(0, len(columns), size)]
        if all(sum(widths[index] for index in block) <= room for block in blocks):
            return blocks
    return [[index] for index in columns] or [[]]


def _columns_of(table: Table, indices: Sequence[int], title: str) -> Table:
    return replace(
        table,
        title=title,
        columns=[table.columns[i] for i in indices],
        rows=[[row[i] for i in indices] for row in table.rows],
        strong=_moved(table.strong, indices),
        best=_moved(table.best, indices),
    )


def _moved(cells: frozenset[tuple[int, int]], indices: Sequence[int]) -> frozenset[tuple[int, int]]:
    return frozenset((row, indices.index(i)) for row, i in cells if i in indices)


def _markdown(report: Report) -> str:
    tables = [f"**{escape_markdown(table.title)}**\n\n{markdown_table(table)}\n" for table in report.tables]
    lead, notes = ([f"{escape_markdown(each)}\n" for each in some] for some in (report.lead, report.notes))
    return "\n".join([*lead, *tables, *notes])


def markdown_table(table: Table) -> str:
    """The table without its title, as Markdown."""
    from tabulate import tabulate

    escaped = [[escape_markdown(text) for text in row] for row in table.rows]
    return tabulate(
        map_best(replace(table, rows=escaped), "**{}**".format).rows,
        headers=[escape_markdown(column.title) for column in table.columns],
        tablefmt="pipe",
        colalign=[column.align for column in table.columns] if table.rows else None,
        disable_numparse=True,
    )


def escape_markdown(text: str) -> str:
    """The text as Markdown shows it: nothing in it is a mark."""
    for special in "\\|*_<`":
        text = text.replace(special, "\\" + special)
    return text


def _latex(report: Report) -> str:
    from elattn_bench.tables.latex import latex

    return latex(report)


def _csv(report: Report) -> str:
    if not report.records:
        return ""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(report.records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_value(value) for key, value in record.items()} for record in report.records)
    return text.getvalue()


def _csv_value(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _json(report: Report) -> str:
    return to_json({**report.about, "records": list(report.records), "notes": [*report.lead, *report.notes]})


def to_json(document: Any) -> str:
    """One JSON document, readable, with a line end."""
    return json.dumps(document, indent=2, allow_nan=False, default=str) + "\n"


_TEXT_FORMATS: Mapping[str, Callable[[Report], str]] = {
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
    "json": _json,
}
