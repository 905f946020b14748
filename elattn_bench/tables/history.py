"""Tables of a history: what each run changed, and what became of each case, as ``render.Report``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from elattn_bench.analysis import Facet
from elattn_bench.tables.comparison import axes_of
from elattn_bench.tables.listings import NO_NUMBER, SMALLEST_RATIO, format_ratio, interval_record
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import counted, format_bytes, format_length, format_ms, significant
from elattn_bench.verdicts.change_points import FEWEST_RUNS
from elattn_bench.verdicts.history import CONTROL, CaseHistory, History, Turn, is_control, new_versions, turns
from elattn_bench.verdicts.nouns import Estimate

STRIKING = ("faster", "slower", "more", "less", "failed")
MACHINE_TOO = "*"  # behind a run in which the machine changed too
FINE_DIGITS = 3  # of an interval's ends
LARGEST_RATIO = 1e5  # in plain figures
LONGEST_NAME = 10  # letters of a run's name in a table that fits 80 columns
MOST_LABELS = 6  # named in one sentence
CLOSE_TO_ALL = 0.9  # of the cases in a run, changed alike: the machine may have done it


def history_report(found: History) -> Report:
    """The runs' changes, then per facet every case with its last change; below it how to read them."""
    facets: defaultdict[Facet, list[CaseHistory]] = defaultdict(list)
    for case in found.cases:
        if not _says_nothing(case):
            facets[Facet.of(case.latest)].append(case)
    groups = turns(found)
    tables = [_turn_table(found, groups)] if groups else []
    tables += [_case_table(found, facet, cases) for facet, cases in facets.items()]
    about = {
        "history": [_run_record(found, index) for index in range(len(found.runs))],
        "metric": found.metric, "threshold": found.threshold, "over_control": found.relative,
        "noise": found.noises[0], "noise_over_control": found.noises[1],
        "turns": [_turn_record(found, turn) for turn in groups],
        "machine_changed": [found.runs[index].name for index in sorted(found.machine_changed)],
    }  # fmt: skip
    return Report(tables, [_record(found, case) for case in found.cases], _notes(found, groups), about)


def _turn_table(found: History, groups: Sequence[Turn]) -> Table:
    columns = [
        Column("from"), Column("to"), Column("cases", "right"), Column("verdict"), Column("mean", "right"),
        Column("range", "right"), Column("of", wraps=True),
    ]  # fmt: skip
    rows = [
        [
            _run(found, turn.before), _starred(found, turn.after), str(len(turn.cases)), turn.verdict,
            _times(turn.ratio), _range(turn), ", ".join(_labels(turn)),
        ]
        for turn in groups
    ]  # fmt: skip
    return Table(
        f"Changes of {_quantity(found)} over {len(found.runs)} runs: {_machine(found)}", columns, rows, 2
    )


def _labels(turn: Turn) -> list[str]:
    return list(dict.fromkeys(case.latest.label for case, _ in turn.cases))


def _range(turn: Turn) -> str:
    low, high = turn.range
    return NO_NUMBER if len(turn.cases) == 1 else f"{_digits(low)}-{_times(high)}"


def _machine(found: History) -> str:
    latest = found.runs[-1]
    threads = latest.info.get("environment", {}).get("threads")
    return f"{latest.device_name}, {counted(threads, 'thread')}" if threads else latest.device_name


def _quantity(found: History) -> str:
    return "latency" if found.metric == "latency" else "peak memory"


def _case_table(found: History, facet: Facet, cases: Sequence[CaseHistory]) -> Table:
    columns = [
        Column("impl"), Column("L", "right"), Column("latest", "right"), Column("change", "right"),
        Column("interval", "right"), Column("in"), Column("verdict"),
    ]  # fmt: skip
    rows = [
        [
            case.latest.label,
            format_length(case.latest.seq_len),
            _latest(found, case),
            *_change_cells(found, case),
        ]
        for case in cases
    ]
    strong = frozenset((i, len(columns) - 1) for i, case in enumerate(cases) if case.verdict in STRIKING)
    return Table(f"{_quantity(found).capitalize()}: {facet.text}", columns, rows, pinned=2, strong=strong)


