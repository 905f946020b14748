"""From a plan to a finished run directory: opens it, starts the worker, watches, closes in order."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from elattn_bench import config, environment, estimate, sweep
from elattn_bench.config import Plan
from elattn_bench.errors import Interrupted, RunDirError
from elattn_bench.neighbours import DISTURBED
from elattn_bench.progress import ProgressBar
from elattn_bench.results import SCHEMA_VERSION
from elattn_bench.rundir import RUN_INFO, RunDir, check_vacant, read_info
from elattn_bench.units import Seconds
from elattn_bench.worker import Settings, Worker


def stored_settings(path: Path) -> Mapping[str, Any]:
    """The settings that a run was started with.

    Raises:
        RunDirError: there is no such run.
    """
    if not (path / RUN_INFO).is_file():
        raise RunDirError(f"{path}: there is no run to resume; start it without --resume")
    info = read_info(path)
    settings = info.get("config")
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
    with interruptible(), _worker(plan) as worker:
        # The worker first: an earlier run is replaced only when a new one can begin.
        here = environment.of_run(plan.device, worker.environment())
        with _open(plan, path, here, resume=resume, force=force) as run_dir:
            _warn_if_busy(run_dir, console)
            _measure(plan, run_dir, worker, console)


def _measure(plan: Plan, run_dir: RunDir, worker: Worker, console: Console) -> None:
    cases = [case for case in sweep.in_order(plan.cases, plan.seed) if case.case_id not in run_dir.done]
    _announce(plan, run_dir, len(cases), console)
    with ProgressBar(cases, lambda case: _seconds(plan, case), console) as progress:
        sweep.run(cases, run_dir, lambda case: worker.measure(case, plan.timeout), progress)
    run_dir.info["finished"] = _now()
    run_dir.write_info()


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and a closed terminal raise Interrupted."""
    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, _interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number).name)


def _open(plan: Plan, path: Path, here: Mapping[str, Any], *, resume: bool, force: bool) -> RunDir:
    if resume:
        run_dir = RunDir.resume(path)
        _refuse_another_machine(run_dir, here)
        return run_dir
    info = {
        "schema": SCHEMA_VERSION,
        "argv": sys.argv[1:],
        "config": dict(plan.settings),
        "started": _now(),
        "finished": None,
        "environment": here,
        "ceilings": {},
    }
    return RunDir.create(path, info, force=force)


def _refuse_another_machine(run_dir: RunDir, here: Mapping[str, Any]) -> None:
    there = run_dir.info["environment"]
    if differing := environment.differences(there, here, environment.SAME_MACHINE):
        run_dir.close()
        raise RunDirError(
            f"{run_dir.path}: was measured on another machine or set-up ({'; '.join(differing)}); "
            "its rows cannot be mixed with this one's: sweep into another directory"
        )


def _warn_if_busy(run_dir: RunDir, console: Console) -> None:
    busy = environment.busy_share()
    run_dir.info.setdefault("cpu_busy_at_start", busy)
    run_dir.write_info()
    if busy > DISTURBED:
        console.print(
            f"warning: {busy:.0%} of the CPU is in use by other processes; latencies will be longer and noisier, "
            "short calls by far: stop what you can, or measure with fewer --threads",
            highlight=False,
            soft_wrap=True,
        )


def _worker(plan: Plan) -> Worker:
    return Worker(
        Settings(plan.device, plan.budget, plan.threads, plan.memory_limit, plan.seed, plan.input_std)
    )


def _announce(plan: Plan, run_dir: RunDir, pending: int, console: Console) -> None:
    machine = run_dir.info["environment"]
    kept = f", {len(run_dir.done)} kept from before" if run_dir.done else ""
    console.print(
        f"Measuring {pending} cases{kept} on {machine['device_name']} "
        f"({machine['threads']} threads, torch {machine['torch']}) into {run_dir.path}",
        highlight=False,
        soft_wrap=True,
    )


def _seconds(plan: Plan, case: Any) -> Seconds:
    return estimate.case_seconds(case, plan.budget, plan.timeout)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
