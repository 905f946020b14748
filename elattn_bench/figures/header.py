"""What stands above every figure: what it shows, on which device, from which run, at which sizes."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from elattn_bench.analysis import Facet, Setting, select, short_status
from elattn_bench.figures.look import README, Look
from elattn_bench.hosts import device_names, hosts_text
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from elattn_bench.quality.rundir import QualityRun

EDGE = 0.1  # inches between the figure's edge and its text
TITLE = 0.24  # inches: the title's line
LINE = 0.15  # inches: a line below it
LETTERS = 16.5  # of a line that fit into an inch
TITLE_LETTERS = 10.0  # of a title


def describe(
    run: Run, setting: Setting, sizes: Sequence[str], remarks: Sequence[str], look: Look = README
) -> list[str]:
    """The lines below a title: device, run and hosts, then what is held fixed and how to read the figure."""
    measured = select(run.rows, device_type=setting.device_type)
    origin = ", ".join(filter(None, [f"run {run.name}", hosts_text(measured)]))
    fixed = ", ".join([f"{setting.level} level", *setting.text.split(", ")[1:], *sizes])
    return compose(replace(run, rows=measured), origin, f"{fixed}.", remarks, look)


def compose(
    run: Run | QualityRun, origin: str, fixed: str, remarks: Sequence[str], look: Look = README
) -> list[str]:
    """The lines below a title: the run's device and the origin of the rows, then what is shown and the remarks.

    As many remarks as the look has: all, or none.
    """
    few = look.remarks == "few"
    source = device_of(run) if few else f"{device_of(run)}; {origin}"
    return [*_wrap(source, look), *_wrap(" ".join([fixed, *filter(None, [] if few else remarks)]), look)]


def _wrap(text: str, look: Look) -> list[str]:
    """The lines of a text above the panels; one of a caption, which the paper wraps."""
    if look.remarks == "none":
        return [text]
    letters = int(LETTERS * (look.room - 2 * EDGE))
    bound = text.replace(" %", "\u00a0%")  # no line begins with a unit; names hold hyphens
    return textwrap.wrap(bound, letters, break_on_hyphens=False)


def device_of(run: Run | QualityRun) -> str:
    """The device's name, with the threads where it is a CPU; those of a cluster, where rows name others."""
    named = device_names(run.rows) if isinstance(run, Run) else []
    if named and named != [run.device_name]:
        return " and ".join(named)
    threads = run.info.get("environment", {}).get("threads")
    on_cpu = bool(run.rows) and run.rows[0].device == "cpu"
    return f"{run.device_name}, {counted(threads, 'thread')}" if threads and on_cpu else run.device_name


def sizes_of(facet: Facet) -> list[str]:
    """``heads 8``, ``batch 1``, ``dim 256``."""
    return [f"heads {facet.heads}", f"batch {facet.batch}", f"dim {facet.dim}"]


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


def header_height(lines: Sequence[str], look: Look = README, title: str = "") -> float:
    """The height of title and lines, in inches at scale 1; without its own title a figure's takes one line."""
    shown = title if look.title is None else look.title
    titles = max(1, len(_title_lines(shown, look))) if _has_title(look) else 0
    return EDGE + TITLE * titles + (LINE * len(lines) if look.remarks != "none" else 0)


def draw_header(figure: Figure, title: str, lines: Sequence[str], look: Look = README) -> None:
    """Write the title and the lines at the upper left; or keep them as the figure's caption."""
    if look.remarks == "none":
        sentences = [look.title or title, *lines]
        figure.set_label(" ".join(f"{sentence.rstrip('.')}." for sentence in sentences))
    top = EDGE
    for line in _title_lines(title if look.title is None else look.title, look) if _has_title(look) else []:
        _write(figure, look, top, line, 10, fontweight="bold")
        top += TITLE
    for line in lines if look.remarks != "none" else []:
        _write(figure, look, top, line, 7.5, color=look.muted)
        top += LINE


def caption(figure: Figure) -> str:
    """What a figure for print leaves to the paper's caption; empty if it says all itself."""
    return str(figure.get_label() or "")


def _has_title(look: Look) -> bool:
    """Whether a title stands above the panels: in print only one that was asked for."""
    return look.title != "" and (look.title is not None or look.remarks != "none")


def _title_lines(title: str | None, look: Look) -> list[str]:
    return textwrap.wrap(title or "", int(TITLE_LETTERS * (look.room - 2 * EDGE)))


def _write(figure: Figure, look: Look, top: float, text: str, size: float, **how: Any) -> None:
    """A line of text, so many inches (at scale 1) below the upper edge."""
    width, height = figure.get_size_inches() / look.scale
    # Names may hold anything, so no mathematics is read into them.
    figure.text(
        EDGE / width, 1 - top / height, text, fontsize=look.points(size), va="top", parse_math=False, **how
    )
