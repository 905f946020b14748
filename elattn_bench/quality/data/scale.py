"""By what series are standardised."""

from __future__ import annotations

import numpy as np

from elattn_bench.quality.data.nouns import Array


def mean_and_sd(steps: Array) -> tuple[Array, Array]:
    """The mean and the population sd of each channel of the steps [n, channels].

    A channel that never changes has sd 1: it becomes 0 and tells nothing, as in scikit-learn's StandardScaler, instead
    of nan. It is told by its range, for rounding may leave it an sd above 0.
    """
    changes = np.ptp(steps, axis=0) > 0
    return steps.mean(axis=0), np.where(changes, steps.std(axis=0), 1.0)
