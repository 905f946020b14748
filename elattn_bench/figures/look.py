"""The look of a figure: its width, its letters and its colours, for a paper, for slides, or on a dark ground."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """Where a figure is meant to be seen. Drawing functions take all sizes and plain colours from it.

    style: ``paper``, ``slides`` or ``dark``.
    width: of the whole figure, in inches.
    scale: of letters, lines and markers; 1 is 8-point text.
    ground, ink, muted, grid: colours of the background, of text and axes, of remarks, of grid lines.
    title: instead of the figure's own; None: its own.
    """

    style: str = "paper"
    width: float = 8.0
    scale: float = 1.0
    ground: str = "#FFFFFF"
    ink: str = "#000000"
    muted: str = "#767676"
    grid: str = "#E6E6E6"
    title: str | None = None


README = Look()
"""For a README: 800 pixels at 100 dpi."""
