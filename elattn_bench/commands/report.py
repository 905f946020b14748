"""The body of ``report``: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import typer

from elattn_bench.commands import screen
from elattn_bench.errors import UsageError


def report(path: Path, output: Path | None, reference: str | None, *, force: bool) -> None:
    """Write the report of a run, and say where it is."""
    from elattn_bench.disk import disk_errors, replace_whole
    from elattn_bench.html import page, sections
    from elattn_bench.rundir import REPORT
    from elattn_bench.verdicts.reference import DEFAULT_REFERENCE

    run = screen.read(path)
    target = output or path / REPORT
    _check_target(path, target, force=force)
    wanted = reference or DEFAULT_REFERENCE
    verdicts = sections.judge(run, wanted, required=reference is not None)
    if verdicts.missing:
        screen.say(f"{path}: no crossovers and speed-ups: {verdicts.missing}")
    text = page.render(run, verdicts, wanted)
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(target, target.with_name(target.name + ".new"), text)
    typer.echo(target)


def _check_target(path: Path, target: Path, *, force: bool) -> None:
    """Refuse to write over anything but an earlier report in the run's own directory.

    Raises:
        UsageError: with what to do instead.
    """
    from elattn_bench.rundir import OURS, REPORT

    own, inside = target.resolve(), target.resolve().parent == path.resolve()
    if own.is_dir():
        raise UsageError(f"-o {target}: is a directory; name a file, {target / REPORT}")
    if inside and own.name in OURS and own.name != REPORT:
        raise UsageError(f"-o {target}: is a part of the run itself; name another file, {path / REPORT}")
    if own.exists() and not (inside and own.name == REPORT) and not force:
        raise UsageError(f"-o {target}: exists; replace it with --force, or name another file")
