"""Figures of a run: latency and memory against length, decoding, latency against order and dim, as files."""

from elattn_bench.figures.kinds import FORMATS, KINDS, Kind, draw, plot

__all__ = ["FORMATS", "KINDS", "Kind", "draw", "plot"]
