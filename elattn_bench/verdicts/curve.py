"""The curve ``constant + factor * L ** exponent`` through medians, many lines at once, in logarithms.

The constant keeps what a call costs at any length, such as launching it, from flattening the exponent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EXPONENTS = np.linspace(0.0, 3.5, 36)  # where the search begins
SHARES = np.concatenate(
    [[0.0], np.geomspace(0.02, 500.0, 13)]
)  # constant over growing part at the shortest length
STEPS = 30  # of Gauss and Newton; ten do unless the constant is nearly all
DAMPING = 1e-9  # of the diagonal: columns that hardly differ stay solvable
GAIN = 1e-6  # of the squares: a step that gains less changes no digit that is shown
LARGEST_SHARE = 1e6
STEEPEST = 6.0  # exponent; nothing that anybody times grows faster


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves ``exp(level) * (share + (L / shortest) ** exponent)``, one per line.

    level, exponent, share: [lines] or [lines, replicates].
    shortest: the shortest length, the same for all.
    """

    level: Array
    exponent: Array
    share: Array
    shortest: float

    def of(self, line: int) -> Curves:
        """Those of one line: [1] or [replicates]."""
        level, exponent, share = (
            np.atleast_1d(each[line]) for each in (self.level, self.exponent, self.share)
        )
        return Curves(level, exponent, share, self.shortest)

    def log_at(self, lengths: Array) -> Array:
        """The logarithm of the curves at the lengths: [..., lengths]."""
        grown = (lengths / self.shortest) ** self.exponent[..., None]
        return np.asarray(self.level[..., None] + np.log(self.share[..., None] + grown))

    @property
    def constant(self) -> Array:
        """What a call costs at any length."""
        return np.asarray(np.exp(self.level) * self.share)

    @property
    def factor(self) -> Array:
        """What stands before ``L ** exponent``."""
        return np.asarray(np.exp(self.level) / self.shortest**self.exponent)


def fit(lengths: Array, logs: Array, weights: Array, start: Curves | None = None) -> Curves:
    """The curves of least weighted squares of the logarithms; constants are never negative.

    Args:
        lengths: [n], ascending, at least four.
        logs: logarithms of the medians, [lines, n].
        weights: [lines, n].
        start: where Gauss and Newton's method begins; None: at the best of a grid.
    """
    x = np.log(lengths / lengths[0])
    exponent, share = (start.exponent, start.share) if start else _best_of_grid(x, logs, weights)
    level = _level(x, exponent, share, logs, weights)
    for _ in range(STEPS):
        residuals = logs - _model(x, level, exponent, share)
        step = _step(x, exponent, share, residuals, weights)
        tried = _moved(level, exponent, share, step)
        to_beat = _loss(residuals, weights) * (1 - GAIN)
        better = _loss(logs - _model(x, *tried), weights) < to_beat
        # Where a whole step overshoots, a short one in the same direction does not.
        short = _moved(level, exponent, share, step * 0.2)
        fine = ~better & (_loss(logs - _model(x, *short), weights) < to_beat)
        if not (better | fine).any():
            break
        level, exponent, share = (
            np.where(better, whole, np.where(fine, part, old))
            for whole, part, old in zip(tried, short, (level, exponent, share), strict=True)
        )
    return Curves(level, exponent, share, float(lengths[0]))


def refit(curves: Curves, lengths: Array, noise: Array, weights: Array) -> Curves:
    """The curves that a fit would give if the medians were the curves plus the noise.

    One step of the fit, not all: one-step bootstrapping (Schucany & Wang 1991), as good for noise of some
    per cent, and a thousand times faster.

    Args:
        noise: [lines, replicates, n].
        weights: [lines, n].
    """
    x = np.log(lengths / lengths[0])
    step = _step(x, curves.exponent, curves.share, noise, weights)
    level, exponent, share = _moved(
        curves.level[:, None], curves.exponent[:, None], curves.share[:, None], step
    )
    return Curves(level, exponent, share, curves.shortest)


def _model(x: Array, level: Array, exponent: Array, share: Array) -> Array:
    return np.asarray(level[..., None] + np.log(share[..., None] + np.exp(exponent[..., None] * x)))


def _loss(residuals: Array, weights: Array) -> Array:
    return np.asarray((weights * residuals**2).sum(axis=-1))


def _best_of_grid(x: Array, logs: Array, weights: Array) -> tuple[Array, Array]:
    exponents, shares = (axis.ravel() for axis in np.meshgrid(EXPONENTS[1:], SHARES))
    shapes = np.log(shares[:, None] + np.exp(exponents[:, None] * x))  # [cells, n]
    total = weights.sum(axis=1, keepdims=True)
    centred = weights * (logs - (weights * logs).sum(axis=1, keepdims=True) / total)
    # The level fits itself to every cell: what is left of the squares, up to what no cell changes.
    means = weights @ shapes.T / total
    spread = weights @ (shapes**2).T - total * means**2
    best = (spread - 2 * centred @ shapes.T).argmin(axis=1)
    return exponents[best], shares[best]


def _level(x: Array, exponent: Array, share: Array, logs: Array, weights: Array) -> Array:
    shape = _model(x, np.zeros_like(exponent), exponent, share)
    return np.asarray((weights * (logs - shape)).sum(axis=1) / weights.sum(axis=1))


def _step(x: Array, exponent: Array, share: Array, residuals: Array, weights: Array) -> Array:
    """The change of (level, exponent, share) that linear least squares asks for: [lines, (replicates,) 3].

    Where it would make the constant negative, the constant ends at 0 and the others make up for it.
    """
    grown = np.exp(exponent[:, None] * x)
    slope = grown * x / (share[:, None] + grown)
    lift = 1 / (share[:, None] + grown)
    jacobian = np.stack([np.ones_like(slope), slope, lift], axis=-1)  # [lines, n, 3]
    weighted = jacobian * weights[..., None]
    several = residuals.ndim == 3
    right = residuals if several else residuals[:, None, :]
    free = _solve(weighted, jacobian, right)
    negative = share[:, None] + free[..., 2] < 0
    # With the share fixed at 0, what it loses is moved to the residuals.
    moved = right + (share[:, None] * lift)[:, None, :]
    bound = np.zeros_like(free)
    bound[..., :2] = _solve(weighted[..., :2], jacobian[..., :2], moved)
    bound[..., 2] = -share[:, None]
    step = np.where(negative[..., None], bound, free)
    return np.asarray(step if several else step[:, 0])


def _solve(weighted: Array, jacobian: Array, right: Array) -> Array:
    normal = np.einsum("lni,lnj->lij", weighted, jacobian)
    normal += DAMPING * normal * np.eye(jacobian.shape[-1])
    target = np.einsum("lni,lrn->lir", weighted, right)
    return np.asarray(np.linalg.solve(normal, target).transpose(0, 2, 1))


def _moved(level: Array, exponent: Array, share: Array, step: Array) -> tuple[Array, Array, Array]:
    return (
        np.asarray(level + step[..., 0]),
        np.asarray(np.clip(exponent + step[..., 1], 0.0, STEEPEST)),
        np.asarray(np.clip(share + step[..., 2], 0.0, LARGEST_SHARE)),
    )
