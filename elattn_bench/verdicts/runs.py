"""What changed from one run to another, case by case, and what fails a comparison. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from elattn_bench.analysis import Ratio, in_order, latency_ratio, quotient, short_status
from elattn_bench.environment import PASSING
from elattn_bench.names import check_names
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import format_bytes
from elattn_bench.verdicts.nouns import Estimate
from elattn_bench.verdicts.reference import Comparison
from elattn_bench.verdicts.significance import (
    SIGNIFICANT,
    Scatter,
    corrected,
    p_values,
    ratio_of_medians,
    scatter,
    scatter_p,
)
from elattn_bench.visits import Visit

DEFAULT_THRESHOLD = 0.05  # a change below 5 % is within what two runs of one machine differ by
FAILURES = ("slower", "memory", "failed", "error")
FAILED = ("oom", "timeout", "error")  # outcomes that are a failure; an unsupported case is none

Verdict = Literal["faster", "slower", "same", "unclear", "only in A", "only in B", "not measured"]


@dataclass(frozen=True, slots=True)
class Change:
    """One case in two runs, A and B.

    latency, memory, params: B over A; above 1, B is slower or needs more. None where not measured. Memory is infinite
        where A needed 0 bytes and B does not.
    p_value, p_corrected: that A and B are equally fast, by their samples and by what unchanged cases scatter
        (``significance``), alone and among all stable cases compared; None where a run has no raw samples,
        p_corrected also where a row is not stable.
    reason: of an ``unclear`` verdict: ``noisy`` or ``throttled``, a row is not stable; ``interval``, it reaches over
        the threshold; ``p``, chance could do as much; ``drift``, so could the machine.
    """

    case_id: str
    before: Row | None
    after: Row | None
    latency: Ratio | None
    memory: float | None
    params: float | None
    verdict: Verdict
    p_value: float | None = None
    p_corrected: float | None = None
    reason: str = ""

    @property
    def row(self) -> Row:
        """The case as one of the runs has it."""
        row = self.before or self.after
        assert row is not None
        return row

    @property
    def unstable(self) -> str:
        """``throttled`` or ``noisy`` where a row is; empty where both are stable."""
        words = {row.stability or "noisy" for row in (self.before, self.after) if row} - {"stable"}
        return "" if not words else "throttled" if "throttled" in words else "noisy"

    @property
    def failed(self) -> str:
        """``oom``, ``timeout`` or ``error`` where A measured the case and B could not; else empty."""
        return _failed(self.after, self.before)


def compare_runs(run: Run, other: Run, threshold: float = DEFAULT_THRESHOLD) -> list[Change]:
    """Every case of either run, matched by its id; sorted by facet, line and length."""
    (changes,) = compare_many(run, [other], threshold)
    return changes


def compare_many(run: Run, others: Sequence[Run], threshold: float = DEFAULT_THRESHOLD) -> list[list[Change]]:
    """What ``compare_runs`` says of the run and each of the others, with p-values corrected for all together."""
    samples = run.samples()
    matched = [_matched(run, samples, other) for other in others]
    # Unstable cases are judged by no p, so that they are not among the many (Bourgon et al. 2010).
    found = [None if change.unstable else change.p_value for changes in matched for change in changes]
    together = iter(corrected(found))
    compared = [[replace(change, p_corrected=next(together)) for change in changes] for changes in matched]
    return [
        [_judged(change, threshold, max(machine_drift(run), machine_drift(other))) for change in changes]
        for other, changes in zip(others, compared, strict=True)
    ]


def _matched(run: Run, samples: Mapping[str, Sequence[Visit]], other: Run) -> list[Change]:
    """The cases of both, with ratios and p-values, not yet judged."""
    before = {row.case_id: row for row in run.rows}
    after = {row.case_id: row for row in other.rows}
    rows = in_order({**before, **after}.values())
    tests = _tests(before, after, samples, other.samples())
    ids = (row.case_id for row in rows)
    changes = [
        _change(case_id, before.get(case_id), after.get(case_id), tests.get(case_id)) for case_id in ids
    ]
    scattered = scatter_between(changes)
    return [_despite_scatter(change, scattered) for change in changes]


def scatter_between(changes: Iterable[Change]) -> Scatter:
    """By how much the runs differ in stable cases that did not change; see ``significance.scatter``."""
    return scatter([change.latency for change in changes if change.latency and not change.unstable])


def _despite_scatter(change: Change, scattered: Scatter) -> Change:
    """The change with the larger p: samples know nothing of the scatter, nor it of their number."""
    if change.p_value is None or change.latency is None:
        return change
    return replace(change, p_value=max(change.p_value, scatter_p(change.latency, scattered)))


def _tests(
    before: Mapping[str, Row],
    after: Mapping[str, Row],
    samples: Mapping[str, Sequence[Visit]],
    other_samples: Mapping[str, Sequence[Visit]],
) -> dict[str, float]:
    """p-values by case id, of the cases measured in both whose samples both have."""
    ids = [
        case_id
        for case_id, row in before.items()
        if row.ok
        and case_id in after
        and after[case_id].ok
        and samples.get(case_id)
        and other_samples.get(case_id)
    ]
    found = p_values([(samples[case_id], other_samples[case_id]) for case_id in ids])
    return dict(zip(ids, found, strict=True))


def _change(case_id: str, before: Row | None, after: Row | None, p_value: float | None) -> Change:
    if before is None or after is None:
        return Change(
            case_id, before, after, None, None, None, "only in B" if before is None else "only in A"
        )
    # Without samples nothing guards against a lucky interval: take the widest that the two medians allow.
    latency = latency_ratio(after, before) if p_value is None else ratio_of_medians(after, before)
    memory = _growth(after.peak_memory_bytes, before.peak_memory_bytes)
    params = quotient(after.params, before.params)
    return Change(case_id, before, after, latency, memory, params, "not measured", p_value)


def _growth(after: int | None, before: int | None) -> float | None:
    """``after / before``, infinite from 0 on; None where either is unknown, which 0 bytes are not."""
    if after is None or before is None:
        return None
    return after / before if before else math.inf if after else 1.0


def _judged(change: Change, threshold: float, drift: float) -> Change:
    if change.latency is None:
        return change
    verdict = judge(change.latency, threshold)
    reason = _doubt(change, verdict, judge(change.latency, max(threshold, drift)))
    return replace(change, verdict="unclear" if reason else verdict, reason=reason)


def _doubt(change: Change, verdict: Verdict, despite_drift: Verdict) -> str:
    """Why nothing is sure; empty where the verdict holds.

    Args:
        despite_drift: the verdict were the threshold what the machine drifted by.
    """
    if change.unstable:
        return change.unstable  # a neighbour does not slow every case alike: a narrow interval proves nothing
    if verdict in ("unclear", "same"):
        return "interval" if verdict == "unclear" else ""
    if change.p_corrected is not None and change.p_corrected > SIGNIFICANT:
        return "p"
    return "" if despite_drift == verdict else "drift"


def machine_drift(run: Run) -> float:
    """How far the run's control case strayed within a session, the slowest visit over the fastest; 0 if unknown.

    The same work at another time: a case that changed by less may owe it to the time. Between two runs the
    control case is no measure, for a change of the code may be what slowed it.
    """
    sessions = run.info.get("control", {}).get("sessions", [])
    return max((session.get("drift") or 0.0 for session in sessions), default=0.0)


def judge(latency: Ratio | Estimate | None, threshold: float) -> Verdict:
    """The verdict that the interval of a latency ratio allows.

    ``slower`` when all of it lies above 1 + threshold, ``faster`` when all of it lies below
    1 / (1 + threshold), ``same`` when all of it lies between, else ``unclear``. The lower bound is the
    inverse of the upper, so that swapping the runs swaps faster and slower and changes nothing else.
    """
    if latency is None:
        return "not measured"
    slower_above, faster_below = 1 + threshold, 1 / (1 + threshold)
    if latency.low > slower_above:
        return "slower"
    if latency.high < faster_below:
        return "faster"
    return "same" if latency.low >= faster_below and latency.high <= slower_above else "unclear"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two runs of the same cases agree.

    stable: cases that are ``stable`` in both runs; overlapping: those of them whose 95 % intervals overlap.
    """

    stable: int
    overlapping: int

    @property
    def share(self) -> float | None:
        """The overlapping share; None of nothing."""
        return self.overlapping / self.stable if self.stable else None


