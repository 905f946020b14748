"""The bodies of the commands: read, hand over, show. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from elattn_bench.errors import Interrupted, RunDirError, UsageError

CASES_FAILED = 4  # exit codes of DESIGN: what was asked for was done, and this was found
COMPARISON_FAILED = 3


def sweep(
    config_file: Path | None,
    given: Mapping[str, Any],
    output: Path | None,
    *,
    resume: bool,
    force: bool,
    dry_run: bool,
    strict: bool,
) -> None:
    """Plan, measure, sum up."""
    from elattn_bench import config, runner

    flags = {name: config.as_text(value) for name, value in given.items()}
    if resume:
        path = _resumed_run(config_file, output, force=force)
        settings = config.continued(runner.stored_settings(path), flags)
    else:
        settings = config.merge(config.read_toml(config_file) if config_file else {}, flags)
        named = settings.pop(config.OUTPUT, None)
        path = output or Path(named or f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    plan = config.make_plan(settings)
    if dry_run:
        _show_plan(plan)
        return
    try:
        runner.run_sweep(plan, path, resume=resume, force=force, console=_stderr())
    except Interrupted:
        raise _how_to_go_on(path, len(plan.cases), plan.budget.visits) from None
    _sum_up(path, strict=strict)


def _resumed_run(config_file: Path | None, output: Path | None, *, force: bool) -> Path:
    if output is None:
        raise UsageError("--resume: which run? Name its directory with -o RUN_DIR")
    if config_file:
        raise UsageError(f"--resume takes the run's own settings from {output}; drop {config_file}")
    if force:
        raise UsageError("--resume keeps what --force would replace; give one of them")
    return output


def _how_to_go_on(path: Path, cases: int, visits: int) -> Interrupted:
    from elattn_bench.rundir import read_run, resume_command

    try:
        rows = read_run(path).rows
    except RunDirError:
        rows = []
    done = f"{len(rows)} of {cases} cases"
    if visits > 1:
        done = f"{sum(row.visits or visits for row in rows)} of {visits * cases} visits to {cases} cases"
    return Interrupted(f"{done} are on disk; go on with: {resume_command(path)}")


def _show_plan(plan: Any) -> None:
    from elattn_bench import estimate, sweep
    from elattn_bench.cases import NO_COST
    from elattn_bench.units import format_bytes, format_duration, format_ms

    console = _stdout()
    cases = sweep.in_order(plan.cases, plan.seed)
    width = max(len(case.case_id) for case in cases)
    for case in cases:
        reasons = "; ".join(case.unsupported_reasons())
        about = f"about {format_ms(1e3 * estimate.call_seconds(case))}"
        # Of an attention of the user's nobody knows the work.
        known = case.decodes or case.cost != NO_COST
        guess = f"unsupported: {reasons}" if reasons else about if known else f"unknown; softmax {about}"
        console.print(f"{case.case_id:<{width}}  {guess}", highlight=False, soft_wrap=True, markup=False)
    total = estimate.sweep_seconds(cases, plan.budget, plan.timeout)
    _say(
        f"{len(cases)} cases on {plan.device}, roughly {format_duration(total)} (guessed from the cost formulas; "
        f"at most {plan.timeout:g} s and {format_bytes(plan.memory_limit)} per case)"
    )


def _sum_up(path: Path, *, strict: bool) -> None:
    from elattn_bench import analysis, listings, render
    from elattn_bench.rundir import read_run

    run = read_run(path)
    render.show(listings.summary_report(analysis.summary(run)), "table", _stdout())
    _say(
        f"Results: {path}/results.csv\nNext:    elattn-bench plot {path}\n         elattn-bench compare {path}"
    )
    errors = [row for row in run.rows if row.status == "error"]
    if errors:
        _say(
            f"{len(errors)} cases failed with an error: see the reasons in results.csv, tracebacks in errors.log"
        )
    if errors and strict:
        raise typer.Exit(CASES_FAILED)


def compare(
    path: Path, reference: str | None, metric: str | None, threshold: str, fail_on: str | None, format: str
) -> None:
    """One run against its reference."""
    from elattn_bench import comparisons, render, reports

    share = _parse_threshold(threshold)
    metrics = _names(metric) if metric else comparisons.METRICS
    wanted = reference or comparisons.DEFAULT_REFERENCE
    found = comparisons.compare_to_reference(_read(path), wanted, metrics)
    render.show(reports.comparison_report(found, metrics), format, _stdout())
    _judge(found, fail_on, share)


def compare_runs(
    path: Path, other_path: Path, threshold: str, fail_on: str | None, format: str, *, force: bool
) -> None:
    """Two runs, case by case."""
    from elattn_bench import comparisons, render, reports

    share = _parse_threshold(threshold)
    run, other = _read(path), _read(other_path)
    if run.device_name != other.device_name and not force:
        raise UsageError(
            f"{path} was measured on {run.device_name}, {other_path} on {other.device_name}; "
            "a difference would be the machines': compare them all the same with --force"
        )
    changes = comparisons.compare_runs(run, other, share)
    render.show(reports.change_report(changes, run, other), format, _stdout())
    _judge(changes, fail_on, share)


def compare_live(
    impl_a: str,
    impl_b: str | None,
    given: Mapping[str, Any],
    threshold: str,
    fail_on: str | None,
    format: str,
) -> None:
    """Two impls, measured now and in turns."""
    from elattn_bench import config, live, pair_reports, render
    from elattn_bench.live_progress import LiveProgress

    if impl_b is None:
        raise UsageError(
            f"compare --live {impl_a}: compares two impls; name the second, or the same once more"
        )
    live.check_failure(fail_on)
    flags = {name: config.as_text(value) for name, value in given.items()}
    comparison = live.plan(impl_a, impl_b, flags, _parse_threshold(threshold))
    try:
        live.run(comparison, LiveProgress(comparison, _stderr()))
    finally:
        # After Ctrl-C too: what was measured is not lost.
        if comparison.results:
            render.show(pair_reports.live_report(comparison), format, _stdout())
    if fail_on:
        _end(live.fails(comparison.results, fail_on, comparison.threshold), fail_on)


def _judge(found: Any, fail_on: str | None, threshold: float) -> None:
    from elattn_bench import comparisons

    if fail_on:
        _end(comparisons.fails(found, fail_on, threshold), fail_on)


def _end(failures: Sequence[str], fail_on: str) -> None:
    """Say what was found, and end with its exit code if there is any."""
    for failure in failures:
        _say(f"--fail-on {fail_on}: {failure}")
    if failures:
        raise typer.Exit(COMPARISON_FAILED)


def plot(path: Path, kind: str | None, format: str, output: Path | None) -> None:
    """The figures of a run."""
    from elattn_bench import figures
    from elattn_bench.rundir import PLOTS

    kinds = _names(kind) if kind else None
    drawn = figures.plot(_read(path), kinds, _names(format), output or path / PLOTS)
    for figure in drawn:
        typer.echo(figure)
    if not drawn:
        _say(f"{path}: no case was measured, so there is nothing to draw")


def list_attentions(*, as_json: bool) -> None:
    """Every attention and backend, and whether it can run here."""
    from elattn_bench import catalogue, listings, render

    entries = catalogue.attentions()
    if as_json:
        typer.echo(render.to_json(entries), nl=False)
    else:
        render.show(listings.attentions_report(entries), "table", _stdout())


def env(device: str, *, as_json: bool) -> None:
    """The machine and its ceilings as a run would record them."""
    from elattn_bench import catalogue, listings, render

    described = catalogue.machine(device)
    if as_json:
        typer.echo(render.to_json(described), nl=False)
    else:
        render.show(listings.environment_report(described), "table", _stdout())


def selftest(device: str, threads: int | None, *, as_json: bool) -> None:
    """The tool measured by attentions whose truth is known."""
    from elattn_bench import render, runner
    from elattn_bench import selftest as known

    with runner.interruptible():
        checks = known.run(device, threads, _stderr())
    render.show(known.report(checks), "json" if as_json else "table", _stdout())
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


def _read(path: Path) -> Any:
    from elattn_bench.rundir import read_run

    run = read_run(path)
    for warning in run.warnings:
        _say(f"warning: {warning}")
    return run


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"'{text}' names nothing; give at least one name")
    return names


def _parse_threshold(text: str) -> float:
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / 100 if text.strip().endswith("%") else float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise UsageError(f"--threshold {text}: is not a share; write 5% or 0.05")
    return share


def _stdout() -> Console:
    return Console(soft_wrap=False)


def _stderr() -> Console:
    return Console(stderr=True)


def _say(sentence: str) -> None:
    _stderr().print(sentence, highlight=False, soft_wrap=True, markup=False)
