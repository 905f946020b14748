"""What stands above every figure: what it shows, on which device, from which run, at which sizes."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from elattn_bench.analysis import Setting, short_status
from elattn_bench.figures.style import GREY
from elattn_bench.results import Row
from elattn_bench.rundir import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGE = 0.1  # inches between the figure's edge and its text
TITLE = 0.24  # inches: the title's line
LINE = 0.15  # inches: a line below it
LETTERS = 128  # that fit into a line


def describe(run: Run, setting: Setting, sizes: Sequence[str], remarks: Sequence[str]) -> list[str]:
    """The lines below a title: device and run, then what is held fixed and how to read the figure."""
    environment = run.info.get("environment", {})
    threads = environment.get("threads") if run.rows[0].device == "cpu" else None
    device = f"{run.device_name}, {threads} threads" if threads else run.device_name
    fixed = ", ".join([f"{setting.level} level", *setting.text.split(", ")[1:], *sizes])
    text = " ".join([f"{fixed}.", *filter(None, remarks)])
    wrapped = textwrap.wrap(text, LETTERS, break_on_hyphens=False)  # names hold hyphens
    return [*textwrap.wrap(f"{device}; run {run.name}", LETTERS), *wrapped]


def mark_legend(rows: Iterable[Row]) -> str:
    """What the marks at the upper edge mean, where there are any."""
    lost = {short_status(row.status) for row in rows}
    meanings = {"oom": "Open marks: out of memory.", "timeout": "Crossed marks: over the time limit."}
    return " ".join(meaning for status, meaning in meanings.items() if status in lost)


def unsupported_legend(rows: Iterable[Row]) -> str:
    """Which lines have no point because nothing of them runs here, if any."""
    statuses: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        statuses[row.label].add(row.status)
    absent = [label for label, found in statuses.items() if found == {"unsupported"}]
    return f"Unsupported: {', '.join(absent)}." if absent else ""


def same_state_legend(rows: Iterable[Row]) -> str:
    """Which lines of the state cover each other, for their states are of one size, if any."""
    sizes: defaultdict[str, set[tuple[int, ...]]] = defaultdict(set)
    for row in rows:
        if row.ok and row.state_bytes:
            sizes[row.label].add((row.batch, row.heads, row.dim, row.seq_len, row.state_bytes))
    alike: defaultdict[frozenset[tuple[int, ...]], list[str]] = defaultdict(list)
    for label, found in sizes.items():
        alike[frozenset(found)].append(label)
    groups = [", ".join(sorted(labels)) for labels in alike.values() if len(labels) > 1]
    return f"States of one size: {'; '.join(groups)}." if groups else ""


def header_height(lines: Sequence[str]) -> float:
    """The height of title and lines, in inches."""
    return EDGE + TITLE + LINE * len(lines)


def draw_header(figure: Figure, title: str, lines: Sequence[str]) -> None:
    """Write the title and the lines at the upper left."""
    width, height = figure.get_size_inches()
    left = EDGE / width
    figure.text(left, 1 - EDGE / height, title, fontsize=10, fontweight="bold", va="top")
    for number, line in enumerate(lines):
        top = EDGE + TITLE + LINE * number
        # Names may hold anything, so no mathematics is read into them.
        figure.text(left, 1 - top / height, line, fontsize=7.5, color=GREY, va="top", parse_math=False)
