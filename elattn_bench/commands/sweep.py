"""The body of ``sweep``: plan, measure, sum up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from elattn_bench.commands import screen
from elattn_bench.errors import Interrupted, RunDirError, UsageError
from elattn_bench.names import check_names

LAUNCHERS = ["local", "ray"]


def sweep(
    config_file: Path | None,
    given: Mapping[str, Any],
    output: Path | None,
    *,
    launcher: str,
    address: str | None,
    resume: bool,
    force: bool,
    dry_run: bool,
    strict: bool,
) -> None:
    """Plan, measure, sum up."""
    from elattn_bench import config, runner
    from elattn_bench.ranks import torchrun, world

    may_spread = bool(given.get("ranks") or config_file or resume)
    if may_spread and (served := world.serving()):
        if not dry_run:
            where = f"{served.address}:{served.port}"
            screen.say(
                f"rank {served.rank} of {served.size} serves the sweep of rank 0, found through {where}"
            )
            torchrun.serve(served)
        return
    check_names("launcher", [launcher], LAUNCHERS)
    if address and launcher != "ray":
        raise UsageError(f"--address {address}: is of a Ray cluster; add --launcher ray")
    flags = {name: config.as_text(value) for name, value in given.items()}
    if resume:
        path = _resumed_run(config_file, output, force=force)
        settings = config.continued(runner.stored_settings(path), flags)
    else:
        settings = config.merge(config.read_toml(config_file) if config_file else {}, flags)
        named = settings.pop(config.OUTPUT, None)
        path = output or Path(named or f"runs/{datetime.now():%Y%m%d-%H%M%S}")
    if launcher == "ray":
        _over_a_cluster(settings, path, address, resume=resume, force=force, dry_run=dry_run)
    else:
        _here(settings, path, resume=resume, force=force, dry_run=dry_run)
    if not dry_run:
        _sum_up(path, strict=strict)


def _here(settings: Mapping[str, Any], path: Path, *, resume: bool, force: bool, dry_run: bool) -> None:
    from elattn_bench import config, runner

    if settings["device-type"]:
        raise UsageError(
            f"--device-type {settings['device-type']}: is of a cluster's devices; add --launcher ray"
        )
    plan = config.make_plan(settings)
    if dry_run:
        _show_plan(plan)
        return
    try:
        runner.run_sweep(plan, path, resume=resume, force=force, console=screen.stderr())
    except Interrupted:
        raise _how_to_go_on(path, len(plan.cases), plan.budget.visits) from None


def _over_a_cluster(
    settings: Mapping[str, Any], path: Path, address: str | None, *, resume: bool, force: bool, dry_run: bool
) -> None:
    from elattn_bench.cluster import runner

    with runner.planned(settings, address) as plan:
        try:
            if not dry_run:
                runner.run_sweep(plan, path, address, resume=resume, force=force, console=screen.stderr())
        except Interrupted:
            flags = runner.launcher_flags(address)
            raise _how_to_go_on(path, len(plan.cases), plan.budget.visits, flags) from None
    if dry_run:
        _show_plan(plan)


def _resumed_run(config_file: Path | None, output: Path | None, *, force: bool) -> Path:
    if output is None:
        raise UsageError("--resume: which run? Name its directory with -o RUN_DIR")
    if config_file:
        raise UsageError(f"--resume takes the run's own settings from {output}; drop {config_file}")
    if force:
        raise UsageError("--resume keeps what --force would replace; give one of them")
    return output


def _how_to_go_on(path: Path, cases: int, visits: int, flags: str = "") -> Interrupted:
    from elattn_bench.rundir import RUN_INFO, read_run, resume_command

    if not (path / RUN_INFO).is_file():
        return Interrupted(f"no run was begun in {path}; start again")
    try:
        rows = read_run(path).rows
    except RunDirError:
        rows = []
    done = f"{len(rows)} of {cases} cases"
    if visits > 1:
        done = f"{sum(row.visits or visits for row in rows)} of {visits * cases} visits to {cases} cases"
    return Interrupted(f"{done} are on disk; go on with: {resume_command(path)}{flags}")


def _show_plan(plan: Any) -> None:
    from elattn_bench import estimate, sweep
    from elattn_bench.cases import NO_COST
    from elattn_bench.units import format_bytes, format_duration, format_ms

    console = screen.stdout()
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
    screen.say(
        f"{len(cases)} cases on {plan.device}, roughly {format_duration(total)} (guessed from the cost formulas; "
        f"at most {plan.timeout:g} s and {format_bytes(plan.memory_limit)} per case)"
    )


def _sum_up(path: Path, *, strict: bool) -> None:
    from elattn_bench import analysis
    from elattn_bench.rundir import ERRORS, read_run
    from elattn_bench.tables import listings, render
    from elattn_bench.units import counted

    run = read_run(path)
    render.show(listings.summary_report(analysis.summary(run)), "table", screen.stdout())
    screen.say(
        f"Results: {path}/results.csv\nNext:    elattn-bench compare {path}\n         elattn-bench plot {path}\n"
        f"         elattn-bench report {path}"
    )
    errors = [row for row in run.rows if row.status == "error"]
    if errors:
        # A process that was killed leaves no last words, so there may be no such file.
        tracebacks = f", tracebacks in {ERRORS}" if (path / ERRORS).is_file() else ""
        failed = counted(len(errors), "case")
        screen.say(f"{failed} failed with an error: see the reasons in results.csv{tracebacks}")
    if errors and strict:
        raise typer.Exit(screen.CASES_FAILED)
