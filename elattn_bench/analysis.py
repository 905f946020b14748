"""How the rows of a run are grouped, related and summed up. Pure: no torch, no disk, no screen."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from elattn_bench.cases import LEVELS, Labelled
from elattn_bench.knobs import SortKey, sort_key
from elattn_bench.results import Row
from elattn_bench.rundir import Run
from elattn_bench.units import counted

DEFAULT_ORDER = 6  # the order that the papers recommend, and our default


class Setting(NamedTuple):
    """What is run, whatever the sizes: a file of figures, a block of the summary."""

    level: str
    mode: str
    dtype: str
    causal: bool
    cache: str = "hot"
    ranks: int | None = None
    device_type: str = ""

    @classmethod
    def of(cls, row: Labelled) -> Setting:
        """The setting of the row, or the case."""
        return cls(*(getattr(row, name) for name in cls._fields))

    @property
    def mask(self) -> str:
        """``causal`` or ``full``, as in a case's id: which keys a query sees."""
        return "causal" if self.causal else "full"

    @property
    def text(self) -> str:
        """For titles: ``op, forward, float32, non-causal``; a cold cache is named, the usual hot one not."""
        return ", ".join(self.shown.values())

    @property
    def shown(self) -> dict[str, str]:
        """The words but for those that go without saying: a hot cache, a sequence in one piece, any device."""
        return {
            name: word for name, word in self.words.items() if getattr(self, name) not in USUAL.get(name, ())
        }

    @property
    def file_part(self) -> str:
        """For the names of files: ``op-forward-float32-full``, and what does not go without saying."""
        return "-".join([self.level, self.mode, self.dtype, self.mask, *self.unusual])

    @property
    def unusual(self) -> list[str]:
        """What does not go without saying, as words in a file's name: ``cold``, ``2-ranks``, ``on-h100``."""
        cold = ["cold"] if self.cache == "cold" else []
        ranks = [] if self.ranks is None else [counted(self.ranks, "rank").replace(" ", "-")]
        return [*cold, *ranks, *([f"on-{self.device_type.lower()}"] if self.device_type else [])]

    @property
    def words(self) -> dict[str, str]:
        """Every field as a word for people."""
        causal = "causal" if self.causal else "non-causal"
        ranks = "one piece" if self.ranks is None else counted(self.ranks, "rank")
        where = f"on {self.device_type}" if self.device_type else "any device"
        return {
            **self._asdict(),
            "causal": causal,
            "cache": f"{self.cache} cache",
            "ranks": ranks,
            "device_type": where,
        }

    @property
    def sort_key(self) -> tuple[object, ...]:
        """Sorts levels from the inside out, forward and hot before the rest."""
        level = LEVELS.index(self.level) if self.level in LEVELS else len(LEVELS)
        return (
            level,
            self.level,
            self.mode != "forward",
            self.mode,
            self.dtype,
            self.causal,
            self.cache != "hot",
            self.ranks or 0,
            self.device_type,
        )


USUAL: Mapping[str, tuple[object, ...]] = {"cache": ("hot",), "ranks": (None,), "device_type": ("",)}
"""What a title does not say."""


class Facet(NamedTuple):
    """Everything that is held fixed while the length varies; a panel of a figure, a table of ``compare``."""

    level: str
    mode: str
    dtype: str
    causal: bool
    batch: int
    heads: int
    dim: int
    cache: str = "hot"
    ranks: int | None = None
    device_type: str = ""

    @classmethod
    def of(cls, row: Row) -> Facet:
        """The facet that the row lies in."""
        return cls(*(getattr(row, name) for name in cls._fields))

    @property
    def text(self) -> str:
        """For titles: the setting, and ``batch 1, heads 8, dim 64``."""
        return f"{self.setting.text}, batch {self.batch}, heads {self.heads}, dim {self.dim}"

    @property
    def setting(self) -> Setting:
        """What is run, whatever the sizes."""
        return Setting(*(getattr(self, name) for name in Setting._fields))


def short_status(status: str) -> str:
    """What a table shows in place of a number: ``oom``, ``timeout``, ``error``, ``unsupported``."""
    return "oom" if status == "predicted_oom" else status


def select(rows: Iterable[Row], **fixed: Any) -> list[Row]:
    """The rows whose columns have the given values: ``select(rows, level="op", causal=False)``."""
    return [row for row in rows if all(getattr(row, column) == value for column, value in fixed.items())]


