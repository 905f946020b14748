"""The kinds of figures of a run, what each needs, and how they become files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from elattn_bench.figures import drawing, style
from elattn_bench.figures.files import FORMATS as FORMATS
from elattn_bench.figures.fits import draw_fits
from elattn_bench.figures.grid import DIM, LATENCY_GRID, MEMORY_GRID, ORDER, draw_grids
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.pareto import draw_pareto
from elattn_bench.figures.ranks import draw_ranks
from elattn_bench.figures.roofline import draw_roofline
from elattn_bench.figures.scaling import draw_decode, draw_scaling
from elattn_bench.figures.winners import draw_winners
from elattn_bench.rundir import PLOTS, Run
from elattn_bench.verdicts.ranks import of_fewest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of figure: how to draw its files, what a run must hold for it.

    over_ranks: whether it shows all numbers of ranks; others show the fewest alone.
    """

    draw: Callable[[Run, Look], Iterator[tuple[str, Figure]]]
    needs: str
    over_ranks: bool = False


KINDS: Mapping[str, Kind] = {
    "scaling": Kind(draw_scaling, "at least one measured case"),
    "latency": Kind(partial(draw_grids, LATENCY_GRID), "at least one measured case"),
    "memory": Kind(partial(draw_grids, MEMORY_GRID), "cases with a measured peak memory"),
    "decode": Kind(draw_decode, "cases measured in mode decode; sweep with --mode decode"),
    "order": Kind(partial(draw_grids, ORDER), "an attention measured in two orders; sweep with --order 2,6"),
    "dim": Kind(partial(draw_grids, DIM), "an attention measured in two dims; sweep with --dim 64,256"),
    "fits": Kind(
        draw_fits,
        "an implementation measured at five lengths, to fit a curve; sweep with --seq-len 256:16k:x2",
    ),
    "winners": Kind(
        draw_winners, "two lengths and two dims in one setting; sweep with --seq-len 1k,4k --dim 64,256"
    ),
    "pareto": Kind(
        draw_pareto,
        "an approximation beside another order of it or the exact attention; sweep with -i ea-series,element-wise",
    ),
    "ranks": Kind(
        draw_ranks, "a line measured over two numbers of ranks; sweep with --ranks 1,2,4", over_ranks=True
    ),
    "roofline": Kind(
        draw_roofline,
        "the device's ceilings, which runs of schema 1 lack, and a measured case whose work is known by formula",
    ),
}


def plot(
    run: Run,
    kinds: Sequence[str] | None = None,
    formats: Sequence[str] = ("png",),
    out_dir: Path | None = None,
    look: Look = README,
    say: Callable[[str], object] | None = None,
) -> list[Path]:
    """Draw figures of the run, and return the files written.

    Args:
        run: the run.
        kinds: names out of ``KINDS``; None: every kind that the run has data for.
        formats: out of ``png``, ``svg``, ``pdf``.
        out_dir: where to; None: ``plots`` in the run's directory.
        look: where the figures are meant to be seen.
        say: is told the caption of every figure that leaves it to the paper.

    Raises:
        UsageError: a kind or format is unknown, or the run has no data for a kind asked for.
        RunDirError: the disk refuses.
    """
    target = out_dir or run.path / PLOTS
    return drawing.write(
        KINDS, lambda kind: draw(run, kind, look), kinds, formats, target, look, run.name, say
    )


def draw(run: Run, kind: str, look: Look = README) -> Iterator[tuple[str, Figure]]:
    """The figures of one kind, each with the stem of its file name; none where the run lacks the data."""
    shown = run if KINDS[kind].over_ranks else replace(run, rows=of_fewest(run.rows))
    with style.house_style(look):
        yield from KINDS[kind].draw(shown, look)
