"""The bodies of ``quality`` and ``quality report``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from elattn_bench.commands import screen
from elattn_bench.errors import Interrupted, RunDirError, UsageError

if TYPE_CHECKING:
    from elattn_bench.figures.quality import Beside
    from elattn_bench.quality.plan import QualityPlan
    from elattn_bench.quality.rundir import QualityRun
    from elattn_bench.rundir import Run

EXTENDING = ("seeds", "data-dir", "jobs")
"""What may be said anew to a run that goes on: more seeds, where the data is now, how many models at once."""


def run(
    flags: Mapping[str, Any], output: Path | None, *, resume: bool, force: bool, dry_run: bool, strict: bool
) -> None:
    """Plan, train, sum up."""
    from elattn_bench.quality import plan, runner

    if resume:
        path = _resumed(output, force=force)
        settings = _continued(runner.stored_settings(path), flags, path)
    else:
        settings, path = dict(flags), output or Path(f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    planned = plan.make_plan(settings)
    if dry_run:
        _show_plan(planned)
        return
    try:
        runner.run_quality(planned, path, resume=resume, force=force, console=screen.stderr())
    except Interrupted:
        raise _how_to_go_on(path, len(planned.jobs)) from None
    _sum_up(planned, path, strict=strict)


def _resumed(output: Path | None, *, force: bool) -> Path:
    if output is None:
        raise UsageError("--resume: which run? Name its directory with -o RUN_DIR")
    if force:
        raise UsageError("--resume keeps what --force would replace; give one of them")
    return output


def _continued(stored: Mapping[str, Any], flags: Mapping[str, Any], path: Path) -> dict[str, Any]:
    for name, value in flags.items():
        if name not in EXTENDING and value != stored[name]:
            raise UsageError(
                f"--{name} {value}: {path} was started with {stored[name] or 'the default'}, and a run goes on as it "
                f"began; drop it, or train into another directory"
            )
    return {**stored, **flags}


def _how_to_go_on(path: Path, jobs: int) -> Interrupted:
    from elattn_bench.quality.rundir import read_quality, resume_command
    from elattn_bench.rundir import RUN_INFO

    if not (path / RUN_INFO).is_file():
        return Interrupted("nothing was begun")
    try:
        done = len({row.key for row in read_quality(path).rows})
    except RunDirError:
        done = 0
    return Interrupted(f"{done} of {jobs} models are on disk; go on with: {resume_command(path)}")


def _show_plan(planned: QualityPlan) -> None:
    from elattn_bench.quality import estimate, tasks
    from elattn_bench.quality.nets.counts import params
    from elattn_bench.quality.progress import name_of
    from elattn_bench.units import format_duration

    console = screen.stdout()
    names = {job.key: name_of(job, planned.jobs) for job in planned.jobs}
    width = max(map(len, names.values()), default=0)
    for job in planned.jobs:
        count = params(job.model, tasks.find(job.task).form, job.recipe)
        about = f"about {format_duration(estimate.seconds(job))}"
        line = f"{names[job.key]:<{width}}  {count:>9,} parameters  {job.recipe.epochs:>2} epochs  {about}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for name, reason in planned.missing.items():
        screen.say(f"{name} is left out: {reason}")
    total = format_duration(sum(map(estimate.seconds, planned.jobs)))
    screen.say(f"{len(planned.jobs)} models, roughly {total} on one core (guessed from their sizes)")


def _sum_up(planned: QualityPlan, path: Path, *, strict: bool) -> None:
    from elattn_bench.quality.rundir import read_quality

    failed = {row.key for row in read_quality(path).rows if not row.ok}
    screen.say(f"Results: {path}/quality.csv\nNext:    elattn-bench quality report {path}")
    if failed:
        screen.say(f"{len(failed)} models failed: see the reasons in quality.csv, tracebacks in errors.log")
    for name in planned.missing:
        screen.say(f"{name} was left out: its data is not here")
    if strict and (failed or planned.missing):
        raise typer.Exit(screen.CASES_FAILED)


def report(
    path: Path,
    reference: str | None,
    sweep: Path | None,
    format: str,
    kind: str | None,
    figure: str,
    output: Path | None,
    style: str,
    size: str | None,
    title: str | None,
) -> None:
    """Verdicts and tables to stdout, figures into the run."""
    from elattn_bench.figures import quality as figures
    from elattn_bench.figures.files import FORMATS
    from elattn_bench.figures.look import find_look
    from elattn_bench.names import check_names
    from elattn_bench.quality.rundir import read_quality
    from elattn_bench.rundir import PLOTS
    from elattn_bench.tables import render
    from elattn_bench.tables.quality import quality_report

    formats, kinds = screen.names(figure), None if kind is None else screen.names(kind)
    check_names("figure", formats, FORMATS)
    check_names("kind", kinds or (), list(figures.KINDS))
    look = find_look(style, size, title)
    run = read_quality(path)
    for warning in run.warnings:
        screen.say(f"warning: {warning}")
    timed = screen.read(sweep) if sweep else None
    render.show(quality_report(run, reference, timed), format, screen.stdout())
    for file in figures.plot(
        run, kinds, formats, output or path / PLOTS, look, _beside(run, timed, reference), screen.say
    ):
        screen.say(f"figure: {file}")


def _beside(run: QualityRun, sweep: Run | None, reference: str | None) -> Beside:
    """The claims on the run's tasks, and the latencies of its attentions in the sweep."""
    from elattn_bench.figures.quality import Beside
    from elattn_bench.quality.claims import targets
    from elattn_bench.quality.joined import join
    from elattn_bench.quality.scores import scores

    claimed = tuple(
        target for task in dict.fromkeys(row.task for row in run.rows) for target in targets(task)
    )
    if sweep is None:
        return Beside(claimed, reference=reference)
    forms = [join(scores(run.rows), sweep, causal=causal) for causal in (False, True)]
    best = max(forms, key=lambda joined: len(joined.rows))
    return Beside(claimed, best.latency_ms, best.title, reference)
