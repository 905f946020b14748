"""Colours of lines and of the letters in their colour, on any ground."""

from __future__ import annotations

from elattn_bench.figures.look import README, Look

FAINTEST = 0.35  # share of the ground in a colour's faintest variant
STRONGEST = 0.35  # share of the ink in its strongest
INK = 0.3  # share of ink in letters of a line's colour, at least
CONTRAST = 4.5  # of text and its ground: WCAG 2.2, success criterion 1.4.3


def ink(color: str, look: Look = README) -> str:
    """The color with as much ink as letters need to be read on the ground."""
    share = INK if look.ground == README.ground else 0.0
    while contrast(mixed(color, look.ink, share), look.ground) < CONTRAST:
        share += 0.05
    return mixed(color, look.ink, share)


def shade(color: str, position: int, count: int, look: Look = README) -> str:
    """The color's variant number ``position`` of ``count``: from faint to strong; one alone is pure."""
    strongest = 0.0 if count < 3 or color == look.ink else STRONGEST
    share = 0.0 if count == 1 else FAINTEST - (FAINTEST + strongest) * position / (count - 1)
    return mixed(color, look.ground, share) if share > 0 else mixed(color, look.ink, -share)


def mixed(color: str, other: str, share: float) -> str:
    """The color with a share of the other."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (
        mine * (1 - share) + theirs * share for mine, theirs in zip(to_rgb(color), to_rgb(other), strict=True)
    )
    return to_hex((red, green, blue))


def contrast(one: str, other: str) -> float:
    """From 1 to 21: the contrast ratio of two colours (WCAG 2.2)."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """The relative luminance, 0 to 1 (WCAG 2.2)."""
    from matplotlib.colors import to_rgb

    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in to_rgb(color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
