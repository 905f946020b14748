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


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; numbers stand right. ``wraps``: prose, which may take several lines."""

    title: str
    align: Literal["left", "right"] = "left"
    wraps: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A title, columns, and rows of text.

    pinned: how many leading columns name the row; they are repeated where a table is split.
    strong: cells (row, column) to set in bold on a terminal; the text alone says the same.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    pinned: int = 1
    strong: frozenset[tuple[int, int]] = frozenset()


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
    for table in report.tables:
        for part in fit(table, console.width):
            console.print(part.title, style="bold", markup=False, highlight=False)
            console.print(_rich_table(part), highlight=False)
            console.print()
    for note in report.notes:
        console.print(note, markup=False, highlight=False)


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
    for i, row in enumerate(table.rows):
        drawn.add_row(*(Text(text, "bold" if (i, j) in table.strong else "") for j, text in enumerate(row)))
    return drawn


def fit(table: Table, width: int) -> list[Table]:
    """The table in as many parts as the width needs; each repeats the pinned columns."""
    if any(column.wraps for column in table.columns):
        return [table]
    widths = [_column_width(table, index) for index in range(len(table.columns))]
    blocks = _blocks(widths, table.pinned, width)
    if len(blocks) == 1:
        return [table]
    pinned = list(range(table.pinned))
    return [
        _columns_of(table, pinned + block, f"{table.title} ({number} of {len(blocks)})")
        for number, block in enumerate(blocks, 1)
    ]


def _column_width(table: Table, index: int) -> int:
    return GAP + max(len(text) for text in [table.columns[index].title, *(row[index] for row in table.rows)])


def _blocks(widths: Sequence[int], pinned: int, width: int) -> list[list[int]]:
    """As few blocks of columns as fit beside the pinned ones, of about the same number of columns."""
    room = width + GAP - sum(widths[:pinned])
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
        strong=frozenset((row, indices.index(i)) for row, i in table.strong if i in indices),
    )


def _markdown(report: Report) -> str:
    tables = [f"**{escape_markdown(table.title)}**\n\n{markdown_table(table)}\n" for table in report.tables]
    lead, notes = ([f"{escape_markdown(each)}\n" for each in some] for some in (report.lead, report.notes))
    return "\n".join([*lead, *tables, *notes])


def markdown_table(table: Table) -> str:
    """The table without its title, as Markdown."""
    return _tabulate(table, "pipe", escape_markdown)


def escape_markdown(text: str) -> str:
    """The text as Markdown shows it: nothing in it is a mark."""
    for special in "\\|*_<`":
        text = text.replace(special, "\\" + special)
    return text


def _latex(report: Report) -> str:
    tables = (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{_escape_latex(table.title)}}}\n"
        f"{_tabulate(table, 'latex_booktabs', str)}\n"
        "\\end{table}\n"
        for table in report.tables
    )
    lead, notes = ([f"% {each}\n" for each in some] for some in (report.lead, report.notes))
    return "\n".join([*lead, *tables, *notes])


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{special: "\\" + special for special in "&%$#_{}"},
}  # fmt: skip


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _tabulate(table: Table, style: str, escape: Callable[[str], str]) -> str:
    from tabulate import tabulate

    return tabulate(
        [[escape(text) for text in row] for row in table.rows],
        headers=[escape(column.title) for column in table.columns],
        tablefmt=style,
        colalign=[column.align for column in table.columns] if table.rows else None,
        disable_numparse=True,
    )


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
