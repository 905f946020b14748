"""A paper's claim as lines and a corner: so much of a reference's measured score at so much of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elattn_bench.figures.look import Look
from elattn_bench.figures.quality.nouns import Comparison
from elattn_bench.quality.claims import Target

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TINT = 0.12  # of the corner in which the claim holds


@dataclass(frozen=True, slots=True)
class Claimed:
    """A target in the units of a figure: the score to reach, with how many parameters."""

    target: Target
    score: float
    params: float
    higher_is_better: bool


def claimed_in(comparison: Comparison, targets: Sequence[Target]) -> list[Claimed]:
    """The targets of this task whose reference was measured."""
    found = []
    for target in targets:
        reference = comparison.of(target.reference) if target.task == comparison.facet.task else None
        if reference and reference.params:
            factor = target.ratio if comparison.metric.higher_is_better else 1 / target.ratio
            found.append(
                Claimed(
                    target,
                    factor * reference.mean,
                    target.share * reference.params,
                    comparison.metric.higher_is_better,
                )
            )
    return found


def draw_claimed(axes: Axes, claim: Claimed, look: Look, *, corner: bool) -> None:
    """The level of the score; in the panel of parameters their bound too, and the corner where the claim holds."""
    axes.axhline(claim.score, zorder=1.2, **line_look(look))
    if not corner:
        return
    axes.axvline(claim.params, zorder=1.2, **line_look(look))
    best = axes.get_ylim()[1 if claim.higher_is_better else 0]
    left = axes.get_xlim()[0]
    axes.fill_between(
        [left, claim.params], claim.score, best, color=look.colors[1], alpha=TINT, linewidth=0, zorder=0.6
    )


def line_look(look: Look) -> dict[str, Any]:
    """The lines of a claim."""
    return {"color": look.colors[1], "linewidth": 1.0 * look.scale, "linestyle": (0, (4, 2))}
