"""Colours of lines on a light ground and on a dark one, as far from it as WCAG asks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from elattn_bench.figures.palette import contrast, luminance, mixed
from elattn_bench.figures.style import DASHES, MARKERS, Line, assign_styles

LIGHT_GROUND = "#FFFFFF"
DARK_GROUND = "#14171C"
GRAPHICS_CONTRAST = 3.0  # WCAG 2.2, success criterion 1.4.11: parts of a chart against what is beside them
ON_DARK = 4.5  # thin lines look dimmer on a dark ground than the ratio says
STEP = 0.04  # of the way to black or white, per try

# Vega's shapes, and a letter that looks like each, for the list of lines.
SHAPES = (
    ("circle", "●"), ("square", "■"), ("triangle-up", "▲"), ("diamond", "◆"), ("triangle-down", "▼"),
    ("cross", "✚"), ("triangle-right", "▶"), ("triangle-left", "◀"),
)  # fmt: skip
DASH_PIXELS: tuple[tuple[int, ...], ...] = ((1, 0), (7, 3), (2, 2), (7, 3, 2, 3), (11, 3, 4, 3))
"""The dashes of figures, in Vega's words."""


@dataclass(frozen=True, slots=True)
class LineLook:
    """How one line is drawn: a colour per ground, a shape with its letter, dashes in pixels."""

    name: str
    light: str
    dark: str
    shape: str
    letter: str
    dashes: tuple[int, ...]


def line_looks(lines: Iterable[Line]) -> list[LineLook]:
    """The looks of lines, in their order; colours are those of ``plot``, as far as they can be seen."""
    ordered = sorted(lines)
    styles = assign_styles(ordered)
    looks = []
    for line in ordered:
        style = styles[line.label]
        shape, letter = SHAPES[MARKERS.index(style.marker) % len(SHAPES)]
        dashes = DASH_PIXELS[DASHES.index(style.dashes) % len(DASH_PIXELS)]
        light = readable(style.color, LIGHT_GROUND, GRAPHICS_CONTRAST)
        dark = readable(on_dark(style.color), DARK_GROUND, ON_DARK)
        looks.append(LineLook(line.label, light, dark, shape, letter, dashes))
    return looks


def on_dark(color: str) -> str:
    """The colour for a dark ground: what is the blackest there becomes the whitest, hues stay."""
    channels = _channels(color)
    return _hex(255 - channel for channel in channels) if len(set(channels)) == 1 else color


def readable(color: str, ground: str, least: float) -> str:
    """The colour, moved away from the ground until it has the contrast."""
    target = "#FFFFFF" if luminance(ground) < 0.18 else "#000000"  # 0.18: the middle of black and white
    share = 0.0
    while contrast(moved := mixed(color, target, min(share, 1.0)).upper(), ground) < least:
        share += STEP
    return moved


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _hex(channels: Iterable[int]) -> str:
    return "#" + "".join(f"{channel:02X}" for channel in channels)
