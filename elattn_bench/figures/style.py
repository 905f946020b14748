"""How figures look: colours, markers, dashes and ticks."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from attention_impls import registry
from elattn_bench.analysis import evenly as evenly
from elattn_bench.figures.look import README, Look
from elattn_bench.figures.palette import ink as ink
from elattn_bench.figures.palette import shade as shade
from elattn_bench.knobs import SortKey, sort_key, text_of
from elattn_bench.results import Row
from elattn_bench.units import format_bytes, format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Number = TypeVar("_Number", int, float)

FONT = "DejaVu Sans"  # comes with matplotlib: the same letters on every machine
GREY = README.muted
COLORS = README.colors
BLACK = README.ink
_TICK = {"size": 3.5, "width": 0.8, "pad": 3.5}  # points, at scale 1: matplotlib's own
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "H")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2, 2, 2)))


def _settings(look: Look) -> dict[str, Any]:
    """What the look means to matplotlib."""
    return {
        "font.family": FONT,
        "font.size": look.points(8),
        "axes.titlesize": look.points(8),
        "axes.labelsize": look.points(8),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": look.ground,
        "axes.edgecolor": look.edge,
        "axes.labelcolor": look.ink,
        "axes.linewidth": 0.7 * look.scale,
        "axes.grid": True,
        "axes.axisbelow": True,
        "figure.facecolor": look.ground,
        "grid.color": look.grid,
        "grid.linewidth": 0.6 * look.scale,
        "text.color": look.ink,
        "xtick.labelsize": look.points(7),
        "ytick.labelsize": look.points(7),
        "xtick.color": look.edge,
        "ytick.color": look.edge,
        **{f"{axis}tick.major.{part}": size * look.scale for axis in "xy" for part, size in _TICK.items()},
        "lines.linewidth": 1.4 * look.scale * look.stroke,
        "lines.markersize": 4 * look.scale * look.stroke,
        "legend.frameon": False,
        "legend.fontsize": look.points(7.5),
        "pdf.fonttype": 42,  # TrueType, embedded: IEEE and others refuse Type 3
        "svg.fonttype": "path",  # letters as outlines: the same on every machine, whatever fonts it has
        "svg.hashsalt": "elattn-bench",
        "savefig.dpi": look.dpi,
    }


@contextmanager
def house_style(look: Look = README) -> Iterator[None]:
    """Draw and save inside of it: our style on matplotlib's defaults, whatever the user has configured."""
    import matplotlib.style

    with matplotlib.style.context(["default", _settings(look)]):
        yield


@dataclass(frozen=True, slots=True)
class Style:
    """The look of one line: no two lines of a run have the same marker and dashes."""

    color: str
    marker: str
    dashes: Any


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """What a line in a figure shows: a variant (backend and order, or length; and knobs) of an attention."""

    is_softmax: bool
    attention: str
    variant: tuple[str, int, SortKey]
    label: str

    @classmethod
    def of(cls, row: Row) -> Line:
        """The line of the row when lengths vary along it."""
        variant = (row.backend, row.order or 0, sort_key(row.hyperparameters))
        return cls(row.attention != "softmax", row.attention, variant, row.label)

    @classmethod
    def at_length(cls, row: Row) -> Line:
        """The line of the row when orders vary along it."""
        length = f"L={format_length(row.seq_len)}"
        label = " ".join(filter(None, (row.impl, length, text_of(row.hyperparameters, " "))))
        variant = (row.backend, row.seq_len, sort_key(row.hyperparameters))
        return cls(row.attention != "softmax", row.attention, variant, label)


def assign_styles(lines: Iterable[Line], look: Look = README) -> dict[str, Style]:
    """A style for each label. It follows from the sorted names, so one run gives one assignment.

    An attention is a colour; its variants go from faint to strong and have their own dashes; every line
    has its own marker, as far as there are markers. In a look that is ``dashed``, attentions differ in
    dashes too.
    """
    ordered = sorted(set(lines))
    families: defaultdict[str, list[Line]] = defaultdict(list)
    for line in ordered:
        families[line.attention].append(line)
    colors = _family_colors(list(families), look)
    turns = {attention: turn if look.dashed else 0 for turn, attention in enumerate(families)}
    styles = {}
    for index, line in enumerate(ordered):
        family = families[line.attention]
        position = family.index(line)
        color = shade(colors[line.attention], position, len(family), look)
        dashes = DASHES[(turns[line.attention] + len(family) - 1 - position) % len(DASHES)]
        styles[line.label] = Style(color, MARKERS[index % len(MARKERS)], dashes)
    return styles


def _family_colors(attentions: Sequence[str], look: Look) -> dict[str, str]:
    others = [attention for attention in attentions if attention != "softmax"]
    if len(others) <= len(look.colors):
        return {"softmax": look.ink, **dict(zip(others, look.colors, strict=False))}
    # Too many for one panel: figures then show a family at a time, and within one colours differ.
    colors = {"softmax": look.ink}
    families: defaultdict[str, int] = defaultdict(int)
    for name in others:
        family = registry.family(name)
        colors[name] = look.colors[families[family] % len(look.colors)]
        families[family] += 1
    return colors


def length_ticks(values: Iterable[int], most: int) -> list[int]:
    """Powers of two within the values, thinned to ``most`` from the largest down; else the values."""
    present = sorted(set(values))
    powers = [2**n for n in range(present[-1].bit_length()) if present[0] <= 2**n <= present[-1]]
    return thin(powers if len(powers) > 1 else present, most)


def thin(values: Sequence[_Number], most: int) -> list[_Number]:
    """Every nth of the values, at most so many, the last among them."""
    step = math.ceil(len(values) / max(most, 1))
    return list(values[::-1][::step][::-1])


def latency_ticks(low: float, high: float) -> list[float]:
    """Decades between two latencies; every other one of many, 1-2-5 of few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1,), (1, 2, 5), range(1, 10), range(10, 100)):
        scale = 10 if multiples == range(10, 100) else 1
        ticks = [m / scale * 10.0**n for n in range(first, last + 1) for m in multiples]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) > 2:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / 7))]


def memory_ticks(low: float, high: float) -> list[float]:
    """Powers of two between two sizes, in steps of 1, 2, 4 or 5 bits, about six of them; eighths of few."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    if last <= first:
        eighths = [m / 8 * 2.0**n for n in range(first - 1, last + 2) for m in range(8, 16)]
        return [tick for tick in eighths if low <= tick <= high]
    step = next((step for step in (1, 2, 4) if (last - first) / step <= 6), 5)
    return [2.0**n for n in range(first, last + 1) if n % step == 0]


def latency_tick(milliseconds: float) -> str:
    """``10 µs``, ``1 ms``, ``100 s``: no more digits than the tick has."""
    value, unit = next(
        (milliseconds * scale, unit)
        for scale, unit in ((1e-3, "s"), (1, "ms"), (1e3, "µs"))
        if milliseconds * scale >= 0.9999 or unit == "µs"
    )
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"


def memory_tick(count: float) -> str:
    """``16 MiB``: no more digits than the tick has."""
    number, unit = format_bytes(count).split()
    return f"{float(number):g} {unit}"


def set_ticks(axes: Axes, axis: str, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """Exactly these ticks, and no minor ones."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(FixedLocator(list(ticks)))
    chosen.set_major_formatter(FixedFormatter(list(labels)))
    chosen.set_minor_locator(NullLocator())
