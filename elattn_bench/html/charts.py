"""The chart in Vega-Lite, written with Altair: its marks, and the axes that a reader can choose. No rows in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elattn_bench.results import Row

HEIGHT = 420  # pixels
PADDING = 10  # pixels between the outermost points and the ends of the axes
SCALES = ("log", "linear")
_LENGTH = (
    "datum.value >= 1048576 && datum.value % 1048576 == 0 ? datum.value / 1048576 + 'M' : "
    "datum.value >= 1024 && datum.value % 1024 == 0 ? datum.value / 1024 + 'k' : format(datum.value, ',')"
)
# Labels at 1, 2 and 5 times a power of ten, and on linear axes at every tick.
_ROUND = (
    "indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)) * 1e6) / 1e6) >= 0"
)
_TIME = (
    "datum.value == 0 ? '0' : datum.value < 0.9999 ? format(datum.value * 1000, '~r') + ' µs' : "
    "datum.value < 999.9 ? format(datum.value, '~r') + ' ms' : format(datum.value / 1000, '~r') + ' s'"
)
_MEMORY = (
    "datum.value == 0 ? '0' : datum.value < 0.00097 ? format(datum.value * 1048576, '~r') + ' B' : "
    "datum.value < 0.999 ? format(datum.value * 1024, '.3~r') + ' KiB' : "
    "datum.value < 1023 ? format(datum.value, '.3~r') + ' MiB' : format(datum.value / 1024, '.3~r') + ' GiB'"
)
_TIMES = "format(datum.value, '.3~r') + 'x'"
_PLAIN = "format(datum.value, '.3~s')"
_TINY = "datum.value == 0 ? '0' : format(datum.value, '.2~e')"


@dataclass(frozen=True, slots=True)
class Choice:
    """What can stand on an axis.

    name: of its column; title: with its unit; words: for sentences.
    label: Vega's expression of a tick label; base: of the logarithm.
    low, high: columns of the band around it; empty where there is none.
    """

    name: str
    title: str
    words: str
    label: str
    base: int = 10
    low: str = ""
    high: str = ""


AXES = (
    Choice("seq_len", "Sequence length L, tokens", "sequence length", _LENGTH, 2),
    Choice("dim", "Dimension D, all heads together", "dimension", _LENGTH, 2),
    Choice("order", "Polynomial order t", "polynomial order", _LENGTH, 2),
    Choice("batch", "Batch B", "batch", _LENGTH, 2),
    Choice("heads", "Heads H", "number of heads", _LENGTH, 2),
)
QUANTITIES = (
    Choice("latency", "Latency, median", "latency", _TIME, low="latency_p25", high="latency_p75"),
    Choice("memory", "Peak memory above the inputs", "peak memory", _MEMORY, 2),
    Choice("state", "State that a step carries on", "state", _MEMORY, 2),
    Choice("tokens", "Tokens per second", "tokens per second", _PLAIN),
    Choice(
        "speed_up",
        "Speed-up over the reference",
        "speed-up",
        _TIMES,
        low="speed_up_low",
        high="speed_up_high",
    ),
    Choice("error", "Relative RMS error against float64", "relative error", _TINY),
    Choice("approximation", "Relative RMS distance from the exact attention", "approximation error", _TINY),
    Choice(
        "ceiling", "Share of what this device can do", "share of the ceiling", "format(datum.value, '.2~p')"
    ),
)


def axes_of(rows: Sequence[Row]) -> list[Choice]:
    """What varies in the rows; the length always can stand on the axis."""
    varies = {axis.name: {getattr(row, axis.name) for row in rows} - {None} for axis in AXES}
    return [axis for axis in AXES if axis.name == "seq_len" or len(varies[axis.name]) > 1]


def quantities_of(columns: Mapping[str, Mapping[str, Any]]) -> list[Choice]:
    """What was measured at all, but for what is 0 everywhere."""
    return [each for each in QUANTITIES if any(columns[each.name]["numbers"])]


def parts(axes: Sequence[Choice], quantities: Sequence[Choice]) -> dict[str, Any]:
    """The chart's spec, and per choice and scale the encoding that the page puts into it.

    A scale's type cannot follow a parameter in Vega-Lite, so each type has an encoding of its own.
    """
    return {
        "spec": _spec(),
        "x": {axis.name: _encodings(axis, "x") for axis in axes},
        "y": {quantity.name: _encodings(quantity, "y") for quantity in quantities},
    }


def _encodings(choice: Choice, channel: str) -> dict[str, Any]:
    return {
        "title": choice.title, "words": choice.words, "low": choice.low, "high": choice.high,
        **{scale: _encoding(choice, channel, scale) for scale in SCALES},
    }  # fmt: skip


def _encoding(choice: Choice, channel: str, scale: str) -> Any:
    import altair as alt

    picky = scale == "log" and choice.base == 10
    labels = f"{_ROUND} ? {choice.label} : ''" if picky else choice.label
    lines = alt.condition(_ROUND, alt.value(1), alt.value(0)) if picky else alt.Undefined
    axis = alt.Axis(
        labelExpr=labels, labelOverlap="greedy", grid=channel == "y", gridOpacity=lines, tickCount=8
    )
    log = alt.Scale(type="log", base=choice.base, nice=False, padding=PADDING)
    kind = log if scale == "log" else alt.Scale(type="linear", zero=True)
    make = alt.X if channel == "x" else alt.Y
    encoding: Any = make(f"{channel}:Q", title=choice.title, axis=axis, scale=kind).to_dict()
    return encoding


def _spec() -> dict[str, Any]:
    """Bands of the quartiles, lines, points, and around every point a larger invisible one to hover or tap."""
    import altair as alt

    base = alt.Chart(alt.NamedData("points")).encode(
        detail="line:N",
        color=alt.Color("color:N", scale=None),
    )
    band = base.mark_area(opacity=0.16, aria=False).encode(y2="high:Q")
    line = base.mark_line(strokeWidth=2.2, aria=False).encode(
        strokeDash=alt.StrokeDash("dashes:N", scale=None)
    )
    point = base.mark_point(size=56, strokeWidth=1.6, opacity=1).encode(
        shape=alt.Shape("shape:N", scale=None),
        fill=alt.Fill("fill:N", scale=None),
    )
    tooltip = [
        alt.Tooltip(f"{field}:N", title=title)
        for field, title in (
            ("line", "implementation"), ("across", "at"), ("latency", "median latency"), ("quartiles", "quartiles"),
            ("interval", "95 % interval"), ("speed_up", "speed-up"), ("memory", "peak memory"),
            ("stability", "stability"), ("samples", "samples"),
        )
    ]  # fmt: skip
    target = base.mark_point(size=500, opacity=0, filled=True, aria=False).encode(tooltip=tooltip)
    chart = (
        alt.layer(band, line, point, target).properties(width="container", height=HEIGHT).configure(**_LOOK)
    )
    spec: dict[str, Any] = chart.to_dict()
    return spec


_TEXT = {"labelColor": "var(--muted)", "titleColor": "var(--ink)"}
_LOOK: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **_TEXT, "domainColor": "var(--edge)", "tickColor": "var(--edge)", "gridColor": "var(--grid)",
        "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "titlePadding": 10,
    },
    "axisY": {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleY": -12, "titleX": 0,
              "domain": False, "ticks": False, "titlePadding": 0},
}  # fmt: skip
"""Colours are the page's own variables, so that a dark page and a printed one need no other chart."""
