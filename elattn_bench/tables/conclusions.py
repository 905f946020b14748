"""A report of a run with its conclusions in front: sentences of the leading facet, tables of growth and crossovers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from elattn_bench.analysis import leading_facet
from elattn_bench.tables.listings import interval_record
from elattn_bench.tables.render import Report
from elattn_bench.tables.scaling import (
    CROSSOVER_NOTE,
    SCALING_NOTE,
    dependence_tables,
    growth_tables,
    scaling_records,
    scaling_tables,
)
from elattn_bench.verdicts.dependence import Dependence, dependences
from elattn_bench.verdicts.sentences import Verdict

EACH = 3  # facets that get a table of growth of their own; of more, one table has the exponents of all


def with_conclusions(report: Report, verdicts: Sequence[Verdict], metrics: Sequence[str]) -> Report:
    """The report with what the data support of growth and crossovers in front.

    Args:
        metrics: of the tables: out of ``latency`` and ``memory``.
    """
    moved = dependences([each for verdict in verdicts for each in verdict.crossover.values()])
    if len({verdict.facet for verdict in verdicts}) <= EACH:
        growth = scaling_tables(verdicts, metrics)
    else:
        growth = [table for metric in metrics for table in growth_tables(verdicts, metric)]
    crossings = dependence_tables(verdicts)
    return replace(
        report,
        lead=[*report.lead, *sentences(verdicts, moved)],
        tables=[*growth, *crossings, *report.tables],
        notes=[*([SCALING_NOTE] if growth else []), *([CROSSOVER_NOTE] if crossings else []), *report.notes],
        about={**report.about, "verdicts": scaling_records(verdicts), "dependences": _records(moved)},
    )


def sentences(verdicts: Sequence[Verdict], moved: Sequence[Dependence]) -> list[str]:
    """The conclusions of the facet that most people ask about, begun by its name; then what crossovers depend on."""
    fitted = {verdict.facet for verdict in verdicts if verdict.is_fitted}
    if not fitted:
        return []
    facet = leading_facet(fitted)
    said = [verdict.sentence for verdict in verdicts if verdict.facet == facet and verdict.is_fitted]
    return [f"{facet.text}:", *said, *(each.sentence for each in moved)]


def _records(moved: Sequence[Dependence]) -> list[dict[str, object]]:
    return [
        {
            **each.facet._asdict(), each.axis: None, "impl": each.label, "reference": each.reference, "axis": each.axis,
            "places": [list(place) for place in each.places], **interval_record("exponent", each.exponent),
        }
        for each in moved
    ]  # fmt: skip
