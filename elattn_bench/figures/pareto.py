"""Error against latency and memory: what each order of an approximation buys, beside the exact attention."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from elattn_bench.analysis import DEFAULT_ORDER, Facet, by_facet, leading_facets, select, short_status
from elattn_bench.figures.header import describe, draw_header, header_height, sizes_of
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height
from elattn_bench.figures.look import Look
from elattn_bench.figures.pareto_panel import (
    LATENCY,
    MEMORY,
    STRIP,
    Scene,
    draw_panel,
    front_look,
    line_of,
    mark,
    softmax_look,
)
from elattn_bench.figures.sheet import EDGE, NARROW, Sheet, panel_height
from elattn_bench.figures.style import Style, assign_styles, evenly
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_length
from elattn_bench.verdicts.pareto import Trade, doubtful, trades
from elattn_bench.verdicts.reference import DEFAULT_REFERENCE

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

MOST_LENGTHS = 3  # small multiples below each other
PANEL_HEIGHT = 2.1  # inches, as all that follow, at scale 1
LEFT, RIGHT = 0.62, 0.22  # tick labels, and what the last of them needs at the right
TITLE, TICKS = 0.26, 0.44  # above and below a panel
LEAST_SPAN = 200.0  # margins are a share of this span at least, so that one value alone gets ticks around it
MARKS = "Hollow: another errs no more and is surely cheaper."
ERRORS = (
    "Error: relative RMS distance of the float64 oracles, without rounding, at the gate's 64 or 129 tokens."
)


def draw_pareto(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting and exact attention: of the facet with most approximations, lengths below each other."""
    by_exact: defaultdict[str, list[Trade]] = defaultdict(list)
    for trade in trades(run):
        by_exact[trade.exact].append(trade)
    styles = assign_styles(map(line_of, run.rows), look)
    for exact, found in by_exact.items():
        rows = [point.row for trade in found for point in trade.approximations]
        for facet, _ in leading_facets(rows, count=len):
            shown = [trade for trade in found if trade.facet == facet and len(trade.points) > 1]
            if shown:
                yield f"pareto-{exact}-{facet.setting.file_part}", _draw(run, look, facet, shown, styles)


def _shown(found: Sequence[Trade], look: Look) -> list[Trade]:
    """Lengths evenly chosen; where there is room for one, the longest with an exact measurement, if any has."""
    if look.room >= NARROW and not look.height:
        lengths = evenly([trade.length for trade in found], MOST_LENGTHS)
        return [trade for trade in found if trade.length in lengths]
    return [max(found, key=lambda trade: (trade.base is not None, trade.length))]


def _scene(run: Run, facet: Facet, shown: Sequence[Trade], styles: Mapping[str, Style]) -> Scene:
    points = [point for trade in shown for point in trade.points]
    softmax = {} if shown[0].exact == "softmax" else _softmax(run, facet)
    rows = [point.row for point in points]
    rows += [softmax[trade.length] for trade in shown if trade.length in softmax]
    costs = [cost for cost in (LATENCY, MEMORY) if any(cost.of(row) for row in rows)]
    x = {cost.name: _wide(filter(None, map(cost.of, rows)), 0.12) for cost in costs}
    errors = [point.error for point in points if point.error]
    return Scene(shown, softmax, costs, x, _above_strip(*_wide(errors, 0.1)), styles)


def _softmax(run: Run, facet: Facet) -> dict[int, Row]:
    rows = select(by_facet(run.rows)[facet], label=DEFAULT_REFERENCE)
    return {row.seq_len: row for row in rows if row.ok}


def _wide(values: Iterable[float], margin: float) -> tuple[float, float]:
    """Limits that leave a share free at both ends."""
    present = list(values)
    room = max(max(present) / min(present), LEAST_SPAN) ** margin
    return min(present) / room, max(present) * room