def agreement(changes: Iterable[Change]) -> Agreement:
    """The agreement of two runs: what a benchmark's intervals are worth."""
    both = [(change.before, change.after) for change in changes if change.before and change.after]
    stable = [(a, b) for a, b in both if a.stability == b.stability == "stable"]
    # Two intervals overlap just where the widest that their ratio may have holds 1.
    ratios = [ratio for a, b in stable if (ratio := latency_ratio(b, a))]
    return Agreement(len(ratios), sum(ratio.low <= 1 <= ratio.high for ratio in ratios))


def environment_differences(run: Run, *others: Run) -> dict[str, tuple[Any, ...]]:
    """What the runs' environments differ in: key -> (A's value, B's value, ...); None where one lacks it."""
    environments = [item.info.get("environment", {}) for item in (run, *others)]
    lasting = [key for key in dict.fromkeys(itertools.chain(*environments)) if key not in PASSING]
    values = {key: tuple(environment.get(key) for environment in environments) for key in lasting}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def fails(
    comparisons: Iterable[Comparison | Change], kind: str, threshold: float = DEFAULT_THRESHOLD
) -> list[str]:
    """One sentence per case that crosses the line; empty when none does.

    Args:
        comparisons: what ``compare_to_reference`` or ``compare_runs`` returned.
        kind: ``slower``: slower than the reference (or than in run A) by more than the threshold, beyond
            doubt; ``memory``: more peak memory by more than the threshold; ``failed``: ended with oom, timeout or
            error where the reference (or run A) was measured; ``error``: with an error, whatever was before.
        threshold: a share: 0.05 is 5 %.

    Raises:
        UsageError: the kind is unknown.
    """
    check_names("fail-on", [kind], FAILURES)
    found = [(item.row.case_id, _FAILURES[kind](item, threshold)) for item in comparisons]
    return [f"{case_id}: {sentence}" for case_id, sentence in found if sentence]


