"""The control case: one case measured at the start, the middle and the end of a sweep, to see the machine drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elattn_bench import stats
from elattn_bench.cases import Case
from elattn_bench.results import Measurement, Outcome
from elattn_bench.units import format_ms

LARGEST_DRIFT = 0.05  # between any two visits; more, and rows measured at different times do not compare

# Some milliseconds per call on most devices, in a kernel that every torch has; the same in every run.
CASES: Mapping[str, Case] = {
    "cpu": Case("softmax", "sdpa", "op", "forward", "float32", "cpu", False, 1, 8, 1024, 256),
    "cuda": Case("softmax", "sdpa", "op", "forward", "float16", "cuda", False, 4, 16, 4096, 1024),
}


def visit(at: str, when: str, outcome: Outcome) -> dict[str, Any]:
    """One visit as run.json holds it.

    Args:
        at: ``start``, ``middle`` or ``end``.
        when: the date and time.
        outcome: what the control case gave.
    """
    if not isinstance(outcome, Measurement):
        return {"at": at, "when": when, "status": outcome.status, "reason": outcome.reason, "timed_s": None}
    latency = stats.summarise(outcome.latency_ms)
    return {
        "at": at,
        "when": when,
        "status": "ok",
        "latency_ms_p50": latency.p50,
        "latency_ms_ci_low": latency.ci_low,
        "latency_ms_ci_high": latency.ci_high,
        "stability": outcome.stability,
        "timed_s": outcome.timed_s,
    }


def drift(visits: Sequence[Mapping[str, Any]]) -> float | None:
    """How far the slowest visit lies above the fastest, as a share; None where fewer than two were measured."""
    medians = _medians(visits)
    return max(medians) / min(medians) - 1 if len(medians) > 1 else None


def warning(visits: Sequence[Mapping[str, Any]]) -> str | None:
    """What a person must know of the drift; None while it is within 5 %."""
    found = drift(visits)
    if found is None or found <= LARGEST_DRIFT:
        return None
    seen = ", ".join(
        f"{format_ms(each['latency_ms_p50'])} at the {each['at']}"
        for each in visits
        if each["status"] == "ok"
    )
    return (
        f"the machine drifted by {found:.0%} while the sweep ran: the control case took {seen}. Other work, heat or a "
        "shared host do that; rows measured at different times differ by as much: quieten the machine and sweep again"
    )


def _medians(visits: Sequence[Mapping[str, Any]]) -> list[float]:
    return [each["latency_ms_p50"] for each in visits if each["status"] == "ok"]
