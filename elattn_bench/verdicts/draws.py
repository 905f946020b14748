"""How sure a row's value is: the spread of its median, and draws of it. In logarithms, for noise multiplies."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from elattn_bench.results import Row
from elattn_bench.signed_rank import TAIL_SD
from elattn_bench.visits import Visit

Array = NDArray[np.float64]
Samples = Mapping[str, Sequence[Visit]]

REPLICATES = 200  # of the bootstrap: ends of intervals are then good to a tenth of their distance
FLOOR = {"latency": 0.01, "memory": 0.001}
"""Standard deviation between cases of one law beyond what their samples show: where tensors lie in memory changes
a call by a per cent (docs/comparing.md); an allocator rounds bytes up."""
NORMAL_WIDTH = 2 * TAIL_SD  # of a 95 % interval of a normal distribution, in standard deviations
FEWEST_SAMPLES = 8  # the bootstrap of a median of fewer has next to no values to draw from


def value_of(row: Row, metric: str) -> float | None:
    """Median latency in ms, or memory in bytes: the peak, of decoding the state; None where there is none."""
    if metric == "latency":
        return row.latency_ms_p50
    return (row.state_bytes if row.mode == "decode" else row.peak_memory_bytes) or None


def log_error(row: Row, metric: str) -> float:
    """Standard deviation of the logarithm of the value, as the row's own 95 % interval tells; memory is exact."""
    low, high = row.latency_ms_ci_low, row.latency_ms_ci_high
    if metric != "latency" or not low or not high:
        return 0.0
    return math.log(high / low) / NORMAL_WIDTH


def draw(rows: Sequence[Row], metric: str, samples: Samples, generator: np.random.Generator) -> Array:
    """Draws of the logarithm of each row's value, less that logarithm: [replicates, rows].

    Where a row has raw samples of one visit, from the bootstrap distribution of their median; else from the
    normal distribution that the row's interval, itself such a bootstrap, describes.
    """
    drawn = np.zeros((REPLICATES, len(rows)))
    if metric != "latency":
        return drawn
    for index, row in enumerate(rows):
        visits = samples.get(row.case_id, ())
        if len(visits) == 1 and len(visits[0].latency_ms) >= FEWEST_SAMPLES:
            drawn[:, index] = _bootstrap_of_median(visits[0].latency_ms)
        else:
            drawn[:, index] = log_error(row, metric) * _normal_quantiles()
    return np.asarray(generator.permuted(drawn, axis=0))


def draw_between(rows: Sequence[Row], metric: str, name: str, scatter: float) -> Array:
    """Draws of each row's logarithm less itself as another sweep might give it: [replicates, rows].

    What the row's interval says, and what cases of one line differ by beyond their samples.

    Args:
        scatter: standard deviation of that; the floor where it is less.
    """
    spread = np.hypot([log_error(row, metric) for row in rows], max(scatter, FLOOR[metric]))
    return np.asarray(generator_of(name).standard_normal((REPLICATES, len(rows))) * spread)


def generator_of(name: str) -> np.random.Generator:
    """A generator that depends on the name alone: a line gets the same interval whatever else a run holds."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def _bootstrap_of_median(samples: Sequence[float]) -> Array:
    """Quantiles of log median less its own, evenly spread: the bootstrap in closed form (Maritz & Jarrett 1978).

    The middle of n resampled values is the sample quantile at a place that is beta distributed.
    """
    ordered = np.log(sorted(samples))
    places = _middle_places(len(ordered))
    quantiles = np.interp(places, np.arange(len(ordered)), ordered)
    return np.asarray(quantiles - (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


@lru_cache
def _middle_places(count: int) -> Array:
    """Where among so many ordered values the middle of as many resampled ones lies: quantiles, evenly spread."""
    from scipy.stats import beta

    middle = (count + 1) / 2
    return np.asarray(beta.ppf(_even(), middle, middle) * (count - 1))


@lru_cache
def _normal_quantiles() -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri(_even()))


def _even() -> Array:
    return (np.arange(REPLICATES) + 0.5) / REPLICATES
