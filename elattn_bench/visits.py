"""Several visits to one case, spread over a sweep, and the measurement that they make together. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elattn_bench.results import WARNING_SEPARATOR, Measurement, Row
from elattn_bench.stats import instability
from elattn_bench.units import Milliseconds

DISTURBED_SHARE = 0.25  # of the visits; fewer hardly move the median of all, and widen its interval


@dataclass(frozen=True, slots=True)
class Visit:
    """The samples of one visit, and what disturbed it, if anything.

    disturbed: a sentence: other processes, or a device that slowed down; the latter is ``throttled``.
    """

    latency_ms: tuple[Milliseconds, ...]
    disturbed: str | None = None
    throttled: bool = False

    @classmethod
    def of(cls, measurement: Measurement) -> Visit:
        """The visit that the measurement is."""
        return cls(measurement.latency_ms, measurement.disturbed, measurement.stability == "throttled")

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Visit:
        """The visit as a line of samples.jsonl holds it."""
        throttled = record.get("throttled", False)
        return cls(tuple(record["latency_ms"]), record.get("disturbed"), throttled)

    def to_json(self, case_id: str) -> dict[str, Any]:
        """What ``from_json`` reads; quiet visits have nothing but their samples."""
        record: dict[str, Any] = {
            "case_id": case_id,
            "latency_ms": [float(f"{x:.7g}") for x in self.latency_ms],
        }
        trouble = {"disturbed": self.disturbed, "throttled": self.throttled}
        return {**record, **{name: value for name, value in trouble.items() if value}}


def stability(visits: Sequence[Visit]) -> tuple[str, str | None]:
    """``stable``, ``noisy`` or ``throttled``, and the criteria that a case which is not stable failed."""
    samples = list(itertools.chain.from_iterable(visit.latency_ms for visit in visits))
    disturbed = [visit for visit in visits if visit.disturbed]
    counts = len(disturbed) > DISTURBED_SHARE * len(visits)
    reasons = [_disturbance(visits, disturbed)] if counts else []
    if unstable := instability(samples, [len(visit.latency_ms) for visit in visits]):
        reasons.append(unstable)
    if not reasons:
        return "stable", None
    word = "throttled" if counts and any(visit.throttled for visit in disturbed) else "noisy"
    return word, "; ".join(reasons)


def _disturbance(visits: Sequence[Visit], disturbed: Sequence[Visit]) -> str:
    worst = disturbed[-1].disturbed or ""
    return (
        worst
        if len(visits) == 1
        else f"{len(disturbed)} of {len(visits)} visits disturbed, the last: {worst}"
    )


def combined(earlier: Row, visits: Sequence[Visit], latest: Measurement) -> Measurement:
    """The measurement of all visits.

    Args:
        earlier: the case's row so far.
        visits: all of them, the latest too.
        latest: the latest alone.
    """
    word, reason = stability(visits)
    return replace(
        latest,
        latency_ms=tuple(itertools.chain.from_iterable(visit.latency_ms for visit in visits)),
        visits=tuple(len(visit.latency_ms) for visit in visits),
        stability=word,
        stability_reason=reason,
        compile_s=earlier.compile_s,  # of the first visit: later ones find the compiled code
        timed_s=(earlier.timed_s or 0.0) + (latest.timed_s or 0.0),
        warnings=_merged(earlier.warnings, latest.warnings),
    )


def _merged(earlier: str | None, latest: Sequence[str]) -> tuple[str, ...]:
    """The last warning of each kind; what follows from the figures of all visits is told anew from them."""
    sentences = [*filter(None, (earlier or "").split(WARNING_SEPARATOR)), *latest]
    kinds = {sentence.partition(":")[0]: sentence for sentence in sentences}
    return tuple(sentence for kind, sentence in kinds.items() if kind != "implausible")
