"""A report with what spreading over ranks gains and costs: a table per facet, sentences per line, records per case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from elattn_bench.analysis import Facet, Ratio, evenly, leading_facet, short_status
from elattn_bench.hosts import hosts_text
from elattn_bench.results import Row
from elattn_bench.tables.by_length import latency_cell
from elattn_bench.tables.listings import NO_NUMBER, format_estimate, format_ratio, interval_record
from elattn_bench.tables.overview import MOST_FACETS
from elattn_bench.tables.render import Column, Report, Table
from elattn_bench.units import counted, format_bytes, format_length, significant
from elattn_bench.verdicts import ranks as verdicts
from elattn_bench.verdicts.ranks import Received, Strong, Weak

STRONG_NOTE = (
    "Scaling over ranks: speed-up over the fewest ranks at the same length, efficiency that over the ratio of the "
    "ranks (strong scaling); memory of the rank that holds most; received: counted, by the rank that receives most in "
    "a call. Intervals pair both medians' 95 % intervals at their worst and best."
)
EXCHANGE_NOTE = (
    "Exchange: share of the latency beyond the same call with nothing exchanged (work_ms), waiting for other ranks "
    "included."
)
WEAK_NOTE = (
    "Weak scaling: time over that of the fewest ranks with the same length per rank. Efficiency: work per rank and "
    "second over theirs, by the cost formulas (Gustafson 1988); where the work per rank grows, as of quadratic "
    "attentions, time grows with it at full efficiency."
)


SOME_NOTE = "Of the lengths over ranks only some are shown; --format csv has all."
MOST_LENGTHS = 4  # of a table over ranks: each has a row per line and number of ranks
MOST_SHARDS = 2  # of a table of weak scaling


def with_ranks(report: Report, rows: Sequence[Row], metrics: Sequence[str]) -> Report:
    """The report with the scaling over ranks in front of its tables, and the hosts named where there are several.

    Args:
        rows: of the run.
        metrics: that were asked for.
    """
    report = with_hosts(report, rows)
    if not verdicts.spread(rows) or "latency" not in metrics:
        return report
    found, grown, counts = verdicts.strong(rows), verdicts.weak(rows), verdicts.received(rows)
    tables = ranks_tables(rows, found, memory="memory" in metrics)
    weak = weak_tables(grown) if tables else []
    return replace(
        report,
        lead=[*report.lead, *sentences(found, counts)],
        tables=[*tables, *weak, *report.tables],
        notes=[*_notes(rows, tables, weak), *_firsts(found), *_across(found), *_off(counts), *report.notes],
        records=_with_columns(report.records, rows, found, grown),
        about={**report.about, "received": [_received_record(each) for each in counts]},
    )


def with_hosts(report: Report, rows: Sequence[Row]) -> Report:
    """The report of a run over a cluster: each case's host and device, and a sentence where there are several hosts."""
    if not any(row.host for row in rows):
        return report
    places = {row.case_id: {"host": row.host or None, "device_name": row.device_name or None} for row in rows}
    told = [f"Measured {hosts}."] if (hosts := hosts_text(rows)) else []
    records = [{**record, **places[record["case_id"]]} for record in report.records]
    return replace(report, notes=[*report.notes, *told], records=records)


def _notes(rows: Sequence[Row], tables: Sequence[Table], weak: Sequence[Table]) -> list[str]:
    exchange = tables and _knows_work(rows)
    notes = ((STRONG_NOTE, tables), (EXCHANGE_NOTE, exchange), (WEAK_NOTE, weak))
    said = [note for note, shown in notes if shown]
    lengths = {row.seq_len for row in verdicts.spread(rows)}
    return [*said, SOME_NOTE] if tables and len(lengths) > MOST_LENGTHS else said


def ranks_tables(rows: Sequence[Row], found: Sequence[Strong], *, memory: bool = True) -> list[Table]:
    """Per facet some lengths and every number of ranks of each line; none of more facets than people look through."""
    scaled, lengths = {each.row.case_id: each for each in found}, _lengths(rows)
    shares = _knows_work(rows)
    facets: defaultdict[Facet, list[list[str]]] = defaultdict(list)
    for (facet, label), line in verdicts.by_facet_and_label(rows).items():
        shown = [row for row in line if row.seq_len in lengths]
        facets[facet] += [
            [label, *_cells(row, scaled.get(row.case_id), shares=shares, memory=memory)] for row in shown
        ]
    columns = [
        Column("impl"), *(Column(title, "right") for title in ("L", "ranks", "latency", "speed-up", "efficiency")),
        *([Column("exchange", "right")] if shares else []),
        *([Column("memory/rank", "right")] if memory else []), Column("received", "right"),
    ]  # fmt: skip
    tables = [
        Table(f"Scaling over ranks: {facet.text}", columns, cells, 3) for facet, cells in facets.items()
    ]
    return tables if len(tables) <= MOST_FACETS else []


