"""The body of ``history``: many runs of one machine, in the order of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from elattn_bench.commands import screen
from elattn_bench.errors import RunDirError, UsageError

if TYPE_CHECKING:
    from elattn_bench.rundir import Run

DEPTHS = ("*", "*/*")  # where runs lie below the directory: there, or in a directory per machine or month


def history(
    path: Path,
    metric: str,
    threshold: str,
    fail_on: str | None,
    format: str,
    figure: str,
    output: Path | None,
    style: str,
    size: str | None,
    title: str | None,
    *,
    force: bool,
) -> None:
    """Tables and the figure of all runs below the directory."""
    from elattn_bench.figures.files import FORMATS
    from elattn_bench.figures.history import plot_history
    from elattn_bench.figures.look import find_look
    from elattn_bench.names import check_names
    from elattn_bench.rundir import PLOTS
    from elattn_bench.tables import render
    from elattn_bench.tables.history import history_report
    from elattn_bench.verdicts import history as verdicts

    share, formats, kinds = screen.threshold(threshold), screen.names(figure), screen.failure_kinds(fail_on)
    check_names("figure", formats, FORMATS)
    look = find_look(style, size, title)
    runs = in_order(read_below(path))
    _check_machines(path, runs, force=force)
    found = verdicts.history(runs, metric, share)
    failures = [(kind, each) for kind in kinds for each in verdicts.fails(found, kind)]
    render.show(history_report(found), format, screen.stdout())
    for file in plot_history(found, formats, output or path / PLOTS, look, screen.say):
        screen.say(f"figure: {file}")
    screen.end(failures)


def read_below(path: Path) -> list[Run]:
    """The runs in the directory's directories, or in those of these; what cannot be read is named and left out.

    Raises:
        RunDirError: there is no such directory.
        UsageError: it is a run itself, or holds none.
    """
    from elattn_bench.rundir import RESULTS

    if not path.is_dir():
        raise RunDirError(f"{path}: no such directory; name one that holds run directories")
    if (path / RESULTS).is_file():
        raise UsageError(f"{path}: is a run, and a history is of many; name the directory that holds them")
    places = sorted(file.parent for depth in DEPTHS for file in path.glob(f"{depth}/{RESULTS}"))
    runs = [run for place in places if (run := _read(place)) is not None]
    if not runs:
        raise UsageError(
            f"{path}: holds no run that can be read; sweep into it: elattn-bench sweep -o {path}/<date>"
        )
    return runs


def _read(path: Path) -> Run | None:
    try:
        return screen.read(path)
    except RunDirError as error:
        screen.say(f"warning: left out: {error}")
        return None


def in_order(runs: Sequence[Run]) -> list[Run]:
    """The runs by the time they were started; by name where one does not say."""
    instants = [_instant(run) for run in runs]
    if unknown := [run.name for run, instant in zip(runs, instants, strict=True) if instant is None]:
        screen.say(
            f"warning: {', '.join(unknown)}: run.json does not say when it was started, so the runs are in "
            "the order of their names"
        )
        return sorted(runs, key=lambda run: run.path)
    return sorted(runs, key=lambda run: (_instant(run) or 0.0, run.name))


def _instant(run: Run) -> float | None:
    """When the run was started, in seconds since 1970; None where run.json has no date and time."""
    from datetime import datetime, timezone

    try:
        started = datetime.fromisoformat(str(run.info.get("started")))
    except ValueError:
        return None
    # Aware and naive times do not compare: one without a zone is taken as UTC.
    return (started if started.tzinfo else started.replace(tzinfo=timezone.utc)).timestamp()


def _check_machines(path: Path, runs: Sequence[Run], *, force: bool) -> None:
    """Refuse runs of several machines, and say what they differ in."""
    from elattn_bench.verdicts.history import MACHINE, machine_of

    machines: dict[tuple[object, ...], list[str]] = {}
    for run in runs:
        machines.setdefault(machine_of(run), []).append(run.name)
    if len(machines) < 2 or force:
        return
    differing = [index for index in range(len(MACHINE)) if len({machine[index] for machine in machines}) > 1]
    described = "; ".join(
        f"{', '.join(f'{MACHINE[index]} {machine[index]}' for index in differing)}: {_counted(names)}"
        for machine, names in machines.items()
    )
    raise UsageError(
        f"{path}: a history is of one machine, and these runs are of {len(machines)}: {described}. Put each machine's "
        "runs into a directory of their own, or take them as one with --force"
    )


def _counted(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
