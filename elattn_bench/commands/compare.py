"""The bodies of ``compare``: a run against its reference, runs case by case, two impls live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from elattn_bench.commands import screen
from elattn_bench.errors import UsageError

COMPARISON_FAILED = 3  # exit code of DESIGN: what was asked for was done, and this was found


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
    from elattn_bench.tables import comparison, render
    from elattn_bench.verdicts import reference as of_run

    share = screen.threshold(threshold)
    metrics = screen.names(metric) if metric else of_run.METRICS
    wanted = reference or of_run.DEFAULT_REFERENCE
    run = conditions.filtered(screen.read(path), where)
    found = of_run.compare_to_reference(run, wanted, metrics)
    render.show(comparison.comparison_report(found, metrics), format, screen.stdout())
    _judge(found, fail_on, share)


def absolute(path: Path, metric: str | None, format: str, where: Sequence[str] = ()) -> None:
    """One run for itself."""
    from elattn_bench import where as conditions
    from elattn_bench.names import check_names
    from elattn_bench.tables import comparison, render
    from elattn_bench.verdicts import reference as of_run

    metrics = screen.names(metric) if metric else of_run.METRICS
    check_names("metric", metrics, of_run.METRICS)
    run = conditions.filtered(screen.read(path), where)
    report = comparison.absolute_report(of_run.without_reference(run), metrics)
    render.show(report, format, screen.stdout())


def compare_runs(
    path: Path, other_path: Path, threshold: str, fail_on: str | None, format: str, *, force: bool
) -> None:
    """Two runs, case by case."""
    from elattn_bench.tables import changes, render
    from elattn_bench.verdicts import runs

    share = screen.threshold(threshold)
    run, other = screen.read(path), screen.read(other_path)
    if run.device_name != other.device_name and not force:
        raise UsageError(
            f"{path} was measured on {run.device_name}, {other_path} on {other.device_name}; "
            "a difference would be the machines': compare them all the same with --force"
        )
    found = runs.compare_runs(run, other, share)
    render.show(changes.change_report(found, run, other), format, screen.stdout())
    _judge(found, fail_on, share)


def compare_live(
    impl_a: str,
    impl_b: str | None,
    given: Mapping[str, Any],
    threshold: str,
    fail_on: str | None,
    format: str,
) -> None:
    """Two impls, measured now and in turns."""
    from elattn_bench import config, live
    from elattn_bench.live_progress import LiveProgress
    from elattn_bench.tables import pairs, render

    if impl_b is None:
        raise UsageError(
            f"compare --live {impl_a}: compares two impls; name the second, or the same once more"
        )
    live.check_failure(fail_on)
    flags = {name: config.as_text(value) for name, value in given.items()}
    comparison = live.plan(impl_a, impl_b, flags, screen.threshold(threshold))
    try:
        live.run(comparison, LiveProgress(comparison, screen.stderr()))
    finally:
        # After Ctrl-C too: what was measured is not lost.
        if comparison.results:
            render.show(pairs.live_report(comparison), format, screen.stdout())
    if fail_on:
        _end(live.fails(comparison.results, fail_on, comparison.threshold), fail_on)


def _judge(found: Any, fail_on: str | None, threshold: float) -> None:
    from elattn_bench.verdicts import runs

    if fail_on:
        _end(runs.fails(found, fail_on, threshold), fail_on)


def _end(failures: Sequence[str], fail_on: str) -> None:
    """Say what was found, and end with its exit code if there is any."""
    for failure in failures:
        screen.say(f"--fail-on {fail_on}: {failure}")
    if failures:
        raise typer.Exit(COMPARISON_FAILED)
