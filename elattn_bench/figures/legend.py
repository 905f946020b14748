"""Names for lines: a legend below the panels, or names at the lines' ends where they fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.figures.look import README, Look
from elattn_bench.figures.style import Style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

ROW = 0.17  # inches: a row of the legend
LETTER = 0.063  # inches: mean width of a letter in the legend
HANDLE = 0.42  # inches: sample of the line, and the space beside it
SPACING = 0.13  # inches: between columns


def legend_columns(labels: Sequence[str], look: Look = README) -> int:
    """How many columns fit into the figure's width."""
    widest = max(len(line) for label in labels for line in label.split("\n")) * LETTER + HANDLE + SPACING
    return max(1, min(len(labels), int((look.room - 0.2 + SPACING) / widest)))


def legend_letters(look: Look = README) -> int:
    """How many letters a label has at most, if it stands alone in its row."""
    return int((look.room - 0.2 - HANDLE) / LETTER)


def legend_height(labels: Sequence[str], look: Look = README) -> float:
    """The legend's height, in inches at scale 1; that of none is 0."""
    if not labels:
        return 0.0
    lines = 1 + max(label.count("\n") for label in labels)
    return ROW * lines * math.ceil(len(labels) / legend_columns(labels, look)) + 0.12


def draw_legend(
    figure: Figure, labels: Sequence[str], styles: Mapping[str, Style], look: Look = README
) -> None:
    """One legend for all lines of all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], color=styles[label].color, marker=styles[label].marker, linestyle=styles[label].dashes,
            markeredgecolor=look.ground, markeredgewidth=0.4 * look.scale, label=label,
        )
        for label in labels
    ]  # fmt: skip
    draw_handles(figure, handles, look)


def draw_handles(figure: Figure, handles: Sequence[Artist], look: Look = README, above: float = 0.0) -> None:
    """A legend of these handles, which have labels, so many inches (at scale 1) above the figure's lower edge."""
    if not handles:
        return
    legend = figure.legend(
        handles=list(handles), loc="lower center", ncols=legend_columns(labels_of(handles), look),
        handlelength=3, borderpad=0.3, columnspacing=1.2,
        bbox_to_anchor=(0.5, above * look.scale / figure.get_size_inches()[1]),
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def labels_of(handles: Sequence[Artist]) -> list[str]:
    """What stands beside each of them."""
    return [str(handle.get_label()) for handle in handles]


def spread_out(wanted: Sequence[float], spacing: float, room: float) -> list[float] | None:
    """Places as near as possible to those wanted, at least ``spacing`` apart, within 0 and ``room``.

    Least squares under an order: the pool-adjacent-violators algorithm (Barlow et al. 1972) on the places
    less their rank times the spacing. None if they cannot all fit.
    """
    if (len(wanted) - 1) * spacing > room:
        return None
    ranked = sorted(range(len(wanted)), key=lambda index: wanted[index])
    pools: list[list[float]] = []
    for rank, index in enumerate(ranked):
        pools.append([wanted[index] - rank * spacing])
        while len(pools) > 1 and _mean(pools[-2]) > _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = [_mean(pool) for pool in pools for _ in pool]
    highest = room - (len(wanted) - 1) * spacing
    places = [0.0] * len(wanted)
    for rank, index in enumerate(ranked):
        places[index] = min(max(levels[rank], 0.0), highest) + rank * spacing
    return places


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
