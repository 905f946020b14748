"""The bodies of ``compare``: a run against its reference, runs case by case, two impls live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elattn_bench.commands import screen
from elattn_bench.errors import UsageError

if TYPE_CHECKING:
    from elattn_bench.rundir import Run
    from elattn_bench.verdicts.runs import Change


def compare(
    path: Path,
    reference: str | None,
    metric: str | None,
    threshold: str,
    fail_on: str | None,
    format: str,
    where: Sequence[str] = (),
) -> None:
    """One run against its reference."""
    from elattn_bench import where as conditions
    from elattn_bench.tables import comparison, conclusions, ranks, render
    from elattn_bench.verdicts import reference as of_run
    from elattn_bench.verdicts import runs, sentences
    from elattn_bench.verdicts.nouns import VERDICT_METRICS

    share, kinds = screen.threshold(threshold), screen.failure_kinds(fail_on)
    metrics = screen.names(metric) if metric else of_run.METRICS
    wanted = reference or of_run.DEFAULT_REFERENCE
    run = conditions.filtered(screen.read(path), where)
    found = of_run.compare_to_reference(run, wanted, metrics)
    growing = [metric for metric in metrics if metric in VERDICT_METRICS]
    report = comparison.comparison_report(found, metrics)
    judged = sentences.verdicts(run, wanted, growing)
    concluded = conclusions.with_conclusions(report, judged, growing)
    render.show(ranks.with_ranks(concluded, run.rows, metrics), format, screen.stdout())
    screen.end([(kind, failure) for kind in kinds for failure in runs.fails(found, kind, share)])


def absolute(path: Path, metric: str | None, format: str, where: Sequence[str] = ()) -> None:
    """One run for itself."""
    from elattn_bench import where as conditions
    from elattn_bench.names import check_names
    from elattn_bench.tables import comparison, ranks, render
    from elattn_bench.verdicts import reference as of_run

    metrics = screen.names(metric) if metric else of_run.METRICS
    check_names("metric", metrics, of_run.METRICS)
    run = conditions.filtered(screen.read(path), where)
    report = comparison.absolute_report(of_run.without_reference(run), metrics)
    render.show(ranks.with_ranks(report, run.rows, metrics), format, screen.stdout())


def compare_runs(
    path: Path, other_paths: Sequence[Path], threshold: str, fail_on: str | None, format: str, *, force: bool
) -> None:
    """Two runs case by case, or several against the first."""
    from elattn_bench.verdicts import runs

    share, kinds = screen.threshold(threshold), screen.failure_kinds(fail_on)
    run, *others = (screen.read(each) for each in (path, *other_paths))
    if not force:
        _refuse_other_devices(run, others)
    compared = runs.compare_many(run, others, share)
    _show_runs(compared, run, others, share, format)
    found = [
        (kind, f"{other.name}: {failure}" if len(others) > 1 else failure)
        for other, changes in zip(others, compared, strict=True)
        for kind in kinds
        for failure in runs.fails(changes, kind, share)
    ]
    screen.end(found)


def _refuse_other_devices(run: Run, others: Sequence[Run]) -> None:
    for other in others:
        if other.device_name != run.device_name:
            raise UsageError(
                f"{run.path} was measured on {run.device_name}, {other.path} on {other.device_name}; "
                "a difference would be the machines': compare them all the same with --force"
            )


def _show_runs(
    compared: Sequence[Sequence[Change]], run: Run, others: Sequence[Run], share: float, format: str
) -> None:
    from elattn_bench.tables import changes, comment, render, side_by_side

    console = screen.stdout()
    if len(others) > 1:
        render.show(side_by_side.side_by_side_report(compared, run, others, share), format, console)
    elif format == "markdown":
        console.file.write(comment.comment(compared[0], run, others[0], share))
    else:
        render.show(changes.change_report(compared[0], run, others[0], share), format, console)


def compare_live(
    impls: Sequence[str],
    given: Mapping[str, Any],
    threshold: str,
    fail_on: str | None,
    format: str,
) -> None:
    """Two impls, measured now and in turns."""
    from elattn_bench import config, live
    from elattn_bench.live_progress import LiveProgress
    from elattn_bench.tables import pairs, render

    if len(impls) != 2:
        hint = "name the second, or the same once more" if len(impls) < 2 else "name one in each place"
        raise UsageError(f"compare --live {' '.join(impls)}: compares two impls; {hint}")
    kinds = screen.failure_kinds(fail_on)
    for kind in kinds:
        live.check_failure(kind)
    flags = {name: config.as_text(value) for name, value in given.items()}
    comparison = live.plan(impls[0], impls[1], flags, screen.threshold(threshold))
    try:
        live.run(comparison, LiveProgress(comparison, screen.stderr()))
    finally:
        # After Ctrl-C too: what was measured is not lost.
        if comparison.results:
            render.show(pairs.live_report(comparison), format, screen.stdout())
    screen.end(
        [
            (kind, failure)
            for kind in kinds
            for failure in live.fails(comparison.results, kind, comparison.threshold)
        ]
    )
