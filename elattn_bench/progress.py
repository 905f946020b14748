"""What a person sees while a sweep runs: a bar with the current case and an ETA, a line per finished case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from elattn_bench.cases import Case
from elattn_bench.results import Row
from elattn_bench.units import Seconds, format_bytes, format_length, format_ms


class Estimator(Protocol):
    """Predicts what a case costs in time; only the proportions matter for the bar."""

    def __call__(self, case: Case) -> Seconds:
        """Seconds for the case."""
        ...


class ProgressBar:
    """An observer of the sweep that draws on stderr; plain lines where there is no terminal."""

    def __init__(self, cases: Sequence[Case], estimate: Estimator, console: Console) -> None:
        self._estimate = estimate
        self._console = console
        self._total = len(cases)
        self._number = 0
        self._progress = Progress(
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=sum(map(estimate, cases)), count=self._count())

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def started(self, case: Case) -> None:
        """Show the case as the current one."""
        self._number += 1
        self._progress.update(self._task, description=escape(describe(case)), count=self._count())

    def finished(self, case: Case, row: Row) -> None:
        """Print the case's line and move the bar by its share of the time."""
        line = f"{self._count():>9}  {describe(case):<54} {_result(row)}"
        self._progress.console.print(escape(line), highlight=False, soft_wrap=True)
        self._progress.advance(self._task, self._estimate(case))

    def _count(self) -> str:
        return f"{self._number}/{self._total}"


def describe(case: Case | Row) -> str:
    """A case in one line, the impl first."""
    causal = " causal" if case.causal else ""
    level = "" if case.level == "op" else f" {case.level}"
    return (
        f"{case.label} {case.mode}{level}{causal} L={format_length(case.seq_len)} D={case.dim} B={case.batch}"
    )


def _result(row: Row) -> str:
    if not row.ok:
        return f"{row.status}: {row.reason}"
    assert row.latency_ms_p50 is not None
    assert row.latency_ms_p25 is not None
    assert row.latency_ms_p75 is not None
    half_spread = (row.latency_ms_p75 - row.latency_ms_p25) / row.latency_ms_p50 / 2
    noisy = "" if row.stability == "stable" else f"  {row.stability}"
    latency, memory = format_ms(row.latency_ms_p50), format_bytes(row.peak_memory_bytes)
    return f"{latency:>8} ±{half_spread:.1%}  {memory:>9}{noisy}"
