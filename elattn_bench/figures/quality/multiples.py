"""Small multiples: a panel per task and form, lines along an axis, one legend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elattn_bench.figures.header import draw_header, header_height
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.quality.lines import BAND, Course, Spread, draw_course, ends_of
from elattn_bench.figures.quality.metrics import Metric, padded, score_ticks
from elattn_bench.figures.quality.styles import handle
from elattn_bench.figures.sheet import EDGE, LOWEST, NARROW, Sheet, panel_height
from elattn_bench.figures.style import Style, set_ticks, thin
from elattn_bench.quality.scores import TaskFacet
from elattn_bench.units import format_length

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS, MOST_ROWS = 3, 5
HEIGHT = 1.7  # inches, as all that follow, at scale 1
LONE_HEIGHT = 2.4  # of panels in one row
LEFT = 0.7
RIGHT = 0.14
TITLE = 0.32
TICKS = 0.48
TICK_ROOM = 0.34
TITLE_LETTER = 0.07  # mean width of a bold letter
LEGEND = 0.46  # what a legend of two rows needs
LOWEST_ROW = LOWEST + TITLE + TICKS
REFERENCE = "softmax"


@dataclass(frozen=True, slots=True)
class Panel:
    """The lines of a task and form; what they are compared with; a place on the axis that is marked.

    base: the score of softmax, which does not vary along the axis.
    """

    facet: TaskFacet
    metric: Metric
    courses: tuple[Course, ...]
    base: Spread | None = None
    marked: float | None = None


@dataclass(frozen=True, slots=True)
class Sheetful:
    """What all panels share: the title, the axis and whether it is logarithmic, what the mark means."""

    title: str
    axis: str
    is_log: bool = False
    mark: str = ""


def draw_multiples(
    about: Sheetful, panels: Sequence[Panel], lines: Sequence[str], styles: Mapping[str, Style], look: Look
) -> Iterator[tuple[str, Figure]]:
    """The panels side by side as far as there is room, then below each other, then in another figure.

    Each figure comes with what its file's name ends with: nothing, ``-2``.
    """
    columns = _columns(panels, look)
    rows = MOST_ROWS
    if look.room_height:
        rows = max(1, int((look.room_height - header_height(lines, look, about.title) - LEGEND) / LOWEST_ROW))
    for start in range(0, len(panels), columns * rows):
        end = f"-{1 + start // (columns * rows)}" if start else ""
        yield end, _draw(about, panels[start : start + columns * rows], lines, styles, look)


def _columns(panels: Sequence[Panel], look: Look) -> int:
    """As many side by side as leave room for their titles."""
    if look.room < NARROW:
        return 1
    widest = LEFT + TITLE_LETTER * max(len(panel.facet.text) for panel in panels)
    return max(1, min(MOST_COLUMNS, int((look.room - EDGE) / widest)))


def _draw(
    about: Sheetful, panels: Sequence[Panel], lines: Sequence[str], styles: Mapping[str, Style], look: Look
) -> Figure:
    columns = min(len(panels), _columns(panels, look))
    rows = -(-len(panels) // columns)
    handles = _handles(about, panels, styles, look)
    top, below = header_height(lines, look, about.title), legend_height(labels_of(handles), look)
    taken = top + below + rows * (TITLE + TICKS)
    height = panel_height(look, LONE_HEIGHT if rows == 1 else HEIGHT, taken, rows)
    sheet = Sheet.of(look, taken + rows * height)
    pitch = (look.room - EDGE) / columns
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        upper = top + TITLE + row * (TITLE + height + TICKS)
        size = (pitch - LEFT - RIGHT, height)
        axes = sheet.axes(EDGE + column * pitch + LEFT, upper, *size)
        _draw_panel(axes, about, panel, styles, size, look)
        sheet.head(axes, panel.facet.text)
    draw_header(sheet.figure, about.title, lines, look)
    draw_handles(sheet.figure, handles, look)
    return sheet.figure


def _draw_panel(
    axes: Axes, about: Sheetful, panel: Panel, styles: Mapping[str, Style], size: tuple[float, float], look: Look
) -> None:  # fmt: skip
    places = sorted({place for course in panel.courses for place in course.places})
    if about.is_log:
        axes.set_xscale("log", base=2)
    if panel.base:
        _draw_base(axes, panel.base, look)
    if panel.marked:
        axes.axvline(panel.marked, **_marked_look(look))
    for course in panel.courses:
        draw_course(axes, course, styles[course.label], look, marks=True)
    low, high = ends_of(panel.courses)
    if panel.base:
        low, high = min(low, panel.base.low), max(high, panel.base.high)
    axes.set_ylim(*padded(low, high))
    score_ticks(axes, panel.metric, size[1])
    ticks = thin(places, max(2, int(size[0] / TICK_ROOM)))
    set_ticks(axes, "x", ticks, [format_length(int(tick)) for tick in ticks])
    axes.set_xlabel(about.axis)
    axes.set_ylabel(panel.metric.axis(size[1]))


def _draw_base(axes: Axes, base: Spread, look: Look) -> None:
    axes.axhline(base.mean, **_base_look(look))
    if base.seeds > 1:
        axes.axhspan(base.low, base.high, color=look.ink, alpha=BAND, linewidth=0, zorder=1)


def _base_look(look: Look) -> dict[str, Any]:
    return {"color": look.ink, "linewidth": 1.0 * look.scale, "zorder": 1.5}


def _marked_look(look: Look) -> dict[str, Any]:
    return {"color": look.muted, "linewidth": 0.9 * look.scale, "linestyle": (0, (2, 1.5)), "zorder": 1}


def _handles(
    about: Sheetful, panels: Sequence[Panel], styles: Mapping[str, Style], look: Look
) -> list[Artist]:
    from matplotlib.lines import Line2D

    labels = list(dict.fromkeys(course.label for panel in panels for course in panel.courses))
    handles = [handle(label, styles[label], look, line=True) for label in labels]
    if any(panel.base for panel in panels):
        handles.append(Line2D([], [], label=REFERENCE, **_base_look(look)))
    if any(panel.marked for panel in panels):
        handles.append(Line2D([], [], label=about.mark, **_marked_look(look)))
    return handles
