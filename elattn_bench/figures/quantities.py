"""What stands on the axes of a panel, and the lines in it: pure, nothing is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from elattn_bench.analysis import short_status
from elattn_bench.figures.style import Line, latency_tick, latency_ticks, memory_tick, memory_ticks
from elattn_bench.results import Row

FAILURE_TEXT = {"oom": "oom", "timeout": "timeout"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """What stands on the vertical axis."""

    title: str
    label: str
    value: Callable[[Row], float | None]
    band: Callable[[Row], tuple[float, float] | None]
    ticks: Callable[[float, float], Sequence[float]]
    tick_label: Callable[[float], str]
    caption: str


def _quartiles(row: Row) -> tuple[float, float] | None:
    low, high = row.latency_ms_p25, row.latency_ms_p75
    return (low, high) if low is not None and high is not None else None


LATENCY = Quantity(
    "Latency", "latency of one call", lambda row: row.latency_ms_p50, _quartiles, latency_ticks, latency_tick,
    "Lines: median; bands: quartiles.",
)  # fmt: skip
MEMORY = Quantity(
    "Peak memory", "peak memory above the inputs", lambda row: row.peak_memory_bytes or None,
    lambda row: None, memory_ticks, memory_tick, "",
)  # fmt: skip
STEP = replace(LATENCY, title="Latency per token", label="latency of one step")
STATE = replace(
    MEMORY,
    title="State",
    label="state: sums, or a KV cache",
    value=lambda row: row.state_bytes or None,
)


@dataclass(frozen=True, slots=True)
class Across:
    """What stands on the horizontal axis, and what a slope of 1 and of 2 is called there."""

    axis: str
    name: str
    label: str
    line: Callable[[Row], Line]
    guides: tuple[tuple[int, str], ...]

    def of(self, row: Row) -> int:
        """The row's place on the axis."""
        return int(getattr(row, self.axis))


LENGTHS = Across("seq_len", "sequence length", "sequence length L (tokens)", Line.of, ((1, "L"), (2, "L²")))
CONTEXTS = replace(LENGTHS, name="context length", label="context length L (tokens)", guides=((1, "L"),))
DIMS = Across("dim", "dim", "dim D (channels, all heads)", Line.of, ((1, "D"), (2, "D²")))
ORDERS = Across("order", "Taylor order", "Taylor order t", Line.at_length, ((1, "t"), (2, "t²")))


def quantity_in(mode: str, quantity: Quantity) -> Quantity:
    """What a figure of that mode shows: in decoding the time of a step, and the memory that outlives it."""
    return {LATENCY: STEP, MEMORY: STATE}.get(quantity, quantity) if mode == "decode" else quantity


def across_in(mode: str, across: Across) -> Across:
    """What a figure of that mode calls the axis: in decoding seq_len is the context's length."""
    return CONTEXTS if mode == "decode" and across is LENGTHS else across


@dataclass(frozen=True, slots=True)
class Series:
    """The rows of one line in one panel, from left to right."""

    line: Line
    rows: Sequence[Row]


def series_of(rows: Iterable[Row], across: Across) -> list[Series]:
    """The lines of a panel, in the order of their names."""
    groups: defaultdict[Line, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=across.of):
        groups[across.line(row)].append(row)
    return [Series(line, groups[line]) for line in sorted(groups)]


def failures(series: Series) -> list[Row]:
    """The rows out of memory or out of time."""
    return [row for row in series.rows if short_status(row.status) in FAILURE_TEXT]
