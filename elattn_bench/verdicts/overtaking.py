"""Where one of two lines gets ahead of the other for good, or falls behind. Arrays in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from elattn_bench.verdicts.curve import Array
from elattn_bench.verdicts.nouns import Estimate, Where

TAIL = 0.025
SEVERAL = 2  # changes of the lead


@dataclass(frozen=True, slots=True)
class Overtaking:
    """A verdict on a pair of lines.

    length: of the last change of the lead, with its interval within the measured range; None without one.
    open_low, open_high: whether the interval goes on before the shortest or beyond the longest length.
    """

    where: Where
    length: Estimate | None = None
    open_low: bool = False
    open_high: bool = False
    reason: str = ""


def judge(lengths: Array, difference: Array, replicates: Array) -> Overtaking:
    """The verdict on the line that is ahead where the difference is negative.

    Args:
        lengths: at which both are known, ascending: [n], two at least.
        difference: of the logarithms of what they cost, [n].
        replicates: what the difference might as well be, [replicates, n].
    """
    (crossing,), (is_ahead,) = _last_change(lengths, difference[None])
    crossings, ahead = _last_change(lengths, replicates)
    # Where a replicate ends with the other in front, the change of this lead lies beyond the longest length.
    low, high = _interval(np.where(ahead == is_ahead, crossings, np.inf))
    if high == -np.inf:
        return Overtaking("always" if is_ahead else "never")
    if crossing == -np.inf:
        side = "ahead" if is_ahead else "behind"
        return Overtaking("unclear", reason=f"it is {side} at every measured length, but not beyond doubt")
    open_low, open_high = bool(low == -np.inf), bool(high == np.inf)
    if open_low and open_high:
        return Overtaking("unclear", reason="the two are too close")
    ends = max(min(low, crossing), lengths[0]), min(max(high, crossing), lengths[-1])
    length = Estimate(float(crossing), *map(float, ends))
    several = "the last of several changes of the lead" if _surely_several(replicates) else ""
    return Overtaking("at" if is_ahead else "until", length, open_low, open_high, several)


def _last_change(lengths: Array, differences: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Where each row's lead changes for the last time, -inf where it never does, and whether it ends ahead."""
    behind = differences > 0
    at_end = behind[:, -1]
    other = behind != at_end[:, None]
    last = np.maximum(other.shape[1] - 1 - other[:, ::-1].argmax(axis=1), 0)
    after = np.minimum(last + 1, len(lengths) - 1)
    rows = np.arange(len(differences))
    before, then = differences[rows, last], differences[rows, after]
    share = np.divide(before, before - then, out=np.zeros_like(before), where=before != then)
    logs = np.log(lengths)
    crossing = np.exp(logs[last] + share * (logs[after] - logs[last]))
    return np.where(other.any(axis=1), crossing, -np.inf), ~at_end


def _interval(crossings: Array) -> tuple[float, float]:
    ordered = np.sort(crossings)  # of infinities too, so no interpolation
    outside = int(TAIL * len(ordered))
    return float(ordered[outside]), float(ordered[-1 - outside])


def _surely_several(replicates: Array) -> bool:
    behind = replicates > 0
    changes = (behind[:, 1:] != behind[:, :-1]).sum(axis=1)
    return bool(np.quantile(changes, TAIL) >= SEVERAL)
