"""Fits of times, whose errors are shares of them: a microsecond matters where the whole is ten."""

from __future__ import annotations

from collections.abc import Sequence

from elattn_bench.units import Seconds

SMALLEST = 1e-9  # share of the times that a coefficient begins with: from 0 the search would not leave


def fit_relative(designs: Sequence[Sequence[float]], seconds: Sequence[Seconds]) -> list[float]:
    """Coefficients, none negative, of which the sums over each design are nearest to the times, as ratios.

    Least squares of the logarithms' differences: half a time is as wrong as twice. From non-negative least squares of
    relative errors (Lawson & Hanson 1974, "Solving Least Squares Problems", chapter 23), within bounds by a trust
    region (Branch, Coleman & Li 1999).

    Args:
        designs: what each coefficient is multiplied by, one sequence a time.
    """
    import numpy as np
    from scipy.optimize import least_squares, nnls

    times = np.asarray(seconds, float)
    rows = np.asarray(designs, float) / times[:, None]
    # Columns of like size: latencies and bytes differ by many powers of ten.
    sizes = np.maximum(np.linalg.norm(rows, axis=0), np.finfo(float).tiny)
    start, _ = nnls(rows / sizes, np.ones(len(rows)))
    found = least_squares(
        lambda shares: np.log(rows / sizes @ shares),
        np.maximum(start, SMALLEST),
        bounds=(0, np.inf),
        xtol=1e-12,
    ).x
    return [float(value) for value in found / sizes]
