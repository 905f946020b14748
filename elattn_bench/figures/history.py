"""The figure of a history: a small panel per line of cases, the runs along it, changes marked."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elattn_bench.figures.files import save
from elattn_bench.figures.header import caption, compose, draw_header, header_height
from elattn_bench.figures.history_panel import (
    Panel,
    draw_control,
    draw_panel,
    handles_of,
    label,
    panels_of,
    title_of,
)
from elattn_bench.figures.legend import draw_handles, legend_height
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.sheet import LOWEST, Sheet
from elattn_bench.figures.style import evenly, house_style
from elattn_bench.units import format_length
from elattn_bench.verdicts.history import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEMS = {"latency": "history", "memory": "history-memory"}
MOST_PANELS = 12  # a page; more are too small or too far apart to be compared
MOST_COLUMNS, MOST_ROWS = 3, 6
ROOM_FOR_CONTROL = 6  # panels: with fewer, lines come first
MOST_LENGTHS = 5  # shades of one colour that are told apart
NAME_LETTERS = 12  # of a run's name
LEFT, RIGHT, GAP = 0.5, 0.12, 0.5  # inches, as all that follow, at scale 1: tick labels, edge, between panels
PANEL_HEIGHT = 1.05
TITLE, TITLE_LINE = 0.2, 0.12  # above a panel: the space, and each line of its title
NARROWEST = 1.3  # a panel
NAME_ROOM = 0.12  # along the axis, of the name of a run
LETTER, TITLE_LETTER = 0.062, 0.06  # mean width of a letter in a run's name, and in a title
BELOW = 0.14  # the names of runs


def plot_history(
    found: History,
    formats: Sequence[str],
    out_dir: Path,
    look: Look = README,
    say: Callable[[str], object] | None = None,
) -> list[Path]:
    """Draw the figure, and return the files written.

    Args:
        formats: out of ``png``, ``svg``, ``pdf``.
        say: is told the caption of a figure that leaves it to the paper.

    Raises:
        RunDirError: the disk refuses.
    """
    with house_style(look):
        figure = draw_history(found, look)
    stem = STEMS[found.metric]
    written = [out_dir / f"{stem}.{suffix}" for suffix in formats]
    for path in written:
        save(figure, path, look)
    if say and caption(figure):
        say(f"{stem}: {caption(figure)}")
    return written


def draw_history(found: History, look: Look = README) -> Figure:
    """The figure: values relative to each case's first run, runs along the horizontal axis."""
    page = _Page.of(found, look)
    layout = page.layout
    sheet = Sheet.of(look, layout.height)
    names = _names(found)
    for index, title in enumerate(layout.titles):
        axes = sheet.axes(*layout.place(index))
        if index < len(page.shown):
            draw_panel(axes, page.shown[index], page.lengths, look, found.machine_changed)
        else:
            draw_control(axes, found, look)
        named = names if index + layout.columns >= len(layout.titles) else [""] * len(names)
        label(axes, named, int(layout.width / NAME_ROOM), title, look)
    draw_header(sheet.figure, _title(found), page.header, look)
    draw_handles(sheet.figure, handles_of(page.lengths, look), look)
    return sheet.figure


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where panels stand, in inches at scale 1. titles: of all panels, wrapped."""

    look: Look
    top: float
    columns: int
    titles: Sequence[str]
    names: float
    legend: float

    @classmethod
    def of(
        cls, titles: Sequence[str], top: float, found: History, lengths: Sequence[int], look: Look
    ) -> _Layout:
        columns = min(_columns(look), len(titles))
        names = LETTER * max(map(len, _names(found))) + BELOW
        legend = legend_height([f"L = {format_length(length)}" for length in lengths], look)
        empty = cls(look, top, columns, (), names, legend)
        letters = int((empty.width + RIGHT) / TITLE_LETTER)
        wrapped = ["\n".join(textwrap.wrap(title, letters, break_on_hyphens=False)) for title in titles]
        return cls(look, top, columns, wrapped, names, legend)

    @property
    def rows(self) -> int:
        return -(-len(self.titles) // self.columns)

    @property
    def above(self) -> float:
        """A panel: its title."""
        return TITLE + TITLE_LINE * max(1 + title.count("\n") for title in self.titles)

    @property
    def others(self) -> float:
        """The height of all that is no panel and no title of one."""
        return self.top + self.names + self.legend

    @property
    def panel_height(self) -> float:
        free = (self.look.room_height or 0.0) - self.others
        return max(LOWEST, free / self.rows - self.above) if self.look.room_height else PANEL_HEIGHT

    @property
    def height(self) -> float:
        return self.others + self.rows * (self.above + self.panel_height)

    @property
    def width(self) -> float:
        """Of a panel."""
        return (self.look.room - LEFT - RIGHT - GAP * (self.columns - 1)) / self.columns

    @property
    def capacity(self) -> int:
        """How many panels the look holds below and beside each other."""
        rows = MOST_ROWS
        if self.look.room_height:
            rows = max(1, int((self.look.room_height - self.others) / (self.above + LOWEST)))
        return min(MOST_PANELS, rows * self.columns)

    def place(self, index: int) -> tuple[float, float, float, float]:
        """Left, top, width and height of a panel."""
        row, column = divmod(index, self.columns)
        upper = self.top + self.above + row * (self.above + self.panel_height)
        return LEFT + column * (self.width + GAP), upper, self.width, self.panel_height


def _columns(look: Look) -> int:
    return max(1, min(MOST_COLUMNS, int((look.room - LEFT - RIGHT + GAP) / (NARROWEST + GAP))))


@dataclass(frozen=True, slots=True)
class _Page:
    """What is shown: lines of cases, of them so many lengths; the lines of the header; and where all stands."""

    shown: Sequence[Panel]
    lengths: Sequence[int]
    header: Sequence[str]
    layout: _Layout

    @classmethod
    def of(cls, found: History, look: Look) -> _Page:
        """The page of all panels; where the look does not hold them, of those that changed most."""
        every = panels_of(found)
        whole = cls._showing(every, len(every), found, look, control=_has_control(found))
        most = whole.layout.capacity
        if len(whole.layout.titles) <= most:
            return whole
        control = _has_control(found) and most >= ROOM_FOR_CONTROL
        return cls._showing(every, most - control, found, look, control=control)

    @classmethod
    def _showing(
        cls, every: Sequence[Panel], count: int, found: History, look: Look, *, control: bool
    ) -> _Page:
        shown = every[:count]
        lengths = evenly({case.latest.seq_len for panel in shown for case in panel.cases}, MOST_LENGTHS)
        header = _header(found, every, shown, lengths, look)
        titles = [title_of(panel, every) for panel in shown] + ["the control case"] * control
        top = header_height(header, look, _title(found))
        return cls(shown, lengths, header, _Layout.of(titles, top, found, lengths, look))


def _has_control(found: History) -> bool:
    return found.metric == "latency" and any(found.speeds)


def _names(found: History) -> list[str]:
    """The runs' names, short."""
    names = [run.name for run in found.runs]
    return [name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 2]}.." for name in names]