def _slower(item: Comparison | Change, threshold: float) -> str:
    ratio = item.latency if isinstance(item, Change) else item.speed_up and item.speed_up.inverse
    doubtful = isinstance(item, Change) and item.verdict != "slower"
    if not ratio or doubtful or judge(ratio, threshold) != "slower":
        return ""
    return f"takes {ratio.value:.3g}x as long, interval [{ratio.low:.3g}, {ratio.high:.3g}]"


def _more_memory(item: Comparison | Change, threshold: float) -> str:
    ratio = item.memory if isinstance(item, Change) else item.memory_ratio
    if ratio is None or ratio <= 1 + threshold:
        return ""
    if math.isinf(ratio) and isinstance(item, Change) and item.after:
        return f"needs {format_bytes(item.after.peak_memory_bytes)} of peak memory, from 0 B"
    return f"needs {ratio:.3g}x the peak memory"


def _fails_now(item: Comparison | Change, threshold: float) -> str:
    row, base = (item.after, item.before) if isinstance(item, Change) else (item.row, item.reference)
    found = _failed(row, base)
    whom = "run A" if isinstance(item, Change) else "the reference"
    return f"ended with {found} where {whom} was measured: {row.reason}" if row and found else ""


def _failed(row: Row | None, base: Row | None) -> str:
    """How the row failed where the other was measured; empty where it did not."""
    if row is None or base is None or not base.ok:
        return ""
    word = short_status(row.status)
    return word if word in FAILED else ""


def _error(item: Comparison | Change, threshold: float) -> str:
    row = item.after if isinstance(item, Change) else item.row
    return f"ended with an error: {row.reason}" if row and row.status == "error" else ""


_FAILURES: Mapping[str, Callable[[Comparison | Change, float], str]] = {
    "slower": _slower,
    "memory": _more_memory,
    "failed": _fails_now,
    "error": _error,
}
