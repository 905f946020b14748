"""What a score is drawn against: parameters, time, memory, latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elattn_bench.figures.quality.nouns import Beside, Standing
from elattn_bench.figures.style import latency_tick, latency_ticks, memory_tick, memory_ticks

LEAST_SPAN = 2.0  # of an axis: what hardly differs shall look like it
MARGIN = 0.12  # of an axis, free at both ends


@dataclass(frozen=True, slots=True)
class Cost:
    """A horizontal axis: its title, what stands on it, its ticks."""

    label: str
    of: Callable[[Standing], float | None]
    ticks: Callable[[float, float], Sequence[float]]
    tick: Callable[[float], str]


def count_tick(count: float) -> str:
    """``500``, ``20k``, ``1M``: thousands, as parameters are told."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= scale:
            return f"{count / scale:.3g}{unit}"
    return f"{count:.3g}"


PARAMS = Cost("parameters", lambda standing: standing.params, latency_ticks, count_tick)
STEP = Cost("training step", lambda standing: standing.step_ms, latency_ticks, latency_tick)
TRAINING = Cost("training time", lambda standing: standing.train_ms, latency_ticks, latency_tick)
MEMORY = Cost("peak memory", lambda standing: standing.memory, memory_ticks, memory_tick)


def costs_of(standings: Sequence[Standing], beside: Beside) -> list[Cost]:
    """Those that are known; a step's median rather than the whole training, which a disturbed hour lengthens."""
    time = STEP if any(standing.step_ms for standing in standings) else TRAINING
    latency = Cost(beside.latency_label, lambda standing: standing.latency_ms, latency_ticks, latency_tick)
    costs = (PARAMS, time, MEMORY, latency)
    return [cost for cost in costs if any(cost.of(standing) for standing in standings)]


def limits_of(values: Sequence[float]) -> tuple[float, float]:
    """A logarithmic axis around the values, at least a factor of two long."""
    low, high = min(values), max(values)
    missing = max(1.0, LEAST_SPAN / (high / low)) ** 0.5
    low, high = low / missing, high * missing
    room = (high / low) ** MARGIN
    return low / room, high * room
