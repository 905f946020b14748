"""Fits of times, whose errors are shares of them: a microsecond matters where the whole is ten."""

from __future__ import annotations

from collections.abc import Sequence

from elattn_bench.units import Seconds


def fit_relative(designs: Sequence[Sequence[float]], seconds: Sequence[Seconds]) -> list[float]:
    """Coefficients, none negative, of which the sums over each design are nearest to the times, in relative error.

    Non-negative least squares (Lawson & Hanson 1974, "Solving Least Squares Problems", chapter 23).

    Args:
        designs: what each coefficient is multiplied by, one sequence a time.
    """
    import numpy as np
    from scipy.optimize import nnls

    rows = np.asarray(designs, float) / np.asarray(seconds, float)[:, None]
    # Columns of like size: latencies and bytes differ by many powers of ten.
    sizes = np.maximum(np.linalg.norm(rows, axis=0), np.finfo(float).tiny)
    found, _ = nnls(rows / sizes, np.ones(len(rows)))
    return [float(value) for value in found / sizes]
