"""Who wins where: a map over length and dimension, the cheapest implementation in every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.figures.grid import file_part
from elattn_bench.figures.look import Look
from elattn_bench.figures.sheet import (
    EDGE,
    NARROW,
    Sheet,
    describe,
    header_height,
    legend_height,
    letters,
    sheet_width,
)
from elattn_bench.figures.style import Line, Style, assign_styles, set_ticks
from elattn_bench.rundir import Run
from elattn_bench.units import format_length, significant
from elattn_bench.verdicts.winners import Winner, WinnerMap, winner_maps

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_HEIGHT = 0.36  # inches: a marker and a number below it
LEFT, RIGHT = 0.42, 0.1  # inches: tick labels
TITLE, TICKS = 0.28, 0.46  # inches above and below a panel
TINT = 0.45  # of the line's colour over the ground, so that numbers can be read on it
LETTER = 0.6  # mean width of a letter, as a share of its size
SMALLEST, LARGEST = 5.0, 7.0  # points: letters in the cells
HATCH = "////"
TITLES = {"latency": "lowest latency", "memory": "lowest peak memory"}


def draw_winners(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, batch and number of heads with two lengths and two dimensions at least."""
    styles = assign_styles(map(Line.of, run.rows))
    memory = {_place(found): found for found in winner_maps(run, "memory")}
    maps = winner_maps(run, "latency")
    for found in maps:
        beside = memory.get(_place(found))
        several = sum(other.setting == found.setting for other in maps) > 1
        suffix = f"-batch{found.batch}-heads{found.heads}" if several else ""
        yield (
            f"winners-{file_part(found.setting)}{suffix}",
            _draw(run, look, [found, *filter(None, [beside])], styles),
        )


def _place(found: WinnerMap) -> tuple[object, ...]:
    return (found.setting, found.batch, found.heads)