def by_facet(rows: Iterable[Row]) -> dict[Facet, list[Row]]:
    """The rows of each facet, facets in ascending order."""
    groups: defaultdict[Facet, list[Row]] = defaultdict(list)
    for row in rows:
        groups[Facet.of(row)].append(row)
    order = sorted(groups, key=lambda facet: (facet.setting.sort_key, facet.batch, facet.heads, facet.dim))
    return {facet: groups[facet] for facet in order}


def by_setting(rows: Iterable[Row]) -> dict[Setting, list[Row]]:
    """The rows of each (level, mode, dtype, causal), op and forward first."""
    groups: defaultdict[Setting, list[Row]] = defaultdict(list)
    for row in rows:
        groups[Setting.of(row)].append(row)
    return {setting: groups[setting] for setting in sorted(groups, key=lambda setting: setting.sort_key)}


def interest(facet: Facet) -> tuple[bool | int, ...]:
    """Sorts facets by what people ask about: op, forward, non-causal, float32; then large dims, small batches."""
    return (
        facet.level == "op", facet.mode == "forward", not facet.causal, facet.dtype == "float32",
        facet.dim, -facet.batch, -facet.heads, facet.cache == "hot", -(facet.ranks or 0),
    )  # fmt: skip


def leading_facet(facets: Iterable[Facet]) -> Facet:
    """The one that most people ask about."""
    return max(facets, key=interest)


def count_impls(rows: Sequence[Row]) -> int:
    """How many implementations there are among the rows."""
    return len({row.impl for row in rows})


def leading_facets(
    rows: Iterable[Row], count: Callable[[Sequence[Row]], int] = count_impls
) -> list[tuple[Facet, list[Row]]]:
    """For each setting the facet that holds most impls; of equals the one that most people ask about.

    A figure for every facet would be dozens; what changes with dims and batches other kinds show.

    Args:
        count: of what a facet should hold most.
    """
    return leading_of(by_facet(rows), count)


def leading_of(
    facets: Mapping[Facet, list[Row]], count: Callable[[Sequence[Row]], int] = count_impls
) -> list[tuple[Facet, list[Row]]]:
    """The same of rows that are grouped already, for example whatever their ranks."""
    settings: defaultdict[Setting, list[tuple[Facet, list[Row]]]] = defaultdict(list)
    for facet, found in facets.items():
        settings[facet.setting].append((facet, found))
    return [max(each, key=lambda pair: (count(pair[1]), interest(pair[0]))) for each in settings.values()]


def one_order(rows: Sequence[Row]) -> list[Row]:
    """Of every attention that has orders only the one nearest to the default among those measured."""
    orders: defaultdict[str, set[int]] = defaultdict(set)
    for row in rows:
        if row.ok and row.order is not None:
            orders[row.attention].add(row.order)
    nearest = {
        attention: min(found, key=lambda order: (abs(order - DEFAULT_ORDER), order))
        for attention, found in orders.items()
    }
    return [row for row in rows if row.order in (None, nearest.get(row.attention, row.order))]


