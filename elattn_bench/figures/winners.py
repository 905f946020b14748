"""Who wins where: a map over length and dimension, the cheapest implementation in every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.analysis import DEFAULT_ORDER
from elattn_bench.figures.header import describe, draw_header, header_height
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.palette import CONTRAST, contrast, ink, mixed
from elattn_bench.figures.sheet import EDGE, NARROW, Sheet
from elattn_bench.figures.style import FONT, Line, Style, assign_styles, evenly, set_ticks
from elattn_bench.rundir import Run
from elattn_bench.units import format_length, significant
from elattn_bench.verdicts.winners import Winner, WinnerMap, winner_maps

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_HEIGHT = 0.36  # inches, as all that follow, at scale 1: a marker and a number below it
HIGHEST_CELL = 0.6  # in a figure of fixed height
LEFT, RIGHT = 0.42, 0.1  # tick labels
TITLE, TICKS = 0.28, 0.46  # above and below a panel
TINT = 0.45  # of the line's colour over the ground; less where numbers could not be read on it
SMALLEST, LARGEST = 6.0, 7.0  # points: letters in the cells
BESIDE = 1.0  # points that a cell keeps free beside its letters
HATCH = "////"
HEAD = "The cheapest implementation at each length and dimension"
TITLES = {"latency": "lowest latency", "memory": "lowest peak memory"}


def draw_winners(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, batch and number of heads with two lengths and two dimensions at least."""
    styles = assign_styles(map(Line.of, run.rows), look)
    memory = {_place(found): found for found in winner_maps(run, "memory")}
    maps = winner_maps(run, "latency")
    for found in maps:
        beside = memory.get(_place(found))
        several = sum(other.setting == found.setting for other in maps) > 1
        suffix = f"-batch{found.batch}-heads{found.heads}" if several else ""
        yield (
            f"winners-{found.setting.file_part}{suffix}",
            _draw(run, look, [found, *filter(None, [beside])], styles),
        )


def _place(found: WinnerMap) -> tuple[object, ...]:
    return (found.setting, found.batch, found.heads)


@dataclass(frozen=True, slots=True)
class _Cells:
    """What all maps of a figure share: the lengths shown of all, the size of letters at scale 1, in points."""

    lengths: Sequence[int]
    every: int
    size: float

    @classmethod
    def of(cls, maps: Sequence[WinnerMap], width: float, look: Look) -> _Cells:
        """As many lengths as fit with the smallest letters, and then as large letters as fit."""
        every = sorted({length for found in maps for length in found.lengths})
        longest = max(_width(_words(cell)) for found in maps for cell in found.cells.values())
        most = int(width * 72 / (longest * look.room_points(SMALLEST) + BESIDE))
        lengths = evenly(every, max(2, most))
        fitting = (width * 72 / len(lengths) - BESIDE) / longest
        return cls(lengths, len(every), min(look.room_points(LARGEST), fitting))

    @property
    def left_out(self) -> str:
        """How many lengths are shown, where not all are."""
        shown = len(self.lengths)
        return f"Shown: {shown} of {self.every} lengths." if shown < self.every else ""


