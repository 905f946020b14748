"""What a score is drawn against: parameters, time, memory, latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elattn_bench.figures.quality.nouns import Beside
from elattn_bench.figures.style import latency_tick, latency_ticks, memory_tick, memory_ticks, thin
from elattn_bench.quality.scores import Score

LEAST_SPAN = 2.0  # of an axis: what hardly differs shall look like it
FINE = (1, 1.5, 2, 3, 4, 5, 7)  # ticks of an axis that holds less than two of the coarser ones
MARGIN = 0.12  # of an axis, free at both ends


@dataclass(frozen=True, slots=True)
class Cost:
    """A horizontal axis: its title, where there is room and where there is not, what stands on it, its ticks.

    ``of``: None where it is unknown, or 0, which has no place on a logarithmic axis.
    """

    label: str
    short: str
    of: Callable[[Score], float | None]
    ticks: Callable[[float, float, int], Sequence[float]]
    tick: Callable[[float], str]


def decimal_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the two, at most so many: the densest of 1-2-5, 1-3 and decades that fits."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**n for n in range(first, last + 1) for m in multiples if low <= m * 10.0**n <= high]
        if len(ticks) <= most:
            break
    if len(ticks) < 2:
        ticks = [m * 10.0**n for n in range(first, last + 1) for m in FINE if low <= m * 10.0**n <= high]
    return thin(ticks if len(ticks) > 1 else latency_ticks(low, high), most)


def binary_ticks(low: float, high: float, most: int) -> list[float]:
    """Sizes between the two, at most so many."""
    return thin(memory_ticks(low, high), most)


def count_tick(count: float) -> str:
    """``500``, ``20k``, ``1M``: thousands, as parameters are told."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:.3g}{unit}"
    return f"{count:.3g}"


PARAMS = Cost("parameters", "parameters", lambda score: score.params or None, decimal_ticks, count_tick)
STEP = Cost(
    "time of a training step",
    "step time",
    lambda score: score.step_ms_p50 or None,
    decimal_ticks,
    latency_tick,
)
TRAINING = Cost(
    "training time", "training", lambda score: 1e3 * (score.train_s or 0) or None, decimal_ticks, latency_tick
)
MEMORY = Cost(
    "peak memory of a step",
    "peak memory",
    lambda score: score.peak_memory_bytes or None,
    binary_ticks,
    memory_tick,
)


def costs_of(found: Sequence[Score], beside: Beside) -> list[Cost]:
    """Those that are known; a step's median rather than the whole training, which a disturbed hour lengthens."""
    time = STEP if any(map(STEP.of, found)) else TRAINING
    label = beside.latency_label
    latency = Cost(
        label, label, lambda score: beside.latency_ms.get(score.model), decimal_ticks, latency_tick
    )
    costs = (PARAMS, time, MEMORY, latency)
    return [cost for cost in costs if any(map(cost.of, found))]


def limits_of(values: Sequence[float]) -> tuple[float, float]:
    """A logarithmic axis around the values, at least a factor of two long."""
    low, high = min(values), max(values)
    missing = max(1.0, LEAST_SPAN / (high / low)) ** 0.5
    low, high = low / missing, high * missing
    room = (high / low) ** MARGIN
    return low / room, high * room
