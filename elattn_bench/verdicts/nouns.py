"""The small nouns of verdicts: an estimate with its interval, and what a verdict can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shape = Literal["constant", "between", "linear", "quadratic", "steeper", "unclear"]
"""How a quantity grows with length. ``between``: surely not as one of the three laws, but between two of them
(L^0.5, L^1.5); ``steeper``: surely faster than quadratic; ``unclear``: the data do not support any of them."""

Where = Literal["at", "until", "always", "never", "unclear", "not comparable"]
"""Where a line is ahead of its reference: from a length within the measured range on; up to one; at every measured
length; at none; the data do not say where or whether; or they share too few measured lengths."""

VERDICT_METRICS = ("latency", "memory")
"""Quantities whose growth with length is judged."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval, in the value's own unit."""

    value: float
    low: float
    high: float

    def holds(self, value: float) -> bool:
        """Whether the interval holds the value."""
        return self.low <= value <= self.high
