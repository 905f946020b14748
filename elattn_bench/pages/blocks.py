"""Generated blocks of a page.

A block stands between ``<!-- recipes -->`` and ``<!-- /recipes -->``; that of a run names it:
``<!-- verdicts: RUN -->``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from elattn_bench.tables.render import Table, escape_markdown, markdown_table

COMMAND = "python -m elattn_bench.pages"
RUNS = "docs/results"
WIDTH = 118  # characters of a quoted line, after its "> "

Writer = Callable[[Path], str]
"""From the path of a run, or of the repository where the block names none, to the block's text."""


def filled(text: str, root: Path, blocks: Mapping[str, Writer]) -> str:
    """The page with every block as it must be.

    Args:
        text: of the page; what stands outside of blocks is kept.
        root: of the repository, under which the committed runs lie.
        blocks: name of a block -> what writes it.
    """
    names = "|".join(blocks)
    block = re.compile(
        rf"<!-- (?P<name>{names})(?:: (?P<run>\S+))? -->\n.*?<!-- /(?P=name) -->", flags=re.DOTALL
    )

    def written(found: re.Match[str]) -> str:
        name, run = found["name"], found["run"]
        body = _body(blocks[name], run, root).strip()
        return f"<!-- {f'{name}: {run}' if run else name} -->\n\n{body}\n\n<!-- /{name} -->"

    return block.sub(written, text)


def _body(write: Writer, run: str | None, root: Path) -> str:
    path = root / RUNS / run if run else root
    return write(path) if path.is_dir() else f"*Not committed yet: `{RUNS}/{run}`.*"


def quoted(sentences: Iterable[str]) -> str:
    """The sentences as a quotation, a paragraph each."""
    return "\n>\n".join(textwrap.indent(wrapped(escape_markdown(each)), "> ") for each in sentences)


def wrapped(text: str) -> str:
    """Lines that part no name at its hyphens."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def titled(table: Table) -> str:
    """The table under its title."""
    return f"**{escape_markdown(table.title)}**\n\n{markdown_table(table).strip()}"


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Unpadded, so that a longer cell changes no other line."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
