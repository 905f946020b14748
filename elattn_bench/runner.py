"""From a plan to a finished run directory: opens it, starts the worker, watches, closes in order."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from elattn_bench import conditions, config, control, environment, estimate, sweep
from elattn_bench.cases import Case, is_a_plugin
from elattn_bench.cluster import records
from elattn_bench.config import Plan
from elattn_bench.errors import Interrupted, RunDirError
from elattn_bench.prediction import Predictor
from elattn_bench.progress import ProgressBar
from elattn_bench.ranks import exchanges
from elattn_bench.ranks.group import RankGroup
from elattn_bench.ranks.start import group_for
from elattn_bench.results import SCHEMA_VERSION, Outcome, Row, Skipped
from elattn_bench.roofline import CEILINGS_TIMEOUT, Ceilings
from elattn_bench.rundir import RUN_INFO, RunDir, check_vacant, read_info
from elattn_bench.units import Seconds, counted, format_duration
from elattn_bench.worker import Settings, Worker


def stored_settings(path: Path) -> Mapping[str, Any]:
    """The settings that a run was started with.

    Raises:
        RunDirError: there is no such run, or an older version began it.
    """
    if not (path / RUN_INFO).is_file():
        raise RunDirError(f"{path}: there is no run to resume; start it without --resume")
    info = read_info(path)
    settings = info.get("config")
    if info.get("schema", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise RunDirError(
            f"{path}: was begun by another version of elattn-bench (schema {info['schema']}, this one writes "
            f"{SCHEMA_VERSION}), so its rows cannot be completed; sweep into another directory"
        )
    if not isinstance(info.get("environment"), dict) or not config.is_complete(settings):
        raise RunDirError(f"{path / RUN_INFO}: does not say how the run was started, so it cannot be resumed")
    assert isinstance(settings, dict)
    return settings


def run_sweep(plan: Plan, path: Path, *, resume: bool, force: bool, console: Console) -> None:
    """Measure the plan's cases into the run directory; whatever happens, finished rows stay.

    Raises:
        RunDirError: the directory cannot be used, or belongs to another machine's run.
        WorkerError: the worker cannot be started.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    if not resume:
        check_vacant(path, force=force)
    with interruptible(), worker_for(plan) as worker, group_for(plan) as group:
        # The worker first: an earlier run is replaced only when a new one can begin.
        here = environment.of_run(plan.device, worker.environment()) | (group.environment() if group else {})
        with _open(plan, path, here, resume=resume, force=force) as run_dir:
            pending = sweep.in_visits(plan.cases, run_dir, plan.budget.visits, plan.seed)
            _announce(run_dir, pending, plan.budget.visits, console)
            for warning in conditions.warnings(here):
                warn(warning, console)
            if pending:
                _measure(plan, pending, run_dir, worker, group, console)
            run_dir.info["finished"] = now()
            run_dir.write_info()


def _measure(
    plan: Plan,
    pending: Sequence[Case],
    run_dir: RunDir,
    worker: Worker,
    group: RankGroup | None,
    console: Console,
) -> None:
    """Ceilings and collectives, then the cases in two halves with the control case around and between them."""
    start, started_s, before = time.monotonic(), worker.starting_s, dict(run_dir.done)
    _measure_ceilings(run_dir, worker)
    held = run_dir.info["environment"].get("held_bytes", 0)
    predictor = Predictor(plan.memory_limit, held, group.share.memory if group else None)
    watched = _begin_control(run_dir, plan)

    def measured(case: Case) -> Outcome:
        by = worker if group is None or case.ranks is None else group
        return _explained(case, by.measure(case, plan.timeout), progress)

    with ProgressBar(pending, lambda case: _seconds(plan, case), console) as progress:
        if group is not None:
            exchanges.measure(pending, run_dir, group, progress.note)
        for at, cases in zip(("start", "middle", "end"), _halves(plan, pending), strict=True):
            if at != "middle" or len(pending) > 1:
                progress.note("control case")
                _visit_control(at, watched, run_dir, plan, worker)
            sweep.run(cases, run_dir, measured, progress, predictor, plan.budget.visits)
    wall_s = time.monotonic() - start
    starting_s = worker.starting_s - started_s + (group.starting_s if group else 0.0)
    cost = _record_session(run_dir, before, watched["visits"], wall_s, starting_s)
    console.print(cost, highlight=False, soft_wrap=True)
    if warning := control.warning(watched["visits"]):
        warn(warning, console)


def _explained(case: Case, outcome: Outcome, progress: ProgressBar) -> Outcome:
    """The outcome; the traceback of a user's own attention is shown, for they are there to mend it."""
    if isinstance(outcome, Skipped) and outcome.status == "error" and is_a_plugin(case.attention):
        progress.explain(outcome.details)
    return outcome


def _halves(plan: Plan, cases: Sequence[Case]) -> tuple[Sequence[Case], Sequence[Case], Sequence[Case]]:
    """What follows the start, the middle and the end: the cases of either half of the time, and nothing."""
    done = list(itertools.accumulate(_seconds(plan, case) for case in cases))
    middle = sum(seconds <= done[-1] / 2 for seconds in done)
    return cases[:middle], cases[middle:], ()


