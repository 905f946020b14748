"""Tables of growth with length, and of where lines overtake the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from elattn_bench.analysis import Facet, Setting
from elattn_bench.tables.listings import NO_NUMBER, interval_record
from elattn_bench.tables.overview import MOST_FACETS
from elattn_bench.tables.render import Column, Table
from elattn_bench.units import format_length
from elattn_bench.verdicts.crossover import Crossover, format_tokens
from elattn_bench.verdicts.scaling import Scaling, format_exponent
from elattn_bench.verdicts.sentences import Verdict

SCALING_NOTE = (
    "Exponent: p of a + c L^p, fitted to the medians, with its 95 % interval; slope: of the last three lengths alone. "
    "A verdict is the only law that the interval does not reject; ! where theory says otherwise, ? where it is unclear."
)
CROSSOVER_NOTE = (
    "Overtakes: the length, with its 95 % interval, from which on (or until which) an impl needs less than the "
    "reference; < and >: the interval leaves the measured range. By formula: where the cost formulas and this device's "
    "ceilings expect it, launching left out."
)


def scaling_tables(verdicts: Sequence[Verdict], metrics: Sequence[str]) -> list[Table]:
    """Per facet with a fitted line and metric, how each line grows and where it overtakes."""
    facets: defaultdict[Facet, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        facets[verdict.facet].append(verdict)
    return [
        _scaling_table(facet, metric, lines)
        for facet, lines in facets.items()
        for metric in metrics
        if any(metric in each.scaling and each.scaling[metric].slope for each in lines)
    ]


def _scaling_table(facet: Facet, metric: str, lines: Sequence[Verdict]) -> Table:
    known = [each for each in lines if metric in each.scaling]
    reference = next((each.crossover[metric].reference for each in known if metric in each.crossover), None)
    columns = [Column("impl"), Column("exponent", "right"), Column("verdict")]
    rows = [_growth_cells(each.scaling[metric]) for each in known]
    if reference:
        columns.append(Column("overtakes", "right"))
        rows = [
            [*cells, _crossing_cell(each.crossover.get(metric))]
            for cells, each in zip(rows, known, strict=True)
        ]
    if reference and metric == "latency":
        columns.append(Column("by formula", "right"))
        rows = [[*cells, _predicted_cell(each)] for cells, each in zip(rows, known, strict=True)]
    columns += [Column("slope", "right"), Column("lengths", "right")]
    rows = [[*cells, *_range_cells(each.scaling[metric])] for cells, each in zip(rows, known, strict=True)]
    quantity = known[0].scaling[metric].quantity.capitalize()
    overtaking = f", and where it overtakes {reference}" if reference else ""
    return Table(f"{quantity} against length{overtaking}: {facet.text}", columns, rows)


def _growth_cells(scaling: Scaling) -> list[str]:
    if scaling.exponent is None:
        return [scaling.label, NO_NUMBER, "too few lengths"]
    return [
        scaling.label,
        format_exponent(scaling.exponent),
        scaling.verdict + (" !" if scaling.disagrees else ""),
    ]


def _range_cells(scaling: Scaling) -> list[str]:
    """The local slope, and the lengths measured."""
    ends = dict.fromkeys(format_length(end) for end in (scaling.lengths[0], scaling.lengths[-1]))
    return [f"{scaling.slope.value:.2f}" if scaling.slope else NO_NUMBER, "-".join(ends)]


def _crossing_cell(crossing: Crossover | None) -> str:
    if crossing is None:
        return "reference"
    if crossing.length:
        return f"{'until ' * (crossing.where == 'until')}{crossing.span}"
    return NO_NUMBER if crossing.where == "not comparable" else crossing.where


def _predicted_cell(verdict: Verdict) -> str:
    crossing = verdict.crossover.get("latency")
    return format_tokens(crossing.predicted) if crossing and crossing.predicted else NO_NUMBER


def growth_tables(verdicts: Sequence[Verdict], metric: str) -> list[Table]:
    """Per setting with several sizes, the exponent of each line at each of them."""
    settings: defaultdict[Setting, dict[tuple[str, Facet], str]] = defaultdict(dict)
    for verdict in verdicts:
        growth = verdict.scaling.get(metric)
        if growth and growth.exponent:
            mark = "!" if growth.disagrees else "?" if growth.verdict == "unclear" else ""
            cell = f"{mark}{format_exponent(growth.exponent)}"
            settings[verdict.facet.setting][verdict.label, verdict.facet] = cell
    title = f"Exponent of {metric} over length"
    return [_sizes_table(title, setting, cells) for setting, cells in settings.items() if _is_readable(cells)]


def dependence_tables(verdicts: Sequence[Verdict]) -> list[Table]:
    """Per setting with several sizes, where each line overtakes at each: how it depends on batch, heads and dim."""
    settings: defaultdict[Setting, dict[tuple[str, Facet], Crossover]] = defaultdict(dict)
    for verdict in verdicts:
        if crossing := verdict.crossover.get("latency"):
            settings[verdict.facet.setting][verdict.label, verdict.facet] = crossing
    tables = []
    for setting, crossings in settings.items():
        if _is_readable(crossings):
            reference = next(iter(crossings.values())).reference
            cells = {place: _crossing_cell(crossing) for place, crossing in crossings.items()}
            tables.append(_sizes_table(f"Where each overtakes {reference}", setting, cells))
    return tables


def _is_readable(cells: Mapping[tuple[str, Facet], object]) -> bool:
    return 1 < len({facet for _, facet in cells}) <= MOST_FACETS


def _sizes_table(title: str, setting: Setting, cells: Mapping[tuple[str, Facet], str]) -> Table:
    """A row per line, a column per facet of the setting."""
    facets = list(dict.fromkeys(facet for _, facet in cells))
    labels = _woven([[label for label, place in cells if place == facet] for facet in facets])
    columns = [Column("impl"), *(Column(sizes_of(facet, facets), "right") for facet in facets)]
    rows = [[label, *(cells.get((label, facet), NO_NUMBER) for facet in facets)] for label in labels]
    return Table(f"{title}: {setting.text}", columns, rows)


def sizes_of(facet: Facet, facets: Sequence[Facet]) -> str:
    """The sizes in which the facets differ, short: ``B4 D512``."""
    letters = {"batch": "B", "heads": "H", "dim": "D"}
    varying = [axis for axis in letters if len({getattr(other, axis) for other in facets}) > 1]
    return " ".join(f"{letters[axis]}{getattr(facet, axis)}" for axis in varying)


def scaling_records(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One record per facet, line and metric, with full precision."""
    return [
        {
            **verdict.facet._asdict(),
            "impl": verdict.label,
            "metric": metric,
            "shortest": growth.lengths[0],
            "longest": growth.lengths[-1],
            **interval_record("slope", growth.slope),
            **interval_record("exponent", growth.exponent),
            "constant": growth.constant,
            "factor": growth.factor,
            "verdict": growth.verdict,
            "theory": growth.theory,
            "disagrees": growth.disagrees,
            "reason": growth.reason or None,
            **_crossing_record(verdict.crossover.get(metric)),
        }
        for verdict in verdicts
        for metric, growth in verdict.scaling.items()
    ]


def _crossing_record(crossing: Crossover | None) -> dict[str, Any]:
    return {
        "reference": crossing.reference if crossing else None,
        "overtakes": crossing.where if crossing else None,
        **interval_record("crossover", crossing.length if crossing else None),
        "crossover_open_low": crossing.open_low if crossing else None,
        "crossover_open_high": crossing.open_high if crossing else None,
        "crossover_predicted": crossing.predicted if crossing else None,
        "crossover_reason": crossing.reason or None if crossing else None,
    }


def _woven(orders: Sequence[Sequence[str]]) -> list[str]:
    """All names, in an order that agrees with each of the given ones: the longest first, others put in their places."""
    longest: Sequence[str] = max(orders, key=len)
    woven = list(longest)
    for order in orders:
        for before, name in zip([None, *order], order, strict=False):
            if name not in woven:
                woven.insert(woven.index(before) + 1 if before else 0, name)
    return woven
