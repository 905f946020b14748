"""From a plan to a finished quality run: opens the directory, starts the worker, trains job by job."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from elattn_bench import conditions, device, environment
from elattn_bench.errors import RunDirError
from elattn_bench.quality.nouns import Epoch, Job, Trained
from elattn_bench.quality.plan import DEFAULTS, QualityPlan
from elattn_bench.quality.pool import Pool
from elattn_bench.quality.progress import TrainingBar
from elattn_bench.quality.rows import QUALITY_SCHEMA, curve_of, rows_of
from elattn_bench.quality.rundir import QualityDir, check_vacant
from elattn_bench.results import Skipped
from elattn_bench.rundir import RUN_INFO, read_info
from elattn_bench.runner import interruptible, now, refuse_another_machine, warn
from elattn_bench.stats import BUDGETS
from elattn_bench.units import Seconds, counted
from elattn_bench.worker import Settings, Worker

PATIENCE: Seconds = 3600.0  # for a sign of life: no epoch of a suite takes that long, a hung worker does
LIMIT = "without a sign of life"
TARGET = "elattn_bench.quality.training:train"


def stored_settings(path: Path) -> Mapping[str, Any]:
    """The settings that a quality run was started with.

    Raises:
        RunDirError: there is no such run, or it does not say.
    """
    if not (path / RUN_INFO).is_file():
        raise RunDirError(f"{path}: there is no quality run to resume; start it without --resume")
    settings = read_info(path).get("config")
    if not isinstance(settings, dict) or not set(settings) <= set(DEFAULTS):
        raise RunDirError(f"{path / RUN_INFO}: does not say how the run was started, so it cannot be resumed")
    return {**DEFAULTS, **settings}  # an older version knew fewer


def run_quality(plan: QualityPlan, path: Path, *, resume: bool, force: bool, console: Console) -> None:
    """Train the plan's models into the run directory; whatever happens, finished rows stay.

    Raises:
        RunDirError: the directory cannot be used, or belongs to another machine's run.
        WorkerError: the worker cannot be started.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    if not resume:
        check_vacant(path, force=force)
    on = device.detect(plan.settings["device"])
    with interruptible(), ExitStack() as stack:
        settings = _settings(plan, on, read_info(path) if resume else {})
        workers = [stack.enter_context(Worker(settings)) for _ in range(plan.settings["jobs"])]
        here = environment.of_run(on, workers[0].environment())
        with _open(plan, path, here, resume=resume, force=force) as run_dir:
            pending = [job for job in plan.jobs if job.key not in run_dir.done]
            _announce(run_dir, plan, len(pending), console)
            with TrainingBar(pending, console) as bar:
                Training(run_dir, bar, on, workers).run(pending)
            run_dir.info["finished"] = now()
            run_dir.write_info()


def _settings(plan: QualityPlan, on: str, begun: Mapping[str, Any]) -> Settings:
    """Of each worker: without a number of threads, they share the cores; a run that goes on keeps its number."""
    jobs = plan.settings["jobs"]
    threads = plan.settings["threads"] or begun.get("environment", {}).get("threads")
    cores = psutil.cpu_count(logical=False) or jobs
    return Settings(on, BUDGETS["default"], threads or (max(1, cores // jobs) if jobs > 1 else None))


class Training:
    """The trainings of a run: what workers say goes to disk and to the screen, one at a time."""

    def __init__(self, run_dir: QualityDir, bar: TrainingBar, on: str, workers: Sequence[Worker]) -> None:
        self._run_dir, self._bar, self._on = run_dir, bar, on
        self._pool: Pool[Job] = Pool(workers, self._train)

    def run(self, jobs: Sequence[Job]) -> None:
        """Train all, as many at once as there are workers."""
        self._pool.run(jobs)

    def _train(self, job: Job, worker: Worker) -> None:
        with self._pool.lock:
            self._bar.started(job)
        outcome = worker.call(
            TARGET, job, timeout=PATIENCE, on_note=lambda epoch: self._heard(job, epoch), limit=LIMIT
        )
        with self._pool.lock:
            if not self._pool.is_stopped:
                self._finished(job, outcome)

    def _heard(self, job: Job, epoch: Epoch) -> None:
        with self._pool.lock:
            self._run_dir.append_curve(curve_of(job, epoch))
            self._bar.epoch(job, epoch)

    def _finished(self, job: Job, outcome: Trained | Skipped) -> None:
        if isinstance(outcome, Trained):
            _keep_data(self._run_dir, job.task, outcome)
        details = outcome.details if isinstance(outcome, Skipped) else ""
        threads = self._run_dir.info["environment"].get("threads")
        self._run_dir.append(rows_of(job, outcome, self._on, threads), details)
        self._bar.finished(job, outcome)


def _keep_data(run_dir: QualityDir, task: str, outcome: Trained) -> None:
    """The checksums of what was read, once per task."""
    known = {"files": dict(outcome.data), "note": outcome.data_note}
    if run_dir.info["data"].get(task) != known:
        run_dir.info["data"][task] = known
        run_dir.write_info()


def _open(plan: QualityPlan, path: Path, here: Mapping[str, Any], *, resume: bool, force: bool) -> QualityDir:
    if resume:
        run_dir = QualityDir.resume(path)
        try:
            refuse_another_machine(path, run_dir.info.get("environment", {}), here)
        except RunDirError:
            run_dir.close()
            raise
        run_dir.info |= {"config": dict(plan.settings), "missing": dict(plan.missing), "finished": None}
        run_dir.write_info()
        return run_dir
    info = {
        "schema": QUALITY_SCHEMA,
        "argv": sys.argv[1:],
        "config": dict(plan.settings),
        "started": now(),
        "finished": None,
        "environment": here,
        "data": {},
        "missing": dict(plan.missing),
    }
    return QualityDir.create(path, info, force=force)


def _announce(run_dir: QualityDir, plan: QualityPlan, pending: int, console: Console) -> None:
    machine = run_dir.info["environment"]
    kept = f", {len(plan.jobs) - pending} kept from before" if pending < len(plan.jobs) else ""
    at_once = f", {plan.settings['jobs']} at once," if plan.settings["jobs"] > 1 else ""
    threads = counted(machine["threads"], "thread")
    console.print(
        f"Training {pending} models{kept}{at_once} on {machine['device_name']} ({threads}, torch {machine['torch']}) "
        f"into {run_dir.path}",
        highlight=False,
        soft_wrap=True,
    )
    for name, reason in plan.missing.items():
        warn(f"{name} is left out: {reason}", console)
    for warning in conditions.warnings(machine):
        warn(warning, console)