def _measure_ceilings(run_dir: RunDir, worker: Worker) -> None:
    if run_dir.here is not None:
        return  # run.json's are those of another device; this one's stand in its record
    found = worker.call("elattn_bench.ceilings:measure", timeout=CEILINGS_TIMEOUT)
    if isinstance(found, Skipped):
        run_dir.info["ceilings_missing"] = found.reason
    else:
        known = Ceilings.from_json(run_dir.info["ceilings"])
        run_dir.info["ceilings"] = known.best_of(Ceilings.from_json(found)).to_json()
    run_dir.write_info()


def _begin_control(run_dir: RunDir, plan: Plan) -> dict[str, Any]:
    """A new session of the control case, without visits yet, in run.json."""
    case_id = control.CASES[plan.device].case_id
    session: dict[str, Any] = {"visits": [], "drift": None}
    run_dir.info.setdefault("control", {"case_id": case_id, "sessions": []})["sessions"].append(session)
    return session


def _visit_control(at: str, session: dict[str, Any], run_dir: RunDir, plan: Plan, worker: Worker) -> None:
    outcome = worker.measure(control.CASES[plan.device], plan.timeout)
    session["visits"].append(control.visit(at, now(), outcome))
    session["drift"] = control.drift(session["visits"])
    run_dir.write_info()


def _record_session(
    run_dir: RunDir,
    before: Mapping[str, Row],
    visits: Sequence[Mapping[str, Any]],
    wall_s: Seconds,
    starting_s: Seconds,
) -> str:
    """Record what the harness itself cost: time outside first, warm-up and timed calls. A sentence of it.

    Cases without a measurement are left out of both: nobody knows what a time-out spent its time on.
    """
    new = [row for case_id, row in run_dir.done.items() if case_id not in before]
    lost_s = sum(row.case_s or 0.0 for row in new if not row.ok)
    timed_s = _timed(run_dir.done) - _timed(before) + sum(each["timed_s"] or 0.0 for each in visits)
    session = {"cases": len(new), "wall_s": wall_s, "not_measured_s": lost_s}
    session |= {"starting_workers_s": starting_s, "timed_s": timed_s}
    run_dir.info.setdefault("sessions", []).append(session)
    measuring_s = max(wall_s - lost_s - starting_s, timed_s)
    restarts = f", and {format_duration(starting_s)} to start workers" if starting_s >= 1 else ""
    return (
        f"The harness took {1 - timed_s / measuring_s:.0%} of {format_duration(measuring_s)} (gates, inputs, ceilings, "
        f"writing){restarts}; the rest was first, warm-up and timed calls."
    )


def _timed(rows: Mapping[str, Row]) -> Seconds:
    return sum(row.timed_s or 0.0 for row in rows.values())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


@contextmanager
def interruptible(handler: Callable[[int, FrameType | None], None] = _interrupt) -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and a closed terminal raise Interrupted, unless the handler does something else."""
    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _open(plan: Plan, path: Path, here: Mapping[str, Any], *, resume: bool, force: bool) -> RunDir:
    if resume:
        run_dir = RunDir.resume(path)
        try:
            refuse_another_machine(path, records.agreeing(run_dir.info, here), here)
        except RunDirError:
            run_dir.close()
            raise
        run_dir.here = records.place_of(run_dir.info, here)
        return run_dir
    info = {
        "schema": SCHEMA_VERSION,
        "argv": sys.argv[1:],
        "config": dict(plan.settings),
        "started": now(),
        "finished": None,
        "environment": here,
        "ceilings": {},
    }
    return RunDir.create(path, info, force=force)


def refuse_another_machine(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to complete a run of another machine.

    Raises:
        RunDirError: with what differs.
    """
    if differing := environment.differences(there, here, environment.SAME_MACHINE):
        raise RunDirError(
            f"{path}: was measured on another machine or set-up ({'; '.join(differing)}); "
            "its rows cannot be mixed with this one's: choose another directory"
        )


def warn(sentence: str, console: Console) -> None:
    """Print a warning."""
    console.print(f"warning: {sentence}", highlight=False, soft_wrap=True, markup=False)


def worker_for(plan: Plan) -> Worker:
    """A worker with the plan's settings."""
    return Worker(
        Settings(plan.device, plan.budget, plan.threads, plan.memory_limit, plan.seed, plan.input_std)
    )


def _announce(run_dir: RunDir, pending: Sequence[Case], visits: int, console: Console) -> None:
    machine = run_dir.info["environment"]
    kept = f", {len(run_dir.done)} kept from before" if run_dir.done else ""
    each = f" in {visits} visits each" if visits > 1 else ""
    console.print(
        f"Measuring {len(set(pending))} cases{each}{kept} on {machine['device_name']} "
        f"({counted(machine['threads'], 'thread')}, torch {machine['torch']}) into {run_dir.path}"
        f"{_of_ranks(pending, machine)}",
        highlight=False,
        soft_wrap=True,
    )


def _of_ranks(pending: Sequence[Case], machine: Mapping[str, Any]) -> str:
    if all(case.ranks is None for case in pending):
        return ""
    threads = counted(machine["threads_per_rank"], "thread")
    return f"; a rank stands for a device: {threads} each, however many there are"


def _seconds(plan: Plan, case: Case) -> Seconds:
    return estimate.case_seconds(case, plan.budget, plan.timeout)


def now() -> str:
    """The time, as run.json has it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
