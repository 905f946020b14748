"""From kinds of figures to files: the loop that figures of sweeps and of quality runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from elattn_bench.errors import UsageError
from elattn_bench.figures import files
from elattn_bench.figures.files import FORMATS
from elattn_bench.figures.header import caption
from elattn_bench.figures.look import Look
from elattn_bench.names import check_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Needy(Protocol):
    """A kind of figure, which says what a run must hold for it."""

    @property
    def needs(self) -> str:
        """In words, after "it needs"."""
        ...


def write(
    known: Mapping[str, Needy],
    draw: Callable[[str], Iterator[tuple[str, Figure]]],
    wanted: Sequence[str] | None,
    formats: Sequence[str],
    target: Path,
    look: Look,
    run: str,
    say: Callable[[str], object] | None,
) -> list[Path]:
    """Draw the kinds into the directory, and return the files written.

    Args:
        known: every kind, by name.
        draw: the figures of a kind, each with the stem of its file name.
        wanted: names out of ``known``; None: every kind that there is data for.
        formats: out of ``png``, ``svg``, ``pdf``.
        target: the directory.
        run: the run's name, for messages.
        say: is told the caption of every figure that leaves it to the paper.

    Raises:
        UsageError: a kind or format is unknown, or there is no data for a kind asked for.
        RunDirError: the disk refuses.
    """
    check_names("kind", wanted or (), list(known))
    check_names("format", formats, FORMATS)
    written: list[Path] = []
    for kind in wanted or known:
        count = len(written)
        for stem, figure in draw(kind):
            for suffix in formats:
                written.append(target / f"{stem}.{suffix}")
                files.save(figure, written[-1], look)
            if say and caption(figure):
                say(f"{stem}: {caption(figure)}")
        if wanted and len(written) == count:
            raise UsageError(f"--kind {kind}: run {run} has nothing to draw: it needs {known[kind].needs}")
    return written
