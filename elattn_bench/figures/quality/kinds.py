"""The kinds of figures of a quality run, what each needs, and how they become files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elattn_bench.figures import drawing, style
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.quality.against import draw_quality
from elattn_bench.figures.quality.curves import draw_curves
from elattn_bench.figures.quality.lengths import draw_lengths
from elattn_bench.figures.quality.nouns import Beside
from elattn_bench.figures.quality.orders import draw_orders
from elattn_bench.figures.quality.overview import draw_overview
from elattn_bench.quality.rundir import QualityRun
from elattn_bench.rundir import PLOTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTHING = Beside()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of figure: how to draw its files, and what a run must hold for it."""

    draw: Callable[[QualityRun, Look, Beside], Iterator[tuple[str, Figure]]]
    needs: str


KINDS: Mapping[str, Kind] = {
    "overview": Kind(
        draw_overview, "two tasks or forms in which softmax (else vgg) and another model have a score"
    ),
    "quality": Kind(draw_quality, "a task in which two models have a score"),
    "curves": Kind(draw_curves, "a model trained for two epochs"),
    "orders": Kind(
        draw_orders, "an attention trained in two orders; train with -i ea-series,softmax --order 2,6"
    ),
    "lengths": Kind(
        draw_lengths,
        "scores at other lengths than trained on, which shakespeare, mqar and selective-copy have",
    ),
}


def plot(
    run: QualityRun,
    kinds: Sequence[str] | None = None,
    formats: Sequence[str] = ("png",),
    out_dir: Path | None = None,
    look: Look = README,
    beside: Beside = NOTHING,
    say: Callable[[str], object] | None = None,
) -> list[Path]:
    """Draw figures of the run, and return the files written.

    Args:
        run: the run.
        kinds: names out of ``KINDS``; None: every kind that the run has data for.
        formats: out of ``png``, ``svg``, ``pdf``.
        out_dir: where to; None: ``plots`` in the run's directory.
        look: where the figures are meant to be seen.
        beside: claims and latencies, which are not in the run.
        say: is told the caption of every figure that leaves it to the paper.

    Raises:
        UsageError: a kind or format is unknown, or the run has no data for a kind asked for.
        RunDirError: the disk refuses.
    """
    target = out_dir or run.path / PLOTS
    return drawing.write(
        KINDS, lambda kind: draw(run, kind, look, beside), kinds, formats, target, look, run.path.name, say
    )


def draw(
    run: QualityRun, kind: str, look: Look = README, beside: Beside = NOTHING
) -> Iterator[tuple[str, Figure]]:
    """The figures of one kind, each with the stem of its file name; none where the run lacks the data."""
    with style.house_style(look):
        yield from KINDS[kind].draw(run, look, beside)