def _draw(run: Run, look: Look, maps: Sequence[WinnerMap], styles: Mapping[str, Style]) -> Figure:
    columns = len(maps) if look.room >= NARROW else 1
    rows, dims = -(-len(maps) // columns), max(len(found.dims) for found in maps)
    pitch = (look.room - EDGE) / columns
    cells = _Cells.of(maps, pitch - LEFT - RIGHT, look)
    sizes = [f"heads {maps[0].heads}", f"batch {maps[0].batch}"]
    remarks = describe(run, maps[0].setting, sizes, [*_sentences(maps), cells.left_out], look)
    top = header_height(remarks, look, HEAD)
    handles = _handles(maps, styles, look)
    others = top + rows * (TITLE + TICKS) + legend_height(labels_of(handles), look)
    height = dims * _cell_height(look, others, rows * dims)
    sheet = Sheet.of(look, others + rows * height)
    for number, found in enumerate(maps):
        row, column = divmod(number, columns)
        upper = top + TITLE + row * (TITLE + height + TICKS)
        axes = sheet.axes(EDGE + column * pitch + LEFT, upper, pitch - LEFT - RIGHT, height)
        _draw_map(axes, found, cells, styles, look)
        sheet.head(axes, f"dim D, {TITLES[found.metric]}")
    draw_header(sheet.figure, HEAD, remarks, look)
    draw_handles(sheet.figure, handles, look)
    return sheet.figure


def _cell_height(look: Look, others: float, cells: int) -> float:
    """Inches; in a figure of fixed height what others leave to so many below each other, within limits."""
    free = (look.room_height or 0.0) - others
    return max(CELL_HEIGHT, min(HIGHEST_CELL, free / cells))


def _sentences(maps: Sequence[WinnerMap]) -> list[str]:
    cells = [cell for found in maps for cell in found.cells.values()]
    numbers = f"Numbers: the cost of {maps[0].reference} over the winner's, or what became of it."
    return [
        numbers if any(cell.reference for cell in cells) else "",
        "Hatched, ~: not clear, for intervals overlap or a row was disturbed."
        if any(not cell.clear for cell in cells)
        else "",
        "In brackets: nothing else was measured." if any(not cell.rivals for cell in cells) else "",
        f"Of several orders the one nearest to {DEFAULT_ORDER} competes.",
        "What is cheap need not be as good.",
    ]


def _words(cell: Winner) -> str:
    """``12x``, ``~1.1x``; what became of the reference where it has no number; in brackets without rivals."""
    lost = "" if cell.reference == "ok" else cell.reference
    number = lost if cell.gain is None else f"{_two_digits(cell.gain)}x"
    words = number if cell.clear else f"~{number}"
    return words if cell.rivals else f"({words})"


def _width(words: str) -> float:
    """As a share of the letters' size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FONT, size=100)
    return float(text_to_path.get_text_width_height_descent(words, font, ismath=False)[0]) / 100


def _two_digits(gain: float) -> str:
    return significant(gain, 2) if gain < 99.5 else f"{gain:.0f}"


def _draw_map(axes: Axes, found: WinnerMap, cells: _Cells, styles: Mapping[str, Style], look: Look) -> None:
    """Cells in columns of lengths and rows of dimensions, as far apart as they are in number."""
    lengths, dims = cells.lengths, found.dims
    axes.set_xlim(-0.5, len(lengths) - 0.5)
    axes.set_ylim(-0.5, len(dims) - 0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    set_ticks(axes, "x", range(len(lengths)), [format_length(length) for length in lengths])
    set_ticks(axes, "y", range(len(dims)), [str(dim) for dim in dims])
    axes.set_xlabel("sequence length L (tokens)")
    for (length, dim), cell in found.cells.items():
        if length in lengths:
            place = (lengths.index(length), dims.index(dim))
            _draw_cell(axes, place, cell, styles[cell.row.label], cells.size, look)


def _draw_cell(
    axes: Axes, place: tuple[int, int], cell: Winner, style: Style, size: float, look: Look
) -> None:
    from matplotlib.patches import Rectangle

    column, row = place
    axes.add_patch(
        Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=tint(style.color, look), linewidth=1.2 * look.scale,
            edgecolor=look.ground, zorder=1,
        )
    )  # fmt: skip
    if not cell.clear:
        axes.add_patch(
            Rectangle(
                (column - 0.46, row - 0.44), 0.92, 0.88, fill=False, hatch=HATCH, linewidth=0, zorder=1.5,
                edgecolor=look.ground, alpha=0.55,
            )
        )  # fmt: skip
    axes.plot(
        [column], [row + 0.22], marker=style.marker, markersize=4.5 * look.scale, zorder=3,
        color=ink(style.color, look), markeredgecolor=look.ground, markeredgewidth=0.5 * look.scale,
        linestyle="none", label="_cell",
    )  # fmt: skip
    axes.text(
        column, row - 0.2, _words(cell), ha="center", va="center", fontsize=look.points(size), zorder=4,
        color=look.ink,
    )  # fmt: skip


def tint(color: str, look: Look) -> str:
    """The colour, thinned with the ground's until letters can be read on it."""
    share = TINT
    while contrast(mixed(look.ground, color, share), look.ink) < CONTRAST:
        share -= 0.05
    return mixed(look.ground, color, share)


def _handles(maps: Sequence[WinnerMap], styles: Mapping[str, Style], look: Look) -> list[Artist]:
    from matplotlib.lines import Line2D

    lines = sorted({Line.of(row) for found in maps for row in found.winners})
    return [
        Line2D(
            [], [], color=tint(styles[line.label].color, look), linewidth=8 * look.scale, solid_capstyle="butt",
            marker=styles[line.label].marker, markersize=4.5 * look.scale, label=line.label,
            markerfacecolor=ink(styles[line.label].color, look), markeredgecolor=look.ground,
        )
        for line in lines
    ]  # fmt: skip