def _lengths(rows: Sequence[Row]) -> list[int]:
    """Those that tables show."""
    return evenly({row.seq_len for row in verdicts.spread(rows)}, MOST_LENGTHS)


def _knows_work(rows: Sequence[Row]) -> bool:
    """Whether any row has its work apart; runs of earlier versions have none."""
    return any(row.work_ms is not None for row in rows)


def _cells(row: Row, found: Strong | None, *, shares: bool, memory: bool) -> list[str]:
    return [
        format_length(row.seq_len),
        str(row.ranks),
        latency_cell(row) if row.ok else short_status(row.status),
        NO_NUMBER if found is None else "1x" if row is found.first else times_text(found.speed_up),
        NO_NUMBER if found is None else efficiency_text(found.efficiency),
        *([share_text(verdicts.exchange_share(row))] if shares else []),
        *([format_bytes(row.peak_memory_bytes)] if memory else []),
        format_bytes(row.received_bytes),
    ]


def times_text(ratio: Ratio) -> str:
    """``3.64x``: the digits that the interval supports but two at least, for the efficiency beside it has as many."""
    return max(format_estimate(ratio), f"{significant(ratio.value, 2)}x", key=len)


def share_text(share: float | None) -> str:
    """``12 %``; ``-`` for none."""
    return NO_NUMBER if share is None else f"{100 * share:.0f} %"


def efficiency_text(efficiency: Ratio | None) -> str:
    """``92 % [90, 94]``; without brackets where the interval has no width."""
    if efficiency is None:
        return NO_NUMBER
    value, low, high = (f"{100 * each:.0f}" for each in (efficiency.value, efficiency.low, efficiency.high))
    return f"{value} %" if efficiency.low == efficiency.high else f"{value} % [{low}, {high}]"


def weak_tables(found: Sequence[Weak]) -> list[Table]:
    """Per facet what became of the time where ranks and length grow together, at the longest lengths per rank."""
    facets: defaultdict[Facet, list[Weak]] = defaultdict(list)
    for each in found:
        facets[verdicts.whatever_ranks(each.row)].append(each)
    titles = ("L/rank", "ranks", "L", "latency", "over ranks", "time", "work/rank", "efficiency")
    columns = [Column("impl"), *(Column(title, "right") for title in titles)]
    return [
        Table(f"Weak scaling: {facet.text}", columns, list(map(_weak_cells, _longest_shards(of_facet))), 3)
        for facet, of_facet in facets.items()
    ]


def _longest_shards(found: Sequence[Weak]) -> list[Weak]:
    """Of the lengths per rank those measured on most numbers of ranks; of equals the longest."""
    ranks: defaultdict[int, set[int | None]] = defaultdict(set)
    for each in found:
        ranks[each.shard].add(each.row.ranks)
    shown = sorted(ranks, key=lambda shard: (len(ranks[shard]), shard))[-MOST_SHARDS:]
    return [each for each in found if each.shard in shown]


def _weak_cells(each: Weak) -> list[str]:
    return [
        each.row.label,
        format_length(each.shard),
        str(each.row.ranks),
        format_length(each.row.seq_len),
        latency_cell(each.row),
        str(each.first.ranks),
        times_text(each.time),
        format_ratio(each.work),
        efficiency_text(each.efficiency),
    ]


def sentences(found: Sequence[Strong], counts: Sequence[Received]) -> list[str]:
    """Of the facet that most people ask about, what the most ranks gain each line at its longest length and receive."""
    facets = {verdicts.whatever_ranks(each.row) for each in found} | {
        each.facet._replace(ranks=None) for each in counts
    }
    if not facets:
        return []
    facet = leading_facet(facets)
    fastest = {each.row.label: each for each in found if verdicts.whatever_ranks(each.row) == facet}
    most = {each.label: each for each in counts if each.facet._replace(ranks=None) == facet}
    said = [
        _sentence(label, fastest.get(label), most.get(label)) for label in dict.fromkeys([*fastest, *most])
    ]
    return [f"Spread over ranks: {facet.text}:", *said]