def _title(found: History) -> str:
    return f"{'Latency' if found.metric == 'latency' else 'Peak memory'} over {len(found.runs)} runs"


def _header(
    found: History, every: Sequence[Panel], shown: Sequence[Panel], lengths: Sequence[int], look: Look
) -> list[str]:
    """What is shown of what, and how to read it."""
    names = [run.name for run in found.runs]
    what = "Median latency" if found.metric == "latency" else "Peak memory"
    fixed = f"{what} over that of the first run, {names[0]} to {names[-1]}.{_left_out(every, shown, lengths)}"
    aside = any(case.course.outliers for panel in shown for case in panel.cases)
    remarks = [
        "Vertical lines: changes, with after/before.",
        "Starred: the machine changed too." if found.machine_changed else "",
        "Bars: 95 % intervals." if found.metric == "latency" else "",
        "Open marks: single runs set aside, for the next took them back." if aside else "",
    ]
    return compose(found.runs[-1], f"{len(names)} runs", fixed, remarks, look)


def _left_out(every: Sequence[Panel], shown: Sequence[Panel], lengths: Sequence[int]) -> str:
    hidden = every[len(shown) :]
    changed = sum(bool(panel.changes) for panel in hidden)
    panels = f" Not shown: {len(hidden)} of {len(every)} lines, {changed} of them changed." if hidden else ""
    count = len({case.latest.seq_len for panel in shown for case in panel.cases})
    return panels + (
        f" {count - len(lengths)} of {count} lengths are left out." if count > len(lengths) else ""
    )
