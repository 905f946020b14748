"""The body of ``project``: what a run's attentions would take over more ranks than it has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from elattn_bench.commands import screen
from elattn_bench.errors import UsageError
from elattn_bench.units import Bytes


def project(
    path: Path,
    tokens: str,
    ranks: str,
    where: Sequence[str],
    link: str | None,
    memory: str | None,
    format: str,
    figure: str,
    output: Path | None,
    style: str,
    size: str | None,
    title: str | None,
) -> None:
    """Tables on stdout, the figure on disk."""
    from elattn_bench import where as conditions
    from elattn_bench.axis import Axis
    from elattn_bench.figures.look import find_look
    from elattn_bench.figures.projection import plot
    from elattn_bench.projection.model import memory_of
    from elattn_bench.projection.model import project as projected
    from elattn_bench.rundir import PLOTS
    from elattn_bench.tables import projection, render

    lengths, counts = Axis.parse("tokens", tokens).values, Axis.parse("ranks", ranks).values
    look, formats = find_look(style, size, title), screen.names(figure)
    run = conditions.filtered(screen.read(path), where)
    found = projected(
        run, lengths, counts, link, memory_limit(memory, memory_of(run)), is_filtered=bool(where)
    )
    render.show(projection.projection_report(found), format, screen.stdout())
    for drawn in plot(run, found, formats, output or path / PLOTS, look, screen.say):
        screen.say(f"projected: {drawn}")


def memory_limit(text: str | None, total: Bytes | None) -> Bytes | None:
    """``80GiB``, or a share of what the run's machine holds; None as it came.

    Raises:
        UsageError: it is neither, or a share of what nobody knows.
    """
    from elattn_bench.units import parse_memory_limit

    if text is None:
        return None
    if total is None and "%" in text:
        raise UsageError(f"--memory {text}: the run does not say how much its machine has; write 80GiB")
    try:
        return parse_memory_limit(text, total or 0)
    except ValueError as error:
        raise UsageError(f"--memory {text}: {error}") from None
