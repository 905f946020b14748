"""How figures look: colours, markers, ticks, and files that are the same bytes every time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attention_impls import registry
from elattn_bench.errors import RunDirError
from elattn_bench.knobs import SortKey, sort_key, text_of
from elattn_bench.results import Row
from elattn_bench.units import format_bytes, format_length

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
WIDTH = 8.0  # inches: 800 pixels at the 100 dpi of a README, text at its true size
DPI = 200
GREY = "#767676"  # the lightest grey that WCAG allows for text on white (contrast 4.5)

# Okabe & Ito (2008), "Color Universal Design": told apart with any colour vision. Black is for softmax,
# yellow is left out: it vanishes on white.
BLACK = "#000000"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C2A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d", "8", "H")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)), (0, (8, 2, 2, 2)))
LIGHTEST = 0.35  # share of white in the lightest variant of a colour
INK = 0.3  # share of black in letters of a line's colour
DARKEST = 0.35  # share of black in the darkest

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.hashsalt": "elattn-bench",
    "savefig.dpi": DPI,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save inside of it: our style on matplotlib's defaults, whatever the user has configured."""
    import matplotlib.style

    with matplotlib.style.context(["default", _RC]):
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


def assign_styles(lines: Iterable[Line]) -> dict[str, Style]:
    """A style for each label. It follows from the sorted names, so one run gives one assignment.

    An attention is a colour; its variants go from light to dark and have their own dashes; every line
    has its own marker, as far as there are markers.
    """
    ordered = sorted(set(lines))
    families: defaultdict[str, list[Line]] = defaultdict(list)
    for line in ordered:
        families[line.attention].append(line)
    colors = _family_colors(list(families))
    styles = {}
    for index, line in enumerate(ordered):
        family = families[line.attention]
        position = family.index(line)
        color = shade(colors[line.attention], position, len(family))
        dashes = DASHES[(len(family) - 1 - position) % len(DASHES)]
        styles[line.label] = Style(color, MARKERS[index % len(MARKERS)], dashes)
    return styles


def _family_colors(attentions: Sequence[str]) -> dict[str, str]:
    others = [attention for attention in attentions if attention != "softmax"]
    if len(others) <= len(COLORS):
        return {"softmax": BLACK, **dict(zip(others, COLORS, strict=False))}
    # Too many for one panel: figures then show a family at a time, and within one colours differ.
    colors = {"softmax": BLACK}
    families: defaultdict[str, int] = defaultdict(int)
    for name in others:
        family = registry.family(name)
        colors[name] = COLORS[families[family] % len(COLORS)]
        families[family] += 1
    return colors


def ink(color: str) -> str:
    """The color, dark enough for letters on white."""
    return _mix(color, 0.0, INK)


def shade(color: str, position: int, count: int) -> str:
    """The color's variant number ``position`` of ``count``: from lightened to darkened; one alone is pure."""
    darkest = 0.0 if count < 3 or color == BLACK else DARKEST
    share = 0.0 if count == 1 else LIGHTEST - (LIGHTEST + darkest) * position / (count - 1)
    return _mix(color, 1.0, share) if share > 0 else _mix(color, 0.0, -share)


def _mix(color: str, towards: float, share: float) -> str:
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = (channel * (1 - share) + towards * share for channel in to_rgb(color))
    return to_hex((red, green, blue))


def length_ticks(values: Iterable[int], most: int) -> list[int]:
    """Powers of two within the values, thinned to ``most`` from the largest down; else the values."""
    present = sorted(set(values))
    powers = [2**n for n in range(present[-1].bit_length()) if present[0] <= 2**n <= present[-1]]
    return thin(powers if len(powers) > 1 else present, most)


def thin(values: Sequence[int], most: int) -> list[int]:
    """Every nth of the values, at most so many, the last among them."""
    step = math.ceil(len(values) / max(most, 1))
    return list(values[::-1][::step][::-1])


def evenly(values: Iterable[int], most: int) -> list[int]:
    """At most so many of the values, ascending, evenly chosen, with the smallest and the largest."""
    ordered = sorted(set(values))
    if len(ordered) <= most:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(most)]


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


# No dates and no versions: the same run gives the same bytes.
_METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, path: Path) -> None:
    """Write the figure; the suffix is the format.

    Raises:
        RunDirError: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with house_style():
            figure.savefig(path, metadata=_METADATA[path.suffix[1:]])
    except OSError as error:
        raise RunDirError(
            f"{path}: cannot be written ({error.strerror or error}); choose another directory with -o"
        ) from None
