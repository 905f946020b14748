"""Figures of a quality run: scores against cost, learning curves, orders, lengths, all tasks at a glance."""

from elattn_bench.figures.quality.kinds import KINDS, Kind, draw, plot
from elattn_bench.figures.quality.nouns import Beside

__all__ = ["KINDS", "Beside", "Kind", "draw", "plot"]
