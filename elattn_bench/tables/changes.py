"""Tables of what changed from one run to another, as ``render.Report``: the verdict, then the changed cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from elattn_bench.analysis import Setting, short_status
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.tables.comparison import axes_of
from elattn_bench.tables.headline import (
    counts,
    headline,
    interval_text,
    mean_of,
    memory_text,
    names,
    stable,
)
from elattn_bench.tables.listings import NO_NUMBER, format_ratio, interval_record, plain
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_length, format_ms, significant
from elattn_bench.verdicts.runs import (
    DEFAULT_THRESHOLD,
    Agreement,
    Change,
    agreement,
    environment_differences,
    machine_drift,
    scatter_between,
)

SIZES = ("batch", "heads", "dim")


def change_report(
    changes: Sequence[Change], run: Run, other: Run, threshold: float = DEFAULT_THRESHOLD
) -> Report:
    """The verdict in a sentence, a table of the changed cases, what else differs; records hold every case."""
    name_a, name_b = names((run, other))
    news = changed(changes, threshold)
    title = f"Changed cases, worse first: A = {name_a}, B = {name_b}"
    mean, scattered = mean_of(changes), scatter_between(changes)
    drifts = [machine_drift(each) for each in (run, other)]
    about = {
        "comparison": "runs", "a": run.name, "b": other.name, "threshold": threshold,
        "verdict": headline(changes, "A", "B", threshold, max(drifts)), "verdicts": counts(changes),
        "geometric_mean_latency_ratio": mean.value if mean else None,
        "geometric_mean_low": mean.low if mean else None, "geometric_mean_high": mean.high if mean else None,
        "geometric_mean_cases": len(stable(changes)), "failed": sum(bool(change.failed) for change in changes),
        "agreement": agreement(changes).share, "scatter": scattered.sd,
        "scatter_degrees_of_freedom": scattered.tail,
        "drift_a": drifts[0], "drift_b": drifts[1],
        "environment_differences": environment_differences(run, other),
    }  # fmt: skip
    return Report(
        [*([change_table(title, news)] if news else []), *environment_tables(["A", "B"], run, other)],
        [change_record(change) for change in changes],
        change_notes(changes, (run, other), threshold),
        about,
        [headline(changes, f"A = {name_a}", f"B = {name_b}", threshold, max(drifts))],
    )


def changed(changes: Iterable[Change], threshold: float) -> list[Change]:
    """The cases with news, of time, memory or outcome: what got worse first, largest changes first."""
    news = [(place, change) for change in changes if (place := _place(change, threshold))]
    return [change for _, change in sorted(news, key=lambda each: each[0])]


def _place(change: Change, threshold: float) -> tuple[int, float] | None:
    """Where a change with news stands among the others; None without news."""
    time = change.latency.value if change.latency else 1.0
    if change.before and change.after and change.before.ok != change.after.ok:
        return (0 if change.before.ok else 4, 0.0)
    if change.verdict == "slower":
        return (1, -time)
    memory = 1.0 if change.memory is None else change.memory
    if memory > 1 + threshold:
        return (2, -memory)
    if change.verdict == "faster":
        return (3, time)
    return (5, memory) if memory < 1 / (1 + threshold) else None


def varying(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """The fields of setting and sizes in which the rows differ, with how to write them; the others name no case."""
    of_setting = {name: _setting_word(name) for name in Setting._fields}
    of_sizes = {name: _size_word(name) for name in SIZES}
    return {
        name: word
        for name, word in {**of_setting, **of_sizes}.items()
        if len({word(row) for row in rows}) > 1
    }


def _setting_word(name: str) -> Callable[[Row], str]:
    return lambda row: Setting.of(row).words[name]


def _size_word(name: str) -> Callable[[Row], str]:
    return lambda row: str(getattr(row, name))


def change_table(title: str, changes: Sequence[Change]) -> Table:
    """One row per case: latencies, ratio, interval, verdict and memory; what all cases share is in the title."""
    rows = [item.row for item in changes]
    words = varying(rows)
    columns = [
        Column("impl"), *(Column(name, "right" if name in SIZES else "left") for name in words),
        Column("L", "right"), Column("B/A", "right"), Column("interval", "right"), Column("verdict"),
        Column("A", "right"), Column("B", "right"), Column("memory", "right"),
    ]  # fmt: skip
    cells = [
        [item.row.label, *(word(item.row) for word in words.values()), *_change_cells(item)]
        for item in changes
    ]
    strong = frozenset(
        (i, len(columns) - 4) for i, item in enumerate(changes) if item.verdict in ("faster", "slower")
    )
    return Table(f"{title}{_shared(rows, words)}", columns, cells, pinned=2 + len(words), strong=strong)


def _shared(rows: Sequence[Row], words: Iterable[str]) -> str:
    """What all the rows share of their setting: ``: op, float32, non-causal``."""
    if not rows:
        return ""
    fixed = {name: word for name, word in Setting.of(rows[0]).shown.items() if name not in words}
    return f": {', '.join(fixed.values())}" if fixed else ""


def _change_cells(item: Change) -> list[str]:
    ratio = item.latency
    # Ratio and verdict first: where the table is split, its first part says what matters.
    return [
        format_length(item.row.seq_len), format_ratio(ratio.value if ratio else None), interval_text(ratio),
        verdict_text(item), latency_cell(item.before), latency_cell(item.after), memory_text(item),
    ]  # fmt: skip


def verdict_text(item: Change) -> str:
    """The verdict, with the reason where it is unclear."""
    return f"{item.verdict} ({item.reason})" if item.reason else item.verdict


def latency_cell(row: Row | None) -> str:
    """The median latency, or why there is none."""
    if row is None:
        return NO_NUMBER
    return format_ms(row.latency_ms_p50) if row.ok else short_status(row.status)


def environment_tables(letters: Sequence[str], *runs: Run) -> list[Table]:
    """What the environments differ in, a column per run; no table where they agree."""
    differences = environment_differences(*runs)
    if not differences:
        return []
    rows = [[key, *map(plain, values)] for key, values in differences.items()]
    columns = [Column("differs in"), *(Column(letter, wraps=True) for letter in letters)]
    return [Table("Environments", columns, rows)]


def change_notes(changes: Sequence[Change], runs: Sequence[Run], threshold: float) -> list[str]:
    """What the verdicts mean, what the machine did meanwhile, and where the other cases are."""
    low, high = (significant(value, 3) for value in (1 / (1 + threshold), 1 + threshold))
    drift = max(map(machine_drift, runs))
    meaning = (
        f"Slower: the whole 95 % interval lies above {high}x, faster: below {low}x (threshold {100 * threshold:g} %), "
        "both rows are stable, and p corrected for all stable cases is at most 0.05; same: all of it lies between."
    )
    drifted = f"The control case drifted by {drift:.0%} within a run: a smaller change may be the machine's (drift)."
    scattered = scatter_between(changes)
    unchanged = (
        f"Unchanged cases scatter by {scattered.sd:.1%} from run to run (standard deviation of their middle half, "
        f"heavy tails: Student's t, {significant(scattered.tail, 2)} degrees of freedom), which their intervals do not "
        "know and their p-values do."
    )
    return [
        meaning,
        *([unchanged] if scattered.sd else []),
        *([drifted] if drift > threshold else []),
        _agreement_note(agreement(changes)),
        "All cases, with p-values: --format csv or json.",
    ]


def _agreement_note(found: Agreement) -> str:
    if found.share is None:
        return "No case is stable in both runs."
    return (
        f"Agreement: of {found.stable} cases that are stable in both runs, {found.overlapping} "
        f"({found.share:.1%}) have overlapping 95 % intervals."
    )


def change_record(item: Change) -> dict[str, Any]:
    """The case for programs: its axes, both rows, ratios, p-values, verdict and reason."""
    before, after = item.before, item.after
    return {
        **axes_of(item.row),
        "status_a": before.status if before else None,
        "status_b": after.status if after else None,
        "latency_ms_p50_a": before.latency_ms_p50 if before else None,
        "latency_ms_p50_b": after.latency_ms_p50 if after else None,
        **interval_record("latency_ratio", item.latency),
        "p_value": item.p_value,
        "p_corrected": item.p_corrected,
        "peak_memory_bytes_a": before.peak_memory_bytes if before else None,
        "peak_memory_bytes_b": after.peak_memory_bytes if after else None,
        # From 0 bytes it is infinite, which JSON has no number for.
        "memory_ratio": item.memory if item.memory is not None and math.isfinite(item.memory) else None,
        "params_ratio": item.params,
        "verdict": item.verdict,
        "reason": item.reason or None,
    }