def _sentence(label: str, gain: Strong | None, received: Received | None) -> str:
    """Of the last of each: the longest length, the most ranks."""
    clauses = [gain_clause(gain) if gain and gain.row is not gain.first else "", received_clause(received)]
    return f"{label}: {'; '.join(filter(None, clauses)) or 'measured on one number of ranks, which receives nothing'}."


def gain_clause(gain: Strong) -> str:
    """``at L = 1024k 4 ranks are 3.7x as fast as 1, efficiency 92 % [90, 94]``."""
    return (
        f"at L = {format_length(gain.row.seq_len)} {counted(gain.row.ranks or 1, 'rank')} are "
        f"{times_text(gain.speed_up)} as fast as {gain.first.ranks}, "
        f"efficiency {efficiency_text(gain.efficiency)}"
    )


def received_clause(received: Received | None) -> str:
    """``each of 4 receives 57 KiB in a call whatever the length, 512k to 4096k``; or how it grows."""
    if received is None:
        return ""
    first, last = received.rows[0], received.rows[-1]
    size = format_bytes(last.received_bytes)
    lengths = f"{format_length(first.seq_len)} to {format_length(last.seq_len)}"
    growth = (
        f"whatever the length, {lengths}"
        if received.whatever_the_length
        else f"at {format_length(last.seq_len)}"
        + (f", growing as L^{received.growth + 0.0:.2f}" if received.growth is not None else "")
    )
    formula = {True: ", as the formula says", False: ", which is not what the formula says", None: ""}
    return f"a rank of {last.ranks} receives {size} in a call {growth}{formula[received.as_formula]}"


def _firsts(found: Sequence[Strong]) -> list[str]:
    """Where one rank was not measured, so that scaling is relative to more."""
    missing: defaultdict[tuple[str, int], dict[str, None]] = defaultdict(dict)
    for each in found:
        if each.first.ranks != 1:
            missing[each.row.label, each.first.ranks or 1][format_length(each.row.seq_len)] = None
    return [
        f"{label} was not measured on 1 rank at L = {', '.join(lengths)}: its scaling there is over {ranks} ranks."
        for (label, ranks), lengths in missing.items()
    ]


def _across(found: Sequence[Strong]) -> list[str]:
    """How many efficiencies relate rows of different hosts, if any."""
    related = [each for each in found if each.row is not each.first]
    across = sum(each.row.host != each.first.host for each in related)
    return (
        [f"{across} of {len(related)} efficiencies relate rows of different hosts, whose speeds may differ."]
        if across
        else []
    )


def _off(counts: Sequence[Received]) -> list[str]:
    """Which counts are not those of the formula."""
    return [
        f"{each.label} on {each.facet.ranks} ranks at L = {format_length(row.seq_len)}: {row.received_bytes:,} bytes "
        f"received, {row.received_bytes_formula:,} by formula."
        for each in counts
        if each.as_formula is False
        for row in each.rows
        if row.received_bytes != row.received_bytes_formula
    ]


def _with_columns(
    records: Sequence[Mapping[str, Any]], rows: Sequence[Row], found: Sequence[Strong], grown: Sequence[Weak]
) -> list[Mapping[str, Any]]:
    """The records, one per case, with the scaling of each; empty where there is none."""
    by_id = {row.case_id: row for row in rows}
    strong, weak = ({each.row.case_id: each for each in some} for some in (found, grown))
    return [
        {**record, **_columns(by_id[case], strong.get(case), weak.get(case))}
        for record in records
        for case in [record["case_id"]]
    ]


def _columns(row: Row, strong: Any, weak: Any) -> dict[str, Any]:
    return {
        "received_bytes": row.received_bytes,
        "received_bytes_formula": row.received_bytes_formula,
        "work_ms": row.work_ms,
        "exchange_share": verdicts.exchange_share(row),
        "strong_first_ranks": strong and strong.first.ranks,
        **interval_record("strong_speed_up", strong and strong.speed_up),
        **interval_record("strong_efficiency", strong and strong.efficiency),
        "weak_first_ranks": weak and weak.first.ranks,
        **interval_record("weak_time", weak and weak.time),
        "weak_work_per_rank": weak and weak.work,
        **interval_record("weak_efficiency", weak and weak.efficiency),
    }


def _received_record(each: Received) -> dict[str, Any]:
    return {
        **each.facet._asdict(),
        "impl": each.label,
        "seq_len": [row.seq_len for row in each.rows],
        "received_bytes": [row.received_bytes for row in each.rows],
        "growth": each.growth,
        "independent_of_length": each.whatever_the_length,
        "as_formula": each.as_formula,
    }
