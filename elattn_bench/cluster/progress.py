"""What a person sees of a sweep over a cluster: the bar over all cases, and what each device measures now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import Progress
from rich.text import Text

from elattn_bench.cases import Case
from elattn_bench.progress import Estimator, ProgressBar
from elattn_bench.results import Row
from elattn_bench.units import counted

MOST_LINES = 6  # of devices at work; more would push the finished cases off a small terminal


class ClusterProgress(ProgressBar):
    """The sweep's bar, with a line per device under it on a terminal."""

    def __init__(self, cases: Sequence[Case], estimate: Estimator, console: Console) -> None:
        self._doing: dict[str, str] = {}
        super().__init__(cases, estimate, console)

    def make_progress(self, *columns: Any, **options: Any) -> Progress:
        """A display that has the devices' lines as well."""
        # Not what is printed meanwhile: on sys.stdout that is Ray's, and does not belong on the screen.
        return _WithLines(self.lines, *columns, **options, redirect_stdout=False)

    def began(self, name: str, case: Case) -> None:
        """The device measures the case now."""
        self.does(name, self._describe(case))

    def does(self, name: str, what: str | None) -> None:
        """The device does something else now; None: nothing."""
        self._doing.pop(name, None)
        if what is not None:
            self._doing[name] = what
        busy = len(self._doing)
        self.note(f"on {counted(busy, 'device')}" if busy else "")

    def finished(self, case: Case, row: Row) -> None:
        """Count the case and print its line."""
        self._number += 1
        self.host_width = max(self.host_width, len(row.host))
        super().finished(case, row)
        self._progress.update(self._task, count=self._count())

    def lines(self) -> list[str]:
        """What each device does, a few of many."""
        width = max(map(len, self._doing), default=0)
        told = [f"  {name:<{width}}  {what}" for name, what in sorted(self._doing.items())]
        more = len(told) - MOST_LINES
        return told if more <= 0 else [*told[:MOST_LINES], f"  and {more} more"]


class _WithLines(Progress):
    def __init__(self, lines: Callable[[], list[str]], *columns: Any, **options: Any) -> None:
        self._lines = lines
        super().__init__(*columns, **options)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for line in self._lines():
            yield Text(line, style="dim", no_wrap=True, overflow="ellipsis")
