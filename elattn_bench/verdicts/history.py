"""What became of each case over many runs of one machine: steps, drifts, and which run brought them. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from elattn_bench import control
from elattn_bench.analysis import in_order
from elattn_bench.errors import UsageError
from elattn_bench.names import check_names
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.verdicts.change_points import FEWEST_RUNS, Course, Step, courses
from elattn_bench.verdicts.means import geometric_mean
from elattn_bench.verdicts.noise import noises
from elattn_bench.verdicts.nouns import VERDICT_METRICS
from elattn_bench.verdicts.runs import DEFAULT_THRESHOLD, judge

MACHINE = ("device", "device_name", "cpu_model", "cpu_cores", "threads")
"""Runs of one history agree in these; versions of torch and of this tool may differ, for they are what changes."""

VERSIONS = ("torch", "python", "numpy", "triton")
"""What may change between two runs and change latencies, beside the code measured."""

WORTH_IT = 0.9  # of the noise may be left when latencies are taken relative to the control case
CONTROL = control.CASES["cpu"]  # those of other devices differ in shape alone
LEAST_BYTES = 1.0  # what 0 bytes are taken as where values are divided: they have no ratio and no logarithm

Verdict = Literal["faster", "slower", "more", "less", "same", "unclear", "failed", "few runs"]
"""``more`` and ``less`` are memory's ``slower`` and ``faster``; ``failed``: it was measured once, and no longer."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run's value of one case: median latency in ms with its interval, or bytes.

    run: index of the run in the history.
    sure: whether nothing disturbed it: the case was stable; bytes are always sure.
    """

    run: int
    value: float
    low: float
    high: float
    sure: bool

    @property
    def divisible(self) -> float:
        """The value, and 1 byte where it is 0: what ratios are made of."""
        return self.value or LEAST_BYTES


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """One case over all runs that measured it.

    latest: its row in the last run that has one, measured or not.
    points: values in the order of the runs.
    course: of the values, or of those over the control case's; indices are of points.
    failed_in: index of the first run after the last value in which it failed; None where it has not since.
    """

    latest: Row
    points: tuple[Point, ...]
    course: Course
    metric: str
    threshold: float
    failed_in: int | None = None

    @property
    def case_id(self) -> str:
        """The case's id."""
        return self.latest.case_id

    @property
    def last_step(self) -> Step | None:
        """The last accepted change."""
        return self.course.steps[-1] if self.course.steps else None

    @property
    def sure_steps(self) -> tuple[Step, ...]:
        """The accepted changes but for those that rest on one run in which the case was not stable."""
        return tuple(step for step in self.course.steps if not is_doubtful(self.points, step))

    @property
    def verdict(self) -> Verdict:
        """On the last change, or on there being none.

        ``failed`` when the latest row has no value: what was before says nothing of that. ``same`` when the interval of
        the likeliest change lies within the threshold, ``unclear`` when it does not, or when the last change rests on
        one run that was disturbed.
        """
        course, last = self.course, self.last_step
        if self.failed_in is not None:
            return "failed"
        if course.noise is None:
            return "few runs"
        if last is not None:
            return _word(last.ratio.value, self.metric) if last in self.sure_steps else "unclear"
        if course.drift is not None:
            return _word(course.drift.value, self.metric)
        assert course.likeliest is not None
        same = judge(course.likeliest.ratio, self.threshold) == "same"
        return "same" if same else "unclear"

    def run_of(self, index: int) -> int:
        """Index of the run that a value of the course is of."""
        return self.points[index].run


