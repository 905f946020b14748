"""How models look: attentions as in sweeps, networks in the colour of axes, floors hollow and muted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from elattn_bench.figures.look import Look
from elattn_bench.figures.style import DASHES, MARKERS, Line, Style, assign_styles
from elattn_bench.knobs import sort_key
from elattn_bench.quality.rows import QualityRow
from elattn_bench.quality.scores import family_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist

ATTENTION_OF_NETWORK: Mapping[str, str] = {"hadamard-net": "hadamard"}  # share a colour: they are one idea


def styles_of(rows: Iterable[QualityRow], look: Look) -> dict[str, Style]:
    """A style for every model of the run, the same in all its figures; markers differ as far as there are any."""
    models = {row.model: row for row in rows}
    attentions = {model: row for model, row in models.items() if attention_of(row) and not is_floor(row)}
    styles = assign_styles(map(_line, attentions.values()), look)
    others = sorted(models.keys() - attentions.keys(), key=lambda model: (is_floor(models[model]), model))
    for index, model in enumerate(others):
        color = look.muted if is_floor(models[model]) else look.edge
        styles[model] = Style(
            color, MARKERS[(len(attentions) + index) % len(MARKERS)], DASHES[index % len(DASHES)]
        )
    return styles


def is_floor(row: QualityRow) -> bool:
    """Whether its model only puts the others into proportion."""
    return family_of(row) == "floor"


def attention_of(row: QualityRow) -> str:
    """The attention whose colour the model has; empty for networks without one."""
    return row.attention or ATTENTION_OF_NETWORK.get(row.network, "")


def _line(row: QualityRow) -> Line:
    attention = attention_of(row)
    variant = (row.backend, row.order or 0, sort_key(row.hyperparameters))
    return Line(attention != "softmax", attention, variant, row.model)


def mark(style: Style, look: Look, *, hollow: bool = False) -> dict[str, Any]:
    """A model's mark, without a line."""
    return {
        "color": style.color, "marker": style.marker, "markersize": 5 * look.scale * look.stroke,
        "linestyle": "none", "markerfacecolor": look.ground if hollow else style.color,
        "markeredgewidth": 0.9 * look.scale, "markeredgecolor": style.color,
    }  # fmt: skip


def handle(label: str, style: Style, look: Look, *, hollow: bool = False, line: bool = False) -> Artist:
    """A model's entry in a legend."""
    from matplotlib.lines import Line2D

    how = mark(style, look, hollow=hollow) | ({"linestyle": style.dashes} if line else {})
    return Line2D([], [], label=label, **how)