def _draw(run: Run, look: Look, maps: Sequence[WinnerMap], styles: Mapping[str, Style]) -> Figure:
    columns = len(maps) if sheet_width(look) >= NARROW else 1
    rows = -(-len(maps) // columns)
    title = "The cheapest implementation at each length and dimension"
    sizes = [f"heads {maps[0].heads}", f"batch {maps[0].batch}"]
    remarks = describe(run, maps[0].setting, sizes, _sentences(maps), look)
    top = header_height(title, remarks, look)
    height = CELL_HEIGHT * max(len(found.dims) for found in maps)
    handles = _handles(maps, styles, look)
    below = legend_height([str(handle.get_label()) for handle in handles], look)
    sheet = Sheet.of(look, top + rows * (TITLE + height + TICKS) + below)
    pitch = (sheet.width - EDGE) / columns
    width = pitch - LEFT - RIGHT
    size = _letters(maps, width)
    for number, found in enumerate(maps):
        row, column = divmod(number, columns)
        axes = sheet.axes(
            EDGE + column * pitch + LEFT, top + TITLE + row * (TITLE + height + TICKS), width, height
        )
        _draw_map(sheet, axes, found, styles, size)
    sheet.header(title, remarks)
    sheet.legend(handles)
    return sheet.figure


def _sentences(maps: Sequence[WinnerMap]) -> list[str]:
    cells = [cell for found in maps for cell in found.cells.values()]
    reference = maps[0].reference
    return [
        f"Numbers: the cost of {reference} over the winner's, or what became of it."
        if any(cell.reference for cell in cells)
        else "",
        "Hatched, with ~: not clear, the second best is as good within its interval, or one of the two was disturbed."
        if any(not cell.clear for cell in cells)
        else "",
        "In brackets: nothing else was measured there." if any(not cell.rivals for cell in cells) else "",
        "Attentions compute different things: this says what is cheap, not what is as good. Of several orders the "
        "one nearest to 6 competes.",
    ]


def _letters(maps: Sequence[WinnerMap], width: float) -> float:
    """The size of the cells' letters: as large as the longest allows."""
    longest = max(len(_words(cell)) for found in maps for cell in found.cells.values())
    cell = width * 72 / max(len(found.lengths) for found in maps)
    return max(SMALLEST, min(LARGEST, (cell - 2) / (max(longest, 1) * LETTER)))


def _words(cell: Winner) -> str:
    """``12x``, ``~1.1x``; what became of the reference where it has no number; in brackets without rivals."""
    lost = "" if cell.reference == "ok" else cell.reference
    number = lost if cell.gain is None else f"{_two_digits(cell.gain)}x"
    words = number if cell.clear else f"~{number}"
    return words if cell.rivals else f"({words})"


def _two_digits(gain: float) -> str:
    return significant(gain, 2) if gain < 99.5 else f"{gain:.0f}"


def _draw_map(sheet: Sheet, axes: Axes, found: WinnerMap, styles: Mapping[str, Style], size: float) -> None:
    """Cells in columns of lengths and rows of dimensions, as far apart as they are in number."""
    lengths, dims = found.lengths, found.dims
    axes.set_xlim(-0.5, len(lengths) - 0.5)
    axes.set_ylim(-0.5, len(dims) - 0.5)
    axes.grid(False)
    axes.tick_params(length=0)
    set_ticks(axes, "x", range(len(lengths)), [format_length(length) for length in lengths])
    set_ticks(axes, "y", range(len(dims)), [str(dim) for dim in dims])
    sheet.label_x(axes, "sequence length L (tokens)")
    sheet.head(axes, f"dim D, {TITLES[found.metric]}")
    for (length, dim), cell in found.cells.items():
        style = styles[cell.row.label]
        _draw_cell(sheet, axes, lengths.index(length), dims.index(dim), cell, style, size)


def _draw_cell(
    sheet: Sheet, axes: Axes, column: int, row: int, cell: Winner, style: Style, size: float
) -> None:
    from matplotlib.patches import Rectangle

    scale = sheet.look.scale
    axes.add_patch(
        Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=tint(style.color, sheet.look), linewidth=1.2 * scale,
            edgecolor=sheet.look.ground, zorder=1,
        )
    )  # fmt: skip
    if not cell.clear:
        axes.add_patch(
            Rectangle(
                (column - 0.46, row - 0.44), 0.92, 0.88, fill=False, hatch=HATCH, linewidth=0, zorder=1.5,
                edgecolor=sheet.look.ground, alpha=0.55,
            )
        )  # fmt: skip
    axes.plot(
        [column], [row + 0.22], marker=style.marker, markersize=4.5 * scale, zorder=3,
        color=letters(style.color, sheet.look), markeredgecolor=sheet.look.ground,
        markeredgewidth=0.5 * scale, linestyle="none", label="_cell",
    )  # fmt: skip
    axes.text(
        column, row - 0.2, _words(cell), ha="center", va="center", fontsize=size * scale, zorder=4,
        color=sheet.look.ink,
    )  # fmt: skip


def tint(color: str, look: Look) -> str:
    """The colour, thinned with the ground's until letters can be read on it."""
    from matplotlib.colors import to_hex, to_rgb

    mixed = [
        TINT * mine + (1 - TINT) * grounds
        for mine, grounds in zip(to_rgb(color), to_rgb(look.ground), strict=True)
    ]
    return to_hex((mixed[0], mixed[1], mixed[2]))


def _handles(maps: Sequence[WinnerMap], styles: Mapping[str, Style], look: Look) -> list[Artist]:
    from matplotlib.lines import Line2D

    lines = sorted({Line.of(row) for found in maps for row in found.winners})
    return [
        Line2D(
            [], [], color=tint(styles[line.label].color, look), linewidth=8 * look.scale, solid_capstyle="butt",
            marker=styles[line.label].marker, markersize=4.5 * look.scale, label=line.label,
            markerfacecolor=letters(styles[line.label].color, look), markeredgecolor=look.ground,
        )
        for line in lines
    ]  # fmt: skip