def _above_strip(low: float, high: float) -> tuple[float, float]:
    """The limits with room for the strip below."""
    return low * (low / high) ** (STRIP / (1 - STRIP)), high


def _draw(run: Run, look: Look, facet: Facet, found: Sequence[Trade], styles: Mapping[str, Style]) -> Figure:
    scene = _scene(run, facet, _shown(found, look), styles)
    handles = _handles(scene, look)
    columns = len(scene.costs) if look.room >= NARROW else 1
    rows = len(scene.trades) * len(scene.costs) // columns
    title = f"Approximations of {found[0].exact} attention: error against cost"
    remarks = describe(run, facet.setting, sizes_of(facet), _sentences(scene, found), look)
    top = header_height(remarks, look, title)
    below = legend_height(labels_of(handles), look)
    height = panel_height(look, PANEL_HEIGHT, top + rows * (TITLE + TICKS) + below, rows)
    sheet = Sheet.of(look, top + rows * (TITLE + height + TICKS) + below)
    panels = [(trade, cost) for trade in scene.trades for cost in scene.costs]
    pitch = (look.room - EDGE) / columns
    for number, (trade, cost) in enumerate(panels):
        row, column = divmod(number, columns)
        upper = top + TITLE + row * (TITLE + height + TICKS)
        size = (pitch - LEFT - RIGHT, height)
        axes = sheet.axes(EDGE + column * pitch + LEFT, upper, *size)
        draw_panel(axes, scene, trade, cost, size, look)
        sheet.head(axes, f"L = {format_length(trade.length)}: error against {cost.name}")
    draw_header(sheet.figure, title, remarks, look)
    draw_handles(sheet.figure, handles, look)
    return sheet.figure


def _sentences(scene: Scene, found: Sequence[Trade]) -> list[str]:
    left_out = (
        f"Shown: {len(scene.trades)} of {len(found)} lengths." if len(scene.trades) < len(found) else ""
    )
    return [
        _statement(scene.trades), _lost(scene.trades), MARKS, ERRORS, doubtful(scene.points), left_out,
    ]  # fmt: skip


def _lost(shown: Sequence[Trade]) -> str:
    """At which lengths nothing exact was measured, and why."""
    reasons = [
        f"L = {format_length(trade.length)} ({', '.join(sorted({short_status(row.status) for row in trade.lost}))})"
        if trade.lost
        else f"L = {format_length(trade.length)}"
        for trade in shown
        if trade.base is None
    ]
    return f"Exact {shown[0].exact} was not measured at {', '.join(reasons)}." if reasons else ""


def _statement(shown: Sequence[Trade]) -> str:
    """What the order nearest to the default buys, at the longest length at which the exact attention was measured."""
    compared = [(trade, trade.base) for trade in shown if trade.base]
    if not compared:
        return ""
    trade, base = compared[-1]
    free = [point for point in trade.front(("latency",)) if point.error]
    if not free or base is None:
        return ""
    point = min(free, key=lambda point: abs((point.row.order or DEFAULT_ORDER) - DEFAULT_ORDER))
    return f"At L = {format_length(trade.length)} {trade.gain(point)} of {base.label}."


def _handles(scene: Scene, look: Look) -> list[Artist]:
    """The lines, exact ones marked so; softmax and the front."""
    from matplotlib.lines import Line2D

    lines = {line_of(point.row): point for point in reversed(scene.points)}
    handles: list[Artist] = []
    for line in sorted(lines):
        name = line.label if lines[line].error else f"{line.label} (exact)"
        looks = {**mark(scene.styles[line.label], look, filled=True), "linestyle": "-", "label": name}
        handles.append(Line2D([], [], **looks))
    if any(trade.length in scene.softmax for trade in scene.trades):
        handles.append(Line2D([], [], **softmax_look(look), label=f"{DEFAULT_REFERENCE}, for comparison"))
    handles.append(Line2D([], [], **front_look(look), label="Pareto front"))
    return handles
