"""What a person sees while a sweep runs: a bar with the current case and an ETA, a line per finished case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from elattn_bench.cases import Case
from elattn_bench.results import Row
from elattn_bench.units import Seconds, format_bytes, format_length, format_ms

LONGEST_EXPLANATION = 30  # lines: the end of a traceback says what failed
WIDEST_EXPLANATION = 300  # characters of a line; errors.log has it whole
ROOMY = 100  # columns from which the elapsed time finds room beside the current case


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
        self._explanation = ""
        self._explained: set[tuple[str, ...]] = set()
        self._describe = describer(cases)
        self.host_width = 0
        self._width = max((len(self._describe(case)) for case in cases), default=0)
        columns = [
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=16),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        ]
        if console.width >= ROOMY:
            columns.insert(2, TimeElapsedColumn())
        self._progress = self.make_progress(
            *columns, console=console, disable=not console.is_terminal, transient=True
        )
        self._task = self._progress.add_task("", total=sum(map(estimate, cases)), count=self._count())

    def make_progress(self, *columns: Any, **options: Any) -> Progress:
        """The display, for others to add to."""
        return Progress(*columns, **options)

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def started(self, case: Case) -> None:
        """Show the case as the current one."""
        self._number += 1
        self._progress.update(self._task, description=escape(self._describe(case)), count=self._count())

    def note(self, what: str) -> None:
        """Show what else is being done."""
        self._progress.update(self._task, description=what)

    def explain(self, text: str) -> None:
        """Print a traceback below the line of the case in hand, unless one from the same place was printed."""
        self._explanation = text

    def finished(self, case: Case, row: Row) -> None:
        """Print the case's line and move the bar by its share of the time."""
        count = self._count().rjust(2 * len(str(self._total)) + 1)
        # Where it was measured comes first: a narrow terminal cuts the end.
        where = f"  {row.host:<{self.host_width}}" if row.host else ""
        line = Text(f"{count}{where}  {self._describe(case):<{self._width}}  {_result(row)}")
        # A terminal gets one line per case, a file the whole line.
        one_line = self._console.is_terminal
        self._progress.console.print(
            line,
            no_wrap=one_line,
            overflow="ellipsis" if one_line else "ignore",
            crop=one_line,
            soft_wrap=not one_line,
        )
        self._print_explanation()
        self._progress.advance(self._task, self._estimate(case))

    def _print_explanation(self) -> None:
        text, self._explanation = self._explanation, ""
        lines = text.splitlines()
        # Where it failed, whatever the sizes in the message.
        places = tuple(line for line in lines if line.lstrip().startswith("File ")) or tuple(lines)
        if not lines or places in self._explained:
            return
        self._explained.add(places)
        shown = lines if len(lines) <= LONGEST_EXPLANATION else ["...", *lines[-LONGEST_EXPLANATION:]]
        for line in shown:
            self._progress.console.print(Text(f"    {line[:WIDEST_EXPLANATION]}"), soft_wrap=True)

    def _count(self) -> str:
        return f"{self._number}/{self._total}"


def describer(cases: Sequence[Case]) -> Callable[[Case], str]:
    """How to name a case in one line among these: the impl, its sizes, and whatever else varies."""
    varying = {
        name
        for name in ("mode", "level", "dtype", "causal", "heads", "cache", "ranks", "device_type")
        if len({getattr(c, name) for c in cases}) > 1
    }

    def describe(case: Case) -> str:
        words = {
            "mode": case.mode,
            "level": case.level,
            "dtype": case.dtype,
            "causal": "causal" if case.causal else "full",
            "heads": f"H={case.heads}",
            "cache": case.cache,
            "ranks": f"r={case.ranks}",
            "device_type": case.device_type,
        }
        shown = [word for name, word in words.items() if name in varying]
        sizes = f"L={format_length(case.seq_len)} D={case.dim} B={case.batch}"
        return " ".join([case.label, *shown, sizes])

    return describe


def _result(row: Row) -> str:
    if not row.ok:
        return f"{row.status}: {row.reason}"
    assert row.latency_ms_p50 is not None
    assert row.latency_ms_p25 is not None
    assert row.latency_ms_p75 is not None
    half_spread = (row.latency_ms_p75 - row.latency_ms_p25) / row.latency_ms_p50 / 2
    noisy = "" if row.stability == "stable" else f"  {row.stability}"
    latency, memory = format_ms(row.latency_ms_p50), format_bytes(row.peak_memory_bytes)
    spread = ">100%" if half_spread > 1 else f"{half_spread:.1%}"
    return f"{latency:>7} ±{spread:<5} {memory:>8}{noisy}"
