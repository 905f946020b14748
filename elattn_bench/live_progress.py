"""What a person sees while a live comparison runs: the pair in hand, and a line per finished pair."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from elattn_bench import conditions
from elattn_bench.knobs import text_of
from elattn_bench.live import LiveComparison, Pair, PairResult
from elattn_bench.progress import describer
from elattn_bench.results import Skipped
from elattn_bench.tables.pairs import describe_ratio
from elattn_bench.units import counted


class LiveProgress:
    """An observer of the comparison that writes to stderr; plain lines where there is no terminal."""

    def __init__(self, comparison: LiveComparison, console: Console) -> None:
        cases = [pair.shown for pair in comparison.pairs]
        self._comparison = comparison
        self._console = console
        self._case = describer(cases)
        self._width = max((len(self._describe(pair)) for pair in comparison.pairs), default=0)
        self._status = Status("", console=console)

    def __enter__(self) -> LiveProgress:
        machine, count = self._comparison.environment, len(self._comparison.pairs)
        self._say(
            f"Comparing B = {self._comparison.impl_b} with A = {self._comparison.impl_a} in "
            f"{count} {'case' if count == 1 else 'cases'} on {machine['device_name']} "
            f"({counted(machine['threads'], 'thread')}, torch {machine['torch']})"
        )
        for warning in conditions.warnings(machine):
            self._say(f"warning: {warning}")
        self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.stop()

    def started(self, pair: Pair) -> None:
        """Show the pair as the current one."""
        self._status.update(escape(f"{self._count(1)}  {self._describe(pair)}"))

    def finished(self, result: PairResult) -> None:
        """Print the pair's line."""
        self._say(f"{self._count(0)}  {self._describe(result.pair):<{self._width}}  {self._found(result)}")

    def _describe(self, pair: Pair) -> str:
        """The case that names the pair, and the knobs of A which that one does not have."""
        shown = pair.shown
        more = tuple(each for each in pair.a.hyperparameters if each not in shown.hyperparameters)
        return f"{self._case(shown)}, A {text_of(more, ' ')}" if more else self._case(shown)

    def _found(self, result: PairResult) -> str:
        if isinstance(result.outcome, Skipped):
            return f"{result.failed}: {result.outcome.status}: {result.outcome.reason}"
        assert result.ratio is not None
        return f"{describe_ratio(result.ratio)}  {result.verdict(self._comparison.threshold)}"

    def _count(self, ahead: int) -> str:
        total = str(len(self._comparison.pairs))
        return f"{len(self._comparison.results) + ahead:>{len(total)}}/{total}"

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, highlight=False, soft_wrap=True, markup=False)
