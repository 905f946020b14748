"""What a person sees while models are trained: a bar with the current epoch and an ETA, a line per finished model."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from elattn_bench.quality import estimate, tasks
from elattn_bench.quality.nouns import Epoch, Job, Trained
from elattn_bench.results import Skipped
from elattn_bench.units import Seconds, format_duration

QUIET: Seconds = 20.0  # without a terminal, an epoch gets a line if nothing was said for so long


class TrainingBar:
    """An observer of a quality run that draws on stderr; plain lines where there is no terminal."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self._console, self._total = console, len(jobs)
        self._started = self._finished = 0
        self._names = {job.key: name_of(job, jobs) for job in jobs}
        self._width = max(map(len, self._names.values()), default=0)
        self._trained: dict[tuple[str, str, bool, int], int] = {}  # epochs
        self._said = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.fields[count]}"), BarColumn(bar_width=12), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.description}"), console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self._seconds = {job.key: estimate.seconds(job) for job in jobs}
        self._task = self._progress.add_task("", total=sum(self._seconds.values()), count=f"0/{self._total}")

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def started(self, job: Job) -> None:
        """Show the job as the current one."""
        self._started += 1
        self._trained[job.key] = 0
        count = f"{self._started}/{self._total}"
        self._progress.update(self._task, description=self._names[job.key], count=count)

    def epoch(self, job: Job, epoch: Epoch) -> None:
        """Show what an epoch came to."""
        metric, value = next(iter(epoch.metrics.items()))
        loss = "" if epoch.loss is None else f"loss {epoch.loss:.3f}  "
        number = f"epoch {epoch.number}/{job.recipe.epochs}"
        what = f"{self._names[job.key]}  {number}  {loss}{metric} {score(value, metric)}"
        if epoch.number:
            self._trained[job.key] += 1
            self._progress.advance(self._task, self._seconds[job.key] / job.recipe.epochs)
        self._progress.update(self._task, description=what)
        if not self._console.is_terminal and time.monotonic() - self._said > QUIET:
            self._print(Text(f"{self._count()}  {what}"))

    def finished(self, job: Job, outcome: Trained | Skipped) -> None:
        """Print the job's line."""
        self._finished += 1
        self._print(Text(f"{self._count()}  {self._names[job.key]:<{self._width}}  {_result(job, outcome)}"))
        left = 1 - self._trained[job.key] / job.recipe.epochs
        self._progress.advance(self._task, left * self._seconds[job.key])

    def _print(self, line: Text) -> None:
        one_line = self._console.is_terminal
        self._progress.console.print(
            line,
            no_wrap=one_line,
            overflow="ellipsis" if one_line else "ignore",
            crop=one_line,
            soft_wrap=not one_line,
        )
        self._said = time.monotonic()

    def _count(self) -> str:
        return f"{self._finished}/{self._total}".rjust(2 * len(str(self._total)) + 1)


def name_of(job: Job, jobs: Sequence[Job]) -> str:
    """What a job is called among these: task, form where it varies, model, seed."""
    forms = {other.causal for other in jobs if other.task == job.task}
    form = ("causal" if job.causal else "non-causal") if len(forms) > 1 else ""
    return "  ".join(filter(None, (job.task, form, job.model.label, f"seed {job.seed}")))


def score(value: float, metric: str) -> str:
    """A metric for people: accuracies in percent, errors with three digits."""
    return f"{value:.1%}" if metric.startswith("accuracy") else f"{value:.3f}"


def _result(job: Job, outcome: Trained | Skipped) -> str:
    if isinstance(outcome, Skipped):
        return f"{outcome.status}: {outcome.reason}"
    metric = tasks.find(job.task).metric
    took = format_duration(outcome.train_s)
    return f"{metric} {score(outcome.metrics[metric], metric):>6}  {outcome.params:>9,} parameters  {took}"
