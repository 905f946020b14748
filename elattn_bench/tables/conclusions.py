"""A report of a run with its conclusions in front: sentences of the leading facet, tables of growth and crossovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from elattn_bench.analysis import leading_facet
from elattn_bench.tables.render import Report
from elattn_bench.tables.scaling import (
    CROSSOVER_NOTE,
    SCALING_NOTE,
    dependence_tables,
    scaling_records,
    scaling_tables,
)
from elattn_bench.verdicts.dependence import Dependence, dependences
from elattn_bench.verdicts.sentences import Verdict

MOST_FACETS = 6  # with tables of growth of their own; of more, sentences and the table of crossovers remain


def with_conclusions(report: Report, verdicts: Sequence[Verdict], metrics: Sequence[str]) -> Report:
    """The report with what the data support of growth and crossovers; itself where nothing could be fitted.

    Args:
        metrics: of the tables: out of ``latency`` and ``memory``.
    """
    if not any(verdict.is_fitted for verdict in verdicts):
        return report
    moved = dependences([each for verdict in verdicts for each in verdict.crossover.values()])
    facets = {verdict.facet for verdict in verdicts}
    growth = scaling_tables(verdicts, metrics) if len(facets) <= MOST_FACETS else []
    tables = [*growth, *dependence_tables(verdicts)]
    return replace(
        report,
        lead=[*report.lead, *sentences(verdicts, moved)],
        tables=[*tables, *report.tables],
        notes=[*_notes(growth != [], tables != []), *report.notes],
        about={**report.about, "verdicts": scaling_records(verdicts), "dependences": _records(moved)},
    )


def sentences(verdicts: Sequence[Verdict], moved: Sequence[Dependence]) -> list[str]:
    """The conclusions of the facet that most people ask about, begun by its name; then what crossovers depend on."""
    facet = leading_facet({verdict.facet for verdict in verdicts if verdict.is_fitted})
    said = [verdict.sentence for verdict in verdicts if verdict.facet == facet and verdict.is_fitted]
    return [f"{facet.text}:", *said, *(each.sentence for each in moved)]


def _notes(growth: bool, crossovers: bool) -> list[str]:
    return [*([SCALING_NOTE] if growth else []), *([CROSSOVER_NOTE] if crossovers else [])]


def _records(moved: Sequence[Dependence]) -> list[dict[str, object]]:
    return [
        {
            **each.facet._asdict(), each.axis: None, "impl": each.label, "reference": each.reference, "axis": each.axis,
            "places": [list(place) for place in each.places], "exponent": each.exponent.value,
            "exponent_low": each.exponent.low, "exponent_high": each.exponent.high,
        }
        for each in moved
    ]  # fmt: skip
