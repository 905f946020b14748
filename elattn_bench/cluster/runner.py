"""From settings to a finished run directory, over a cluster: join it, plan where its devices are, measure, close."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from elattn_bench import control, estimate, sweep
from elattn_bench.cases import Case
from elattn_bench.cluster import door, records
from elattn_bench.cluster.aside import Silence
from elattn_bench.cluster.foreman import Foreman
from elattn_bench.cluster.node import Orders
from elattn_bench.cluster.planning import plan_where_the_devices_are
from elattn_bench.cluster.progress import ClusterProgress
from elattn_bench.cluster.queue import Home, Queue
from elattn_bench.config import GRID_TABLE, Plan
from elattn_bench.errors import Interrupted, RunDirError, UsageError
from elattn_bench.results import SCHEMA_VERSION
from elattn_bench.rundir import RunDir, check_vacant, resume_command
from elattn_bench.runner import interruptible, now, warn
from elattn_bench.tables.nodes import nodes_report
from elattn_bench.tables.render import show
from elattn_bench.units import Seconds, format_duration


def launcher_flags(address: str | None) -> str:
    """What a command needs besides to go on over the cluster."""
    return " --launcher ray" + (f" --address {shlex.quote(address)}" if address else "")


@contextmanager
def planned(settings: Mapping[str, Any], address: str | None) -> Iterator[Plan]:
    """The plan of the settings; within, this process is part of the cluster that can carry it out.

    Raises:
        UsageError: Ray is not installed, there is no cluster, it has no device to measure on, or an option
            breaks its rule.
    """
    grids = settings.get(GRID_TABLE) or ()
    if ranks := settings["ranks"] or next((grid["ranks"] for grid in grids if grid.get("ranks")), ""):
        raise UsageError(
            f"--ranks {ranks}: a sequence over many hosts is started with torchrun on each of them, "
            "not by --launcher ray; drop one of the two"
        )
    with door.joined(address):
        yield plan_where_the_devices_are(settings, address)


def run_sweep(
    plan: Plan, path: Path, address: str | None, *, resume: bool, force: bool, console: Console
) -> None:
    """Measure the plan's cases on all of the cluster's devices; whatever happens, finished rows stay.

    Call it within ``planned``.

    Raises:
        RunDirError: the directory cannot be used, or no node can.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    if not resume:
        check_vacant(path, force=force)
    devices, signals = {case.device for case in plan.cases}, _Signals()
    orders = {each: _orders(plan, each) for each in devices}
    # Within what joins, not around it: Ray takes the signals when it is joined.
    with interruptible(signals), door.RayCrew(devices, orders, signals.check) as crew:
        foreman = Foreman(
            crew,
            warn=lambda sentence: warn(sentence, console),
            advice="the same command",
            timeout=plan.timeout,
            now=now,
        )
        try:
            with _open(plan, path, foreman, resume=resume, force=force) as run_dir:
                foreman.advice = resume_command(path) + launcher_flags(address)
                _lead(plan, foreman, run_dir, console)
                run_dir.info["finished"] = now()
                run_dir.write_info()
        except Silence:
            raise RunDirError(
                f"the cluster's head has not answered for {format_duration(door.HEAD_PATIENCE)}; what is measured is "
                f"on disk: see to the cluster (ray status), then go on with: {foreman.advice}"
            ) from None


class _Signals:
    """Remembers a signal until somebody asks: an exception in the middle of Ray's own code ends as another."""

    def __init__(self) -> None:
        self._came: signal.Signals | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._came = signal.Signals(number)

    def check(self) -> None:
        """Raise Interrupted if one has come."""
        if self._came is not None:
            raise Interrupted(self._came.name)


def _orders(plan: Plan, device: str) -> Orders:
    return Orders(plan.settings, device, plan.timeout, plan.threads, plan.seed, plan.input_std)


def _open(plan: Plan, path: Path, foreman: Foreman, *, resume: bool, force: bool) -> RunDir:
    """The run directory: a new one once a first node can measure; an old one as it is, for machines like its own."""
    if resume:
        run_dir = RunDir.resume(path)
        foreman.allowed = lambda here: _objections(run_dir.info, here)
        return run_dir
    introduction = foreman.meet()
    info = {
        "schema": SCHEMA_VERSION,
        "argv": sys.argv[1:],
        "config": dict(plan.settings),
        "started": now(),
        "finished": None,
        "environment": introduction["environment"],
        "ceilings": introduction["ceilings"],
    }
    return RunDir.create(path, info, force=force)


def _objections(info: Mapping[str, Any], here: Mapping[str, Any]) -> Sequence[str]:
    differing = records.differing(info, here)
    if not differing:
        return []
    told = "; ".join(differing)
    return [
        f"the run was measured on another machine or set-up ({told}); {records.mending(differing, resumes=True)}"
    ]


def _lead(plan: Plan, foreman: Foreman, run_dir: RunDir, console: Console) -> None:
    """Have the cases measured that are left; say how the nodes compare."""
    visits, start, before = plan.budget.visits, time.monotonic(), set(run_dir.done)
    pending = sweep.in_visits(plan.cases, run_dir, visits, plan.seed)
    if not pending:
        return
    foreman.meet()
    _announce(run_dir, pending, foreman, console)
    queue = Queue(pending, lambda case: run_dir.remaining(case.case_id, visits) > 0, _homes(run_dir))
    with ClusterProgress(pending, lambda case: _seconds(plan, case), console) as progress:
        assert isinstance(progress, ClusterProgress)
        foreman.lead(queue, run_dir, progress, lambda case: _seconds(plan, case))
    _record_session(run_dir, before, time.monotonic() - start)
    show(nodes_report(run_dir.info[records.NODES]), "table", console)
    nodes = records.of_session(run_dir.info[records.NODES], records.sessions(run_dir.info[records.NODES])[-1])
    for node in nodes:
        if warning := control.warning(node["control"]["visits"]):
            warn(f"{node['host']}: {warning}", console)
    if warning := records.warning(nodes):
        warn(warning, console)


def _homes(run_dir: RunDir) -> dict[str, Home]:
    """Where the cases that have a row were measured; a row of a local run names no host, but its device."""
    return {case_id: Home(row.host, row.device_name) for case_id, row in run_dir.done.items()}


def _seconds(plan: Plan, case: Case) -> Seconds:
    return estimate.case_seconds(case, plan.budget, plan.timeout)


def _announce(run_dir: RunDir, pending: Sequence[Case], foreman: Foreman, console: Console) -> None:
    kept = f", {len(run_dir.done)} kept from before" if run_dir.done else ""
    hosts = len({slot.node_id for slot in foreman.hands})
    on = (
        f"{len(foreman.hands)} devices of {hosts} nodes"
        if len(foreman.hands) > 1
        else "1 device of a Ray cluster"
    )
    console.print(
        f"Measuring {len(set(pending))} cases{kept} on {on} into {run_dir.path}",
        highlight=False,
        soft_wrap=True,
    )


def _record_session(run_dir: RunDir, before: set[str], wall_s: Seconds) -> None:
    new = [row for case_id, row in run_dir.done.items() if case_id not in before]
    session = {"cases": len(new), "wall_s": wall_s, "measuring_s": sum(row.case_s or 0.0 for row in new)}
    run_dir.info.setdefault("sessions", []).append({**session, "launcher": "ray"})