def _latest(found: History, case: CaseHistory) -> str:
    if case.failed_in is not None:
        return case.latest.status
    value = case.points[-1].value
    return format_ms(value) if found.metric == "latency" else format_bytes(value)


def _change_cells(found: History, case: CaseHistory) -> list[str]:
    """The last step's ratio, interval and run; a drift's, per run; else what the likeliest step would be.

    Of a case that failed the run since which it did: what changed before is of no use to it.
    """
    step, course = case.last_step, case.course
    if case.failed_in is not None:
        return [NO_NUMBER, NO_NUMBER, _run(found, case.failed_in), case.verdict]
    if step is not None:
        return [*_ratio_cells(step.ratio), _starred(found, case.run_of(step.after)), case.verdict]
    if course.drift is not None:
        middle, low, high = (
            _percent(each) for each in (course.drift.value, course.drift.low, course.drift.high)
        )
        return [middle, f"[{low}, {high}]", "each run", case.verdict]
    interval = _ratio_cells(course.likeliest.ratio)[1] if course.likeliest else NO_NUMBER
    return [NO_NUMBER, interval, NO_NUMBER, case.verdict]


def _run(found: History, index: int) -> str:
    """The run's name; its number where names are too long for a column, and a note has the name."""
    return f"run {index + 1}" if _are_long(found) else found.runs[index].name


def _starred(found: History, index: int) -> str:
    """The run that brought a change, marked where the machine changed too."""
    return _run(found, index) + MACHINE_TOO * (index in found.machine_changed)


def _are_long(found: History) -> bool:
    return max(len(run.name) for run in found.runs) > LONGEST_NAME


def _percent(ratio: float) -> str:
    """How much more than 1: ``+1.2 %``."""
    return f"{100 * (ratio - 1):+.1f}%"


def _ratio_cells(ratio: Estimate) -> list[str]:
    return [_times(ratio.value), f"[{_digits(ratio.low)}, {_digits(ratio.high)}]"]


def _times(ratio: float) -> str:
    return format_ratio(ratio) if ratio < LARGEST_RATIO else f"{_digits(ratio)}x"


def _digits(ratio: float) -> str:
    """Three digits, in powers of ten where plain figures would be long: bytes over none."""
    plain = SMALLEST_RATIO <= ratio < LARGEST_RATIO
    return significant(ratio, FINE_DIGITS) if plain else f"{ratio:.{FINE_DIGITS}g}"


def _notes(found: History, groups: Sequence[Turn]) -> list[str]:
    counts = Counter(case.verdict for case in found.cases)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    notes = [f"{len(found.cases)} cases in {len(found.runs)} runs: {counted}."]
    return [
        *_long_names(found),
        *notes,
        *_drifts(found),
        *_machine_changes(found),
        *_suspicions(found, groups),
        *_versions(found, groups),
        *_left_out(found),
        *_how_to_read(found),
    ]


def _long_names(found: History) -> list[str]:
    """The names of the runs that the tables name by number."""
    if not _are_long(found):
        return []
    steps = [(case, step) for case in found.cases for step in case.course.steps]
    named = {case.run_of(index) for case, step in steps for index in (step.before, step.after)}
    named |= {case.failed_in for case in found.cases if case.failed_in is not None}
    names = ", ".join(f"run {index + 1} = {found.runs[index].name}" for index in sorted(named))
    return [f"{names}."] if named else []


def _drifts(found: History) -> list[str]:
    drifting = [(case, case.course.drift.value) for case in found.cases if case.course.drift is not None]
    if not drifting:
        return []
    ratios = [ratio for _, ratio in drifting]
    smallest, largest = _percent(min(ratios)), _percent(max(ratios))
    labels = _some_labels([case for case, _ in drifting])
    return [
        f"{len(drifting)} cases drift without a step, {smallest} to {largest} from run to run: of {labels}."
    ]


