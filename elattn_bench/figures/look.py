"""The look of a figure: its width, its letters and its colours, for a paper, for slides, or on a dark ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from elattn_bench.errors import UsageError
from elattn_bench.names import check_names

SMALLEST = 6.0  # points: smaller letters are refused by printers and by readers

# Okabe & Ito (2008), "Color Universal Design": told apart with any colour vision. Yellow is left out: it
# vanishes on white. Brown is ours.
ON_WHITE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C2A")
# The same hues, lightened where they vanish on black; their yellow in the place of brown.
ON_BLACK = ("#4C9BE8", "#E8613A", "#2FBF71", "#D98FBA", "#E69F00", "#8FD0F7", "#F0E442")


@dataclass(frozen=True, slots=True)
class Look:
    """Where a figure is meant to be seen. Drawing functions take all sizes and plain colours from it.

    style: ``paper``, ``slides`` or ``dark``.
    width: of the whole figure, in inches.
    scale: of letters, lines and markers; 1 is 8-point text.
    ground, ink, muted, grid: colours of the background, of text and axes, of remarks, of grid lines.
    title: instead of the figure's own; None: its own; empty: none.
    size: ``readme``, ``single``, ``double`` or ``slide``.
    height: of the whole figure, in inches; None: what the panels need.
    edge, faint: colours of axes and ticks, of lines that are seen but not read.
    colors: of attentions; softmax has the ink.
    stroke: of lines and markers, beside the scale.
    dpi: pixels per inch of a PNG.
    remarks: what stands above the panels: ``all``; ``few``, the title, the device and the sizes; ``none``,
        for the paper's caption says it.
    dashed: whether attentions differ in dashes too, for a print in grey.
    """

    style: str = "paper"
    width: float = 8.0
    scale: float = 1.0
    ground: str = "#FFFFFF"
    ink: str = "#000000"
    muted: str = "#767676"  # the lightest grey that WCAG allows for text on white (contrast 4.5)
    grid: str = "#E6E6E6"
    title: str | None = None
    size: str = "readme"
    height: float | None = None
    edge: str = "#444444"
    faint: str = "#DDDDDD"
    colors: tuple[str, ...] = ON_WHITE
    stroke: float = 1.0
    dpi: int = 200
    remarks: str = "all"
    dashed: bool = False

    @property
    def room(self) -> float:
        """The width in inches at scale 1: layouts are computed there, and shares of it hold at any scale."""
        return self.width / self.scale

    @property
    def room_height(self) -> float | None:
        """The height in inches at scale 1, where it is fixed."""
        return self.height / self.scale if self.height else None

    def points(self, size: float) -> float:
        """A letter's size at this scale, never too small to be read."""
        return max(SMALLEST, size * self.scale)

    def room_points(self, size: float) -> float:
        """The same at scale 1, as layouts count."""
        return self.points(size) / self.scale


README = Look()
"""For a README: 800 pixels at 100 dpi."""

# Columns of print: ICML 3.25 and 6.75 inches, ACM sigconf 3.33 and 7.0, IEEE 3.5 and 7.16: a figure set to
# \columnwidth or \textwidth is scaled by 5 % at most. A slide: 16:9, 1920 x 1080 pixels, 16-point letters.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "readme": {},
    "single": {"width": 3.35, "scale": 0.875, "dpi": 600, "remarks": "none", "dashed": True},
    "double": {"width": 6.9, "scale": 0.875, "dpi": 600, "remarks": "none", "dashed": True},
    "slide": {
        "width": 40 / 3, "height": 7.5, "scale": 2.0, "stroke": 1.25, "dpi": 144, "remarks": "few",
    },
}  # fmt: skip

STYLES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "slides": {},
    "dark": {
        "ground": "#111111", "ink": "#F2F2F2", "muted": "#9A9A9A", "grid": "#2E2E2E", "edge": "#BBBBBB",
        "faint": "#484848", "colors": ON_BLACK,
    },
}  # fmt: skip


def find_look(style: str = "paper", size: str | None = None, title: str | None = None) -> Look:
    """The look of that style and size.

    Args:
        style: ``paper``, ``slides`` or ``dark``.
        size: ``readme``, ``single``, ``double`` or ``slide``; None: ``slide`` of slides, ``readme`` of others.
        title: instead of every figure's own.

    Raises:
        UsageError: the style or the size is unknown, or they contradict each other.
    """
    check_names("style", [style], list(STYLES))
    check_names("size", [size] if size else [], list(SIZES))
    if style == "slides" and size not in (None, "slide"):
        raise UsageError(
            f"--style slides --size {size}: slides have one size, 13.33 x 7.5 inches; "
            "drop --size, or choose --style paper or dark"
        )
    size = size or ("slide" if style == "slides" else "readme")
    return replace(README, style=style, size=size, title=title, **STYLES[style], **SIZES[size])
