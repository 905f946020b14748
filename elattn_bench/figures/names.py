"""Names at the ends of lines: nobody has to look up a colour in a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from elattn_bench.figures.legend import spread_out
from elattn_bench.figures.limits import Limits
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.palette import ink
from elattn_bench.figures.quantities import Across, Quantity, Series, failures
from elattn_bench.figures.sheet import share
from elattn_bench.figures.style import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

LETTER = 0.057  # inches: mean width of a letter in a name
NAME_OFFSET = 10.0  # points between the panel's right edge and the names
NAME_POINTS = 9.0  # height of a name
LEADER = {"linewidth": 0.5, "shrinkA": 1.0, "shrinkB": 3.0}  # points, from the line's end to its name


@dataclass(frozen=True, slots=True)
class End:
    """Where a line that is to be named ends, in shares of the panel; its colour; its name."""

    text: str
    color: str
    x: float
    y: float


def names_width(labels: Sequence[str]) -> float:
    """Inches at scale 1 that the names need to the right of a panel."""
    return max(map(len, labels)) * LETTER + NAME_OFFSET / 72 + 0.1


def fit(labels: Sequence[str], height: float) -> bool:
    """Whether so many names stand below each other in a panel of that height, in inches."""
    return (len(labels) - 1) * NAME_POINTS <= _room(height)


def _room(height: float) -> float:
    """Points between the lowest and the highest name's middle: none reaches up to the panel's title."""
    return height * 72 - NAME_POINTS / 2


def name_lines(
    axes: Axes,
    panel: Sequence[Series],
    quantity: Quantity,
    across: Across,
    styles: Mapping[str, Style],
    limits: Limits,
    height: float,
    look: Look = README,
) -> None:
    """Each name beside the end of its line, or beside its failures; moved apart where they would overlap.

    Args:
        panel: its lines.
        height: of the panel, in inches at scale 1.
    """
    ends = [
        End(series.line.label, styles[series.line.label].color, share(end, limits.x), level)
        for series, end, level in ends_of(panel, quantity, across, limits)
    ]
    write_names(axes, ends, height, look)


def write_names(
    axes: Axes, ends: Sequence[End], height: float, look: Look = README, indent: float = 0.0
) -> list[float]:
    """Write the names to the right of the panel, moved apart; the height of each, as a share of the panel's.

    Args:
        height: of the panel, in inches at scale 1.
        indent: points left free before each name, for its marker.
    """
    room = height * 72
    places = spread_out([end.y * room for end in ends], NAME_POINTS, _room(height)) or []
    beside = beside_panel(axes, NAME_OFFSET + indent, look)
    for end, spot in zip(ends, places, strict=True):
        color = ink(end.color, look)
        axes.annotate(
            end.text, (end.x, end.y), xytext=(1, spot / room), xycoords="axes fraction", textcoords=beside,
            va="center", fontsize=look.points(7.5), color=color, annotation_clip=False, parse_math=False,
            arrowprops=leader(color, look, indent),
        )  # fmt: skip
    return [spot / room for spot in places]


def beside_panel(axes: Axes, points: float, look: Look = README) -> Transform:
    """Shares of the panel, moved so many points to the right."""
    from matplotlib.transforms import offset_copy

    return offset_copy(axes.transAxes, cast("Figure", axes.figure), x=points * look.scale, units="points")


def ends_of(
    panel: Sequence[Series], quantity: Quantity, across: Across, limits: Limits
) -> list[tuple[Series, int, float]]:
    """The lines that have an end, each with its place and its height as a share of the panel's."""
    return [end for end in (_end(series, panel, quantity, across, limits) for series in panel) if end]


def leader(color: str, look: Look, indent: float = 0.0) -> dict[str, Any]:
    """The thin line from a name to the end of its line; it starts so many points before the name."""
    sizes = {name: size * look.scale for name, size in LEADER.items()}
    sizes["shrinkA"] += indent * look.scale
    return {"arrowstyle": "-", "alpha": 0.6, "relpos": (0, 0.5), "color": color, **sizes}


def _end(
    series: Series, panel: Sequence[Series], quantity: Quantity, across: Across, limits: Limits
) -> tuple[Series, int, float] | None:
    """Where a line ends: its place, and its height as a share of the panel's."""
    lost = failures(series)
    if lost:
        lane = [other for other in panel if failures(other)].index(series)
        return series, across.of(lost[-1]), 1 - limits.lane * (lane + 0.5)
    measured = [row for row in series.rows if row.ok and quantity.value(row)]
    if not measured:
        return None
    return series, across.of(measured[-1]), share(quantity.value(measured[-1]) or 1.0, limits.y)
