"""The body of ``plot``: the figures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from elattn_bench.commands import screen


def plot(
    path: Path,
    kind: str | None,
    format: str,
    output: Path | None,
    style: str,
    size: str | None,
    title: str | None,
    where: Sequence[str] = (),
) -> None:
    """The figures of a run, or of some of its cases."""
    from elattn_bench import figures
    from elattn_bench import where as conditions
    from elattn_bench.figures.look import find_look
    from elattn_bench.rundir import PLOTS

    look = find_look(style, size, title)
    kinds = screen.names(kind) if kind else None
    target = output or path / PLOTS
    run = conditions.filtered(screen.read(path), where)
    drawn = figures.plot(run, kinds, screen.names(format), target, look, screen.say)
    for figure in drawn:
        typer.echo(figure)
    if not drawn:
        screen.say(f"{path}: no case was measured, so there is nothing to draw")