def by_label(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each line (impl, order and knobs), in the order of ``label_key``, lengths ascending."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (*label_key(row), row.seq_len)):
        groups[row.label].append(row)
    return dict(groups)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """The rows as people read them: by facet, then line, then length."""
    return [row for facet in by_facet(rows).values() for line in by_label(facet).values() for row in line]


def label_key(row: Row) -> tuple[bool, str, str, int, SortKey]:
    """Sorts lines for people: softmax first, then by name, backend, order and knobs as numbers."""
    knobs = sort_key(row.hyperparameters)
    return (row.attention != "softmax", row.attention, row.backend, row.order or 0, knobs)


def evenly(values: Iterable[int], most: int) -> list[int]:
    """At most so many of the values, ascending, evenly chosen, with the smallest and the largest."""
    ordered = sorted(set(values))
    if len(ordered) <= most:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (most - 1))] for i in range(most)]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with the interval that follows from the intervals of its two sides."""

    value: float
    low: float
    high: float

    @property
    def inverse(self) -> Ratio:
        """The same ratio, read from the other side."""
        return Ratio(1 / self.value, 1 / self.high, 1 / self.low)


def latency_ratio(above: Row, below: Row) -> Ratio | None:
    """Median latency of ``above`` over that of ``below``; None where either is not measured.

    The interval runs from the most favourable pairing of the two 95 % intervals to the least
    favourable one, so it is wider than a 95 % interval of the ratio.
    """
    if not above.latency_ms_p50 or not below.latency_ms_p50:
        return None
    low_above, high_above = _interval(above)
    low_below, high_below = _interval(below)
    return Ratio(above.latency_ms_p50 / below.latency_ms_p50, low_above / high_below, high_above / low_below)


def _interval(row: Row) -> tuple[float, float]:
    median = row.latency_ms_p50 or math.nan
    return (row.latency_ms_ci_low or median, row.latency_ms_ci_high or median)


def quotient(above: float | None, below: float | None) -> float | None:
    """``above / below``; None where either is unknown or 0."""
    return above / below if above and below else None


@dataclass(frozen=True, slots=True)
class Share:
    """What the attention takes of a block's latency: one case at several levels.

    block: the row at level ``block``; op, layer: the same case at that level, None where not measured.
    op_share, layer_share: their median latency over the block's; None without a row.
    """

    block: Row
    op: Row | None
    layer: Row | None
    op_share: Ratio | None
    layer_share: Ratio | None


def shares(rows: Iterable[Row]) -> list[Share]:
    """One per measured block that was also measured as op or layer; sorted by facet, line and length."""
    measured = [row for row in rows if row.ok and row.latency_ms_p50]
    inner = {(row.level, _whatever_level(row)): row for row in measured if row.level != "block"}
    blocks = by_facet(select(measured, level="block")).values()
    found = [
        _share(block, *(inner.get((level, _whatever_level(block))) for level in ("op", "layer")))
        for facet_rows in blocks
        for line in by_label(facet_rows).values()
        for block in line
    ]
    return [share for share in found if share.op or share.layer]


def _share(block: Row, op: Row | None, layer: Row | None) -> Share:
    op_share, layer_share = (latency_ratio(row, block) if row else None for row in (op, layer))
    return Share(block, op, layer, op_share, layer_share)


def _whatever_level(row: Row) -> tuple[object, ...]:
    """All that fixes a row's case but for its level."""
    return (row.label, row.device, row.seq_len, *Facet.of(row)[1:])


@dataclass(frozen=True, slots=True)
class LineSummary:
    """What became of one line in one (level, mode, dtype, causal), at all of its sizes.

    ok, oom, timeout, other: how many cases ended so; predicted_oom counts as oom.
    longest: the longest case measured at the largest batch and dim that were; None if none was.
    growth: exponent of latency over the last two lengths measured there: 1 linear, 2 quadratic.
    ungated: whether no oracle says that its numbers are right.
    """

    setting: Setting
    label: str
    ok: int
    oom: int
    timeout: int
    other: int
    longest: Row | None
    growth: float | None
    ungated: bool = False


def summary(run: Run) -> list[LineSummary]:
    """One line per (level, mode, dtype, causal) and label."""
    return [
        _summarise(setting, label, line)
        for setting, rows in by_setting(run.rows).items()
        for label, line in by_label(rows).items()
    ]


def _summarise(setting: Setting, label: str, rows: Sequence[Row]) -> LineSummary:
    counts = Counter(short_status(row.status) for row in rows)
    ok, oom, timeout = counts["ok"], counts["oom"], counts["timeout"]
    line = _largest_line(rows)
    other = len(rows) - ok - oom - timeout
    ungated = any("ungated: " in (row.warnings or "") for row in rows)
    longest = line[-1] if line else None
    return LineSummary(setting, label, ok, oom, timeout, other, longest, growth(line), ungated)


def _largest_line(rows: Sequence[Row]) -> list[Row]:
    """The measured rows at the largest batch and dim, lengths ascending."""
    measured = [row for row in rows if row.ok]
    largest = max(((row.batch, row.dim, row.heads) for row in measured), default=None)
    line = [row for row in measured if (row.batch, row.dim, row.heads) == largest]
    return sorted(line, key=lambda row: row.seq_len)


def growth(line: Sequence[Row]) -> float | None:
    """Slope of log latency over log length between the last two rows: the exponent seen there."""
    if len(line) < 2:
        return None
    (x0, y0), (x1, y1) = ((row.seq_len, row.latency_ms_p50) for row in line[-2:])
    return math.log(y1 / y0) / math.log(x1 / x0) if y0 and y1 and x1 != x0 else None
