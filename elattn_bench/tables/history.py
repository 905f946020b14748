"""Tables of a history: what each run changed, and what became of each case, as ``render.Report``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from elattn_bench.analysis import Facet
from elattn_bench.tables.comparison import axes_of
from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_bytes, format_length, format_ms, significant
from elattn_bench.verdicts.change_points import FEWEST_RUNS
from elattn_bench.verdicts.history import CaseHistory, History, Turn, new_versions, turns
from elattn_bench.verdicts.nouns import Estimate

CHANGED = ("faster", "slower", "more", "less")
FINE_DIGITS = 3  # of an interval's ends
LONGEST_NAME = 10  # letters of a run's name in a table that fits 80 columns
MOST_LABELS = 6  # named in one sentence
CLOSE_TO_ALL = 0.9  # of the cases in a run, changed alike: the machine may have done it


def history_report(found: History) -> Report:
    """The runs' changes, then per facet every case with its last change; below it how to read them."""
    facets: defaultdict[Facet, list[CaseHistory]] = defaultdict(list)
    for case in found.cases:
        if case.course.noise is not None:
            facets[Facet.of(case.latest)].append(case)
    groups = turns(found)
    tables = [_turn_table(found, groups)] if groups else []
    tables += [_case_table(found, facet, cases) for facet, cases in facets.items()]
    about = {
        "history": [_run_record(found, index) for index in range(len(found.runs))],
        "metric": found.metric, "threshold": found.threshold, "over_control": found.relative,
        "noise": found.noises[0], "noise_over_control": found.noises[1],
        "turns": [_turn_record(found, turn) for turn in groups],
    }  # fmt: skip
    return Report(tables, [_record(found, case) for case in found.cases], _notes(found, groups), about)


def _turn_table(found: History, groups: Sequence[Turn]) -> Table:
    columns = [
        Column("from"), Column("to"), Column("cases", "right"), Column("verdict"), Column("mean", "right"),
        Column("range", "right"), Column("of", wraps=True),
    ]  # fmt: skip
    rows = [
        [
            _run(found, turn.before), _run(found, turn.after), str(len(turn.cases)), turn.verdict,
            format_ratio(turn.ratio), _range(turn), ", ".join(_labels(turn)),
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
    return NO_NUMBER if len(turn.cases) == 1 else f"{significant(low, 3)}-{format_ratio(high)}"


def _machine(found: History) -> str:
    latest = found.runs[-1]
    threads = latest.info.get("environment", {}).get("threads")
    return f"{latest.device_name}, {threads} threads" if threads else latest.device_name


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
    strong = frozenset((i, len(columns) - 1) for i, case in enumerate(cases) if case.verdict in CHANGED)
    return Table(f"{_quantity(found).capitalize()}: {facet.text}", columns, rows, pinned=2, strong=strong)


def _latest(found: History, case: CaseHistory) -> str:
    value = case.points[-1].value
    return format_ms(value) if found.metric == "latency" else format_bytes(value)


def _change_cells(found: History, case: CaseHistory) -> list[str]:
    """The last step's ratio, interval and run; a drift's, per run; else what the likeliest step would be."""
    step, course = case.last_step, case.course
    if step is not None:
        return [*_ratio_cells(step.ratio), _run(found, case.run_of(step.after)), case.verdict]
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


def _are_long(found: History) -> bool:
    return max(len(run.name) for run in found.runs) > LONGEST_NAME


def _percent(ratio: float) -> str:
    """How much more than 1: ``+1.2 %``."""
    return f"{100 * (ratio - 1):+.1f}%"


def _ratio_cells(ratio: Estimate) -> list[str]:
    interval = f"[{significant(ratio.low, FINE_DIGITS)}, {significant(ratio.high, FINE_DIGITS)}]"
    return [format_ratio(ratio.value), interval]


def _notes(found: History, groups: Sequence[Turn]) -> list[str]:
    counts = Counter(case.verdict for case in found.cases)
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    notes = [f"{len(found.cases)} cases in {len(found.runs)} runs: {counted}."]
    return [
        *_long_names(found),
        *notes,
        *_drifts(found),
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
    few = [case for case in found.cases if case.course.noise is None]
    gone = [case for case in found.cases if case.course.noise is not None and case.points[-1].run != last]
    late = [case for case in found.cases if case.points[0].run]
    sentences = [
        f"{len(late)} cases came after the first run, {found.runs[0].name}: of {_some_labels(late)}.",
        f"{len(few)} cases are measured in fewer than {FEWEST_RUNS} runs and left out: of {_some_labels(few)}.",
        f"{len(gone)} cases are not measured in the last run, {found.runs[last].name}: of {_some_labels(gone)}.",
    ]
    return [sentence for sentence, cases in zip(sentences, (late, few, gone), strict=True) if cases]


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
        f"Changes below {100 * found.threshold:g} % do not count; of those reported 5 % at most are false. Without "
        "a change the interval is that of the likeliest one: the case is the same where it lies within the threshold, "
        "else unclear."
    ]
    return [*sentences, _noise_note(found)] if found.metric == "latency" and found.noises[0] else sentences


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
        "cases": [case.case_id for case, _ in turn.cases],
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
        f"{unit}_first": case.points[0].value, f"{unit}_last": case.points[-1].value,
        "noise": course.noise,
        "changes": len(course.steps),
        "changed_in": " ".join(names[each.after] for each in course.steps),
        "step_accepted": case.last_step is not None,
        "step_before": names[step.before] if step else None,
        "step_after": names[step.after] if step else None,
        **_estimate("step_ratio", step.ratio if step else None),
        "step_p_value": step.p_value if step else None,
        **_estimate("drift_per_run", course.drift),
        "outliers": " ".join(names[index] for index in course.outliers),
    }  # fmt: skip


def _estimate(name: str, found: Estimate | None) -> dict[str, float | None]:
    values = (found.value, found.low, found.high) if found else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