@dataclass(frozen=True, slots=True)
class History:
    """All cases of all runs.

    runs: in the order of time.
    speeds: the control case's time in each run over that in the first; None where a run has none.
    relative: whether the values judged are those over the control case's.
    noises: typical noise (median over cases) of latencies as measured, and over the control case's; None: unknown.
    machine_changed: indices of the runs that brought changes of torch's own kernel too, which no commit touches.
    """

    runs: tuple[Run, ...]
    metric: str
    threshold: float
    cases: tuple[CaseHistory, ...]
    speeds: tuple[float | None, ...]
    relative: bool
    noises: tuple[float | None, float | None]
    machine_changed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Turn:
    """All changes in one direction that one run brought.

    before, after: indices of the run and of the last before it that has the cases.
    cases: each with its step.
    """

    before: int
    after: int
    verdict: Verdict
    cases: tuple[tuple[CaseHistory, Step], ...]

    @property
    def ratio(self) -> float:
        """Geometric mean of after over before."""
        mean = geometric_mean(step.ratio.value for _, step in self.cases)
        assert mean is not None
        return mean

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest ratio."""
        ratios = [step.ratio.value for _, step in self.cases]
        return min(ratios), max(ratios)


def history(runs: Sequence[Run], metric: str = "latency", threshold: float = DEFAULT_THRESHOLD) -> History:
    """What became of every case, sorted by facet, line and length.

    Args:
        runs: of one machine, in the order of time.
        metric: ``latency`` or ``memory``.
        threshold: the smallest change that counts, a share.

    Raises:
        UsageError: the metric is unknown, or there are fewer than two runs.
    """
    check_names("metric", [metric], VERDICT_METRICS)
    if len(runs) < 2:
        raise UsageError(f"a history needs two runs at least, and {len(runs)} can be read")
    series, speeds = _points(runs, metric), _speeds(runs)
    plain = {case_id: _logs(points) for case_id, points in series.items()}
    over_control = _over_control(series, speeds) if metric == "latency" and _one_torch(runs) else {}
    quiet = (_typical_noise(plain), _typical_noise(over_control))
    relative = quiet[0] is not None and quiet[1] is not None and quiet[1] < WORTH_IT * quiet[0]
    judged = over_control if relative else plain
    found = courses(list(judged.values()), threshold, exact=metric == "memory")
    by_id = dict(zip(judged, found, strict=True))
    cases = tuple(
        CaseHistory(row, points, by_id[row.case_id], metric, threshold, _failed_in(runs, row, points[-1].run))
        for row in in_order(_latest(runs, series))
        for points in [series[row.case_id]]
    )
    changed = _machine_changed(cases) if metric == "latency" else frozenset()
    return History(tuple(runs), metric, threshold, cases, speeds, relative, quiet, changed)


def _points(runs: Sequence[Run], metric: str) -> dict[str, tuple[Point, ...]]:
    """The measured values of every case, in the order of the runs."""
    series: defaultdict[str, list[Point]] = defaultdict(list)
    for index, run in enumerate(runs):
        for row in run.rows:
            if (point := _point(index, row, metric)) is not None:
                series[row.case_id].append(point)
    return {case_id: tuple(points) for case_id, points in series.items()}


def _point(run: int, row: Row, metric: str) -> Point | None:
    if metric == "memory":
        size = row.peak_memory_bytes
        return Point(run, size, size, size, True) if row.ok and size is not None else None
    median = row.latency_ms_p50
    if not row.ok or not median:
        return None
    low, high = row.latency_ms_ci_low or median, row.latency_ms_ci_high or median
    return Point(run, median, low, high, row.stability == "stable")


def _logs(points: Iterable[Point]) -> NDArray[np.float64]:
    return np.log([point.divisible for point in points])


def _latest(runs: Sequence[Run], series: Mapping[str, object]) -> list[Row]:
    """The last row of each case that was measured at all."""
    rows = {row.case_id: row for run in runs for row in run.rows}
    return [row for case_id, row in rows.items() if case_id in series]


def _failed_in(runs: Sequence[Run], latest: Row, measured: int) -> int | None:
    """The first run after the last that measured the case in which it failed; None where the latest row is none."""
    if latest.ok:
        return None
    later = ((index, row) for index, run in enumerate(runs) if index > measured for row in run.rows)
    return next((index for index, row in later if row.case_id == latest.case_id and not row.ok), None)


def is_control(row: Row) -> bool:
    """Whether the row is of what control cases are of: torch's own kernel, with nothing of this code around it."""
    return (row.attention, row.backend, row.level) == (CONTROL.attention, CONTROL.backend, CONTROL.level)


def _machine_changed(cases: Iterable[CaseHistory]) -> frozenset[int]:
    """The runs that brought changes of torch's own kernel."""
    own = [case for case in cases if is_control(case.latest)]
    return frozenset(case.run_of(step.after) for case in own for step in case.sure_steps)


def _speeds(runs: Sequence[Run]) -> tuple[float | None, ...]:
    """The control case's time in each run, over that in the first that has it."""
    times = [_control_ms(run) for run in runs]
    first = next((time for time in times if time is not None), None)
    return tuple(time / first if time and first else None for time in times)


def _control_ms(run: Run) -> float | None:
    """Geometric mean of the control case's medians over all its visits; None where there was none."""
    sessions = run.info.get("control", {}).get("sessions", [])
    medians = [visit.get("latency_ms_p50") for session in sessions for visit in session.get("visits", [])]
    return geometric_mean(median for median in medians if median)


def _one_torch(runs: Sequence[Run]) -> bool:
    # The control case is torch's own kernel: where torch changes, it does not tell of the machine.
    return len({run.info.get("environment", {}).get("torch") for run in runs}) == 1


