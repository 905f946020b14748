"""Tables of several runs against a first one, a column each, as ``render.Report``."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from elattn_bench.analysis import Setting, in_order
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.tables.changes import (
    SIZES,
    change_record,
    environment_tables,
    latency_cell,
)
from elattn_bench.tables.headline import counts, interval_text, mean_of, names, stable
from elattn_bench.tables.listings import NO_NUMBER, format_ratio
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import format_length
from elattn_bench.verdicts.runs import Change, environment_differences, machine_drift

MARKS: Mapping[str, str] = {"slower": "!", "faster": "*", "unclear": "?", "same": " "}
"""Behind a ratio, for ``bold`` alone says nothing to a file or a screen reader; blank so that digits stay aligned."""

Cells = Mapping[str, Sequence[Change | None]]
"""What became of each case, by its id, in each of the other runs; None where neither has it."""


def side_by_side_report(
    compared: Sequence[Sequence[Change]], run: Run, others: Sequence[Run], threshold: float
) -> Report:
    """A table of the runs with their means and counts, then one per setting with a row per case, a column per run.

    Args:
        compared: what ``compare_many`` found, in the order of the other runs.
    """
    called = letters(1 + len(others))
    runs = [run, *others]
    tables = [_runs_table(called, runs, compared), *_case_tables(called, compared)]
    records = [
        {"run": name, **change_record(change)}
        for name, changes in zip(names(runs)[1:], compared, strict=True)
        for change in changes
    ]
    about = {
        "comparison": "many runs", "a": names(runs)[0], "threshold": threshold,
        "runs": [_about(name, changes) for name, changes in zip(names(runs)[1:], compared, strict=True)],
        "environment_differences": environment_differences(*runs),
    }  # fmt: skip
    lead = [_lead(called, names(runs)[0], compared)]
    tables += environment_tables(called, *runs)
    return Report(tables, records, _notes(runs, threshold), about, lead)


def letters(count: int) -> list[str]:
    """``A``, ``B``, ... ``Z``, then ``R27``, ``R28``, ...: what the runs are called in the tables."""
    return [string.ascii_uppercase[i] if i < 26 else f"R{i + 1}" for i in range(count)]


def _lead(called: Sequence[str], first: str, compared: Sequence[Sequence[Change]]) -> str:
    found = {
        verdict: [
            letter
            for letter, changes in zip(called[1:], compared, strict=True)
            if any(change.verdict == verdict for change in changes)
        ]
        for verdict in ("slower", "faster")
    }
    failing = [
        letter
        for letter, changes in zip(called[1:], compared, strict=True)
        if any(change.failed for change in changes)
    ]
    told = [f"cases of A fail in {', '.join(failing)}"] if failing else []
    told += [f"cases are {verdict} in {', '.join(runs)}" for verdict, runs in found.items() if runs]
    return f"{len(compared)} runs against A = {first}: {'; '.join(told) or 'no case is faster or slower'}."


def _runs_table(called: Sequence[str], runs: Sequence[Run], compared: Sequence[Sequence[Change]]) -> Table:
    verdicts = ("slower", "faster", "same", "unclear")
    columns = [
        Column("run"), Column("name"), Column("mean", "right"), Column("interval", "right"),
        Column("cases", "right"), *(Column(verdict, "right") for verdict in verdicts),
    ]  # fmt: skip
    rows = [[called[0], names(runs)[0], *[NO_NUMBER] * (2 + 1 + len(verdicts))]]
    for letter, name, changes in zip(called[1:], names(runs)[1:], compared, strict=True):
        mean, found, taken = mean_of(changes), counts(changes), len(stable(changes))
        rows.append(
            [
                letter, name, format_ratio(mean.value if mean else None), interval_text(mean), str(taken),
                *(str(found.get(verdict, 0)) for verdict in verdicts),
            ]
        )  # fmt: skip
    return Table(
        "Latency over that of A, geometric mean of the cases that are stable in both", columns, rows, pinned=2
    )


def _about(name: str, changes: Sequence[Change]) -> dict[str, Any]:
    mean = mean_of(changes)
    return {
        "name": name, "geometric_mean_latency_ratio": mean.value if mean else None,
        "geometric_mean_low": mean.low if mean else None, "geometric_mean_high": mean.high if mean else None,
        "geometric_mean_cases": len(stable(changes)), "verdicts": counts(changes),
    }  # fmt: skip


def _case_tables(called: Sequence[str], compared: Sequence[Sequence[Change]]) -> list[Table]:
    rows = {change.case_id: change.row for changes in compared for change in changes}
    by_id = [{change.case_id: change for change in changes} for changes in compared]
    settings: defaultdict[Setting, dict[str, list[Change | None]]] = defaultdict(dict)
    for row in in_order(rows.values()):
        settings[Setting.of(row)][row.case_id] = [found.get(row.case_id) for found in by_id]
    return [_case_table(setting.text, called, cases) for setting, cases in settings.items()]


def _case_table(title: str, called: Sequence[str], cases: Cells) -> Table:
    rows = {case_id: _row(changes) for case_id, changes in cases.items()}
    sizes = [axis for axis in SIZES if len({getattr(row, axis) for row in rows.values()}) > 1]
    columns = [
        Column("impl"), *(Column(axis, "right") for axis in sizes), Column("L", "right"),
        *(Column(letter, "right") for letter in called),
    ]  # fmt: skip
    cells = [
        [
            rows[case_id].label, *(str(getattr(rows[case_id], axis)) for axis in sizes),
            format_length(rows[case_id].seq_len), _baseline(changes), *map(_cell, changes),
        ]
        for case_id, changes in cases.items()
    ]  # fmt: skip
    first = 3 + len(sizes)
    strong = frozenset(
        (i, first + j)
        for i, changes in enumerate(cases.values())
        for j, change in enumerate(changes)
        if change and change.verdict in ("faster", "slower")
    )
    foot = ["geometric mean", *[""] * (len(sizes) + 1), "", *_means(cases.values(), len(called) - 1)]
    return Table(title, columns, [*cells, foot], pinned=2 + len(sizes), strong=strong)


def _row(changes: Iterable[Change | None]) -> Row:
    return next(change.row for change in changes if change)


def _baseline(changes: Iterable[Change | None]) -> str:
    return latency_cell(next((change.before for change in changes if change), None))


def _cell(change: Change | None) -> str:
    if change is None:
        return NO_NUMBER
    if change.latency is None:
        return latency_cell(change.after) if change.after is None or not change.after.ok else "new"
    return f"{format_ratio(change.latency.value)}{MARKS[change.verdict]}"


def _means(cases: Iterable[Sequence[Change | None]], others: int) -> list[str]:
    """Of each column, with the blank that stands for a mark."""
    columns = [[changes[index] for changes in cases] for index in range(others)]
    means = [mean_of(change for change in column if change) for column in columns]
    return [f"{format_ratio(mean.value if mean else None)} " for mean in means]


def _notes(runs: Sequence[Run], threshold: float) -> list[str]:
    drift = max(map(machine_drift, runs))
    return [
        "A column shows its run's latency over that of A, whose own is shown; below 1x is faster. "
        f"! slower, * faster, ? unclear, no mark: the same (threshold {100 * threshold:g} %, p corrected for all "
        "stable cases of all runs); new: A has no such measurement.",
        *(
            [
                f"The control case drifted by up to {drift:.0%} within a run: a smaller change may be the machine's."
            ]
            if drift > threshold
            else []
        ),
        "Intervals, p-values and reasons: --format csv or json.",
    ]
