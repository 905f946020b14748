"""Score against cost: a panel for parameters, time, memory and latency, which share the axis of the score."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elattn_bench.figures.header import draw_header, header_height
from elattn_bench.figures.legend import draw_handles, labels_of, legend_height, legend_letters
from elattn_bench.figures.look import Look
from elattn_bench.figures.names import (
    NAME_OFFSET,
    NAME_POINTS,
    End,
    beside_panel,
    fit,
    names_width,
    write_names,
)
from elattn_bench.figures.quality.claimed import Claimed, claimed_in, draw_claimed, line_look
from elattn_bench.figures.quality.comparisons import comparisons, failed_words
from elattn_bench.figures.quality.costs import PARAMS, Cost, costs_of, limits_of
from elattn_bench.figures.quality.metrics import LETTER, padded, score_ticks
from elattn_bench.figures.quality.notes import bars_words, data_words, describe, far_words
from elattn_bench.figures.quality.nouns import Beside, Comparison
from elattn_bench.figures.quality.styles import handle, mark, styles_of
from elattn_bench.figures.sheet import EDGE, NARROW, Sheet, at_share, panel_height, share
from elattn_bench.figures.style import Style, set_ticks
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.quality.scores import Score, rows_in

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_HEIGHT = 2.9  # inches, as all that follow, at scale 1
STACKED_HEIGHT = 1.9
HIGHEST = 3.6  # that a panel grows to, to have room for names
LEFT = 0.7  # ticks and title of the score
BETWEEN = 0.2
ABOVE = 0.12
TICKS = 0.48
RIGHT = 0.1
NARROWEST = 1.1  # a panel; else the models stand in a legend
TICK_ROOM = 0.5  # that the label of a tick needs
INDENT = 8.0  # points: the mark before a name
CLEAR = 0.09  # of a panel's width at both ends, without ticks: their labels would meet the neighbour's


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the panels stand; inches at scale 1. names: their width, None where a legend names the models."""

    room: float
    top: float
    count: int
    columns: int
    height: float
    names: float | None
    below: float

    @classmethod
    def of(cls, count: int, labels: Sequence[str], others: Sequence[str], top: float, look: Look) -> _Plan:
        """The models named beside the panels, if need be in two rows; else in a legend."""

        def made(columns: int, names: float | None) -> _Plan:
            rows = -(-count // columns)
            below = legend_height(others, look) + (legend_height(labels, look) if names is None else 0)
            taken = top + rows * (ABOVE + TICKS) + below
            wanted = PANEL_HEIGHT if rows == 1 else STACKED_HEIGHT
            if names is not None:
                wanted = max(wanted, min(HIGHEST, (len(labels) + 1) * NAME_POINTS / 72))
            return cls(look.room, top, count, columns, panel_height(look, wanted, taken, rows), names, below)

        columns = count if look.room >= NARROW else 1
        for choice in dict.fromkeys((columns, min(columns, 2))):
            named = made(choice, names_width(labels) + INDENT / 72)
            if named.width >= NARROWEST and fit(labels, named.height):
                return named
        return made(columns, None)

    @property
    def width(self) -> float:
        """Of a panel."""
        right = RIGHT if self.names is None else self.names
        return (self.room - EDGE - LEFT - right - BETWEEN * (self.columns - 1)) / self.columns

    @property
    def pitch(self) -> float:
        """From the upper edge of a panel to that of the one below."""
        return ABOVE + self.height + TICKS

    @property
    def whole(self) -> float:
        """The height of the figure."""
        return self.top + -(-self.count // self.columns) * self.pitch + self.below

    def of_panel(self, number: int) -> tuple[float, float, float, float]:
        """Left, top, width and height."""
        row, column = divmod(number, self.columns)
        left = EDGE + LEFT + column * (self.width + BETWEEN)
        return left, self.top + row * self.pitch + ABOVE, self.width, self.height


def draw_quality(run: QualityRun, look: Look, beside: Beside) -> Iterator[tuple[str, Figure]]:
    """A figure for every task and form in which two models have a score."""
    styles = styles_of(run.rows, look)
    for comparison in comparisons(run.rows):
        costs = costs_of(comparison.scores, beside)
        if len(comparison.scores) > 1 and costs:
            yield (
                f"quality-{comparison.facet.stem}",
                _draw(run, look, comparison, costs, claimed_in(comparison, beside.targets), styles),
            )


def _draw(
    run: QualityRun,
    look: Look,
    comparison: Comparison,
    costs: Sequence[Cost],
    claims: Sequence[Claimed],
    styles: Mapping[str, Style],
) -> Figure:
    title = f"{comparison.metric.words.capitalize()} against cost: {comparison.facet.text}"
    rows = rows_in(run.rows, comparison.facet)
    shown, far = comparison.seen([claim.score for claim in claims])
    lines = describe(run, rows, _remarks(run, comparison, claims, far), look)
    extra = [_claim_handle(claim, look) for claim in claims]
    labels = [score.model for score in shown]
    plan = _Plan.of(len(costs), labels, labels_of(extra), header_height(lines, look, title), look)
    sheet = Sheet.of(look, plan.whole)
    limits = _score_limits(shown, claims)
    for number, cost in enumerate(costs):
        axes = sheet.axes(*plan.of_panel(number))
        _draw_panel(axes, shown, cost, claims, styles, limits, plan, look)
        score_ticks(axes, comparison.metric, plan.height)
        if number % plan.columns == 0:
            axes.set_ylabel(comparison.metric.axis(plan.height))
        else:
            axes.tick_params(axis="y", labelleft=False)
        if plan.names is not None and number % plan.columns == plan.columns - 1:
            _name(axes, shown, styles, limits, plan.height, look)
    draw_header(sheet.figure, title, lines, look)
    models = [] if plan.names is not None else [
        handle(each.model, styles[each.model], look, hollow=each.is_floor) for each in shown
    ]  # fmt: skip
    draw_handles(sheet.figure, models, look)
    draw_handles(sheet.figure, extra, look, above=legend_height(labels_of(models), look))
    return sheet.figure


def _remarks(
    run: QualityRun, comparison: Comparison, claims: Sequence[Claimed], far: Sequence[Score]
) -> list[str]:
    shown = [score for score in comparison.scores if score not in far]
    floors = any(score.is_floor for score in shown)
    unknown = [score.model for score in shown if not score.params]
    return [
        bars_words([comparison]),
        "Hollow and grey: floors." if floors else "",
        f"Without parameters, a line: {', '.join(unknown)}." if unknown else "",
        "In the tinted corner the claim holds." if claims else "",
        far_words(comparison, far),
        failed_words(comparison.failed),
        data_words(run, [comparison.facet]),
    ]


def _score_limits(shown: Sequence[Score], claims: Sequence[Claimed]) -> tuple[float, float]:
    ends = [end for score in shown for end in (score.low, score.high)]
    ends += [claim.score for claim in claims]
    return padded(min(ends), max(ends))


def _draw_panel(
    axes: Axes,
    shown: Sequence[Score],
    cost: Cost,
    claims: Sequence[Claimed],
    styles: Mapping[str, Style],
    limits: tuple[float, float],
    plan: _Plan,
    look: Look,
) -> None:
    """The claims behind all, then bars and marks; a line for what costs nothing."""
    values = [value for value in map(cost.of, shown) if value]
    axes.set_xscale("log")
    axes.set_ylim(*limits)
    bounds = [claim.params for claim in claims] if cost is PARAMS else []
    x = limits_of([*values, *bounds])
    axes.set_xlim(*x)
    for claim in claims:
        draw_claimed(axes, claim, look, corner=cost is PARAMS)
    for score in shown:
        _draw_score(axes, score, cost, styles[score.model], look)
    inner = at_share(CLEAR, x), at_share(1 - CLEAR, x)
    # Of several choices the one that keeps most: a lone tick gives no scale.
    most = max(2, int(plan.width / TICK_ROOM))
    ticks = max((_apart(cost.ticks(*inner, n), x, plan.width) for n in range(most, 1, -1)), key=len)
    set_ticks(axes, "x", ticks, list(map(cost.tick, ticks)))
    axes.set_xlabel(cost.label if len(cost.label) * LETTER <= plan.width else cost.short)


def _apart(ticks: Sequence[float], limits: tuple[float, float], width: float) -> list[float]:
    """Those whose labels have room, from the last down."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or (share(kept[-1], limits) - share(tick, limits)) * width >= TICK_ROOM:
            kept.append(tick)
    return kept[::-1]


def _draw_score(axes: Axes, score: Score, cost: Cost, style: Style, look: Look) -> None:
    value = cost.of(score)
    if value is None:
        if not score.params:
            axes.axhline(
                score.mean,
                color=style.color,
                linewidth=0.9 * look.scale,
                linestyle=(0, (1.2, 1.6)),
                zorder=1.5,
            )
        return
    axes.plot(
        [value, value], [score.low, score.high], color=style.color, linewidth=1.1 * look.scale,
        label="_spread", zorder=1.9,
    )  # fmt: skip
    how = mark(style, look, hollow=score.is_floor)
    axes.plot([value], [score.mean], label=score.model, zorder=2 if score.is_floor else 3, **how)


def _name(
    axes: Axes,
    shown: Sequence[Score],
    styles: Mapping[str, Style],
    limits: tuple[float, float],
    height: float,
    look: Look,
) -> None:
    """The models beside the last panel at the height of their score, each behind its mark."""
    span = limits[1] - limits[0]
    ends = [
        End(each.model, styles[each.model].color, 1.0, (each.mean - limits[0]) / span) for each in shown
    ]  # fmt: skip
    places = write_names(axes, ends, height, look, INDENT)
    beside = beside_panel(axes, NAME_OFFSET + INDENT / 2 - 1, look)
    for score, place in zip(shown, places, strict=True):
        how = mark(styles[score.model], look, hollow=score.is_floor)
        axes.plot([1], [place], label="_name", transform=beside, clip_on=False, **how)


def _claim_handle(claim: Claimed, look: Look) -> Artist:
    from matplotlib.lines import Line2D

    label = "\n".join(textwrap.wrap(claim.target.label.replace(" %", "\u00a0%"), legend_letters(look)))
    return Line2D([], [], label=label, **line_look(look))
