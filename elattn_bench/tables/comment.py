"""Two runs as a comment on a pull request: Markdown that opens with the verdict and folds away the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.tables.changes import (
    SIZES,
    change_notes,
    change_table,
    changed,
    environment_tables,
    latency_cell,
    varying,
    verdict_text,
)
from elattn_bench.tables.headline import headline, memory_sentence, names, ratio_text
from elattn_bench.tables.render import Column, Table, escape_markdown, markdown_table
from elattn_bench.units import format_length
from elattn_bench.verdicts.runs import Change, machine_drift

LARGEST_COMMENT = 65_536  # characters: GitHub refuses a longer body of an issue's or pull request's comment
LONGEST_CELL = 300  # characters of one value of an environment; a comment is no place for more
ROOM_FOR_FRAMES = 1_000  # characters kept for headings, marks and the sentences that say what was cut
NEWS_SHARE = 0.6  # of the room that the table of changed cases may take; the rest is for that of all cases


def comment(changes: Sequence[Change], run: Run, other: Run, threshold: float) -> str:
    """Markdown of at most 65,536 characters: the verdict, the changed cases; folded away all cases and the rest."""
    lead = f"**{_marked_headline(changes, run, other, threshold)}**"
    below = [*_environments(run, other), _folded("How to read this", _notes(changes, run, other, threshold))]
    room = LARGEST_COMMENT - ROOM_FOR_FRAMES - len(lead) - sum(map(len, below))
    news = _news(changed(changes, threshold), int(NEWS_SHARE * room))
    whole = cut(change_table("", changes), room - len(news))
    return "\n\n".join([lead, news, _folded(f"All {len(changes)} cases", whole), *below]) + "\n"


def _marked_headline(changes: Sequence[Change], run: Run, other: Run, threshold: float) -> str:
    """The verdict with the runs' names, which are marked up already, in their places."""
    a, b = map(code, names((run, other)))
    drift = max(machine_drift(run), machine_drift(other))
    text = escape_markdown(headline(changes, "\0a", "\0b", threshold, drift))
    return text.replace("\0a", a).replace("\0b", b)


def code(name: str) -> str:
    """A name as Markdown shows it, whatever it holds: in a span of code nobody is mentioned and nothing is a link."""
    return "`" + " ".join(name.replace("`", "'").split()) + "`"


def _news(news: Sequence[Change], room: int) -> str:
    if not news:
        return "No case changed."
    words = varying([item.row for item in news])
    columns = [
        Column("impl"), Column("case"), Column("A", "right"), Column("B", "right"), Column("B/A", "right"),
        Column("verdict"),
    ]  # fmt: skip
    cells = [
        [
            item.row.label, _case(item.row, words), latency_cell(item.before), latency_cell(item.after),
            ratio_text(item.latency), _told(item),
        ]
        for item in news
    ]  # fmt: skip
    return cut(Table("", columns, cells), room)


def _case(row: Row, words: Mapping[str, Callable[[Row], str]]) -> str:
    """``forward, dim 256, L 4k``: what tells the case from the others of the table."""
    told = [f"{name} {word(row)}" if name in SIZES else word(row) for name, word in words.items()]
    return ", ".join([*told, f"L {format_length(row.seq_len)}"])


def _told(item: Change) -> str:
    """The verdict, and memory where it is another."""
    return ", ".join(filter(None, (verdict_text(item), memory_sentence(item))))


def _environments(run: Run, other: Run) -> list[str]:
    return [
        _folded("What differs in the environments", markdown_table(_clipped(table)))
        for table in environment_tables(["A", "B"], run, other)
    ]


def _clipped(table: Table) -> Table:
    cells = [[" ".join(cell.split())[:LONGEST_CELL] for cell in row] for row in table.rows]
    return replace(table, rows=cells)


def _notes(changes: Sequence[Change], run: Run, other: Run, threshold: float) -> str:
    return "\n\n".join(map(escape_markdown, change_notes(changes, (run, other), threshold)))


def _folded(summary: str, body: str) -> str:
    return f"<details>\n<summary>{summary}</summary>\n\n{body}\n\n</details>"


def cut(table: Table, room: int) -> str:
    """The table in Markdown, of about so many characters at most; where rows are left out a sentence says so."""
    lines = markdown_table(table).splitlines()
    fits = max(0, room // (len(max(lines, key=len)) + 1) - 2)  # two lines are headings
    if fits >= len(table.rows):
        return "\n".join(lines)
    kept = markdown_table(replace(table, rows=table.rows[:fits]))
    return (
        f"{kept}\n\nThese are the first {fits} of {len(table.rows)}: a comment holds {LARGEST_COMMENT:,} characters. "
        "`--format csv` has all."
    )
