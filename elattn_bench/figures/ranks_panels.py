"""What stands in the panels of the figure of ranks: curves over ranks at one length, and received bytes over lengths.

Pure, nothing is drawn.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from elattn_bench.analysis import Facet, Ratio, by_label, leading_of, one_order, short_status
from elattn_bench.results import Row
from elattn_bench.units import counted, format_length
from elattn_bench.verdicts import ranks as verdicts
from elattn_bench.verdicts.ranks import Strong, Weak

MOST_LINES = 8  # more are too many to follow: then only the default order of each attention is shown


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a panel.

    x: ranks or lengths, ascending. y, low, high: the values and their intervals.
    expected: what they should be: the ideal over ranks, the formula over lengths; empty where nobody knows.
    """

    label: str
    x: Sequence[int]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    expected: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its title, its kind and its curves.

    kind: ``latency``, ``efficiency``, ``received``, ``time`` (over that of the fewest ranks) or ``memory``.
    """

    head: str
    kind: str
    curves: Sequence[Curve]

    @property
    def over_lengths(self) -> bool:
        """Whether lengths, not ranks, stand on its horizontal axis."""
        return self.kind == "received"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a figure shows of one facet.

    length: the longest at which most lines were measured over several ranks.
    rows: of that length, ranks ascending. others: of all lengths on the most ranks.
    grown: of the length per rank that was measured on most numbers of ranks; may be empty.
    """

    facet: Facet
    length: int
    scaled: Sequence[Strong]
    rows: Sequence[Row]
    others: Sequence[Row]
    grown: Sequence[Weak]

    @property
    def labels(self) -> list[str]:
        """The lines, in their order."""
        return list(by_label([*self.rows, *self.others]))

    @property
    def most(self) -> int:
        """The most ranks."""
        return max(row.ranks or 1 for row in self.others)


def leading(rows: Sequence[Row]) -> list[Shown]:
    """For each setting, whatever the ranks, the facet with most impls, where lines were measured over several ranks."""
    facets: defaultdict[Facet, list[Row]] = defaultdict(list)
    for (facet, _), line in verdicts.by_facet_and_label(rows).items():
        facets[facet] += line
    return [
        shown
        for facet, of_facet in leading_of(facets)
        if (shown := _shown(facet, one_order(of_facet) if _is_crowded(of_facet) else of_facet))
    ]


def _is_crowded(rows: Sequence[Row]) -> bool:
    return len({row.label for row in rows}) > MOST_LINES


def _shown(facet: Facet, rows: Sequence[Row]) -> Shown | None:
    labels: defaultdict[int, set[str]] = defaultdict(set)
    scaled = verdicts.strong(rows)
    for each in scaled:
        labels[each.row.seq_len].add(each.row.label)
    if not labels:
        return None
    length = max(labels, key=lambda each: (len(labels[each]), each))
    most = max(row.ranks or 1 for row in rows if row.ok)
    return Shown(
        facet,
        length,
        [each for each in scaled if each.row.seq_len == length],
        sorted((row for row in rows if row.seq_len == length), key=lambda row: row.ranks or 1),
        sorted((row for row in rows if row.ranks == most), key=lambda row: row.seq_len),
        _grown(rows),
    )


def _grown(rows: Sequence[Row]) -> list[Weak]:
    """Those of one length per rank: that of most numbers of ranks; of equals that of most lines, then the longest."""
    found: defaultdict[int, list[Weak]] = defaultdict(list)
    for each in verdicts.weak(rows):
        found[each.shard].append(each)

    def interest(shard: int) -> tuple[int, int, int]:
        ranks, labels = ({getattr(each.row, name) for each in found[shard]} for name in ("ranks", "label"))
        return len(ranks), len(labels), shard

    return found[max(found, key=interest)] if found else []


def panels_of(shown: Shown) -> list[Panel]:
    """The panels, most asked for first; those without a value are left out."""
    at, grown = f"L = {format_length(shown.length)}", [each for each in shown.grown if each.efficiency]
    each = f"L = {format_length(shown.grown[0].shard)} each" if shown.grown else ""
    panels = [
        Panel(
            f"latency, {at}", "latency", _over_ranks(shown.rows, lambda row: row.latency_ms_p50, _interval)
        ),
        Panel(f"efficiency, {at}", "efficiency", _efficiencies(shown.scaled)),
        Panel(f"received, {counted(shown.most, 'rank')}", "received", _received(shown.others)),
        Panel(f"time, {each}", "time", _from_one(shown.grown, lambda found: found.time, ideal=True)),
        Panel(f"efficiency, {each}", "efficiency", _from_one(grown, lambda found: found.efficiency)),
        Panel(f"memory of a rank, {at}", "memory", _over_ranks(shown.rows, _memory, _no_interval)),
    ]
    return [panel for panel in panels if panel.curves]


def _memory(row: Row) -> float | None:
    return row.peak_memory_bytes


def _interval(row: Row, value: float) -> tuple[float, float]:
    return row.latency_ms_ci_low or value, row.latency_ms_ci_high or value


