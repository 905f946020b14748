"""Fitted growth: latency against length with each line's curve and exponent, and where it overtakes the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from attention_impls import registry
from elattn_bench.analysis import leading_facets, one_order, select
from elattn_bench.figures.families import is_crowded
from elattn_bench.figures.fitted import NAME_ROOM, Fits, draw_fitted, draw_names, name_of, names_width
from elattn_bench.figures.header import describe, draw_header, header_height, sizes_of
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height, legend_letters
from elattn_bench.figures.look import Look
from elattn_bench.figures.sheet import Sheet, panel_height
from elattn_bench.figures.style import Line, Style, assign_styles
from elattn_bench.rundir import Run
from elattn_bench.verdicts.crossover import Crossover, from_scalings
from elattn_bench.verdicts.reference import DEFAULT_REFERENCE
from elattn_bench.verdicts.scaling import Scaling, scalings

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

MOST_LINES = 8  # more are too many to follow: then only the default order of each attention is shown
PANEL_HEIGHT = 3.3  # inches, as all that follow, at scale 1
NARROW_HEIGHT = 2.5  # of a panel less wide than that
LEFT, RIGHT, ABOVE, TICKS = 0.62, 0.12, 0.16, 0.46  # around the panel
WIDEST_NAMES = 0.4  # of the sheet: wider ones go to the legend
TITLE = "Latency against sequence length, and the curve fitted to it"


def draw_fits(run: Run, look: Look) -> Iterator[tuple[str, Figure]]:
    """A figure per setting, of the facet with most impls, where a curve could be fitted to a line at least."""
    measured = [row for row in run.rows if row.ok and row.latency_ms_p50]
    styles = assign_styles(map(Line.of, run.rows), look)
    samples = run.samples()
    for facet, rows in leading_facets(measured):
        few = rows if len({row.label for row in rows}) <= MOST_LINES else one_order(rows)
        part = replace(run, rows=few)
        lines = [line for line in scalings(part, "latency", samples) if len(line.rows) > 1]
        if any(line.exponent for line in lines):
            fitted = {row.case_id for line in lines for row in line.rows}
            labels = {line.label for line in lines}
            left_out = [row for row in few if row.label in labels and row.case_id not in fitted]
            fits = Fits(facet, lines, _crossings(part, lines), left_out)
            for suffix, page in _pages(fits, is_crowded(few)).items():
                yield f"fits-{facet.setting.file_part}{suffix}", draw_figure(run, look, page, styles)


def _pages(fits: Fits, crowded: bool) -> dict[str, Fits]:
    """One page; of more attentions than colours one for every family, by the suffix of its file's name."""
    if not crowded:
        return {"": fits}
    families = dict.fromkeys(
        registry.family(line.rows[0].attention) for line in fits.lines if line.label != DEFAULT_REFERENCE
    )
    return {f"-{family.lower().replace(' ', '-')}": fits.of_family(family) for family in families}


def _crossings(run: Run, lines: Sequence[Scaling]) -> list[Crossover]:
    return from_scalings(run, lines, DEFAULT_REFERENCE) if select(run.rows, label=DEFAULT_REFERENCE) else []


def draw_figure(run: Run, look: Look, fits: Fits, styles: Mapping[str, Style]) -> Figure:
    """One panel: measured medians, fitted curves, exponents, and a lane for each crossing."""
    remarks = describe(run, fits.facet.setting, sizes_of(fits.facet), _sentences(fits), look)
    top = header_height(remarks, look, TITLE) + ABOVE
    wide = look.room - LEFT > PANEL_HEIGHT
    wanted = (PANEL_HEIGHT if wide else NARROW_HEIGHT) + fits.lanes
    height = panel_height(look, wanted, top + TICKS)
    names = names_width(fits.lines)
    named = names <= WIDEST_NAMES * look.room and len(fits.lines) * NAME_ROOM <= height * 72
    handles = [] if named else _handles(fits.lines, styles, look)
    below = legend_height(labels_of(handles), look)
    height = panel_height(look, wanted, top + TICKS + below)
    sheet = Sheet.of(look, top + height + TICKS + below)
    width = look.room - LEFT - (names if named else RIGHT)
    axes = sheet.axes(LEFT, top, width, height)
    draw_fitted(axes, fits, styles, (width, height), look)
    if named:
        draw_names(axes, fits, styles, height, look)
    draw_header(sheet.figure, TITLE, remarks, look)
    draw_handles(sheet.figure, handles, look)
    return sheet.figure


def _sentences(fits: Fits) -> list[str]:
    found = {
        where: ", ".join(each.label for each in fits.crossings if each.where == where)
        for where in ("until", "always", "never", "unclear")
    }
    reference = fits.crossings[0].reference if fits.crossings else ""
    bars = f"Bars below: from which length on a line is faster than {reference}, with the interval."
    return [
        "Marks: medians with 95 % intervals; lines: a + c L^p fitted to them, and p with its 95 % interval.",
        bars if fits.bars else "",
        f"Faster than {reference} at every length: {found['always']}." if found["always"] else "",
        f"Only up to some length: {found['until']}." if found["until"] else "",
        f"At none: {found['never']}." if found["never"] else "",
        f"Not clear where: {found['unclear']}." if found["unclear"] else "",
        "Hollow: disturbed and far off, so not fitted." if fits.left_out else "",
    ]


def _handles(lines: Sequence[Scaling], styles: Mapping[str, Style], look: Look) -> list[Artist]:
    from matplotlib.lines import Line2D

    names = [": ".join(name_of(line)) for line in lines]
    if max(map(len, names)) > legend_letters(look):
        names = ["\n".join(name_of(line)) for line in lines]
    return [
        Line2D(
            [], [], color=styles[line.label].color, marker=styles[line.label].marker,
            linestyle=styles[line.label].dashes, label=name,
        )
        for line, name in zip(lines, names, strict=True)
    ]  # fmt: skip
