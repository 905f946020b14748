"""Figures of a run, as files: what was measured, and what follows from it."""

from elattn_bench.figures.kinds import FORMATS, KINDS, Kind, draw, plot

__all__ = ["FORMATS", "KINDS", "Kind", "draw", "plot"]