def _over_control(
    series: Mapping[str, Sequence[Point]], speeds: Sequence[float | None]
) -> dict[str, NDArray[np.float64]]:
    """The logarithms of values over the control case's; nothing where a run lacks it."""
    if any(speed is None for speed in speeds):
        return {}
    logs = [math.log(speed) for speed in speeds if speed is not None]
    return {
        case_id: _logs(points) - np.array([logs[point.run] for point in points])
        for case_id, points in series.items()
    }


def _typical_noise(series: Mapping[str, NDArray[np.float64]]) -> float | None:
    """The median over cases of the noise from run to run; None where no case has runs enough."""
    long = [values for values in series.values() if len(values) >= FEWEST_RUNS]
    return float(np.median([noise.sd for noise in noises(long)])) if long else None


def is_doubtful(points: Sequence[Point], step: Step) -> bool:
    """Whether all there is on one side of the step is one run, and either run beside it is unsure."""
    return step.alone and not all(points[index].sure for index in (step.before, step.after))


def _word(ratio: float, metric: str) -> Verdict:
    words: Mapping[str, tuple[Verdict, Verdict]] = {
        "latency": ("slower", "faster"),
        "memory": ("more", "less"),
    }
    return words[metric][ratio < 1]


def turns(found: History) -> list[Turn]:
    """The changes of all cases by the run that brought them, in the order of the runs, ``faster`` first."""
    groups: defaultdict[tuple[int, Verdict], list[tuple[CaseHistory, Step]]] = defaultdict(list)
    for case in found.cases:
        for step in case.sure_steps:
            groups[case.run_of(step.after), _word(step.ratio.value, found.metric)].append((case, step))
    return [
        Turn(max(case.run_of(step.before) for case, step in cases), after, verdict, tuple(cases))
        for (after, verdict), cases in sorted(groups.items())
    ]


def new_versions(before: Run, after: Run) -> list[str]:
    """What else changed from one run to another: ``torch 2.8 -> 2.9``."""
    a, b = (run.info.get("environment", {}) for run in (before, after))
    return [
        f"{name} {a[name]} -> {b[name]}"
        for name in VERSIONS
        if a.get(name) and b.get(name) and a[name] != b[name]
    ]


def machine_of(run: Run) -> tuple[Any, ...]:
    """What tells the run's machine from others; None for what an old run does not say."""
    environment = run.info.get("environment", {})
    return tuple(environment.get(key) for key in MACHINE)


def fails(found: History, kind: str) -> list[str]:
    """One sentence per case that the last change made worse, for ``--fail-on``; empty when there is none.

    Args:
        found: what ``history`` returned.
        kind: ``slower``, for latency; ``memory``: more of it; ``error``: an error in the last run; ``failed``: the
            last run could not measure what an earlier one did, whatever the reason.

    Raises:
        UsageError: the kind does not fit the metric.
    """
    last = found.runs[-1]
    if kind == "error":
        rows = [row for row in last.rows if row.status == "error"]
        return [f"{row.case_id}: ended with an error: {row.reason}" for row in rows]
    if kind == "failed":
        present = {row.case_id for row in last.rows}
        return [
            _failure(case, found) for case in found.cases if case.verdict == kind and case.case_id in present
        ]
    needed = {"slower": "latency", "memory": "memory"}[kind]
    if found.metric != needed:
        raise UsageError(f"--fail-on {kind}: judges {needed}, and this is --metric {found.metric}")
    return [
        f"{case.case_id}: {_worse(case, found)}" for case in found.cases if case.verdict in ("slower", "more")
    ]


def _failure(case: CaseHistory, found: History) -> str:
    assert case.failed_in is not None
    return (
        f"{case.case_id}: {case.latest.status} since {found.runs[case.failed_in].name}: {case.latest.reason}"
    )


def _worse(case: CaseHistory, found: History) -> str:
    step, drift = case.last_step, case.course.drift
    if step is not None:
        ratio, name = step.ratio, found.runs[case.run_of(step.after)].name
        what = "time" if found.metric == "latency" else "peak memory"
        sentence = (
            f"takes {ratio.value:.3g}x the {what} since {name}, interval [{ratio.low:.3g}, {ratio.high:.3g}]"
        )
        too = case.run_of(step.after) in found.machine_changed
        return f"{sentence}; the machine changed there too" if too else sentence
    assert drift is not None
    return f"grows by {drift.value - 1:.2%} from run to run, interval [{drift.low - 1:.2%}, {drift.high - 1:.2%}]"
