"""The mean of ratios over cases, and how much it depends on which cases there are. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from elattn_bench.stats import CONFIDENCE, RESAMPLES
from elattn_bench.verdicts.nouns import Estimate


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean, the fair mean of ratios (Fleming & Wallace 1986); None of nothing."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def mean_ratio(ratios: Iterable[float]) -> Estimate | None:
    """The geometric mean of the ratios with its 95 % interval; None of nothing.

    The interval is the percentile bootstrap over cases (Efron 1979), seeded: it says how much the mean hangs on
    which cases were taken, not what a machine does another day. Of inverse ratios it is the inverse.
    """
    logs = np.log(np.fromiter(ratios, dtype=np.float64))
    if not len(logs):
        return None
    generator = np.random.default_rng(0)
    means = [logs[generator.integers(0, len(logs), len(logs))].mean() for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(math.exp(logs.mean()), math.exp(low), math.exp(high))
