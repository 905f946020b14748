"""Tables as LaTeX to paste into a paper: booktabs, a caption and a label each, never wider than a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from elattn_bench.tables.listings import NO_NUMBER
from elattn_bench.tables.render import Column, Report, Table, fit

PAGE_WIDTH = 335.0  # pt: a line of article at 10 pt is 345, and bold is a little wider than we count
GAP = 8.0  # pt between two columns: twice the \tabcolsep that we set
PAGE_ROWS = 40  # lines of \small on a page, with room for its caption
PACKAGES = "% Needs \\usepackage{booktabs} in the preamble."

_WIDTHS = {
    **dict.fromkeys(" .,:;'|il", 2.9), **dict.fromkeys("-ftrjs()[]", 3.6), **dict.fromkeys("mwMW", 7.7),
    "±": 11.0, "_": 5.0,
}  # fmt: skip
"""Points that characters of Computer Modern take at 9 pt, which is small; of a formula with the room around it."""
_WIDTH, _CAPITAL = 4.7, 6.7  # pt: of the other characters

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{special: "\\" + special for special in "&%$#_{}"},
    **{special: f"${special}$" for special in "<>|"},
    "±": r"$\pm$", "²": "$^2$", "³": "$^3$",
}  # fmt: skip
_MATHS = (
    (re.compile(r"^((?:\$<\$)?[\d.]+)x$"), r"\1$\\times$"),  # 1.5x
    (re.compile(r"(?<=\d) us$"), r" $\\mu$s"),
    (re.compile(r"\[us\]$"), r"[$\\mu$s]"),
    (
        re.compile(r"(?<=\d) (?=(?:\$\\mu\$s|ms|s|B|[KMGT]iB)$)"),
        r"\\,",
    ),  # no line ends between number and unit
    (re.compile(r"^L\\textasciicircum\{\}([\d.]+)$"), r"$L^{\1}$"),
    (re.compile(r" t=(\d+)"), r" $t=\1$"),
    (re.compile(r"(?<!\S)([LBDH])(?!\S)"), r"$\1$"),
)
"""What the text of a cell is as a formula."""


def latex(report: Report) -> str:
    """Every table as a ``table`` environment, in parts where it is too wide or too long; notes as comments."""
    parts = [
        page
        for table in report.tables
        for part in fit(table, PAGE_WIDTH, GAP, width)
        for page in _pages(part)
    ]
    labels = _labels([part.title for part in parts])
    tables = [_environment(part, label) for part, label in zip(parts, labels, strict=True)]
    lead, notes = ("".join(f"% {said}\n" for said in some) for some in (report.lead, report.notes))
    return "\n".join(filter(None, (lead, *([PACKAGES + "\n"] if tables else []), *tables, notes)))


def width(text: str) -> float:
    """How wide the text is on the page, in points: close enough to know what fits."""
    return sum(_WIDTHS.get(each, _CAPITAL if each.isupper() else _WIDTH) for each in text)


def _pages(table: Table) -> list[Table]:
    """The table in parts of as many rows as a page holds."""
    starts = range(0, len(table.rows), PAGE_ROWS)
    if len(starts) <= 1:
        return [table]
    return [
        replace(
            table,
            title=f"{table.title}, page {number}",
            rows=table.rows[start : start + PAGE_ROWS],
            best=frozenset((row - start, j) for row, j in table.best if start <= row < start + PAGE_ROWS),
        )
        for number, start in enumerate(starts, 1)
    ]


def _labels(titles: Sequence[str]) -> list[str]:
    r"""What ``\ref`` calls each table: its title in plain letters, with a number where two would be the same."""
    slugs = ["tab:" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles]
    return [
        slug if slugs.count(slug) == 1 else f"{slug}-{slugs[: index + 1].count(slug)}"
        for index, slug in enumerate(slugs)
    ]


def _environment(table: Table, label: str) -> str:
    lines = [
        r"\begin{table}", r"  \centering", r"  \small", rf"  \setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}",
        rf"  \caption{{{escape(table.title)}}}", rf"  \label{{{label}}}",
        rf"  \begin{{tabular}}{{{_alignment(table.columns)}}}", r"    \toprule",
        *(f"    {line}" for line in _heading(table.columns)), r"    \midrule",
        *(f"    {_row(table, index)}" for index in range(len(table.rows))),
        r"    \bottomrule", r"  \end{tabular}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _alignment(columns: Sequence[Column]) -> str:
    prose = sum(column.wraps for column in columns)
    return "".join(
        rf"p{{{0.7 / prose:.2f}\linewidth}}" if column.wraps else column.align[0] for column in columns
    )


def _heading(columns: Sequence[Column]) -> Iterator[str]:
    """The titles; above them the names of their groups, each over its own columns."""
    if any(column.group for column in columns):
        groups = [(name, [index for index, _ in found]) for name, found in _groups(columns)]
        yield _line([_over(name, len(indices)) for name, indices in groups])
        yield "".join(rf"\cmidrule(lr){{{i[0] + 1}-{i[-1] + 1}}}" for name, i in groups if name)
    yield _line([cell(column.title) for column in columns])


def _groups(columns: Sequence[Column]) -> Iterator[tuple[str, Iterator[tuple[int, Column]]]]:
    yield from groupby(enumerate(columns), key=lambda item: item[1].group)


def _over(name: str, columns: int) -> str:
    if not name:
        return " & ".join([""] * columns)
    return rf"\multicolumn{{{columns}}}{{c}}{{{cell(name)}}}"


def _row(table: Table, index: int) -> str:
    cells = [cell(text) for text in table.rows[index]]
    return _line(
        [rf"\textbf{{{text}}}" if (index, j) in table.best else text for j, text in enumerate(cells)]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def cell(text: str) -> str:
    """The text of a cell, its quantities as formulas: 1.5x, 3 us, L, t=6."""
    if text == NO_NUMBER:
        return "--"
    written = escape(text)
    for pattern, formula in _MATHS:
        written = pattern.sub(formula, written)
    return written


def escape(text: str) -> str:
    """The text as LaTeX prints it: nothing in it is a command."""
    return "".join(_SPECIAL.get(character, character) for character in text)