def _machine_changes(found: History) -> list[str]:
    """What the marks mean."""
    if not found.machine_changed:
        return []
    indices = sorted(found.machine_changed)
    names = ", ".join(found.runs[index].name for index in indices)
    new = any(new_versions(found.runs[index - 1], found.runs[index]) for index in indices if index)
    who = "the machine (or torch, see below)" if new else "the machine"
    return [
        f"{MACHINE_TOO} {names}: {who} changed too, for cases of {CONTROL.impl} did: torch's own kernel, "
        "which no commit touches. Do not blame the commits for the changes marked so before they are measured again."
    ]


def _suspicions(found: History, groups: Sequence[Turn]) -> list[str]:
    """Changes that the machine may have made: of nearly all cases, by about one factor, and by one run alone."""
    sentences = []
    for turn in groups:
        low, high = turn.range
        present = sum(any(point.run == turn.after for point in case.points) for case in found.cases)
        name = found.runs[turn.after].name
        if len(turn.cases) >= max(2.0, CLOSE_TO_ALL * present) and high / low < (1 + found.threshold) ** 2:
            sentences.append(f"{name}: nearly all cases changed alike; look at the machine before the code.")
    last = len(found.runs) - 1
    first = [case for turn in groups if turn.before == 0 for case, step in turn.cases if step.before == 0]
    if first:
        sentences.append(
            f"{found.runs[0].name}: {len(first)} changes after it rest on it alone; it may be what stands apart."
        )
    lone = [case for turn in groups if turn.after == last for case, _ in turn.cases]
    if lone:
        sentences.append(
            f"{found.runs[last].name}: its {len(lone)} changes rest on one run; sweep once more to be sure of them."
        )
    return sentences


def _versions(found: History, groups: Sequence[Turn]) -> list[str]:
    sentences = []
    for before, after in dict.fromkeys((turn.before, turn.after) for turn in groups):
        if changed := new_versions(found.runs[before], found.runs[after]):
            sentences.append(f"{found.runs[after].name}: with {', '.join(changed)}.")
    return sentences


def _left_out(found: History) -> list[str]:
    """Cases that came later, those of which nothing can be said, and those that the last run has no value of."""
    last = len(found.runs) - 1
    few = [case for case in found.cases if _says_nothing(case)]
    failed = [case for case in found.cases if case.failed_in is not None]
    absent = [case for case in found.cases if case.points[-1].run != last]
    gone = [case for case in absent if case.failed_in is None and not _says_nothing(case)]
    late = [case for case in found.cases if case.points[0].run]
    sentences = [
        f"{len(late)} cases are not measured in the first run, {found.runs[0].name}: of {_some_labels(late)}.",
        f"{len(few)} cases are measured in fewer than {FEWEST_RUNS} runs and left out: of {_some_labels(few)}.",
        f"{len(failed)} cases were measured once and failed since: of {_some_labels(failed)}.",
        f"{len(gone)} cases are not measured in the last run, {found.runs[last].name}: of {_some_labels(gone)}.",
    ]
    return [sentence for sentence, cases in zip(sentences, (late, few, failed, gone), strict=True) if cases]


def _says_nothing(case: CaseHistory) -> bool:
    """Whether there is no more to say of the case than that its runs are too few."""
    return case.verdict == "few runs"


def _some_labels(cases: Sequence[CaseHistory]) -> str:
    labels = list(dict.fromkeys(case.latest.label for case in cases))
    more = len(labels) - MOST_LABELS
    return ", ".join(labels[:MOST_LABELS]) + (f" and {more} more" if more > 0 else "")