def _no_interval(row: Row, value: float) -> tuple[float, float]:
    return value, value


def _over_ranks(
    rows: Sequence[Row],
    value: Callable[[Row], float | None],
    interval: Callable[[Row, float], tuple[float, float]],
) -> list[Curve]:
    """A curve per line with at least two numbers of ranks; the ideal has its first value over the ratio of ranks."""
    curves = []
    for label, line in by_label(rows).items():
        found = [(row, number) for row in line if row.ok and (number := value(row))]
        ends = [interval(row, number) for row, number in found]
        ranks = [row.ranks or 1 for row, _ in found]
        if len(set(ranks)) > 1:
            ideal = [found[0][1] * ranks[0] / each for each in ranks]
            low, high = zip(*ends, strict=True)
            curves.append(Curve(label, ranks, [number for _, number in found], low, high, ideal))
    return curves


def _efficiencies(scaled: Sequence[Strong]) -> list[Curve]:
    lines: defaultdict[str, list[Strong]] = defaultdict(list)
    for each in scaled:
        lines[each.row.label].append(each)
    return [
        Curve(
            label,
            [each.row.ranks or 1 for each in line],
            [each.efficiency.value for each in line],
            [each.efficiency.low for each in line],
            [each.efficiency.high for each in line],
        )
        for label, line in lines.items()
    ]


def _from_one(
    grown: Sequence[Weak], value: Callable[[Weak], Ratio | None], *, ideal: bool = False
) -> list[Curve]:
    """A curve per line, 1 at its fewest ranks; the ideal grows as the work per rank does."""
    lines: defaultdict[str, list[Weak]] = defaultdict(list)
    for each in grown:
        lines[each.row.label].append(each)
    curves = []
    for label, line in lines.items():
        ratios = [Ratio(1.0, 1.0, 1.0), *filter(None, map(value, line))]
        works = [each.work for each in line if each.work]
        curves.append(
            Curve(
                label,
                [line[0].first.ranks or 1, *(each.row.ranks or 1 for each in line)],
                [ratio.value for ratio in ratios],
                [ratio.low for ratio in ratios],
                [ratio.high for ratio in ratios],
                [1.0, *works] if ideal and len(works) == len(line) else (),
            )
        )
    return curves


def _received(rows: Sequence[Row]) -> list[Curve]:
    curves = []
    for label, line in by_label(rows).items():
        found = [row for row in line if row.ok and row.received_bytes]
        if found:
            counts = [float(row.received_bytes or 0) for row in found]
            formula = [float(row.received_bytes_formula or 0) for row in found]
            lengths = [row.seq_len for row in found]
            curves.append(Curve(label, lengths, counts, counts, counts, formula if all(formula) else ()))
    return curves


def remarks_of(shown: Shown, panels: Sequence[Panel]) -> list[str]:
    """How to read the figure, and what is missing from it."""
    kinds = {panel.kind for panel in panels}
    known = any(curve.expected for panel in panels if panel.kind == "received" for curve in panel.curves)
    return [
        "Marks: medians with 95 % intervals; dotted: the ideal. Efficiency: speed-up over the fewest ranks, over the "
        "ratio of the ranks.",
        "With as long a shard each: time over that of the fewest ranks, and work per rank and second over theirs."
        if "time" in kinds
        else "",
        f"Received: in a call, counted{'; lines: by formula' if known else ''}."
        if "received" in kinds
        else "",
        *(_alike(panel) for panel in panels if panel.kind in ("received", "memory")),
        _missing(shown),
        _fewest(shown),
    ]


def _alike(panel: Panel) -> str:
    """Which lines of the panel cover each other, alike to two digits: ``Alike in memory: ...``."""
    groups: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for curve in panel.curves:
        groups[tuple(f"{x} {y:.1e}" for x, y in zip(curve.x, curve.y, strict=True))].append(curve.label)
    told = [", ".join(labels) for labels in groups.values() if len(labels) > 1]
    name = {"received": "bytes received", "memory": "memory"}[panel.kind]
    return f"Alike in {name}: {'; '.join(told)}." if told else ""


def _missing(shown: Shown) -> str:
    """``Not measured at L = 1024k: softmax/sdpa on 1 rank (oom).``"""
    lost: defaultdict[str, list[str]] = defaultdict(list)
    for row in shown.rows:
        if not row.ok:
            lost[row.label].append(f"on {counted(row.ranks or 1, 'rank')} ({short_status(row.status)})")
    told = [f"{label} {', '.join(places)}" for label, places in lost.items()]
    return f"Not measured at L = {format_length(shown.length)}: {'; '.join(told)}." if told else ""


def _fewest(shown: Shown) -> str:
    """Which lines start from more than one rank."""
    starts: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for each in shown.scaled:
        if each.first.ranks not in (None, 1):
            starts[each.first.ranks or 1][each.row.label] = None
    told = [f"{', '.join(labels)} from {ranks} ranks on" for ranks, labels in starts.items()]
    return f"Efficiency of {'; '.join(told)}." if told else ""