def _how_to_read(found: History) -> list[str]:
    if all(case.course.noise is None for case in found.cases):
        return []
    what = "time" if found.metric == "latency" else "memory"
    sentences = [
        f"change: {what} after over {what} before, at the last change of the case, in the run that brought it. "
        f"Changes below {100 * found.threshold:g} % do not count. Without a change the interval is that of the "
        "likeliest one: the case is the same where it lies within the threshold, else unclear."
    ]
    if found.metric == "latency":
        return [*sentences, _assumption(found), *([_noise_note(found)] if found.noises[0] else [])]
    zero = any(not point.value for case in found.cases for point in case.points)
    return [*sentences, *(["0 bytes are taken as 1 byte in ratios."] if zero else [])]


def _assumption(found: History) -> str:
    """How far the changes reported can be trusted, and what tells where they cannot."""
    told = any(is_control(case.latest) for case in found.cases)
    tell = f"cases of {CONTROL.impl} tell of that"
    if not told:
        tell = f"sweep {CONTROL.impl} too, at level {CONTROL.level}, to be told of that"
    return (
        "Of the changes reported 5 % at most are false, if runs vary independently and about normally. A machine that "
        f"changes its ways for some runs makes changes too: {tell}."
    )


def _noise_note(found: History) -> str:
    plain, over_control = found.noises
    assert plain is not None
    typical = f"From run to run a typical case varies by {plain:.1%}"
    if over_control is None:
        return f"{typical}. Latencies are judged as measured: not every run has a control case, or torch changed."
    reason = "so that is what is judged" if found.relative else "so latencies are judged as measured"
    return f"{typical}, over the control case by {over_control:.1%}, {reason}."


def _run_record(found: History, index: int) -> dict[str, Any]:
    run = found.runs[index]
    environment = run.info.get("environment", {})
    return {
        "run": run.name, "started": run.info.get("started"), "git_commit": environment.get("git_commit"),
        "torch": environment.get("torch"), "control": found.speeds[index],
        "ok": sum(row.ok for row in run.rows), "cases": len(run.rows),
    }  # fmt: skip


def _turn_record(found: History, turn: Turn) -> dict[str, Any]:
    low, high = turn.range
    return {
        "from": found.runs[turn.before].name, "to": found.runs[turn.after].name, "verdict": turn.verdict,
        "ratio": turn.ratio, "ratio_low": low, "ratio_high": high,
        "cases": [case.case_id for case, _ in turn.cases], "machine_changed": turn.after in found.machine_changed,
    }  # fmt: skip


def _record(found: History, case: CaseHistory) -> dict[str, Any]:
    step, course = case.last_step or case.course.likeliest, case.course
    names = [found.runs[point.run].name for point in case.points]
    unit = "latency_ms" if found.metric == "latency" else "memory_bytes"
    return {
        **axes_of(case.latest),
        "verdict": case.verdict,
        "runs": len(case.points),
        "first_run": names[0], "last_run": names[-1], "last_status": case.latest.status,
        "failed_in": None if case.failed_in is None else found.runs[case.failed_in].name,
        f"{unit}_first": case.points[0].value, f"{unit}_last": case.points[-1].value,
        "noise": course.noise,
        "changes": len(course.steps),
        "changed_in": " ".join(names[each.after] for each in course.steps),
        "step_accepted": case.last_step is not None,
        "step_before": names[step.before] if step else None,
        "step_after": names[step.after] if step else None,
        "step_machine_changed": _by_machine_too(found, case),
        **interval_record("step_ratio", step.ratio if step else None),
        "step_p_value": step.p_value if step else None,
        **interval_record("drift_per_run", course.drift),
        "outliers": " ".join(names[index] for index in course.outliers),
    }  # fmt: skip


def _by_machine_too(found: History, case: CaseHistory) -> bool | None:
    """Whether the machine changed in the run of the last change too; None where there is no change."""
    step = case.last_step
    return case.run_of(step.after) in found.machine_changed if step else None
